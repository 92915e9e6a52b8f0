"""Read what is left of a damaged SQLite file: every record of its tables, page by page.

SQLite finds a row through pages that lead to other pages, and gives up where one of them is wrong.
Here each page is read on its own, by the file format of https://www.sqlite.org/fileformat2.html, so
that a wrong byte costs the records of one page at most. What comes out may be wrong or deleted long
ago: whoever asks has to know a good record when they see one, by a checksum for instance.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

PAGE_SIZE = 4096
"""Bytes of a page: what SQLite uses unless told otherwise. A damaged header cannot be asked."""

_FILE_HEADER = 100
_TABLE_LEAF = 0x0D
_LOCAL_MOST = PAGE_SIZE - 35
"""Bytes of a record that stay on its page; of a longer one the rest is on overflow pages."""
_LOCAL_LEAST = (PAGE_SIZE - 12) * 32 // 255 - 23

_INTEGER_SIZES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
_CONSTANTS = {0: None, 8: 0, 9: 1}


def records(path: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the values of every record that can be read, in no particular order.

    An INTEGER PRIMARY KEY is None here, and a REAL may come as int: so the format keeps them.

    Parameters
    ----------
    path
        A file that is, or was, an SQLite database with pages of :data:`PAGE_SIZE` bytes; of any
        other file nothing is yielded.
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
