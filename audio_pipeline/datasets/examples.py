"""From labelled recordings to what is learnt from and judged: cases and their events.

A *case* is what gets one answer: a recording with one label, or a labelled stretch of a recording
that holds several. Its *events* are the segments found in it; where none was found, the whole case
is one event, so that no label is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import ContextConfig, smooth_probabilities
from audio_pipeline.analysis.pipeline import Extraction, extract
from audio_pipeline.audio.recording import Recording
from audio_pipeline.datasets.conditions import in_parallel
from audio_pipeline.datasets.manifest import Dataset, LabelledClip, Region
from audio_pipeline.segmentation.segment import Segment

Progress = Callable[[int, int], None]

SYNTHETIC_GROUP: Final = "made:"
"""Groups of synthetic events are this and the family that made them."""

_INSIDE = 0.5
"""Share of a segment that must lie in a labelled stretch to take its label."""

_MOST = 0.9
_NOT_LITTLE = 0.25
"""A longer segment takes the label when it holds this much of the stretch, and is itself at least
this far filled by it, or longer by no more than a room rings."""

_RINGING = 0.15
"""Seconds. A pop of 3 ms is found as up to 0.1 s in a room: a quarter of the clear pops in scenes
would be lost without this."""

_LONGEST_WHOLE = 60.0
"""A longer recording in which nothing stood out is learnt from by its first minute, in seconds."""

_POINT_BEFORE = 0.02
_POINT_AFTER = 0.18
"""A point label stands for this stretch, in seconds: about one pop."""


@dataclass(frozen=True, eq=False)
class Example:
    """What gets one answer."""

    name: str  #: The recording, as the dataset names it
    label: str
    group: str
    extraction: Extraction  #: The segments found in it; for a stretch, those inside it
    #: float32 array, shape (n_events, n_features): What is learnt from: as the extraction's, or one
    #: row for the whole case where it is empty. Empty only when the recording cannot be read or
    #: used
    table: NDArray[np.float32]
    stretch: tuple[float, float] | None = None  #: Seconds; None for a whole recording
    columns: Mapping[str, str] = field(default_factory=dict)  #: What else the manifest says
    #: float64 array, shape (n_events, 2): Start and end of each row of `table`, in seconds
    spans: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(frozen=True, eq=False)
class AnnotatedRecording:
    """One recording of a dataset, heard once."""

    name: str
    extraction: Extraction  #: All of it
    #: The labelled stretches; empty when the label holds for the whole recording
    regions: tuple[Region, ...]
    cases: tuple[Example, ...]

    @property
    def problem(self) -> str | None:
        """Why nothing can be learnt from it, or None."""
        if self.extraction.status != "ok":
            return self.extraction.error
        quality = self.extraction.quality
        if quality is not None and not quality.usable:
            return "; ".join(warning.text for warning in quality.warnings) or "not usable"
        return None


def analyze_dataset(
    dataset: Dataset, settings: AnalysisConfig, progress: Progress | None = None
) -> list[AnnotatedRecording]:
    """Analyse every recording of a dataset.

    Parameters
    ----------
    dataset : Dataset
    settings : AnalysisConfig
    progress : callable or None
        Called with (done, total).

    Returns
    -------
    list of AnnotatedRecording
        In the order of the dataset; one that cannot be read is there with its problem.
    """
    recordings = dataset.recordings.items()
    work = [(annotate_recording, (name, clips, settings)) for name, clips in recordings]
    return list(in_parallel(work, progress=progress))


def annotate_recording(
    name: str,
    clips: Sequence[LabelledClip],
    settings: AnalysisConfig,
    sound: Recording | None = None,
) -> AnnotatedRecording:
    """Analyse one recording and cut it into cases.

    Parameters
    ----------
    name : str
    clips : sequence of LabelledClip
        All labels of this recording, at least one.
    settings : AnalysisConfig
    sound : Recording or None
        The recording itself where it is not in a file.
    """
    source = sound or clips[0].path
    extraction = replace(extract(source, settings), source=name)
    whole = [clip for clip in clips if clip.start is None]
    regions = tuple(_region(clip) for clip in clips if clip.start is not None)
    heard = AnnotatedRecording(name, extraction, regions, ())
    times = np.array([(one.start, one.end) for one in extraction.segments]).reshape(-1, 2)

    def case_of(
        clip: LabelledClip,
        table: NDArray[np.float32],
        times: NDArray[np.float64],
        inside: Extraction = extraction,
        stretch: tuple[float, float] | None = None,
    ) -> Example:
        return Example(name, clip.label, clip.group, inside, table, stretch, clip.columns, times)

    if heard.problem is not None or not extraction.duration:
        return replace(heard, cases=(case_of(clips[0], extraction.table[:0], times[:0]),))
    drawn = [clip for clip in clips if clip.start is not None and clip.start < extraction.duration]
    spans = [(region.start, min(region.end, extraction.duration)) for region in map(_region, drawn)]
    everything = (0.0, min(extraction.duration, _LONGEST_WHOLE))
    inside = {span: labelled_rows(extraction.segments, span) for span in spans}
    empty = [span for span, rows in inside.items() if not rows]
    if whole and not extraction.segments:
        empty.append(everything)
    forced = _forced(source, settings, empty)
    if whole and not len(times):
        cases = [case_of(clip, forced[everything], np.array([everything])) for clip in whole]
    else:
        cases = [case_of(clip, extraction.table, times) for clip in whole]
    if len({(clip.label, clip.group) for clip in clips}) == 1 and not whole and spans:
        # One label throughout: the recording gets one answer, as if it had no times.
        rows = sorted({row for span in spans for row in inside[span]})
        table = np.concatenate([extraction.table[rows], *(forced[span] for span in sorted(empty))])
        found = np.concatenate([times[rows], np.array(sorted(empty)).reshape(-1, 2)])
        cases = [case_of(clips[0], table, found)]
    else:
        for clip, span in zip(drawn, spans, strict=True):
            rows = inside[span]
            segments = tuple(extraction.segments[row] for row in rows)
            part = replace(extraction, segments=segments, table=extraction.table[rows])
            if rows:
                cases.append(case_of(clip, part.table, times[rows], part, span))
            else:
                cases.append(case_of(clip, forced[span], np.array([span]), part, span))
    return replace(heard, cases=tuple(cases))


def _region(clip: LabelledClip) -> Region:
    assert clip.start is not None
    assert clip.end is not None
    start, end = clip.start, clip.end
    if end <= start:
        start, end = max(0.0, start - _POINT_BEFORE), start + _POINT_AFTER
    return Region(start, end, clip.label)


def labelled_rows(segments: Sequence[Segment], span: tuple[float, float]) -> list[int]:
    """Return the segments that lie mostly in a stretch, or that hold most of it and little else."""
    found = []
    for row, segment in enumerate(segments):
        shared = min(segment.end, span[1]) - max(segment.start, span[0])
        length = segment.end - segment.start
        if shared >= _INSIDE * length or (
            shared >= _MOST * (span[1] - span[0])
            and (shared >= _NOT_LITTLE * length or length - shared <= _RINGING)
        ):
            found.append(row)
    return found


def _forced(
    source: Path | Recording, settings: AnalysisConfig, spans: Sequence[tuple[float, float]]
) -> dict[tuple[float, float], NDArray[np.float32]]:
    """Describe exactly these stretches of a recording, each as one segment."""
    if not spans:
        return {}
    wanted = sorted(set(spans), key=lambda span: span[1])
    table = extract(source, settings, regions=wanted).table
    return {span: table[row : row + 1] for row, span in enumerate(wanted) if row < len(table)}


@dataclass(frozen=True, eq=False)
class Events:
    """Everything a model is trained and judged on, as arrays."""

    table: NDArray[np.float32]  #: float32 array, shape (n, n_features)
    labels: NDArray[np.str_]  #: str array, shape (n,)
    #: str array, shape (n,): Linked groups: copies of a recording share one
    groups: NDArray[np.str_]
    #: float64 array, shape (n,): 1 / sqrt(events of the case): a file of a hundred clicks is not a
    #: hundred opinions
    weights: NDArray[np.float64]
    #: int64 array, shape (n,): Index of the case; -1 for events that are only trained on (made
    #: sounds)
    case: NDArray[np.int64]
    #: float64 array, shape (n, 2): Start and end in seconds; NaN for events without surroundings
    spans: NDArray[np.float64]
    #: str array, shape (n,): What a sound is within its label, from the manifest's column ``kind``;
    #: else empty text
    kinds: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return some of the events."""
        return Events(*(getattr(self, each.name)[chosen] for each in fields(self)))

    def smooth_probabilities(
        self, probabilities: NDArray[np.float64], context: ContextConfig
    ) -> NDArray[np.float64]:
        """Return the events' probabilities in the light of the other events of their case."""
        weighed = probabilities.copy()
        for case in np.unique(self.case[~np.isnan(self.spans[:, 0])]):
            rows = np.flatnonzero(self.case == case)
            spans = [(start, end) for start, end in self.spans[rows].tolist()]
            weighed[rows] = smooth_probabilities(probabilities[rows], spans, context)
        return weighed


