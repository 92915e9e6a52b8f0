"""A review: sounds to label by ear, what is asked next, and the tables of what people called them.

What ``crepitus train`` reads is an export of the file of all acts, made anew after each of them.
"""

from __future__ import annotations

import heapq
import math
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.app.review_store import (
    DECIDED,
    UNSURE,
    Act,
    Key,
    ReviewStore,
    said_by,
    settled,
    sha256_of,
    table_of,
    write_or_remove,
)
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model import active_learning
from audio_pipeline.model.active_learning import APART_SHARE, REFIT_EVERY, Refit

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig
    from audio_pipeline.datasets.manifest import Dataset, LabelledClip
    from audio_pipeline.model.classifier import Classifier

MOST_ITEMS: Final = 2000
"""Sounds in one queue; a longer one would never be worked through, and this one fits in memory."""

COLUMNS: Final = ("file", "label", "group", "start", "end", "drawn", "raters", "note")
LONGEST_NOTE: Final = 1000
NEXT_ITEMS: Final = 20
REVIEW_FILE: Final = "review.csv"


@dataclass(frozen=True, eq=False)
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
    features
        Its row of the feature table; None where it was not kept.
    """

    path: Path
    name: str
    start: float
    end: float
    probabilities: Mapping[str, float]
    given: str | None = None
    group: str = ""
    features: NDArray[np.float32] | None = None

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
    def key(self) -> Key:
        """What makes it the same sound in another run."""
        return (str(self.path), round(self.start, 4), round(self.end, 4))

    @property
    def draw(self) -> float:
        """Where it comes in a random order that is the same in every run, in [0, 1)."""
        return active_learning.draw_of(f"{self.name}\n{self.start:.4f}\n{self.end:.4f}")

    @property
    def apart(self) -> bool:
        """Whether it is one of the fifth that is drawn at random and never learnt from."""
        return self.draw < APART_SHARE


def most_informative(items: Iterable[ReviewItem], most: int = MOST_ITEMS) -> list[ReviewItem]:
    """Return the sounds to label first, and those drawn at random.

    Parameters
    ----------
    items
        Any number; read once, with memory for `most` of each label.
    most
        How many to return; a fifth at most are those drawn at random.

    Returns
    -------
    list of ReviewItem
        Within a label the most informative first; labels take turns, so that none is forgotten.
        Then those drawn, in the order of the draw.
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


