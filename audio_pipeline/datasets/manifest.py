"""Labelled recordings as people keep them: a manifest, a folder a label, or label tracks."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Final

from audio_pipeline.audio.discovery import AUDIO_SUFFIXES
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.files import csv_text

KIND: Final = "kind"
"""The column that says what a recording is of; the kinds of a label weigh alike in figures."""

FINDING: Final = "finding"
"""The column that says what should be found in a whole recording."""

NEAR_KINDS: Final = frozenset(
    {
        *("speech", "breath", "cough", "baby", "cloth", "chair", "footstep", "thud", "door"),
        *("drawer", "knock", "clap", "key", "mouse", "tap", "click", "switch", "clock", "paper"),
        *("plastic_rustle", "zip", "fan", "wind", "mechanical", "misc_household"),
    }
)
FAR_KINDS: Final = frozenset(
    {"coin", "dice", "cutlery", "glass", "fire", "water", "rain", "machine_saw"}
)
"""Everyday sounds near a person who records, and those that hardly ever are; a column `near`
(``yes`` or ``no``) says otherwise. Kinds in neither count in no figure of the two."""

MANIFEST: Final = "manifest.csv"
_MOST_ROWS: Final = 5_000_000
_LONGEST_LABEL: Final = 100
_MANY_MISSING: Final = 10_000
"""Recordings that are not there end the reading when they are so many, and most of all."""

_PERMISSIVE = re.compile(
    r"\bCC0\b|\bCC[ -]BY\b|\bMIT\b|\bApache\b|\bBSD\b|\bPD\b|public domain", re.IGNORECASE
)
_RESTRICTIVE = re.compile(r"\bSA\b|\bNC\b|\bND\b|\bGPL|share.?alike|non.?commercial", re.IGNORECASE)


@dataclass(frozen=True)
class LabelledClip:
    """One label on one recording, or on a stretch of it."""

    path: Path  #: The recording
    name: str  #: The recording as the dataset names it, with ``/``
    label: str
    #: Who or what it was recorded from; recordings of a group never sit on both sides of a split
    group: str
    start: float | None = None  #: Seconds; None: the label holds for every segment of the recording
    end: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)  #: What else the manifest says


@dataclass(frozen=True)
class Dataset:
    """Labelled recordings."""

    source: Path  #: What was read
    clips: tuple[LabelledClip, ...]  #: At least one
    #: False when nothing said which recordings belong together: each is then its own group
    has_groups: bool
    synthetic: bool = False  #: Made, not recorded

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels, sorted."""
        return tuple(sorted({clip.label for clip in self.clips}))

    @property
    def recordings(self) -> dict[str, tuple[LabelledClip, ...]]:
        """The clips of each recording, by its name, in the order of the dataset."""
        found: dict[str, list[LabelledClip]] = {}
        for clip in self.clips:
            found.setdefault(clip.name, []).append(clip)
        return {name: tuple(clips) for name, clips in found.items()}

    def where(self, conditions: Mapping[str, str]) -> Dataset:
        """Return the clips whose columns have these values.

        Parameters
        ----------
        conditions : mapping of str to str
            Column to value, also of ``file``, ``label`` and ``group``; an empty value asks for
            rows that leave the column empty. All must hold.

        Raises
        ------
        InvalidInputError
            When there is no such column, or no clip is left.
        """
        own = {"file": "name", "label": "label", "group": "group"}
        for column in conditions:
            if column not in own and not any(column in clip.columns for clip in self.clips):
                raise InvalidInputError(f"{self.source} has no column {column!r} to select by")
        clips = tuple(
            clip
            for clip in self.clips
            if all(
                value == (getattr(clip, own[column]) if column in own else clip.columns[column])
                for column, value in conditions.items()
            )
        )
        if not clips:
            asked = " and ".join(f"{column}={value}" for column, value in conditions.items())
            raise InvalidInputError(f"no row of {self.source} has {asked}")
        return replace(self, clips=clips)


