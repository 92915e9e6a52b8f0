"""The feature table: what each segment sounds like, in numbers that do not depend on its level.

Three views of a segment: its *impacts* (how many, how regular, how full the time between them), the
*strike*, half a second around its loudest moment (how it starts, rings, decays, band by band, and
what stands before and after it), and its *texture* (roughness and modulation of the whole segment).

Absolute level and signal-to-noise ratio are left out on purpose: they tell a collection of
recordings apart, not a joint. So is anything like MFCC: it added nothing between synthesizers and
hurt on recordings (``docs/recognition.md``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.features.band_filters import band_powers
from audio_pipeline.features.transient import MODULATION, Stretches, periodicity, texture_table
from audio_pipeline.segmentation.segment import SegmentClip

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class FeatureSettings:
    """What the features are computed from; times in seconds, frequencies in Hz.

    Frequencies hold for `reference_rate` and scale with the sample rate of the model.
    """

    reference_rate: int = 22_050
    band_edges: tuple[float, ...] = (80.0, 300.0, 800.0, 2_000.0, 4_500.0, 10_000.0)
    frame: float = 0.001
    strike_before: float = 0.06
    strike_after: float = 0.2
    #: Levels are compared down to this far below the strike, dB: what is cut to digital silence and
    #: what fades into a quiet room shall look alike.
    deepest: float = 40.0


class Feature(NamedTuple):
    """One column of the feature table."""

    name: str
    unit: str
    meaning: str
    source: str


_BANDS = ("a", "b", "c", "d", "e")
_STUDY = "exploratory study, docs/recognition.md"
_WIDMALM = "Widmalm 1996, doi:10.1111/j.1365-2842.1996.tb00809.x: few or many energy peaks"
_PRINZ = "Prinz 1998, doi:10.1046/j.1365-2842.1998.00275.x: autocorrelation of click trains"
_AFTER = ((8, 30), (30, 60), (60, 150))  # ms after the strike
# ms: early from, early to, late from, late to
_SPLITS = ((-2, 5, 5, 30), (-2, 20, 20, 100), (-2, 50, 50, 200))

FEATURES: tuple[Feature, ...] = (
    Feature("duration", "log s", "length of the segment", _WIDMALM),
    Feature("active_6", "log s", "time within 6 dB of the loudest frame", _STUDY),
    Feature("active_12", "log s", "time within 12 dB of the loudest frame", _STUDY),
    Feature("active_20", "log s", "time within 20 dB of the loudest frame", _STUDY),
    Feature("fill", "share", "frames within 15 dB of the loudest", _STUDY),
    Feature("fill_10ms", "share", "stretches of 10 ms within 15 dB of the loudest", _STUDY),
    Feature("impacts", "log count", "resolvable impacts", _WIDMALM),
    Feature("impacts_10", "log count", "impacts within 10 dB of the largest", _STUDY),
    Feature("impacts_20", "log count", "impacts within 20 dB of the largest", _STUDY),
    Feature("impacts_half_second", "log count", "most impacts within half a second", _STUDY),
    Feature("span", "log s", "first to last impact", _WIDMALM),
    Feature("rate", "log 1/s", "impacts a second of segment", _PRINZ),
    Feature("gap_median", "log s", "median gap between impacts", _PRINZ),
    Feature("gap_longest", "log s", "longest gap between impacts", _STUDY),
    Feature("gap_variation", "ratio", "standard deviation of the gaps over their mean", _PRINZ),
    Feature("impact_spread", "dB", "standard deviation of the impact levels", _STUDY),
    Feature("regularity", "ratio", "peak of the elevation's autocorrelation, 5-80 Hz", _PRINZ),
    Feature("regular_rate", "log Hz", "rate at that peak", _PRINZ),
    Feature("roughness", "dB", "mean change of elevation from frame to frame", _STUDY),
    Feature("elevation_spread", "dB", "standard deviation of the elevation", _STUDY),
    Feature("place_of_peak", "share", "where in the segment the loudest frame stands", _STUDY),
    Feature("crest", "dB", "peak over root mean square of the segment", _STUDY),
    Feature("kurtosis", "log", "kurtosis of the samples", _STUDY),
    Feature("zero_crossings", "share", "sign changes a sample in the segment", _STUDY),
    Feature("gini", "share", "inequality of the 1 ms powers", _STUDY),
    Feature("flatness", "log", "geometric over arithmetic mean of the 1 ms powers", _STUDY),
    Feature("level_spread", "dB", "standard deviation of 10 ms levels", _STUDY),
    Feature("level_steps", "dB", "mean step between 4 ms levels", _STUDY),
    *(
        Feature(f"modulation_{low:.0f}_{high:.0f}", "share", "power modulation at these Hz", _STUDY)
        for low, high in MODULATION
    ),
    Feature("voicing", "correlation", "peak of the samples' autocorrelation, 70-500 Hz", _STUDY),
    *(Feature(f"decay_10_{b}", "log ms", f"fall by 10 dB, band {b}", _STUDY) for b in _BANDS),
    *(Feature(f"decay_20_{b}", "log ms", f"fall by 20 dB, band {b}", _STUDY) for b in _BANDS),
    *(Feature(f"lag_{b}", "ms", f"peak of band {b} after the strike", _STUDY) for b in _BANDS),
    Feature("decay_10", "log ms", "fall by 10 dB, all bands", _STUDY),
    Feature("decay_20", "log ms", "fall by 20 dB, all bands", _STUDY),
    Feature("decay_low_high", "log ratio", "decay of bands a-b over d-e", _STUDY),
    Feature("decay_mid_high", "log ratio", "decay of band c over d-e", _STUDY),
    Feature("thump", "dB", "band a over bands d-e around the strike", _STUDY),
    *(
        Feature(f"early_late_{split[3]}", "dB", f"energy before over after {split[1]} ms", _STUDY)
        for split in _SPLITS
    ),
    Feature("before_near", "dB", "loudest 6-60 ms before the strike, relative to it", _STUDY),
    Feature("before_far", "dB", "loudest 60-300 ms before the strike, relative to it", _STUDY),
    *(
        Feature(f"after_{stop}", "dB", f"loudest {start}-{stop} ms after, relative to it", _STUDY)
        for start, stop in _AFTER
    ),
    Feature("after_200", "dB", "loudest 150-200 ms after, relative to it", _STUDY),
    Feature("slope", "dB/ms", "straight-line decay of the first 20 ms", _STUDY),
    Feature("slope_residual", "dB", "how far the decay is from that line", _STUDY),
    Feature("attack", "log ms", "rise from a tenth of the amplitude to the peak", _STUDY),
    Feature("sharpness", "dB", "peak over its surroundings of 2 ms", _STUDY),
    Feature("second", "dB", "second peak 40-200 ms away, relative to the strike", _STUDY),
    Feature("second_lag", "ms", "where that peak is", _STUDY),
    Feature("neighbours", "log count", "peaks 8-40 ms from the strike within 15 dB", _STUDY),
    *(Feature(f"share_{b}", "dB", f"band {b} of the first 30 ms", _STUDY) for b in _BANDS),
    Feature("tilt_early", "dB/band", "spectral tilt at the strike", _STUDY),
    Feature("tilt_late", "dB/band", "spectral tilt 8-30 ms later", _STUDY),
    Feature("tilt_change", "dB/band", "late minus early tilt", _STUDY),
    Feature("ring_tonality", "dB", "strongest line of the ring over its median", _STUDY),
    Feature("ring_entropy", "share", "spread of the ring over frequency", _STUDY),
    Feature("ring_frequency", "log Hz", "strongest frequency of the ring", _STUDY),
    Feature("ring_centroid", "log Hz", "mean frequency of the ring", _STUDY),
    Feature("strike_centroid", "log Hz", "mean frequency of the strike", _STUDY),
)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)

_NO_SPAN = math.log(1e-2)


def feature_table(
    clips: Sequence[SegmentClip], settings: FeatureSettings, sample_rate: int
) -> Float32:
    """Return the features of all clips, float32 (n_clips, n_features), all finite.

    Parameters
    ----------
    clips
        Segments with their surroundings, from :mod:`audio_pipeline.segmentation.segmenter`.
    settings
        What the features are computed from.
    sample_rate
        Rate of the clips' samples in Hz.

    Returns
    -------
    Columns in the order of :data:`FEATURES`; (0, n_features) for no clip. A row does not depend
    on the other clips, to the last bit: no BLAS here, which rounds by the size of a matrix.
    """
    if not clips:
        return np.empty((0, len(FEATURES)), np.float32)
    strikes = _strikes(clips, settings, sample_rate)
    frame = max(1, round(settings.frame * sample_rate))
    scale = sample_rate / settings.reference_rate
    columns = np.concatenate(
        [
            _impact_table(clips),
            texture_table(clips, frame, settings.deepest, sample_rate, scale),
            _decay_features(strikes, settings),
            _surrounding_features(strikes, settings),
            _spectral_features(strikes, settings, sample_rate),
        ],
        axis=1,
    )
    assert columns.shape[1] == len(FEATURES)
    table: Float32 = np.nan_to_num(columns, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    return table


def _impact_table(clips: Sequence[SegmentClip]) -> Float64:
    """Return `duration` to `place_of_peak`, (n_clips, 21)."""
    frames = Stretches.of([len(clip.envelope) for clip in clips])
    elevation = np.concatenate([clip.envelope for clip in clips]).astype(np.float64)
    durations = np.array([each.segment.end - each.segment.start for each in clips])
    steps = durations / frames.lengths
    highest = frames.repeat(frames.highest(elevation))
    active = [steps * frames.sum(elevation >= highest - fall) for fall in (6.0, 12.0, 20.0)]
    coarse = np.maximum(1, np.round(0.01 / steps)).astype(np.intp)
    blocks = Stretches.of(-(-frames.lengths // coarse))
    starts = np.flatnonzero(frames.places() % frames.repeat(coarse) == 0)
    near = np.maximum.reduceat(elevation, starts) >= highest[starts] - 15.0
    tops = np.flatnonzero(elevation == highest)
    first_tops = tops[np.searchsorted(tops, frames.starts)] - frames.starts
    trains = [
        _train_features(clip, duration, step)
        for clip, duration, step in zip(clips, durations, steps, strict=True)
    ]
    return np.column_stack(
        [
            np.log(durations + 1e-3),
            *np.log(np.array(active) + 1e-3),
            frames.mean(elevation >= highest - 15.0),
            blocks.mean(near),
            np.array(trains),
            frames.step(elevation),
            frames.spread(elevation),
            first_tops / frames.lengths,
        ]
    )


def _train_features(clip: SegmentClip, duration: float, step: float) -> tuple[float, ...]:
    """Return `impacts` to `regular_rate`; `step` is the time between frames."""
    count = len(clip.segment.impacts)
    peaks = clip.peaks
    if count < 2:
        rate = -math.log(duration + 0.05)
        none = math.log(0.5)
        return (0.0, 0.0, 0.0, 0.0, _NO_SPAN, rate, none, none, 0.0, 0.0, 0.0, math.log(5.0))
    times = np.array(clip.segment.impacts)
    gaps = np.diff(times)
    log_gaps = np.log(gaps + 1e-3)
    largest = float(peaks.max())
    densest = (np.searchsorted(times, times + 0.5) - np.arange(count)).max()
    regularity, rate = 0.0, 5.0
    if count > 3:
        regularity, rate = periodicity(clip.envelope.astype(np.float64), 1 / step, 5.0, 80.0)
    return (
        math.log(count),
        math.log(max(1, int(np.count_nonzero(peaks >= largest - 10.0)))),
        math.log(max(1, int(np.count_nonzero(peaks >= largest - 20.0)))),
        math.log(densest),
        math.log(times[-1] - times[0] + 1e-2),
        math.log(count / (duration + 0.05)),
        median(log_gaps.tolist()),
        float(log_gaps.max()),
        float(gaps.std() / gaps.mean()) if count > 2 else 0.0,
        float(peaks.std()),
        regularity,
        math.log(rate),
    )


@dataclass(frozen=True)
class _Strikes:
    """The loudest moment of each of n clips.

    Attributes
    ----------
    samples
        float32 (n, m), the strike at column `at`.
    at
        Column of the strike in `samples`.
    powers
        float64 (n, bands, frames), power of each band in frames of 1 ms; the strike in frame
        `frame`.
    broad
        float64 (n, frames), all bands.
    before_far
        float64 (n,), loudest 1 ms power 300 to 60 ms before the strike.
    """

    samples: Float32
    at: int
    powers: Float64
    broad: Float64
    frame: int
    before_far: Float64


def _strikes(clips: Sequence[SegmentClip], settings: FeatureSettings, sample_rate: int) -> _Strikes:
    """Cut the same stretch around the loudest moment of every clip and filter it into bands.

    The filters are causal: energy must not appear before the strike.
    """
    frame = max(1, round(settings.frame * sample_rate))
    before = round(settings.strike_before / settings.frame)
    after = round(settings.strike_after / settings.frame)
    warm_up = 20  # frames for the filters to settle
    width = (warm_up + before + after) * frame
    cut = np.zeros((len(clips), width), np.float32)
    before_far = np.zeros(len(clips))
    for row, clip in enumerate(clips):
        place = _loudest(clip, frame, sample_rate)
        begin = place - (warm_up + before) * frame
        piece = clip.samples[max(0, begin) : max(0, begin + width)]
        cut[row, max(0, -begin) : max(0, -begin) + len(piece)] = piece
        far = clip.samples[max(0, place - 300 * frame) : max(0, place - before * frame)]
        before_far[row] = _frame_powers(far, frame).max(initial=0.0)
    scale = sample_rate / settings.reference_rate
    edges = tuple(edge * scale for edge in settings.band_edges)
    powers = band_powers(cut, edges, sample_rate, frame)[:, :, warm_up:].astype(np.float64)
    strikes = cut[:, warm_up * frame :]
    broad = _frame_powers(strikes, frame).reshape(len(clips), -1).astype(np.float64)
    return _Strikes(strikes, before * frame, powers, broad, before, before_far)


def _loudest(clip: SegmentClip, frame: int, sample_rate: int) -> int:
    """Return the sample at which the loudest millisecond of the segment starts."""
    start = max(0, round((clip.segment.start - clip.offset) * sample_rate))
    stop = round((clip.segment.end - clip.offset) * sample_rate)
    powers = _frame_powers(clip.samples[start : max(start + frame, stop)], frame)
    return start + int(powers.argmax()) * frame if len(powers) else start


def _frame_powers(samples: Float32, frame: int) -> Float32:
    """Return the power of each whole frame in samples, in order, float32 (frames,)."""
    frames = samples.reshape(-1)[: samples.size // frame * frame].reshape(-1, frame)
    powers: Float32 = np.linalg.vecdot(frames, frames)
    powers /= np.float32(frame)
    return powers


def _decibel(powers: Float64, reference: Float64, deepest: float) -> Float64:
    """Return levels relative to a reference power, not below ``-deepest`` dB."""
    ratio = powers / np.maximum(reference, 1e-30)
    return 10 * np.log10(np.maximum(ratio, 10 ** (-deepest / 10)))


def _decay_features(strikes: _Strikes, settings: FeatureSettings) -> Float64:
    """Return `decay_10_a` to `early_late_200`."""
    at = strikes.frame
    powers = strikes.powers
    near = powers[:, :, at - 3 : at + 12]
    peak = near.max(axis=2)
    place = at - 3 + near.argmax(axis=2)
    decays = [_time_to_fall(powers, place, peak, fall) for fall in (10.0, 20.0)]
    broad_near = strikes.broad[:, at - 1 : at + 3]
    broad_place = at - 1 + broad_near.argmax(axis=1)
    broad_peak = broad_near.max(axis=1)
    broad = [
        _time_to_fall(strikes.broad[:, None], broad_place[:, None], broad_peak[:, None], fall)
        for fall in (10.0, 20.0)
    ]
    low, middle, high = (decays[0][:, part] for part in (slice(0, 2), slice(2, 3), slice(3, 5)))
    around = powers[:, :, at - 5 : at + 60].sum(axis=2)
    thump = 10 * np.log10((around[:, 0] + 1e-30) / (around[:, 3:].sum(axis=1) + 1e-30))
    early_late = []
    for early, turn, late, end in _SPLITS:
        first = strikes.broad[:, at + early : at + turn].sum(axis=1)
        second = strikes.broad[:, at + late : at + end].sum(axis=1)
        ratio = (first + 1e-30) / (second + 1e-4 * first + 1e-30)
        early_late.append(10 * np.log10(ratio))
    return np.column_stack(
        [
            *decays,
            place - at,
            *broad,
            low.mean(axis=1) - high.mean(axis=1),
            middle.mean(axis=1) - high.mean(axis=1),
            np.clip(thump, -settings.deepest, settings.deepest),
            *early_late,
        ]
    )


def _time_to_fall(powers: Float64, place: NDArray[np.intp], peak: Float64, fall: float) -> Float64:
    """Return log frames from `place` until the power is `fall` dB under `peak`; (n, bands)."""
    frames = np.arange(powers.shape[2])
    below = (powers < peak[:, :, None] * 10 ** (-fall / 10)) & (frames > place[:, :, None])
    first = np.where(below.any(axis=2), below.argmax(axis=2), powers.shape[2])
    result: Float64 = np.log(first - place + 0.0)
    return result


def _surrounding_features(strikes: _Strikes, settings: FeatureSettings) -> Float64:
    """Return `before_near` to `neighbours`."""
    at, broad = strikes.frame, strikes.broad
    peak = broad[:, at - 1 : at + 3].max(axis=1)
    levels = _decibel(broad, peak[:, None], settings.deepest)
    before_near = levels[:, at - 60 : at - 6].max(axis=1)
    before_far = _decibel(strikes.before_far, peak, settings.deepest)
    after = [levels[:, at + start : at + stop].max(axis=1) for start, stop in (*_AFTER, (150, 200))]
    time = np.arange(20.0) - 9.5
    first = levels[:, at : at + 20]
    slope = (first * time).sum(axis=1) / np.dot(time, time)
    line = first.mean(axis=1, keepdims=True) + slope[:, None] * time
    residual = np.sqrt(np.square(first - line).mean(axis=1))
    frame = len(strikes.samples[0]) // broad.shape[1]
    window = np.abs(strikes.samples[:, strikes.at - 5 * frame : strikes.at + 2 * frame])
    highest = window.argmax(axis=1)
    columns = np.arange(window.shape[1])
    rising = window < 0.1 * window.max(axis=1, keepdims=True)
    rising &= columns < highest[:, None]
    last_quiet = np.where(rising.any(axis=1), (rising * columns).max(axis=1), 0)
    attack = np.log((highest - last_quiet) / frame + 0.02)
    beside = np.concatenate([levels[:, at - 3 : at - 1], levels[:, at + 2 : at + 4]], axis=1)
    sharpness = -beside.mean(axis=1)
    distant = np.concatenate([levels[:, : at - 40], levels[:, at + 40 : at + 200]], axis=1)
    lags = np.concatenate([np.arange(-at, -40), np.arange(40, min(200, broad.shape[1] - at))])
    second = distant.argmax(axis=1)
    centre = levels[:, 1:-1]
    peaks = (centre > levels[:, :-2]) & (centre >= levels[:, 2:]) & (centre > -15.0)
    offset = np.abs(np.arange(1, levels.shape[1] - 1) - at)
    neighbours = peaks[:, (offset >= 8) & (offset <= 40)].sum(axis=1)
    return np.column_stack(
        [
            before_near,
            before_far,
            *after,
            slope,
            residual,
            attack,
            sharpness,
            distant.max(axis=1),
            lags[second],
            np.log1p(neighbours),
        ]
    )


def _spectral_features(strikes: _Strikes, settings: FeatureSettings, sample_rate: int) -> Float64:
    """Return `share_a` to `strike_centroid`."""
    at = strikes.frame
    early = strikes.powers[:, :, at - 2 : at + 30].sum(axis=2)
    shares = _decibel(early, early.sum(axis=1, keepdims=True), settings.deepest)
    tilts = []
    for start, stop in ((-1, 4), (8, 30)):
        part = strikes.powers[:, :, at + start : at + stop].sum(axis=2)
        levels = _decibel(part, part.max(axis=1, keepdims=True), settings.deepest)
        order = np.arange(levels.shape[1]) - (levels.shape[1] - 1) / 2
        tilts.append((levels * order).sum(axis=1) / np.dot(order, order))
    frame = strikes.samples.shape[1] // strikes.broad.shape[1]
    scale = sample_rate / settings.reference_rate
    after = strikes.at + 2 * frame
    ring, ring_bins = _spectrum(strikes.samples[:, after : after + 45 * frame], sample_rate)
    heard = ring_bins >= 100.0 * scale
    ring, ring_bins = ring[:, heard] + 1e-30, ring_bins[heard]
    share = ring / ring.sum(axis=1, keepdims=True)
    entropy = -(share * np.log(share)).sum(axis=1) / np.log(len(ring_bins))
    tonality = 10 * np.log10(ring.max(axis=1) / np.median(ring, axis=1))
    strike, strike_bins = _spectrum(
        strikes.samples[:, strikes.at - 2 * frame : strikes.at + 6 * frame], sample_rate
    )
    strike += 1e-30
    return np.column_stack(
        [
            shares,
            tilts[0],
            tilts[1],
            tilts[1] - tilts[0],
            np.clip(tonality, 0.0, 2 * settings.deepest),
            entropy,
            np.log(ring_bins[ring.argmax(axis=1)] / scale),
            np.log((share * ring_bins).sum(axis=1) / scale),
            np.log((strike * strike_bins).sum(axis=1) / strike.sum(axis=1) / scale + 1.0),
        ]
    )


def _spectrum(samples: Float32, sample_rate: int) -> tuple[Float64, Float64]:
    """Return the power spectrum of each row under a Hann window, and its frequencies in Hz."""
    size = samples.shape[1]
    power: Float64 = np.square(np.abs(np.fft.rfft(samples * np.hanning(size), axis=1)))
    bins = np.fft.rfftfreq(size, 1 / sample_rate).astype(np.float64)
    return power, bins
