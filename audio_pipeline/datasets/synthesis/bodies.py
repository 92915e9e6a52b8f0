"""What rings when a joint makes a sound: modes, decays and spectral balance.

All joint sounds, of both families, draw their body here. Only the pattern of impacts in time may
tell a pop from grating, so the spectrum and the decay of one impact must not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from audio_pipeline.datasets.synthesis.sounds import Samples, log_normal, log_uniform


@dataclass(frozen=True)
class BodySettings:
    """Ranges of a body.

    Attributes
    ----------
    bright, broad : float
        Shares of bright bodies (air microphone close to a small joint: real clips have a median
        centroid of 3.8 kHz) and of broad ones. The rest is dull: heard through tissue, all energy
        under 1 kHz (skin microphones: peaks of 86-1,830 Hz, mean 333; Reggars 1996).
    modes : (int, int)
        Number of modes. Engineering judgement; 2-6 in the first recipe, a little wider here.
    frequency : (float, float)
        Hz. 120 Hz-10.5 kHz carried over best to real recordings in the exploratory study.
    bright_median, bright_sigma : float
        Log-normal centre of the modes of a bright body, Hz; fitted to the first milliseconds of
        real pop-like clips (median centroid 3.8 kHz after the channel).
    dull : (float, float)
        Hz, mode range of a dull body (Reggars 1996; Ozmen 2021: 67-115 Hz fundamentals).
    tilt : (float, float)
        Exponent of mode gain over frequency: -0.8..0.8 in the exploratory study.
    decay, decay_sigma, decay_range : float
        Seconds: time constant of an impact. Real pop-like clips fall 10 dB in 2 ms and 20 dB in
        5 ms, so a median of 1.6 ms before the channel; published pops of 2.7-5.7 ms give
        1.2-2.5 ms; clicks of the jaw 4-6 ms; the range is the 0.3-10 ms of the exploratory study.
    decay_slope : (float, float)
        High modes decay faster, as a rule: exponent of decay over frequency. The spectrum of real
        pops hardly changes while they fade; judgement otherwise.
    cycles : float
        A mode rings for at least this share of a period, or it would not be a mode.
    contact : (float, float)
        Seconds: half-sine contact time of the strike, the attack (0.05-0.6 ms; judgement).
    tick : (float, float)
        Share of broadband noise in the first 1-2 ms (judgement, after web spectrograms).
    """

    bright: float = 0.6
    broad: float = 0.25
    modes: tuple[int, int] = (2, 8)
    frequency: tuple[float, float] = (120.0, 10_500.0)
    bright_median: float = 4200.0
    bright_sigma: float = 0.45
    dull: tuple[float, float] = (80.0, 900.0)
    tilt: tuple[float, float] = (-0.8, 0.8)
    decay: float = 1.6e-3
    decay_sigma: float = 0.8
    decay_range: tuple[float, float] = (2.5e-4, 1.0e-2)
    decay_slope: tuple[float, float] = (-0.2, 0.6)
    cycles: float = 0.6
    contact: tuple[float, float] = (3e-5, 5e-4)
    tick: tuple[float, float] = (0.0, 0.5)


@dataclass(frozen=True)
class Body:
    """One drawn body.

    Attributes
    ----------
    kind : str
        ``bright``, ``broad`` or ``dull``.
    frequencies, decays, gains : float64 (m,)
        Hz, seconds, linear.
    contact, tick : float
        Seconds of contact; share of broadband noise.
    """

    kind: str
    frequencies: Samples
    decays: Samples
    gains: Samples
    contact: float
    tick: float


def draw_body(rng: np.random.Generator, settings: BodySettings) -> Body:
    """Draw one body."""
    which = rng.random()
    count = int(rng.integers(settings.modes[0], settings.modes[1] + 1))
    low, high = settings.frequency
    contact = log_uniform(rng, *settings.contact)
    if which < settings.bright:
        kind = "bright"
        centre = log_normal(rng, settings.bright_median, settings.bright_sigma, 900.0, high)
        frequencies = centre * np.exp(rng.uniform(0.2, 0.8) * rng.standard_normal(count))
        contact = min(contact, 0.35 / centre)
    elif which < settings.bright + settings.broad:
        kind = "broad"
        frequencies = np.exp(rng.uniform(np.log(low), np.log(high), count))
    else:
        kind = "dull"
        frequencies = np.exp(rng.uniform(np.log(settings.dull[0]), np.log(settings.dull[1]), count))
        contact = log_uniform(rng, 2e-4, 1.5e-3)
    frequencies = np.clip(frequencies, settings.dull[0], high)
    tilt = rng.uniform(*settings.tilt)
    gains = (frequencies / 1000.0) ** tilt * np.exp(0.5 * rng.standard_normal(count))
    decay = log_normal(rng, settings.decay, settings.decay_sigma, *settings.decay_range)
    slope = rng.uniform(*settings.decay_slope)
    decays = decay * (frequencies / np.median(frequencies)) ** -slope
    decays = np.maximum(decays, settings.cycles / frequencies)
    tick = rng.uniform(*settings.tick) if kind != "dull" else 0.0
    return Body(kind, frequencies, decays, gains / np.sum(gains), contact, float(tick))


def varied(rng: np.random.Generator, body: Body, spread: float = 0.05) -> Body:
    """Return the same body struck elsewhere: modes shifted by ``spread``, other gains.

    ``spread`` is the standard deviation of the logarithm of frequency.
    """
    count = body.frequencies.size
    shift = np.exp(spread * rng.standard_normal(count))
    frequencies = np.clip(body.frequencies * shift, 60.0, 11_000.0)
    decays = np.maximum(body.decays, 0.6 / frequencies)
    gains = body.gains * np.exp(min(6 * spread, 0.8) * rng.standard_normal(count))
    return Body(body.kind, frequencies, decays, gains / np.sum(gains), body.contact, body.tick)