def read_dataset(
    source: Path | str, group_by: str = "group", *, allow_outside: bool = False
) -> Dataset:
    """Read a dataset.

    A CSV file, or a folder with ``manifest.csv``, is read by it. Otherwise recordings beside label
    tracks; otherwise one sub-folder a label. A folder inside a label's folder, or around
    recordings with tracks, names their group.

    Parameters
    ----------
    source : path
    group_by : str
        The column of a manifest that says which recordings belong together.
    allow_outside : bool
        Whether a recording or label track may lie outside the dataset's folder, by its path or by
        a link. A dataset of somebody else's could otherwise have any file of this machine read.

    Returns
    -------
    Dataset

    Raises
    ------
    InvalidInputError
        When there is nothing to read, or a row is wrong; the message names the row.
    """
    path = Path(source)
    if "\0" in str(path):
        raise InvalidInputError(f"{path}: a name cannot hold a NUL character")
    try:
        is_file, is_folder = path.is_file(), path.is_dir()
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from None
    if is_file and _is_audio(path.name):
        raise InvalidInputError(
            f"{path} is a recording and no dataset: name a folder, or a CSV file with the columns "
            "file and label"
        )
    if not (is_file or is_folder):
        raise InvalidInputError(f"{path} is neither a folder nor a CSV file")
    inside = _inside(path if is_folder else path.parent, allow_outside)
    if is_file:
        return _read_manifest(path, group_by, inside)
    if (path / MANIFEST).is_file():
        return _read_manifest(path / MANIFEST, group_by, inside)
    recordings = _recordings_below(path)
    tracks = {recording: find_track(recording) for recording in recordings}
    for name in (*recordings, *filter(None, tracks.values())):
        if not inside(name):
            raise InvalidInputError(_outside(name))
    if any(tracks.values()):
        return _read_tracks(path, {rec: track for rec, track in tracks.items() if track})
    return _read_label_folders(path, recordings)


def _is_audio(name: str) -> bool:
    return os.fsencode(os.path.splitext(name)[1].lower().removeprefix(".")) in AUDIO_SUFFIXES


def _recordings_below(folder: Path) -> list[Path]:
    """Return the recordings in a folder and below it, in order; hidden ones are left out."""
    found, waiting = [], [folder]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif _is_audio(entry.name) and entry.is_file():
                        found.append(Path(entry.path))
    except OSError as error:
        name = os.fsdecode(error.filename or folder)
        raise InvalidInputError(f"cannot read {name}: {error.strerror}") from None
    return sorted(found)


def _inside(root: Path, allow_outside: bool) -> Callable[[Path], bool]:
    """Return what tells whether a file lies in a folder, wherever links lead, or need not."""
    top, real_folder = os.path.realpath(root), cache(os.path.realpath)

    def inside(path: Path) -> bool:
        folder, name = os.path.split(path)
        real = os.path.join(real_folder(folder), name)
        if name == ".." or os.path.islink(real):
            real = os.path.realpath(real)
        return allow_outside or os.path.commonpath([top, real]) == top

    return inside


def _outside(name: object) -> str:
    return f"{name} is outside the dataset; --allow-outside reads it all the same"


def _bad_label(label: str) -> str:
    """Say what is wrong with a label; empty when nothing is."""
    if len(label) <= _LONGEST_LABEL and label.isprintable():
        return ""
    return f"the label {label[:30]!r} is too long or holds a character that is not seen"


def _read_label_folders(folder: Path, recordings: list[Path]) -> Dataset:
    clips = []
    for path in recordings:
        parts = path.relative_to(folder).parts
        if len(parts) > 1:
            if complaint := _bad_label(parts[0]):
                raise InvalidInputError(f"{folder}: {complaint}; rename that folder")
            name = "/".join(parts)
            clips.append(LabelledClip(path, name, parts[0], parts[1] if len(parts) > 2 else name))
    nothing = (
        f"{folder} holds no labelled recordings: give it a {MANIFEST} (file,label,group), "
        "one sub-folder a label, or label tracks beside the recordings"
    )
    return _dataset(folder, clips, nothing)


def _read_tracks(folder: Path, tracks: Mapping[Path, Path]) -> Dataset:
    clips = []
    for path, track in tracks.items():
        parts = path.relative_to(folder).parts
        clips += [
            # Where there is no folder around it, its group is its name.
            LabelledClip(path, "/".join(parts), one.label, parts[0], one.start, one.end)
            for one in read_track(track)
        ]
    return _dataset(folder, clips, f"the label tracks in {folder} hold no labels")


def _dataset(source: Path, clips: Sequence[LabelledClip], nothing: str) -> Dataset:
    """Return what was read, or say that it is nothing."""
    if not clips:
        raise InvalidInputError(nothing)
    return Dataset(source, tuple(clips), any(clip.group != clip.name for clip in clips))


def _read_manifest(manifest: Path, group_by: str, inside: Callable[[Path], bool]) -> Dataset:
    try:
        with manifest.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            columns = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = columns
            wanted = {"file", "label"} | ({group_by} - {"group"})
            missing = wanted - set(columns)
            if missing:
                raise InvalidInputError(f"{manifest} has no column {sorted(missing)[0]!r}")
            clips = []
            there, gone = set[str](), set[str]()
            for row in reader:
                clip, exists = _manifest_row(manifest, reader.line_num, row, group_by, inside)
                clips.append(clip)
                (there if exists else gone).add(clip.name)
                if len(gone) >= _MANY_MISSING and len(gone) > len(there):
                    raise InvalidInputError(
                        f"{manifest}: {len(gone)} of the first {len(there) + len(gone)} recordings "
                        f"are not there, like {clip.path}; paths are relative to the manifest"
                    )
                if len(clips) > _MOST_ROWS:
                    raise InvalidInputError(f"{manifest} has more than {_MOST_ROWS} rows")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{manifest} is not UTF-8 text; save it again as UTF-8") from None
    except csv.Error as error:
        raise InvalidInputError(f"{manifest} is not a CSV file: {error}") from None
    except OSError as error:
        raise InvalidInputError(f"cannot read {manifest}: {error.strerror}") from None
    return _dataset(manifest, clips, f"{manifest} has no rows")


