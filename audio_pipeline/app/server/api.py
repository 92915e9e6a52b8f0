"""What each address of the API does: read, check, hand on, answer; and live streams."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import secrets
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import cache
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from audio_pipeline._version import __version__
from audio_pipeline.analysis.guided import Phase, ProtocolConfig, planned_phases
from audio_pipeline.app.reporting.recommendation import shown_advice
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.pool import AnalysisPool
from audio_pipeline.app.server.schemas import (
    ApiError,
    InterviewInput,
    Strict,
    TriageInput,
    busy,
    refuse_body,
)
from audio_pipeline.app.server.uploads import MemoryBudget, Upload, read_upload
from audio_pipeline.exceptions import InvalidInputError, first_problem
from audio_pipeline.triage.answers import parse_answers
from audio_pipeline.triage.interview import TICKED, Interview, Screen
from audio_pipeline.triage.messages import (
    CALL_ADVICE,
    DEFAULT_LANGUAGE,
    REGIONS,
    Catalogue,
    languages,
    load_catalogue,
)
from audio_pipeline.triage.questionnaire import form_document, response_resource
from audio_pipeline.triage.recommendation import Sound, explain, recommend
from audio_pipeline.triage.rules import LEVELS, SKIP, UNSURE, Question, load_tables

API_VERSION = 1


class Api:
    """The handlers, with what they share.

    ``region``: country whose emergency number is shown where a request names none.
    """

    def __init__(self, pool: AnalysisPool, settings: ServerSettings, region: str) -> None:
        self._pool = pool
        self._settings = settings
        self._region = region
        self._budget = MemoryBudget(settings.upload_memory_bytes)

    async def health(self) -> Response:
        """Tell that the server is alive; answers at once whatever else is going on."""
        return JSONResponse(
            {"status": "ok", "ready": self._pool.ready, "pending": self._pool.pending}
        )

    async def version(self) -> Response:
        """Name the software, the model that listens and the rules."""
        description = await self._pool.description() if self._pool.ready else None
        return JSONResponse(
            {
                "software": f"crepitus {__version__}",
                "api": API_VERSION,
                "model": description
                and {"name": description["name"], "sha256": description["sha256"]},
                "rules_version": load_tables().version,
            }
        )

    async def questions(self, request: Request) -> Response:
        """Return the questionnaire: ids, words, options, and the words of each level."""
        asked = request.query_params
        region = known_region(asked.get("region", self._region))
        language = known_language(asked.get("language", DEFAULT_LANGUAGE))
        return JSONResponse(questionnaire_document(region, language))

    async def interview(self, request: Request) -> Response:
        """Return what the interview asks next, and the way it has taken."""
        given = await json_input(request, InterviewInput)
        region = known_region(given.region or self._region)
        try:
            document = interview_document(
                given.answers, given.details, region, known_language(given.language)
            )
        except InvalidInputError as error:
            raise ApiError(422, "bad_answers", str(error)) from None
        return JSONResponse(document)

    async def triage(self, request: Request) -> Response:
        """Recommend from answers, and from what a recording held if there was one."""
        return JSONResponse(
            recommendation(await json_input(request, TriageInput), self._region).to_dict()
        )

    async def advice(self, request: Request) -> Response:
        """Return the recommendation in words, in the order in which a page shows them."""
        result = recommendation(await json_input(request, TriageInput), self._region)
        so_far = Interview(result.answers, result.sound)
        return JSONResponse(
            {
                **asdict(shown_advice(result)),
                "level_so_far": so_far.level,
                "may_twist": so_far.may_twist,
            }
        )

    async def fhir(self, request: Request) -> Response:
        """Return the answers as a FHIR R4 QuestionnaireResponse."""
        given = await json_input(request, TriageInput)
        answers, language = checked_answers(given.answers), known_language(given.language)
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        resource = response_resource(answers, authored=now, region=self._region, language=language)
        return JSONResponse(resource, media_type="application/fhir+json")

    async def analyses(self, request: Request) -> Response:
        """Analyse one recording; with answers, recommend."""
        return await self._run("analysis", request)

    async def reports(self, request: Request) -> Response:
        """Analyse one recording and return the result as one self-contained HTML page."""
        return await self._run("report", request)

    async def _run(self, kind: str, request: Request) -> Response:
        async with self.analysed(kind, request) as (_, reply):
            return reply

    @asynccontextmanager
    async def analysed(self, kind: str, request: Request) -> AsyncIterator[tuple[Upload, Response]]:
        """Read an upload and do its job; the upload's memory is given back at the end."""
        self._pool.admit()
        upload, reserved = await read_upload(
            request.stream(), request.headers.get("content-type"), self._settings, self._budget
        )
        try:
            assert upload.audio is not None
            yield upload, await self._pool.run(self._job(kind, upload), upload.audio)
        finally:
            self._budget.give_back(reserved)

    def _job(self, kind: str, upload: Upload) -> dict[str, Any]:
        answers = None
        if "answers" in upload.fields:
            answers = json_object(upload.fields["answers"], "answers")
            checked_answers(answers)
        capture = json_object(upload.fields.get("capture", "{}"), "capture")
        return {
            "kind": kind,
            "name": upload.name,
            "answers": answers,
            "capture": capture,
            "region": known_region(upload.fields.get("region", self._region)),
            "language": known_language(upload.fields.get("language", DEFAULT_LANGUAGE)),
            "embed": upload.fields.get("embed") == "yes",
            "recording_seconds": self._settings.recording_seconds,
        }


