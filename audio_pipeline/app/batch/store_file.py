"""The file of the run store: its tables, their checksums, and what is done when it is damaged.

Every row carries a checksum, made with the settings and the model as key: a row that fits is whole,
and of this run. When a store is opened all of it is checked. Of a damaged one the rows that are
whole go into a new store, and what is lost is said. SQLite finds a row through pages that lead to
other pages, and gives up where one of them is wrong; :func:`records` reads each page on its own, by
the file format of https://www.sqlite.org/fileformat2.html, so that a wrong byte costs the records
of one page at most.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from audio_pipeline.audio.discovery import readable
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

PAGE_SIZE = 4096
"""Bytes of a page: what SQLite uses unless told otherwise. A damaged header cannot be asked."""

_MAGIC = b"SQLite format 3\0"
_FILE_HEADER = 100
_TABLE_LEAF = 0x0D
_LOCAL_MOST = PAGE_SIZE - 35
"""Bytes of a record that stay on its page; of a longer one the rest is on overflow pages."""
_LOCAL_LEAST = (PAGE_SIZE - 12) * 32 // 255 - 23

_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_CONSTANTS = {0: None, 8: 0, 9: 1}

SCHEMA_VERSION = 2
STORE_NAME = "run.sqlite"

_APPLICATION_ID = int.from_bytes(b"Crep")

# An id is never checked and never used, but for the order of equal priorities.
_TABLES = (
    """CREATE TABLE run (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value TEXT NOT NULL,
        checksum BLOB NOT NULL)""",
    """CREATE TABLE listed (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, name BLOB NOT NULL,
        recording TEXT NOT NULL, linked INTEGER NOT NULL, size INTEGER, mtime_ns TEXT NOT NULL,
        priority INTEGER NOT NULL, generation INTEGER NOT NULL, checksum BLOB NOT NULL)""",
    """CREATE TABLE results (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, size INTEGER, mtime_ns TEXT NOT NULL,
        digest TEXT, status TEXT NOT NULL, finding TEXT, duration REAL, document TEXT NOT NULL,
        checksum BLOB NOT NULL)""",
    "CREATE INDEX listed_by_recording ON listed (recording, path)",
    "CREATE INDEX listed_by_priority ON listed (priority, id)",
)
_RUN = "key, value"
LISTED = "path, name, recording, linked, size, mtime_ns, priority, generation"
RESULTS = "path, size, mtime_ns, digest, status, finding, duration, document"

LIST_ONE = f"""
INSERT INTO listed ({LISTED}, checksum) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    name = excluded.name, recording = excluded.recording, linked = excluded.linked,
    size = excluded.size, mtime_ns = excluded.mtime_ns, priority = excluded.priority,
    generation = excluded.generation, checksum = excluded.checksum
WHERE (-excluded.generation, excluded.linked, excluded.name)
    < (-listed.generation, listed.linked, listed.name)
"""  # noqa: S608
KEEP_ONE = f"INSERT OR REPLACE INTO results ({RESULTS}, checksum) VALUES (?,?,?,?,?,?,?,?,?)"  # noqa: S608
NOTE_ONE = f"INSERT OR REPLACE INTO run ({_RUN}, checksum) VALUES (?, ?, ?)"  # noqa: S608

# The bytes of the file's first 100 that never change: SQLite itself works with some wrong ones.
_HEADER = {
    0: _MAGIC + PAGE_SIZE.to_bytes(2) + bytes([1, 1, 0, 64, 32, 32]),
    44: b"\0\0\0\4",
    52: bytes(4) + b"\0\0\0\1",
    64: bytes(4) + _APPLICATION_ID.to_bytes(4) + bytes(20),
}
_VERSION_AT = 60

# What a disk, a drive or another process does to us; every other error of SQLite is damage.
_NO_DAMAGE = ("FULL", "IOERR", "BUSY", "LOCKED", "CANTOPEN", "READONLY", "PERM", "PROTOCOL")
_DAMAGE_ALL_THE_SAME = ("IOERR_READ", "IOERR_SHORT_READ", "IOERR_CORRUPTFS")


GOES_ON = "the same batch command keeps what is whole and does the rest again"


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was left of a damaged store."""

    kept: int  # results that are whole
    lost: int | None  # results that are not; None where the damage took their number too
    listed: int | None  # recordings that the last listing had; None as above
    # name of the damaged file, which is kept; None where it stays in place
    damaged: str | None = None


class Damaged(Exception):
    """Something in a store is not as it was written."""


