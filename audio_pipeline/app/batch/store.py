"""The run store: one SQLite file in OUT that is the truth while a batch runs.

``listed`` is what the last command found and is replaced as a whole. ``results`` holds a finished
recording per row with its whole document in one column, so a result is there or it is not; it
counts as long as the recording's size and time stamp are those it was made from. The rollback
journal (not WAL) is correct on network drives too: after a kill or a full disk SQLite goes back to
the last whole transaction when the file is next opened.

Of a damaged store every row that is whole is kept, see :mod:`audio_pipeline.app.batch.store_file`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import Any, Self

from audio_pipeline.app.batch.store_file import (
    GOES_ON,
    KEEP_ONE,
    LIST_ONE,
    LISTED,
    RESULTS,
    STORE_NAME,
    Damaged,
    Recovery,
    checked,
    created,
    forget,
    insert,
    is_damage,
    note,
    read_facts,
    recover,
    recover_in_place,
    refuse_another,
    replacing,
    row_checksum,
    row_secret,
    shown,
    transaction,
)
from audio_pipeline.audio.discovery import Found, readable
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

LOCK_NAME = ".lock"

_WITH_RESULT = """
FROM listed l {kind} JOIN results r
ON r.path = l.path AND r.size IS l.size AND r.mtime_ns = l.mtime_ns
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
    mtime_ns: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """A finished recording with the identity it was made from.

    ``document`` is its entry of ``analyze --json``; None says that the earlier result stands.
    """

    path: bytes
    size: int | None
    mtime_ns: str
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

    ``accept_damage``: read the rows that are whole of a damaged store; :attr:`recovery` says what
        is lost.
    ``key``: what the results depend on: settings, model, labels.
    ``recovery``: None where nothing was damaged.
    Raises InvalidInputError when the folder holds no store, or one of another schema; CrepitusError
    when the store is damaged, and what is whole of it was not asked for or says nothing.
    """

    key: dict[str, Any]
    recovery: Recovery | None = None

    def __init__(self, out: Path, *, accept_damage: bool = False) -> None:
        path = out / STORE_NAME
        if not path.is_file():
            raise InvalidInputError(f"{shown(out)!r} holds no batch: name the OUT folder of one")
        self.out = out
        with ExitStack() as closing, self._explained():
            try:
                self._base = checked(path)
            except Damaged:
                again = "run the same batch command again, it keeps what is whole"
                if not accept_damage:
                    raise CrepitusError(f"{shown(path)!r} is damaged: {again}") from None
                copy = Path(closing.enter_context(tempfile.TemporaryDirectory())) / STORE_NAME
                self.recovery = recover(path, copy, None)
                self._base = checked(copy)
            closing.callback(self._base.close)
            self.key = read_facts(self._base)["key"]
            self._closing = closing.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._closing.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one line."""
        name = shown(self.out / STORE_NAME)
        try:
            yield
        except sqlite3.Error as error:
            if is_damage(error):
                raise CrepitusError(f"{name!r} is damaged ({error}): {GOES_ON}") from None
            raise CrepitusError(
                f"cannot use {name!r}: {error}; what is finished is kept, "
                "the same command goes on from there"
            ) from None

    def _all(self, query: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with self._explained():
            return self._base.execute(query, values).fetchall()

    def rows(self, *, status: str | None = None) -> Iterator[Row]:
        """Yield finished recordings sorted by name, all or those of one status."""
        columns = ", ".join(f"r.{column}" for column in RESULTS.split(", "))
        query = (
            f"SELECT l.path, l.name, l.recording, r.checksum, {columns} "
            f"{_WITH_RESULT.format(kind='')}"
            "WHERE ifnull(r.status = ?, 1) ORDER BY l.recording, l.path"
        )
        secret = row_secret(self.key)
        with self._explained():
            for path, name, recording, checksum, *values in self._base.execute(query, (status,)):
                if checksum != row_checksum("results", values, secret):
                    name = shown(self.out / STORE_NAME)
                    raise CrepitusError(f"{name!r} was damaged meanwhile: {GOES_ON}")
                yield Row(path, name, recording, {"source": recording, **json.loads(values[-1])})

    def totals(self) -> Totals:
        """Count the listing."""
        row = self._all(f"""
            SELECT count(*), ifnull(sum(r.status = 'ok'), 0), ifnull(sum(r.status = 'failed'), 0),
                   ifnull(sum(r.finding = 'unusable'), 0), ifnull(sum(r.duration), 0.0)
            {_WITH_RESULT.format(kind="LEFT")}
        """)[0]
        return Totals(*row)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the model, in its order."""
        return tuple(self.key["labels"])


class RunStore(StoreReader):
    """The store of one output folder, to be written by this process alone.

    ``out``: the folder; made when it is not there.
    ``key``: what the results depend on, in JSON values: settings, model, labels.
    ``restart``: forget everything an earlier run left.
    Raises InvalidInputError when another process works in the folder, or it holds a run with
    another key, or nothing that can be used; CrepitusError when the store cannot be written.
    """

    def __init__(self, out: Path, key: Mapping[str, Any], *, restart: bool = False) -> None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(
                f"cannot make the folder {shown(out)!r}: {error.strerror}"
            ) from None
        self.out = out
        self.key = json.loads(json.dumps(key))
        path = out / STORE_NAME
        with ExitStack() as closing, self._explained():
            closing.enter_context(_locked(out))
            if restart:
                forget(path)
            if not os.path.lexists(path):
                with replacing(path) as fresh, created(fresh, self.key):
                    pass
            elif not path.is_file():
                raise InvalidInputError(f"{shown(path)!r} is no file: use another folder")
            try:
                self._base = checked(path)
            except Damaged:
                self.recovery = recover_in_place(path, self.key)
                self._base = checked(path)
            closing.callback(self._base.close)
            facts = read_facts(self._base)
            refuse_another(path, facts["key"], self.key)
            self._generation: int = facts["listing"]["generation"]
            self._saved: int = facts["results"]
            self._closing = closing.pop_all()

    def replace_listing(self, found: Iterable[Found]) -> int:
        """Make this the listing, all or nothing, and return how many recordings it has.

        When nothing is found the earlier listing stays as it was.
        """
        generation, secret, listed = self._generation + 1, row_secret(self.key), 0
        try:
            with self._explained(), transaction(self._base):
                # Old rows show by their generation; wiping them would take longer than the rest.
                self._base.execute("PRAGMA secure_delete = OFF")
                self._base.execute("DELETE FROM listed")
                for one in found:
                    # The largest recordings come first: nobody waits for a long one at the end.
                    identity = (one.size, one.mtime_ns, -(one.size or 0))
                    row = (one.path, one.name, readable(one.name), one.linked, *identity)
                    insert(self._base, LIST_ONE, "listed", (*row, generation), secret)
                (listed,) = self._base.execute("SELECT count(*) FROM listed").fetchone()
                if not listed:
                    raise _NothingListed
                note(self._base, "listing", {"generation": generation, "count": listed})
        except _NothingListed:
            return 0
        self._generation = generation
        return int(listed)

    def pending(self, *, verify: bool = False) -> Iterator[Pending]:
        """Yield what has no good result, largest first; results may be saved meanwhile.

        A failed recording is pending again, for the cause may be gone. With ``verify`` every
        recording is, to compare its content with the digest of its result.
        """
        query = f"""
            SELECT l.priority, l.id, l.path, l.size, l.mtime_ns, old.digest
            {_WITH_RESULT.format(kind="LEFT")} AND r.status = 'ok'
            LEFT JOIN results old ON old.path = l.path AND old.status = 'ok' AND ?
            WHERE (l.priority, l.id) > (?, ?) AND (r.path IS NULL OR ?)
            ORDER BY l.priority, l.id LIMIT {_PAGE}
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
        saved, secret = self._saved, row_secret(self.key)
        with self._explained(), transaction(self._base):
            # What is overwritten leaves no old row behind that a recovery could take for a new one.
            self._base.execute("PRAGMA secure_delete = ON")
            for one in results:
                known = "SELECT digest, status, finding, duration, document FROM results "
                old = self._base.execute(f"{known} WHERE path = ?", (one.path,)).fetchone()
                saved += old is None
                columns = old if one.document is None else (one.digest, *_columns(one.document))
                assert columns is not None, "a result stands that is not there"
                row = (one.path, one.size, one.mtime_ns, *columns)
                insert(self._base, KEEP_ONE, "results", row, secret)
                self._list_again(one, secret)
            if saved != self._saved:
                note(self._base, "results", saved)
        self._saved = saved

    def _list_again(self, one: Result, secret: bytes) -> None:
        """Give a recording the identity it had when it was read, where it has changed since."""
        query = (
            f"SELECT {LISTED} FROM listed WHERE path = ? AND (size IS NOT ? OR mtime_ns IS NOT ?)"  # noqa: S608
        )
        if row := self._base.execute(query, (one.path, one.size, one.mtime_ns)).fetchone():
            values = (*row[:4], one.size, one.mtime_ns, *row[6:])
            self._base.execute(
                "UPDATE listed SET size = ?, mtime_ns = ?, checksum = ? WHERE path = ?",
                (one.size, one.mtime_ns, row_checksum("listed", values, secret), one.path),
            )


class _NothingListed(Exception):
    """Rolls an empty listing back."""


def _columns(document: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return status, finding, duration and text of a document; the name is the listing's."""
    finding, duration = document["finding"], document["duration"]
    kept = {key: value for key, value in document.items() if key != "source"}
    return (
        document["status"],
        finding and finding["label"],
        None if duration is None else float(duration),
        json.dumps(kept, ensure_ascii=False, separators=(",", ":")),
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder until the end of the block, or of the process, however it ends.

    Raises InvalidInputError when another process holds the folder, or it cannot be written or
    locked.
    """
    name = readable(os.fsencode(folder))
    try:
        # Descriptors are not inherited by the workers, so these cannot keep the lock alive.
        file = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise InvalidInputError(f"cannot write in the folder {name!r}: {error.strerror}") from None
    try:
        _lock(file, name)
        yield
    finally:
        os.close(file)


def _lock(file: int, name: str) -> None:
    """Lock an open file of a folder with this name."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (EACCES, EAGAIN):
            raise InvalidInputError(
                f"another batch works in {name!r}: wait for it, or use another folder"
            ) from None
        raise InvalidInputError(
            f"the drive of {name!r} cannot lock files ({error.strerror}): "
            "use a folder on another drive; results can be copied there afterwards"
        ) from None
