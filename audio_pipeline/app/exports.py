"""What is written for people who go on elsewhere: segments with label tracks, feature tables."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import Event
from audio_pipeline.analysis.pipeline import Analysis, Extraction, analyze_file, extract, printable
from audio_pipeline.app.outputs import (
    cell,
    check_new_folder,
    check_output,
    is_table,
    replaced,
    write_parquet_table,
)
from audio_pipeline.app.text import file_name
from audio_pipeline.audio.recording import Recording, open_recording, write_recording
from audio_pipeline.datasets.manifest import (
    SEGMENTS_INDEX,
    Region,
    audacity_track,
    raven_table,
)
from audio_pipeline.exceptions import CrepitusError, InvalidInputError, RecordingError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.files import csv_text, new_file, whole_text
from audio_pipeline.model.classifier import Classifier

if TYPE_CHECKING:
    from sklearn.utils import Bunch


_ENDINGS: Final = {"audacity": ".txt", "raven": ".Table.1.selections.txt"}
SEGMENT_COLUMNS: Final = ("clip", "recording", "start", "end", "label", "probability", "uncertain")


@dataclass(frozen=True)
class CutSettings:
    """How sounds are cut out."""

    # seconds of the recording kept on each side: enough to hear a sound in its place, and for its
    # noise floor
    around: float = 0.5
    tracks: str = "audacity"  # ``audacity`` or ``raven``


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
    *,
    overwrite: bool = False,
) -> list[Cut]:
    """Write each sound of each recording as a WAV file beside a label track.

    Every recording gets a folder of its own, which :func:`read_dataset` takes as the group of its
    clips. Labels the model is unsure of end in ``?`` and are left out of training until somebody
    removes it.

    ``folder``: must not exist, or be empty.
    ``overwrite``: replace what was cut into the folder before, labels that were corrected since
        too.
    One a recording, in order.
    """
    settings = settings or CutSettings()
    check_folder(folder, overwrite=overwrite)
    where = folder.resolve()
    for source in sources:
        if where in source.resolve().parents:
            raise InvalidInputError(f"{source} is in {folder}: an input is no output; name another")
    done: list[Cut] = []
    names = _folder_names(sources)
    try:
        if overwrite:
            _remove_earlier(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with new_file(folder / SEGMENTS_INDEX) as raw:
            file = io.TextIOWrapper(raw, encoding="utf-8", newline="", write_through=True)
            table = csv.writer(file, lineterminator="\r\n")
            table.writerow(SEGMENT_COLUMNS)
            raw.flush()
            for source, name in zip(sources, names, strict=True):
                analysis = analyze_file(source, classifier)
                cut, rows = _cut_one(source, analysis, folder, name, settings)
                table.writerows(rows)
                raw.flush()
                done.append(cut)
                if progress:
                    progress(len(done), len(sources))
    except OSError as error:
        clips = sum(one.clips for one in done)
        if clips:
            then = f"{clips} sounds of {len(done)} recordings are kept; --overwrite begins anew"
        else:
            then = "nothing was cut"
            with suppress(OSError):
                (folder / SEGMENTS_INDEX).unlink()
                folder.rmdir()
        raise CrepitusError(f"cannot write to {folder}: {error.strerror}; {then}") from None
    return done


def check_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Refuse a folder that holds anything; with `overwrite` anything but what was cut before."""
    if overwrite and folder.is_dir() and any(folder.iterdir()):
        index = folder / SEGMENTS_INDEX
        ordinary = index.is_file() and not index.is_symlink()
        if not (ordinary and is_table(SEGMENT_COLUMNS)(index)):
            raise InvalidInputError(
                f"{folder} holds no {SEGMENTS_INDEX} of ours; name a folder that is new"
            )
        return
    check_new_folder(folder)


def _remove_earlier(folder: Path) -> None:
    """Remove the clips and label tracks that an index lists, and nothing else."""
    if not (folder / SEGMENTS_INDEX).is_file():
        return
    with (folder / SEGMENTS_INDEX).open(encoding="utf-8", newline="") as file:
        clips = [csv_text(row["clip"] or "") for row in csv.DictReader(file)]
    for clip in clips:
        where, _, name = clip.partition("/")
        inside = folder / where
        if where in {"", ".", ".."} or not name or Path(name).name != name or inside.is_symlink():
            continue  # no name that we gave
        stem = name.removesuffix(".wav")
        for ending in (".wav", *_ENDINGS.values()):
            (inside / f"{stem}{ending}").unlink(missing_ok=True)
        with suppress(OSError):  # there is more in it
            inside.rmdir()
    (folder / SEGMENTS_INDEX).unlink()


def _folder_names(sources: Sequence[Path]) -> list[str]:
    """Return a name for each recording: its own without the ending, numbered where it is taken."""
    names: list[str] = []
    taken = {SEGMENTS_INDEX}
    numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: count(2))
    for source in sources:
        name = stem = file_name(source.stem)
        while name.casefold() in taken:  # some file systems hold A and a for the same
            name = f"{stem}_{next(numbers[stem.casefold()])}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _cut_one(
    source: Path, analysis: Analysis, folder: Path, name: str, settings: CutSettings
) -> tuple[Cut, list[tuple[str, ...]]]:
    """Cut one recording, whole or not at all; return its rows of the index."""
    if not analysis.events:
        return Cut(analysis.source, 0, analysis.error), []
    (folder / name).mkdir()
    try:
        rows = _write_clips(source, analysis, folder, name, settings)
    except BaseException as error:
        shutil.rmtree(folder / name, ignore_errors=True)
        if isinstance(error, RecordingError):  # it was there a moment ago
            return Cut(analysis.source, 0, str(error)), []
        raise
    return Cut(analysis.source, len(rows), None), rows


