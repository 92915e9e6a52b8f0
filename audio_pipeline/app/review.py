"""A review: sounds to label by ear, what is asked next, and the tables of what people called them.

What ``crepitus train`` reads is an export of the file of all acts, made anew after each of them.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.app.outputs import csv_lines, replaced
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.model import active_learning
from audio_pipeline.model.active_learning import APART_SHARE, REFIT_EVERY, Refit, agreement

COLUMNS: Final = ("file", "label", "group", "start", "end", "drawn", "raters", "note")
LONGEST_NOTE: Final = 1000
NEXT_ITEMS: Final = 20


UNSURE: Final = "unsure"
DECIDED: Final = "decided"
"""The name under which people who differed decide together; no rater can have it."""

_APPLICATION: Final = 0x43525256  # "CRRV"

Key = tuple[str, float, float]


@dataclass(frozen=True)
class Act:
    """One label as somebody made it; the last one of a rater about a sound is what they say."""

    number: int
    rater: str
    key: Key
    label: str
    note: str


class ReviewStore:
    """Every act of everybody, in one SQLite file that is made with the first act.

    An act is written whole or not at all before it counts as made, so that a kill loses nothing and
    undo knows what came before. Raises InvalidInputError when the file is none of a review.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.parent
        if path.exists():
            with self._open() as base:
                mark = base.execute("PRAGMA application_id").fetchone()[0]
            if mark != _APPLICATION:
                raise InvalidInputError(f"{path} was not made by a review; move it away")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as base:
                yield base
        except sqlite3.DatabaseError as error:
            if "not a database" in str(error):
                raise InvalidInputError(
                    f"{self.path} was not made by a review; move it away"
                ) from None
            raise CrepitusError(f"cannot write {self.path}: {error}") from None

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """Give the file to change; all of it happens, or nothing where the block fails."""
        with self._open() as base:
            base.execute("BEGIN IMMEDIATE")
            with base:
                base.execute(
                    "CREATE TABLE IF NOT EXISTS acts (number INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "rater TEXT NOT NULL, file TEXT NOT NULL, start REAL NOT NULL, "
                    '"end" REAL NOT NULL, label TEXT NOT NULL, note TEXT NOT NULL)'
                )
                base.execute("CREATE TABLE IF NOT EXISTS exports (sha256 TEXT PRIMARY KEY)")
                base.execute(f"PRAGMA application_id = {_APPLICATION}")
                yield base

    def acts(self) -> list[Act]:
        """Return what is kept, in the order in which it was made."""
        if not self.path.exists():
            return []
        with self._open() as base:
            return self.read(base)

    def read(self, base: sqlite3.Connection) -> list[Act]:
        """Return the same within a change."""
        rows = base.execute(
            'SELECT number, rater, file, start, "end", label, note FROM acts ORDER BY number'
        )
        return [
            Act(number, rater, (os.path.normpath(self.folder / file), start, end), label, note)
            for number, rater, file, start, end, label, note in rows
        ]

    def add(self, base: sqlite3.Connection, rater: str, key: Key, label: str, note: str) -> None:
        """Keep an act."""
        base.execute(
            'INSERT INTO acts (rater, file, start, "end", label, note) VALUES (?, ?, ?, ?, ?, ?)',
            (rater, self.relative(key[0]), *key[1:], label, note),
        )

    def restore(self, before: Sequence[Act], after: Sequence[Act]) -> None:
        """Take a change back that could not be exported."""
        was, is_now = {act.number: act for act in before}, {act.number for act in after}
        with self.changing() as base:
            gone = [(number,) for number in is_now - set(was)]
            base.executemany("DELETE FROM acts WHERE number = ?", gone)
            for number in set(was) - is_now:
                act = was[number]
                self.add(base, act.rater, act.key, act.label, act.note)

    def relative(self, path: str) -> str:
        """Return a recording's path as the tables hold it."""
        return os.path.relpath(path, self.folder).replace(os.sep, "/")


def said_by(acts: Iterable[Act]) -> dict[str, dict[Key, Act]]:
    """Return what each rater says of each sound, in the order in which they first said it."""
    said: dict[str, dict[Key, Act]] = {}
    for act in acts:
        own = said.setdefault(act.rater, {})
        own[act.key] = act
    return said