class ReviewQueue:
    """A queue of sounds and the labels made so far, saved after each one.

    Parameters
    ----------
    items
        Of :func:`most_informative`: the first asked first.
    labels
        What a sound may be called.
    manifest
        CSV file that ``crepitus train`` reads. Beside it lie the file of all acts (``.db``), what
        nobody was sure of (``-unsure.csv``) and what raters differ about (``-disagreements.csv``).
    rater
        Who labels. When others have labelled before, exactly their sounds are asked, in an order
        drawn at random; :data:`DECIDED` is asked what they differ about.
    settings
        How to listen where features were not kept.

    Raises
    ------
    InvalidInputError
        When one of these files is there but is none of ours.
    """

    def __init__(
        self,
        items: list[ReviewItem],
        labels: tuple[str, ...],
        manifest: Path,
        rater: str = "",
        settings: AnalysisConfig | None = None,
    ) -> None:
        self.items = items
        self.labels = labels
        self.manifest = manifest
        self.rater = rater
        self.settings = settings
        self.unsure_file = manifest.with_name(f"{manifest.stem}-unsure.csv")
        self.differing_file = manifest.with_name(f"{manifest.stem}-disagreements.csv")
        self.store = ReviewStore(manifest.with_suffix(".db"))
        self.history: list[dict[str, Any]] = []
        self._number = {item.key: number for number, item in enumerate(items)}
        self._apart = np.array([item.apart for item in items], bool)
        drawn: list[int] = np.flatnonzero(self._apart).tolist()
        self._drawn = sorted(drawn, key=lambda number: items[number].draw)
        self._front: list[int] = []
        self._order = np.flatnonzero(~self._apart).tolist()
        self._lock = threading.Lock()
        acts = self.store.acts()
        self._check_exports(acts)
        said = said_by(acts)
        self._said = said.get(rater, {})
        others = [own for name, own in said.items() if name not in {rater, DECIDED}]
        self._learns = True
        if rater == DECIDED:
            self._ask_only(settled(said)[1])
        elif others:
            self._ask_only(dict.fromkeys(key for own in others for key in own))

    def _ask_only(self, keys: Iterable[Key]) -> None:
        asked = [self._number[key] for key in keys if key in self._number]
        self._order = sorted(asked, key=lambda number: self.items[number].draw)
        self._drawn, self._learns = [], False

    @property
    def queue(self) -> list[int]:
        """The numbers of all sounds that are asked, labelled or not."""
        return [*self._order, *self._drawn]

    def label_of(self, number: int) -> str | None:
        """Return the label made for a sound, None when there is none yet."""
        act = self._said.get(self.items[number].key)
        return None if act is None else act.label

    def note_of(self, number: int) -> str:
        """Return the note made about a sound, "" when there is none."""
        act = self._said.get(self.items[number].key)
        return "" if act is None else act.note

    def made(self) -> list[int]:
        """Return the numbers of the sounds labelled, in the order in which they were."""
        return [self._number[key] for key in self._said if key in self._number]

    def open_items(self) -> Iterator[int]:
        """Yield the numbers of the sounds without a label, in the order in which they are asked.

        Every fifth is one of those drawn at random, as long as there are any.
        """
        waiting = dict.fromkeys(n for n in self._front if self.label_of(n) is None)
        waiting |= dict.fromkeys(n for n in self._order if self.label_of(n) is None)
        chosen = iter(waiting)
        drawn = iter([n for n in self._drawn if self.label_of(n) is None])
        made = self.made() if self._learns else []
        asked, asked_apart = len(made), int(self._apart[made].sum())
        while True:
            due = math.floor((asked + 1) * APART_SHARE + 1e-9) > asked_apart
            first, second = (drawn, chosen) if due else (chosen, drawn)
            number = next(first, None)
            if number is None:
                number = next(second, None)
            if number is None:
                return
            asked += 1
            asked_apart += int(self._apart[number])
            yield number

    def counts(self) -> Counter[str]:
        """Return how many of the queue's sounds got each label."""
        return Counter(act.label for key, act in self._said.items() if key in self._number)

    def votes(self, number: int) -> dict[str, str]:
        """Return what others called a sound, by rater."""
        key = self.items[number].key
        said = said_by(self.store.acts())
        return {
            rater or "first": own[key].label
            for rater, own in said.items()
            if key in own and rater != self.rater
        }

    def give(self, number: int, label: str, note: str | None = None) -> None:
        """Label a sound and save.

        Parameters
        ----------
        number, label
            A label again keeps what came before for :meth:`undo`.
        note
            None: as it was.

        Raises
        ------
        ValueError
            When the label is none of `labels` and not `UNSURE`, or the note is too long.
        CrepitusError
            When the file cannot be written; the label is then not made.
        """
        text = self.note_of(number) if note is None else note
        if label not in (*self.labels, UNSURE) or len(text) > LONGEST_NOTE:
            raise ValueError(label)
        with self._saving() as base:
            self.store.add(base, self.rater, self.items[number].key, label, text)
        if number in self._front:
            self._front.remove(number)

    def undo(self) -> int | None:
        """Take the last act back and save; raises as `give` does.

        Returns
        -------
        int or None
            The sound, which has the label again that it had before, and without one is asked
            next; None when there is nothing to take back.
        """
        mine = [act for act in self.store.acts() if act.rater == self.rater]
        mine = [act for act in mine if act.key in self._number]
        if not mine:
            return None
        with self._saving() as base:
            base.execute("DELETE FROM acts WHERE number = ?", (mine[-1].number,))
        number = self._number[mine[-1].key]
        if self.label_of(number) is None and not self._apart[number]:
            self._front.insert(0, number)
        return number

    @contextmanager
    def _saving(self) -> Iterator[sqlite3.Connection]:
        """Give the file of all acts to change, and export what it then says."""
        with self._lock:
            with self.store.changing() as base:
                before = self.store.read(base)
                yield base
                after = self.store.read(base)
                said = said_by(after)
                tables = self._tables(said)
                known = [(sha256_of(body),) for body in tables.values() if body]
                base.executemany("INSERT OR IGNORE INTO exports VALUES (?)", known)
            try:
                for file, body in tables.items():
                    write_or_remove(file, body)
            except BaseException:
                self.store.restore(before, after)
                raise
            self._said = said.get(self.rater, {})

    def _tables(self, said: Mapping[str, Mapping[Key, Act]]) -> dict[Path, bytes]:
        """Return what is exported; an empty table has no file."""
        labels, differing = settled(said)
        sure = [key for key, label in labels.items() if label != UNSURE]
        unsure = [key for key, label in labels.items() if label == UNSURE]
        raters = sorted(name for name in said if name != DECIDED)
        names = [name or "first" for name in raters]
        tables = {
            self.manifest: table_of(COLUMNS, [self._row(key, labels[key], said) for key in sure]),
            self.unsure_file: table_of(COLUMNS, [self._row(key, UNSURE, said) for key in unsure]),
            self.differing_file: table_of(
                ("file", "start", "end", *names, "note"),
                [
                    (
                        self.store.relative(key[0]),
                        f"{key[1]:.4f}",
                        f"{key[2]:.4f}",
                        *(said[name][key].label if key in said[name] else "" for name in raters),
                        self._notes(key, said),
                    )
                    for key in differing
                ],
            ),
        }
        if self.rater not in {"", DECIDED}:
            own = said.get(self.rater, {})
            file = self.manifest.with_name(f"{self.manifest.stem}-{self.rater}.csv")
            rows = [self._row(key, act.label, {self.rater: own}) for key, act in own.items()]
            tables[file] = table_of(COLUMNS, rows)
        return tables

    def _row(self, key: Key, label: str, said: Mapping[str, Mapping[Key, Act]]) -> tuple[str, ...]:
        number = self._number.get(key)
        item = None if number is None else self.items[number]
        raters = ";".join(sorted(name or "first" for name, own in said.items() if key in own))
        return (
            self.store.relative(key[0]),
            label,
            "" if item is None else item.group,
            f"{key[1]:.4f}",
            f"{key[2]:.4f}",
            "" if item is None else "random" if item.apart and self._learns else "chosen",
            raters,
            self._notes(key, said),
        )

    def _notes(self, key: Key, said: Mapping[str, Mapping[Key, Act]]) -> str:
        notes = [
            f"{name}: {own[key].note}" if name else own[key].note
            for name, own in said.items()
            if key in own and own[key].note
        ]
        return " / ".join(notes)

    def _check_exports(self, acts: Sequence[Act]) -> None:
        """Refuse tables that somebody has changed, and make those anew that a kill left behind."""
        known: set[str] = set()
        if self.store.path.exists():
            with self.store.changing() as base:
                known = {sha for (sha,) in base.execute("SELECT sha256 FROM exports")}
        said = said_by(acts)
        tables = self._tables(said)
        for file, body in tables.items():
            there = file.read_bytes() if file.is_file() else b""
            if there == body:
                continue
            if there and sha256_of(there) not in known:
                raise InvalidInputError(
                    f"{file} was not made by a review, or was changed since; move it away"
                )
            write_or_remove(file, body)

    # What is asked next.

    @property
    def fitted_to(self) -> int:
        """Labels made when the model was last fitted."""
        return self.history[-1]["labels"] if self.history else 0

    def wants_refit(self) -> bool:
        """Whether twenty labels were made since the last fit."""
        made = len(self.made())
        return self._learns and made // REFIT_EVERY > self.fitted_to // REFIT_EVERY

    def refit(self) -> None:
        """Fit the model to the labels made so far, and order what is asked by it.

        Labels may be made meanwhile, from another thread.
        """
        table = self._features()
        made = self.made()
        given = [self.label_of(number) for number in range(len(self.items))]
        sure = [None if label == UNSURE else label for label in given]
        groups = [item.group or item.name for item in self.items]
        found = active_learning.refit(table, sure, self._apart, groups, self.labels)
        entry: dict[str, Any] = {"labels": len(made), "estimate": None}
        if found is not None:
            entry["estimate"] = found.estimate.to_dict()
            self._reorder(table, found)
        self.history.append(entry)

    def _reorder(self, table: NDArray[np.float32], found: Refit) -> None:
        worth = active_learning.uncertainty(found.probabilities)
        for number, item in enumerate(self.items):
            if item.given in self.labels:
                place = self.labels.index(item.given)
                worth[number] = 1 - found.probabilities[number, place]
        asked = np.array([self.label_of(number) is not None for number in range(len(self.items))])
        space = active_learning.standardized(table)
        first = active_learning.learned_order(
            space, found.probabilities, worth, asked | self._apart, 2 * REFIT_EVERY
        )
        rest = [number for number in self._order if number not in set(first.tolist())]
        self._order = [*first.tolist(), *rest]

    def ask_for_more_like(self, number: int, most: int = 10) -> int:
        """Ask next what sounds most like a sound; return how many such there are."""
        asked = np.array([self.label_of(n) is not None for n in range(len(self.items))])
        asked |= self._apart
        space = active_learning.standardized(self._features())
        alike = active_learning.most_alike(space, number, asked, most).tolist()
        self._front = alike
        return len(alike)

    def _features(self) -> NDArray[np.float32]:
        """Return the features of all sounds, listening again where they were not kept."""
        from audio_pipeline.analysis.config import AnalysisConfig
        from audio_pipeline.analysis.pipeline import extract
        from audio_pipeline.features.transformer import FEATURE_NAMES

        missing: dict[Path, list[int]] = {}
        for number, item in enumerate(self.items):
            if item.features is None:
                missing.setdefault(item.path, []).append(number)
        for path, numbers in missing.items():
            wanted = sorted(numbers, key=lambda n: self.items[n].end)
            regions = [(self.items[n].start, self.items[n].end) for n in wanted]
            table = extract(path, self.settings or AnalysisConfig(), regions=regions).table
            for row, number in enumerate(wanted):
                nothing = np.full(len(FEATURE_NAMES), np.nan, np.float32)
                found = table[row] if len(table) == len(wanted) else nothing
                self.items[number] = replace(self.items[number], features=found)
        rows = [item.features for item in self.items if item.features is not None]
        return np.array(rows, np.float32)


