"""Elevation: how far each frame of a stream stands out of the noise, and the peaks of that curve.

A frame waits for half of its samples and, at the start, for the first noise floor; nothing else
looks ahead. Blocks of any size give the same frames to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.segmentation.band_levels import band_levels
from audio_pipeline.segmentation.noise_floor import NoiseFloor

if TYPE_CHECKING:
    from audio_pipeline.segmentation.segmenter import SegmentationSettings

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

_KINK = 20.0
"""dB that the kink at a mirrored border lies under the sound, at least."""

_NOTHING: Float32 = np.zeros(0, np.float32)


class Elevation:
    """Turns a stream of samples into elevation over a trailing noise floor, a value a frame.

    Frame i is centred on sample i * hop. Beyond the borders of the stream the sound is taken to be
    mirrored: a step from silence would sound like a click.

    Parameters
    ----------
    settings
        Frames, bands and floor.
    """

    def __init__(self, settings: SegmentationSettings) -> None:
        self._settings = settings
        self._floor = NoiseFloor(settings.floor, settings.bands, settings.frame_rate)
        self._waiting = _NOTHING  # samples that are not yet in every frame they belong to
        self._framed = 0  # frames whose band levels have been taken; 0 before the start
        self._whole: Float32 | None = None  # levels of the last frame without mirrored samples
        # Levels held back until the first floor is known; None from then on.
        self._held: Float32 | None = np.empty((0, settings.bands), np.float32)

    def push(self, samples: Float32) -> Float32:
        """Take the next samples and return the elevation of the frames that have become known.

        Parameters
        ----------
        samples
            float32 (n,) at the rate of the settings.

        Returns
        -------
        float32 (m,) in dB, never below zero; m may be 0.
        """
        if self._framed:
            return self._elevations([self._waiting, samples])
        known = self._waiting = np.concatenate([self._waiting, samples])
        # What is mirrored is mended by the first whole frame, which has to be there too.
        if len(known) < self._settings.n_fft + self._settings.hop:
            return _NOTHING
        return self._elevations([known[self._settings.n_fft // 2 : 0 : -1], known])

    def finish(self, samples: Float32) -> Float32:
        """Take the last samples, float32 (n,); return the elevation of all frames left, (m,)."""
        half = self._settings.n_fft // 2
        parts = [self._waiting, samples]
        end = np.concatenate([part[-half - 1 :] for part in parts])
        if not self._framed:
            # Most recordings come in one piece, which need not be copied.
            known = np.concatenate(parts) if len(self._waiting) else samples
            if not len(known):
                return _NOTHING
            parts = [known[half:0:-1], known]
            if len(known) <= half:
                parts = [np.pad(known, (half, 0), mode="symmetric")]
        beyond = end[-half - 1 : -1][::-1]
        silence = np.zeros(half - len(beyond), np.float32)
        return self._elevations([*parts, beyond, silence], ended=True)

    def _elevations(self, parts: Sequence[Float32], *, ended: bool = False) -> Float32:
        """Return the elevation of as many whole frames as there are in what waits."""
        waiting = np.concatenate(parts)
        levels = band_levels(waiting, self._settings, self._framed)
        self._framed += len(levels)
        self._mend_borders(levels, len(waiting), ended)
        self._waiting = waiting[len(levels) * self._settings.hop :]
        if self._held is None:
            return self._floor.elevation(levels)
        levels = np.concatenate([self._held, levels])
        heard = np.isfinite(levels[:, 0])
        # Nothing stands out of digital silence; the floor starts where the sound does.
        silent = int(heard.argmax()) if heard.any() else len(levels)
        flat = np.zeros(silent, np.float32)
        levels = self._held = levels[silent:]
        if len(levels) < self._floor.start_frames and not ended:
            return flat
        self._held = None
        return np.concatenate([flat, self._floor.elevation(levels)])

    def _mend_borders(self, levels: Float32, samples: int, ended: bool) -> None:
        """Take out, in place, what mirroring at the borders has added to frames of `samples`.

        The kink that mirroring makes lies well under the sound, but in bands that hold nothing, as
        those above 4 kHz of a telephone call, it would stand out like an impact.
        """
        settings, half = self._settings, self._settings.n_fft // 2
        stop = len(levels)
        if ended:
            stop = max(0, (samples - half - settings.n_fft) // settings.hop + 1)
        border = -(-half // settings.hop) if self._whole is None else 0
        if stop > border:
            self._whole = levels[stop - 1].copy()
            _mend(levels[:border], levels[border])
        if self._whole is not None:
            _mend(levels[stop:], self._whole)


def _mend(mirrored: Float32, whole: Float32) -> None:
    """Give the weak bands of mirrored frames no more than the nearest whole frame has."""
    if np.isfinite(whole[0]):
        weak = mirrored < mirrored.max(axis=1, keepdims=True) - _KINK
        np.copyto(mirrored, np.minimum(mirrored, whole), where=weak)


def prominent_peaks(
    elevation: Float64, height: float, prominence: float, context: int, apart: int
) -> NDArray[np.intp]:
    """Return where a curve has prominent peaks, rising.

    As :func:`scipy.signal.find_peaks`, whose import takes longer than a whole analysis.

    Parameters
    ----------
    elevation
        float64 (n,), in dB; its first and last value are never peaks.
    height, prominence
        dB; a peak is at least so high, and so far over the valleys up to `context` places away on
        both sides.
    apart
        Nothing within so many places of a peak is higher.

    Returns
    -------
    Places, shape (m,), of a flat top its middle; (0,) where nothing stands out.
    """
    steps = np.flatnonzero(elevation[1:] != elevation[:-1])
    rises = elevation[steps + 1] > elevation[steps]
    tops = np.flatnonzero(rises[:-1] & ~rises[1:])
    places: NDArray[np.intp] = (steps[tops] + 1 + steps[tops + 1]) // 2
    places = places[elevation[places] >= height]
    peaks = elevation[places][:, None]
    valleys, alone = np.empty((2, len(places))), np.ones(len(places), bool)
    for side, reach in zip(valleys, np.arange(1, context + 1) * [[-1], [1]], strict=True):
        beside = elevation[np.clip(places[:, None] + reach, 0, len(elevation) - 1)]
        behind_higher = np.logical_or.accumulate(beside > peaks, axis=1)
        alone &= ~behind_higher[:, : apart - 1].any(axis=1)
        side[:] = np.where(behind_higher, peaks, beside).min(axis=1)
    prominent: NDArray[np.intp] = places[alone & (peaks[:, 0] - valleys.max(axis=0) >= prominence)]
    return prominent
