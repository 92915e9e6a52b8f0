"""How things ring: damped modes, contact pulses, coloured noise; the shared building blocks."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import butter, lfilter, oaconvolve, sosfilt

from audio_pipeline.datasets.synthesis.sounds import Samples

HIGHEST = 0.45
"""No mode is rendered above this share of the sample rate, so nothing folds back."""


def damped_modes(
    rng: np.random.Generator,
    excitation: Samples,
    frequencies: Samples,
    decays: Samples,
    gains: Samples,
    sample_rate: int,
) -> Samples:
    """Excite a bank of damped sinusoids; every impulse sets all of them ringing.

    Parameters
    ----------
    excitation : float64 (n,)
        Impulses, already smoothed by the contact.
    frequencies, decays, gains : float64 (m,)
        Hz, seconds, linear. Modes above the usable band are left out.

    Returns
    -------
    float64 (n,)
    """
    total = np.zeros_like(excitation)
    for frequency, decay, gain in zip(frequencies, decays, gains, strict=True):
        if frequency > HIGHEST * sample_rate:
            continue
        omega = 2 * np.pi * frequency / sample_rate
        radius = np.exp(-1.0 / (decay * sample_rate))
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
    rng: np.random.Generator,
    times: Samples,
    levels: Samples,
    frequencies: Samples,
    decays: Samples,
    gains: Samples,
    contact: float,
    tick: float,
    sample_rate: int,
    tail: float | None = None,
) -> Samples:
    """Strike a bank of modes at the given times; returns float64 (n,), any level.

    ``tick`` is the share of broadband noise that comes with each contact and dies in about a
    millisecond. ``tail`` is the length after the last impact in seconds (seven time constants
    of the slowest mode unless told).
    """
    tail = 7.0 * float(decays.max()) + 2 * contact if tail is None else tail
    count = round((float(times[-1]) + tail) * sample_rate) + 8
    train = impulses(times, levels, count, sample_rate)
    pulse = contact_pulse(contact, sample_rate)
    force = oaconvolve(train, pulse)[:count] if pulse.size > 1 else train
    sound = damped_modes(rng, force, frequencies, decays, gains, sample_rate)
    if tick > 0.0:
        fade = np.exp(-1.0 / (rng.uniform(2e-4, 9e-4) * sample_rate))
        hiss = lfilter([1.0], [1.0, -fade], np.abs(train)) * rng.standard_normal(count)
        hiss = band_passed(hiss, rng.uniform(1500.0, 4000.0), None, sample_rate)
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


def coloured_noise(
    rng: np.random.Generator, count: int, sample_rate: int, slope: float, knee: float = 50.0
) -> Samples:
    """Gaussian noise whose power falls ``slope`` dB an octave above ``knee`` Hz; deviation 1."""
    size = next_fast_len(max(count, 16), real=True)
    spectrum = rfft(rng.standard_normal(size))
    frequency = np.maximum(rfftfreq(size, 1.0 / sample_rate), knee)
    noise = irfft(spectrum * (frequency / 1000.0) ** (-slope / 6.02), size)[:count]
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def shaped_noise(
    rng: np.random.Generator,
    count: int,
    sample_rate: int,
    centres: Samples,
    widths: Samples,
    gains: Samples,
    floor: float = 0.0,
) -> Samples:
    """Gaussian noise with spectral humps (Hz, octaves, linear gain); deviation 1."""
    size = next_fast_len(max(count, 16), real=True)
    octave = np.log2(np.maximum(rfftfreq(size, 1.0 / sample_rate), 20.0))
    hump = (octave[:, None] - np.log2(centres)) / widths
    gain = np.exp(-0.5 * hump * hump) @ gains + floor * float(np.max(gains))
    noise = irfft(rfft(rng.standard_normal(size)) * gain, size)[:count]
    return np.asarray(noise / max(float(noise.std()), 1e-12))


def slow_curve(
    rng: np.random.Generator, count: int, sample_rate: int, knots_per_second: float, spread: float
) -> Samples:
    """Slow random gain, log-normal with ``spread`` (natural logarithm), float64 (count,)."""
    knots = max(4, round(count / sample_rate * knots_per_second) + 2)
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
