"""What `quality` measures in samples: levels, flat tops, bandwidth, silent gaps; pure functions.

Each works on rows of fixed length, row by row, so that the size of the blocks that a recording
arrives in changes nothing. Figures without a source of their own are engineering judgement.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int16]
Decibels = npt.NDArray[np.float64]
Durations = npt.NDArray[np.float64]

SILENT_LEVEL = -14000
"""-140 dB in hundredths: below one changed bit of 24. No microphone is that quiet, so it is digital
silence."""

SILENT_RANGE = 1e-6
"""Samples that differ by no more (-120 dB) are one constant value, and no sound."""

_LEAST_POWER = 1e-15

LEAST_CLIPPED_PEAK = 0.3
"""Flat tops are looked for where a row reaches this."""

_LEAST_FLAT = 3
"""Equal samples in a row that make a flat top."""

_CORNER = 0.01
"""A flat top falls off by this part of the peak from one sample to the next."""

_BINS_A_BAND = 5
"""Bands of 250 Hz, from spectra of 20 ms."""

_EDGE_DB = 15.0
"""A fall over 1 kHz above `_LOWEST_EDGE_HZ` that a body, a room or a microphone hardly ever makes:
of 273 real recordings at 16 kHz and more, five had one below 7.5 kHz, and four of those were speech
from a narrow channel."""

_LOWEST_EDGE_HZ = 2500.0
"""No codec cuts lower, but dull sounds end there."""


def frame_levels(frames: Samples) -> tuple[Samples, Levels]:
    """Measure how loud each frame is, its mean apart.

    Parameters
    ----------
    frames : float32, (n, size)

    Returns
    -------
    sums : float32, (n,)
        Of the samples.
    levels : int16, (n,)
        RMS without the mean, in hundredths of a dB of full scale; -15000 at the least.
    """
    size = frames.shape[1]
    sums = np.linalg.vecdot(frames, np.ones(size, dtype=np.float32))
    power = np.linalg.vecdot(frames, frames)
    power /= size
    power -= np.square(sums / size)
    levels = 1000 * np.log10(np.maximum(power, _LEAST_POWER))
    return sums, levels.astype(np.int16)


def clipped_samples(rows: Samples) -> int:
    """Count the samples in flat tops: three or more equal ones in a row, with a sharp corner.

    A loud hum in 16 bits has equal neighbours at its crest too, but it gets there smoothly.

    Parameters
    ----------
    rows : float32, (n, size)
        Each is judged by its own highest and lowest value.
    """
    count = 0
    for row, high, low in zip(rows, rows.max(axis=1), rows.min(axis=1), strict=True):
        for rail in (high, low):
            if abs(rail) >= LEAST_CLIPPED_PEAK:
                hits = row == rail
                if np.count_nonzero(hits) >= _LEAST_FLAT:
                    count += _flat_tops(row, np.flatnonzero(hits))
    return count


def _flat_tops(row: Samples, hits: npt.NDArray[np.intp]) -> int:
    """Count the hits of a rail that lie in flat tops with a sharp corner."""
    starts = np.flatnonzero(np.diff(hits, prepend=-2) != 1)
    lengths = np.diff(np.append(starts, len(hits)))
    rail = row[hits[0]]
    before = row[np.maximum(hits[starts] - 1, 0)]
    after = row[np.minimum(hits[starts] + lengths, len(row) - 1)]
    falls = np.maximum(np.abs(rail - before), np.abs(rail - after))
    flat = (lengths >= _LEAST_FLAT) & (falls >= _CORNER * abs(rail))
    return int(lengths[flat].sum())


@cache
def spectrum_window(length: int) -> Samples:
    """Return a Hann window, float32 (length,)."""
    return np.hanning(length).astype(np.float32)


def spectra(rows: Samples, window: Samples) -> Decibels:
    """Return the level of each frequency in dB, on no absolute scale.

    Parameters
    ----------
    rows : float32, (n, size)
        `size` at most that of the window. Rows of silence are left out.
    window : float32, (length,)

    Returns
    -------
    float64, (m, length // 2 + 1)
        m <= n. No lower than the noise of 16 bits, below which nothing means anything.
    """
    rows = rows[rows.max(axis=1) - rows.min(axis=1) > SILENT_RANGE]
    transform = np.fft.rfft(rows * window[: rows.shape[1]], n=len(window), axis=1)
    power = np.square(transform.real) + np.square(transform.imag)
    power += np.float32(2.0**-30 / 12 * float(np.square(window).sum()))
    decibels: Decibels = 10 * np.log10(power, dtype=np.float64)
    return decibels


def bandwidth(spectrum: Decibels, sample_rate: int) -> float:
    """Find where sound ends abruptly.

    A telephone (3.4 kHz), a Bluetooth headset (7 kHz) and a lossy codec cut like a wall; a body, a
    room and a microphone only slope.

    Parameters
    ----------
    spectrum : float64, (bins,)
        Mean level in dB from 0 Hz to half the sample rate, 50 Hz a bin.
    sample_rate : int
        Hz.

    Returns
    -------
    float
        Hz; half the sample rate where there is no wall.
    """
    bands = spectrum[: len(spectrum) // _BINS_A_BAND * _BINS_A_BAND]
    bands = bands.reshape(-1, _BINS_A_BAND).mean(axis=1)
    width = _BINS_A_BAND * sample_rate / 2 / (len(spectrum) - 1)
    first = max(2, math.ceil(_LOWEST_EDGE_HZ / width))
    if len(bands) < first + 4:
        return sample_rate / 2
    above = np.maximum.accumulate(bands[::-1])[::-1]
    below = np.minimum(np.minimum(bands[:-2], bands[1:-1]), bands[2:])
    falls = below[first - 2 : -2] - above[first + 2 :]
    edge = int(np.argmax(falls))
    return (first + edge + 1) * width if falls[edge] > _EDGE_DB else sample_rate / 2


def silent_gaps(levels: Levels) -> npt.NDArray[np.int64]:
    """Return the lengths, in frames, of digital silence that has sound on both sides."""
    silent = levels <= SILENT_LEVEL
    # By its edges: places of all the sound would take 8 bytes a frame, 29 MB in ten hours.
    turns = np.flatnonzero(silent[1:] != silent[:-1]) + 1
    if len(silent) and silent[0]:
        turns = turns[1:]
    whole = turns[: len(turns) // 2 * 2]
    return whole[1::2] - whole[::2]
