"""What a synthesizer makes: one dry sound, a labelled event, a whole scene.

The written definition of the labels (the same in segmentation, tests and docs):

* **impact**: one resolvable transient, a few milliseconds long.
* **pop**: one impact, or a cascade of 2 to 12 impacts, each within 45 ms of the one before, all
  within 0.5 s, with little energy between them.
* **grating**: at least 20 impacts over at least 0.5 s, or a dense rough passage of at least
  0.15 s, or a regular train of at least 6 impacts (a creak).
* **other**: everything that no joint makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Family = Literal["a", "b", "everyday"]
Parameter = float | int | str | bool
Samples = NDArray[np.float64]

END_LEVEL = 0.1
"""A sound ends where it has fallen 20 dB below its own peak (the D20 duration of pop studies)."""


@dataclass(frozen=True)
class Sound:
    """One dry sound before any channel.

    Attributes
    ----------
    samples : float64 (n,)
        Largest magnitude 1; the first impact is within a few milliseconds of the first sample.
    label : str
        ``pop``, ``grating`` or ``other``.
    kind : str
        What made it, such as ``cascade``, ``creak`` or ``key``.
    start, end : float
        Audible extent in seconds from the first sample.
    impacts : tuple of float
        Times of the impacts in seconds, ascending; empty where none can be resolved.
    """

    samples: Samples
    label: str
    kind: str
    start: float
    end: float
    impacts: tuple[float, ...]


@dataclass(frozen=True)
class LabelledEvent:
    """The truth about one sound in a scene.

    Attributes
    ----------
    start, end : float
        Seconds from the first sample of the scene.
    label, kind : str
        As in :class:`Sound`.
    impacts : tuple of float
        Seconds from the first sample of the scene, ascending.
    snr : float
        Peak of the event over three standard deviations of the background noise, in dB.
    """

    start: float
    end: float
    label: str
    kind: str
    impacts: tuple[float, ...]
    snr: float


@dataclass(frozen=True)
class Scene:
    """Audio with exact labels.

    Attributes
    ----------
    samples : float32 (n,)
        Mono, in [-1, 1].
    sample_rate : int
        Hz.
    events : tuple of LabelledEvent
        In order of their start.
    family : str
        ``a``, ``b``, ``everyday``, or ``real`` for an embedded recording.
    parameters : mapping
        The draws that made it (channel, noise, level), for tables and for checks.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    events: tuple[LabelledEvent, ...]
    family: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def finished(
    samples: Samples,
    sample_rate: int,
    label: str,
    kind: str,
    impacts: NDArray[np.float64] | tuple[float, ...] = (),
) -> Sound:
    """Normalise to a peak of 1, cut the silent end and measure the audible extent.

    Parameters
    ----------
    samples : float64 (n,)
        The raw sound, any level.
    impacts : seconds from the first sample
        Kept exactly; the cut keeps the first sample.

    Raises
    ------
    ValueError
        If the sound is silent or not finite.
    """
    peak = float(np.max(np.abs(samples), initial=0.0))
    if not np.isfinite(peak) or peak <= 0.0:
        raise ValueError(f"the sound '{kind}' has no finite energy")
    sound = samples / peak
    envelope = level_envelope(sound, sample_rate)
    audible = np.nonzero(envelope >= END_LEVEL * envelope.max())[0]
    tail = np.nonzero(envelope >= 1e-3 * envelope.max())[0]
    times = tuple(float(t) for t in np.sort(np.asarray(impacts, dtype=np.float64)))
    start = times[0] if times else audible[0] / sample_rate
    end = max((audible[-1] + 1) / sample_rate, (times[-1] + 5e-4) if times else 0.0)
    sound = sound[: tail[-1] + 1].copy()
    # A last fade of 1 ms: a sound that was cut off while it rang would end in a click of its own.
    fade = min(sound.size, sample_rate // 1000)
    sound[sound.size - fade :] *= np.linspace(1.0, 0.0, fade)
    return Sound(sound, label, kind, float(start), float(end), times)


def level_envelope(samples: Samples, sample_rate: int, window: float = 1e-3) -> Samples:
    """Root mean square over a centred window (1 ms unless told), shape (n,)."""
    width = max(1, round(window * sample_rate))
    power = np.concatenate([[0.0], np.cumsum(samples * samples)])
    left = np.clip(np.arange(samples.size) - width // 2, 0, samples.size)
    right = np.clip(left + width, 0, samples.size)
    mean: Samples = np.sqrt(np.maximum(power[right] - power[left], 0.0) / width)
    return mean


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """One draw, uniform on a logarithmic axis between two positive numbers."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def log_normal(
    rng: np.random.Generator, median: float, sigma: float, low: float, high: float
) -> float:
    """One log-normal draw by its median and spread (natural logarithm), cut to [low, high]."""
    return float(np.clip(median * np.exp(sigma * rng.standard_normal()), low, high))
