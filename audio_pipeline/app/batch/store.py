"""The run store: one SQLite file in OUT that is the truth while a batch runs.

``listed`` is what the last command found and is replaced as a whole. ``results`` holds a finished
recording a row with its whole document in one column, so a result is there or it is not; it counts
as long as the recording's size and stamp are those it was made from. The rollback journal (not WAL)
is correct on network drives too: after a kill or a full disk SQLite goes back to the last whole
transaction when the file is next opened.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from audio_pipeline.app.batch.lock import FolderLock
from audio_pipeline.audio.discovery import Found, readable
from audio_pipeline.exceptions import CrepitusError, RefusedError

SCHEMA_VERSION = 1
STORE_NAME = "run.sqlite"

_TABLES = (
    "CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE listed (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, name BLOB NOT NULL,
        recording TEXT NOT NULL, linked INTEGER NOT NULL, size INTEGER, stamp TEXT NOT NULL,
        turn INTEGER NOT NULL)""",
    "CREATE INDEX listed_by_recording ON listed (recording, path)",
    "CREATE INDEX listed_by_turn ON listed (turn, id)",
    """CREATE TABLE results (
        path BLOB PRIMARY KEY, size INTEGER, stamp TEXT NOT NULL, digest TEXT,
        status TEXT NOT NULL, finding TEXT, duration REAL, document TEXT NOT NULL)""",
)

# The largest recordings take the first turns: nobody waits for a long one at the end.
_LIST_ONE = """
INSERT INTO listed (path, name, recording, linked, size, stamp, turn) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    name = excluded.name, recording = excluded.recording, linked = excluded.linked
WHERE (excluded.linked, excluded.name) < (listed.linked, listed.name)
"""

_WITH_RESULT = """
FROM listed l {kind} JOIN results r ON r.path = l.path AND r.size IS l.size AND r.stamp = l.stamp
"""

_PAGE = 2000


@dataclass(frozen=True, slots=True)
class Pending:
    """A recording to look at.

    ``digest`` is the SHA-256 of the content its earlier result was made from, which stands when the
    content is the same now; None where there is no such result.
    """

    path: bytes
    size: int | None
    stamp: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """A finished recording with the identity it was made from.

    ``document`` is its entry of ``analyze --json``; None says that the earlier result stands.
    """

    path: bytes
    size: int | None
    stamp: str
    digest: str | None
    document: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Row:
    """A listed recording: where it is, its name as given, the same as text, and its document."""

    path: bytes
    name: bytes
    recording: str
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Totals:
    """Recordings listed, with a good result, failed, unusable among the good; seconds of audio."""

    found: int
    good: int
    failed: int
    unusable: int
    audio_seconds: float


