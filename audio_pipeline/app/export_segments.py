"""Cutting every sound out of recordings, each with a label track to correct by ear."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from audio_pipeline.analysis.events import Event
from audio_pipeline.analysis.pipeline import Analysis, analyze_file, printable
from audio_pipeline.app.outputs import check_new_folder
from audio_pipeline.audio.recording import Recording, open_recording, write_recording
from audio_pipeline.datasets.label_tracks import (
    SEGMENTS_INDEX,
    Region,
    audacity_track,
    raven_table,
)
from audio_pipeline.exceptions import CrepitusError
from audio_pipeline.files import csv_cell
from audio_pipeline.model.classifier import Classifier

COLUMNS: Final = ("clip", "recording", "start", "end", "label", "probability", "uncertain")


@dataclass(frozen=True)
class CutSettings:
    """How sounds are cut out.

    Attributes
    ----------
    around : float
        Seconds of the recording kept on each side: enough to hear a sound in its place, and for
        its noise floor.
    tracks : str
        ``audacity`` or ``raven``.
    """

    around: float = 0.5
    tracks: str = "audacity"


@dataclass(frozen=True)
class Cut:
    """What was cut out of one recording; `error` is None unless it failed."""

    source: str
    clips: int
    error: str | None


def cut_segments(
    sources: Sequence[Path],
    folder: Path,
    classifier: Classifier,
    settings: CutSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Cut]:
    """Write each sound of each recording as a WAV file beside a label track.

    Every recording gets a folder of its own, which :func:`read_dataset` takes as the group of its
    clips. Labels the model is unsure of end in ``?`` and are left out of training until somebody
    removes it.

    Parameters
    ----------
    sources : sequence of Path
    folder : Path
        Must not exist, or be empty.
    classifier : Classifier
    settings : CutSettings or None
    progress : callable or None
        Called with (recordings done, recordings).

    Returns
    -------
    list of Cut
        One a recording, in order.

    Raises
    ------
    InvalidInputError
        When the folder is not empty.
    CrepitusError
        When it cannot be written.
    """
    settings = settings or CutSettings()
    check_new_folder(folder)
    done: list[Cut] = []
    names = _folder_names(sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / SEGMENTS_INDEX).open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\r\n")
            table.writerow(COLUMNS)
            for source, name in zip(sources, names, strict=True):
                analysis = analyze_file(source, classifier)
                rows = _cut_one(source, analysis, folder, name, settings)
                table.writerows(rows)
                done.append(Cut(analysis.source, len(rows), analysis.error))
                if progress:
                    progress(len(done), len(sources))
    except OSError as error:
        raise CrepitusError(f"cannot write to {folder}: {error.strerror}") from None
    return done


def _folder_names(sources: Sequence[Path]) -> list[str]:
    """Return a name for each recording: its own without the ending, numbered where it is taken."""
    names: list[str] = []
    for source in sources:
        stem = source.stem.encode(errors="replace").decode() or "recording"
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}_{number}"
        names.append(name)
    return names


def _cut_one(
    source: Path, analysis: Analysis, folder: Path, name: str, settings: CutSettings
) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    if not analysis.events:
        return rows
    (folder / name).mkdir()
    windows = [
        (max(0.0, event.start - settings.around), event.end + settings.around)
        for event in analysis.events
    ]
    for event, clip, start in zip(
        analysis.events, clips_of(source, windows), (window[0] for window in windows), strict=True
    ):
        stem = f"{name}/{name}_{len(rows) + 1:04d}"
        write_recording(folder / f"{stem}.wav", clip, "24-bit")
        _write_track(folder / stem, event, start, clip.sample_rate, settings.tracks)
        probability = event.probabilities[event.label]
        rows.append(
            (
                csv_cell(f"{stem}.wav"),
                csv_cell(printable(analysis.source)),
                f"{event.start:.4f}",
                f"{event.end:.4f}",
                csv_cell(event.label),
                f"{probability:.4f}",
                str(event.uncertain).lower(),
            )
        )
    return rows


def _write_track(stem: Path, event: Event, offset: float, rate: int, tracks: str) -> None:
    label = event.label + ("?" if event.uncertain else "")
    regions = [Region(event.start - offset, event.end - offset, label)]
    ending, text = ".txt", audacity_track(regions)
    if tracks == "raven":
        ending, text = ".Table.1.selections.txt", raven_table(regions, rate / 2)
    stem.with_name(stem.name + ending).write_text(text, encoding="utf-8", newline="\n")


def clips_of(source: Path, windows: Sequence[tuple[float, float]]) -> Iterator[Recording]:
    """Yield stretches of a recording at its own rate, reading it once.

    Parameters
    ----------
    source : Path
    windows : sequence of (start, end)
        Seconds, rising by start; they may overlap and reach beyond the end.
    """
    with open_recording(source) as reader:
        rate = reader.sample_rate
        wanted = [(round(start * rate), round(end * rate)) for start, end in windows]
        kept, first = np.zeros(0, np.float32), 0
        blocks = reader.blocks()
        for begin, end in wanted:
            while first + len(kept) < end and (block := next(blocks, None)) is not None:
                useless = min(max(0, begin - first), len(kept))
                kept, first = np.concatenate([kept[useless:], block]), first + useless
            yield Recording(kept[max(0, begin - first) : max(0, end - first)], rate, str(source))
