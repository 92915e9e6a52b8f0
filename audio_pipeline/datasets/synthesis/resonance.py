"""What rings: damped modes, strikes, noise, and the bodies that joints strike.

All joint sounds, of both families, draw their body here. Only the pattern of impacts in time may
tell a pop from grating, so the spectrum and the decay of one impact must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

HIGHEST = 0.45
"""No mode is rendered above this share of the sample rate, so nothing folds back."""


class Draws(np.random.Generator):
    """A random generator that knows the sample rate of the sounds it is drawn for.

    Parameters
    ----------
    rate : int
        Hz.
    seed : int, sequence of int, or numpy Generator
        Of a generator the stream goes on.
    """

    def __init__(self, rate: int, seed: int | Sequence[int] | np.random.Generator) -> None:
        super().__init__(np.random.default_rng(seed).bit_generator)
        self.rate = rate

    def log_uniform(self, low: float, high: float) -> float:
        """Draw a number, uniform on a logarithmic axis between two positive ones."""
        return float(np.exp(self.uniform(np.log(low), np.log(high))))


Samples = NDArray[np.float64]
# Frequencies (Hz), decays (s) and linear gains of damped modes, float64 (m,) each.
Modes = tuple[Samples, Samples, Samples]


def damped_modes(rng: Draws, excitation: Samples, modes: Modes) -> Samples:
    """Excite a bank of damped sinusoids; every impulse sets all of them ringing.

    Parameters
    ----------
    excitation : float64 (n,)
        Impulses, already smoothed by the contact.
    modes : Modes
        Those above the usable band are left out.

    Returns
    -------
    float64 (n,)
    """
    total = np.zeros_like(excitation)
    for frequency, decay, gain in zip(*modes, strict=True):
        if frequency > HIGHEST * rng.rate:
            continue
        omega = 2 * np.pi * frequency / rng.rate
        radius = np.exp(-1.0 / (decay * rng.rate))
        phase = rng.uniform(0, 2 * np.pi)
        ahead = [np.sin(phase), radius * np.sin(omega - phase)]
        back = [1.0, -2 * radius * np.cos(omega), radius * radius]
        total += gain * lfilter(ahead, back, excitation)
    return total


def impulses(times: Samples, levels: Samples, count: int, sample_rate: int) -> Samples:
    """Place impulses between samples by linear interpolation; float64 (count,)."""
    train = np.zeros(count)
    place = times * sample_rate
    left = np.floor(place).astype(np.intp)
    part = place - left
    inside = left < count - 1
    np.add.at(train, left[inside], (levels * (1 - part))[inside])
    np.add.at(train, left[inside] + 1, (levels * part)[inside])
    return train


def contact_pulse(duration: float, sample_rate: int) -> Samples:
    """Half-sine force of a contact of ``duration`` seconds, sum 1; at least one sample."""
    width = max(1, round(duration * sample_rate))
    pulse = np.sin(np.pi * (np.arange(width) + 0.5) / width)
    return np.asarray(pulse / pulse.sum())


def struck(
    rng: Draws,
    times: Samples,
    levels: Samples,
    modes: Modes,
    contact: float,
    tick: float,
    tail: float | None = None,
) -> Samples:
    """Strike a bank of modes at the given times; returns float64 (n,), any level.

    ``tick`` is the share of broadband noise that comes with each contact and dies in about a
    millisecond. ``tail`` is the length after the last impact in seconds (seven time constants
    of the slowest mode unless told).
    """
    tail = 7.0 * float(modes[1].max()) + 2 * contact if tail is None else tail
    count = round((float(times[-1]) + tail) * rng.rate) + 8
    train = impulses(times, levels, count, rng.rate)
    pulse = contact_pulse(contact, rng.rate)
    force = oaconvolve(train, pulse)[:count] if pulse.size > 1 else train
    sound = damped_modes(rng, force, modes)
    if tick > 0.0:
        fade = np.exp(-1.0 / (rng.uniform(2e-4, 9e-4) * rng.rate))
        hiss = lfilter([1.0], [1.0, -fade], np.abs(train)) * rng.standard_normal(count)
        hiss = band_passed(hiss, rng.uniform(1500.0, 4000.0), None, rng.rate)
        loudest = np.max(np.abs(hiss))
        if loudest > 0:
            sound = sound + hiss * (tick * np.max(np.abs(sound)) / loudest)
    return sound


def band_passed(
    samples: Samples, low: float | None, high: float | None, sample_rate: int, order: int = 2
) -> Samples:
    """Butterworth low-, high- or band-pass; edges beyond the usable band are ignored."""
    top = 0.95 * sample_rate / 2
    high = None if high is None or high >= top else high
    if low is not None and high is not None:
        sections = butter(order, [low, high], "bandpass", fs=sample_rate, output="sos")
    elif low is not None:
        sections = butter(order, min(low, top), "highpass", fs=sample_rate, output="sos")
    elif high is not None:
        sections = butter(order, high, "lowpass", fs=sample_rate, output="sos")
    else:
        return samples
    return np.asarray(sosfilt(sections, samples))


def coloured_noise(rng: Draws, count: int, slope: float, knee: float = 50.0) -> Samples:
    """Gaussian noise whose power falls ``slope`` dB an octave above ``knee`` Hz; deviation 1."""
    size = next_fast_len(max(count, 16), real=True)
    spectrum = rfft(rng.standard_normal(size))
    frequency = np.maximum(rfftfreq(size, 1.0 / rng.rate), knee)
    noise = irfft(spectrum * (frequency / 1000.0) ** (-slope / 6.02), size)[:count]
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def shaped_noise(
    rng: Draws, count: int, centres: Samples, widths: Samples, gains: Samples, floor: float = 0.0
) -> Samples:
    """Gaussian noise with spectral humps (Hz, octaves, linear gain); deviation 1."""
    size = next_fast_len(max(count, 16), real=True)
    octave = np.log2(np.maximum(rfftfreq(size, 1.0 / rng.rate), 20.0))
    hump = (octave[:, None] - np.log2(centres)) / widths
    gain = np.exp(-0.5 * hump * hump) @ gains + floor * float(np.max(gains))
    noise = irfft(rfft(rng.standard_normal(size)) * gain, size)[:count]
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def slow_curve(rng: Draws, count: int, knots_per_second: float, spread: float) -> Samples:
    """Slow random gain, log-normal with ``spread`` (natural logarithm), float64 (count,)."""
    knots = max(4, round(count / rng.rate * knots_per_second) + 2)
    place = np.linspace(0.0, knots - 1.0, count)
    values = spread * rng.standard_normal(knots)
    left = np.minimum(place.astype(np.intp), knots - 2)
    mix = 0.5 - 0.5 * np.cos(np.pi * (place - left))
    return np.asarray(np.exp(values[left] * (1 - mix) + values[left + 1] * mix))


def swell(count: int, rise: float, fall: float) -> Samples:
    """Envelope that rises over a share ``rise`` of its length and falls over ``fall``."""
    place = (np.arange(count) + 0.5) / max(count, 1)
    up = np.clip(place / max(rise, 1e-3), 0.0, 1.0)
    down = np.clip((1.0 - place) / max(fall, 1e-3), 0.0, 1.0)
    return np.asarray(np.sin(0.5 * np.pi * up) ** 2 * np.sin(0.5 * np.pi * down) ** 2)


@dataclass(frozen=True)
class BodySettings:
    """Ranges of a body."""

    #: Shares of bright bodies (air microphone close to a small joint: real clips have a median
    #: centroid of 3.8 kHz) and of broad ones. The rest is dull: heard through tissue, all energy
    #: under 1 kHz (skin microphones: peaks of 86-1,830 Hz, mean 333; Reggars 1996)
    bright: float = 0.6
    broad: float = 0.25
    #: Number of modes. Engineering judgement; 2-6 in the first recipe, a little wider here
    modes: tuple[int, int] = (2, 8)
    #: Hz. 120 Hz-10.5 kHz carried over best to real recordings in the exploratory study
    frequency: tuple[float, float] = (120.0, 10_500.0)
    #: Log-normal centre of the modes of a bright body, Hz; fitted to the first milliseconds of real
    #: pop-like clips (median centroid 3.8 kHz after the channel)
    bright_median: float = 4200.0
    bright_sigma: float = 0.45
    #: Hz, mode range of a dull body (Reggars 1996; Ozmen 2021: 67-115 Hz fundamentals)
    dull: tuple[float, float] = (80.0, 900.0)
    #: Exponent of mode gain over frequency: -0.8..0.8 in the exploratory study
    tilt: tuple[float, float] = (-0.8, 0.8)
    #: Seconds: time constant of an impact. Real pop-like clips fall 10 dB in 2 ms and 20 dB in 5
    #: ms, so a median of 1.6 ms before the channel; published pops of 2.7-5.7 ms give 1.2-2.5 ms;
    #: clicks of the jaw 4-6 ms; the range is the 0.3-10 ms of the exploratory study
    decay: float = 1.6e-3
    decay_sigma: float = 0.8
    decay_range: tuple[float, float] = (2.5e-4, 1.0e-2)
    #: High modes decay faster, as a rule: exponent of decay over frequency. The spectrum of real
    #: pops hardly changes while they fade; judgement otherwise
    decay_slope: tuple[float, float] = (-0.2, 0.6)
    #: A mode rings for at least this share of a period, or it would not be a mode
    cycles: float = 0.6
    #: Seconds: half-sine contact time of the strike, the attack (0.05-0.6 ms; judgement)
    contact: tuple[float, float] = (3e-5, 5e-4)
    #: Share of broadband noise in the first 1-2 ms (judgement, after web spectrograms)
    tick: tuple[float, float] = (0.0, 0.5)


@dataclass(frozen=True)
class Body:
    """One drawn body."""

    kind: str  #: ``bright``, ``broad`` or ``dull``
    frequencies: Samples  #: float64 (m,): Hz, seconds, linear
    decays: Samples
    gains: Samples
    contact: float  #: Seconds of contact; share of broadband noise
    tick: float

    @property
    def modes(self) -> Modes:
        """The same as :func:`struck` takes them."""
        return self.frequencies, self.decays, self.gains


def draw_body(rng: Draws, settings: BodySettings) -> Body:
    """Draw one body."""
    which = rng.random()
    count = int(rng.integers(settings.modes[0], settings.modes[1] + 1))
    low, high = settings.frequency
    contact = rng.log_uniform(*settings.contact)
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
        contact = rng.log_uniform(2e-4, 1.5e-3)
    frequencies = np.clip(frequencies, settings.dull[0], high)
    tilt = rng.uniform(*settings.tilt)
    gains = (frequencies / 1000.0) ** tilt * np.exp(0.5 * rng.standard_normal(count))
    decay = log_normal(rng, settings.decay, settings.decay_sigma, *settings.decay_range)
    slope = rng.uniform(*settings.decay_slope)
    decays = decay * (frequencies / np.median(frequencies)) ** -slope
    decays = np.maximum(decays, settings.cycles / frequencies)
    tick = rng.uniform(*settings.tick) if kind != "dull" else 0.0
    return Body(kind, frequencies, decays, gains / np.sum(gains), contact, float(tick))


def varied(rng: Draws, body: Body, spread: float = 0.05) -> Body:
    """Return the same body struck elsewhere: modes shifted by ``spread``, other gains.

    ``spread`` is the standard deviation of the logarithm of frequency.
    """
    count = body.frequencies.size
    shift = np.exp(spread * rng.standard_normal(count))
    frequencies = np.clip(body.frequencies * shift, 60.0, 11_000.0)
    decays = np.maximum(body.decays, 0.6 / frequencies)
    gains = body.gains * np.exp(min(6 * spread, 0.8) * rng.standard_normal(count))
    return Body(body.kind, frequencies, decays, gains / np.sum(gains), body.contact, body.tick)


Family = Literal["a", "b", "everyday"]
Parameter = float | int | str | bool
END_LEVEL = 0.1
"""A sound ends where it has fallen 20 dB below its own peak (the D20 duration of pop studies)."""


@dataclass(frozen=True)
class Sound:
    """One dry sound before any channel."""

    #: float64 (n,): Largest magnitude 1; the first impact is within a few milliseconds of the first
    #: sample
    samples: Samples
    label: str  #: ``pop``, ``grating`` or ``other``
    kind: str  #: What made it, such as ``cascade``, ``creak`` or ``key``
    start: float  #: Audible extent in seconds from the first sample
    end: float
    #: Times of the impacts in seconds, ascending; empty where none can be resolved
    impacts: tuple[float, ...]


@dataclass(frozen=True)
class LabelledEvent:
    """The truth about one sound in a scene."""

    start: float  #: Seconds from the first sample of the scene
    end: float
    label: str  #: As in :class:`Sound`
    kind: str
    impacts: tuple[float, ...]  #: Seconds from the first sample of the scene, ascending
    snr: float  #: Peak of the event over three standard deviations of the background noise, in dB


@dataclass(frozen=True)
class Scene:
    """Audio with exact labels."""

    samples: NDArray[np.float32]  #: float32 (n,): Mono, in [-1, 1]
    sample_rate: int  #: Hz
    events: tuple[LabelledEvent, ...]  #: In order of their start
    family: str  #: ``a``, ``b``, ``everyday``, or ``real`` for an embedded recording
    #: The draws that made it (channel, noise, level), for tables and for checks
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


def log_normal(rng: Draws, median: float, sigma: float, low: float, high: float) -> float:
    """One log-normal draw by its median and spread (natural logarithm), cut to [low, high]."""
    return float(np.clip(median * np.exp(sigma * rng.standard_normal()), low, high))
