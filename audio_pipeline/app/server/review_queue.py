"""Sounds to label by ear: which first, and the labels as they are made."""

from __future__ import annotations

import csv
import heapq
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from audio_pipeline.app.outputs import written
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.files import csv_cell, csv_text

UNSURE = "unsure"
MOST_ITEMS = 2000
"""Sounds in one queue; a longer one would never be worked through, and this one fits in memory."""

COLUMNS = ("file", "label", "group", "start", "end")


@dataclass(frozen=True)
class ReviewItem:
    """A sound to label.

    Attributes
    ----------
    path
        The recording.
    name
        The recording as a person knows it.
    start, end
        Seconds.
    probabilities
        What the model thinks.
    given
        The label it has already, None when it has none.
    group
        Who or what it was recorded from, "" when not known.
    """

    path: Path
    name: str
    start: float
    end: float
    probabilities: Mapping[str, float]
    given: str | None = None
    group: str = ""

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

    Parameters
    ----------
    items
        Any number; read once, with memory for `most` of each label.
    most
        How many to return.

    Returns
    -------
    list of ReviewItem
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

    Parameters
    ----------
    items
        In the order in which they are asked.
    labels
        What a sound may be called.
    manifest
        CSV file that ``crepitus train`` reads; labels in it from an earlier review are kept.

    Raises
    ------
    InvalidInputError
        When `manifest` is there but is none of ours.
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

        Raises
        ------
        ValueError
            When the label is none of `labels` and not `UNSURE`.
        CrepitusError
            When the file cannot be written; the label is then not made.
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
