"""The transient: quarter of a second around a segment's loudest moment.

How it starts, rings and decays, band by band, and what stands before and after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.features.registry import Clips, FeatureGroup, Float32, Float64
from audio_pipeline.segmentation.segment import SegmentClip

TRANSIENT = FeatureGroup()

BEFORE, AFTER = 60, 200
"""Frames of about 1 ms that are looked at before and after the transient."""

_FAR = 300
_WARM_UP = 20
"""Frames for the filters to settle."""

_ROWS_AT_ONCE = 16
"""Clips that are filtered together: what stays in the processor's cache."""

_BANDS = ("a", "b", "c", "d", "e")
_EARLY_LATE = {30: (-2, 5, 5), 100: (-2, 20, 20), 200: (-2, 50, 50)}
"""ms: end of the late part, and begin and end of the early part, begin of the late one."""
_LATER = {30: 8, 60: 30, 150: 60, 200: 150}
"""ms: end and begin of what is looked at after the transient."""


@dataclass(frozen=True)
class Transients:
    """The loudest moments of n segments."""

    samples: Float32  #: ndarray of float32, shape (n, m): The transient starts at column `at`
    at: int  #: Column of the transient in `samples`
    #: ndarray of float64, shape (n, bands, frames): Of each band in frames of 1 ms; the transient
    #: is frame `BEFORE`
    powers: Float64
    broad: Float64  #: ndarray of float64, shape (n, frames): Of all bands
    #: ndarray of float64, shape (n,): Loudest 1 ms power 300 to 60 ms before the transient
    far: Float64


def transients(clips: Clips) -> Transients:
    """Cut the same stretch around the loudest moment of every clip and filter it into bands."""
    frame = clips.frame
    width = (_WARM_UP + BEFORE + AFTER) * frame
    cut = np.zeros((len(clips), width), np.float32)
    far = np.zeros(len(clips))
    for row, clip in enumerate(clips):
        loudest = _loudest(clip, frame)
        begin = loudest - (_WARM_UP + BEFORE) * frame
        piece = clip.samples[max(0, begin) : max(0, begin + width)]
        cut[row, max(0, -begin) : max(0, -begin) + len(piece)] = piece
        before = clip.samples[max(0, loudest - _FAR * frame) : max(0, loudest - BEFORE * frame)]
        far[row] = _frame_powers(before, frame).max(initial=0.0)
    edges = tuple(edge * clips.scale for edge in clips.config.band_edges)
    powers = band_powers(cut, edges, clips.sample_rate, frame)[:, :, _WARM_UP:]
    samples = cut[:, _WARM_UP * frame :]
    broad = _frame_powers(samples, frame).reshape(len(clips), -1).astype(np.float64)
    return Transients(samples, BEFORE * frame, powers, broad, far)