def json_object(text: str | bytes, what: str) -> dict[str, Any]:
    """Read a JSON object that comes from outside.

    Raises ApiError 422 when it is no JSON object, has a key twice or a number JSON does not know.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ApiError(422, "repeated_key", f"The {what} give {twice!r:.60} twice.")
        return mapping

    def refuse_constant(name: str) -> Any:
        raise ValueError(name)

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        raise ApiError(422, "not_json", f"The {what} are not valid JSON.") from None
    if not isinstance(value, dict):
        raise ApiError(422, "not_an_object", f"The {what} must be a JSON object.")
    return value


def checked_answers(answers: Mapping[str, Any]) -> Any:
    """Return parsed answers or the 422 that names what is wrong with them."""
    try:
        return parse_answers(answers)
    except InvalidInputError as error:
        raise ApiError(422, "bad_answers", str(error)) from None


def add_routes(
    app: FastAPI, prefix: str, routes: Iterable[tuple[str, str, Callable[..., Any]]]
) -> None:
    """Add what answers a method at a path below `prefix`, for pages of ours: not described."""
    for method, path, handler in routes:
        app.add_api_route(
            prefix + path,
            handler,
            methods=[method],
            response_class=Response,
            include_in_schema=False,
        )


def known_region(region: str) -> str:
    """Return a region there are emergency words for, or raise a 422 that lists them."""
    if region not in REGIONS:
        allowed = ", ".join(REGIONS)
        raise ApiError(422, "unknown_region", f"Unknown region {region!r:.20}: use {allowed}.")
    return region


def known_language(language: str) -> str:
    """Return a language that may be chosen, or raise a 422 that lists them."""
    if language not in (allowed := languages()):
        wrong = f"Unknown language {language!r:.20}: use {', '.join(allowed)}."
        raise ApiError(422, "unknown_language", wrong)
    return language


async def json_body(request: Request) -> dict[str, Any]:
    """Read the JSON object that is the body of a request.

    Raises ApiError 415 when its header says that it is none, else as :func:`json_object` does.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise refuse_body(415, "not_json", "Send application/json.")
    return json_object(await request.body(), "request")


S = TypeVar("S", bound=Strict)


async def json_input(request: Request, shape: type[S]) -> S:
    """Read the JSON body of a request.

    Raises ApiError 415 when it is no JSON, 422 when it is not of the documented shape.
    """
    body = await json_body(request)
    try:
        return shape.model_validate(body)
    except ValidationError as error:
        place, problem = first_problem(error)
        message = f"The request is wrong at {place!r:.80}: {problem}."
        raise ApiError(422, "bad_request_shape", message) from None


def recommendation(given: TriageInput, region: str) -> Any:
    """Recommend from a checked request."""
    return recommend(
        checked_answers(given.answers),
        Sound(**given.sound.model_dump()) if given.sound else None,
        region=known_region(given.region or region),
        language=known_language(given.language),
    )


RATES = (8_000, 192_000)
"""Lowest and highest sample rate in Hz."""

DONE, UNSUPPORTED, REFUSED, TOO_BIG, FAILED = 1000, 1003, 1008, 1009, 1011
"""Close codes of RFC 6455, 7.4.1."""


