"""The whole way for one recording: its segments, their features, its events and finding.

:func:`extract` knows no model and is cheap to run in many workers; :func:`classify_segments` takes
the model's probabilities for many recordings at once. Files and the live microphone
(:mod:`audio_pipeline.analysis.pipeline`) take the same way, block by block.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import (
    Event,
    Finding,
    bouts,
    certainties,
    derive_finding,
    reasons,
    smooth_probabilities,
)
from audio_pipeline.analysis.guided import (
    Phase,
    cues_in_comment,
    is_cue,
    phases_in_comment,
    weigh_evidence,
)
from audio_pipeline.audio.quality import Quality, QualityMeter
from audio_pipeline.audio.recording import Recording, Resampler, Source, open_recording
from audio_pipeline.exceptions import InvalidInputError, RecordingError
from audio_pipeline.features.transformer import FEATURES, feature_table
from audio_pipeline.segmentation.segment import Segment, SegmentClip
from audio_pipeline.segmentation.segmenter import Segmenter

if TYPE_CHECKING:
    from audio_pipeline.model.classifier import Classifier


Float32 = NDArray[np.float32]

#: Describing many clips together is cheaper; they hold up to 10 s of sound each.
_CLIPS_AT_ONCE = 32

_NO_SAMPLES: Float32 = np.zeros(0, np.float32)
NO_ROWS: Float32 = np.empty((0, len(FEATURES)), np.float32)


@dataclass(frozen=True)
class Extraction:
    """What was heard in one recording, before any judgement; small, and fit to be sent around."""

    source: str  #: Name of the recording as given
    status: str  #: `ok`, or `failed` when it could not be opened or decoded
    error: str | None  #: One line when it failed, else None
    duration: float | None  #: Seconds and Hz of the recording itself; None when it failed
    sample_rate: int | None
    quality: Quality | None  #: None when it failed
    segments: tuple[Segment, ...]  #: Segments in order of time
    table: Float32  #: float32 (n_segments, n_features)
    #: Of the guided protocol, where the file says that it was recorded by it
    phases: tuple[Phase, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """What a recording holds.

    Attributes
    ----------
    source, status, error, duration, sample_rate, quality
        As in :class:`Extraction`.
    events
        In order of time; empty when it failed or cannot be used.
    finding
        None when it failed.
    recording
        The recording where it was analysed in memory; for pictures of it.
    labels
        Of the model that was asked.
    """

    source: str
    status: str
    error: str | None
    duration: float | None
    sample_rate: int | None
    quality: Quality | None
    events: tuple[Event, ...]
    finding: Finding | None
    recording: Recording | None = field(default=None, repr=False, compare=False)
    labels: tuple[str, ...] = field(default=(), repr=False, compare=False)

    def to_frame(self) -> Any:
        """Return the events as a pandas data frame, one row per event.

        Raises
        ------
        CrepitusError
            Without pandas.
        """
        from audio_pipeline.analysis.display import events_to_frame

        return events_to_frame(self.events, self.labels)

    def plot(self, start: float = 0.0, end: float | None = None) -> Any:
        """Draw waveform and spectrogram with the events outlined, dashed where unsure.

        Parameters
        ----------
        start, end : float
            Seconds; at most two minutes are drawn.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        CrepitusError
            Without matplotlib, or when the recording cannot be read any more.
        """
        from audio_pipeline.analysis.display import plot_events

        return plot_events(self.events, self.recording or self.source, start, end)

    def _repr_html_(self) -> str:
        from audio_pipeline.analysis.display import events_to_html

        sound = (self.recording or self.source) if self.status == "ok" else None
        return events_to_html(self.source, self.finding or self.error, self.events, sound or None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: an entry of `recordings`, without its recommendation."""
        return {
            "source": printable(self.source),
            "status": self.status,
            "error": self.error,
            "duration": None if self.duration is None else round(self.duration, 4),
            "sample_rate": self.sample_rate,
            "quality": None if self.quality is None else self.quality.to_dict(),
            "events": [event.to_dict() for event in self.events],
            "finding": None if self.finding is None else self.finding.to_dict(),
        }


