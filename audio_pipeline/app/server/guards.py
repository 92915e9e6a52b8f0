"""Who may ask, and how much: limits, Host, origin, pairing, headers of every answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import os
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse, Response

from audio_pipeline.app.server.schemas import ApiError, refuse_body
from audio_pipeline.triage.messages import accepted_language, load_catalogue


@dataclass(frozen=True)
class ServerSettings:
    """Limits of the server. Every size, time and number that comes from outside has one."""

    # largest body of a request with a recording: ten minutes of 24-bit stereo at 48 kHz are 173 MB,
    # a minute of phone video about 100 MB; the page itself sends 5.8 MB a minute
    upload_bytes: int = 100_000_000
    # largest body of any other request, and of the answers beside a recording
    body_bytes: int = 64_000
    # most memory that all recordings in flight may take together; it is given back to the system
    # when the last of them is done
    upload_memory_bytes: int = 250_000_000
    upload_seconds: float = 120.0  # longest time a body may take to arrive
    # a body that brings fewer than `window_bytes` in `window_seconds` is refused: slower than any
    # phone, and the only honest defence against a byte a second
    window_seconds: float = 6.0
    window_bytes: int = 5_000
    # longest time from a connection's start, or from an answer on it, to the end of the next
    # request's line and headers; and the time in which part of an answer must be taken
    idle_seconds: float = 15.0
    # most connections at once; one more takes the place of the one that is idle longest
    connections: int = 200
    # longest recording or live stream, in seconds of sound; a longer one belongs to ``crepitus
    # analyze`` or ``listen``
    recording_seconds: float = 900.0
    analysis_seconds: float = 60.0  # longest time one analysis may take before its worker is ended
    # analyses at once, each in its own process: one a core, at most two, for a page serves a
    # household, not a hospital
    workers: int = field(default_factory=lambda: min(2, os.cpu_count() or 1))
    queue: int = 8  # analyses that may wait; one more is answered 503 with ``Retry-After``
    streams: int = 4  # live streams at once; one process hears them all
    message_bytes: int = 65_536  # largest message of a live stream
    # memory a worker may take on top of what it has when it is ready
    worker_memory_bytes: int = 1_500_000_000
    trust_model: bool = False  # load a model whose estimator is no forest, tree or linear model


Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

RECORDING_PATHS = (
    "/api/v1/analyses",
    "/api/v1/reports",
    "/api/v1/history",
    "/api/v1/study/takes",
)

# Pages of one file hold the page's style sheet inside; no other style may.
_STYLE = (resources.files("audio_pipeline.app.server") / "static" / "page.css").read_bytes()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE).digest()).decode()

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        f"style-src 'self' 'sha256-{_STYLE_HASH}'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

SECURITY_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?"
)


def host_name(value: str) -> str | None:
    """Return the name in a ``Host`` header without its port, or None when it is malformed."""
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    return (match["v6"] or match["name"]).lower()


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own and reached from nowhere else."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class Pairing:
    """A one-time secret: the first device that uses it owns it, any other is refused.

    ``own_addresses``: this machine's addresses; a person who sits at it may look at its screen
        anyway, so they use any secret without owning it.
    ``on_paired``: called with the new secret when one has found its device, to show the next code.
    """

    def __init__(
        self,
        own_addresses: Iterable[str] = (),
        on_paired: Callable[[str], None] | None = None,
    ) -> None:
        self.secret = secrets.token_urlsafe(16)
        self._own = frozenset(own_addresses)
        self._on_paired = on_paired
        self._owners: dict[str, str] = {}

    def admits(self, secret: str, address: str) -> bool:
        """Tell whether a device at `address` may use `secret`; an unused one becomes its own."""
        given = secret.encode()
        for known, owner in self._owners.items():
            if hmac.compare_digest(known.encode(), given):
                return address == owner or self._is_own(address)
        if not hmac.compare_digest(self.secret.encode(), given):
            return False
        if not self._is_own(address):
            self._owners[self.secret] = address
            self.secret = secrets.token_urlsafe(16)
            if self._on_paired is not None:
                self._on_paired(self.secret)
        return True

    def knows(self, address: str) -> bool:
        """Tell whether a device at `address` is paired, or is this machine itself."""
        return address in self._owners.values() or self._is_own(address)

    def _is_own(self, address: str) -> bool:
        return is_loopback(address) or address in self._own


def keep_place(scope: Scope) -> None:
    """Let the connection of a request outlast those of strangers when places run out."""
    connection = scope.get("state", {}).get("connection")
    if connection is not None:
        connection.paired = True


class GuardHeaders:
    """ASGI middleware: puts the security headers on every answer."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_guarded)


