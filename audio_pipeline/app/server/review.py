"""The page of a review: go through sounds by ear and by keyboard; labels are saved as made."""

from __future__ import annotations

import io
import json
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from audio_pipeline.app.review import NEXT_ITEMS, ReviewItem, ReviewQueue
from audio_pipeline.app.server.app import add_page, guard, plain_app
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.schemas import ApiError
from audio_pipeline.audio.recording import open_recording
from audio_pipeline.exceptions import CrepitusError, RecordingError

AROUND_SECONDS = 0.75
"""Sound kept before and after the one to label: enough to hear what surrounds it."""
LONGEST_CLIP_SECONDS = 12.0


def create_review_app(queue: ReviewQueue) -> FastAPI:
    """Make the application of one review, for this machine alone.

    Parameters
    ----------
    queue
        What to label, and where labels go.

    Returns
    -------
    FastAPI
        An ASGI application.
    """
    app = plain_app("Crepitus: review")
    review = Review(queue)
    for method, path, handler in (
        ("GET", "/api/review", review.overview),
        ("DELETE", "/api/review", review.undo),
        ("GET", "/api/review/{number:int}", review.hidden),
        ("POST", "/api/review/{number:int}", review.label),
        ("GET", "/api/review/{number:int}/sound", review.sound),
        ("POST", "/api/review/{number:int}/like", review.like),
    ):
        app.add_api_route(path, handler, methods=[method], response_class=Response)
    add_page(app, {"/": "review.html"})
    guard(app, ServerSettings())
    return app


class Review:
    """The handlers of one review.

    The model is fitted again in a thread that ends with the process: what it finds is an order and
    an estimate, and both can be had again from the labels.
    """

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue
        self._learning: threading.Thread | None = None
        self._learn()

    @property
    def learning(self) -> bool:
        """Whether the model is being fitted."""
        return self._learning is not None and self._learning.is_alive()

    def _learn(self) -> None:
        if self._queue.wants_refit() and not self.learning:
            self._learning = threading.Thread(target=self._queue.refit, daemon=True)
            self._learning.start()

    async def overview(self) -> Response:
        """Return labels, progress, what the model has learnt and the next sounds."""
        return self._overview()

    def _overview(self, **more: Any) -> Response:
        queue = self._queue
        waiting = list(queue.open_items())
        return JSONResponse(
            {
                "labels": list(queue.labels),
                "total": len(queue.queue),
                "open": len(waiting),
                "counts": dict(queue.counts()),
                "saved_in": queue.manifest.name,
                "rater": queue.rater,
                "learning": self.learning,
                "history": queue.history,
                "made": queue.made(),
                "items": [self._describe(number) for number in waiting[:NEXT_ITEMS]],
                **more,
            }
        )

    async def hidden(self, number: int) -> Response:
        """Return a sound with what is not shown until asked for."""
        item = self._item(number)
        return JSONResponse(
            {
                **self._describe(number),
                "name": item.name,
                "given": item.given,
                "probabilities": dict(item.probabilities),
                "votes": self._queue.votes(number),
            }
        )

    async def sound(self, number: int) -> Response:
        """Return the sound with what surrounds it, as a WAV file."""
        item = self._item(number)
        try:
            body = await run_in_threadpool(cut, item.path, *_window(item))
        except RecordingError as error:
            raise ApiError(422, "undecodable_audio", f"It cannot be read: {error}") from None
        return Response(body, media_type="audio/wav")

    async def label(self, number: int, request: Request) -> Response:
        """Label a sound; it is saved before this answers."""
        self._item(number)
        try:
            sent = json.loads(await request.body())
            label, note = sent["label"], sent.get("note")
            if not (note is None or isinstance(note, str)):
                raise ValueError(note)
            await run_in_threadpool(self._queue.give, number, label, note)
        except (ValueError, KeyError, TypeError, AttributeError):
            allowed = ", ".join(self._queue.labels)
            raise ApiError(422, "bad_label", f"Send a label: {allowed} or unsure.") from None
        except CrepitusError as error:
            raise ApiError(500, "not_saved", str(error)) from None
        self._learn()
        return self._overview()

    async def undo(self) -> Response:
        """Take the last label back."""
        try:
            number = await run_in_threadpool(self._queue.undo)
        except CrepitusError as error:
            raise ApiError(500, "not_saved", str(error)) from None
        return self._overview(undone=None if number is None else self._describe(number))

    async def like(self, number: int) -> Response:
        """Ask next what sounds most like this one."""
        self._item(number)
        found = await run_in_threadpool(self._queue.ask_for_more_like, number)
        return self._overview(alike=found)

    def _item(self, number: int) -> ReviewItem:
        if not 0 <= number < len(self._queue.items):
            raise ApiError(404, "not_found", "There is no such sound.")
        return self._queue.items[number]

    def _describe(self, number: int) -> dict[str, Any]:
        item = self._queue.items[number]
        clip_start, _ = _window(item)
        return {
            "number": number,
            "start": item.start,
            "end": item.end,
            "clip_start": clip_start,
            "label": self._queue.label_of(number),
            "note": self._queue.note_of(number),
        }


def _window(item: ReviewItem) -> tuple[float, float]:
    start = max(0.0, item.start - AROUND_SECONDS)
    return start, min(item.end + AROUND_SECONDS, start + LONGEST_CLIP_SECONDS)


def cut(path: Path, start: float, end: float) -> bytes:
    """Return a stretch of a recording as a 16-bit WAV file.

    Parameters
    ----------
    path
        The recording; it is read up to `end` only.
    start, end
        Seconds.

    Raises
    ------
    RecordingError
        When it cannot be read, or ends before `start`.
    """
    import soundfile

    pieces = []
    with open_recording(path) as reader:
        rate = reader.sample_rate
        first, last = round(start * rate), math.ceil(end * rate)
        position = 0
        for block in reader.blocks():
            pieces.append(block[max(0, first - position) : max(0, last - position)])
            position += len(block)
            if position >= last:
                break
    samples = np.concatenate(pieces)
    if len(samples) == 0:
        raise RecordingError("it has become shorter since it was analysed")
    file = io.BytesIO()
    soundfile.write(file, np.nan_to_num(samples).clip(-1, 1), rate, "PCM_16", format="WAV")
    return file.getvalue()
