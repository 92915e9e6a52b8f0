"""What commands write: never over what is a person's, and one line when it cannot be written.

The rule, for every command: an output that exists is replaced only when Crepitus wrote it, which
its content tells, or when the person says ``--overwrite``. What a person edits (answers, labels)
needs ``--overwrite`` whoever wrote it, a folder is new or empty, and an input is never an output.
"""

from __future__ import annotations

import csv
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any

from audio_pipeline.app.text import json_text
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.files import PARTIAL_PATTERN, csv_cell, csv_text, whole_file, whole_text

PAGE_ENDINGS = (".html", ".htm")
GENERATOR = "Crepitus"
"""Begins the generator mark of our pages: ``<meta name="generator" content="Crepitus 0.1.0">``."""

_PAGE_START = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    f'<meta name="generator" content="{GENERATOR} '
).encode()

_LONGEST_HEADER = 2**20
"""Bytes of the first line of a table; 1,000 labels make 50 kB of it."""

_LARGEST_TABLE = 64 << 20

_ROWS_AT_ONCE = 20_000
"""Rows of a Parquet table in memory."""

Recogniser = Callable[[Path], bool]
"""Tells whether Crepitus wrote a regular file; may raise OSError or ValueError for "no"."""


def check_output(
    path: str | os.PathLike[str],
    ours: Recogniser | None = None,
    *,
    endings: Sequence[str] = (),
    inputs: Iterable[str | bytes | os.PathLike[str] | None] = (),
    overwrite: bool = False,
) -> None:
    """Refuse an output that would cost a person something; called before any work.

    ``ours``: tells whether Crepitus wrote what is there; None for what a person edits.
    ``endings``: how the name must end, in any case; empty for any name.
    ``inputs``: what the command reads; None is left out.
    ``overwrite``: whether the person said so. An input is no output all the same.
    Raises InvalidInputError: names the file and says what to do.
    """
    target = Path(path)
    name = os.fspath(path)
    if endings and target.suffix.lower() not in endings:
        raise InvalidInputError(f"{name}: the name must end in {' or '.join(endings)}")
    if "\0" in name:
        raise InvalidInputError(f"{name}: a file name cannot hold a NUL character")
    try:
        if not target.parent.is_dir():
            raise InvalidInputError(f"{name}: there is no folder {target.parent}; make it first")
        if _is_among(target, inputs):
            raise InvalidInputError(f"{name} is an input of this command; give another output")
        try:
            state = target.lstat()
        except FileNotFoundError:
            return
        if stat.S_ISDIR(state.st_mode) or target.is_dir():
            raise InvalidInputError(f"{name} is a folder; give a file name in it")
        if not (stat.S_ISREG(state.st_mode) or stat.S_ISLNK(state.st_mode)):
            raise InvalidInputError(f"{name} is no ordinary file; give another name")
    except OSError as error:
        raise InvalidInputError(f"{name}: cannot be written: {error.strerror or error}") from None
    if overwrite:
        return
    if not (stat.S_ISREG(state.st_mode) and ours is not None and _recognised(target, ours)):
        why = "already exists" if ours is None else "already exists and was not made by Crepitus"
        raise InvalidInputError(f"{name} {why}; give another name, or --overwrite to replace it")