def settled(said: Mapping[str, Mapping[Key, Act]]) -> tuple[dict[Key, str], list[Key]]:
    """Return what all raters of a sound call it, or what they decided; and what they differ about.

    Both in the order in which the sounds were first labelled.
    """
    votes: dict[Key, dict[str, str]] = {}
    for rater, own in said.items():
        for key, act in own.items():
            votes.setdefault(key, {})[rater] = act.label
    labels, differing = {}, []
    for key, given in votes.items():
        decided = given.pop(DECIDED, None)
        if decided is not None or len(set(given.values())) == 1:
            labels[key] = decided if decided is not None else next(iter(given.values()))
        else:
            differing.append(key)
    return labels, differing


def agreements(store: ReviewStore, groups: Mapping[Key, str]) -> dict[str, Any]:
    """Return how far the raters of a review agree, pair by pair, for ``review --agreement``.

    What one of a pair was unsure of is left out. A sound without a group is its own.
    """
    said = said_by(store.acts())
    raters = sorted(name for name in said if name != DECIDED)
    pairs = []
    for first, second in combinations(raters, 2):
        shared = [
            key
            for key, act in said[first].items()
            if key in said[second] and UNSURE not in {act.label, said[second][key].label}
        ]
        found = agreement(
            [said[first][key].label for key in shared],
            [said[second][key].label for key in shared],
            [groups.get(key) or key[0] for key in shared],
        )
        pairs.append({"raters": [first, second], **found.to_dict()})
    return {
        "raters": {name: len(said[name]) for name in raters},
        "pairs": pairs,
        "differing": len(settled(said)[1]),
    }


def table_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return a CSV table as bytes; none without rows."""
    if not rows:
        return b""
    return csv_lines([header, *rows])


def write_or_remove(file: Path, body: bytes) -> None:
    """Write a table whole or not at all; an empty one has no file."""
    if body:
        with replaced(file) as stream:
            stream.write(body)
    else:
        with suppress(FileNotFoundError):
            file.unlink()


@dataclass(frozen=True, eq=False)
class ReviewItem:
    """A sound to label."""

    path: Path  # the recording
    name: str  # the recording as a person knows it
    start: float  # seconds
    end: float
    probabilities: Mapping[str, float]  # what the model thinks
    given: str | None = None  # the label it has already, None when it has none
    group: str = ""  # who or what it was recorded from, "" when not known
    features: NDArray[np.float32] | None = None  # None where they were not kept

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


class ReviewQueue:
    """A queue of sounds and the labels made so far, saved after each one.

    ``items``: the first asked first; those drawn at random are found among them.
    ``manifest``: the CSV file that ``crepitus train`` reads. Beside it lie the file of all acts
        (``.db``), what nobody was sure of (``-unsure.csv``) and what raters differ about
        (``-disagreements.csv``). One of these that is none of ours: InvalidInputError.
    ``rater``: when others have labelled before, exactly their sounds are asked, in an order drawn
        at random; :data:`DECIDED` is asked what they differ about.
    ``settings``: how to listen where features were not kept.
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
        self._groups = [item.group or item.name for item in items]
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
        """Return the numbers of the sounds labelled, in the order in which they first were."""
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
        """Label a sound and save; a label again keeps what came before for :meth:`undo`.

        ``note``: None leaves it as it was.
        Raises ValueError when the label is none of `labels` and not `UNSURE`, or the note is too
        long; CrepitusError when the file cannot be written, and the label is then not made.
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

        Returns the sound, which has the label again that it had before, or None when there is
        nothing to take back.
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
                known = [(hashlib.sha256(body).hexdigest(),) for body in tables.values() if body]
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
            "" if item is None else "random" if item.apart else "chosen",
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
            if there and hashlib.sha256(there).hexdigest() not in known:
                raise InvalidInputError(
                    f"{file} was not made by a review, or was changed since; move it away"
                )
            write_or_remove(file, body)

    # What is asked next.

    def wants_refit(self) -> bool:
        """Whether twenty labels were made since the last fit."""
        fitted_to = self.history[-1]["labels"] if self.history else 0
        return self._learns and len(self.made()) // REFIT_EVERY > fitted_to // REFIT_EVERY

    def refit(self) -> None:
        """Fit the model to the labels made so far, and order what is asked by it.

        Labels may be made meanwhile, from another thread.
        """
        entry: dict[str, Any] = {"labels": len(self.made()), "estimate": None}
        try:
            table = self._features()
            given = [self.label_of(number) for number in range(len(self.items))]
            sure = [None if label == UNSURE else label for label in given]
            found = active_learning.refit(table, sure, self._apart, self._groups, self.labels)
            if found is not None:
                self._reorder(table, found)
                entry["estimate"] = found.estimate.to_dict()
        finally:  # what failed is tried again after twenty labels more, not after each
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
            space,
            found.probabilities,
            worth,
            asked,
            self._groups,
            2 * REFIT_EVERY,
            self._apart,
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
