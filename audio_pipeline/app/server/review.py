"""The review page: go through sounds by ear and by keyboard; labels are saved as they are made."""

from __future__ import annotations

import csv
import heapq
import io
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from audio_pipeline.app.outputs import written
from audio_pipeline.app.server.app import add_page, guard, plain_app
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.schemas import ApiError
from audio_pipeline.audio.recording import open_recording
from audio_pipeline.exceptions import CrepitusError, InvalidInputError, RecordingError
from audio_pipeline.files import csv_cell, csv_text

if TYPE_CHECKING:
    from audio_pipeline.datasets.manifest import Dataset, LabelledClip
    from audio_pipeline.model.classifier import Classifier

UNSURE = "unsure"
MOST_ITEMS = 2000
"""Sounds in one queue; a longer one would never be worked through, and this one fits in memory."""

COLUMNS = ("file", "label", "group", "start", "end")


@dataclass(frozen=True)
class ReviewItem:
    """A sound to label."""

    path: Path  # the recording
    name: str  # the recording as a person knows it
    start: float  # seconds
    end: float
    probabilities: Mapping[str, float]  # what the model thinks
    given: str | None = None  # the label it has already, None when it has none
    group: str = ""  # who or what it was recorded from, "" when not known

    @property
    def guess(self) -> str:
        """The likeliest label."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def worth(self) -> float:
        """What a person's ear would add, in [0, 1].

        For a sound with a label, how little the model believes it; for one without, how close its
        two likeliest labels are.
        """
        if self.given is not None:
            return 1 - self.probabilities.get(self.given, 0.0)
        best, *rest = sorted(self.probabilities.values(), reverse=True)
        return 1 - (best - (rest[0] if rest else 0.0))

    @property
    def key(self) -> tuple[str, float, float]:
        """What makes it the same sound in another run."""
        return (str(self.path), round(self.start, 4), round(self.end, 4))


def most_informative(items: Iterable[ReviewItem], most: int = MOST_ITEMS) -> list[ReviewItem]:
    """Return the sounds to label first, in turn from every likeliest label.

    ``items``: any number; read once, with memory for `most` of each label.
    ``most``: how many to return.
    Within a label the most informative first; labels take turns, so that none is forgotten.
    """
    heaps: dict[str, list[tuple[float, int, ReviewItem]]] = {}
    for number, item in enumerate(items):
        heap = heaps.setdefault(item.guess, [])
        entry = (item.worth, -number, item)
        if len(heap) < most:
            heapq.heappush(heap, entry)
        elif entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)
    columns = [
        [entry[2] for entry in sorted(heaps[label], reverse=True)] for label in sorted(heaps)
    ]
    turns = (item for turn in zip_longest(*columns) for item in turn if item is not None)
    return [item for _, item in zip(range(most), turns, strict=False)]


class ReviewQueue:
    """A queue of sounds and the labels made so far, saved after each one.

    ``items``: in the order in which they are asked.
    ``labels``: what a sound may be called.
    ``manifest``: CSV file that ``crepitus train`` reads; labels in it from an earlier review are
        kept.
    Raises InvalidInputError when `manifest` is there but is none of ours.
    """

    def __init__(self, items: list[ReviewItem], labels: tuple[str, ...], manifest: Path) -> None:
        self.items = items
        self.labels = labels
        self.manifest = manifest
        self.unsure_file = manifest.with_name(f"{manifest.stem}-unsure.csv")
        self._kept: dict[tuple[str, float, float], dict[str, str]] = {}
        for file in (self.unsure_file, self.manifest):
            self._kept |= self._read(file)

    def label_of(self, number: int) -> str | None:
        """Return the label made for a sound, None when there is none yet."""
        row = self._kept.get(self.items[number].key)
        return None if row is None else row["label"]

    def open_items(self) -> Iterator[int]:
        """Yield the numbers of the sounds that have no label from a review yet."""
        return (n for n, item in enumerate(self.items) if item.key not in self._kept)

    def counts(self) -> Counter[str]:
        """Return how many of the queue's sounds got each label."""
        made = (self.label_of(number) for number in range(len(self.items)))
        return Counter(label for label in made if label is not None)

    def give(self, number: int, label: str) -> None:
        """Label a sound and save.

        Raises ValueError when the label is none of `labels` and not `UNSURE`; CrepitusError when
        the file cannot be written; the label is then not made.
        """
        if label not in (*self.labels, UNSURE):
            raise ValueError(label)
        item = self.items[number]
        before = dict(self._kept)
        self._kept.pop(item.key, None)
        self._kept[item.key] = {
            "file": os.path.relpath(item.path, self.manifest.parent).replace(os.sep, "/"),
            "label": label,
            "group": item.group,
            "start": f"{item.start:.4f}",
            "end": f"{item.end:.4f}",
        }
        self._save_or_restore(before)

    def take_back(self, number: int) -> None:
        """Remove the label of a sound and save; raises as `give` does."""
        before = dict(self._kept)
        self._kept.pop(self.items[number].key, None)
        self._save_or_restore(before)

    def _save_or_restore(self, before: dict[tuple[str, float, float], dict[str, str]]) -> None:
        try:
            self._write(self.manifest, unsure=False)
            self._write(self.unsure_file, unsure=True)
        except BaseException:
            self._kept = before
            raise

    def _write(self, file: Path, *, unsure: bool) -> None:
        rows = [row for row in self._kept.values() if (row["label"] == UNSURE) == unsure]
        if not rows:
            file.unlink(missing_ok=True)
            return
        with written(file) as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows({key: csv_cell(text) for key, text in row.items()} for row in rows)

    def _read(self, file: Path) -> dict[tuple[str, float, float], dict[str, str]]:
        if not file.is_file():
            return {}
        kept = {}
        with file.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise InvalidInputError(f"{file} was not made by a review; move it away")
            for cells in reader:
                row = {key: csv_text(text or "") for key, text in cells.items()}
                path = os.path.normpath(file.parent / row["file"])
                kept[(path, float(row["start"]), float(row["end"]))] = row
        return kept


