"""Files made from the run store: tables, JSON Lines, label tracks.

The columns are the contract of ``docs/batch.md``; ``run.json`` carries their version.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from audio_pipeline.app.batch.label_files import KINDS, check_labels, write_labels
from audio_pipeline.app.batch.store import Row, StoreReader
from audio_pipeline.app.outputs import (
    Recogniser,
    check_output,
    is_parquet,
    is_table,
    parquet_header,
    replaced,
    table_header,
    written,
)
from audio_pipeline.app.text import json_text
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.files import csv_cell

SCHEMA_VERSION = 1

_LARGEST_RUN = 2**26
"""Bytes of a ``run.json``, or of one line of results, that are looked into."""

_ROWS_AT_ONCE = 20_000
"""Rows of a Parquet table in memory."""

RECORDING_COLUMNS = (
    "recording",
    "status",
    "duration",
    "sample_rate",
    "finding",
    "confidence",
    "quality_warnings",
    "error",
)


RECOMMENDATION_COLUMNS = ("recording", "level", "incomplete", "no_self_manipulation", "rules")


def event_columns(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the columns of the event table for a model's labels."""
    probabilities = (f"p_{label}" for label in labels)
    return ("recording", "start", "end", "label", *probabilities, "uncertain", "impacts")


def recording_values(row: Row) -> tuple[Any, ...]:
    """Return a recording's values for :data:`RECORDING_COLUMNS`, None where unknown."""
    document = row.document
    finding = document["finding"] or {"label": None, "confidence": None}
    quality = document["quality"] or {"warnings": []}
    return (
        row.recording,
        document["status"],
        document["duration"],
        document["sample_rate"],
        finding["label"],
        finding["confidence"],
        ";".join(dict.fromkeys(warning["code"] for warning in quality["warnings"])),
        document["error"],
    )