class StoreReader:
    """Read the store of an output folder.

    Raises
    ------
    RefusedError
        When the folder holds no store, or one of another schema.
    """

    def __init__(self, out: Path) -> None:
        path = out / STORE_NAME
        if not path.is_file():
            raise RefusedError(f"{_text(out)!r} holds no batch: name the OUT folder of one")
        self.out = out
        with self._explained():
            self._base = _connect(path)
            try:
                self._check_schema()
            except BaseException:
                self._base.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _check_schema(self) -> None:
        (version,) = self._base.execute("PRAGMA user_version").fetchone()
        if version != SCHEMA_VERSION:
            raise RefusedError(
                f"{_text(self.out / STORE_NAME)!r} has schema {version}, this version reads "
                f"{SCHEMA_VERSION}: use another folder, or batch --restart to begin anew"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one line."""
        try:
            yield
        except sqlite3.Error as error:
            raise CrepitusError(
                f"cannot use {_text(self.out / STORE_NAME)!r}: {error}; what is finished is kept, "
                "the same command goes on from there"
            ) from None

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._explained():
            return self._base.execute(query, values).fetchall()

    def rows(self, *, status: str | None = None) -> Iterator[Row]:
        """Yield finished recordings sorted by name, all or those of one status."""
        query = (
            f"SELECT l.path, l.name, l.recording, r.document {_WITH_RESULT.format(kind='')}"
            "WHERE ifnull(r.status = ?, 1) ORDER BY l.recording, l.path"
        )
        with self._explained():
            for path, name, recording, document in self._base.execute(query, (status,)):
                yield Row(path, name, recording, {"source": recording, **json.loads(document)})

    def totals(self) -> Totals:
        """Count the listing."""
        row = self._all(f"""
            SELECT count(*), ifnull(sum(r.status = 'ok'), 0), ifnull(sum(r.status = 'failed'), 0),
                   ifnull(sum(r.finding = 'unusable'), 0), ifnull(sum(r.duration), 0.0)
            {_WITH_RESULT.format(kind="LEFT")}
        """)[0]
        return Totals(*row)

    def fact(self, key: str) -> Any:
        """Return a fact noted about the run, None when there is none."""
        row = self._all("SELECT value FROM run WHERE key = ?", (key,))
        return json.loads(row[0][0]) if row else None


class RunStore(StoreReader):
    """The store of one output folder, to be written by this process alone.

    Parameters
    ----------
    out
        The folder; made when it is not there.
    key
        What the results depend on, in JSON values: settings and model.
    restart
        Forget everything an earlier run left.

    Raises
    ------
    RefusedError
        When another process works in the folder, or it holds a run with another key.
    CrepitusError
        When the store cannot be written.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, restart: bool = False) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RefusedError(f"cannot make the folder {_text(out)!r}: {error.strerror}") from None
        self.out = out
        self._lock = FolderLock(out)
        try:
            if restart:
                _forget(out)
            with self._explained():
                self._base = _connect(out / STORE_NAME)
                self._begin(key)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and let the next process in."""
        if hasattr(self, "_base"):
            self._base.close()
        self._lock.release()

    def _begin(self, key: Mapping[str, Any]) -> None:
        """Make the tables of a new store, or compare the key of an old one."""
        empty = not self._base.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if empty:
            with self._transaction():
                for statement in _TABLES:
                    self._base.execute(statement)
                self._base.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                self._base.execute("INSERT INTO run VALUES ('key', ?)", (json.dumps(key),))
        self._check_schema()
        if changed := _difference(self.fact("key"), json.loads(json.dumps(key))):
            raise RefusedError(
                f"{_text(self.out)!r} holds a run with other settings ({changed}): "
                "use another folder, or --restart to begin anew"
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Do everything inside or, after any failure, nothing of it."""
        with self._explained():
            self._base.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._base.execute("COMMIT")
            except BaseException:
                if self._base.in_transaction:
                    self._base.execute("ROLLBACK")
                raise

    def replace_listing(self, found: Iterable[Found]) -> int:
        """Make this the listing, all or nothing, and return how many recordings it has.

        When nothing is found the earlier listing stays as it was.
        """
        rows = (
            (
                one.path,
                one.name,
                readable(one.name),
                one.linked,
                one.size,
                one.stamp,
                -(one.size or 0),
            )
            for one in found
        )
        count = 0
        try:
            with self._transaction():
                self._base.execute("DELETE FROM listed")
                self._base.executemany(_LIST_ONE, rows)
                (count,) = self._base.execute("SELECT count(*) FROM listed").fetchone()
                if not count:
                    raise _NothingListed
        except _NothingListed:
            pass
        return count

    def pending(self, *, verify: bool = False) -> Iterator[Pending]:
        """Yield what has no good result, largest first; results may be saved meanwhile.

        A failed recording is pending again, for the cause may be gone. With ``verify`` every
        recording is, to compare its content with the digest of its result.
        """
        query = f"""
            SELECT l.turn, l.id, l.path, l.size, l.stamp, old.digest
            {_WITH_RESULT.format(kind="LEFT")} AND r.status = 'ok'
            LEFT JOIN results old ON old.path = l.path AND old.status = 'ok' AND ?
            WHERE (l.turn, l.id) > (?, ?) AND (r.path IS NULL OR ?)
            ORDER BY l.turn, l.id LIMIT {_PAGE}
        """
        last = (-(2**62), 0)
        while page := self._all(query, (verify, *last, verify)):
            for _, _, *row in page:
                yield Pending(*row)
            last = page[-1][:2]

    def extent(self, *, verify: bool = False) -> tuple[int, int]:
        """Return how many recordings are pending, and their bytes as far as known."""
        row = self._all(
            f"""SELECT count(*), ifnull(sum(l.size), 0) {_WITH_RESULT.format(kind="LEFT")}
            AND r.status = 'ok' WHERE r.path IS NULL OR ?""",
            (verify,),
        )[0]
        return (int(row[0]), int(row[1]))

    def save(self, results: Iterable[Result]) -> None:
        """Keep finished recordings: all of these, or after a failure none."""
        with self._transaction():
            for one in results:
                identity = (one.size, one.stamp)
                if one.document is None:
                    self._base.execute(
                        "UPDATE results SET size = ?, stamp = ? WHERE path = ?",
                        (*identity, one.path),
                    )
                else:
                    self._base.execute(
                        "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (one.path, *identity, one.digest, *_columns(one.document)),
                    )
                self._base.execute(
                    "UPDATE listed SET size = ?, stamp = ? WHERE path = ?", (*identity, one.path)
                )

    def note(self, key: str, value: Any) -> None:
        """Keep a fact about the run, a JSON value."""
        with self._transaction():
            self._base.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, json.dumps(value)))


class _NothingListed(Exception):
    """Rolls an empty listing back."""


def _columns(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return status, finding, duration and text of a document; the name is the listing's."""
    finding = document["finding"]
    kept = {key: value for key, value in document.items() if key != "source"}
    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"))
    return (document["status"], finding and finding["label"], document["duration"], text)


def _connect(path: Path) -> sqlite3.Connection:
    """Open a store with transactions under our own control, durable at every commit."""
    base = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        base.execute("PRAGMA synchronous = FULL")
    except BaseException:
        base.close()
        raise
    return base


def _forget(out: Path) -> None:
    """Remove the store and its journal."""
    for name in (STORE_NAME, f"{STORE_NAME}-journal"):
        try:
            (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise CrepitusError(f"cannot remove {_text(out / name)!r}: {error.strerror}") from None


def _difference(old: Any, new: Any, name: str = "") -> str:
    """Say in a few words where two keys differ first; empty when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for part in sorted(old.keys() | new.keys()):
            inner = f"{name}.{part}" if name else part
            if found := _difference(old.get(part), new.get(part), inner):
                return found
        return ""
    return "" if old == new else f"{name} was {_short(old)}, is {_short(new)}"


def _short(value: Any) -> str:
    """Return a value in at most a few characters."""
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."


def _text(path: Path) -> str:
    return readable(os.fsencode(path))
