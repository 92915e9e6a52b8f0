"""How loud the microphone is right now, and what to mend while it can still be mended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.audio.quality import QualityConfig

Advice = Literal["good", "silent", "quiet", "loud", "noisy"]

FLOOR_DBFS = -90.0
"""The bottom of the meter."""


@dataclass(frozen=True)
class LevelConfig:
    """When the meter warns; levels in dBFS, times in s. The verdict on a take is quality.py's."""

    loud_dbfs: float = -0.5  # converters flatten just below full scale
    loud_shown_seconds: float = 3.0  # a clipped click is over before anyone can read of it
    quiet_after_seconds: float = 5.0  # a quiet room is no fault until something should sound
    silent_after_seconds: float = 1.0
    fall_db_per_second: float = 20.0  # of the bar, as peak programme meters fall


class LevelMeter:
    """Follows the level of a stream of blocks.

    Parameters
    ----------
    sample_rate : int
        Hz.
    settings : LevelConfig, optional
        When to warn.
    quality : QualityConfig, optional
        Where the verdict on the whole take draws its lines, so that both say the same.

    Attributes
    ----------
    bar_dbfs : float
        The meter's bar: jumps to a peak, falls slowly; from -90 to 0.
    advice : {"good", "silent", "quiet", "loud", "noisy"}
        What is the matter now.
    """

    def __init__(
        self,
        sample_rate: int,
        settings: LevelConfig | None = None,
        quality: QualityConfig | None = None,
    ) -> None:
        self.bar_dbfs = FLOOR_DBFS
        self.advice: Advice = "good"
        self._settings = settings or LevelConfig()
        self._quality = quality or QualityConfig()
        self._sample_rate = sample_rate
        self._time = 0.0
        self._last_loud = -math.inf
        self._last_audible = 0.0
        self._last_signal = 0.0
        self._floor_dbfs: float | None = None

    def update(self, block: NDArray[np.float32]) -> None:
        """Take the next samples in [-1, 1], shape (n,)."""
        if not len(block):
            return
        seconds = len(block) / self._sample_rate
        self._time += seconds
        peak = to_dbfs(float(np.abs(block).max()))
        self.bar_dbfs = max(peak, self.bar_dbfs - self._settings.fall_db_per_second * seconds)
        self.bar_dbfs = min(0.0, max(FLOOR_DBFS, self.bar_dbfs))
        if float(np.ptp(block)) > 0:
            self._last_signal = self._time
        if peak >= self._quality.quiet_dbfs:
            self._last_audible = self._time
        if peak >= self._settings.loud_dbfs:
            self._last_loud = self._time
        level = to_dbfs(float(np.sqrt(np.mean(np.square(block - block.mean(), dtype=np.float64)))))
        # Falls at once and rises slowly: the stillest of the last seconds, not the sounds in it.
        risen = level if self._floor_dbfs is None else self._floor_dbfs + 3.0 * seconds
        self._floor_dbfs = min(level, risen)
        self.advice = self._judge()

    def _judge(self) -> Advice:
        if self._time - self._last_loud < self._settings.loud_shown_seconds:
            return "loud"
        if self._time - self._last_signal > self._settings.silent_after_seconds:
            return "silent"
        if self._floor_dbfs is not None and self._floor_dbfs > self._quality.noisy_dbfs:
            return "noisy"
        if self._time - self._last_audible > self._settings.quiet_after_seconds:
            return "quiet"
        return "good"


def to_dbfs(amplitude: float) -> float:
    """Return an amplitude in [0, 1] as dB of full scale, not below -90."""
    return max(FLOOR_DBFS, 20.0 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DBFS