def _manifest_row(
    manifest: Path,
    line: int,
    row: Mapping[str | None, str | None],
    group_by: str,
    inside: Callable[[Path], bool],
) -> tuple[LabelledClip, bool]:
    """Read a row; return it, and whether its recording is there."""

    def refuse(reason: str) -> InvalidInputError:
        return InvalidInputError(f"{manifest}, line {line}: {reason}")

    if None in row:
        raise refuse("it has more fields than the header")
    given = {str(key): csv_text((value or "").strip()) for key, value in row.items()}
    file, label = given.pop("file"), given.pop("label")
    if not file or not label:
        raise refuse("file and label must not be empty")
    if complaint := _bad_label(label):
        raise refuse(complaint)
    times = {key: given.pop(key, "") for key in ("start", "end")}
    for key, text in times.items():
        if text and _seconds(text) is None:
            raise refuse(f"{key} is {text!r}; it must be a time in seconds")
    start, end = map(_seconds, times.values())
    if (start is None) != (end is None):
        raise refuse("give both start and end, or neither")
    if start is not None and end is not None and end < start:
        raise refuse(f"the end {end} is before the start {start}")
    if "\0" in file:
        raise refuse(f"the file name {file[:100]!r} holds a NUL character")
    path = manifest.parent / file
    exists = os.path.exists(path)
    if not exists and "\\" in file:  # written on Windows
        path = manifest.parent / file.replace("\\", "/")
        exists = os.path.exists(path)
    if not inside(path):
        raise refuse(_outside(file))
    group = given.get(group_by, "") or file
    return LabelledClip(path, file, label, group, start, end, given), exists


def number_in(text: str) -> float:
    """Return the number that a text is, NaN for none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(text: str) -> float | None:
    """Return the time that a text is, None for none."""
    seconds = number_in(text)
    return seconds if 0 <= seconds < math.inf else None


def is_near(columns: Mapping[str, str]) -> bool | None:
    """Tell whether a sound is one of those near a person who records; None where nobody knows."""
    said = columns.get("near", "").lower()
    if said in {"yes", "true", "no", "false"}:
        return said in {"yes", "true"}
    kind = columns.get(KIND, "")
    return True if kind in NEAR_KINDS else False if kind in FAR_KINDS else None


def in_doubt(columns: Mapping[str, str]) -> bool:
    """Tell whether a row's label is in doubt: such rows are in no headline figure."""
    return columns.get("doubt", "").lower() not in {"", "no", "false"}


def is_permissive(licence: str) -> bool:
    """Tell whether a licence asks for no more than to be named.

    CC0, CC BY, MIT, Apache-2.0, BSD and the public domain do; share-alike, non-commercial and
    no-derivatives do not, nor does an unknown licence. Of several, the strictest counts.
    """
    return bool(_PERMISSIVE.search(licence)) and not _RESTRICTIVE.search(licence)


def permissive_only(dataset: Dataset) -> Dataset:
    """Return the clips whose ``licence`` column is permissive.

    Raises
    ------
    InvalidInputError
        When none is left.
    """
    clips = tuple(clip for clip in dataset.clips if is_permissive(clip.columns.get("licence", "")))
    if not clips:
        raise InvalidInputError(f"no row of {dataset.source} has a permissive licence")
    return replace(dataset, clips=clips)


_RAVEN_LABELS: Final = ("label", "annotation", "class", "species", "type", "tags", "code")
_RAVEN_START: Final = "Begin Time (s)"
_RAVEN_END: Final = "End Time (s)"
SEGMENTS_INDEX: Final = "segments.csv"
"""What `crepitus segments` writes beside the clips: what the model guessed each to be."""

_LARGEST_TRACK: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class Region:
    """One labelled stretch of a recording."""

    #: Seconds from the start of the recording, 0 <= start <= end; equal for a point label
    start: float
    end: float
    label: str  #: Not empty


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
    paths = (folder / name for name in names)
    return next((path for path in paths if path.is_file() and _looks_like_track(path)), None)


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
    times = [_seconds(field.replace(",", ".")) for field in lines[0].split("\t")[:2]]
    return len(times) == 2 and None not in times


def _region(start: str, end: str, label: str, path: Path, line: int) -> Region:
    first, last = (_seconds(text.replace(",", ".")) for text in (start, end))
    if first is None or last is None:
        raise InvalidInputError(
            f"{path}, line {line}: {start!r} and {end!r} should be times in seconds"
        )
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
