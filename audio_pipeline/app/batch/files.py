"""Files that appear whole or not at all, and one line when they cannot be written."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from audio_pipeline.audio.discovery import readable
from audio_pipeline.exceptions import CrepitusError


def write_json(path: Path, document: Any) -> None:
    """Write one JSON document."""
    with written(path, newline="\n") as file:
        file.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


@contextmanager
def written(path: Path, newline: str = "") -> Iterator[io.TextIOWrapper]:
    """Give a text file that appears at its path, whole, when all went well.

    Raises
    ------
    CrepitusError
        When it cannot be written, for a full disk for instance; what was there stays.
    """
    with replaced(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline=newline)
        yield text
        text.flush()
        text.detach()


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Give a binary file that takes the place of its path when all went well."""
    short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
    partial = path.with_name(f".{short}.partial")
    try:
        with writing(path):
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what a run that was killed while it wrote has left in a folder."""
    for path in folder.glob(".*.partial"):
        with suppress(OSError):
            path.unlink()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failing write into one line."""
    try:
        yield
    except OSError as error:
        raise CrepitusError(
            f"cannot write {readable(os.fsencode(path))!r}: {error.strerror or error}; "
            "what is finished is kept, the same command goes on from there"
        ) from None