def row_secret(key: Mapping[str, Any]) -> bytes:
    """Return what the checksums of a run's rows are made with."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).digest()


def row_checksum(table: str, values: Iterable[Any], secret: bytes = b"") -> bytes:
    """Return the checksum of a row's values, without its id; of a fact without secret."""
    text = ascii((SCHEMA_VERSION, table, *values)).encode()
    return hashlib.blake2b(text, digest_size=8, key=secret).digest()


def insert(
    base: sqlite3.Connection, query: str, table: str, row: tuple[Any, ...], secret: bytes = b""
) -> None:
    """Write a row with its checksum, True and False as the integers that are read again."""
    row = tuple(int(value) if isinstance(value, bool) else value for value in row)
    base.execute(query, (*row, row_checksum(table, row, secret)))


def note(base: sqlite3.Connection, key: str, value: Any) -> None:
    """Keep a fact about the run, a JSON value."""
    insert(base, NOTE_ONE, "run", (key, json.dumps(value)))


def read_facts(base: sqlite3.Connection) -> dict[str, Any]:
    """Return the facts of a checked store."""
    return {key: json.loads(value) for key, value in base.execute("SELECT key, value FROM run")}


def connect(path: Path) -> sqlite3.Connection:
    """Open a store with transactions under our own control, durable at every commit."""
    base = sqlite3.connect(path, timeout=30.0, isolation_level=None)
    try:
        base.execute("PRAGMA synchronous = FULL")
    except BaseException:
        base.close()
        raise
    return base


@contextmanager
def transaction(base: sqlite3.Connection) -> Iterator[None]:
    """Do everything inside or, after any failure, nothing of it."""
    base.execute("BEGIN IMMEDIATE")
    with base:
        yield


@contextmanager
def created(path: Path, key: Mapping[str, Any]) -> Iterator[sqlite3.Connection]:
    """Make an empty store for a run, open until the end of the block."""
    with closing(connect(path)) as base:
        base.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        with transaction(base):
            for statement in _TABLES:
                base.execute(statement)
            base.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            base.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            note(base, "key", key)
            note(base, "listing", {"generation": 0, "count": 0})
            note(base, "results", 0)
        yield base


def checked(path: Path) -> sqlite3.Connection:
    """Open a store in which everything is as it was written.

    Raises Damaged when something is not; CrepitusError when it cannot be read.
    """
    try:
        if _journal(path).exists():
            # A run was killed in the middle of a transaction: what SQLite now does is not damage.
            base = connect(path)
            base.execute("SELECT count(*) FROM sqlite_master").fetchone()
            base.close()
        _check_header(path)
        base = connect(path)
        try:
            base.execute("BEGIN")
            _check_content(base)
            base.execute("COMMIT")
        except BaseException:
            base.close()
            raise
    except (MemoryError, UnicodeError, OverflowError, ValueError) as error:
        raise Damaged(str(error)) from None
    except OSError as error:
        raise CrepitusError(f"cannot read {shown(path)!r}: {error.strerror}") from None
    except sqlite3.Error as error:
        if is_damage(error):
            raise Damaged(str(error)) from None
        raise
    return base


def is_damage(error: sqlite3.Error) -> bool:
    """Tell whether an error comes from what is in the file."""
    name = getattr(error, "sqlite_errorname", "").removeprefix("SQLITE_")
    return name.startswith(_DAMAGE_ALL_THE_SAME) or not name.startswith(_NO_DAMAGE)


def _check_header(path: Path) -> None:
    """Compare what never changes in the first bytes."""
    header, version = _header_of(path)
    if any(header[at : at + len(part)] != part for at, part in _HEADER.items()):
        raise Damaged("its header")
    if version != SCHEMA_VERSION:
        raise Damaged("its version")


def _header_of(path: Path) -> tuple[bytes, int]:
    """Return the first bytes of a file, and the version of the schema in them."""
    with open(path, "rb") as file:
        header = file.read(_FILE_HEADER)
    return header, int.from_bytes(header[_VERSION_AT : _VERSION_AT + 4])


def _check_content(base: sqlite3.Connection) -> None:
    """Check that the tables are ours, hang together, and that each row is as it was written."""
    query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
    if [sql for (sql,) in base.execute(query)] != list(_TABLES):
        raise Damaged("its tables")
    if base.execute("PRAGMA integrity_check(1)").fetchone() != ("ok",):
        raise Damaged("its structure")
    _check_rows(base, "run", _RUN, b"")
    facts = read_facts(base)
    if facts.keys() != {"key", "listing", "results"}:
        raise Damaged("its facts")
    secret, listing = row_secret(facts["key"]), facts["listing"]
    if _check_rows(base, "listed", LISTED, secret) != listing["count"]:
        raise Damaged("its listing")
    if _check_rows(base, "results", RESULTS, secret) != facts["results"]:
        raise Damaged("its results")


