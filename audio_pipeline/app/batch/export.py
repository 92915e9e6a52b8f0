"""Files made from the run store: tables, JSON Lines, label tracks.

The columns are the contract of ``docs/batch.md``; ``run.json`` carries their version.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from audio_pipeline.app.batch.store import Row, StoreReader
from audio_pipeline.app.outputs import (
    Recogniser,
    check_output,
    is_table,
    replaced,
    row_writer,
    table_header,
    write_parquet_table,
    writing,
    written,
)
from audio_pipeline.app.text import json_text
from audio_pipeline.audio.discovery import is_url, readable
from audio_pipeline.datasets.manifest import Region
from audio_pipeline.datasets.manifest import audacity_track as label_track
from audio_pipeline.exceptions import InvalidInputError

SCHEMA_VERSION = 1

_LARGEST_RUN = 2**26
"""Bytes of a ``run.json``, or of one line of results, that are looked into."""

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
    """Write ``events.csv`` and ``recordings.csv``: of one moment, and both or neither."""
    labels = store.labels
    with (
        row_writer(out / "events.csv", event_columns(labels)) as write_event,
        row_writer(out / "recordings.csv", RECORDING_COLUMNS) as write_recording,
    ):
        for row in store.rows():
            write_recording(recording_values(row))
            for values in event_values(row, labels):
                write_event(values)


def write_json_lines(store: StoreReader, out: Path) -> None:
    """Write ``recordings.jsonl``: an entry of ``analyze --json`` a line."""
    with written(out / "recordings.jsonl", newline="\n") as file:
        for row in store.rows():
            file.write(json_text(row.document) + "\n")


def write_parquet(store: StoreReader, out: Path) -> None:
    """Write ``events.parquet`` and ``recordings.parquet``; unknown values are null."""
    kinds = {"sample_rate": "int32", "impacts": "int32", "uncertain": "bool_"}
    kinds |= dict.fromkeys(("duration", "start", "end", "confidence"), "float64")
    kinds |= {f"p_{label}": "float64" for label in store.labels}
    events = (values for row in store.rows() for values in event_values(row, store.labels))
    for name, columns, rows in (
        ("recordings", RECORDING_COLUMNS, map(recording_values, store.rows())),
        ("events", event_columns(store.labels), events),
    ):
        with replaced(out / f"{name}.parquet") as file:
            write_parquet_table(file, {one: kinds.get(one, "string") for one in columns}, rows)


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

    ``batch``: whether a batch writes them: the tables always, and ``run.json``.
    ``answers``: whether recommendations will be written too.
    ``overwrite``: whether the person said so.
    Raises InvalidInputError, which names the file; see :func:`check_output`.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise InvalidInputError(f"cannot make the folder {out}: a file has this name")
    if not out.is_dir():
        return
    formats = tuple(dict.fromkeys(("csv", *formats) if batch else formats))
    given = tuple(inputs)
    files: dict[str, Recogniser] = {"run.json": _is_run} if batch else {}
    for kind in ("csv", "parquet"):
        if kind in formats:
            files[f"events.{kind}"] = _is_event_table
            files[f"recordings.{kind}"] = is_table(RECORDING_COLUMNS)
    if "jsonl" in formats:
        files["recordings.jsonl"] = _is_json_lines
    if answers:
        files["recommendations.csv"] = is_table(RECOMMENDATION_COLUMNS)
    for name, ours in files.items():
        check_output(out / name, ours, inputs=given, overwrite=overwrite)
    for name in formats:
        if name in KINDS and not overwrite:
            check_labels(out, name)


def _is_event_table(path: Path) -> bool:
    """Tell whether the columns are :func:`event_columns` for some labels."""
    names = table_header(path)
    labels = (name.removeprefix("p_") for name in names[4:-2] if name.startswith("p_"))
    return tuple(names) == event_columns(labels)


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


def parse_formats(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of formats, each once; a text is a list like ``csv,raven``.

    Raises InvalidInputError for an unknown format, or one whose package is not installed.
    """
    parts = given.split(",") if isinstance(given, str) else map(str, given)
    names = tuple(dict.fromkeys(name.strip().lower() for name in parts if name.strip()))
    for name in names:
        if name not in FORMATS:
            raise InvalidInputError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    if "parquet" in names and importlib.util.find_spec("pyarrow") is None:
        raise InvalidInputError("the format parquet needs pyarrow: pip install 'crepitus[parquet]'")
    return names


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
    return label_track(
        Region(event["start"], event["end"], event["label"] + ("?" if event["uncertain"] else ""))
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


KINDS: dict[str, tuple[str, Callable[[Row], str]]] = {
    "audacity": (".txt", audacity_track),
    "raven": (".Table.1.selections.txt", raven_table),
}


def write_labels(kind: str, store: StoreReader, out: Path, overwrite: bool = False) -> None:
    """Write a file for every recording that was analysed, in a mirror of their folders.

    The file of ``rec/a.wav`` is ``OUT/audacity/rec/a.wav.txt`` or
    ``OUT/raven/rec/a.wav.Table.1.selections.txt``.

    Raises InvalidInputError when a file is in the way that a person made or changed, unless
    `overwrite`; CrepitusError when one cannot be written.
    """
    folder = out / kind
    known = _Known(folder)
    inside = os.fsencode(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with known.noting() as note:
        files = _label_files(kind, store, lambda row: os.path.join(inside, mirrored(row.name)))
        for path, content in files:
            if not _differs(path, content):
                continue
            if not (overwrite or known.wrote(path)):
                raise _in_the_way(path)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            note(path, content)
            with replaced(path) as file:
                file.write(content)


def _label_files(
    kind: str, store: StoreReader, place: Callable[[Row], bytes]
) -> Iterator[tuple[Path, bytes]]:
    """Yield where the file of each recording goes, as `place` says but for its ending, and it."""
    ending, text = KINDS[kind]
    for row in store.rows(status="ok"):
        yield _named(place(row), ending), text(row).encode()


def check_labels(out: Path, kind: str) -> None:
    """Refuse, before any work, when a person made or changed a label file."""
    folder = out / kind
    known = _Known(folder)
    for path in sorted(folder.rglob(f"*{KINDS[kind][0]}")):
        if not known.wrote(path):
            raise _in_the_way(path)


def write_labels_beside(store: StoreReader, kind: str, *, overwrite: bool = False) -> None:
    """Write the same files beside the recordings, where programs look for them.

    Raises InvalidInputError before anything is written, when another file is in the way (unless
    `overwrite`) or a recording is a URL.
    """

    def beside(row: Row) -> bytes:
        if is_url(row.path):
            raise InvalidInputError(
                f"no file can be put beside {row.recording!r}: leave out --beside"
            )
        return row.path

    for path, content in _label_files(kind, store, beside):
        if not overwrite and os.path.lexists(path) and _differs(path, content):
            raise _in_the_way(path)
    for path, content in _label_files(kind, store, beside):
        if _differs(path, content):
            with replaced(path, replace=overwrite) as file:
                file.write(content)


def _differs(path: Path, content: bytes) -> bool:
    """Tell whether a file holds anything else, or is not there."""
    try:
        return path.is_symlink() or path.read_bytes() != content
    except OSError:
        return True


def _in_the_way(path: Path) -> InvalidInputError:
    return InvalidInputError(
        f"{readable(os.fsencode(path))!r} is already there, and a person made or changed it: "
        "move it, or replace it with --overwrite"
    )


class _Known:
    """What was written into a folder of label files: a digest of each name with its content.

    Label files are there to be edited, and nothing in them tells who wrote them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._list = folder.with_name(f".{folder.name}-written")
        self._digests: set[bytes] = set()
        with suppress(OSError), open(self._list, "rb") as file:
            self._digests = {line.rstrip() for line in file}

    def wrote(self, path: Path) -> bool:
        """Tell whether a file is as it was written, or is not there at all."""
        if not os.path.lexists(path):
            return True
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                return self._digest(path, path.read_bytes()) in self._digests
        return False

    @contextmanager
    def noting(self) -> Iterator[Callable[[Path, bytes], None]]:
        """Give what notes a file that is about to be written."""
        with writing(self._list):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(self._list, flags, 0o666), "ab") as file:

                def note(path: Path, content: bytes) -> None:
                    digest = self._digest(path, content)
                    self._digests.add(digest)
                    file.write(digest + b"\n")
                    file.flush()

                yield note

    def _digest(self, path: Path, content: bytes) -> bytes:
        name = os.fsencode(path.relative_to(self._folder))
        return hashlib.sha256(name + b"\0" + content).hexdigest()[:32].encode()


def _named(recording: bytes, ending: str) -> Path:
    """Return the path of a recording with an ending, its name shortened where it has to be."""
    folder, name = os.path.split(recording)
    if len(name) + len(ending) > _LONGEST_NAME:
        mark = hashlib.sha256(name).hexdigest()[:16].encode()
        kept = name[: _LONGEST_NAME - len(ending) - len(mark) - 1]
        name = kept + b"-" + mark
    return Path(os.fsdecode(os.path.join(folder, name))).with_name(os.fsdecode(name) + ending)


def mirrored(name: bytes) -> bytes:
    """Return a relative path for files made from a recording; it never leaves its folder.

    Absolute paths lose their root, URLs their ``://``, and every ``..`` becomes ``__``.

    Examples
    --------
    >>> mirrored(b"/data/../a.wav"), mirrored(b"http://host:80/a.wav")
    (b'data/__/a.wav', b'http/host_80/a.wav')
    """
    if is_url(name):
        name = name.replace(b"://", b"/", 1).replace(b":", b"_").replace(b"?", b"_")
    elif os.sep != "/":
        name = name.replace(os.fsencode(os.sep), b"/").replace(b":", b"")
    steps = [step for step in name.split(b"/") if step not in (b"", b".")]
    return b"/".join(b"__" if step == b".." else step for step in steps)


FORMATS: dict[str, Callable[..., None]] = {
    "csv": lambda store, out, overwrite=False: write_tables(store, out),
    "parquet": lambda store, out, overwrite=False: write_parquet(store, out),
    "jsonl": lambda store, out, overwrite=False: write_json_lines(store, out),
    "audacity": partial(write_labels, "audacity"),
    "raven": partial(write_labels, "raven"),
}
"""Each writes a store into a folder; ``overwrite``: also over labels a person made or changed."""