class LiveStreams:
    """The live streams of one server."""

    def __init__(self, pool: AnalysisPool, settings: ServerSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Hear one stream.

        The page sends binary messages of little-endian float32 samples, mono, and the text
        ``end``. It gets JSON texts: ``{"type": "event", ...}``, the lines of ``crepitus listen
        --json``; and ``{"type": "hint", "code", "text"}`` when there is something to mend, or no
        longer (``good``). After the last event the stream is closed with code 1000.
        """
        try:
            rate = sample_rate(socket.query_params.get("sample_rate"))
            if self._open >= self._settings.streams:
                raise busy(10)
        except ApiError as error:
            await socket.send_denial_response(error.response())
            return
        self._open += 1
        name = secrets.token_hex(8)
        try:
            await socket.accept()
            code, reason = await self._hear(socket, name, rate)
            await socket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            pass  # the page has gone
        finally:
            self._open -= 1
            with contextlib.suppress(ApiError, RuntimeError):  # the server may be going down
                await self._step(name, "drop")

    async def _hear(self, socket: WebSocket, name: str, rate: int) -> tuple[int, str]:
        """Hear a stream to its end; return the code and the reason to close it with."""
        settings = self._settings
        left = round(settings.recording_seconds * rate)
        loop = asyncio.get_running_loop()
        latest = loop.time() + settings.recording_seconds + settings.upload_seconds
        try:
            await self._step(name, "open", sample_rate=rate)
            while True:
                try:
                    async with asyncio.timeout_at(min(latest, loop.time() + settings.idle_seconds)):
                        message = await socket.receive()
                except TimeoutError:
                    return REFUSED, "Nothing came for too long."
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", DONE))
                samples = message.get("bytes")
                if samples is None:
                    if message.get("text") != "end":
                        return UNSUPPORTED, "Send samples, or the text: end"
                    await self._tell(socket, await self._step(name, "finish"))
                    return DONE, ""
                if len(samples) % 4:
                    return UNSUPPORTED, "Send samples of four bytes."
                left -= len(samples) // 4
                if left < 0:
                    return TOO_BIG, "The recording is too long."
                if samples:
                    await self._tell(socket, await self._step(name, "push", samples))
        except ApiError as error:
            return FAILED, error.message[:100]

    async def _step(
        self, name: str, step: str, samples: bytes = b"", **more: Any
    ) -> list[dict[str, Any]]:
        return await self._pool.hear({"stream": name, "step": step, **more}, samples)

    async def _tell(self, socket: WebSocket, messages: list[dict[str, Any]]) -> None:
        async with asyncio.timeout(self._settings.idle_seconds):
            for message in messages:
                await socket.send_json(message)


def sample_rate(value: str | None) -> int:
    """Return the sample rate that a page asks for.

    Raises ApiError 422 when it is no whole number of Hz between the `RATES`.
    """
    lowest, highest = RATES
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 6:
        raise ApiError(422, "bad_sample_rate", "Say sample_rate=N, in Hz.")
    if not lowest <= int(value) <= highest:
        raise ApiError(
            422, "bad_sample_rate", f"sample_rate is {value}: use {lowest} to {highest}."
        )
    return int(value)


SECTION_TITLES = {
    "emergency": "Safety questions",
    "now": "How your back is now",
    "health": "Your health",
    "course": "How it started and how it goes",
    "crack": "The cracking",
}
"""Sections in the order of their questions."""


@cache
def questionnaire_document(region: str, language: str = DEFAULT_LANGUAGE) -> dict[str, Any]:
    """Return the questionnaire for a region.

    ``region``: one of ``audio_pipeline.triage.messages.REGIONS``.
    ``questions`` and ``groups`` as :func:`~audio_pipeline.triage.questionnaire.form_document`
    describes them, with ``value`` for the id of an option; each question also has its
    ``emergency_options`` (option to reason), which are an emergency whatever the other answers are,
    and its ``clear_options``, which rule its worry out. Then what the page needs before it can ask
    the server: ``sections``, ``emergency``, ``level_titles``, ``limits``, ``explanation`` (why a
    back cracks) and ``protocol``. Which screen comes next is :func:`interview_document`'s.
    """
    tables, words = load_tables(), load_catalogue(region, language)
    form = form_document(words)
    return {
        "rules_version": tables.version,
        "region": region,
        "sections": [{"id": key, "title": title} for key, title in SECTION_TITLES.items()],
        "questions": [
            _question(entry, tables.questions[entry["id"]], words) for entry in form["questions"]
        ],
        "groups": form["groups"],
        "none": words.text("interview", "none"),
        "emergency": {
            "title": words.level("emergency", "title"),
            "number": words.messages["regions"][region]["emergency_number"],
            "advice": words.text("advice", CALL_ADVICE),
        },
        "level_titles": {level: words.level(level, "title") for level in LEVELS},
        "limits": words.text("safety_net", tables.limits),
        "explanation": [item.to_dict() for item in explain({"unknown"}, words)],
        "protocol": _protocol(ProtocolConfig(), words),
    }


def interview_document(
    answers: Mapping[str, Any],
    details: Collection[str],
    region: str,
    language: str = DEFAULT_LANGUAGE,
) -> dict[str, Any]:
    """Return where the interview stands after some answers, and what it asks next.

    It is walked anew each time by the same :class:`Interview` that asks in a terminal, so the page
    can go back, change an answer and reload without a state on the server.

    ``answers``: question to answer, None where the person left it out. What is not asked any more,
        since other answers have settled it, is left aside.
    ``details``: ticked items whose detail the person left out.
    ``region``: one of ``audio_pipeline.triage.messages.REGIONS``.
    ``trail`` (screens answered or left out, in order), ``screen`` (the next one, None at the end),
    ``answers`` (as the rest of the API takes them), ``remaining`` (screens still to come, as far as
    can be known), ``first_part_done`` (nothing that must come before an invitation to twist is
    open), ``level_so_far``, ``may_twist``.
    Raises InvalidInputError: a value is not an answer to its question.
    """
    form = questionnaire_document(region, language)
    interview = Interview()
    trail: list[dict[str, Any]] = []
    screen = interview.next_screen()
    while screen is not None:
        given = _known(screen, answers, details)
        if given is None:
            break
        interview.give(screen, given)
        trail.append(_screen(screen, form))
        screen = interview.next_screen()
    return {
        "trail": trail,
        "screen": screen and _screen(screen, form),
        "remaining": interview.remaining(),
        "answers": dict(interview.answers.values),
        "first_part_done": interview.next_screen(emergency_only=True) is None,
        "level_so_far": interview.level,
        "may_twist": interview.may_twist,
    }


def _known(
    screen: Screen, answers: Mapping[str, Any], details: Collection[str]
) -> dict[str, Any] | None:
    """Return what is known of a screen's questions, None when one was not asked yet."""
    ids = [question.id for question in screen.questions]
    if not all(name in answers for name in ids):
        return None
    if screen.ticked:
        return {question.id: _mark(question, answers[question.id]) for question in screen.questions}
    if not screen.detail or answers[ids[0]] in screen.offered:
        return {ids[0]: answers[ids[0]]}
    return {ids[0]: None} if ids[0] in details else None


def _mark(question: Question, value: Any) -> Any:
    """Return what a line of a list was given, when its question has this answer."""
    if value in (None, UNSURE):
        return value
    return "no" if value in ("no", question.lowest) else TICKED


def _screen(screen: Screen, form: dict[str, Any]) -> dict[str, Any]:
    """Return one screen with its words, from the entries of the questionnaire."""
    known = {entry["id"]: entry for entry in form["questions"]}
    entries = [known[question.id] for question in screen.questions]
    first = entries[0]
    title, lead, why = first["text"], first["lead"], first["why"]
    if screen.ticked:
        group = form["groups"][first["group"]]
        title, lead, why = group["text"], "", group["why"]
        entries = [
            {**entry, "text": entry["tick"], "lowest": question.lowest}
            for entry, question in zip(entries, screen.questions, strict=True)
        ]
    elif screen.detail:
        title, lead = first["detail"]["text"], ""
        entries = [{**first, "options": first["detail"]["options"]}]
    return {
        "title": title,
        "lead": lead,
        "why": why,
        "ticked": screen.ticked,
        "detail": screen.detail,
        "none": form["none"],
        "questions": entries,
    }


def _question(entry: dict[str, Any], question: Question, words: Catalogue) -> dict[str, Any]:
    if question.numeric:
        return entry
    document = {**entry, "options": _valued(entry["options"])}
    if entry.get("detail"):
        detail = entry["detail"]
        document["detail"] = {**detail, "options": _valued(detail["options"])}
    return document | {
        "emergency_options": _emergency_options(question, words),
        "clear_options": _clear_options(question),
    }


def _valued(options: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"value": option["id"], "text": option["text"]} for option in options]


