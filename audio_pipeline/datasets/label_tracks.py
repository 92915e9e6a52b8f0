"""Label tracks people correct by ear: Audacity label tracks and Raven selection tables.

Both are small tab-separated text files beside a recording. Audacity writes ``start, end, label``
in seconds, with an optional second line (starting with a backslash) for a frequency range. Raven
writes a header and a row a view, so one selection may come twice.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from audio_pipeline.exceptions import InvalidInputError

_RAVEN_LABELS: Final = ("label", "annotation", "class", "species", "type", "tags", "code")
_RAVEN_START: Final = "Begin Time (s)"
_RAVEN_END: Final = "End Time (s)"
SEGMENTS_INDEX: Final = "segments.csv"
"""What `crepitus segments` writes beside the clips: what the model guessed each to be."""

_LARGEST_TRACK: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class Region:
    """One labelled stretch of a recording.

    Attributes
    ----------
    start, end : float
        Seconds from the start of the recording, 0 <= start <= end; equal for a point label.
    label : str
        Not empty.
    """

    start: float
    end: float
    label: str


def find_track(recording: Path) -> Path | None:
    """Return the label track beside a recording, or None.

    ``twist.wav`` may have ``twist.txt`` (Audacity or Raven), ``twist.selections.txt`` or
    ``twist.Table.1.selections.txt`` (Raven), each also with the whole name, ``twist.wav.txt``.
    """
    folder, stem = recording.parent, recording.stem
    names = (
        f"{stem}.txt",
        f"{stem}.selections.txt",
        f"{stem}.Table.1.selections.txt",
        f"{recording.name}.txt",
        f"{recording.name}.Table.1.selections.txt",
    )
    for name in names:
        path = folder / name
        if path.is_file() and _looks_like_track(path):
            return path
    return None


def read_track(path: Path) -> tuple[Region, ...]:
    """Read an Audacity label track or a Raven selection table, told apart by their first line.

    Regions without a label, or whose label ends in ``?``, are left out: nobody has decided about
    them. So are those a Raven table of ours calls uncertain.

    Returns
    -------
    tuple of Region
        In order of start; empty when the track is.

    Raises
    ------
    InvalidInputError
        When a line is not of the format, naming the line.
    """
    text = _read_text(path)
    first = text.split("\n", 1)[0]
    regions = _read_raven(text, path) if _RAVEN_START in first else _read_audacity(text, path)
    decided = (region for region in regions if region.label and not region.label.endswith("?"))
    return tuple(sorted(decided, key=lambda region: (region.start, region.end, region.label)))


def uncorrected_guesses(folder: Path, labels: Mapping[str, str]) -> int:
    """Count the labels that say just what a model guessed when it cut the sounds out.

    Parameters
    ----------
    folder : Path
        With the ``segments.csv`` that `crepitus segments` writes beside its clips, or without.
    labels : mapping of str to str
        The label of each clip now, by its path below the folder.

    Returns
    -------
    int
        0 when any was changed or decided, or nothing was guessed: somebody has been at work.
    """
    try:
        with (folder / SEGMENTS_INDEX).open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return 0
    guesses = {
        row.get("clip") or "": row.get("label") for row in rows if row.get("uncertain") == "false"
    }
    unchanged = sum(guesses.get(clip) == label for clip, label in labels.items())
    return unchanged if unchanged == len(labels) else 0


def audacity_track(regions: Iterable[Region]) -> str:
    """Return the text of an Audacity label track, one region a line, times to the microsecond."""
    return "".join(
        f"{region.start:.6f}\t{region.end:.6f}\t{_one_line(region.label)}\n" for region in regions
    )


def raven_table(regions: Sequence[Region], highest_frequency: float) -> str:
    """Return the text of a Raven selection table.

    Parameters
    ----------
    regions : sequence of Region
    highest_frequency : float
        Upper edge of the boxes in Hz: half the sample rate.
    """
    columns = ("Selection", "View", "Channel", _RAVEN_START, _RAVEN_END)
    header = "\t".join((*columns, "Low Freq (Hz)", "High Freq (Hz)", "Label"))
    rows = [
        f"{number}\tSpectrogram 1\t1\t{region.start:.6f}\t{region.end:.6f}\t0.0\t"
        f"{highest_frequency:.1f}\t{_one_line(region.label)}"
        for number, region in enumerate(regions, start=1)
    ]
    return "\n".join((header, *rows)) + "\n"


def _one_line(label: str) -> str:
    return " ".join(label.split())


def _read_text(path: Path) -> str:
    try:
        if not path.is_file():
            raise InvalidInputError(f"{path} is no file")
        if path.stat().st_size > _LARGEST_TRACK:
            raise InvalidInputError(f"{path} is too large for a label track (32 MB at most)")
        return path.read_text(encoding="utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not UTF-8 text; save it again as UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from None


def _looks_like_track(path: Path) -> bool:
    """Tell a label track from notes that happen to have the recording's name."""
    try:
        lines = [line for line in _read_text(path).split("\n") if line.strip()]
    except InvalidInputError:
        return False
    if not lines or _RAVEN_START in lines[0]:
        return True
    fields = lines[0].split("\t")
    return len(fields) >= 2 and _is_time(fields[0]) and _is_time(fields[1])


def _is_time(text: str) -> bool:
    try:
        return 0 <= float(text.replace(",", ".")) < math.inf
    except ValueError:
        return False


def _region(start: str, end: str, label: str, path: Path, line: int) -> Region:
    if not (_is_time(start) and _is_time(end)):
        raise InvalidInputError(
            f"{path}, line {line}: {start!r} and {end!r} should be times in seconds"
        )
    first, last = float(start.replace(",", ".")), float(end.replace(",", "."))
    if last < first:
        raise InvalidInputError(f"{path}, line {line}: the end {last} is before the start {first}")
    return Region(first, last, label.strip())


def _read_audacity(text: str, path: Path) -> list[Region]:
    regions = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("\\"):
            continue
        fields = line.split("\t")
        if len(fields) < 2:
            raise InvalidInputError(
                f"{path}, line {number}: expected start, end and label with tabs"
            )
        label = fields[2] if len(fields) > 2 else ""
        regions.append(_region(fields[0], fields[1], label, path, number))
    return regions


def _read_raven(text: str, path: Path) -> list[Region]:
    reader = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    named = {name.strip().lower(): name for name in reader.fieldnames or ()}
    column = next((named[name] for name in _RAVEN_LABELS if name in named), None)
    if column is None:
        wanted = ", ".join(_RAVEN_LABELS)
        raise InvalidInputError(f"{path} has no label column; name one of them: {wanted}")
    regions: dict[str, Region] = {}
    for number, row in enumerate(reader, start=2):
        if (row.get("Uncertain") or "").strip().lower() == "true":
            continue
        start, end = row.get(_RAVEN_START) or "", row.get(_RAVEN_END) or ""
        selection = row.get("Selection") or str(number)
        regions.setdefault(selection, _region(start, end, row[column] or "", path, number))
    return list(regions.values())
