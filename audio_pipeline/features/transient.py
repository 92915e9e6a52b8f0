"""The texture of segments: how rough, how even, how modulated, how voiced.

Segments differ in length, so they lie one after the other in one long array, and each measure is
taken on all of them at once (:class:`Stretches`): a recording full of pops costs little more than
one with a single pop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.segmentation.segment import SegmentClip

Float64 = NDArray[np.float64]
Floats = NDArray[np.floating]
Indices = NDArray[np.intp]
Value = TypeVar("Value", bound=np.generic)

MODULATION = ((2.0, 10.0), (10.0, 30.0), (30.0, 80.0), (80.0, 200.0), (200.0, 400.0))
"""Hz."""

_VOICE = (70.0, 500.0)
"""Hz: where the pitch of a voice lies."""

_VOICE_SECONDS = 0.5
_LEAST_TRANSFORM = 512
_SMALL = 1e-12


@dataclass(frozen=True)
class Stretches:
    """Stretches of different length, one after the other in an array; none is empty.

    Attributes
    ----------
    lengths, starts
        Of each stretch, shape (n,).
    """

    lengths: Indices
    starts: Indices

    @classmethod
    def of(cls, lengths: ArrayLike) -> Self:
        """Lay out stretches of these lengths."""
        each = np.asarray(lengths, np.intp)
        return cls(each, np.cumsum(each) - each)

    def sum(self, values: NDArray[np.generic]) -> Float64:
        """Return the sum of each stretch, shape (n,)."""
        return np.add.reduceat(values.astype(np.float64, copy=False), self.starts)

    def mean(self, values: NDArray[np.generic]) -> Float64:
        """Return the mean of each stretch, shape (n,)."""
        return self.sum(values) / self.lengths

    def highest(self, values: Float64) -> Float64:
        """Return the maximum of each stretch, shape (n,)."""
        highest: Float64 = np.maximum.reduceat(values, self.starts)
        return highest

    def spread(self, values: Float64) -> Float64:
        """Return the standard deviation of each stretch, shape (n,)."""
        return np.sqrt(self.mean(np.square(values - self.repeat(self.mean(values)))))

    def step(self, values: Float64) -> Float64:
        """Return the mean step from one value to the next, 0 for a single one; shape (n,)."""
        steps = np.abs(np.diff(values, append=0.0))
        steps[self.starts + self.lengths - 1] = 0.0
        return self.sum(steps) / np.maximum(1, self.lengths - 1)

    def repeat(self, values: NDArray[Value]) -> NDArray[Value]:
        """Return a value a stretch for every place in it."""
        return np.repeat(values, self.lengths)

    def places(self) -> Indices:
        """Return the place of every value in its stretch, from 0."""
        return np.arange(self.lengths.sum()) - np.repeat(self.starts, self.lengths)


def texture_table(
    clips: Sequence[SegmentClip], frame: int, deepest: float, sample_rate: int, scale: float
) -> Float64:
    """Return the features `crest` to `voicing`, float64 (n_clips, 8 + modulation bands).

    Parameters
    ----------
    clips
        At least one.
    frame
        Samples in a frame of about 1 ms.
    deepest
        dB under the loudest frame of a segment, below which frames count as this deep.
    sample_rate
        Hz.
    scale
        Of the frequencies in which a voice is looked for.
    """
    pieces = [_samples(clip, 2 * frame, sample_rate) for clip in clips]
    whole = Stretches.of([len(piece) for piece in pieces])
    samples = np.concatenate(pieces, dtype=np.float64)
    samples -= whole.repeat(whole.mean(samples))
    squares = np.square(samples)
    squares += 1e-30
    mean = whole.mean(squares)

    frames = Stretches.of(whole.lengths // frame)
    powers = _frame_powers(squares, whole, frame) / frames.repeat(mean)
    count = frames.lengths
    ordered = powers.copy()
    for start, stop in zip(frames.starts, frames.starts + count, strict=True):
        ordered[start:stop].sort()
    ranks = frames.sum((frames.places() + 1) * ordered)
    floored = np.maximum(powers, frames.repeat(frames.highest(powers) * 10 ** (-deepest / 10)))
    coarse, coarse_levels = _levels(floored, frames, 10)
    fine, fine_levels = _levels(floored, frames, 4)
    return np.column_stack(
        [
            10 * np.log10(whole.highest(squares) / mean),
            np.log(whole.mean(np.square(squares)) / mean**2),
            whole.sum(_turns(np.signbit(samples), whole)) / whole.lengths,
            2 * ranks / (count * frames.sum(ordered) + _SMALL) - (count + 1) / count,
            frames.mean(np.log(floored)) - np.log(frames.mean(floored)),
            coarse.spread(coarse_levels),
            fine.step(fine_levels),
            _modulation(np.sqrt(powers), frames, sample_rate / frame),
            _voicing(samples, whole, sample_rate, scale),
        ]
    )


def _samples(clip: SegmentClip, least: int, sample_rate: int) -> NDArray[np.float32]:
    """Return the samples of a segment, at least so many."""
    start = round((clip.segment.start - clip.offset) * sample_rate)
    stop = round((clip.segment.end - clip.offset) * sample_rate)
    samples = clip.samples[max(0, start) : max(start + 8, stop)]
    if len(samples) < least:
        samples = np.pad(samples, (0, least - len(samples)))
    return samples


def _frame_powers(squares: Float64, whole: Stretches, frame: int) -> Float64:
    """Return the mean of every whole frame of each stretch, without the rest at its end."""
    blocks = Stretches.of(-(-whole.lengths // frame))
    sums = np.add.reduceat(squares, blocks.repeat(whole.starts) + blocks.places() * frame)
    means: Float64 = sums[blocks.places() < blocks.repeat(whole.lengths // frame)] / frame
    return means


def _turns(negative: NDArray[np.bool_], whole: Stretches) -> NDArray[np.bool_]:
    """Return where the sign changes from one sample to the next of the same stretch."""
    turns = np.append(negative[1:] != negative[:-1], False)
    turns[whole.starts[1:] - 1] = False
    return turns


def _levels(powers: Float64, frames: Stretches, size: int) -> tuple[Stretches, Float64]:
    """Return the mean level in dB of every `size` powers of each stretch, and their stretches."""
    starts = np.flatnonzero(frames.places() % size == 0)
    counts = np.diff(starts, append=len(powers))
    levels = 10 * np.log10(np.add.reduceat(powers, starts) / counts + _SMALL)
    return Stretches.of(-(-frames.lengths // size)), levels


def _modulation(amplitudes: Float64, frames: Stretches, rate: float) -> Float64:
    """Return the share of the power's modulation in each band of `MODULATION`, (n, bands)."""
    shares = np.empty((len(frames.lengths), len(MODULATION)))
    sizes = np.maximum(256, 2 ** np.ceil(np.log2(frames.lengths)).astype(int))
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        spectrum = np.fft.rfft(_rows(amplitudes, frames, rows, int(size)), axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        total = power.sum(axis=1) + _SMALL
        edges = [int(np.ceil(e * size / rate)) for e in (*(b[0] for b in MODULATION), 400.0)]
        for band, (low, high) in enumerate(pairwise(edges)):
            shares[rows, band] = power[:, low : max(low + 1, high)].sum(axis=1) / total
    return shares


def _voicing(samples: Float64, whole: Stretches, sample_rate: int, scale: float) -> Float64:
    """Return the peak of each segment's autocorrelation where the pitch of a voice lies."""
    lengths = np.minimum(whole.lengths, int(_VOICE_SECONDS * sample_rate))
    heads = Stretches(lengths, whole.starts)
    lowest, highest = (hertz * scale for hertz in _VOICE)
    lags = np.minimum(int(sample_rate / lowest), lengths // 2)
    voicing = np.zeros(len(lengths))
    sizes = np.array([_transform_size(*each) for each in zip(lengths, lags, strict=True)])
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        # Half the time of float64, and a height is only wanted to a few digits.
        matrix = _rows(samples, heads, rows, int(size)).astype(np.float32)
        for row, correlation in zip(rows, _correlations(matrix), strict=True):
            voicing[row], _ = _period(
                correlation, int(lengths[row]), sample_rate, highest, int(lags[row])
            )
    return voicing


def _rows(values: Float64, stretches: Stretches, chosen: Indices, size: int) -> Float64:
    """Return some stretches as rows, each without its mean, filled up with zeros."""
    rows = np.zeros((len(chosen), size))
    for row, index in zip(rows, chosen, strict=True):
        start, length = stretches.starts[index], stretches.lengths[index]
        row[:length] = values[start : start + length]
        row[:length] -= row[:length].mean()
    return rows


def _transform_size(length: int, longest: int) -> int:
    """Return a size at which the lags that are looked at do not wrap around."""
    needed = max(_LEAST_TRANSFORM, int(length + longest + 1))
    # A power of two, or three quarters of one. Segments of one size are transformed together.
    power = 1 << (needed - 1).bit_length()
    return power * 3 // 4 if needed <= power * 3 // 4 else power


def _correlations(rows: Floats) -> Floats:
    """Return the autocorrelation of each row."""
    spectra = np.fft.rfft(rows, axis=1)
    power = np.square(spectra.real) + np.square(spectra.imag)
    correlations: Floats = np.fft.irfft(power, rows.shape[1], axis=1)
    return correlations


def periodicity(signal: Float64, rate: float, lowest: float, highest: float) -> tuple[float, float]:
    """Return height and frequency of the autocorrelation's peak between two frequencies."""
    longest = min(int(rate / lowest), len(signal) // 2)
    row = np.zeros((1, _transform_size(len(signal), longest)))
    row[0, : len(signal)] = signal - signal.mean()
    found = _period(_correlations(row)[0], len(signal), rate, highest, longest)
    return found if found[1] else (0.0, lowest)


def _period(
    correlation: Floats, length: int, rate: float, highest: float, longest: int
) -> tuple[float, float]:
    """Return height and frequency of the peak up to the lag `longest`; zeros where none is."""
    shortest = max(1, int(rate / highest))
    if longest <= shortest + 1 or correlation[0] <= _SMALL * length:
        return 0.0, 0.0
    lags = np.arange(shortest, longest + 1)
    # Undo the shrinking overlap, so that a long period is not held back.
    heights = correlation[lags] / correlation[0] * length / (length - lags)
    place = int(heights.argmax())
    return float(heights[place]), rate / (shortest + place)
