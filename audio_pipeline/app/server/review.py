"""The page of a review: go through sounds by ear and by keyboard; labels are saved as made."""

from __future__ import annotations

import heapq
import io
import json
import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.app.review import NEXT_ITEMS, ReviewItem, ReviewQueue
from audio_pipeline.app.server.api import add_routes
from audio_pipeline.app.server.app import add_page, guard, plain_app
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.schemas import ApiError
from audio_pipeline.audio.discovery import discover
from audio_pipeline.datasets.manifest import Dataset, LabelledClip, read_dataset
from audio_pipeline.exceptions import CrepitusError, InvalidInputError, RecordingError
from audio_pipeline.model.active_learning import APART_SHARE
from audio_pipeline.model.classifier import Classifier, load_classifier

AROUND_SECONDS = 0.75
"""Sound kept before and after the one to label: enough to hear what surrounds it."""
LONGEST_CLIP_SECONDS = 12.0


def create_review_app(queue: ReviewQueue) -> FastAPI:
    """Make the application of one review, for this machine alone."""
    app = plain_app("Crepitus: review")
    review = Review(queue)
    routes = (
        ("GET", "", review.overview),
        ("DELETE", "", review.undo),
        ("GET", "/{number:int}", review.hidden),
        ("POST", "/{number:int}", review.label),
        ("GET", "/{number:int}/sound", review.sound),
        ("POST", "/{number:int}/like", review.like),
    )
    add_routes(app, "/api/review", routes)
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
    """Return a stretch of a recording as a 16-bit WAV file; it is read up to `end` only.

    Raises RecordingError when it cannot be read, or ends before `start`.
    """
    import soundfile

    from audio_pipeline.app.exports import clips_of

    [clip] = clips_of(path, [(start, end)])
    if not len(clip.samples):
        raise RecordingError("it has become shorter since it was analysed")
    file = io.BytesIO()
    samples = np.nan_to_num(clip.samples).clip(-1, 1)
    soundfile.write(file, samples, clip.sample_rate, "PCM_16", format="WAV")
    return file.getvalue()


MOST_ITEMS: Final = 2000
"""Sounds in one queue; a longer one would never be worked through, and this one fits in memory."""

REVIEW_FILE: Final = "review.csv"


def most_informative(items: Iterable[ReviewItem], most: int = MOST_ITEMS) -> list[ReviewItem]:
    """Return the sounds to label first, and then those drawn at random, a fifth at most.

    ``items``: any number; read once, with memory for `most` of each label.
    Within a label the most informative first; labels take turns, so that none is forgotten. Those
    drawn come in the order of the draw.
    """
    heaps: dict[str, list[tuple[float, int, ReviewItem]]] = {}
    drawn: list[tuple[float, int, ReviewItem]] = []
    most_drawn = math.ceil(most * APART_SHARE)
    for number, item in enumerate(items):
        if item.apart:
            heap, entry, size = drawn, (-item.draw, -number, item), most_drawn
        else:
            heap, entry = heaps.setdefault(item.guess, []), (item.worth, -number, item)
            size = most
        if len(heap) < size:
            heapq.heappush(heap, entry)
        elif entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)
    columns = [
        [entry[2] for entry in sorted(heaps[label], reverse=True)] for label in sorted(heaps)
    ]
    turns = (item for turn in zip_longest(*columns) for item in turn if item is not None)
    random = [entry[2] for entry in sorted(drawn, reverse=True)]
    chosen = [item for _, item in zip(range(most - len(random)), turns, strict=False)]
    return chosen + random