def events_of(cases: Sequence[Example], groups: NDArray[np.str_]) -> Events:
    """Return the events of cases.

    Parameters
    ----------
    cases : sequence of Example
        At least one.
    groups : str array, shape (n_cases,)
        The linked group of each.
    """
    counts = np.array([len(case.table) for case in cases])
    return Events(
        np.concatenate([case.table for case in cases]),
        np.repeat(np.array([case.label for case in cases]), counts),
        np.repeat(groups, counts),
        np.repeat(1.0 / np.sqrt(np.maximum(counts, 1)), counts),
        np.repeat(np.arange(len(cases)), counts),
        np.concatenate([_spans(case) for case in cases]),
        np.repeat(np.array([case.columns.get("kind", "") for case in cases], np.str_), counts),
    )


def _spans(case: Example) -> NDArray[np.float64]:
    segments = case.extraction.segments
    if len(segments) != len(case.table):
        return np.full((len(case.table), 2), np.nan)
    return np.array([(one.start, one.end) for one in segments], np.float64).reshape(-1, 2)


def unjudged_events(
    table: NDArray[np.float32],
    labels: NDArray[np.str_],
    groups: NDArray[np.str_],
    weights: ArrayLike = 0.0,
) -> Events:
    """Return events that are only trained on, of no case, time or kind."""
    n = len(table)
    given = np.broadcast_to(np.asarray(weights, np.float64), n)
    return Events(
        table, labels, groups, given, np.full(n, -1), np.full((n, 2), np.nan), np.full(n, "")
    )