def _emergency_options(question: Question, words: Catalogue) -> dict[str, str]:
    """Return the options that are an emergency whatever is said elsewhere, each with its reason."""
    found = {}
    for value in question.answers:
        answers = parse_answers({question.id: value})
        if Interview(answers).emergency:
            result = recommend(answers, region=words.region, language=words.language)
            found[value] = result.reasons[0].text
    return found


def _clear_options(question: Question) -> list[str]:
    """Return the options that rank below no answer: they rule the question's worry out."""
    if SKIP not in question.options:
        return list(question.answers)
    below = question.options[: question.options.index(SKIP)]
    return [value for value in question.answers if value in below]


def _protocol(settings: ProtocolConfig, words: Catalogue) -> list[dict[str, Any]]:
    return [
        {
            "kind": phase.kind,
            "turn": phase.turn,
            "seconds": phase.end - phase.start,
            "cues": _cues(phase, settings, words.messages["web"]["record"]),
        }
        for phase in planned_phases(settings)
    ]


def _cues(phase: Phase, settings: ProtocolConfig, words: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return what to tell in a phase: when, s after its start, with which sign and words."""

    def cue(after: float, kind: str, key: str) -> dict[str, Any]:
        values = {"turn": phase.turn, "turns": settings.turns}
        told, spoken = words[key].format_map(values), words[f"{key}_spoken"].format_map(values)
        return {"after": after, "kind": kind, "words": told, "spoken": spoken}

    if phase.kind != "turn":
        return [cue(0.0, phase.kind, "still")]
    return [cue(0.0, "turn", "turn_to"), cue(settings.turn_seconds / 2, "back", "turn_back")]