class Gate:
    """ASGI middleware: only the right host, the right origin and a paired device pass.

    ``hosts``: names this server goes by; any other ``Host`` is a rebinding attack or a mistake
        (400).
    ``pairing``: None when nothing but this machine can reach the server.
    """

    def __init__(self, app: Application, hosts: frozenset[str], pairing: Pairing | None) -> None:
        self._app = app
        self._hosts = hosts
        self._pairing = pairing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            self._check_host(scope)
            self._check_origin(scope)
            answer = self._app if self._pairing is None else self._pair(self._pairing, scope)
        except ApiError as error:
            answer = refusal(error, scope)
        await answer(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        values = Headers(scope=scope).getlist("host")
        name = host_name(values[0]) if len(values) == 1 else None
        if name not in self._hosts:
            raise ApiError(400, "foreign_host", "This server does not go by that name.")

    def _check_origin(self, scope: Scope) -> None:
        """Refuse what another site makes a browser send (there is no cookie to steal either)."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is not None:
            own = headers.get("host")
            if origin not in (f"http://{own}", f"https://{own}"):
                raise ApiError(403, "foreign_origin", "Another site may not use this server.")
            return
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        # A link from elsewhere may open the page itself, nothing more.
        opens_page = headers.get("sec-fetch-mode") == "navigate" and scope.get("method") == "GET"
        if elsewhere and not opens_page:
            raise ApiError(403, "foreign_origin", "Another site may not use this server.")

    def _pair(self, pairing: Pairing, scope: Scope) -> Application:
        """Return what answers this request: the app for a paired device, else a refusal.

        The secret is the first part of the path (so that the page's own links carry it, with no
        cookie) or, for programs, a bearer token.
        """
        address = scope["client"][0] if scope.get("client") else ""
        token = Headers(scope=scope).get("authorization", "")
        if token.startswith("Bearer ") and pairing.admits(token.removeprefix("Bearer "), address):
            keep_place(scope)
            return self._app
        first, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not pairing.admits(first, address):
            raise ApiError(
                403, "not_paired", "Scan the code that the computer shows to use this page."
            )
        keep_place(scope)
        if not slash:
            redirect: Application = RedirectResponse(f"/{first}/", status_code=307)
            return redirect
        scope["path"] = "/" + rest
        scope["raw_path"] = scope["path"].encode()
        return self._app


LINGER_SECONDS = 1.0
LINGER_BYTES = 8_000_000
"""How much of the rest of a refused body is read and thrown away, so that its sender reads why."""


def refusal(error: ApiError, scope: Scope) -> Response:
    """Return an error as a page of plain words where a browser opens an address, else as JSON."""
    opens = scope["type"] == "http" and scope["method"] == "GET"
    headers = Headers(scope=scope)
    if not opens or "text/html" not in headers.get("accept", ""):
        return error.response()
    from audio_pipeline.app.reporting.report import render_page

    language = accepted_language(headers.get("accept-language", ""))
    words = load_catalogue(language=language).messages["web"]["errors"]
    page = render_page(
        "error.html",
        words.get(error.code, words["other"])["title"],
        language=language,
        steps=words.get(error.code, words["other"])["steps"],
        detail="" if error.code in words else error.message,
        # Relative, so that a pairing secret in the address stays there.
        home="../" * (scope["path"].count("/") - 1) or "./",
        home_words="" if error.code == "not_paired" else words["home"],
    )
    return HTMLResponse(page, error.status, error.headers)


def megabytes(size: int) -> str:
    """Return a size in words for an error message."""
    return f"{size / 1e6:g} MB" if size >= 1_000_000 else f"{size / 1e3:g} kB"


class MeteredBody:
    """A request body that counts itself as it arrives.

    ``receive``: the server's own way to get the next piece.
    ``limit``: most bytes in all.
    """

    def __init__(self, receive: Receive, limit: int, settings: ServerSettings) -> None:
        self._receive = receive
        self._limit = limit
        self._settings = settings
        self._bytes = 0
        self._window_bytes = 0
        self._waited = 0.0
        self._window_start = 0.0
        self._complete = False

    async def __call__(self) -> Message:
        """Return the next message.

        Raises ApiError 413 when the body is too large, 408 when it comes too slowly or takes too
        long.
        """
        if self._complete:
            return await self._receive()
        message = await self._next_in_time()
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self._bytes += size
        self._window_bytes += size
        if self._bytes > self._limit:
            raise too_large(self._limit)
        self._complete = not message.get("more_body", False)
        if not self._complete:
            self._check_speed()
        return message

    async def drain(self) -> None:
        """Throw the rest of the body away for a moment.

        A connection that is closed while its sender still writes is reset, and the answer is lost
        with it.
        """
        drained = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._complete and drained < LINGER_BYTES:
                    message = await self._receive()
                    drained += len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)

    async def _next_in_time(self) -> Message:
        # Only the time spent waiting for the sender counts, not the time we take to read.
        started = time.monotonic()
        window_end = self._window_start + self._settings.window_seconds
        patience = min(window_end, self._settings.upload_seconds) - self._waited
        try:
            return await asyncio.wait_for(self._receive(), max(patience, 0.01))
        except TimeoutError:
            raise too_slow() from None
        finally:
            self._waited += time.monotonic() - started

    def _check_speed(self) -> None:
        if self._waited > self._settings.upload_seconds:
            raise too_slow()
        if self._window_bytes >= self._settings.window_bytes:
            self._window_start = self._waited
            self._window_bytes = 0


def too_large(limit: int) -> ApiError:
    """Return the refusal of a body of more than `limit` bytes."""
    return refuse_body(
        413,
        "too_large",
        f"The request is larger than {megabytes(limit)}. Send a shorter recording.",
    )


def too_slow() -> ApiError:
    """Return the refusal of a body that trickles."""
    return refuse_body(
        408, "too_slow", "The upload came too slowly. Move closer to the router and try again."
    )


class BodyLimits:
    """ASGI middleware: no request body passes unmetered."""

    def __init__(self, app: Application, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a declared length that is too large at once, and meter the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = self._settings
        # Room for the multipart headers and the answers beside the recording.
        limit = (
            settings.upload_bytes + settings.body_bytes
            if scope["path"].endswith(RECORDING_PATHS)
            else settings.body_bytes
        )
        body = MeteredBody(receive, limit, settings)

        async def send_and_drain(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        try:
            self._check_declared(scope, limit)
            app = self._app
        except ApiError as error:
            app = refusal(error, scope)
        await app(scope, body, send_and_drain)

    def _check_declared(self, scope: Scope, limit: int) -> None:
        headers = Headers(scope=scope)
        declared = headers.get("content-length")
        if "transfer-encoding" in headers and (
            declared is not None or scope["http_version"] == "1.0"
        ):
            # RFC 9112, 6.1: two readers may disagree on where such a request ends.
            raise refuse_body(400, "ambiguous_length", "Send a length or chunks, not both.")
        if declared is not None and (not declared.isdigit() or float(declared) > limit):
            raise too_large(limit)
