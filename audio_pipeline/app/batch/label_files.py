"""Label tracks for Audacity and selection tables for Raven, a file a recording."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from audio_pipeline.app.batch.files import writing, written
from audio_pipeline.app.batch.names import mirrored
from audio_pipeline.app.batch.store import Row, StoreReader
from audio_pipeline.audio.discovery import is_url, readable
from audio_pipeline.exceptions import RefusedError

RAVEN_COLUMNS = (
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

_LONGEST_NAME = 255
"""Bytes of a file name on the usual file systems."""


def audacity_track(row: Row) -> str:
    """Return an Audacity label track: start, end, label with a question mark where unsure."""
    return "".join(
        f"{event['start']:.6f}\t{event['end']:.6f}\t{_title(event)}\n"
        for event in row.document["events"]
    )


def raven_table(row: Row) -> str:
    """Return a Raven selection table; ``Score`` is the probability of the label."""
    highest = row.document["sample_rate"] / 2
    file_name = " ".join(readable(os.path.basename(row.name)).split())
    lines = ["\t".join(RAVEN_COLUMNS)]
    for number, event in enumerate(row.document["events"], start=1):
        score = event["probabilities"][event["label"]]
        unsure = "true" if event["uncertain"] else "false"
        lines.append(
            f"{number}\tSpectrogram 1\t1\t{event['start']:.4f}\t{event['end']:.4f}\t0.0\t"
            f"{highest:.1f}\t{file_name}\t{event['label']}\t{score:.4f}\t{unsure}"
        )
    return "\n".join(lines) + "\n"


def _title(event: dict[str, Any]) -> str:
    return str(event["label"]) + ("?" if event["uncertain"] else "")


KINDS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "audacity": (".txt", audacity_track),
    "raven": (".Table.1.selections.txt", raven_table),
}


def write_labels(store: StoreReader, out: Path, kind: str) -> None:
    """Write a file for every recording that was analysed, in a mirror of their folders.

    The file of ``rec/a.wav`` is ``OUT/audacity/rec/a.wav.txt`` or
    ``OUT/raven/rec/a.wav.Table.1.selections.txt``.
    """
    ending, text = KINDS[kind]
    for row in store.rows(status="ok"):
        path = _named(os.path.join(os.fsencode(out / kind), mirrored(row.name)), ending)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with written(path, newline="\n") as file:
            file.write(text(row))


def write_labels_beside(store: StoreReader, kind: str) -> None:
    """Write the same files beside the recordings, where programs look for them.

    Raises
    ------
    RefusedError
        Before anything is written, when another file is in the way or a recording is a URL.
    """
    ending, text = KINDS[kind]
    for row in store.rows(status="ok"):
        if is_url(row.path):
            raise RefusedError(f"no file can be put beside {row.recording!r}: leave out --beside")
        path = _named(row.path, ending)
        if path.exists() and path.read_bytes() != text(row).encode():
            raise RefusedError(
                f"{readable(os.fsencode(path))!r} is already there: move it, or leave out --beside"
            )
    for row in store.rows(status="ok"):
        with written(_named(row.path, ending), newline="\n") as file:
            file.write(text(row))


def _named(recording: bytes, ending: str) -> Path:
    """Return the path of a recording with an ending, its name shortened where it has to be."""
    folder, name = os.path.split(recording)
    if len(name) + len(ending) > _LONGEST_NAME:
        mark = hashlib.sha256(name).hexdigest()[:16].encode()
        kept = name[: _LONGEST_NAME - len(ending) - len(mark) - 1]
        name = kept + b"-" + mark
    return Path(os.fsdecode(os.path.join(folder, name))).with_name(os.fsdecode(name) + ending)