def open_queue(
    source: Path,
    model: Path | None = None,
    *,
    allow_outside: bool = False,
    unlabelled: bool = False,
    rater: str = "",
) -> ReviewQueue:
    """Return what there is to label in a batch's output folder, a dataset or a folder.

    Parameters
    ----------
    source
        OUT folder of ``crepitus batch``; or a folder or CSV as ``crepitus train`` reads it.
    model
        Model folder for a dataset, None for the default one. A batch was heard already.
    allow_outside
        Whether a dataset may name recordings outside its own folder.
    unlabelled
        Whether the names of its folders are no labels: every sound found in any recording is asked
        about, and a folder in `source` is who they were recorded from.
    rater
        Who labels; a short name, or :data:`DECIDED`.

    Returns
    -------
    ReviewQueue
        Labels go to ``review.csv`` in that folder, or beside that CSV.

    Raises
    ------
    InvalidInputError
        When there is nothing to label.
    """
    from audio_pipeline.app.batch.store_file import STORE_NAME

    if rater and not (rater.isidentifier() and len(rater) <= 40):
        raise InvalidInputError(f"the rater {rater[:40]!r}: write letters, digits and _ only")
    source = Path(os.path.abspath(source))
    settings: AnalysisConfig | None = None
    if (source / STORE_NAME).is_file():
        items, labels = _of_batch(source)
    elif unlabelled:
        items, labels, settings = _of_recordings(source, model)
    else:
        items, labels, settings = _of_dataset(source, model, allow_outside)
    if not items:
        raise InvalidInputError(f"{source} holds no sound to label")
    return ReviewQueue(items, labels, manifest_of(source), rater, settings)


