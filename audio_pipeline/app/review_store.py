"""What everybody called the sounds of a review: one file of acts, and how far people agree.

Every label is an act in one file, which is written whole or not at all before it counts as made,
so that a kill loses nothing and undo knows what came before.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from audio_pipeline.app.outputs import replaced
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.files import csv_cell
from audio_pipeline.model.active_learning import agreement

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
    """Every act of everybody, in one file that is written whole or not at all.

    Parameters
    ----------
    path
        The SQLite file; made with the first act.

    Raises
    ------
    InvalidInputError
        When the file is there but is none of a review.
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
            base.execute(
                "CREATE TABLE IF NOT EXISTS acts (number INTEGER PRIMARY KEY AUTOINCREMENT, "
                "rater TEXT NOT NULL, file TEXT NOT NULL, start REAL NOT NULL, "
                '"end" REAL NOT NULL, label TEXT NOT NULL, note TEXT NOT NULL)'
            )
            base.execute("CREATE TABLE IF NOT EXISTS exports (sha256 TEXT PRIMARY KEY)")
            base.execute(f"PRAGMA application_id = {_APPLICATION}")
            try:
                yield base
            except BaseException:
                base.execute("ROLLBACK")
                raise
            base.execute("COMMIT")

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
            Act(number, rater, (self._absolute(file), start, end), label, note)
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

    def _absolute(self, file: str) -> str:
        return os.path.normpath(self.folder / file)

    def relative(self, path: str) -> str:
        """Return a recording's path as the tables hold it."""
        return os.path.relpath(path, self.folder).replace(os.sep, "/")


def said_by(acts: Iterable[Act]) -> dict[str, dict[Key, Act]]:
    """Return what each rater says of each sound, in the order in which they said it."""
    said: dict[str, dict[Key, Act]] = {}
    for act in acts:
        own = said.setdefault(act.rater, {})
        own.pop(act.key, None)
        own[act.key] = act
    return said


def settled(said: Mapping[str, Mapping[Key, Act]]) -> tuple[dict[Key, str], list[Key]]:
    """Return what all raters of a sound call it, or what they decided; and what they differ about.

    Returns
    -------
    (labels, open) : dict of key to str, list of key
        In the order in which they were first labelled.
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
    """Return how far the raters of a review agree, pair by pair.

    Parameters
    ----------
    store
        Of the review.
    groups
        Of the sounds; one without is its own.

    Returns
    -------
    dict
        ``raters``: labels of each; ``pairs``: of those who heard the same sounds, leaving out what
        one of them was unsure of; ``differing``: sounds about which they differ.
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


def sha256_of(body: bytes) -> str:
    """Return the digest of a table."""
    return hashlib.sha256(body).hexdigest()


def table_of(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bytes:
    """Return a CSV table as bytes; none without rows."""
    if not rows:
        return b""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([[csv_cell(cell) for cell in row] for row in rows])
    return text.getvalue().encode()


def write_or_remove(file: Path, body: bytes) -> None:
    """Write a table whole or not at all; an empty one has no file."""
    if body:
        with replaced(file) as stream:
            stream.write(body)
    else:
        with suppress(FileNotFoundError):
            file.unlink()