def _write_clips(
    source: Path, analysis: Analysis, folder: Path, name: str, settings: CutSettings
) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    windows = [
        (max(0.0, event.start - settings.around), event.end + settings.around)
        for event in analysis.events
    ]
    clips = zip(analysis.events, windows, clips_of(source, windows), strict=True)
    for event, (start, _), clip in clips:
        stem = f"{name}/{name}_{len(rows) + 1:04d}"
        write_recording(folder / f"{stem}.wav", clip, "24-bit")
        _write_track(folder / stem, event, start, clip.sample_rate, settings.tracks)
        place = (f"{stem}.wav", printable(analysis.source), event.start, event.end)
        heard = (event.label, event.probabilities[event.label], event.uncertain)
        rows.append(tuple(map(cell, (*place, *heard))))
    return rows


def _write_track(stem: Path, event: Event, offset: float, rate: int, tracks: str) -> None:
    label = event.label + ("?" if event.uncertain else "")
    regions = [Region(event.start - offset, event.end - offset, label)]
    text = audacity_track(regions) if tracks == "audacity" else raven_table(regions, rate / 2)
    with whole_text(stem.with_name(stem.name + _ENDINGS[tracks]), newline="\n") as file:
        file.write(text)


def clips_of(source: Path, windows: Sequence[tuple[float, float]]) -> Iterator[Recording]:
    """Yield stretches of a recording at its own rate, reading it once.

    ``windows``: seconds, rising by start; they may overlap and reach beyond the end.
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


FEATURE_COLUMNS = ("recording", "start", "end", "n_impacts", *FEATURE_NAMES)
LABELLED_COLUMNS = ("recording", "start", "end", "label", "group", *FEATURE_NAMES)


def check_table(
    table: Path,
    inputs: Iterable[str | os.PathLike[str]] = (),
    *,
    overwrite: bool = False,
) -> None:
    """Refuse a table that cannot be written, or that is somebody's; called before any work."""
    if table.suffix.lower() == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise InvalidInputError("Parquet needs pyarrow: pip install 'crepitus[parquet]'")
    ours = is_table(FEATURE_COLUMNS, LABELLED_COLUMNS)
    check_output(table, ours, endings=(".csv", ".parquet"), inputs=inputs, overwrite=overwrite)


def write_features(
    sources: Sequence[Path],
    table: Path,
    settings: AnalysisConfig,
    progress: Callable[[int, int], None] | None = None,
    *,
    overwrite: bool = False,
) -> tuple[int, list[Extraction]]:
    """Write a row for every segment found: CSV, or Parquet where the name ends so.

    ``table``: written once all recordings are done, and not at all when none can be read.
    ``overwrite``: replace a file that is there, whoever made it; else only such a table of ours.
    The number of rows, and the recordings that could not be read.
    """
    check_table(table, sources, overwrite=overwrite)
    failed: list[Extraction] = []

    def heard() -> Iterator[Extraction]:
        for number, source in enumerate(sources, start=1):
            extraction = extract(source, settings)
            if extraction.status == "ok":
                yield extraction
            else:
                failed.append(extraction)
            if progress:
                progress(number, len(sources))

    readable = heard()
    first = next(readable, None)
    if first is None:
        return 0, failed
    rows = (row for extraction in chain([first], readable) for row in _rows(extraction))
    return _write(table, FEATURE_COLUMNS, rows, sources, overwrite), failed


def write_labelled_features(
    examples: Bunch, table: Path, inputs: Sequence[Path], *, overwrite: bool = False
) -> int:
    """Write the sounds of a labelled dataset with their label and group.

    ``examples``: as :func:`~audio_pipeline.datasets.loading.load_examples` returns it.
    """
    texts = zip(
        map(printable, examples.recording.tolist()),
        examples.start.tolist(),
        examples.end.tolist(),
        examples.target.tolist(),
        map(printable, examples.groups.tolist()),
        strict=True,
    )
    rows = ((*text, *row.tolist()) for text, row in zip(texts, examples.data, strict=True))
    return _write(table, LABELLED_COLUMNS, rows, inputs, overwrite)


def _write(
    table: Path,
    columns: Sequence[str],
    rows: Iterable[tuple[Any, ...]],
    inputs: Sequence[Path],
    overwrite: bool,
) -> int:
    kinds = {"start": "float64", "end": "float64", "n_impacts": "int64"}
    kinds |= dict.fromkeys(("recording", "label", "group"), "string")
    with replaced(table) as file:
        if table.suffix.lower() == ".csv":
            written = _write_csv(file, columns, rows)
        else:
            typed = {name: kinds.get(name, "float32") for name in columns}
            written = write_parquet_table(file, typed, rows)
        check_table(table, inputs, overwrite=overwrite)  # again: that took its time
    return written


def _rows(extraction: Extraction) -> Iterator[tuple[Any, ...]]:
    name = printable(extraction.source)
    for segment, row in zip(extraction.segments, extraction.table, strict=True):
        yield name, segment.start, segment.end, len(segment.impacts), *row.tolist()


def _write_csv(file: IO[bytes], columns: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> int:
    written, n_features = 0, len(FEATURE_NAMES)
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        facts = map(cell, row[:-n_features])
        writer.writerow([*facts, *(f"{value:.7g}" for value in row[-n_features:])])
        written += 1
    text.detach()
    return written
