"""Files that appear whole or not at all, and tables that no spreadsheet runs."""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")

PARTIAL_PATTERN = ".crepitus-*.partial"
"""The names of files that are being written; what is left of one was left by a kill."""


def csv_cell(text: str) -> str:
    """Return text as a cell of a CSV table: one that would be a formula gets a leading ``'``.

    For text only: a negative number is no formula.
    """
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def csv_text(cell: str) -> str:
    """Return what :func:`csv_cell` was given."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA_STARTS) else cell


@contextmanager
def whole_file(
    path: str | os.PathLike[str], *, replace: bool = True, private: bool = False
) -> Iterator[IO[bytes]]:
    """Give a binary file that takes its place when all went well, and leaves nothing otherwise.

    It is written beside its place under a name that nobody can foresee and that nothing had, so
    no link that waits there is ever followed. A link at `path` itself is replaced, not followed.

    Parameters
    ----------
    path : str or path
        Where the file is to be.
    replace : bool
        Whether it may take the place of another one.
    private : bool
        Whether only its owner may read it. One that replaces another keeps that one's permissions.

    Raises
    ------
    OSError
        When it cannot be written, for a full disk for instance; FileExistsError when something
        is at `path` that may not be replaced. What was there stays.
    """
    target = Path(path)
    partial = target.with_name(f".crepitus-{secrets.token_hex(8)}.partial")
    mode = 0o600 if private else _mode_of(target)
    try:
        with new_file(partial, mode=0o666 if mode is None else mode) as file:
            if mode is not None:
                with suppress(OSError):  # not on every file system
                    os.chmod(partial, mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(partial, target)
        else:
            _put(partial, target)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def whole_text(
    path: str | os.PathLike[str],
    *,
    newline: str = "",
    replace: bool = True,
    private: bool = False,
) -> Iterator[io.TextIOWrapper]:
    """Give the same as a text file, UTF-8; see :func:`whole_file`."""
    with whole_file(path, replace=replace, private=private) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8", newline=newline)
        try:
            yield text
            text.flush()
        finally:
            with suppress(OSError):  # a full disk was told above
                text.detach()


def new_file(path: str | os.PathLike[str], mode: int = 0o666, *, buffering: int = -1) -> IO[bytes]:
    """Open a file that is not there yet, to write and read; never through a link.

    Raises
    ------
    OSError
        FileExistsError when anything has this name, a link that leads nowhere too.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(path, flags, mode), "w+b", buffering=buffering)


def _mode_of(path: Path) -> int | None:
    """Return the permissions of a file, None where there is none."""
    with suppress(OSError):
        state = path.lstat()
        if stat.S_ISREG(state.st_mode):
            return stat.S_IMODE(state.st_mode)
    return None


def _put(partial: Path, target: Path) -> None:
    """Give a finished file its name, which nothing may have."""
    try:
        os.link(partial, target, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):  # a file system without links: claim the name first
        new_file(target).close()
        try:
            os.replace(partial, target)
        except OSError:
            target.unlink()
            raise
    else:
        partial.unlink()
