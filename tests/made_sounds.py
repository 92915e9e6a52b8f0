"""Small sounds with known truth for tests: impacts, grinding and backgrounds, made from a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]

_SLOPES = {"white": 0.0, "pink": -0.5, "brown": -1.0}


def background(
    kind: str, seconds: float, rate: int, seed: int = 0, level: float = 0.002
) -> Float32:
    """Return steady noise of a level: `white`, `pink`, `brown`, or `hum` with hiss."""
    count = round(seconds * rate)
    rng = np.random.default_rng([seed, 7])
    spectrum = np.fft.rfft(rng.standard_normal(count))
    frequency = np.fft.rfftfreq(count, 1 / rate)
    # Without this limit brown noise is a slow drift and little else.
    spectrum *= np.maximum(frequency, 20.0) ** _SLOPES["pink" if kind == "hum" else kind]
    noise = np.fft.irfft(spectrum, count)
    noise *= level / noise.std()
    if kind == "hum":
        time = np.arange(count) / rate
        noise += sum(4 * level / n * np.sin(2 * np.pi * 50 * n * time + n) for n in (1, 2, 3, 5, 7))
    return noise.astype(np.float32)


def impact(rate: int, seed: int = 0, decay: float = 0.002, length: float = 0.03) -> Float32:
    """Return one impact, peak 1 at its first samples: damped modes from 0.8 to 6 kHz."""
    rng = np.random.default_rng([seed, 11])
    time = np.arange(round(length * rate)) / rate
    modes = rng.uniform(800, 6000, 12)
    sound = sum(np.sin(2 * np.pi * mode * time + rng.uniform(0, 6)) for mode in modes)
    sound = sound * np.exp(-time / decay)
    return (sound / np.abs(sound).max()).astype(np.float32)


def with_impacts(
    under: Float32, times: Sequence[float], rate: int, seed: int = 0, peak: float = 0.3
) -> Float32:
    """Return `under` with an impact at each time (seconds), the same body for all."""
    mixed = under.copy()
    sound = peak * impact(rate, seed)
    for time in times:
        start = round(time * rate)
        piece = sound[: len(mixed) - start]
        mixed[start : start + len(piece)] += piece
    return mixed


def grating_times(start: float, seconds: float, seed: int = 0, rate: float = 60.0) -> list[float]:
    """Return times of irregular impacts, about `rate` a second, for some seconds."""
    rng = np.random.default_rng([seed, 13])
    gaps = rng.gamma(3.0, 1 / (3.0 * rate), round(3 * seconds * rate) + 2)
    times = start + np.concatenate([[0.0], np.cumsum(gaps)])
    return [float(time) for time in times[times <= start + seconds]]