def _check_rows(base: sqlite3.Connection, table: str, columns: str, secret: bytes) -> int:
    """Check all rows of a table and return their number."""
    number = 0
    query = f"SELECT {columns}, checksum FROM {table}"  # noqa: S608
    for *values, checksum in base.execute(query):
        if checksum != row_checksum(table, values, secret):
            raise Damaged(f"a row of {table}")
        number += 1
    return number


def recover(path: Path, target: Path, key: Mapping[str, Any] | None) -> Recovery:
    """Make a new store of the rows of a damaged one that are whole.

    ``path``: the damaged store.
    ``target``: where the new one goes.
    ``key``: of the run that wants it; without it the damaged store has to know its own.
    Raises InvalidInputError when the store belongs to another run, or nothing is left to recognise
    it by.
    """
    facts: dict[str, Any] = {}
    for _, *values, checksum in (one for one in records(path) if len(one) == 4):
        if checksum == row_checksum("run", values):
            facts[values[0]] = json.loads(values[1])
    if "key" in facts and key is not None:
        refuse_another(path, facts["key"], key)
    key = facts.get("key", key)
    if key is None:
        raise CrepitusError(f"{shown(path)!r} is damaged where it says what it is: {GOES_ON}")
    with created(target, key) as base, transaction(base):
        kept = _copy_rows(path, base, row_secret(key))
    if "key" not in facts and not kept:
        _refuse_unknown(path)
    lost = max(0, facts["results"] - kept) if "results" in facts else None
    return Recovery(kept, lost, facts["listing"]["count"] if "listing" in facts else None)


def _copy_rows(path: Path, base: sqlite3.Connection, secret: bytes) -> int:
    """Copy whole rows into an empty store; return how many results."""
    for _, *values, checksum in (one for one in records(path) if len(one) == 10):
        if checksum == row_checksum("listed", values, secret):
            base.execute(LIST_ONE, (*values, checksum))
            continue
        if isinstance(values[6], int):  # so a file keeps a REAL without fraction
            values[6] = float(values[6])
        if checksum == row_checksum("results", values, secret):
            base.execute(KEEP_ONE, (*values, checksum))
    (generation,) = base.execute("SELECT ifnull(max(generation), 0) FROM listed").fetchone()
    base.execute("DELETE FROM listed WHERE generation < ?", (generation,))
    counts = "SELECT (SELECT count(*) FROM results), (SELECT count(*) FROM listed)"
    kept, listed = base.execute(counts).fetchone()
    note(base, "listing", {"generation": generation, "count": listed})
    note(base, "results", kept)
    return int(kept)


def refuse_another(path: Path, old: Any, new: Any) -> None:
    """Refuse a store of other settings or another model."""
    if changed := _difference(old, new):
        # Where the model is another, its labels and settings may be too: that is no news.
        same_model = old.get("model") == new.get("model")
        what = f"other settings ({changed})" if same_model else "another model"
        raise InvalidInputError(
            f"{shown(path.parent)!r} holds a run with {what}: "
            "use another folder, or --restart to begin anew"
        )


def _refuse_unknown(path: Path) -> None:
    """Refuse a file that says nothing of its run and holds nothing that this one has made."""
    header, version = _header_of(path)
    what = "is no store of Crepitus, or so damaged that nothing of this run is left in it"
    if header.startswith(_MAGIC) and version != SCHEMA_VERSION:
        what = f"has schema {version}, this version reads {SCHEMA_VERSION}"
    raise InvalidInputError(
        f"{shown(path)!r} {what}: use another folder, or batch --restart to begin anew"
    )


