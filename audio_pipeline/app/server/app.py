"""The application and its service: addresses, page, guards, and where it listens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib import resources
from pathlib import Path, PurePath
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response

from audio_pipeline.app.history import History
from audio_pipeline.app.reporting.report import environment
from audio_pipeline.app.server import connections, schemas
from audio_pipeline.app.server.api import API_VERSION, Api, LiveStreams
from audio_pipeline.app.server.guards import (
    LOOPBACK_NAMES,
    BodyLimits,
    Gate,
    GuardHeaders,
    Pairing,
    ServerSettings,
    is_loopback,
    refusal,
)
from audio_pipeline.app.server.history import add_history, add_study
from audio_pipeline.app.server.pool import AnalysisPool
from audio_pipeline.app.server.schemas import ApiError
from audio_pipeline.app.study import Study
from audio_pipeline.app.text import show
from audio_pipeline.triage.messages import (
    COUNTRIES,
    REGIONS,
    accepted_language,
    languages,
    load_catalogue,
)
from audio_pipeline.triage.rules import load_tables

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}

PREFIX = f"/api/v{API_VERSION}"

DESCRIPTION = (
    "Tells pops from grinding sounds in a recording of a twisting back, asks about symptoms and"
    " says what to do next. The same analysis as the command line. It cannot examine anyone.\n\n"
    'Every error is one line: `{"error": "what, which value, what to do", "code": "a_word"}`.'
)

_ERRORS: dict[int, str] = {
    400: "Foreign Host header.",
    403: "Another site, or a device that is not paired.",
    408: "The body came too slowly.",
    413: "The body is too large.",
    415: "The body is of another kind.",
    422: "The recording cannot be decoded, or the answers are wrong.",
    503: "Too many recordings at once; see Retry-After.",
}


def _responses(model: type | None, *codes: int) -> dict[int | str, dict[str, Any]]:
    responses: dict[int | str, dict[str, Any]] = {
        code: {"model": schemas.ErrorOutput, "description": _ERRORS[code]}
        for code in (400, 403, *codes)
    }
    if model is not None:
        responses[200] = {"model": model}
    return responses


def create_app(
    model: Path | None = None,
    *,
    settings: ServerSettings | None = None,
    region: str = "GB",
    hosts: frozenset[str] = LOOPBACK_NAMES,
    pairing: Pairing | None = None,
    history: History | None = None,
    study: Study | None = None,
) -> FastAPI:
    """Make the application.

    ``model``: model folder, None for the default one.
    ``settings``: limits; the defaults when None.
    ``region``: country whose emergency number is shown.
    ``hosts``: names the server goes by.
    ``pairing``: who may use it; None when only this machine can reach it.
    ``history``: where results that a person wants kept go; None to keep nothing.
    ``study``: the folder that the page records people into; None for the ordinary page.
    """
    settings = settings or ServerSettings()
    pool = AnalysisPool(model, settings)
    api = Api(pool, settings, region)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        pool.start()
        yield
        pool.close()

    app = plain_app("Crepitus", description=DESCRIPTION, openapi=True, lifespan=lifespan)
    app.state.pool = pool
    _add_api(app, api)
    add_history(app, PREFIX, api, history)
    app.add_api_websocket_route(f"{PREFIX}/live", LiveStreams(pool, settings).serve)
    # A service worker may only look after what lies below its own address, so it lies on top.
    offline = {f"/{name}": name for name in ("manifest.webmanifest", "service-worker.js")}
    front = {"/": "index.html"}
    if study is not None:
        add_study(app, PREFIX, api, study)
        front = {"/": "study.html", "/use": "index.html"}
    add_page(app, {**front, "/docs": "docs.html", **offline})
    _describe_requests(app)
    guard(app, settings, hosts, pairing)
    return app


def plain_app(
    title: str, *, description: str = "", openapi: bool = False, lifespan: Any = None
) -> FastAPI:
    """Return an application without addresses, whose every error is one line of JSON."""
    return FastAPI(
        title=title,
        version=str(API_VERSION),
        description=description,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json" if openapi else None,
        lifespan=lifespan,
        redirect_slashes=False,
        exception_handlers={
            ApiError: _answer_api_error,
            ClientDisconnect: _answer_nobody,
            RequestValidationError: _answer_unknown_path,
            404: _answer_unknown_path,
            405: _answer_wrong_method,
            Exception: _answer_crash,
        },
    )


def guard(
    app: FastAPI,
    settings: ServerSettings,
    hosts: frozenset[str] = LOOPBACK_NAMES,
    pairing: Pairing | None = None,
) -> None:
    """Put limits, host check, pairing and security headers around an application."""
    # The one added last is the outermost.
    app.add_middleware(Gate, hosts=hosts, pairing=pairing)
    app.add_middleware(BodyLimits, settings=settings)
    app.add_middleware(GuardHeaders)


def _add_api(app: FastAPI, api: Api) -> None:
    read, asked = (), (408, 413, 415, 422)
    heard = (*asked, 503)
    triage, upload = schemas.TRIAGE_BODY, schemas.UPLOAD_BODY
    for path, handler, output, errors, body in (
        ("/health", api.health, schemas.HealthOutput, read, None),
        ("/version", api.version, schemas.VersionOutput, read, None),
        ("/questions", api.questions, schemas.QuestionnaireOutput, (422,), None),
        ("/interview", api.interview, schemas.InterviewOutput, asked, schemas.INTERVIEW_BODY),
        ("/triage", api.triage, schemas.RecommendationOutput, asked, triage),
        ("/advice", api.advice, schemas.AdviceOutput, asked, triage),
        ("/fhir", api.fhir, None, asked, triage),
        ("/analyses", api.analyses, schemas.AnalysisOutput, heard, upload),
        ("/reports", api.reports, None, heard, upload),
    ):
        app.add_api_route(
            PREFIX + path,
            handler,
            methods=["POST" if body else "GET"],
            responses=_responses(output, *errors),
            response_class=Response,
            openapi_extra={"requestBody": body} if body else None,
        )


def add_page(app: FastAPI, pages: Mapping[str, str]) -> None:
    """Serve pages at their addresses, and the files they use below ``/static``.

    ``pages``: address to the name of an asset.
    """
    assets = load_assets()

    def answer(name: str) -> Response:
        if name not in assets or name.endswith(".html"):  # a template, with an address of its own
            raise _unknown_path()
        return Response(assets[name], media_type=MEDIA_TYPES[PurePath(name).suffix])

    for path, name in pages.items():
        handler = _answer_page if name.endswith(".html") else answer
        app.add_api_route(path, partial(handler, name), include_in_schema=False)
    app.add_api_route("/static/{name}", answer, include_in_schema=False)


def load_assets() -> dict[str, bytes]:
    """Read the page's files from the package; nothing else on disk can be asked for.

    Name without folder to content; files of other kinds are left out.
    """
    folder = resources.files("audio_pipeline.app.server") / "static"
    files = [entry for entry in folder.iterdir() if PurePath(entry.name).suffix in MEDIA_TYPES]
    return {entry.name: entry.read_bytes() for entry in files}


async def _answer_page(name: str, request: Request) -> Response:
    """Answer with a page in the language that the person chose, or else reads first."""
    wanted = (request.query_params.get("language", ""), request.headers.get("accept-language", ""))
    return HTMLResponse(written_page(name, accepted_language(",".join(wanted))))


@cache
def written_page(name: str, language: str) -> str:
    """Return a page in a language; all its words are inside, so that it also works alone."""
    template = load_assets()[name].decode("utf-8")
    named = {one: load_catalogue(language=one).messages["language"]["name"] for one in languages()}
    [go, *_] = load_tables().watch  # what to call for, also while the server cannot be reached
    regions, watch = {}, []
    for region in REGIONS:
        words = load_catalogue(region, language)
        regions[region] = {
            "name": words.messages["regions"][region]["name"],
            "number": words.fill("{emergency_number}"),
            "go": words.text("safety_net", go.opening),
            "countries": COUNTRIES.get(region, ()),
        }
        watch = [words.text("safety_net", item) for item in go.items]
    return (
        environment()
        .from_string(template)
        .render(
            language=language,
            languages=named,
            words={**words.messages["web"], "regions": regions, "watch": watch},
        )
    )


def _describe_requests(app: FastAPI) -> None:
    """Add the schemas of bodies that the handlers read themselves, under their own limits."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document: dict[str, Any] = generate()
        document["components"]["schemas"] |= schemas.request_schemas()
        return document

    app.openapi = openapi


