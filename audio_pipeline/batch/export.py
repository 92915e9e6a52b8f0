"""Files made from the run store: tables, JSON Lines, label tracks.

Every file is written beside its place and moved there when it is whole, so that a reader never
meets half of one. The columns are the contract of ``docs/batch.md``; ``run.json`` carries their
version.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from audio_pipeline.batch.names import mirrored, readable
from audio_pipeline.batch.store import Row, StoreReader
from audio_pipeline.errors import CrepitusError, RefusedError

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
    labels = store.fact("key")["labels"]
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
    from audio_pipeline.batch.parquet import write_parquet_tables

    write_parquet_tables(store, out)


def write_audacity(store: StoreReader, out: Path) -> None:
    """Write an Audacity label track for every recording, in a mirror of their folders."""
    for row in store.rows(status="ok"):
        lines = (
            f"{event['start']:.6f}\t{event['end']:.6f}\t{_title(event)}\n"
            for event in row.document["events"]
        )
        _write_mirrored(out / "audacity", row, ".txt", "".join(lines))


_RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Begin File",
    "Label",
    "Score",
    "Uncertain",
)


def write_raven(store: StoreReader, out: Path) -> None:
    """Write a Raven selection table for every recording, in a mirror of their folders."""
    for row in store.rows(status="ok"):
        lines = ["\t".join(_RAVEN_COLUMNS)]
        top = row.document["sample_rate"] / 2
        file_name = " ".join(readable(os.path.basename(row.name)).split())
        for number, event in enumerate(row.document["events"], start=1):
            score = event["probabilities"][event["label"]]
            lines.append(
                f"{number}\tSpectrogram 1\t1\t{event['start']:.4f}\t{event['end']:.4f}\t0.0\t"
                f"{top:.1f}\t{file_name}\t{event['label']}\t{score:.4f}\t{cell(event['uncertain'])}"
            )
        _write_mirrored(out / "raven", row, ".Table.1.selections.txt", "\n".join(lines) + "\n")


def _title(event: dict[str, Any]) -> str:
    """Return an event's label, with a question mark where it is unsure."""
    return str(event["label"]) + ("?" if event["uncertain"] else "")


def _write_mirrored(top: Path, row: Row, ending: str, text: str) -> None:
    """Write a file named after a recording, in a mirror of its folders."""
    path = Path(os.fsdecode(os.path.join(os.fsencode(top), mirrored(row.name))))
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with written(path.with_name(path.name + ending), newline="\n") as file:
        file.write(text)


FORMATS: dict[str, Callable[[StoreReader, Path], None]] = {
    "csv": write_tables,
    "parquet": write_parquet,
    "jsonl": write_json_lines,
    "audacity": write_audacity,
    "raven": write_raven,
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
    if "parquet" in names:
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise RefusedError(
                "the format parquet needs pyarrow: pip install 'crepitus[parquet]'"
            ) from None
    return names


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
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _explained(path):
            with open(partial, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn a failing write into one line."""
    try:
        yield
    except OSError as error:
        raise CrepitusError(
            f"cannot write {readable(os.fsencode(path))!r}: {error.strerror or error}; "
            "what is finished is kept, the same command goes on from there"
        ) from None