def concatenate_events(first: Events, *others: Events) -> Events:
    """Return the events of all, `others` as events that are only trained on."""
    parts = [first, *(replace(one, case=np.full(len(one), -1)) for one in others)]
    names = [each.name for each in fields(Events)]
    return Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def balanced_weights(
    labels: NDArray[np.str_],
    weights: ArrayLike,
    *within: tuple[NDArray[np.str_], float],
) -> NDArray[np.float64]:
    """Scale event weights so that every label weighs the same, with a mean of 1.

    Parameters
    ----------
    labels : str array, shape (n,)
    weights : array, shape (n,)
        >= 0.
    *within : (str array of shape (n,), float)
        Something that events have besides their label, such as a kind or a group, and how far its
        values weigh the same within a label, in [0, 1]: 0 leaves their weights, 1 makes them equal.

    Returns
    -------
    float64 array, shape (n,)
    """
    balanced = np.asarray(weights, np.float64).copy()
    for values, balance in within:
        _, part = np.unique(np.char.add(np.char.add(labels, "\n"), values), return_inverse=True)
        total = np.bincount(part, balanced)
        balanced /= np.maximum(total, 1e-12)[part] ** balance
    _, number = np.unique(labels, return_inverse=True)
    total = np.bincount(number, balanced)
    share = np.zeros_like(total)
    present = max(1, int(np.count_nonzero(total)))
    np.divide(len(balanced) / present, total, out=share, where=total > 0)
    scaled: NDArray[np.float64] = balanced * share[number]
    return scaled


def with_synthetic_share(
    weights: NDArray[np.float64], labels: NDArray[np.str_], groups: NDArray[np.str_], share: float
) -> NDArray[np.float64]:
    """Scale the weights of synthetic events to a share of their label's.

    A label of which only one sort of events has any weight keeps its weights.

    Parameters
    ----------
    weights : float64 array, shape (n,)
    labels, groups : str array, shape (n,)
        Groups of synthetic events begin with :data:`SYNTHETIC_GROUP`.
    share : float
        In [0, 1].
    """
    scaled = weights.copy()
    synthetic = np.char.startswith(groups, SYNTHETIC_GROUP)
    for label in np.unique(labels):
        of_label = labels == label
        parts = (synthetic, ~synthetic)
        sums = [float(weights[of_label & part].sum()) for part in parts]
        if min(sums) > 0:
            for part, total, wanted in zip(parts, sums, (share, 1 - share), strict=True):
                scaled[of_label & part] *= wanted * sum(sums) / total
    return scaled
