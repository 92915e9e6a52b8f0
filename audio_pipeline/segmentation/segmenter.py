"""Impacts and segments: where in a stream of samples something happens.

Every decision looks at the past and at most half a second ahead, on a grid of frames that starts at
the first sample, so files in blocks of any size, hour-long files and the live microphone give equal
results.

The steps, each a measured choice (``docs/recognition.md``):

1. Log-mel spectrogram: librosa's, 16 bands, a frame every 2.9 ms
   (:func:`audio_pipeline.segmentation.onset_envelope.log_mel_spectrogram`).
2. Onset envelope: frame-wise SNR over a running noise floor
   (:class:`audio_pipeline.segmentation.onset_envelope.OnsetEnvelope`).
3. Impacts: peaks of the envelope (:func:`audio_pipeline.segmentation.onset_envelope.peak_pick`).
4. Segments: impacts joined by the written definition of pop and grating (:class:`Segmenter`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.segmentation.onset_envelope import OnsetEnvelope, peak_pick
from audio_pipeline.segmentation.segment import Segment, SegmentationConfig, SegmentClip

Float32 = NDArray[np.float32]

_SOON = 48  # frames


_NOTHING: Float32 = np.zeros(0, np.float32)


@dataclass(frozen=True)
class _Impact:
    frame: int
    peak: float


class Segmenter:
    """Finds segments in a stream of samples, block by block.

    Parameters
    ----------
    config
        How impacts are found and joined.
    regions
        Where given, exactly these (start, end) in seconds become the segments, rising by their end;
        for labels that a person drew. Those that begin after the end of the stream are left out.

    Raises
    ------
    InvalidInputError
        When a region ends before it begins, or before the stream does.

    Notes
    -----
    Two neighbouring impacts belong together when they are less than `cascade_gap` apart, or when no
    valley parts them, or when they are less than `dense_gap` apart in a stretch of `dense_window`
    that holds `dense_count` impacts. No fixed gap works: 40 ms fragments grating, 200 ms swallows
    pops.
    """

    def __init__(
        self,
        config: SegmentationConfig,
        regions: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self.config = config
        self._stream = OnsetEnvelope(config)
        self._context = config.frames(config.peak_context)
        self._apart = config.frames(config.peak_distance)
        self._cascade_gap = config.frames(config.cascade_gap)
        self._dense_gap = config.frames(config.dense_gap)
        self._dense_window = config.frames(config.dense_window)
        self._max_frames = config.frames(config.max_duration)
        self._post_roll = config.frames(config.post_roll)
        self._regions = None if regions is None else sorted(regions, key=lambda region: region[1])
        for start, end in self._regions or ():
            if not (start <= end and end >= 0):  # nor is a NaN
                raise InvalidInputError(
                    f"the region from {start:g} to {end:g} s is none: give (start, end) in seconds "
                    "from the start of the recording"
                )
        self._samples = np.zeros(0, np.float32)
        self._first_sample = 0
        self._envelope = np.zeros(0, np.float32)
        self._first_frame = 0
        self._decided = 0  # frames up to here have been searched for impacts
        self._last_impact = -math.inf
        self._impacts: list[_Impact] = []
        self._last_end = 0.0
        self._finished = False

    @property
    def time(self) -> float:
        """Seconds of sound received so far."""
        return (self._first_sample + len(self._samples)) / self.config.sample_rate

    @property
    def settled(self) -> float:
        """Seconds before which no segment that is still to come can start."""
        frame = min([self._decided, *(impact.frame for impact in self._impacts[:1])])
        return (frame - self._dense_gap) / self.config.frame_rate

    def push(self, samples: Float32) -> list[SegmentClip]:
        """Take the next samples, float32 (n,); return the segments that have become certain."""
        self._samples = np.concatenate([self._samples, samples])
        self._envelope = np.concatenate([self._envelope, self._stream.push(samples)])
        return self._advance()

    def finish(self, samples: Float32 = _NOTHING) -> list[SegmentClip]:
        """Take the last samples of the stream; return the segments left."""
        self._finished = True
        # Most recordings come in one piece, which need not be copied.
        known = self._samples
        self._samples = np.concatenate([known, samples]) if len(known) else samples
        if not len(self._samples):
            return []
        self._envelope = np.concatenate([self._envelope, self._stream.finish(samples)])
        return self._advance()

    def provisional(self) -> list[SegmentClip]:
        """Return the sounds that have ended but could still be joined with what comes next.

        Only sounds with `post_roll` seconds of sound behind their last impact; for live display.
        """
        known = self._known - self._post_roll
        return [
            self._clip_of(group, follower)
            for group, follower in self._groups(certain=False)
            if group[-1].frame <= known and self._ending(group[-1], self.config.valley) is not None
        ]

    @property
    def _known(self) -> int:
        """Number of frames whose envelope is known."""
        return self._first_frame + len(self._envelope)

    def _advance(self) -> list[SegmentClip]:
        self._find_impacts()
        if self._regions is not None:
            clips = self._given(self._regions)
        else:
            clips = []
            for group, follower in self._groups(certain=True):
                clips.append(self._clip_of(group, follower))
                self._last_end = clips[-1].segment.end
        self._forget()
        return clips

    def _find_impacts(self) -> None:
        """Search the frames whose surroundings are known for peaks."""
        stop = self._known if self._finished else self._known - self._context
        if stop <= self._decided:
            return
        begin = max(self._first_frame, self._decided - self._context)
        around = self._between(begin, self._known)
        for index in peak_pick(around, self.config).tolist():
            frame = begin + index
            # Of a flat top only the first frame is an impact.
            if self._decided <= frame < stop and frame - self._last_impact > self._apart:
                self._impacts.append(_Impact(frame, float(around[index])))
                self._last_impact = frame
        self._decided = stop

    def _ending(self, impact: _Impact, fall: float) -> int | None:
        """Return the frame at which `impact` has fallen by `fall` dB, None while unknown."""
        level = max(self.config.quiet, impact.peak - fall)
        following = self._envelope[impact.frame - self._first_frame :]
        # Most impacts die away soon.
        for part in (following[:_SOON], following):
            below = part < level
            first = int(below.argmax())
            if below[first]:
                return impact.frame + first
        return self._known if self._finished else None

    def _joined(self, index: int, frames: list[int], certain: bool) -> bool | None:
        """Whether impacts `index` and `index` + 1 belong together; None while not yet known."""
        config, one = self.config, self._impacts[index]
        ended = self._ending(one, config.valley)
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
        for start in range(index, max(-1, index + 1 - config.dense_count), -1):
            if start < index and frames[start + 1] - frames[start] >= dense_gap:
                break
            run = frames[start : start + config.dense_count]
            if len(run) == config.dense_count and run[-1] - run[0] < window:
                return True
        if certain and not self._finished and self._decided <= one.frame + window:
            return None
        return False

    def _groups(self, certain: bool) -> list[tuple[list[_Impact], _Impact | None]]:
        """Return the impacts that belong together, each group with the impact that follows it.

        With `certain`, only groups that nothing to come can change; these leave the list.
        """
        config, impacts = self.config, self._impacts
        frames = [impact.frame for impact in impacts]
        groups: list[tuple[list[_Impact], _Impact | None]] = []
        start = 0
        for index, impact in enumerate(impacts):
            joined = self._joined(index, frames, certain)
            if joined is None:
                break
            if joined and impact.frame - frames[start] < self._max_frames:
                continue
            ending = self._ending(impact, config.decay)
            if (
                certain
                and (ending is None or self._known <= ending + self._post_roll)
                and not self._finished
            ):
                break
            follower = impacts[index + 1] if index + 1 < len(impacts) else None
            groups.append((impacts[start : index + 1], follower))
            start = index + 1
        if certain:
            del impacts[:start]
        return groups

    def _clip_of(self, group: list[_Impact], follower: _Impact | None) -> SegmentClip:
        """Return the segment that a group of impacts makes, with its surroundings."""
        config = self.config
        first, last = group[0], group[-1]
        level = max(config.quiet, first.peak - config.decay)
        previous = round(self._last_end * config.frame_rate)
        reach = first.frame - self._dense_gap
        earliest = max(self._first_frame, previous, reach)
        below = self._between(earliest, first.frame) < level
        start = earliest + (int(np.flatnonzero(below)[-1]) + 1 if below.any() else 0)
        end = self._ending(last, config.decay) or self._known
        if follower is not None and follower.frame < end:
            between = self._between(last.frame, follower.frame)
            end = last.frame + int(between.argmin())
        return self._cut(start / config.frame_rate, (end + 1) / config.frame_rate, group)

    def _given(self, regions: list[tuple[float, float]]) -> list[SegmentClip]:
        """Return the clips of the regions that are known far enough, and forget these."""
        clips = []
        decided = self._decided / self.config.frame_rate
        while regions and (self._finished or decided > regions[0][1] + self.config.post_roll):
            start, end = regions.pop(0)
            if start >= self.time:
                continue
            inside = [one for one in self._impacts if start <= self._time_of(one) < end]
            clips.append(self._cut(start, end, inside))
        return clips

    def _between(self, frame: int, beyond: int) -> Float32:
        return self._envelope[frame - self._first_frame : beyond - self._first_frame]

    def _time_of(self, impact: _Impact) -> float:
        return impact.frame / self.config.frame_rate

    def _cut(self, start: float, end: float, impacts: list[_Impact]) -> SegmentClip:
        config = self.config
        rate = config.sample_rate
        start, end = max(0.0, start), min(max(end, start + 1 / config.frame_rate), self.time)
        begin = max(self._first_sample, round((start - config.pre_roll) * rate))
        stop = round((end + config.post_roll) * rate)
        first = max(self._first_frame, int(start * config.frame_rate))
        beyond = max(first + 1, math.ceil(end * config.frame_rate))
        segment = Segment(start, end, tuple(self._time_of(impact) for impact in impacts))
        return SegmentClip(
            segment,
            self._samples[begin - self._first_sample : max(0, stop - self._first_sample)].copy(),
            rate,
            begin / rate,
            self._between(first, beyond).copy(),
            first / config.frame_rate,
            np.array([impact.peak for impact in impacts], np.float32),
        )

    def _forget(self) -> None:
        """Drop what no later segment can need."""
        config = self.config
        frame = self._decided - self._context
        if self._impacts:
            frame = min(frame, self._impacts[0].frame)
        if self._regions is not None:
            starts = [round(region[0] * config.frame_rate) for region in self._regions]
            frame = min([frame, *starts])
            self._impacts = [one for one in self._impacts if one.frame >= frame]
        frame -= self._dense_gap
        before = round(config.pre_roll * config.sample_rate) + config.n_fft
        sample = frame * config.hop_length - before
        if frame > self._first_frame:
            self._envelope = self._envelope[frame - self._first_frame :].copy()
            self._first_frame = frame
        if sample > self._first_sample:
            self._samples = self._samples[sample - self._first_sample :].copy()
            self._first_sample = sample


def segment_samples(samples: Float32, config: SegmentationConfig) -> list[SegmentClip]:
    """Return all segments of a whole recording at the rate of `config`, with their surroundings.

    Silence and steady noise give an empty list.
    """
    segmenter = Segmenter(config)
    return segmenter.push(np.ascontiguousarray(samples, np.float32)) + segmenter.finish()
