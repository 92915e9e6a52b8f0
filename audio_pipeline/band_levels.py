"""Band levels: the one short-time Fourier transform of a recording, in mel bands and dB.

Shared by segmentation and everything after it. librosa gives the frequencies of bins and bands; the
window, the transform and the bank are those of :func:`librosa.stft` and :func:`librosa.filters.mel`
(tests compare them).
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from audio_pipeline.segmentation import SegmentationSettings

Float32 = NDArray[np.float32]

#: Power of a frame below which it holds no information (dither at 24 bits is about 1e-14).
DIGITAL_SILENCE = 1e-15

#: Frames that BLAS multiplies together, and such groups that are transformed together.
_GROUP = 64
_GROUPS_AT_ONCE = 8


@lru_cache(maxsize=8)
def _filter_bank(settings: SegmentationSettings) -> Float32:
    """Return the mel filter bank, float32 (1 + n_fft // 2, bands), no band empty.

    That of :func:`librosa.filters.mel` with ``norm=None``, made from librosa's frequencies: its
    module of filters takes a second to import on librosa 0.11, which every worker waits for.
    """
    import librosa

    highest = min(settings.highest, settings.sample_rate / 2)
    bins = librosa.fft_frequencies(sr=settings.sample_rate, n_fft=settings.n_fft)
    edges = librosa.mel_frequencies(n_mels=settings.bands + 2, fmin=settings.lowest, fmax=highest)
    widths = np.diff(edges)[:, None]
    ramps = edges[:, None] - bins
    slopes = np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:])
    bank = np.maximum(slopes, 0.0).astype(np.float32)
    for band in np.flatnonzero(bank.sum(axis=1) == 0):
        bank[band, np.argmin(np.abs(bins - edges[band + 1]))] = 1.0
    return np.ascontiguousarray(bank.T)


@lru_cache(maxsize=8)
def _window(length: int) -> Float32:
    """Return the window of :func:`librosa.stft`, a periodic Hann window, float32 (length,)."""
    return np.hanning(length + 1)[:-1].astype(np.float32)


def band_levels(samples: Float32, settings: SegmentationSettings, place: int = 0) -> Float32:
    """Return band levels in dB for every whole frame in `samples`.

    Parameters
    ----------
    samples
        float32 (n,).
    settings
        Frames and bands.
    place
        Number of the first frame in its stream.

    Returns
    -------
    float32 (frames, bands); digitally silent frames are ``-inf`` in every band. Fewer samples than
    one frame give (0, bands).
    """
    from scipy.fft import rfft

    if len(samples) < settings.n_fft:
        return np.empty((0, settings.bands), np.float32)
    window, bank = _window(settings.n_fft), _filter_bank(settings)
    frames = _frames(samples, settings)
    # The transform that librosa.stft makes, some groups at a time: what stays in the processor's
    # cache is three times faster. How BLAS rounds a row depends on the place of the row and on the
    # number of rows. So a frame has the same place in a group of the same size, whatever the blocks
    # in which a stream arrives.
    begin = place % _GROUP
    end = begin + len(frames)
    groups = -(-end // _GROUP)
    levels = np.empty((groups, _GROUP, settings.bands), np.float32)
    powers = np.zeros((min(groups, _GROUPS_AT_ONCE), _GROUP, len(bank)), np.float32)
    windowed = np.empty((len(powers) * _GROUP, settings.n_fft), np.float32)
    for group in range(0, groups, _GROUPS_AT_ONCE):
        some = powers[: groups - group]
        first, stop = group * _GROUP, min(end, (group + len(some)) * _GROUP)
        rows = some.reshape(-1, len(bank))[max(0, begin - first) : stop - first]
        shaped = windowed[: len(rows)]
        np.multiply(frames[max(0, first - begin) : stop - begin], window, out=shaped)
        spectra = rfft(shaped, axis=1)
        squares = spectra.view(np.float32)
        np.square(squares, out=squares)
        np.add(squares[:, ::2], squares[:, 1::2], out=rows)
        np.matmul(some, bank, out=levels[group : group + len(some)])
    return _decibels(
        levels.reshape(-1, settings.bands)[begin:end], DIGITAL_SILENCE * settings.n_fft
    )


def _frames(samples: Float32, settings: SegmentationSettings) -> Float32:
    """Return all whole frames as a view, float32 (frames, n_fft); at least one."""
    samples = np.ascontiguousarray(samples)
    count = 1 + (len(samples) - settings.n_fft) // settings.hop
    strides = (settings.hop * samples.itemsize, samples.itemsize)
    # What numpy's stride tricks return, without the 60 us they take; it too checks the bounds.
    return np.ndarray((count, settings.n_fft), samples.dtype, samples, 0, strides)


def _decibels(powers: Float32, silence: float) -> Float32:
    """Return powers in dB; frames with less than `silence` in every band become ``-inf``."""
    faint = np.flatnonzero(powers[:, 0] < silence)
    silent = faint[powers[faint].max(axis=1) < silence]
    # The natural logarithm is three times faster in numpy than that to the base of ten.
    levels = np.log(np.maximum(powers, np.float32(1e-20)))
    levels *= np.float32(10 / np.log(10))
    levels[silent] = -np.inf
    return levels
