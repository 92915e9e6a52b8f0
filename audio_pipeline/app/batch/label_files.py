"""Label tracks for Audacity and selection tables for Raven, a file a recording."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audio_pipeline.app.batch.store import Row, StoreReader
from audio_pipeline.app.outputs import replaced, writing
from audio_pipeline.audio.discovery import is_url, readable
from audio_pipeline.exceptions import InvalidInputError

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


def write_labels(kind: str, store: StoreReader, out: Path, overwrite: bool = False) -> None:
    """Write a file for every recording that was analysed, in a mirror of their folders.

    The file of ``rec/a.wav`` is ``OUT/audacity/rec/a.wav.txt`` or
    ``OUT/raven/rec/a.wav.Table.1.selections.txt``.

    Raises
    ------
    InvalidInputError
        When a file is in the way that a person made or changed, unless `overwrite`.
    CrepitusError
        When one cannot be written.
    """
    ending, text = KINDS[kind]
    folder = out / kind
    known = _Known(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with known.noting() as note:
        for row in store.rows(status="ok"):
            path = _named(os.path.join(os.fsencode(folder), mirrored(row.name)), ending)
            content = text(row).encode()
            if not _differs(path, content):
                continue
            if not (overwrite or known.wrote(path)):
                raise _in_the_way(path)
            with writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
            note(path, content)
            with replaced(path) as file:
                file.write(content)


def check_labels(out: Path, kind: str) -> None:
    """Refuse, before any work, when a person made or changed a label file.

    Raises
    ------
    InvalidInputError
        Names the first of them.
    """
    folder = out / kind
    known = _Known(folder)
    for path in sorted(folder.rglob(f"*{KINDS[kind][0]}")):
        if not known.wrote(path):
            raise _in_the_way(path)


def write_labels_beside(store: StoreReader, kind: str, *, overwrite: bool = False) -> None:
    """Write the same files beside the recordings, where programs look for them.

    Raises
    ------
    InvalidInputError
        Before anything is written, when another file is in the way (unless `overwrite`) or a
        recording is a URL.
    """
    ending, text = KINDS[kind]
    for row in store.rows(status="ok"):
        if is_url(row.path):
            raise InvalidInputError(
                f"no file can be put beside {row.recording!r}: leave out --beside"
            )
        path = _named(row.path, ending)
        if not overwrite and os.path.lexists(path) and _differs(path, text(row).encode()):
            raise _in_the_way(path)
    for row in store.rows(status="ok"):
        path, content = _named(row.path, ending), text(row).encode()
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
        if path.is_symlink() or not path.is_file():
            return False
        try:
            return self._digest(path, path.read_bytes()) in self._digests
        except OSError:
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