def printable(name: str) -> str:
    r"""Return a name with bytes that are not UTF-8 as ``\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class SegmentStream:
    """Quality, resampling, segments and features of one stream of blocks."""

    def __init__(
        self,
        sample_rate: int,
        settings: AnalysisConfig,
        regions: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self.settings = settings
        self.meter = QualityMeter(sample_rate, settings.quality)
        self.segmenter = Segmenter(settings.segmentation, regions)
        self.received = 0
        # Below the rate that the model needs, only the quality is measured, to say so.
        self._listens = sample_rate >= settings.quality.minimum_rate
        self._resampler = Resampler(sample_rate, settings.sample_rate)

    def push(self, block: Float32) -> list[SegmentClip]:
        """Take the next samples, float32 (n,); return the segments that have become certain."""
        if not len(block):
            return []
        self.received += len(block)
        block = self.meter.update(block)
        return self.segmenter.push(self._resampler.push(block)) if self._listens else []

    def finish(self, block: Float32 = _NO_SAMPLES) -> list[SegmentClip]:
        """Take the last samples, float32 (n,); return the segments left."""
        self.received += len(block)
        block = self.meter.update(block)
        return self.segmenter.finish(self._resampler.finish(block)) if self._listens else []

    def features(self, clips: Sequence[SegmentClip]) -> Float32:
        """Return the rows of the feature table for some segments, float32 (n, n_features)."""
        return feature_table(clips, self.settings.features)


def extract(
    source: Source | Recording,
    settings: AnalysisConfig | None = None,
    *,
    regions: Sequence[tuple[float, float]] | None = None,
) -> Extraction:
    """Hear what is in a recording: quality, segments and their features.

    Parameters
    ----------
    source : str, bytes, path, binary file or Recording
        As :func:`~audio_pipeline.audio.recording.open_recording` takes it.
    settings : AnalysisConfig, optional
        How to analyse; a model's are ``classifier.settings``.
    regions : sequence of (float, float), optional
        (start, end) in seconds: exactly these become the segments, rising by their end, for labels
        that a person drew. One that begins after the end of the recording is left out.

    Returns
    -------
    Extraction
        Without segments, and with a table of shape (0, n_features), where nothing was found. A
        recording that cannot be read raises nothing: its `status` is then `failed`.

    Raises
    ------
    InvalidInputError
        When `source` or `settings` is of another type, or a region ends before it begins or before
        the recording does.
    """
    settings = AnalysisConfig() if settings is None else settings
    if not isinstance(settings, AnalysisConfig):
        raise InvalidInputError(
            f"settings must be an AnalysisConfig, not {type(settings).__name__}; "
            "a model's are classifier.settings"
        )
    segmented = segment_recording(source, settings, regions=regions)
    try:
        return extract_features([segmented], settings)[0]
    except MemoryError:
        name = segmented.extraction.source
        return Extraction(name, "failed", NO_MEMORY, None, None, None, (), NO_ROWS)


NO_MEMORY = "there is not enough memory for it"


@dataclass(frozen=True)
class SegmentedRecording:
    """A recording of which the last segments, as clips, have no features yet."""

    extraction: Extraction
    clips: tuple[SegmentClip, ...] = ()


def segment_recording(
    source: Source | Recording,
    settings: AnalysisConfig,
    *,
    regions: Sequence[tuple[float, float]] | None = None,
) -> SegmentedRecording:
    """Find the segments of a recording; parameters as of :func:`extract`.

    Features are computed here only where a recording has many segments; the rest is left to
    :func:`extract_features`, which takes several recordings together.
    """
    name = _name(source)
    segments: list[Segment] = []
    tables = [NO_ROWS]
    clips: list[SegmentClip] = []
    try:
        with open_recording(source) as reader:
            stream = SegmentStream(reader.sample_rate, settings, regions)
            cues = cues_in_comment(reader.comment)
            # The last block also ends the stream: most recordings go through in one step.
            last = _NO_SAMPLES
            for block in reader.blocks():
                clips += _without_cues(stream.push(last), cues)
                last = block
                if len(clips) >= _CLIPS_AT_ONCE:
                    segments += [clip.segment for clip in clips]
                    tables.append(stream.features(clips))
                    clips = []
            clips += _without_cues(stream.finish(last), cues)
            rate, truncated, comment = reader.sample_rate, reader.truncated, reader.comment
    except (RecordingError, MemoryError) as error:
        # A header can claim any size: one recording's failure, and no end of the work.
        reason = str(error) if isinstance(error, RecordingError) else NO_MEMORY
        return SegmentedRecording(Extraction(name, "failed", reason, None, None, None, (), NO_ROWS))
    segments += [clip.segment for clip in clips]
    times = [(segment.start, segment.end) for segment in segments]
    quality = stream.meter.result(times, truncated=truncated)
    if not quality.usable:
        segments, tables, clips = [], [NO_ROWS], []
    duration = stream.received / rate
    extraction = Extraction(
        name,
        "ok",
        None,
        duration,
        rate,
        quality,
        tuple(segments),
        np.concatenate(tables),
        phases_in_comment(comment, duration),
    )
    return SegmentedRecording(extraction, tuple(clips))


def _without_cues(
    clips: Sequence[SegmentClip], cues: Sequence[tuple[float, float]]
) -> list[SegmentClip]:
    """Leave out the sounds by which the recorder told the person what to do."""
    return [clip for clip in clips if not is_cue(clip.segment.start, cues)]


def extract_features(
    recordings: Sequence[SegmentedRecording], settings: AnalysisConfig
) -> list[Extraction]:
    """Return the extractions of some recordings; together their features cost half as much."""
    clips = [clip for recording in recordings for clip in recording.clips]
    rows = feature_table(clips, settings.features)
    extractions = []
    for recording in recordings:
        own, rows = np.split(rows, [len(recording.clips)])
        table = np.concatenate([recording.extraction.table, own])
        extractions.append(replace(recording.extraction, table=table))
    return extractions


def _name(source: Source | Recording) -> str:
    if isinstance(source, Recording):
        return source.source
    if isinstance(source, str | bytes | os.PathLike):
        return os.fsdecode(source)
    return str(getattr(source, "name", ""))


def classify_segments(
    extraction: Extraction, probabilities: NDArray[np.float64], classifier: Classifier
) -> Analysis:
    """Judge what was heard.

    Parameters
    ----------
    extraction
        What was heard.
    probabilities
        float64 (n_segments, n_labels), from ``classifier.predict_proba(extraction.table)``.
    classifier
        Its labels and thresholds.
    """
    events = tuple(make_events(extraction.segments, extraction.table, probabilities, classifier))
    quality = extraction.quality
    analysis = Analysis(
        extraction.source,
        extraction.status,
        extraction.error,
        extraction.duration,
        extraction.sample_rate,
        quality,
        events,
        None if quality is None else derive_finding(events, quality.usable, classifier.labels),
        labels=classifier.labels,
    )
    if extraction.phases:
        return apply_protocol(analysis, extraction.phases, classifier.labels)
    return analysis


def apply_protocol(
    analysis: Analysis,
    phases: Sequence[Phase],
    labels: Sequence[str],
) -> Analysis:
    """Return the analysis of a guided recording with the protocol's evidence in it.

    An event outside the movement becomes uncertain and does not count at all: the finding is that
    of the others. A grating that came in one turn only becomes uncertain. What the turns tell is
    added to the reasons. Labels and probabilities stay as they were heard.

    Parameters
    ----------
    analysis : Analysis
        Of the whole recording.
    phases : sequence of Phase
        What was performed.
    labels : sequence of str
        The model's.
    """
    if analysis.finding is None or analysis.quality is None:
        return analysis
    evidence = weigh_evidence(phases, analysis.events)
    events = tuple(
        replace(event, uncertain=event.uncertain or out or once, reasons=(*event.reasons, *said))
        for event, out, once, said in zip(
            analysis.events,
            evidence.outside,
            evidence.once,
            evidence.event_reasons,
            strict=True,
        )
    )
    counted = [one for one, out in zip(events, evidence.outside, strict=True) if not out]
    finding = derive_finding(counted, analysis.quality.usable, labels)
    if events and not counted:
        finding = replace(finding, reasons=("No sound came while you moved.",))
    finding = replace(finding, reasons=(*finding.reasons, *evidence.reasons))
    return replace(analysis, events=events, finding=finding)


def make_events(
    segments: Sequence[Segment],
    table: Float32,
    probabilities: NDArray[np.float64],
    classifier: Classifier,
) -> list[Event]:
    """Return the events of segments in order of time, each in the light of those around it."""
    spans = [(segment.start, segment.end) for segment in segments]
    weighed = smooth_probabilities(probabilities, spans, classifier.settings.context)
    certain = certainties(weighed, classifier.labels)
    return [
        _event(segment, row, chances, float(certainty), classifier)
        for segment, row, chances, certainty in zip(segments, table, weighed, certain, strict=True)
    ]


def _event(
    segment: Segment,
    row: Float32,
    chances: NDArray[np.float64],
    certainty: float,
    classifier: Classifier,
) -> Event:
    label = classifier.labels[int(chances.argmax())]
    uncertain = certainty < classifier.thresholds[label]
    return Event(
        segment.start,
        segment.end,
        label,
        {name: float(chance) for name, chance in zip(classifier.labels, chances, strict=True)},
        uncertain,
        len(segment.impacts),
        reasons(segment, row, label, uncertain, classifier.labels),
    )


def analyze_file(source: Source | Recording, classifier: Classifier) -> Analysis:
    """Hear what a recording holds.

    Parameters
    ----------
    source : str, bytes, path, binary file or Recording
        Any sound or video file; its name is never used to tell its format. A binary file must be
        seekable and stays open.
    classifier : Classifier
        The model, as :func:`~audio_pipeline.model.classifier.load_classifier` gives it.

    Returns
    -------
    Analysis
        Its `events` are in order of time, in seconds, and empty where no sound was found, where
        the recording cannot be used (`finding` is then ``unusable`` and `quality` says why) and
        where it cannot be read: nothing is raised then, but `status` is ``failed``, `error` one
        line with the reason, and `finding`, `quality` and `duration` are None.

    Raises
    ------
    InvalidInputError
        When `source` is of another type, an array for instance.

    Examples
    --------
    >>> from audio_pipeline import load_classifier
    >>> analysis = analyze_file("gone.wav", load_classifier())
    >>> analysis.status, analysis.error
    ('failed', 'there is no such file')
    """
    extraction = extract(source, classifier.settings)
    chances = classifier.predict_proba(extraction.table)
    analysis = classify_segments(extraction, chances, classifier)
    return replace(analysis, recording=source) if isinstance(source, Recording) else analysis


def analyze_recording(recording: Recording, classifier: Classifier) -> Analysis:
    """Hear what a recording in memory holds; the same as :func:`analyze_file` of its file.

    Parameters
    ----------
    recording : Recording
        Made of samples in [-1, 1], or of integers, and their rate in Hz.
    classifier : Classifier
        The model.

    Returns
    -------
    Analysis
        As of :func:`analyze_file`, with the `recording` in it; `status` is ``failed`` where it has
        no sample.

    Raises
    ------
    InvalidInputError
        When it is samples without their rate.
    """
    return analyze_file(recording, classifier)


@dataclass(frozen=True)
class LiveEvent:
    """An event of a stream; `final` is False while what comes next could still change it."""

    event: Event
    final: bool


class StreamAnalyzer:
    """Hears a stream as it comes, by the same steps as a file.

    Parameters
    ----------
    sample_rate
        Rate of the stream in Hz.
    classifier
        The model.
    remember
        Keep what is needed for :meth:`analysis`. Without it memory stays bounded for ever.

    Notes
    -----
    An event is reported with ``final=False`` as soon as it has died away, and with ``final=True``
    when nothing that follows can be joined to it or change its context. The final events equal
    those of a file of the same samples.
    """

    def __init__(self, sample_rate: int, classifier: Classifier, *, remember: bool = True) -> None:
        self.sample_rate = sample_rate
        self.classifier = classifier
        self._stream = SegmentStream(sample_rate, classifier.settings)
        self._remember = remember
        self._told: set[tuple[float, int]] = set()  # provisional events already reported
        self._bout: list[tuple[Segment, Float32, NDArray[np.float64]]] = []
        self._segments: list[Segment] = []
        self._tables = [NO_ROWS]

    def push(self, block: Float32) -> list[LiveEvent]:
        """Take the next samples, float32 (n,); return what can be said now."""
        final = self._settle(self._stream.push(block), self._stream.segmenter.settled)
        waiting = self._stream.segmenter.provisional()
        told = {(p.segment.start, len(p.segment.impacts)) for p in waiting}
        news = [p for p in waiting if (p.segment.start, len(p.segment.impacts)) not in self._told]
        self._told = told
        if not news:
            return final
        segments, table, chances = self._judged(news)
        known = len(self._bout)
        events = make_events(
            [*(segment for segment, _, _ in self._bout), *segments],
            np.concatenate([*(row[None] for _, row, _ in self._bout), table]),
            np.concatenate([*(chance[None] for _, _, chance in self._bout), chances]),
            self.classifier,
        )
        return final + [LiveEvent(event, False) for event in events[known:]]

    def finish(self) -> list[LiveEvent]:
        """Return the last events when the stream has ended."""
        return self._settle(self._stream.finish(), np.inf)

    def analysis(self, source: str = "") -> Analysis:
        """Return the analysis of all that came, after :meth:`finish`; the same as of its file."""
        if not self._remember:
            raise ValueError("this stream was analysed with remember=False")
        times = [(segment.start, segment.end) for segment in self._segments]
        quality = self._stream.meter.result(times)
        segments = tuple(self._segments) if quality.usable else ()
        table = np.concatenate(self._tables) if quality.usable else NO_ROWS
        extraction = Extraction(
            source,
            "ok",
            None,
            self._stream.received / self.sample_rate,
            self.sample_rate,
            quality,
            segments,
            table,
        )
        return classify_segments(extraction, self.classifier.predict_proba(table), self.classifier)

    def _judged(
        self, clips: Sequence[SegmentClip]
    ) -> tuple[list[Segment], Float32, NDArray[np.float64]]:
        table = self._stream.features(clips)
        return [p.segment for p in clips], table, self.classifier.predict_proba(table)

    def _settle(self, clips: Sequence[SegmentClip], settled: float) -> list[LiveEvent]:
        """Add segments to the bout under way; return the events of the bouts that are over.

        A bout is over when no segment can start any more within its gap, that is, when all before
        `settled` seconds is known.
        """
        if clips:
            segments, table, chances = self._judged(clips)
            self._bout += zip(segments, table, chances, strict=True)
            if self._remember:
                self._segments += segments
                self._tables.append(table)
        context = self.classifier.settings.context
        whole = bouts([(segment.start, segment.end) for segment, _, _ in self._bout], context)
        if whole and self._bout[-1][0].end + context.gap >= settled:
            whole.pop()
        events: list[LiveEvent] = []
        for bout in whole:
            parts = self._bout[bout]
            judged = make_events(
                [segment for segment, _, _ in parts],
                np.array([row for _, row, _ in parts]),
                np.array([chance for _, _, chance in parts]),
                self.classifier,
            )
            events += [LiveEvent(event, True) for event in judged]
        if whole:
            del self._bout[: whole[-1].stop]
        return events
