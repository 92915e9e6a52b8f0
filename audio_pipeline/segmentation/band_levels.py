"""Band levels: the one short-time Fourier transform of a recording, in mel bands and dB.

Shared by segmentation and everything after it. The window, the transform and the bank are those of
:func:`librosa.stft` and :func:`librosa.filters.mel` (tests compare them), with numpy's transform:
to import SciPy's or librosa takes several times as long as to hear a recording.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

if TYPE_CHECKING:
    from audio_pipeline.segmentation.segmenter import SegmentationSettings

Float32 = NDArray[np.float32]

#: Power of a frame below which it holds no information (dither at 24 bits is about 1e-14).
DIGITAL_SILENCE = 1e-15

#: Frames that BLAS multiplies together, and such groups that are transformed together.
_GROUP = 64
_GROUPS_AT_ONCE = 4


@lru_cache(maxsize=8)
def mel_edges(bands: int, lowest: float, highest: float) -> tuple[float, ...]:
    """Return the edges of mel bands in Hz, ``bands + 2`` of them, rising, as librosa has them.

    Band k reaches from edge k to edge k + 2 and is loudest at edge k + 1.
    """
    import librosa

    edges = librosa.mel_frequencies(n_mels=bands + 2, fmin=lowest, fmax=highest)
    return tuple(edges.tolist())


@lru_cache(maxsize=8)
def _filter_bank(settings: SegmentationSettings) -> Float32:
    """Return the mel filter bank, float32 (2 x (1 + n_fft // 2), bands), no band empty.

    That of :func:`librosa.filters.mel` with ``norm=None``, each row twice: once for the square of
    the real part and once for that of the imaginary part, which BLAS then adds up.
    """
    bins = np.fft.rfftfreq(settings.n_fft, 1 / settings.sample_rate)
    edges = np.array(settings.band_edges)
    widths = np.diff(edges)[:, None]
    ramps = edges[:, None] - bins
    slopes = np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:])
    bank = np.maximum(slopes, 0.0).astype(np.float32)
    for band in np.flatnonzero(bank.sum(axis=1) == 0):
        bank[band, np.argmin(np.abs(bins - edges[band + 1]))] = 1.0
    return np.ascontiguousarray(np.repeat(bank, 2, axis=1).T)


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
    if len(samples) < settings.n_fft:
        return np.empty((0, settings.bands), np.float32)
    window, bank = _window(settings.n_fft), _filter_bank(settings)
    frames = sliding_window_view(samples, settings.n_fft)[:: settings.hop]
    # The transform that librosa.stft makes, some groups at a time: what stays in the processor's
    # cache is three times faster. How BLAS rounds a row depends on the place of the row and on the
    # number of rows. So a frame has the same place in a group of the same size, whatever the blocks
    # in which a stream arrives.
    begin = place % _GROUP
    end = begin + len(frames)
    groups = -(-end // _GROUP)
    levels = np.empty((groups, _GROUP, settings.bands), np.float32)
    # numpy's types do not know that its transform keeps float32.
    spectra: Any = np.zeros((min(groups, _GROUPS_AT_ONCE) * _GROUP, len(bank) // 2), np.complex64)
    squares = spectra.view(np.float32)  # the same memory
    windowed = np.empty((len(spectra), settings.n_fft), np.float32)
    for first in range(0, end, len(spectra)):
        rows = slice(max(0, begin - first), min(len(spectra), end - first))
        some = frames[first + rows.start - begin : first + rows.stop - begin]
        shaped = np.multiply(some, window, out=windowed[rows])
        np.fft.rfft(shaped, axis=1, out=spectra[rows])
        np.square(squares[rows], out=squares[rows])
        results = levels[first // _GROUP : first // _GROUP + _GROUPS_AT_ONCE]
        parts = squares.reshape(-1, _GROUP, len(bank))[: len(results)]
        np.matmul(parts, bank, out=results)
    return _decibels(
        levels.reshape(-1, settings.bands)[begin:end], DIGITAL_SILENCE * settings.n_fft
    )


def _decibels(powers: Float32, silence: float) -> Float32:
    """Return powers in dB; frames with less than `silence` in every band become ``-inf``."""
    faint = np.flatnonzero(powers[:, 0] < silence)
    silent = faint[powers[faint].max(axis=1) < silence]
    # The natural logarithm is three times faster in numpy than that to the base of ten.
    levels = np.log(np.maximum(powers, np.float32(1e-20)))
    levels *= np.float32(10 / np.log(10))
    levels[silent] = -np.inf
    return levels
