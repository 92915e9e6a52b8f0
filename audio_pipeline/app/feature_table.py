"""The feature table as a file, for those who model elsewhere."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction, extract, printable
from audio_pipeline.app.outputs import check_output, is_table, parquet_header, replaced
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.files import csv_cell

if TYPE_CHECKING:
    from sklearn.utils import Bunch

COLUMNS = ("recording", "start", "end", "n_impacts", *FEATURE_NAMES)
LABELLED_COLUMNS = ("recording", "start", "end", "label", "group", *FEATURE_NAMES)


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
    ours = is_table(COLUMNS, LABELLED_COLUMNS) if is_csv else _is_our_parquet
    check_output(table, ours, endings=(".csv", ".parquet"), inputs=inputs, overwrite=overwrite)


def _is_our_parquet(path: Path) -> bool:
    return parquet_header(path) in (list(COLUMNS), list(LABELLED_COLUMNS))


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

    count = _write(table, COLUMNS, rows(), sources, overwrite)
    return count, failed


def write_labelled_features(
    examples: Bunch, table: Path, inputs: Sequence[Path], *, overwrite: bool = False
) -> int:
    """Write the sounds of a labelled dataset with their label and group.

    Parameters
    ----------
    examples : Bunch
        As :func:`~audio_pipeline.datasets.loading.load_examples` returns it.
    table : Path
    inputs : sequence of Path
        What was read, and is never written over.
    overwrite : bool

    Returns
    -------
    int
        The number of rows.
    """
    texts = zip(
        map(printable, examples.recording.tolist()),
        examples.start.tolist(),
        examples.end.tolist(),
        examples.target.tolist(),
        map(printable, examples.groups.tolist()),
        strict=True,
    )
    rows = ((*text, *row.tolist()) for text, row in zip(texts, examples.data, strict=True))
    return _write(table, LABELLED_COLUMNS, rows, inputs, overwrite)


def _write(
    table: Path,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    inputs: Sequence[Path],
    overwrite: bool,
) -> int:
    write = _write_csv if table.suffix.lower() == ".csv" else _write_parquet
    with replaced(table) as file:
        count = write(file, columns, rows)
        check_table(table, inputs, overwrite=overwrite)  # again: that took its time
    return count


def _rows(extraction: Extraction) -> Iterator[tuple[Any, ...]]:
    name = printable(extraction.source)
    for segment, row in zip(extraction.segments, extraction.table, strict=True):
        yield name, segment.start, segment.end, len(segment.impacts), *row.tolist()


def _cell(value: str | float | int) -> str | int:
    if isinstance(value, str):
        return csv_cell(value)
    return value if isinstance(value, int) else f"{value:.4f}"


def _write_csv(file: IO[bytes], columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> int:
    count, n_features = 0, len(FEATURE_NAMES)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        facts = map(_cell, row[:-n_features])
        writer.writerow([*facts, *(f"{value:.7g}" for value in row[-n_features:])])
        count += 1
    text.detach()
    return count


def _write_parquet(file: IO[bytes], columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> int:
    import pyarrow
    import pyarrow.parquet

    values = list(zip(*rows, strict=True)) or [()] * len(columns)
    kinds = {"start": pyarrow.float64(), "end": pyarrow.float64(), "n_impacts": pyarrow.int64()}
    kinds |= dict.fromkeys(("recording", "label", "group"), pyarrow.string())
    arrays = {
        name: pyarrow.array(column, type=kinds.get(name, pyarrow.float32()))
        for name, column in zip(columns, values, strict=True)
    }
    pyarrow.parquet.write_table(pyarrow.table(arrays), file)
    return len(values[0])
