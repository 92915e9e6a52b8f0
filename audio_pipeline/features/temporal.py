"""How a whole segment runs: its impacts, its onset envelope, its modulation and its voicing."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.features.registry import (
    Clips,
    FeatureGroup,
    Float64,
    Ragged,
    durations,
    transform_size,
    waveforms,
)
from audio_pipeline.segmentation.segment import SegmentClip

TEMPORAL = FeatureGroup()

WIDMALM = "Widmalm 1996, doi:10.1111/j.1365-2842.1996.tb00809.x: few or many energy peaks"
PRINZ = "Prinz 1998, doi:10.1046/j.1365-2842.1998.00275.x: autocorrelation of click trains"

_MODULATION = ("2_10", "10_30", "30_80", "80_200", "200_400")
"""Hz."""

_VOICE = (70.0, 500.0)
"""Hz: where the pitch of a voice lies."""

_VOICE_SECONDS = 0.5
_LEAST_TRANSFORM = 512
_SMALL = 1e-12


class _Envelopes(NamedTuple):
    """Onset envelopes of segments, float64, one after the other, and the time between frames."""

    values: Float64
    layout: Ragged
    steps: Float64


def _envelopes(clips: Clips) -> _Envelopes:
    layout = Ragged.of([len(clip.envelope) for clip in clips])
    values = np.concatenate([clip.envelope for clip in clips]).astype(np.float64)
    return _Envelopes(values, layout, clips.shared(durations) / layout.lengths)


def _highest(clips: Clips) -> Float64:
    """Return the highest value of its envelope for every frame."""
    values, layout, _ = clips.shared(_envelopes)
    return layout.repeat(layout.max(values))


@TEMPORAL.feature("duration", "log s", "length of the segment", WIDMALM)
def duration(clips: Clips) -> Float64:
    return np.log(clips.shared(durations) + 1e-3)


@TEMPORAL.feature(
    "active_{fall}", "log s", "time within {fall} dB of the loudest frame", fall=(6, 12, 20)
)
def active(clips: Clips, fall: int) -> Float64:
    values, layout, steps = clips.shared(_envelopes)
    return np.log(steps * layout.sum(values >= clips.shared(_highest) - fall) + 1e-3)


@TEMPORAL.feature("duty_cycle", "share", "frames within 15 dB of the loudest")
def duty_cycle(clips: Clips) -> Float64:
    values, layout, _ = clips.shared(_envelopes)
    return layout.mean(values >= clips.shared(_highest) - 15.0)


@TEMPORAL.feature("duty_cycle_10ms", "share", "stretches of 10 ms within 15 dB of the loudest")
def duty_cycle_10ms(clips: Clips) -> Float64:
    values, layout, steps = clips.shared(_envelopes)
    size = np.maximum(1, np.round(0.01 / steps)).astype(np.intp)
    starts = np.flatnonzero(layout.positions() % layout.repeat(size) == 0)
    near = np.maximum.reduceat(values, starts) >= clips.shared(_highest)[starts] - 15.0
    return Ragged.of(-(-layout.lengths // size)).mean(near)


class _ImpactTrain:
    """The impacts of a segment with two or more of them.

    ``times, iois, log_iois``: of impacts in seconds, and the inter-onset intervals between them.
    ``peaks``: of the onset envelope, dB.
    """

    def __init__(self, clip: SegmentClip, step: float) -> None:
        self.times = np.array(clip.segment.impacts)
        self.iois = np.diff(self.times)
        self.log_iois = np.log(self.iois + 1e-3)
        self.peaks = clip.peaks
        self._envelope = clip.envelope
        self._step = step

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def periodicity(self) -> tuple[float, float]:
        """Height and frequency of the envelope's periodicity."""
        if len(self) < 4:
            return 0.0, 5.0
        return periodicity(self._envelope.astype(np.float64), 1 / self._step, 5.0, 80.0)


def _impact_trains(clips: Clips) -> list[_ImpactTrain | None]:
    steps = clips.shared(_envelopes).steps
    return [
        _ImpactTrain(clip, step) if len(clip.segment.impacts) > 1 else None
        for clip, step in zip(clips, steps, strict=True)
    ]


def _over_trains(
    clips: Clips, function: Callable[[_ImpactTrain], float], otherwise: float
) -> Float64:
    """Return a value for each segment, `otherwise` for fewer than two impacts."""
    trains = clips.shared(_impact_trains)
    return np.array([otherwise if train is None else function(train) for train in trains])


@TEMPORAL.feature("impacts", "log count", "resolvable impacts", WIDMALM)
def impacts(clips: Clips) -> Float64:
    return _over_trains(clips, lambda train: math.log(len(train)), 0.0)


@TEMPORAL.feature(
    "impacts_{fall}", "log count", "impacts within {fall} dB of the largest", fall=(10, 20)
)
def largest_impacts(clips: Clips, fall: int) -> Float64:
    def count(train: _ImpactTrain) -> float:
        least = float(train.peaks.max()) - fall
        return math.log(max(1, int(np.count_nonzero(train.peaks >= least))))

    return _over_trains(clips, count, 0.0)