def recover_in_place(path: Path, key: Mapping[str, Any]) -> Recovery:
    """Put a new store in the place of a damaged one, which is kept under another name."""
    with replacing(path) as fresh:
        recovery = recover(path, fresh, key)
        try:
            damaged = _free_name(path)
            os.link(path, damaged)
        except OSError:  # a drive without hard links: there it is not kept
            return recovery
    return replace(recovery, damaged=damaged.name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path for a new store, which takes the place of the old one when all went well."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        try:
            _remove(fresh)
            yield fresh
            # First the journal, or SQLite would put the old store's pages into the new one.
            _journal(path).unlink(missing_ok=True)
            os.replace(fresh, path)
        except BaseException:
            with suppress(OSError):
                _remove(fresh)
            raise
    except OSError as error:
        raise CrepitusError(
            f"cannot write {shown(path)!r}: {error.strerror}; what is finished is kept, "
            "the same command goes on from there"
        ) from None


def _remove(path: Path) -> None:
    """Remove a store and its journal."""
    for one in (path, _journal(path)):
        one.unlink(missing_ok=True)


def forget(path: Path) -> None:
    """Begin anew: remove the store; what was never one is put aside."""
    try:
        if path.is_file() and not _header_of(path)[0].startswith(_MAGIC):
            os.replace(path, _free_name(path))
        _remove(path)
    except OSError as error:
        raise CrepitusError(f"cannot remove {shown(path)!r}: {error.strerror}") from None


def _free_name(path: Path) -> Path:
    """Return a name beside a file that nothing has."""
    names = (f"{path.name}.damaged{number or ''}" for number in count())
    return next(one for name in names if not os.path.lexists(one := path.with_name(name)))


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")


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


def shown(path: Path) -> str:
    """Return a path as text."""
    return readable(os.fsencode(path))


def records(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the values of every record that can be read, in no particular order.

    What comes out may be wrong or deleted long ago: a checksum tells. An INTEGER PRIMARY KEY is
    None here, and a REAL may come as int: so the format keeps them.

    ``path``: a file that is, or was, an SQLite database with pages of :data:`PAGE_SIZE` bytes; of
        any other file nothing is yielded.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for number in range(1, -(-size // PAGE_SIZE) + 1):
            try:
                page = _page(file, number)
            except OSError:  # a bad block: the other pages may be fine
                continue
            start = _FILE_HEADER if number == 1 else 0
            if page[start : start + 1] != bytes([_TABLE_LEAF]):
                continue
            cells = int.from_bytes(page[start + 3 : start + 5])
            for pointer in range(start + 8, min(start + 8 + 2 * cells, len(page)), 2):
                try:
                    yield _values(_payload(file, page, pointer, size))
                except (IndexError, OSError, ValueError, struct.error):
                    continue


def _page(file: BinaryIO, number: int) -> bytes:
    """Return a page by its number, from 1; short or empty where the file ends."""
    if number < 1:
        raise ValueError("there is no such page")
    file.seek((number - 1) * PAGE_SIZE)
    return file.read(PAGE_SIZE)


def _payload(file: BinaryIO, page: bytes, pointer: int, most: int) -> bytes:
    """Return the bytes of the record that a cell pointer leads to."""
    length, at = _varint(page, int.from_bytes(page[pointer : pointer + 2]))
    _, at = _varint(page, at)
    if length > most:
        raise ValueError("longer than the file")
    local = length
    if length > _LOCAL_MOST:
        local = _LOCAL_LEAST + (length - _LOCAL_LEAST) % (PAGE_SIZE - 4)
        if local > _LOCAL_MOST:
            local = _LOCAL_LEAST
    parts = [_slice(page, at, local)]
    next_page = page[at + local : at + local + 4]
    missing = length - local
    while missing:
        page = _page(file, int.from_bytes(next_page))
        parts.append(_slice(page, 4, min(missing, PAGE_SIZE - 4)))
        missing -= len(parts[-1])
        next_page = page[:4]
    return b"".join(parts)


def _values(payload: bytes) -> tuple[Any, ...]:
    """Return the values of a record."""
    at_value, at = _varint(payload, 0)
    if at_value > len(payload):
        raise ValueError("a header longer than its record")
    end_of_header, values = at_value, []
    while at < end_of_header:
        kind, at = _varint(payload, at)
        value, at_value = _value(payload, kind, at_value)
        values.append(value)
    return tuple(values)


def _value(payload: bytes, kind: int, at: int) -> tuple[Any, int]:
    """Return one value of a serial type, and where the next one begins."""
    if kind in _CONSTANTS:
        return _CONSTANTS[kind], at
    if kind in _INTEGER_SIZES:
        size = _INTEGER_SIZES[kind]
        return int.from_bytes(_slice(payload, at, size), signed=True), at + size
    if kind == 7:
        return struct.unpack(">d", payload[at : at + 8])[0], at + 8
    if kind < 12:
        raise ValueError("a reserved serial type")
    content = _slice(payload, at, (kind - 12) // 2)
    return content.decode() if kind % 2 else content, at + len(content)


def _slice(data: bytes, start: int, size: int) -> bytes:
    """Return bytes of exactly this size."""
    part = data[start : start + size]
    if len(part) != size:
        raise ValueError("it ends too early")
    return part


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length integer and where it ends."""
    value = 0
    for position in range(at, at + 8):
        value = value << 7 | data[position] & 0x7F
        if data[position] < 0x80:
            return value, position + 1
    return value << 8 | data[at + 8], at + 9
