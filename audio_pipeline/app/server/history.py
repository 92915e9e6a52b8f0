"""The addresses of what is kept: the history of one machine, and the folder of a study."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from audio_pipeline.app.comparison import compare, counted
from audio_pipeline.app.history import Entry, History, counts_by_week, history_page
from audio_pipeline.app.server.api import (
    Api,
    add_routes,
    checked_answers,
    json_body,
    json_input,
    json_object,
)
from audio_pipeline.app.server.schemas import (
    ApiError,
    StudyAnswersInput,
    StudyConsentInput,
    StudyTakeInput,
)
from audio_pipeline.app.study import Study
from audio_pipeline.app.text import show
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.triage.interview import Interview

Result = TypeVar("Result")


class HistoryApi:
    """The handlers.

    ``api``: analyses what is to be kept.
    ``history``: None when the person who serves did not ask for one; then nothing is kept or shown.
    """

    def __init__(self, api: Api, history: History | None) -> None:
        self._api = api
        self._history = history

    async def overview(self, request: Request) -> Response:
        """Return whether results can be kept, what was kept, and the counts by week."""
        if self._history is None:
            return JSONResponse({"enabled": False, "entries": [], "weeks": []})
        entries = await self._entries(request)
        return JSONResponse(
            {
                "enabled": True,
                "entries": [entry.to_dict() for entry in entries],
                "weeks": counts_by_week(entries),
            }
        )

    async def keep(self, request: Request) -> Response:
        """Analyse a recording and keep the result; with ``keep_take=yes`` the recording too."""
        history = self._on()
        async with self._api.analysed("analysis", request) as (upload, reply):
            document = json.loads(reply.body)
            answers = json.loads(upload.fields["answers"]) if "answers" in upload.fields else None
            with_take = upload.fields.get("keep_take") == "yes"
            take = (upload.name, b"".join(upload.audio or ())) if with_take else None
            [recording] = document["recordings"]
            model = document["model"]["sha256"]
            entry = await _run(history.add, recording, model, answers=answers, take=take)
        return JSONResponse(entry.to_dict(), 201)

    async def entry(self, number: int) -> Response:
        """Return one entry with the whole result."""
        entry = await self._entry(number)
        return JSONResponse({**entry.to_dict(), "recording": dict(entry.recording)})

    async def take(self, number: int) -> Response:
        """Return the recording that was kept with an entry."""
        content = await _run(self._on().take, (await self._entry(number)).id)
        if content is None:
            raise ApiError(404, "not_found", "No recording was kept with this result.")
        return Response(content, media_type="application/octet-stream")

    async def delete(self, number: int) -> Response:
        """Delete one entry."""
        await _run(self._on().delete, (await self._entry(number)).id)
        return Response(status_code=204)

    async def delete_all(self) -> Response:
        """Delete everything that was kept."""
        return JSONResponse({"deleted": await _run(self._on().delete_all)})

    async def export(self, request: Request) -> Response:
        """Return everything as one encrypted file; the body is ``{"passphrase", "takes"}``."""
        history = self._on()
        body = await json_body(request)
        passphrase, takes = body.get("passphrase"), body.get("takes", True)
        if not isinstance(passphrase, str) or not isinstance(takes, bool):
            raise ApiError(422, "bad_passphrase", "Send a passphrase.")
        try:
            content = await _run(history.exported, passphrase, takes=takes)
        except UnicodeEncodeError:
            raise ApiError(
                422, "bad_passphrase", "Send a passphrase of whole characters."
            ) from None
        return Response(content, media_type="application/octet-stream")

    async def page(self, request: Request) -> Response:
        """Return the page for a doctor, from the day ``from`` to the day ``to``."""
        self._on()
        entries = await self._entries(request)
        page = await run_in_threadpool(history_page, entries, *_days(request))
        return Response(page, media_type="text/html; charset=utf-8")

    async def compare(self, request: Request) -> Response:
        """Compare the entries ``first`` and ``second``, two takes of one session."""
        takes = []
        for name in ("first", "second"):
            given = request.query_params.get(name, "")
            if not (given.isascii() and given.isdigit() and len(given) < 10):
                raise ApiError(422, "bad_entry", f"Say {name}=N, the number of an entry.")
            entry = await self._entry(int(given))
            takes.append(counted(given, dict(entry.recording), entry.model, entry.made))
        result = await _run(compare, *takes)
        return JSONResponse(result.to_dict())

    def _on(self) -> History:
        if self._history is None:
            raise ApiError(
                409, "history_off", "Nothing is kept here. To change that: crepitus serve --history"
            )
        return self._history

    async def _entry(self, number: int) -> Entry:
        history = self._on()
        try:
            entry: Entry = await run_in_threadpool(history.entry, number)
        except InvalidInputError:
            raise ApiError(404, "not_found", "There is no such result.") from None
        return entry

    async def _entries(self, request: Request) -> list[Entry]:
        return await _run(self._on().entries, *_days(request))


async def _run(work: Callable[..., Result], *args: Any, **options: Any) -> Result:
    """Do what waits for the disk, off the event loop."""
    try:
        result: Result = await run_in_threadpool(work, *args, **options)
    except InvalidInputError as error:
        raise ApiError(422, "refused", f"{error}.") from None
    except CrepitusError as error:
        show(f"crepitus: {error}", err=True)
        raise ApiError(500, "not_kept", "It cannot be kept; see the computer's screen.") from None
    return result


def _days(request: Request) -> tuple[datetime.date | None, datetime.date | None]:
    days = []
    for name in ("from", "to"):
        given = request.query_params.get(name)
        try:
            days.append(datetime.date.fromisoformat(given) if given else None)
        except ValueError:
            raise ApiError(422, "bad_date", f"Say {name}=YYYY-MM-DD.") from None
    return days[0], days[1]


def add_history(app: FastAPI, prefix: str, api: Api, history: History | None) -> None:
    """Add the addresses below ``/history``."""
    handlers = HistoryApi(api, history)
    routes = (
        ("GET", "", handlers.overview),
        ("POST", "", handlers.keep),
        ("DELETE", "", handlers.delete_all),
        ("POST", "/export", handlers.export),
        ("GET", "/page", handlers.page),
        ("GET", "/compare", handlers.compare),
        ("GET", "/{number:int}", handlers.entry),
        ("DELETE", "/{number:int}", handlers.delete),
        ("GET", "/{number:int}/take", handlers.take),
    )
    add_routes(app, f"{prefix}/history", routes)


class StudyApi:
    """The handlers of a study's page: people are codes, and every address needs one."""

    def __init__(self, api: Api, study: Study) -> None:
        self._api = api
        self._study = study

    async def overview(self) -> Response:
        """Return what the page needs: consent text, protocol, questions and outcome fields."""
        settings = self._study.settings
        text = await _run(self._study.consent_text)
        return JSONResponse({**settings.model_dump(mode="json"), "consent_text": text})

    async def add(self) -> Response:
        """Draw a code for a new person."""
        code = await _run(self._study.add_participant)
        return JSONResponse(await _run(self._person, code), 201)

    async def person(self, code: str) -> Response:
        """Return a person's consent, and which take comes next."""
        return JSONResponse(await _run(self._person, code))

    async def consent(self, code: str, request: Request) -> Response:
        """Keep what a person said to the consent text that they were shown."""
        given = await json_input(request, StudyConsentInput)
        if given.version != self._study.settings.consent_version:
            raise ApiError(409, "old_consent", "The consent text has changed. Read it again.")
        said = given.model_dump(exclude={"version"})
        await _run(self._study.give_consent, code, **said)
        return JSONResponse(await _run(self._person, code), 201)

    async def answers(self, code: str, request: Request) -> Response:
        """Keep the answers of the session that a take would belong to now."""
        given = await json_input(request, StudyAnswersInput)
        interview = Interview(checked_answers(given.safety))
        session = (await _run(self._person, code))["session"]
        await _run(self._study.keep_answers, code, session, given.answers)
        return JSONResponse(
            {"session": session, "level": interview.level, "may_twist": interview.may_twist}, 201
        )

    async def take(self, request: Request) -> Response:
        """Keep one take, when the person has said yes to research and it can be read."""
        async with self._api.analysed("analysis", request) as (upload, reply):
            given = json_object(upload.fields.get("take", "{}"), "take")
            try:
                about = StudyTakeInput.model_validate(given)
            except ValueError:
                raise ApiError(
                    422, "bad_take", "Send participant, device, distance_cm and posture as take."
                ) from None
            [recording] = json.loads(reply.body)["recordings"]
            sound = b"".join(upload.audio or ())
            take = await _run(
                self._study.keep_take, sound=sound, uploaded_as=upload.name, **about.model_dump()
            )
        quality = recording["quality"]
        return JSONResponse(
            {
                **take.note.model_dump(include={"session", "take", "duration"}),
                "usable": quality["usable"],
                "warnings": [one["text"] for one in quality["warnings"]],
            },
            201,
        )

    def _person(self, code: str) -> dict[str, Any]:
        study = self._study
        if code not in study.participants():
            raise ApiError(404, "not_found", "The study has no such code.")
        consent = study.consents().get(code)
        session, take = study.next_take(code, datetime.datetime.now().astimezone())
        known = consent is not None and consent.version == study.settings.consent_version
        return {
            "participant": code,
            "session": session,
            "take": take,
            "consent": vars(consent) if known else None,
        }


def add_study(app: FastAPI, prefix: str, api: Api, study: Study) -> None:
    """Add the addresses below ``/study``."""
    handlers = StudyApi(api, study)
    routes = (
        ("GET", "", handlers.overview),
        ("POST", "/people", handlers.add),
        ("GET", "/people/{code}", handlers.person),
        ("POST", "/people/{code}/consent", handlers.consent),
        ("POST", "/people/{code}/answers", handlers.answers),
        ("POST", "/takes", handlers.take),
    )
    add_routes(app, f"{prefix}/study", routes)
