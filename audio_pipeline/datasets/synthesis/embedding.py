"""Put a real clip into a random background and channel, to make more of the few there are."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import soxr
from numpy.typing import NDArray

from audio_pipeline.datasets.synthesis.channel import ChannelSettings
from audio_pipeline.datasets.synthesis.everyday import EverydaySettings, draw_everyday
from audio_pipeline.datasets.synthesis.patterns import PatternSettings, cascade
from audio_pipeline.datasets.synthesis.recorded import Placed, recorded
from audio_pipeline.datasets.synthesis.sounds import (
    Samples,
    Scene,
    Sound,
    level_envelope,
    log_uniform,
)


@dataclass(frozen=True)
class EmbedSettings:
    """Ranges of the embedding; those of the second exploratory study unless said otherwise.

    Attributes
    ----------
    sample_rates : tuple of int
        Hz of the result, drawn with equal chance whatever the clip had.
    stretch : (float, float)
        Resampling factor: the clip gets this much longer and lower.
    cascade : float
        Chance that a pop becomes a cascade of itself (a quarter of the pops).
    tight : float
        Chance that nothing is added around the clip (clips as researchers cut them).
    lead, tail : (float, float)
        Seconds of background before and after otherwise.
    distractor : float
        Chance of one everyday sound elsewhere in the scene, labelled ``other``.
    active_level : float
        dB below the clip's peak down to which it is labelled.
    channel : ChannelSettings
        Milder than for synthetic sounds, because a clip has been through one channel already:
        8-60 dB coloured noise, reverberation, equaliser, low-pass, gain control, clipping.
    """

    sample_rates: tuple[int, ...] = (44_100, 48_000)
    stretch: tuple[float, float] = (0.85, 1.18)
    cascade: float = 0.25
    tight: float = 0.2
    lead: tuple[float, float] = (0.05, 1.2)
    tail: tuple[float, float] = (0.1, 1.0)
    distractor: float = 0.3
    active_level: float = -30.0
    pattern: PatternSettings = field(default_factory=PatternSettings)
    everyday: EverydaySettings = field(default_factory=EverydaySettings)
    channel: ChannelSettings = field(
        default_factory=lambda: ChannelSettings(
            slope=4.0,
            ripple=3.0,
            tissue=0.2,
            room=0.5,
            direct=(5.0, 30.0),
            snr=(8.0, 60.0),
            low_pass=0.4,
            codec=0.08,
        )
    )


def embed(
    rng: np.random.Generator,
    samples: NDArray[np.floating],
    sample_rate: int,
    label: str,
    settings: EmbedSettings | None = None,
) -> Scene:
    """Make one new scene of a real clip.

    Parameters
    ----------
    rng : numpy Generator
        The only source of randomness.
    samples : float (n,)
        The clip, mono, any level.
    sample_rate : int
        Hz, above 0.
    label : str
        Its label; ``pop`` clips may become cascades.
    settings : EmbedSettings, optional
        The ranges.

    Returns
    -------
    Scene
        Of family ``real``; the first event with the clip's label spans its audible part, a
        distractor is a second event.

    Raises
    ------
    ValueError
        If the clip is empty, silent or not finite.
    """
    settings = settings or EmbedSettings()
    rate = int(rng.choice(settings.sample_rates))
    stretch = rng.uniform(*settings.stretch)
    sound = clip_sound(samples, sample_rate, rate, label, "clip", stretch, settings.active_level)
    if label == "pop" and rng.random() < settings.cascade:
        sound = _cascaded(rng, sound, rate, settings)
    if rng.random() < settings.tight:
        lead, tail = rng.uniform(0.0, 0.01), rng.uniform(0.0, 0.02)
    else:
        lead, tail = log_uniform(rng, *settings.lead), log_uniform(rng, *settings.tail)
    placed = [Placed(sound, lead, 1.0)]
    length = lead + sound.samples.size / rate + tail
    if rng.random() < settings.distractor:
        other = draw_everyday(rng, "everyday", rate, settings.everyday)
        gain = 10 ** (rng.uniform(-20.0, 3.0) / 20)
        if rng.random() < 0.5:
            placed.append(Placed(other, length + 0.35, gain))
            length += 0.35 + other.end + 0.1
        else:
            shift = other.end + 0.35
            placed = [Placed(other, 0.02, gain), Placed(sound, lead + shift, 1.0)]
            length += shift
    made = recorded(rng, placed, round(length * rate), rate, "real", settings.channel)
    return made


def clip_sound(
    samples: NDArray[np.floating],
    sample_rate: int,
    rate: int,
    label: str,
    kind: str = "clip",
    stretch: float = 1.0,
    active_level: float = -30.0,
) -> Sound:
    """Make a dry sound of a real clip: resampled, its edges faded, its audible part marked.

    Parameters
    ----------
    samples : float (n,)
        Mono, any level.
    sample_rate, rate : int
        Hz of the clip, and of the sound.
    label, kind : str
    stretch : float
        How much longer and lower it gets.
    active_level : float
        dB below the clip's peak down to which it is labelled.

    Raises
    ------
    ValueError
        If the clip is empty, silent or not finite.
    """
    clip = np.asarray(samples, dtype=np.float64)
    if clip.ndim != 1 or clip.size == 0 or not np.all(np.isfinite(clip)):
        raise ValueError(f"a clip must be one row of finite samples, not shape {clip.shape}")
    clip = clip - clip.mean()
    if not np.any(clip):
        raise ValueError("a silent clip cannot be embedded")
    clip = _faded(soxr.resample(clip, sample_rate, rate * stretch), rate)
    return _marked(clip, rate, label, kind, active_level)


def _faded(clip: Samples, rate: int) -> Samples:
    """Fade the cut edges: 0.2 ms in, because the sound may start at once, 5 ms out."""
    rise, fall = min(clip.size, max(1, rate // 5000)), min(clip.size, max(1, rate // 200))
    gain = np.ones(clip.size)
    gain[:rise] = np.arange(1, rise + 1) / rise
    gain[clip.size - fall :] *= np.linspace(1.0, 0.0, fall)
    return clip * gain


def _marked(clip: Samples, rate: int, label: str, kind: str, active_level: float) -> Sound:
    """Find the audible extent of a clip."""
    level = level_envelope(clip, rate)
    audible = np.nonzero(level >= 10 ** (active_level / 20) * level.max())[0]
    whole = clip / np.max(np.abs(clip))
    return Sound(whole, label, kind, audible[0] / rate, (audible[-1] + 1) / rate, ())


def _cascaded(rng: np.random.Generator, sound: Sound, rate: int, settings: EmbedSettings) -> Sound:
    """Repeat the loudest impact of a pop at the times of a cascade."""
    loud = int(np.argmax(np.abs(sound.samples)))
    level = level_envelope(sound.samples, rate)
    before = max(0, loud - round(0.002 * rate))
    quiet = np.nonzero(level[loud:] < 10 ** (-25.0 / 20) * level[loud])[0]
    length = int(quiet[0]) if quiet.size else sound.samples.size - loud
    impact = sound.samples[before : loud + min(length, round(0.05 * rate)) + 1].copy()
    fall = min(impact.size, max(1, rate // 500))
    impact[impact.size - fall :] *= np.linspace(1.0, 0.0, fall)
    times, levels = cascade(rng, settings.pattern, "gamma")
    total = np.zeros(round(times[-1] * rate) + 2 + 2 * impact.size)
    for time, gain in zip(times, levels, strict=True):
        # Each impact a little higher or lower, or it would be an echo rather than a crack.
        shifted = soxr.resample(impact, rate, rate * rng.uniform(0.85, 1.18))
        at = round(time * rate)
        part = shifted[: total.size - at]
        total[at : at + part.size] += gain * part
    marked = _marked(total, rate, sound.label, sound.kind, settings.active_level)
    first = (loud - before) / rate
    impacts = tuple(float(time) + first for time in times)
    return Sound(marked.samples, sound.label, "cascade", marked.start, marked.end, impacts)