def open_queue(
    source: Path,
    model: Path | None = None,
    *,
    allow_outside: bool = False,
    trusted: bool = False,
    unlabelled: bool = False,
    rater: str = "",
) -> ReviewQueue:
    """Return what there is to label in a batch's output folder, a dataset or a folder.

    ``source``: OUT folder of ``crepitus batch``, which was heard already; or a folder or CSV as
        ``crepitus train`` reads it. Labels go to ``review.csv`` in it, or beside the CSV.
    ``unlabelled``: the names of its folders are no labels: every sound found in any recording is
        asked about, and a folder in `source` is who they were recorded from.
    Raises InvalidInputError when there is nothing to label.
    """
    from audio_pipeline.app.batch.store_file import STORE_NAME

    if rater and not (rater.isidentifier() and len(rater) <= 40):
        raise InvalidInputError(f"the rater {rater[:40]!r}: write letters, digits and _ only")
    source = Path(os.path.abspath(source))
    settings: AnalysisConfig | None = None
    if (source / STORE_NAME).is_file():
        items, labels = _of_batch(source)
    elif unlabelled:
        items, labels, settings = _of_recordings(source, load_classifier(model, trusted=trusted))
    else:
        items, labels, settings = _of_dataset(
            source, load_classifier(model, trusted=trusted), allow_outside
        )
    if not items:
        raise InvalidInputError(f"{source} holds no sound to label")
    manifest = source / REVIEW_FILE
    if source.is_file():
        manifest = source.with_name(f"{source.stem}-{REVIEW_FILE}")
    return ReviewQueue(items, labels, manifest, rater, settings)


def _of_batch(out: Path) -> tuple[list[ReviewItem], tuple[str, ...]]:
    from audio_pipeline.app.batch.store import StoreReader

    def items() -> Iterator[ReviewItem]:
        for row in store.rows(status="ok"):
            path = _path(row.path)
            if path is None:
                continue
            for event in row.document["events"]:
                yield ReviewItem(
                    path, row.recording, event["start"], event["end"], event["probabilities"]
                )

    with StoreReader(out) as store:
        return most_informative(items()), store.labels


def _path(name: bytes) -> Path | None:
    """Return a path that a manifest can hold: bytes that are not UTF-8 cannot stand in one."""
    try:
        return Path(os.path.abspath(name.decode("utf-8")))
    except UnicodeDecodeError:
        return None


def _of_dataset(
    source: Path, classifier: Classifier, allow_outside: bool
) -> tuple[list[ReviewItem], tuple[str, ...], AnalysisConfig]:
    dataset = read_dataset(source, allow_outside=allow_outside)
    labels = dict.fromkeys((*classifier.labels, *dataset.labels))
    items = most_informative(_heard_again(dataset, classifier))
    return items, tuple(labels), classifier.settings


def _of_recordings(
    folder: Path, classifier: Classifier
) -> tuple[list[ReviewItem], tuple[str, ...], AnalysisConfig]:
    def items() -> Iterator[ReviewItem]:
        for path in sorted(path for one in found if (path := _path(one.name))):
            parts = path.relative_to(folder).parts
            group = parts[0] if len(parts) > 1 else ""
            for item in _heard(path, "/".join(parts), classifier):
                yield replace(item, group=group)

    found = list(discover([os.fsencode(folder)]))
    return most_informative(items()), classifier.labels, classifier.settings


def _heard_again(dataset: Dataset, classifier: Classifier) -> Iterator[ReviewItem]:
    """Yield every labelled stretch of a dataset with what the model thinks of it."""
    for name, clips in dataset.recordings.items():
        regions = [(c.start, c.end) for c in clips if c.start is not None and c.end is not None]
        path = Path(os.path.abspath(clips[0].path))
        for item in _heard(path, name, classifier, regions):
            clip = min(clips, key=partial(_apart, item))
            group = clip.group if dataset.has_groups else ""
            yield replace(item, given=clip.label, group=group)


def _heard(
    path: Path, name: str, classifier: Classifier, regions: Sequence[tuple[float, float]] = ()
) -> Iterator[ReviewItem]:
    """Yield the sounds of a recording, or given stretches of it, as the model hears them."""
    from audio_pipeline.analysis.pipeline import extract

    extraction = extract(path, classifier.settings, regions=regions or None)
    chances = classifier.predict_proba(extraction.table)
    rows = zip(extraction.segments, extraction.table, chances, strict=True)
    for segment, features, row in rows:
        probabilities = dict(zip(classifier.labels, map(float, row), strict=True))
        yield ReviewItem(path, name, segment.start, segment.end, probabilities, features=features)


def _apart(item: ReviewItem, clip: LabelledClip) -> float:
    """Return how far a clip's stretch lies from a sound."""
    return abs((clip.start or 0.0) - item.start) + abs((clip.end or 0.0) - item.end)