def manifest_of(source: Path) -> Path:
    """Return where the labels of a review of a folder or CSV go."""
    source = Path(os.path.abspath(source))
    if source.is_file():
        return source.with_name(f"{source.stem}-{REVIEW_FILE}")
    return source / REVIEW_FILE


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
    source: Path, model: Path | None, allow_outside: bool
) -> tuple[list[ReviewItem], tuple[str, ...], AnalysisConfig]:
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.model.classifier import load_classifier

    dataset = read_dataset(source, allow_outside=allow_outside)
    classifier = load_classifier(model)
    labels = dict.fromkeys((*classifier.labels, *dataset.labels))
    items = most_informative(_heard_again(dataset, classifier))
    return items, tuple(labels), classifier.settings


def _of_recordings(
    folder: Path, model: Path | None
) -> tuple[list[ReviewItem], tuple[str, ...], AnalysisConfig]:
    from audio_pipeline.analysis.pipeline import extract
    from audio_pipeline.audio.discovery import discover
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(model)

    def items() -> Iterator[ReviewItem]:
        for path in sorted(path for one in found if (path := _path(one.name))):
            parts = path.relative_to(folder).parts
            extraction = extract(path, classifier.settings)
            chances = classifier.predict_proba(extraction.table)
            rows = zip(extraction.segments, extraction.table, chances, strict=True)
            for segment, features, row in rows:
                yield ReviewItem(
                    path,
                    "/".join(parts),
                    segment.start,
                    segment.end,
                    dict(zip(classifier.labels, map(float, row), strict=True)),
                    None,
                    parts[0] if len(parts) > 1 else "",
                    features,
                )

    found = list(discover([os.fsencode(folder)]))
    return most_informative(items()), classifier.labels, classifier.settings


def _heard_again(dataset: Dataset, classifier: Classifier) -> Iterator[ReviewItem]:
    """Yield every labelled stretch of a dataset with what the model thinks of it."""
    from audio_pipeline.analysis.pipeline import extract

    for name, clips in dataset.recordings.items():
        regions = [(c.start, c.end) for c in clips if c.start is not None and c.end is not None]
        extraction = extract(clips[0].path, classifier.settings, regions=regions or None)
        chances = classifier.predict_proba(extraction.table)
        rows = zip(extraction.segments, extraction.table, chances, strict=True)
        for segment, features, row in rows:
            clip = _labelled(clips, segment.start, segment.end)
            yield ReviewItem(
                Path(os.path.abspath(clip.path)),
                name,
                segment.start,
                segment.end,
                dict(zip(classifier.labels, map(float, row), strict=True)),
                clip.label,
                clip.group if dataset.has_groups else "",
                features,
            )


def _labelled(clips: tuple[LabelledClip, ...], start: float, end: float) -> LabelledClip:
    """Return the clip whose stretch lies closest to a segment's."""
    return min(
        clips,
        key=lambda clip: abs((clip.start or 0.0) - start) + abs((clip.end or 0.0) - end),
    )
