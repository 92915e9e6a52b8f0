"""The onset envelope: by how many dB each frame of a stream stands out of the noise, and its peaks.

The log-mel spectrogram is librosa's. What it is measured against is a running noise floor
(:mod:`audio_pipeline.segmentation.noise_floor`): :func:`librosa.onset.onset_strength`, per-channel
energy normalisation and a percentile of the file all found far fewer of the impacts in made scenes
(``docs/recognition.md``).

A frame waits for half of its samples and, at the start, for the first noise floor; nothing else
looks ahead. Blocks of any size give the same frames to the last bit.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import librosa
import numpy as np
from numpy.typing import NDArray

from audio_pipeline.segmentation.noise_floor import NoiseFloor
from audio_pipeline.segmentation.segment import SegmentationConfig

Float32 = NDArray[np.float32]

#: Mean square of a frame below which it holds no information (dither at 24 bits is about 1e-14).
DIGITAL_SILENCE = 1e-15

_LEAST_POWER = 1e-20

_FRAMES_AT_ONCE = 128
"""Frames whose power is taken together: what stays in the processor's cache is twice as fast."""

_KINK = 20.0
"""dB that the kink at a mirrored border lies under the sound, at least."""

_NOTHING: Float32 = np.zeros(0, np.float32)


def _place_numba_cache() -> None:
    """Let numba keep what it compiles for librosa in the user's cache where librosa cannot be.

    librosa 0.11 compiles for half a minute at its first use and keeps the result beside itself;
    from a folder that cannot be written it would do so in every run. Without any place to keep it
    numba refuses to work at all, so a folder of this process is the last resort.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(librosa.__file__).parent, os.W_OK):
        return
    import platformdirs

    folder = platformdirs.user_cache_path("crepitus", appauthor=False) / "numba"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        # Private: numba runs what it finds in its cache.
        folder = Path(tempfile.mkdtemp(prefix="crepitus-numba-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["NUMBA_CACHE_DIR"] = str(folder)


# Before librosa's parts, which it imports when they are first used.
_place_numba_cache()


def log_mel_spectrogram(samples: Float32, config: SegmentationConfig) -> Float32:
    """Return the log-mel spectrogram of all whole frames in some samples.

    :func:`librosa.stft` without padding, the bank of :func:`librosa.filters.mel` without
    normalisation, and :func:`librosa.power_to_db` without a limit, which would depend on the
    loudest frame of a block.

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        At ``config.sample_rate``.
    config : SegmentationConfig
        Frames and bands.

    Returns
    -------
    ndarray of float32, shape (n_mels, frames)
        dB; digitally silent frames are ``-inf`` in every band. Fewer samples than one frame give
        (n_mels, 0).
    """
    if len(samples) < config.n_fft:
        return np.empty((config.n_mels, 0), np.float32)
    spectrum = librosa.stft(
        samples,
        n_fft=config.n_fft,
        hop_length=config.hop_length,
        window=_window(config.n_fft),
        center=False,
    )
    filters = _mel_filters(
        config.sample_rate, config.n_fft, config.n_mels, config.fmin, config.fmax
    )
    power = np.empty((config.n_mels, spectrum.shape[1]), np.float32)
    for first in range(0, power.shape[1], _FRAMES_AT_ONCE):
        some = slice(first, first + _FRAMES_AT_ONCE)
        power[:, some] = filters @ librosa.util.abs2(spectrum[:, some])
    levels: Float32 = librosa.power_to_db(power, amin=_LEAST_POWER, top_db=None)
    levels[:, power.max(axis=0) < DIGITAL_SILENCE * config.n_fft] = -np.inf
    return levels


@lru_cache(maxsize=8)
def _window(length: int) -> Float32:
    """Return a periodic Hann window, float32 (length,): librosa then transforms in float32."""
    from librosa.filters import get_window

    window: Float32 = get_window("hann", length).astype(np.float32)
    return window


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> Any:
    """Return mel filters as a sparse matrix, (n_mels, 1 + n_fft // 2), none of them empty.

    BLAS rounds by the shape of what it multiplies, a product with a sparse matrix does not: a frame
    then does not depend on the block that it came in.
    """
    from librosa.filters import mel
    from scipy.sparse import csr_array

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Empty filters")
        filters = mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, norm=None)
    centres = librosa.mel_frequencies(n_mels=n_mels + 2, fmin=fmin, fmax=fmax)[1:-1]
    bins = librosa.fft_frequencies(sr=sample_rate, n_fft=n_fft)
    for band in np.flatnonzero(filters.max(axis=1) == 0):
        filters[band, np.argmin(np.abs(bins - centres[band]))] = 1.0
    return csr_array(filters)


class OnsetEnvelope:
    """Turns a stream of samples into its onset envelope: frame-wise SNR over a running noise floor.

    Frame i is centred on sample i * hop_length. Beyond the borders of the stream the sound is taken
    to be mirrored: a step from silence would sound like a click.

    Parameters
    ----------
    config : SegmentationConfig
        Frames, bands and noise floor.
    """

    def __init__(self, config: SegmentationConfig) -> None:
        self._config = config
        self._floor = NoiseFloor(config.noise_floor, config.n_mels, config.frame_rate)
        self._waiting = _NOTHING  # samples that are not yet in every frame they belong to
        self._started = False  # frames have been taken
        self._whole: Float32 | None = None  # levels of the last frame without mirrored samples
        # Levels held back until the first floor is known; None from then on.
        self._held: Float32 | None = np.empty((config.n_mels, 0), np.float32)

    def push(self, samples: Float32) -> Float32:
        """Take the next samples and return the envelope of the frames that have become known.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            At the rate of the configuration.

        Returns
        -------
        ndarray of float32, shape (m,)
            dB over the noise floor, never below zero; m may be 0.
        """
        if self._started:
            return self._envelope([self._waiting, samples])
        known = self._waiting = np.concatenate([self._waiting, samples])
        # What is mirrored is mended by the first whole frame, which has to be there too.
        if len(known) < self._config.n_fft + self._config.hop_length:
            return _NOTHING
        return self._envelope([known[self._config.n_fft // 2 : 0 : -1], known])

    def finish(self, samples: Float32) -> Float32:
        """Take the last samples, float32 (n,); return the envelope of all frames left, (m,)."""
        half = self._config.n_fft // 2
        parts = [self._waiting, samples]
        end = np.concatenate([part[-half - 1 :] for part in parts])
        if not self._started:
            # Most recordings come in one piece, which need not be copied.
            known = np.concatenate(parts) if len(self._waiting) else samples
            if not len(known):
                return _NOTHING
            parts = [known[half:0:-1], known]
            if len(known) <= half:
                parts = [np.pad(known, (half, 0), mode="symmetric")]
        beyond = end[-half - 1 : -1][::-1]
        silence = np.zeros(half - len(beyond), np.float32)
        return self._envelope([*parts, beyond, silence], ended=True)

    def _envelope(self, parts: Sequence[Float32], *, ended: bool = False) -> Float32:
        """Return the envelope of as many whole frames as there are in what waits."""
        waiting = np.concatenate(parts)
        levels = log_mel_spectrogram(waiting, self._config)
        frames = levels.shape[1]
        self._mend_borders(levels, len(waiting), ended)
        self._started = self._started or frames > 0
        self._waiting = waiting[frames * self._config.hop_length :]
        if self._held is None:
            return self._floor.snr(levels)
        levels = np.concatenate([self._held, levels], axis=1)
        heard = np.isfinite(levels[0])
        # Nothing stands out of digital silence; the floor starts where the sound does.
        silent = int(heard.argmax()) if heard.any() else levels.shape[1]
        flat = np.zeros(silent, np.float32)
        levels = self._held = levels[:, silent:]
        if levels.shape[1] < self._floor.warm_up_frames and not ended:
            return flat
        self._held = None
        return np.concatenate([flat, self._floor.snr(levels)])

    def _mend_borders(self, levels: Float32, samples: int, ended: bool) -> None:
        """Take out, in place, what mirroring at the borders has added to frames of `samples`.

        The kink that mirroring makes lies well under the sound, but in bands that hold nothing, as
        those above 4 kHz of a telephone call, it would stand out like an impact.
        """
        config, half = self._config, self._config.n_fft // 2
        stop = levels.shape[1]
        if ended:
            stop = max(0, (samples - half - config.n_fft) // config.hop_length + 1)
        border = -(-half // config.hop_length) if self._whole is None else 0
        if stop > border:
            self._whole = levels[:, stop - 1].copy()
            _mend(levels[:, :border], levels[:, border])
        if self._whole is not None:
            _mend(levels[:, stop:], self._whole)


def _mend(mirrored: Float32, whole: Float32) -> None:
    """Give the weak bands of mirrored frames no more than the nearest whole frame has."""
    if np.isfinite(whole[0]) and mirrored.size:
        weak = mirrored < mirrored.max(axis=0) - _KINK
        np.copyto(mirrored, np.minimum(mirrored, whole[:, None]), where=weak)


@cache
def _compile_peak_pick() -> None:
    """Let numba compile or load :func:`librosa.util.peak_pick`, one process at a time.

    Its cache holds the loop and its wrapper in two files: written by two processes at once they
    need not fit each other, and a process that reads such a pair crashes.
    """
    with ExitStack() as stack:
        if os.name == "posix":
            import fcntl

            # A lock on librosa's own file leaves none behind.
            with suppress(OSError):
                lock = os.open(librosa.__file__, os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, lock)
                fcntl.flock(lock, fcntl.LOCK_EX)
        librosa.util.peak_pick(
            np.zeros(8, np.float32), pre_max=1, post_max=2, pre_avg=1, post_avg=2, delta=1.0, wait=0
        )


def peak_pick(envelope: Float32, config: SegmentationConfig) -> NDArray[np.intp]:
    """Return where an onset envelope has peaks: :func:`librosa.util.peak_pick` above a height.

    Parameters
    ----------
    envelope : ndarray of float32, shape (n,)
        dB over the noise floor.
    config : SegmentationConfig
        Of the peaks.

    Returns
    -------
    ndarray of int, shape (m,)
        Indices, rising: frames of at least `peak_height`, with nothing higher within
        `peak_distance` on both sides, `peak_delta` above the mean within `peak_context` on both
        sides. All frames of a flat top are peaks.
    """
    beside, around = config.frames(config.peak_distance), config.frames(config.peak_context)
    if not len(envelope):
        return np.zeros(0, np.intp)
    _compile_peak_pick()
    indices: NDArray[np.intp] = librosa.util.peak_pick(
        envelope,
        pre_max=beside,
        post_max=beside + 1,
        pre_avg=around,
        post_avg=around + 1,
        delta=config.peak_delta,
        wait=0,
    )
    return indices[envelope[indices] >= config.peak_height]