def check_page(
    path: str | os.PathLike[str] | None,
    inputs: Iterable[str | bytes | os.PathLike[str] | None] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Do the same for a report, where one is wanted."""
    if path is not None:
        check_output(path, is_page, endings=PAGE_ENDINGS, inputs=inputs, overwrite=overwrite)


def check_new_folder(folder: Path) -> None:
    """Refuse a folder that holds anything, or that cannot be made."""
    try:
        if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
            raise InvalidInputError(
                f"{folder} already exists and is not an empty folder; name one that is new or empty"
            )
        above = next(one for one in (folder, *folder.absolute().parents) if one.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise InvalidInputError(f"{folder}: cannot write in the folder {above}")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{folder}: cannot be used: {error}") from None


def is_page(path: Path) -> bool:
    """Tell whether a file is a page of ours."""
    with open(path, "rb") as file:
        return file.read(len(_PAGE_START)) == _PAGE_START


def is_table(*headers: Sequence[str]) -> Recogniser:
    """Return what tells a table with exactly the columns of one of these headers."""
    return lambda path: table_header(path) in [list(one) for one in headers]


def table_header(path: Path) -> list[str]:
    """Return the columns of a table: Parquet where its name ends so, else CSV."""
    if path.suffix.lower() == ".parquet":
        import pyarrow.parquet

        return list(pyarrow.parquet.read_schema(path).names)
    with open(path, "rb") as file:
        first = file.readline(_LONGEST_HEADER).decode("utf-8")
    return next(csv.reader([first], strict=True), [])


def write_parquet_table(
    file: IO[bytes], columns: Mapping[str, str], rows: Iterable[Sequence[Any]]
) -> int:
    """Write a Parquet table, some rows at a time; return how many rows.

    ``columns``: name to the name of a pyarrow type, like ``float64``; unknown values are null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, getattr(pa, kind)()) for name, kind in columns.items()])
    waiting, count = iter(rows), 0
    with pq.ParquetWriter(file, schema) as writer:
        while some := list(islice(waiting, _ROWS_AT_ONCE)):
            values = zip(*some, strict=True)
            arrays = [pa.array(one, kind) for one, kind in zip(values, schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(some)
    return count


@contextmanager
def written(path: Path, newline: str = "", **options: bool) -> Iterator[Any]:
    """Give a text file that appears whole or not at all.

    Raises CrepitusError when it cannot be written; what was there stays.
    """
    with writing(path), whole_text(path, newline=newline, **options) as file:
        yield file


@contextmanager
def replaced(path: Path, **options: bool) -> Iterator[Any]:
    """Give the same as a binary file."""
    with writing(path), whole_file(path, **options) as file:
        yield file


def write_text(path: Path, text: str, **options: bool) -> None:
    """Write a text as it stands."""
    with written(path, newline="\n", **options) as file:
        file.write(text)


def write_json(path: Path, document: Any, **options: bool) -> None:
    """Write one JSON document."""
    write_text(path, json_text(document, 2) + "\n", **options)


def write_page(
    path: str | os.PathLike[str],
    page: str,
    inputs: Iterable[str | bytes | os.PathLike[str] | None] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Write a page, by the rule of :func:`check_output`.

    Raises InvalidInputError when something is there that Crepitus did not write.
    """
    check_page(path, inputs, overwrite=overwrite)  # again: it may be long since the command began
    write_text(Path(path), page)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn a failing write into one line."""
    try:
        yield
    except FileExistsError:
        raise InvalidInputError(f"{os.fspath(path)} already exists; give another name") from None
    except OSError as error:
        raise CrepitusError(
            f"cannot write {os.fspath(path)}: {error.strerror or error}; what was finished is kept"
        ) from None


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a CSV table; cells that a row has not are empty, what no column names is left out."""
    write_rows(path, columns, ([str(row.get(name, "")) for name in columns] for row in rows))


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a CSV table of values as :func:`cell` puts them."""
    with row_writer(path, columns) as write:
        for row in rows:
            write(row)


@contextmanager
def row_writer(path: Path, columns: Iterable[Any]) -> Iterator[Callable[[Iterable[Any]], None]]:
    """Give what adds a row to a CSV table, which appears whole or not at all."""
    with written(path) as file:
        writer = csv.writer(file)

        def write(row: Iterable[Any]) -> None:
            writer.writerow(map(cell, row))

        write(columns)
        yield write


def cell(value: Any) -> str:
    """Return a value as the tables write it: four decimals, true or false, empty for unknown."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4f}"
    return csv_cell(value) if isinstance(value, str) else str(value)


def csv_lines(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return the lines of a CSV table."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(map(cell, row) for row in rows)
    return text.getvalue().encode()


def append_row(path: Path, cells: Iterable[str]) -> None:
    """Add a line to the end of a CSV table; what is there is never touched."""
    with writing(path), open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # an editor left the last line open
                file.write(b"\r\n")
        file.write(csv_lines([cells]))
        file.flush()
        os.fsync(file.fileno())


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Read a small CSV table whose columns a person may have moved or added to.

    Raises InvalidInputError when it cannot be read, is too large, or lacks a column.
    """
    try:
        if path.stat().st_size > _LARGEST_TABLE:
            raise InvalidInputError(f"{path} is too large (64 MB at most)")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = set(needed) - set(reader.fieldnames or ())
            if missing:
                raise InvalidInputError(f"{path} has no column {min(missing)!r}")
            return [
                {name: csv_text(text or "") for name, text in row.items() if name is not None}
                for row in reader
                if any(row.values())
            ]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{path} is not a CSV table in UTF-8: {error}") from None
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from None


def remove_leftovers(folder: Path) -> None:
    """Remove what a run that was killed while it wrote has left in a folder."""
    for path in folder.glob(PARTIAL_PATTERN):
        with suppress(OSError):
            path.unlink()


def _recognised(path: Path, ours: Recogniser) -> bool:
    try:
        return ours(path)
    except Exception:  # whatever a reader makes of what is not ours
        return False


def _is_among(target: Path, inputs: Iterable[str | bytes | os.PathLike[str] | None]) -> bool:
    """Tell whether a file is an input, by whatever path: links and hard links too."""
    place = os.path.abspath(target)
    for given in inputs:
        if given is None:
            continue
        if os.path.abspath(os.fsdecode(given)) == place:
            return True
        with suppress(OSError, ValueError):
            if os.path.samefile(target, given):
                return True
    return False