async def _answer_nobody(_: Request, __: Exception) -> Response:
    """Say nothing: whoever asked has hung up, which is no failure of ours."""
    return Response()


def _unknown_path() -> ApiError:
    return ApiError(404, "not_found", "There is nothing at this address.")


async def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return refusal(error, request.scope)


async def _answer_unknown_path(request: Request, error: Exception) -> Response:
    return refusal(_unknown_path(), request.scope)


async def _answer_wrong_method(request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "GET")
    wrong = ApiError(405, "wrong_method", f"Use {allow} at this address.", {"Allow": allow})
    return refusal(wrong, request.scope)


async def _answer_crash(request: Request, error: Exception) -> Response:
    show(f"crepitus: a request failed: {type(error).__name__}: {error}", err=True)
    return refusal(ApiError(500, "internal", "Something went wrong. Try again."), request.scope)


LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  only with --phone or by the person's own choice


@dataclass
class Service:
    """A server that is set up but does not listen yet."""

    host: str = LOOPBACK  # where it listens; port 0 takes a free one
    port: int = 8000
    https: bool = False  # whether to speak TLS
    # where the certificate is kept; None to make one for this run
    certificate_file: Path | None = None
    region: str = "GB"  # country whose emergency number is shown
    model: Path | None = None  # model folder, None for the default one
    settings: ServerSettings = field(default_factory=ServerSettings)  # limits
    # where results that a person wants kept go; None to keep nothing
    history: History | None = None
    study: Study | None = None  # the folder that the page records people into
    # called with the address of the page for the next device when one has been paired
    on_paired: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        own = connections.local_addresses()
        names = [*LOOPBACK_NAMES, *own, *connections.host_names()]
        if self.host not in EVERYWHERE:
            names.append(self.host.lower())
        # Whoever reaches the server from another machine must have seen this one's screen.
        self.pairing = None if is_loopback(self.host) else Pairing(own, self._paired)
        self.certificate: connections.Certificate | None = None
        if self.https and self.certificate_file is not None:
            self.certificate = connections.kept_certificate(names, self.certificate_file)
        elif self.https:
            self.certificate = connections.make_certificate(names)
        self.app = create_app(
            self.model,
            settings=self.settings,
            region=self.region,
            hosts=frozenset(names),
            pairing=self.pairing,
            history=self.history,
            study=self.study,
        )
        self.listener = connections.listen(self.host, self.port)
        self.port = self.listener.getsockname()[1]
        self._shown_host = self.host
        if self.host in EVERYWHERE:
            self._shown_host = connections.lasting_name() or (own or [LOOPBACK])[0]

    @property
    def address(self) -> str:
        """The page's address for a person, with the pairing secret where one is needed."""
        host = f"[{self._shown_host}]" if ":" in self._shown_host else self._shown_host
        scheme = "https" if self.https else "http"
        secret = f"{self.pairing.secret}/" if self.pairing else ""
        return f"{scheme}://{host}:{self.port}/{secret}"

    def _paired(self, _: str) -> None:
        if self.on_paired is not None:
            self.on_paired(self.address)

    def run(self) -> None:
        """Serve until Ctrl-C."""
        connections.run_server(self.server(), self.listener)

    def server(self) -> uvicorn.Server:
        """Return the server, to be run with ``sockets=[service.listener]``."""
        knows = self.pairing.knows if self.pairing else is_loopback
        return connections.make_server(
            self.app, self.settings, self.listener, self.certificate, knows
        )
