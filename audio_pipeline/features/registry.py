"""How a feature is declared, and what feature functions get.

A feature is one decorated function, tied to the name of its column::

    @TEMPORAL.feature("crest_factor", unit="dB", meaning="peak over RMS of the segment")
    def crest_factor(clips: Clips) -> Float64:
        wave = clips.shared(waveforms)
        return 10 * np.log10(wave.layout.max(wave.squares) / wave.power)

It takes some segment clips at once and returns a value for each. What several features need is a
plain function too, called through :meth:`Clips.shared`, which runs it once for all of them.
``features/transformer.py`` lists the groups that make the feature table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.segmentation.segment import SegmentClip

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Indices = NDArray[np.intp]
Value = TypeVar("Value", bound=np.generic)
Shared = TypeVar("Shared")

STUDY = "exploratory study, docs/recognition.md"

FRAME_SECONDS = 0.001
"""Levels are followed in frames of about this length."""


@dataclass(frozen=True)
class FeatureConfig:
    """What the features are computed from.

    Frequencies, in Hz, hold for `reference_rate` and scale with the sample rate of the model.

    Raises
    ------
    ValueError
        If a value lies outside its range.
    """

    reference_rate: int = 22_050
    band_edges: tuple[float, ...] = (80.0, 300.0, 800.0, 2_000.0, 4_500.0, 10_000.0)
    #: Levels are compared down to this far below the transient: what is cut to digital silence and
    #: what fades into a quiet room shall look alike.
    dynamic_range_db: float = 40.0

    def __post_init__(self) -> None:
        if not 1000 <= self.reference_rate <= 192_000:
            raise ValueError(f"reference_rate must be from 1000 to 192000: {self.reference_rate}")
        edges, top = self.band_edges, self.reference_rate / 2
        rising = all(low < high for low, high in pairwise(edges))
        if len(edges) != 6 or not rising or edges[0] <= 0 or edges[-1] >= top:
            raise ValueError(f"band_edges must be six, rising, between 0 and {top:g} Hz")
        if not 0 < self.dynamic_range_db <= 200:
            raise ValueError(f"dynamic_range_db must be from 0 to 200: {self.dynamic_range_db}")


@dataclass(frozen=True)
class Ragged:
    """The layout of rows of different length, one after the other in an array; none is empty.

    Segments differ in length, so a measure is taken on all of them at once: a recording full of
    pops costs little more than one with a single pop.
    """

    lengths: Indices  #: ndarray of int, shape (n,): Of each row
    starts: Indices

    @classmethod
    def of(cls, lengths: ArrayLike) -> Self:
        """Lay out rows of these lengths."""
        each = np.asarray(lengths, np.intp)
        return cls(each, np.cumsum(each) - each)

    def sum(self, values: NDArray[np.generic]) -> Float64:
        """Return the sum of each row, shape (n,)."""
        return np.add.reduceat(values.astype(np.float64, copy=False), self.starts)

    def mean(self, values: NDArray[np.generic]) -> Float64:
        """Return the mean of each row, shape (n,)."""
        return self.sum(values) / self.lengths

    def max(self, values: Float64) -> Float64:
        """Return the maximum of each row, shape (n,)."""
        highest: Float64 = np.maximum.reduceat(values, self.starts)
        return highest

    def std(self, values: Float64) -> Float64:
        """Return the standard deviation of each row, shape (n,)."""
        return np.sqrt(self.mean(np.square(values - self.repeat(self.mean(values)))))

    def flux(self, values: Float64) -> Float64:
        """Return the mean absolute step from value to value, 0 for a single one; shape (n,)."""
        steps = np.abs(np.diff(values, append=0.0))
        steps[self.starts + self.lengths - 1] = 0.0
        return self.sum(steps) / np.maximum(1, self.lengths - 1)

    def repeat(self, values: NDArray[Value]) -> NDArray[Value]:
        """Return the value of its row for every element."""
        return np.repeat(values, self.lengths)

    def positions(self) -> Indices:
        """Return the position of every element in its row, from 0."""
        return np.arange(self.lengths.sum()) - np.repeat(self.starts, self.lengths)

    def matrix(self, values: Float64, chosen: Indices, size: int) -> Float64:
        """Return some rows, each without its mean, filled up with zeros; (len(chosen), size)."""
        rows = np.zeros((len(chosen), size))
        for row, index in zip(rows, chosen, strict=True):
            start, length = self.starts[index], self.lengths[index]
            row[:length] = values[start : start + length]
            row[:length] -= row[:length].mean()
        return rows


class Clips:
    """The segment clips that features are computed from together, and what they share.

    Parameters
    ----------
    clips : sequence of SegmentClip
        At least one; all at the same rate.
    config : FeatureConfig
        What the features are computed from.

    Attributes
    ----------
    sample_rate : int
        Hz.
    frame : int
        Samples in a frame of about 1 ms.
    scale : float
        Of all frequencies in the configuration, for this rate.

    Raises
    ------
    ValueError
        If the clips have different rates.
    """

    def __init__(self, clips: Sequence[SegmentClip], config: FeatureConfig) -> None:
        rates = {clip.sample_rate for clip in clips}
        if len(rates) != 1:
            raise ValueError(f"clips must be at one sample rate, not {sorted(rates)}")
        self.config = config
        self.sample_rate = rates.pop()
        self.frame = max(1, round(FRAME_SECONDS * self.sample_rate))
        self.scale = self.sample_rate / config.reference_rate
        self._clips = clips
        self._shared: dict[Any, Any] = {}

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[SegmentClip]:
        return iter(self._clips)

    def shared(self, function: Callable[[Clips], Shared]) -> Shared:
        """Return what a function makes of these clips; it is called once."""
        if function not in self._shared:
            self._shared[function] = function(self)
        result: Shared = self._shared[function]
        return result


@dataclass(frozen=True)
class Feature:
    """One column of the feature table."""

    name: str  #: For people; the source is a paper or a study
    unit: str
    meaning: str
    source: str
    #: Takes :class:`Clips`, returns the values, shape (n,)
    function: Callable[[Clips], NDArray[Any]]


class FeatureGroup(list[Feature]):
    """Features in order of their declaration."""

    def feature(
        self,
        name: str,
        unit: str,
        meaning: str,
        source: str = STUDY,
        **variants: Iterable[Any],
    ) -> Callable[[Callable[..., NDArray[Any]]], Callable[..., NDArray[Any]]]:
        """Declare the decorated function as a feature, or as one for each variant of a parameter.

        Parameters
        ----------
        name, unit, meaning, source : str
            As in :class:`Feature`; in braces the parameter of the variants, as in a format string.
        **variants : iterable
            At most one: the name of the function's parameter and its values.
        """

        def declare(function: Callable[..., NDArray[Any]]) -> Callable[..., NDArray[Any]]:
            given: list[dict[str, Any]] = [{}]
            for parameter, values in variants.items():
                given = [{parameter: value} for value in values]
            for one in given:
                self.append(
                    Feature(
                        name.format(**one),
                        unit,
                        meaning.format(**one),
                        source,
                        partial(function, **one),
                    )
                )
            return function

        return declare


@dataclass(frozen=True)
class Waveforms:
    """The samples of segments, without their rolls and their mean, one after the other."""

    samples: Float64  #: ndarray of float64: Every segment has at least two frames
    squares: Float64
    layout: Ragged  #: Of both
    power: Float64  #: ndarray of float64, shape (n,): Mean square of each segment
    frame_powers: Float64  #: ndarray of float64: Of all whole frames, relative to `power`
    frame_layout: Ragged  #: Of these


def durations(clips: Clips) -> Float64:
    """Return the lengths of segments in seconds, shape (n,)."""
    return np.array([clip.segment.end - clip.segment.start for clip in clips])


def waveforms(clips: Clips) -> Waveforms:
    """Return the samples of segments in a row."""
    frame = clips.frame
    pieces = [_segment_samples(clip, 2 * frame) for clip in clips]
    layout = Ragged.of([len(piece) for piece in pieces])
    samples = np.concatenate(pieces, dtype=np.float64)
    samples -= layout.repeat(layout.mean(samples))
    squares = np.square(samples)
    squares += 1e-30
    power = layout.mean(squares)
    blocks = Ragged.of(-(-layout.lengths // frame))
    sums = np.add.reduceat(squares, blocks.repeat(layout.starts) + blocks.positions() * frame)
    whole = blocks.positions() < blocks.repeat(layout.lengths // frame)
    frames = Ragged.of(layout.lengths // frame)
    return Waveforms(
        samples, squares, layout, power, sums[whole] / frame / frames.repeat(power), frames
    )


def _segment_samples(clip: SegmentClip, least: int) -> Float32:
    """Return the samples of a segment without its rolls, at least so many."""
    start = round((clip.segment.start - clip.offset) * clip.sample_rate)
    stop = round((clip.segment.end - clip.offset) * clip.sample_rate)
    samples = clip.samples[max(0, start) : max(start + 8, stop)]
    if len(samples) < least:
        samples = np.pad(samples, (0, least - len(samples)))
    return samples


def transform_size(needed: int) -> int:
    """Return a quick size of a Fourier transform: a power of two, or three quarters of one."""
    power = 1 << (needed - 1).bit_length()
    return power * 3 // 4 if needed <= power * 3 // 4 else power
