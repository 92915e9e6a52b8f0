"""The feature table as a file, for those who model elsewhere."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from audio_pipeline.analysis.config import AnalysisSettings
from audio_pipeline.analysis.pipeline import Extraction, extract, printable
from audio_pipeline.exceptions import CrepitusError, RefusedError
from audio_pipeline.features.registry import FEATURE_NAMES

COLUMNS = ("recording", "start", "end", "n_impacts", *FEATURE_NAMES)


def write_features(
    sources: Sequence[Path],
    table: Path,
    settings: AnalysisSettings,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, list[Extraction]]:
    """Write a row for every segment found: CSV, or Parquet where the name ends so.

    Parameters
    ----------
    sources : sequence of Path
    table : Path
        An existing file is replaced, once all recordings are done.
    settings : AnalysisSettings
    progress : callable or None
        Called with (done, total).

    Returns
    -------
    (rows, failed)
        The number of rows, and the recordings that could not be read.

    Raises
    ------
    RefusedError
        When the name ends in neither ``.csv`` nor ``.parquet``, or Parquet is not installed.
    CrepitusError
        When the file cannot be written.
    """
    kind = table.suffix.lower()
    if kind not in {".csv", ".parquet"}:
        raise RefusedError(f"{table} must end in .csv or .parquet")
    if kind == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise RefusedError("Parquet needs pyarrow: pip install 'crepitus[parquet]'")
    failed: list[Extraction] = []

    def rows() -> Iterator[tuple[Any, ...]]:
        for number, source in enumerate(sources, start=1):
            extraction = extract(source, settings)
            if extraction.status != "ok":
                failed.append(extraction)
            yield from _rows(extraction)
            if progress:
                progress(number, len(sources))

    partial = table.with_name(table.name + ".part")
    try:
        count = (_write_csv if kind == ".csv" else _write_parquet)(partial, rows())
        partial.replace(table)
    except OSError as error:
        raise CrepitusError(f"cannot write {table}: {error.strerror}") from None
    return count, failed


def _rows(extraction: Extraction) -> Iterator[tuple[Any, ...]]:
    name = printable(extraction.source)
    for segment, row in zip(extraction.segments, extraction.table, strict=True):
        yield name, segment.start, segment.end, len(segment.impacts), *row.tolist()


def _write_csv(path: Path, rows: Iterator[tuple[Any, ...]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(COLUMNS)
        for name, start, end, impacts, *values in rows:
            shown = [f"{value:.7g}" for value in values]
            writer.writerow([name, f"{start:.4f}", f"{end:.4f}", impacts, *shown])
            count += 1
    return count


def _write_parquet(path: Path, rows: Iterator[tuple[Any, ...]]) -> int:
    import pyarrow
    import pyarrow.parquet

    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    types = [pyarrow.string(), pyarrow.float64(), pyarrow.float64(), pyarrow.int64()]
    types += [pyarrow.float32()] * len(FEATURE_NAMES)
    arrays = [pyarrow.array(column, type=kind) for column, kind in zip(columns, types, strict=True)]
    pyarrow.parquet.write_table(pyarrow.table(dict(zip(COLUMNS, arrays, strict=True))), path)
    return len(columns[0])