AROUND_SECONDS = 0.75
"""Sound kept before and after the one to label: enough to hear what surrounds it."""
LONGEST_CLIP_SECONDS = 12.0
NEXT_ITEMS = 20


def create_review_app(queue: ReviewQueue) -> FastAPI:
    """Make the application of one review, for this machine alone.

    ``queue``: what to label, and where labels go.
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

    ``path``: the recording; it is read up to `end` only.
    Raises RecordingError when it cannot be read, or ends before `start`.
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


REVIEW_FILE = "review.csv"


def open_queue(
    source: Path,
    model: Path | None = None,
    *,
    allow_outside: bool = False,
    trusted: bool = False,
) -> ReviewQueue:
    """Return what there is to label in a batch's output folder or in a dataset.

    ``source``: OUT folder of ``crepitus batch``; or a folder or CSV as ``crepitus train`` reads it.
    ``model, trusted``: model folder for a dataset, None for the default one, and whether any
        estimator in it is loaded. A batch was heard already.
    ``allow_outside``: whether a dataset may name recordings outside its own folder.
    Labels go to ``review.csv`` in that folder, or beside that CSV.
    Raises InvalidInputError when there is nothing to label.
    """
    from audio_pipeline.app.batch.store_file import STORE_NAME

    source = Path(os.path.abspath(source))
    if (source / STORE_NAME).is_file():
        items, labels = _of_batch(source)
        manifest = source / REVIEW_FILE
    else:
        items, labels = _of_dataset(source, model, allow_outside, trusted)
        is_file = source.is_file()
        manifest = (
            source.with_name(f"{source.stem}-{REVIEW_FILE}") if is_file else source / REVIEW_FILE
        )
    if not items:
        raise InvalidInputError(f"{source} holds no sound to label")
    return ReviewQueue(items, labels, manifest)


def _of_batch(out: Path) -> tuple[list[ReviewItem], tuple[str, ...]]:
    from audio_pipeline.app.batch.store import StoreReader

    def items() -> Iterator[ReviewItem]:
        for row in store.rows(status="ok"):
            path = _path(row.path)
            for event in row.document["events"] if path else ():
                assert path is not None
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
    source: Path, model: Path | None, allow_outside: bool, trusted: bool
) -> tuple[list[ReviewItem], tuple[str, ...]]:
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.model.classifier import load_classifier

    dataset = read_dataset(source, allow_outside=allow_outside)
    classifier = load_classifier(model, trusted=trusted)
    labels = dict.fromkeys((*classifier.labels, *dataset.labels))
    return most_informative(_heard_again(dataset, classifier)), tuple(labels)


def _heard_again(dataset: Dataset, classifier: Classifier) -> Iterator[ReviewItem]:
    """Yield every labelled stretch of a dataset with what the model thinks of it."""
    from audio_pipeline.analysis.pipeline import extract

    for name, clips in dataset.recordings.items():
        regions = [(c.start, c.end) for c in clips if c.start is not None and c.end is not None]
        extraction = extract(clips[0].path, classifier.settings, regions=regions or None)
        chances = classifier.predict_proba(extraction.table)
        for segment, row in zip(extraction.segments, chances, strict=True):
            clip = _labelled(clips, segment.start, segment.end)
            yield ReviewItem(
                Path(os.path.abspath(clip.path)),
                name,
                segment.start,
                segment.end,
                dict(zip(classifier.labels, map(float, row), strict=True)),
                clip.label,
                clip.group if dataset.has_groups else "",
            )


def _labelled(clips: tuple[LabelledClip, ...], start: float, end: float) -> LabelledClip:
    """Return the clip whose stretch lies closest to a segment's."""
    return min(
        clips,
        key=lambda clip: abs((clip.start or 0.0) - start) + abs((clip.end or 0.0) - end),
    )
