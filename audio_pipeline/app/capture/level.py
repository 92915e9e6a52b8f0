"""How loud the microphone is right now, and whether somebody speaks: what can still be mended."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.audio.quality import QualityConfig

Advice = Literal["good", "silent", "quiet", "loud", "noisy"]

FLOOR_DBFS = -90.0
"""The bottom of the meter."""

_VOICE_RATE = 8000
"""Hz, about: enough for the pitch of a voice, and cheap."""


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


@dataclass(frozen=True)
class VoiceSettings:
    """What counts as a voice; levels in dB, times in s, pitches in Hz.

    A voice is periodic like a hum, but its pitch and its loudness change from syllable to
    syllable (Scheirer and Slaney, 1997). It is only a hint: on the project's clips of 0.8 s and
    more, 68 of 111 of speech or of a child counted (most are shorter than `window_seconds`), 2 of
    114 pops and grating sounds, and 21 of 630 household sounds.
    """

    window_seconds: float = 2.0
    frame_seconds: float = 0.04
    lowest_pitch: float = 80.0
    highest_pitch: float = 350.0
    periodicity: float = 0.75
    quietest_dbfs: float = -60.0
    range_db: float = 30.0
    voiced_fraction: float = 0.25
    pitch_spread_semitones: float = 0.7
    level_spread_db: float = 3.0


class VoiceMeter:
    """Follows a stream of blocks.

    Parameters
    ----------
    sample_rate : int
        Hz.
    settings : VoiceSettings, optional
        What counts as a voice.

    Attributes
    ----------
    speaking : bool
        Whether the last `window_seconds` hold a voice.
    """

    def __init__(self, sample_rate: int, settings: VoiceSettings | None = None) -> None:
        self.speaking = False
        self._settings = settings or VoiceSettings()
        self._step = max(1, sample_rate // _VOICE_RATE)
        self._rate = sample_rate / self._step
        self._size = round(self._settings.frame_seconds * self._rate)
        self._rest = np.zeros(0, np.float32)
        self._most = round(self._settings.window_seconds / self._settings.frame_seconds)
        self._frames: deque[tuple[float, float, float]] = deque(maxlen=self._most)

    def update(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, finite, in [-1, 1], shape (n,)."""
        samples = np.concatenate([self._rest, block])
        length = self._size * self._step
        count = len(samples) // length
        self._rest = samples[count * length :]
        if not count:
            return
        frames = samples[: count * length].reshape(count, self._size, self._step).mean(axis=2)
        self._frames.extend(self._describe(frames))
        self.speaking = self._judge(np.array(self._frames))

    def _describe(self, frames: NDArray[np.float32]) -> list[tuple[float, float, float]]:
        """Return the periodicity in [0, 1], pitch in Hz and level in dBFS of each frame."""
        frames = frames - frames.mean(axis=1, keepdims=True)
        length = 1 << (2 * self._size - 1).bit_length()
        power = np.square(np.abs(np.fft.rfft(frames, length, axis=1)))
        correlation = np.fft.irfft(power, axis=1)
        shortest = int(self._rate / self._settings.highest_pitch)
        longest = int(self._rate / self._settings.lowest_pitch)
        lags = np.arange(shortest, min(longest, self._size - 1))
        full = correlation[:, :1] * (1 - lags / self._size)  # what a perfect repetition gives
        likeness = correlation[:, lags] / np.maximum(full, 1e-12)
        best = likeness.argmax(axis=1)
        levels = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-12)
        pitches = self._rate / lags[best]
        return list(zip(likeness.max(axis=1), pitches, levels, strict=True))

    def _judge(self, frames: NDArray[np.float64]) -> bool:
        settings = self._settings
        periodicity, pitches, levels = frames.T
        floor = max(settings.quietest_dbfs, levels.max() - settings.range_db)
        voiced = (periodicity > settings.periodicity) & (levels > floor)
        if voiced.sum() < settings.voiced_fraction * self._most:
            return False
        pitch_spread = 12 * np.log2(pitches[voiced]).std()
        level_spread = np.maximum(levels, levels.max() - 40).std()
        return bool(
            pitch_spread > settings.pitch_spread_semitones
            and level_spread > settings.level_spread_db
        )


def to_dbfs(amplitude: float) -> float:
    """Return an amplitude in [0, 1] as dB of full scale, not below -90."""
    return max(FLOOR_DBFS, 20.0 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DBFS