def band_powers(
    samples: Float32, edges: tuple[float, ...], sample_rate: int, frame: int
) -> Float64:
    """Return the power that Butterworth band-passes of second order let through, frame by frame.

    The filters are causal: energy must not appear before the transient.

    Parameters
    ----------
    samples : ndarray of float32, shape (n, frames * frame)
        Rows are independent of each other, to the last bit.
    edges : tuple of float
        Of the bands in Hz, rising, the last below half the sample rate.
    sample_rate : int
        Hz.
    frame : int
        Samples in a frame.

    Returns
    -------
    ndarray of float64, shape (n, bands, frames)
        Mean square of each frame.
    """
    from scipy.signal import sosfilt

    powers = np.empty((len(samples), len(edges) - 1, samples.shape[1] // frame))
    for first in range(0, len(samples), _ROWS_AT_ONCE):
        rows = samples[first : first + _ROWS_AT_ONCE].astype(np.float64)
        for band, limits in enumerate(pairwise(edges)):
            output = sosfilt(_band_pass(*limits, sample_rate), rows, axis=1)
            frames = output.reshape(len(rows), -1, frame)
            powers[first : first + _ROWS_AT_ONCE, band] = np.linalg.vecdot(frames, frames)
    powers /= frame
    return powers


@lru_cache(maxsize=64)
def _band_pass(low: float, high: float, sample_rate: int) -> Any:
    from scipy.signal import butter

    return butter(2, (low, high), "bandpass", fs=sample_rate, output="sos")


def _loudest(clip: SegmentClip, frame: int) -> int:
    """Return the sample at which the loudest millisecond of the segment starts."""
    start = max(0, round((clip.segment.start - clip.offset) * clip.sample_rate))
    stop = round((clip.segment.end - clip.offset) * clip.sample_rate)
    powers = _frame_powers(clip.samples[start : max(start + frame, stop)], frame)
    return start + int(powers.argmax()) * frame if len(powers) else start


def _frame_powers(samples: Float32, frame: int) -> Float32:
    """Return the power of each whole frame in samples, in order, float32 (frames,)."""
    frames = samples.reshape(-1)[: samples.size // frame * frame].reshape(-1, frame)
    powers: Float32 = np.linalg.vecdot(frames, frames)
    powers /= np.float32(frame)
    return powers


def _relative_db(powers: Float64, reference: Float64, lowest: float) -> Float64:
    """Return levels relative to a reference power, not below ``-lowest`` dB."""
    ratio = powers / np.maximum(reference, 1e-30)
    return 10 * np.log10(np.maximum(ratio, 10 ** (-lowest / 10)))


def _band_peaks(clips: Clips) -> tuple[NDArray[np.intp], Float64]:
    """Return frame and power of the peak of each band near the transient, both (n, bands)."""
    near = clips.shared(transients).powers[:, :, BEFORE - 3 : BEFORE + 12]
    return BEFORE - 3 + near.argmax(axis=2), near.max(axis=2)


def _decays(clips: Clips) -> dict[int, Float64]:
    """Return the time in which each band falls by 10 and 20 dB, log ms, (n, bands)."""
    place, peak = clips.shared(_band_peaks)
    powers = clips.shared(transients).powers
    return {fall: _time_to_fall(powers, place, peak, fall) for fall in (10, 20)}


def _time_to_fall(powers: Float64, place: NDArray[np.intp], peak: Float64, fall: float) -> Float64:
    """Return log frames from `place` until the power is `fall` dB under `peak`; (n, bands)."""
    frames = np.arange(powers.shape[2])
    below = (powers < peak[:, :, None] * 10 ** (-fall / 10)) & (frames > place[:, :, None])
    first = np.where(below.any(axis=2), below.argmax(axis=2), powers.shape[2])
    return np.log(first - place + 0.0)


@TRANSIENT.feature("decay_10_{band}", "log ms", "fall by 10 dB, band {band}", band=_BANDS)
def decay_10_in_band(clips: Clips, band: str) -> Float64:
    return clips.shared(_decays)[10][:, _BANDS.index(band)]


@TRANSIENT.feature("decay_20_{band}", "log ms", "fall by 20 dB, band {band}", band=_BANDS)
def decay_20_in_band(clips: Clips, band: str) -> Float64:
    return clips.shared(_decays)[20][:, _BANDS.index(band)]


@TRANSIENT.feature("peak_lag_{band}", "ms", "peak of band {band} after the transient", band=_BANDS)
def peak_lag(clips: Clips, band: str) -> Float64:
    place, _ = clips.shared(_band_peaks)
    return (place[:, _BANDS.index(band)] - BEFORE).astype(np.float64)


@TRANSIENT.feature("decay_{fall}", "log ms", "fall by {fall} dB, all bands", fall=(10, 20))
def decay(clips: Clips, fall: int) -> Float64:
    broad = clips.shared(transients).broad
    near = broad[:, BEFORE - 1 : BEFORE + 3]
    place, peak = BEFORE - 1 + near.argmax(axis=1), near.max(axis=1)
    return _time_to_fall(broad[:, None], place[:, None], peak[:, None], fall)[:, 0]


@TRANSIENT.feature("decay_low_high", "log ratio", "decay of bands a-b over d-e")
def decay_low_high(clips: Clips) -> Float64:
    decays = clips.shared(_decays)[10]
    return decays[:, :2].mean(axis=1) - decays[:, 3:].mean(axis=1)


@TRANSIENT.feature("decay_mid_high", "log ratio", "decay of band c over d-e")
def decay_mid_high(clips: Clips) -> Float64:
    decays = clips.shared(_decays)[10]
    return decays[:, 2] - decays[:, 3:].mean(axis=1)


@TRANSIENT.feature("low_high_ratio", "dB", "band a over bands d-e around the transient")
def low_high_ratio(clips: Clips) -> Float64:
    around = clips.shared(transients).powers[:, :, BEFORE - 5 : BEFORE + 60].sum(axis=2)
    ratio = 10 * np.log10((around[:, 0] + 1e-30) / (around[:, 3:].sum(axis=1) + 1e-30))
    limit = clips.config.dynamic_range_db
    return np.clip(ratio, -limit, limit)


@TRANSIENT.feature(
    "early_late_{end}",
    "dB",
    "energy of the early part over the rest until {end} ms",
    end=_EARLY_LATE,
)
def early_late(clips: Clips, end: int) -> Float64:
    broad = clips.shared(transients).broad
    early, turn, late = _EARLY_LATE[end]
    first = broad[:, BEFORE + early : BEFORE + turn].sum(axis=1)
    second = broad[:, BEFORE + late : BEFORE + end].sum(axis=1)
    return 10 * np.log10((first + 1e-30) / (second + 1e-4 * first + 1e-30))


def _peak_power(clips: Clips) -> Float64:
    """Return the power of the transient, (n,)."""
    return clips.shared(transients).broad[:, BEFORE - 1 : BEFORE + 3].max(axis=1)


def _levels(clips: Clips) -> Float64:
    """Return 1 ms levels relative to the transient, dB, (n, frames)."""
    broad = clips.shared(transients).broad
    return _relative_db(broad, clips.shared(_peak_power)[:, None], clips.config.dynamic_range_db)


@TRANSIENT.feature("before_near", "dB", "loudest 6-60 ms before the transient, relative to it")
def before_near(clips: Clips) -> Float64:
    return clips.shared(_levels)[:, : BEFORE - 6].max(axis=1)


@TRANSIENT.feature("before_far", "dB", "loudest 60-300 ms before the transient, relative to it")
def before_far(clips: Clips) -> Float64:
    far, peak = clips.shared(transients).far, clips.shared(_peak_power)
    return _relative_db(far, peak, clips.config.dynamic_range_db)


@TRANSIENT.feature(
    "after_{end}", "dB", "loudest in the stretch until {end} ms after, relative to it", end=_LATER
)
def after(clips: Clips, end: int) -> Float64:
    return clips.shared(_levels)[:, BEFORE + _LATER[end] : BEFORE + end].max(axis=1)


def _line(clips: Clips) -> tuple[Float64, Float64]:
    """Return slope and residual of a straight line through the levels of the first 20 ms."""
    time = np.arange(20.0) - 9.5
    first = clips.shared(_levels)[:, BEFORE : BEFORE + 20]
    slope = (first * time).sum(axis=1) / np.dot(time, time)
    line = first.mean(axis=1, keepdims=True) + slope[:, None] * time
    return slope, np.sqrt(np.square(first - line).mean(axis=1))


@TRANSIENT.feature("decay_slope", "dB/ms", "straight-line decay of the first 20 ms")
def decay_slope(clips: Clips) -> Float64:
    return clips.shared(_line)[0]


@TRANSIENT.feature("decay_slope_residual", "dB", "how far the decay is from that line")
def decay_slope_residual(clips: Clips) -> Float64:
    return clips.shared(_line)[1]


@TRANSIENT.feature(
    "log_attack_time",
    "log ms",
    "rise from a tenth of the amplitude to the peak",
    "Peeters 2004, A large set of audio features: log-attack time",
)
def log_attack_time(clips: Clips) -> Float64:
    found, frame = clips.shared(transients), clips.frame
    window = np.abs(found.samples[:, found.at - 5 * frame : found.at + 2 * frame])
    highest = window.argmax(axis=1)
    columns = np.arange(window.shape[1])
    rising = window < 0.1 * window.max(axis=1, keepdims=True)
    rising &= columns < highest[:, None]
    last_quiet = np.where(rising.any(axis=1), (rising * columns).max(axis=1), 0)
    return np.log((highest - last_quiet) / frame + 0.02)


@TRANSIENT.feature("peak_prominence", "dB", "peak over its surroundings of 2 ms")
def peak_prominence(clips: Clips) -> Float64:
    levels = clips.shared(_levels)
    beside = (levels[:, BEFORE - 3 : BEFORE - 1], levels[:, BEFORE + 2 : BEFORE + 4])
    return -np.concatenate(beside, axis=1).mean(axis=1)


def _second_peaks(clips: Clips) -> tuple[Float64, NDArray[np.intp]]:
    """Return level and lag in ms of the loudest moment 40-200 ms from the transient."""
    levels = clips.shared(_levels)
    distant = np.concatenate([levels[:, : BEFORE - 40], levels[:, BEFORE + 40 :]], axis=1)
    lags = np.concatenate([np.arange(-BEFORE, -40), np.arange(40, AFTER)])
    return distant.max(axis=1), lags[distant.argmax(axis=1)]


@TRANSIENT.feature("second_peak", "dB", "second peak 40-200 ms away, relative to the transient")
def second_peak(clips: Clips) -> Float64:
    return clips.shared(_second_peaks)[0]


@TRANSIENT.feature("second_peak_lag", "ms", "where that peak is")
def second_peak_lag(clips: Clips) -> Float64:
    return clips.shared(_second_peaks)[1].astype(np.float64)


@TRANSIENT.feature("near_peaks", "log count", "peaks 8-40 ms from the transient within 15 dB")
def near_peaks(clips: Clips) -> Float64:
    levels = clips.shared(_levels)
    centre = levels[:, 1:-1]
    peaks = (centre > levels[:, :-2]) & (centre >= levels[:, 2:]) & (centre > -15.0)
    offset = np.abs(np.arange(1, levels.shape[1] - 1) - BEFORE)
    return np.log1p(peaks[:, (offset >= 8) & (offset <= 40)].sum(axis=1))


@TRANSIENT.feature("band_share_{band}", "dB", "band {band} of the first 30 ms", band=_BANDS)
def band_share(clips: Clips, band: str) -> Float64:
    return clips.shared(_band_shares)[:, _BANDS.index(band)]


def _band_shares(clips: Clips) -> Float64:
    early = clips.shared(transients).powers[:, :, BEFORE - 2 : BEFORE + 30].sum(axis=2)
    return _relative_db(early, early.sum(axis=1, keepdims=True), clips.config.dynamic_range_db)


def _tilts(clips: Clips) -> tuple[Float64, Float64]:
    """Return the spectral tilt at the transient and 8-30 ms later."""
    early, late = (_tilt(clips, *part) for part in ((-1, 4), (8, 30)))
    return early, late


def _tilt(clips: Clips, start: int, stop: int) -> Float64:
    powers = clips.shared(transients).powers[:, :, BEFORE + start : BEFORE + stop].sum(axis=2)
    highest = powers.max(axis=1, keepdims=True)
    levels = _relative_db(powers, highest, clips.config.dynamic_range_db)
    order = np.arange(levels.shape[1]) - (levels.shape[1] - 1) / 2
    return (levels * order).sum(axis=1) / np.dot(order, order)


@TRANSIENT.feature("spectral_tilt_early", "dB/band", "spectral tilt at the transient")
def spectral_tilt_early(clips: Clips) -> Float64:
    return clips.shared(_tilts)[0]


@TRANSIENT.feature("spectral_tilt_late", "dB/band", "spectral tilt 8-30 ms later")
def spectral_tilt_late(clips: Clips) -> Float64:
    return clips.shared(_tilts)[1]


@TRANSIENT.feature("spectral_tilt_change", "dB/band", "late minus early tilt")
def spectral_tilt_change(clips: Clips) -> Float64:
    early, late = clips.shared(_tilts)
    return late - early


def _ring(clips: Clips) -> tuple[Float64, Float64]:
    """Return power spectrum and frequencies in Hz of the 45 ms from 2 ms after the transient."""
    found, frame = clips.shared(transients), clips.frame
    start = found.at + 2 * frame
    ring, bins = _spectrum(found.samples[:, start : start + 45 * frame], clips.sample_rate)
    heard = bins >= 100.0 * clips.scale
    return ring[:, heard] + 1e-30, bins[heard]


@TRANSIENT.feature("ring_tonality", "dB", "strongest line of the ring over its median")
def ring_tonality(clips: Clips) -> Float64:
    ring, _ = clips.shared(_ring)
    tonality = 10 * np.log10(ring.max(axis=1) / np.median(ring, axis=1))
    return np.clip(tonality, 0.0, 2 * clips.config.dynamic_range_db)


@TRANSIENT.feature("ring_entropy", "share", "spectral entropy of the ring")
def ring_entropy(clips: Clips) -> Float64:
    ring, bins = clips.shared(_ring)
    share = ring / ring.sum(axis=1, keepdims=True)
    return -(share * np.log(share)).sum(axis=1) / np.log(len(bins))


@TRANSIENT.feature("ring_frequency", "log Hz", "strongest frequency of the ring")
def ring_frequency(clips: Clips) -> Float64:
    ring, bins = clips.shared(_ring)
    return np.log(bins[ring.argmax(axis=1)] / clips.scale)


@TRANSIENT.feature("ring_centroid", "log Hz", "spectral centroid of the ring")
def ring_centroid(clips: Clips) -> Float64:
    ring, bins = clips.shared(_ring)
    share = ring / ring.sum(axis=1, keepdims=True)
    return np.log((share * bins).sum(axis=1) / clips.scale)


@TRANSIENT.feature("transient_centroid", "log Hz", "spectral centroid of the transient")
def transient_centroid(clips: Clips) -> Float64:
    found, frame = clips.shared(transients), clips.frame
    around = found.samples[:, found.at - 2 * frame : found.at + 6 * frame]
    power, bins = _spectrum(around, clips.sample_rate)
    power += 1e-30
    return np.log((power * bins).sum(axis=1) / power.sum(axis=1) / clips.scale + 1.0)


def _spectrum(samples: Float32, sample_rate: int) -> tuple[Float64, Float64]:
    """Return the power spectrum of each row under a Hann window, and its frequencies in Hz."""
    size = samples.shape[1]
    power: Float64 = np.square(np.abs(np.fft.rfft(samples * np.hanning(size), axis=1)))
    bins = np.fft.rfftfreq(size, 1 / sample_rate).astype(np.float64)
    return power, bins
