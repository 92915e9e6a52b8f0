"""A stream analysed as it comes: the same steps, and in the end the same result, as its file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import Event, bouts
from audio_pipeline.analysis.pipeline import (
    NO_ROWS,
    Analysis,
    Extraction,
    SegmentStream,
    classify_segments,
    make_events,
)
from audio_pipeline.segmentation.segment import Segment, SegmentClip

if TYPE_CHECKING:
    from audio_pipeline.model.classifier import Classifier

Float32 = NDArray[np.float32]


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
