"""The review page: go through sounds by ear and by keyboard; labels are saved as they are made."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from audio_pipeline.app.server.app import add_page, guard, plain_app
from audio_pipeline.app.server.errors import ApiError
from audio_pipeline.app.server.review_queue import ReviewItem, ReviewQueue
from audio_pipeline.app.server.settings import ServerSettings
from audio_pipeline.audio.recording import open_recording
from audio_pipeline.exceptions import CrepitusError, RecordingError

AROUND_SECONDS = 0.75
"""Sound kept before and after the one to label: enough to hear what surrounds it."""
LONGEST_CLIP_SECONDS = 12.0
NEXT_ITEMS = 20


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
        ("GET", "/api/review/{number:int}/sound", review.sound),
        ("POST", "/api/review/{number:int}", review.label),
        ("DELETE", "/api/review/{number:int}", review.undo),
    ):
        app.add_api_route(path, handler, methods=[method], response_class=Response)
    add_page(app, {"/": "review.html"})
    guard(app, ServerSettings())
    return app


class Review:
    """The handlers of one review."""

    def __init__(self, queue: ReviewQueue) -> None:
        self._queue = queue

    async def overview(self) -> Response:
        """Return labels, progress and the next sounds."""
        queue = self._queue
        waiting = list(queue.open_items())
        return JSONResponse(
            {
                "labels": list(queue.labels),
                "total": len(queue.items),
                "open": len(waiting),
                "counts": dict(queue.counts()),
                "saved_in": queue.manifest.name,
                "items": [self._describe(number) for number in waiting[:NEXT_ITEMS]],
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
            label = json.loads(await request.body())["label"]
            self._queue.give(number, label)
        except (ValueError, KeyError, TypeError):
            allowed = ", ".join(self._queue.labels)
            raise ApiError(422, "bad_label", f"Send a label: {allowed} or unsure.") from None
        except CrepitusError as error:
            raise ApiError(500, "not_saved", str(error)) from None
        return await self.overview()

    async def undo(self, number: int) -> Response:
        """Take a label back."""
        self._item(number)
        try:
            self._queue.take_back(number)
        except CrepitusError as error:
            raise ApiError(500, "not_saved", str(error)) from None
        return await self.overview()

    def _item(self, number: int) -> ReviewItem:
        if not 0 <= number < len(self._queue.items):
            raise ApiError(404, "not_found", "There is no such sound.")
        return self._queue.items[number]

    def _describe(self, number: int) -> dict[str, Any]:
        item = self._queue.items[number]
        clip_start, _ = _window(item)
        return {
            "number": number,
            "name": item.name,
            "start": item.start,
            "end": item.end,
            "clip_start": clip_start,
            "probabilities": dict(item.probabilities),
            "given": item.given,
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
