"""The feature table as a file, for those who model elsewhere."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction, extract, printable
from audio_pipeline.app.outputs import check_output, is_parquet, is_table, replaced
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.table import FEATURE_NAMES
from audio_pipeline.files import csv_cell

COLUMNS = ("recording", "start", "end", "n_impacts", *FEATURE_NAMES)


def check_table(
    table: Path,
    inputs: Iterable[str | os.PathLike[str]] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Refuse a table that cannot be written, or that is somebody's; called before any work.

    Raises
    ------
    InvalidInputError
        As :func:`check_output`; also when Parquet is not installed.
    """
    is_csv = table.suffix.lower() != ".parquet"
    if not is_csv and importlib.util.find_spec("pyarrow") is None:
        raise InvalidInputError("Parquet needs pyarrow: pip install 'crepitus[parquet]'")
    ours = is_table(COLUMNS) if is_csv else is_parquet(COLUMNS)
    check_output(table, ours, endings=(".csv", ".parquet"), inputs=inputs, overwrite=overwrite)


def write_features(
    sources: Sequence[Path],
    table: Path,
    settings: AnalysisConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    overwrite: bool = False,
) -> tuple[int, list[Extraction]]:
    """Write a row for every segment found: CSV, or Parquet where the name ends so.

    Parameters
    ----------
    sources : sequence of Path
    table : Path
        Written once all recordings are done.
    settings : AnalysisConfig
    progress : callable or None
        Called with (done, total).
    overwrite : bool
        Replace a file that is there, whoever made it; else only such a table of ours.

    Returns
    -------
    (rows, failed)
        The number of rows, and the recordings that could not be read.

    Raises
    ------
    InvalidInputError
        As `check_table`.
    CrepitusError
        When the file cannot be written.
    """
    check_table(table, sources, overwrite=overwrite)
    failed: list[Extraction] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, source in enumerate(sources, start=1):
            extraction = extract(source, settings)
            if extraction.status != "ok":
                failed.append(extraction)
            yield from _rows(extraction)
            if progress:
                progress(number, len(sources))

    write = _write_csv if table.suffix.lower() == ".csv" else _write_parquet
    with replaced(table) as file:
        count = write(file, rows())
        check_table(table, sources, overwrite=overwrite)  # again: that took its time
    return count, failed


def _rows(extraction: Extraction) -> Iterator[tuple[Any, ...]]:
    name = printable(extraction.source)
    for segment, row in zip(extraction.segments, extraction.table, strict=True):
        yield name, segment.start, segment.end, len(segment.impacts), *row.tolist()


def _write_csv(file: IO[bytes], rows: Iterator[tuple[Any, ...]]) -> int:
    count = 0
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for name, start, end, impacts, *values in rows:
        shown = [f"{value:.7g}" for value in values]
        writer.writerow([csv_cell(name), f"{start:.4f}", f"{end:.4f}", impacts, *shown])
        count += 1
    text.detach()
    return count


def _write_parquet(file: IO[bytes], rows: Iterator[tuple[Any, ...]]) -> int:
    import pyarrow
    import pyarrow.parquet

    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    types = [pyarrow.string(), pyarrow.float64(), pyarrow.float64(), pyarrow.int64()]
    types += [pyarrow.float32()] * len(FEATURE_NAMES)
    arrays = [pyarrow.array(column, type=kind) for column, kind in zip(columns, types, strict=True)]
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(COLUMNS, arrays, strict=True))), file)
    return len(columns[0])
