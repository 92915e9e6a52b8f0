"""Files made from the run store: tables, JSON Lines, label tracks.

The columns are the contract of ``docs/batch.md``; ``run.json`` carries their version.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from audio_pipeline.app.batch.files import written
from audio_pipeline.app.batch.label_files import write_labels
from audio_pipeline.app.batch.store import Row, StoreReader
from audio_pipeline.exceptions import RefusedError

SCHEMA_VERSION = 1

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
        event_table.writerow(event_columns(labels))
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
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def write_json_lines(store: StoreReader, out: Path) -> None:
    """Write ``recordings.jsonl``: an entry of ``analyze --json`` a line."""
    with written(out / "recordings.jsonl", newline="\n") as file:
        for row in store.rows():
            file.write(json.dumps(row.document, ensure_ascii=False) + "\n")


def write_parquet(store: StoreReader, out: Path) -> None:
    """Write ``events.parquet`` and ``recordings.parquet``, columns as in the CSV tables."""
    from audio_pipeline.app.batch.parquet import write_parquet_tables

    write_parquet_tables(store, out)


FORMATS: dict[str, Callable[[StoreReader, Path], None]] = {
    "csv": write_tables,
    "parquet": write_parquet,
    "jsonl": write_json_lines,
    "audacity": partial(write_labels, kind="audacity"),
    "raven": partial(write_labels, kind="raven"),
}


def parse_formats(text: str) -> tuple[str, ...]:
    """Return the names in a list like ``csv,raven``, each once.

    Raises
    ------
    RefusedError
        For an unknown format, or one whose package is not installed.
    """
    names = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in FORMATS:
            raise RefusedError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    if "parquet" in names and importlib.util.find_spec("pyarrow") is None:
        raise RefusedError("the format parquet needs pyarrow: pip install 'crepitus[parquet]'")
    return names
