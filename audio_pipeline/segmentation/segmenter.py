"""Impacts and segments: where in a stream of samples something happens.

Every decision looks at the past and at most half a second ahead, on a grid of frames that starts at
the first sample, so files in blocks of any size, hour-long files and the live microphone give equal
results.

The steps, each a measured choice (``docs/recognition.md``):

1. Band levels: librosa's mel bands, 16 of them, in dB, a frame every 2.9 ms
   (:func:`audio_pipeline.segmentation.band_levels.band_levels`).
2. Elevation over a trailing noise floor
   (:class:`audio_pipeline.segmentation.onset_envelope.Elevation`).
3. Impacts: prominent peaks of the elevation
   (:func:`audio_pipeline.segmentation.onset_envelope.prominent_peaks`).
4. Segments: impacts joined by the written definition of pop and grating (:class:`Segmenter`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.segmentation.band_levels import mel_edges
from audio_pipeline.segmentation.noise_floor import FloorSettings
from audio_pipeline.segmentation.onset_envelope import Elevation, prominent_peaks
from audio_pipeline.segmentation.segment import Passage, Segment

Float32 = NDArray[np.float32]

_SOON = 48  # frames


@dataclass(frozen=True)
class SegmentationSettings:
    """How impacts are found and joined.

    Times in seconds, levels in dB, frequencies in Hz, frame sizes in samples at `sample_rate`.
    """

    sample_rate: int = 22_050
    n_fft: int = 256
    hop: int = 64
    #: Edges of the mel bands, rising. A model keeps those that librosa gave when it was trained: no
    #: other version can move them, and nobody waits for librosa before a recording is heard.
    band_edges: tuple[float, ...] = field(default_factory=lambda: mel_edges(16, 150.0, 10_000.0))
    floor: FloorSettings = field(default_factory=FloorSettings)
    #: An impact is a peak at least this high over the floor and over the valleys beside it.
    peak_height: float = 12.0
    peak_prominence: float = 6.0
    #: Valleys are looked for this far on each side of a peak.
    peak_context: float = 0.1
    peak_distance: float = 0.0116
    #: A sound lasts while the elevation is above `quiet` and within `decay` of its impact.
    decay: float = 15.0
    quiet: float = 6.0
    #: Impacts closer than this belong together (the definition of a cascade).
    cascade_gap: float = 0.045
    #: Impacts closer than this do where `dense_count` of them fall within `dense_window`.
    dense_gap: float = 0.25
    dense_count: int = 5
    dense_window: float = 0.5
    #: Two impacts with no valley as deep as this between them belong together.
    valley: float = 10.0
    longest: float = 10.0
    #: Sound kept before and after a segment for its features.
    before: float = 0.3
    after: float = 0.2

    def __post_init__(self) -> None:
        edges, top = self.band_edges, self.sample_rate / 2
        rising = all(low < high for low, high in pairwise(edges))
        if len(edges) < 3 or not rising or edges[0] < 0 or edges[-1] > top:
            raise ValueError(f"band_edges must be three or more, rising, from 0 to {top:g} Hz")

    def at_rate(self, sample_rate: int) -> SegmentationSettings:
        """Return these settings for another `sample_rate`.

        Frames keep their duration, bands their place relative to the rate, so that a model for skin
        accelerometers at 2 kHz needs no other code.
        """
        scale = sample_rate / self.sample_rate
        n_fft = max(32, 2 * round(self.n_fft * scale / 2))
        return replace(
            self,
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop=max(4, round(self.hop * scale)),
            band_edges=mel_edges(
                min(self.bands, n_fft // 4),
                self.band_edges[0] * scale,
                self.band_edges[-1] * scale,
            ),
        )

    @property
    def bands(self) -> int:
        """Number of bands."""
        return len(self.band_edges) - 2

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    def frames(self, seconds: float) -> int:
        """Return the number of frames nearest to `seconds`, at least one."""
        return max(1, round(seconds * self.frame_rate))


_NOTHING: Float32 = np.zeros(0, np.float32)


@dataclass(frozen=True)
class _Impact:
    frame: int
    peak: float


class Segmenter:
    """Finds segments in a stream of samples, block by block.

    Parameters
    ----------
    settings
        How impacts are found and joined.
    regions
        Where given, exactly these (start, end) in seconds become the segments, rising by their end;
        for labels that a person drew.

    Notes
    -----
    Two neighbouring impacts belong together when they are less than `cascade_gap` apart, or when no
    valley parts them, or when they are less than `dense_gap` apart in a stretch of `dense_window`
    that holds `dense_count` impacts. No fixed gap works: 40 ms fragments grating, 200 ms swallows
    pops.
    """

    def __init__(
        self,
        settings: SegmentationSettings,
        regions: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self.settings = settings
        self._stream = Elevation(settings)
        self._context = settings.frames(settings.peak_context)
        self._apart = settings.frames(settings.peak_distance)
        self._cascade_gap = settings.frames(settings.cascade_gap)
        self._dense_gap = settings.frames(settings.dense_gap)
        self._dense_window = settings.frames(settings.dense_window)
        self._longest = settings.frames(settings.longest)
        self._after = settings.frames(settings.after)
        self._regions = None if regions is None else sorted(regions, key=lambda region: region[1])
        self._samples = np.zeros(0, np.float32)
        self._first_sample = 0
        self._elevation = np.zeros(0, np.float32)
        self._first_frame = 0
        self._decided = 0  # frames up to here have been searched for impacts
        self._impacts: list[_Impact] = []
        self._last_end = 0.0
        self._finished = False

    @property
    def time(self) -> float:
        """Seconds of sound received so far."""
        return (self._first_sample + len(self._samples)) / self.settings.sample_rate

    @property
    def settled(self) -> float:
        """Seconds before which no segment that is still to come can start."""
        frame = min([self._decided, *(impact.frame for impact in self._impacts[:1])])
        return (frame - self._dense_gap) / self.settings.frame_rate

    def push(self, samples: Float32) -> list[Passage]:
        """Take the next samples, float32 (n,); return the segments that have become certain."""
        self._samples = np.concatenate([self._samples, samples])
        self._elevation = np.concatenate([self._elevation, self._stream.push(samples)])
        return self._advance()

    def finish(self, samples: Float32 = _NOTHING) -> list[Passage]:
        """Take the last samples of the stream; return the segments left."""
        self._finished = True
        # Most recordings come in one piece, which need not be copied.
        known = self._samples
        self._samples = np.concatenate([known, samples]) if len(known) else samples
        if not len(self._samples):
            return []
        self._elevation = np.concatenate([self._elevation, self._stream.finish(samples)])
        return self._advance()

    def provisional(self) -> list[Passage]:
        """Return the sounds that have ended but could still be joined with what comes next.

        Only sounds with `after` seconds of sound behind their last impact; for live display.
        """
        known = self._known - self._after
        return [
            self._passage(group, follower)
            for group, follower in self._groups(certain=False)
            if group[-1].frame <= known
            and self._ending(group[-1], self.settings.valley) is not None
        ]

    @property
    def _known(self) -> int:
        """Number of frames whose elevation is known."""
        return self._first_frame + len(self._elevation)

    def _advance(self) -> list[Passage]:
        self._find_impacts()
        if self._regions is not None:
            passages = self._given(self._regions)
        else:
            passages = []
            for group, follower in self._groups(certain=True):
                passages.append(self._passage(group, follower))
                self._last_end = passages[-1].segment.end
        self._forget()
        return passages

    def _find_impacts(self) -> None:
        """Search the frames whose surroundings are known for peaks."""
        settings, context = self.settings, self._context
        stop = self._known if self._finished else self._known - context
        if stop <= self._decided:
            return
        begin = max(self._first_frame, self._decided - context)
        around = np.concatenate([[0.0], self._elevation[begin - self._first_frame :], [0.0]])
        places = prominent_peaks(
            around, settings.peak_height, settings.peak_prominence, context, self._apart
        )
        for frame, peak in zip((places - 1 + begin).tolist(), around[places].tolist(), strict=True):
            if self._decided <= frame < stop:
                self._impacts.append(_Impact(frame, peak))
        self._decided = stop

    def _ending(self, impact: _Impact, fall: float) -> int | None:
        """Return the frame at which `impact` has fallen by `fall` dB, None while unknown."""
        level = max(self.settings.quiet, impact.peak - fall)
        following = self._elevation[impact.frame - self._first_frame :]
        # Most impacts die away soon.
        for part in (following[:_SOON], following):
            below = part < level
            first = int(below.argmax())
            if below[first]:
                return impact.frame + first
        return self._known if self._finished else None

    def _joined(self, index: int, frames: list[int], certain: bool) -> bool | None:
        """Whether impacts `index` and `index` + 1 belong together; None while not yet known."""
        settings, one = self.settings, self._impacts[index]
        ended = self._ending(one, settings.valley)
        dense_gap = self._dense_gap
        if index + 1 == len(frames):
            if not certain or self._finished:
                return False
            over = self._decided > one.frame + dense_gap
            return False if over and ended is not None and ended <= self._decided else None
        gap = frames[index + 1] - one.frame
        if gap < self._cascade_gap or ended is None:
            return True
        if ended >= frames[index + 1]:
            return True
        if gap >= dense_gap:
            return False
        window = self._dense_window
        for start in range(index, max(-1, index + 1 - settings.dense_count), -1):
            if start < index and frames[start + 1] - frames[start] >= dense_gap:
                break
            run = frames[start : start + settings.dense_count]
            if len(run) == settings.dense_count and run[-1] - run[0] < window:
                return True
        if certain and not self._finished and self._decided <= one.frame + window:
            return None
        return False

    def _groups(self, certain: bool) -> list[tuple[list[_Impact], _Impact | None]]:
        """Return the impacts that belong together, each group with the impact that follows it.

        With `certain`, only groups that nothing to come can change; these leave the list.
        """
        settings, impacts = self.settings, self._impacts
        frames = [impact.frame for impact in impacts]
        groups: list[tuple[list[_Impact], _Impact | None]] = []
        start = 0
        for index, impact in enumerate(impacts):
            joined = self._joined(index, frames, certain)
            if joined is None:
                break
            if joined and impact.frame - frames[start] < self._longest:
                continue
            ending = self._ending(impact, settings.decay)
            if (
                certain
                and (ending is None or self._known <= ending + self._after)
                and not self._finished
            ):
                break
            follower = impacts[index + 1] if index + 1 < len(impacts) else None
            groups.append((impacts[start : index + 1], follower))
            start = index + 1
        if certain:
            del impacts[:start]
        return groups

    def _passage(self, group: list[_Impact], follower: _Impact | None) -> Passage:
        """Return the segment that a group of impacts makes, with its surroundings."""
        settings = self.settings
        first, last = group[0], group[-1]
        level = max(settings.quiet, first.peak - settings.decay)
        previous = round(self._last_end * settings.frame_rate)
        reach = first.frame - self._dense_gap
        earliest = max(self._first_frame, previous, reach)
        below = self._between(earliest, first.frame) < level
        start = earliest + (int(np.flatnonzero(below)[-1]) + 1 if below.any() else 0)
        end = self._ending(last, settings.decay) or self._known
        if follower is not None and follower.frame < end:
            between = self._between(last.frame, follower.frame)
            end = last.frame + int(between.argmin())
        return self._cut(start / settings.frame_rate, (end + 1) / settings.frame_rate, group)

    def _given(self, regions: list[tuple[float, float]]) -> list[Passage]:
        """Return the passages of the regions that are known far enough, and forget these."""
        passages = []
        decided = self._decided / self.settings.frame_rate
        while regions and (self._finished or decided > regions[0][1] + self.settings.after):
            start, end = regions.pop(0)
            inside = [one for one in self._impacts if start <= self._time_of(one) < end]
            passages.append(self._cut(start, end, inside))
        return passages

    def _between(self, frame: int, beyond: int) -> Float32:
        return self._elevation[frame - self._first_frame : beyond - self._first_frame]

    def _time_of(self, impact: _Impact) -> float:
        return impact.frame / self.settings.frame_rate

    def _cut(self, start: float, end: float, impacts: list[_Impact]) -> Passage:
        settings = self.settings
        rate = settings.sample_rate
        start, end = max(0.0, start), min(max(end, start + 1 / settings.frame_rate), self.time)
        begin = max(self._first_sample, round((start - settings.before) * rate))
        stop = round((end + settings.after) * rate)
        first = max(self._first_frame, int(start * settings.frame_rate))
        beyond = max(first + 1, math.ceil(end * settings.frame_rate))
        segment = Segment(start, end, tuple(self._time_of(impact) for impact in impacts))
        return Passage(
            segment,
            self._samples[begin - self._first_sample : max(0, stop - self._first_sample)].copy(),
            begin / rate,
            self._between(first, beyond).copy(),
            first / settings.frame_rate,
            np.array([impact.peak for impact in impacts], np.float32),
        )

    def _forget(self) -> None:
        """Drop what no later segment can need."""
        settings = self.settings
        frame = self._decided - self._context
        if self._impacts:
            frame = min(frame, self._impacts[0].frame)
        if self._regions is not None:
            starts = [round(region[0] * settings.frame_rate) for region in self._regions]
            frame = min([frame, *starts])
            self._impacts = [one for one in self._impacts if one.frame >= frame]
        frame -= self._dense_gap
        before = round(settings.before * settings.sample_rate) + settings.n_fft
        sample = frame * settings.hop - before
        if frame > self._first_frame:
            self._elevation = self._elevation[frame - self._first_frame :].copy()
            self._first_frame = frame
        if sample > self._first_sample:
            self._samples = self._samples[sample - self._first_sample :].copy()
            self._first_sample = sample


def find_passages(samples: Float32, settings: SegmentationSettings) -> list[Passage]:
    """Return all segments of a whole recording at the rate of `settings`, with their surroundings.

    Silence and steady noise give an empty list.
    """
    segmenter = Segmenter(settings)
    return segmenter.push(np.ascontiguousarray(samples, np.float32)) + segmenter.finish()
