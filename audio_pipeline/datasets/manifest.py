"""Labelled recordings as people keep them: a manifest, a folder a label, or label tracks."""

from __future__ import annotations

import csv
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from audio_pipeline.audio.discovery import AUDIO_SUFFIXES
from audio_pipeline.datasets.label_tracks import find_track, read_track
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.files import csv_text

KIND: Final = "kind"
"""The column that says what a recording is of; the kinds of a label weigh alike in figures."""

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
    """One label on one recording, or on a stretch of it.

    Attributes
    ----------
    path : Path
        The recording.
    name : str
        The recording as the dataset names it, with ``/``.
    label : str
    group : str
        Who or what it was recorded from; recordings of a group never sit on both sides of a split.
    start, end : float or None
        Seconds; None: the label holds for every segment of the recording.
    columns : mapping of str to str
        What else the manifest says.
    """

    path: Path
    name: str
    label: str
    group: str
    start: float | None = None
    end: float | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """Labelled recordings.

    Attributes
    ----------
    source : Path
        What was read.
    clips : tuple of LabelledClip
        At least one.
    has_groups : bool
        False when nothing said which recordings belong together: each is then its own group.
    synthetic : bool
        Made, not recorded.
    """

    source: Path
    clips: tuple[LabelledClip, ...]
    has_groups: bool
    synthetic: bool = False

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
    inside = _Inside(path if is_folder else path.parent, allow_outside)
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


class _Inside:
    """Tells whether files lie in a dataset's folder, wherever links lead."""

    def __init__(self, folder: Path, allow_outside: bool) -> None:
        self._root = os.path.realpath(folder)
        self._allow_outside = allow_outside
        self._folders: dict[str, str] = {}

    def __call__(self, path: Path) -> bool:
        """Return whether a file lies in the folder, or need not."""
        if self._allow_outside:
            return True
        folder, name = os.path.split(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._folders[folder], name)
        if name == ".." or os.path.islink(real):
            real = os.path.realpath(real)
        return os.path.commonpath([self._root, real]) == self._root


def _outside(name: object) -> str:
    return f"{name} is outside the dataset; --allow-outside reads it all the same"


def _read_label_folders(folder: Path, recordings: list[Path]) -> Dataset:
    clips = []
    has_groups = False
    for path in recordings:
        parts = path.relative_to(folder).parts
        if len(parts) < 2:
            continue
        name = "/".join(parts)
        nested = len(parts) > 2
        has_groups = has_groups or nested
        clips.append(LabelledClip(path, name, parts[0], parts[1] if nested else name))
    if not clips:
        raise InvalidInputError(
            f"{folder} holds no labelled recordings: give it a {MANIFEST} (file,label,group), "
            "one sub-folder a label, or label tracks beside the recordings"
        )
    return Dataset(folder, tuple(clips), has_groups)


def _read_tracks(folder: Path, tracks: Mapping[Path, Path]) -> Dataset:
    clips = []
    has_groups = False
    for path, track in tracks.items():
        parts = path.relative_to(folder).parts
        name = "/".join(parts)
        nested = len(parts) > 1
        has_groups = has_groups or nested
        group = parts[0] if nested else name
        clips += [
            LabelledClip(path, name, region.label, group, region.start, region.end)
            for region in read_track(track)
        ]
    if not clips:
        raise InvalidInputError(f"the label tracks in {folder} hold no labels")
    return Dataset(folder, tuple(clips), has_groups)


def _read_manifest(manifest: Path, group_by: str, inside: _Inside) -> Dataset:
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
    if not clips:
        raise InvalidInputError(f"{manifest} has no rows")
    has_groups = group_by in columns and any(clip.group != clip.name for clip in clips)
    return Dataset(manifest, tuple(clips), has_groups)


def _manifest_row(
    manifest: Path,
    line: int,
    row: Mapping[str | None, str | None],
    group_by: str,
    inside: _Inside,
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
    if len(label) > _LONGEST_LABEL or not label.isprintable():
        raise refuse(f"the label {label[:30]!r} is too long or not one line of text")
    start, end = (_time(given.pop(key, ""), key, refuse_at=refuse) for key in ("start", "end"))
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


def _time(text: str, column: str, refuse_at: object) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        assert callable(refuse_at)
        raise refuse_at(f"{column} is {text!r}; it must be a time in seconds")
    return seconds


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