@TEMPORAL.feature("impacts_half_second", "log count", "most impacts within half a second")
def impacts_half_second(clips: Clips) -> Float64:
    def densest(train: _ImpactTrain) -> float:
        within = np.searchsorted(train.times, train.times + 0.5) - np.arange(len(train))
        return math.log(int(within.max()))

    return _over_trains(clips, densest, 0.0)


@TEMPORAL.feature("span", "log s", "first to last impact", WIDMALM)
def span(clips: Clips) -> Float64:
    return _over_trains(
        clips, lambda train: math.log(train.times[-1] - train.times[0] + 1e-2), math.log(1e-2)
    )


@TEMPORAL.feature("impact_rate", "log 1/s", "impacts a second of segment", PRINZ)
def impact_rate(clips: Clips) -> Float64:
    counts = [max(1, len(clip.segment.impacts)) for clip in clips]
    return np.log(np.array(counts) / (clips.shared(durations) + 0.05))


@TEMPORAL.feature("ioi_median", "log s", "median inter-onset interval of the impacts", PRINZ)
def ioi_median(clips: Clips) -> Float64:
    return _over_trains(clips, lambda train: median(train.log_iois.tolist()), math.log(0.5))


@TEMPORAL.feature("ioi_max", "log s", "longest inter-onset interval of the impacts")
def ioi_max(clips: Clips) -> Float64:
    return _over_trains(clips, lambda train: float(train.log_iois.max()), math.log(0.5))


@TEMPORAL.feature("ioi_cv", "ratio", "standard deviation of these intervals over their mean", PRINZ)
def ioi_cv(clips: Clips) -> Float64:
    def variation(train: _ImpactTrain) -> float:
        return float(train.iois.std() / train.iois.mean()) if len(train) > 2 else 0.0

    return _over_trains(clips, variation, 0.0)


@TEMPORAL.feature("impact_level_std", "dB", "standard deviation of the impacts' levels")
def impact_level_std(clips: Clips) -> Float64:
    return _over_trains(clips, lambda train: float(train.peaks.std()), 0.0)


@TEMPORAL.feature("regularity", "ratio", "peak of the envelope's autocorrelation, 5-80 Hz", PRINZ)
def regularity(clips: Clips) -> Float64:
    return _over_trains(clips, lambda train: train.periodicity[0], 0.0)


@TEMPORAL.feature("regular_rate", "log Hz", "rate at that peak", PRINZ)
def regular_rate(clips: Clips) -> Float64:
    return _over_trains(clips, lambda train: math.log(train.periodicity[1]), math.log(5.0))


@TEMPORAL.feature("envelope_flux", "dB", "mean change of the onset envelope from frame to frame")
def envelope_flux(clips: Clips) -> Float64:
    values, layout, _ = clips.shared(_envelopes)
    return layout.flux(values)


@TEMPORAL.feature("envelope_std", "dB", "standard deviation of the onset envelope")
def envelope_std(clips: Clips) -> Float64:
    values, layout, _ = clips.shared(_envelopes)
    return layout.std(values)


@TEMPORAL.feature("peak_position", "share", "where in the segment the loudest frame stands")
def peak_position(clips: Clips) -> Float64:
    values, layout, _ = clips.shared(_envelopes)
    tops = np.flatnonzero(values == clips.shared(_highest))
    first = tops[np.searchsorted(tops, layout.starts)] - layout.starts
    return first / layout.lengths


@TEMPORAL.feature("crest_factor", "dB", "peak over root mean square of the segment")
def crest_factor(clips: Clips) -> Float64:
    wave = clips.shared(waveforms)
    return 10 * np.log10(wave.layout.max(wave.squares) / wave.power)


@TEMPORAL.feature("kurtosis", "log", "kurtosis of the samples")
def kurtosis(clips: Clips) -> Float64:
    wave = clips.shared(waveforms)
    return np.log(wave.layout.mean(np.square(wave.squares)) / wave.power**2)


@TEMPORAL.feature("zero_crossing_rate", "share", "sign changes a sample in the segment")
def zero_crossing_rate(clips: Clips) -> Float64:
    wave = clips.shared(waveforms)
    negative = np.signbit(wave.samples)
    turns = np.append(negative[1:] != negative[:-1], False)
    turns[wave.layout.starts[1:] - 1] = False
    return wave.layout.sum(turns) / wave.layout.lengths


@TEMPORAL.feature("gini", "share", "inequality of the 1 ms powers")
def gini(clips: Clips) -> Float64:
    wave = clips.shared(waveforms)
    frames, ordered = wave.frame_layout, wave.frame_powers.copy()
    for start, length in zip(frames.starts, frames.lengths, strict=True):
        ordered[start : start + length].sort()
    count, ranks = frames.lengths, frames.sum((frames.positions() + 1) * ordered)
    return 2 * ranks / (count * frames.sum(ordered) + _SMALL) - (count + 1) / count


def _floored_powers(clips: Clips) -> Float64:
    """Return the 1 ms powers of segments, none further below their highest than the range."""
    wave = clips.shared(waveforms)
    least = wave.frame_layout.max(wave.frame_powers) * 10 ** (-clips.config.dynamic_range_db / 10)
    return np.maximum(wave.frame_powers, wave.frame_layout.repeat(least))