def event_values(row: Row, labels: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of a recording's events for :func:`event_columns`."""
    for event in sorted(row.document["events"], key=lambda event: (event["start"], event["end"])):
        yield (
            row.recording,
            event["start"],
            event["end"],
            event["label"],
            *(event["probabilities"][label] for label in labels),
            event["uncertain"],
            event["impacts"],
        )


def write_tables(store: StoreReader, out: Path) -> None:
    """Write ``events.csv`` and ``recordings.csv``."""
    labels = store.labels
    with written(out / "events.csv") as events, written(out / "recordings.csv") as recordings:
        event_table = csv.writer(events)
        event_table.writerow(map(cell, event_columns(labels)))
        recording_table = csv.writer(recordings)
        recording_table.writerow(RECORDING_COLUMNS)
        for row in store.rows():
            recording_table.writerow(map(cell, recording_values(row)))
            for values in event_values(row, labels):
                event_table.writerow(map(cell, values))


def cell(value: Any) -> str:
    """Return a value as the tables write it: four decimals, true or false, empty for unknown."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4f}"
    return csv_cell(value) if isinstance(value, str) else str(value)


def write_json_lines(store: StoreReader, out: Path) -> None:
    """Write ``recordings.jsonl``: an entry of ``analyze --json`` a line."""
    with written(out / "recordings.jsonl", newline="\n") as file:
        for row in store.rows():
            file.write(json_text(row.document) + "\n")


def write_parquet(store: StoreReader, out: Path) -> None:
    """Write ``events.parquet`` and ``recordings.parquet``; unknown values are null."""
    events = (values for row in store.rows() for values in event_values(row, store.labels))
    recordings = map(recording_values, store.rows())
    _write_parquet(out / "recordings.parquet", RECORDING_COLUMNS, recordings)
    _write_parquet(out / "events.parquet", event_columns(store.labels), events)


def _write_parquet(path: Path, columns: Sequence[str], rows: Iterator[tuple[Any, ...]]) -> None:
    """Write one table, some rows at a time, with real types instead of text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"sample_rate": pa.int32(), "impacts": pa.int32(), "uncertain": pa.bool_()}
    kinds |= dict.fromkeys(("duration", "start", "end", "confidence"), pa.float64())
    kinds |= {name: pa.float64() for name in columns if name.startswith("p_")}
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in columns])
    with replaced(path) as file, pq.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            values = zip(*some, strict=True)
            arrays = [pa.array(one, kind) for one, kind in zip(values, schema.types, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


FORMATS: dict[str, Callable[..., None]] = {
    "csv": lambda store, out, overwrite=False: write_tables(store, out),
    "parquet": lambda store, out, overwrite=False: write_parquet(store, out),
    "jsonl": lambda store, out, overwrite=False: write_json_lines(store, out),
    "audacity": partial(write_labels, "audacity"),
    "raven": partial(write_labels, "raven"),
}
"""Each writes a store into a folder; ``overwrite``: also over labels a person made or changed."""


def check_exports(
    out: Path,
    formats: Iterable[str],
    inputs: Iterable[str | None] = (),
    *,
    batch: bool = False,
    answers: bool = False,
    overwrite: bool = False,
) -> None:
    """Refuse, before any work, to write over what is a person's in an output folder.

    Parameters
    ----------
    out
        The folder.
    formats
        Of :data:`FORMATS`.
    inputs
        What the command reads.
    batch
        Whether a batch writes them: the tables always, and ``run.json``.
    answers
        Whether recommendations will be written too.
    overwrite
        Whether the person said so.

    Raises
    ------
    InvalidInputError
        Names the file; see :func:`check_output`.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise InvalidInputError(f"cannot make the folder {out}: a file has this name")
    if not out.is_dir():
        return
    formats = tuple(dict.fromkeys(("csv", *formats) if batch else formats))
    given = tuple(inputs)
    files: dict[str, Recogniser] = {"run.json": _is_run} if batch else {}
    if "csv" in formats:
        files |= {"events.csv": _is_event_table, "recordings.csv": is_table(RECORDING_COLUMNS)}
    if "jsonl" in formats:
        files["recordings.jsonl"] = _is_json_lines
    if "parquet" in formats:
        files["recordings.parquet"] = is_parquet(RECORDING_COLUMNS)
        files["events.parquet"] = _is_event_parquet
    if answers:
        files["recommendations.csv"] = is_table(RECOMMENDATION_COLUMNS)
    for name, ours in files.items():
        check_output(out / name, ours, inputs=given, overwrite=overwrite)
    for name in formats:
        if name in KINDS and not overwrite:
            check_labels(out, name)


def _is_event_header(names: Sequence[str]) -> bool:
    """Tell whether these are :func:`event_columns` for some labels."""
    return tuple(names) == event_columns(
        name.removeprefix("p_") for name in names[4:-2] if name.startswith("p_")
    )


def _is_event_table(path: Path) -> bool:
    return _is_event_header(table_header(path))


def _is_event_parquet(path: Path) -> bool:
    return _is_event_header(parquet_header(path))


def _is_run(path: Path) -> bool:
    if path.stat().st_size > _LARGEST_RUN:
        return False
    document = json.loads(path.read_text(encoding="utf-8"))
    return str(document["software"]).startswith("crepitus ") and "counts" in document


def _is_json_lines(path: Path) -> bool:
    """Tell a file of results by its first one; an empty one holds nothing to lose."""
    with open(path, "rb") as file:
        first = file.readline(_LARGEST_RUN)
    return not first or {"source", "status", "quality", "finding"} <= json.loads(first).keys()


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the names in a list like ``csv,raven``, each once.

    Raises
    ------
    InvalidInputError
        For an unknown format, or one whose package is not installed.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FORMATS:
            raise InvalidInputError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    if "parquet" in names and importlib.util.find_spec("pyarrow") is None:
        raise InvalidInputError("the format parquet needs pyarrow: pip install 'crepitus[parquet]'")
    return names