@TEMPORAL.feature("temporal_flatness", "log", "geometric over arithmetic mean of the 1 ms powers")
def temporal_flatness(clips: Clips) -> Float64:
    powers, frames = clips.shared(_floored_powers), clips.shared(waveforms).frame_layout
    return frames.mean(np.log(powers)) - np.log(frames.mean(powers))


@TEMPORAL.feature("level_std", "dB", "standard deviation of 10 ms levels")
def level_std(clips: Clips) -> Float64:
    layout, levels = _levels(clips, 10)
    return layout.std(levels)


@TEMPORAL.feature("level_flux", "dB", "mean step between 4 ms levels")
def level_flux(clips: Clips) -> Float64:
    layout, levels = _levels(clips, 4)
    return layout.flux(levels)


def _levels(clips: Clips, size: int) -> tuple[Ragged, Float64]:
    """Return the mean level in dB of every `size` 1 ms powers of each segment."""
    powers, frames = clips.shared(_floored_powers), clips.shared(waveforms).frame_layout
    starts = np.flatnonzero(frames.positions() % size == 0)
    counts = np.diff(starts, append=len(powers))
    levels = 10 * np.log10(np.add.reduceat(powers, starts) / counts + _SMALL)
    return Ragged.of(-(-frames.lengths // size)), levels


@TEMPORAL.feature(
    "modulation_{band}", "share", "amplitude modulation at {band} Hz", band=_MODULATION
)
def modulation(clips: Clips, band: str) -> Float64:
    return clips.shared(_modulation_shares)[:, _MODULATION.index(band)]


def _modulation_shares(clips: Clips) -> Float64:
    """Return the share of the power's modulation in each band, (n, bands)."""
    wave = clips.shared(waveforms)
    frames, amplitudes = wave.frame_layout, np.sqrt(wave.frame_powers)
    rate = clips.sample_rate / clips.frame
    shares = np.empty((len(clips), len(_MODULATION)))
    sizes = np.maximum(256, 2 ** np.ceil(np.log2(frames.lengths)).astype(int))
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        spectrum = np.fft.rfft(frames.matrix(amplitudes, rows, int(size)), axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        total = power.sum(axis=1) + _SMALL
        hertz = [float(band.partition("_")[0]) for band in _MODULATION] + [400.0]
        edges = [int(np.ceil(edge * size / rate)) for edge in hertz]
        for band, (low, high) in enumerate(pairwise(edges)):
            shares[rows, band] = power[:, low : max(low + 1, high)].sum(axis=1) / total
    return shares


@TEMPORAL.feature("voicing", "correlation", "peak of the samples' autocorrelation, 70-500 Hz")
def voicing(clips: Clips) -> Float64:
    wave, rate = clips.shared(waveforms), clips.sample_rate
    lengths = np.minimum(wave.layout.lengths, int(_VOICE_SECONDS * rate))
    heads = Ragged(lengths, wave.layout.starts)
    lowest, highest = (hertz * clips.scale for hertz in _VOICE)
    lags = np.minimum(int(rate / lowest), lengths // 2)
    heights = np.zeros(len(clips))
    sizes = np.array([_correlation_size(*each) for each in zip(lengths, lags, strict=True)])
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        # Half the time of float64, and a height is only wanted to a few digits.
        matrix = heads.matrix(wave.samples, rows, int(size)).astype(np.float32)
        for row, correlation in zip(rows, _autocorrelations(matrix), strict=True):
            heights[row], _ = _period(correlation, int(lengths[row]), rate, highest, int(lags[row]))
    return heights


def _correlation_size(length: int, longest: int) -> int:
    """Return a size at which the lags that are looked at do not wrap around."""
    return transform_size(max(_LEAST_TRANSFORM, int(length + longest + 1)))


def _autocorrelations(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the autocorrelation of each row."""
    spectra = np.fft.rfft(rows, axis=1)
    power = np.square(spectra.real) + np.square(spectra.imag)
    correlations: NDArray[np.floating] = np.fft.irfft(power, rows.shape[1], axis=1)
    return correlations


def periodicity(signal: Float64, rate: float, lowest: float, highest: float) -> tuple[float, float]:
    """Return height and frequency of the autocorrelation's peak between two frequencies.

    Parameters
    ----------
    signal : ndarray of float64, shape (n,)
    rate, lowest, highest : float
        Values a second, and the frequencies in Hz.

    Returns
    -------
    (float, float)
        The height in [-1, 1] without the loss by shrinking overlap, 0 and `lowest` where no peak
        can be; and Hz.
    """
    longest = min(int(rate / lowest), len(signal) // 2)
    row = np.zeros((1, _correlation_size(len(signal), longest)))
    row[0, : len(signal)] = signal - signal.mean()
    found = _period(_autocorrelations(row)[0], len(signal), rate, highest, longest)
    return found if found[1] else (0.0, lowest)


def _period(
    correlation: NDArray[np.floating], length: int, rate: float, highest: float, longest: int
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
