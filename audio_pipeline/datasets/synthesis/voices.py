"""Everyday sounds of a person: speech, humming, coughs, breath, mouth clicks, heart-slow bowels.

Source and filter: a glottal pulse train or noise through a few formants. Formant and pitch
ranges are textbook values for adults and children; timings are judgement.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from audio_pipeline.datasets.synthesis.ringing import (
    band_passed,
    coloured_noise,
    shaped_noise,
    slow_curve,
    struck,
    swell,
)
from audio_pipeline.datasets.synthesis.sounds import Samples, Sound, finished, log_uniform

_PITCH = (65.0, 330.0)
_CREAKING = (32.0, 75.0)
"""Hz; low ends of phrases and groans fall to single pulses that can be counted."""


def _pitch(rng: np.random.Generator) -> float:
    """Draw the pitch of a voice in Hz; one in five creaks."""
    return log_uniform(rng, *(_CREAKING if rng.random() < 0.2 else _PITCH))


def _formants(rng: np.random.Generator, source: Samples, sample_rate: int) -> Samples:
    """Filter a source through four formants; peak of each at most 1."""
    centres = [
        rng.uniform(250, 900),
        rng.uniform(800, 2500),
        rng.uniform(2200, 3400),
        rng.uniform(3200, 4500),
    ]
    fall = rng.uniform(4, 12)
    total = np.zeros_like(source)
    for place, centre in enumerate(centres):
        radius = np.exp(-np.pi * rng.uniform(50, 180) * (1 + place) / sample_rate)
        omega = 2 * np.pi * centre / sample_rate
        part = lfilter([1 - radius], [1.0, -2 * radius * np.cos(omega), radius**2], source)
        peak = max(float(np.max(np.abs(part))), 1e-12)
        total += part / peak * 10 ** (-fall * place / 20)
    return total


def _gliding(rng: np.random.Generator, source: Samples, sample_rate: int) -> Samples:
    """Move from one set of formants to another, as syllables do."""
    mix = np.linspace(0.0, 1.0, source.size)
    first, last = (_formants(rng, source, sample_rate) for _ in range(2))
    return np.asarray((1 - mix) * first + mix * last)


def _voiced(rng: np.random.Generator, count: int, pitch: float, sample_rate: int) -> Samples:
    """Pulse the glottis with a wandering pitch, sometimes creaky, and breathe through it."""
    contour = pitch * slow_curve(rng, count, sample_rate, 6.0, 0.12)
    if rng.random() < 0.25:
        contour = contour * slow_curve(rng, count, sample_rate, pitch, rng.uniform(0.03, 0.25))
    phase = np.cumsum(contour) / sample_rate
    beats = np.diff(np.floor(phase), prepend=0.0)
    beats *= 1.0 + rng.uniform(0.02, 0.3) * rng.standard_normal(count)
    dull = np.exp(-2 * np.pi * log_uniform(rng, 80, 900) / sample_rate)
    glottis = lfilter([1.0 - dull], [1.0, -dull], beats) * pitch / 100.0
    air = log_uniform(rng, 1e-4, 2e-2) * rng.standard_normal(count)
    return np.asarray(glottis + air)


def speech(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Say a few syllables: voiced formants between fricatives and plosive bursts.

    Pitch reaches down to 32 Hz, the pulses of a creaking voice: those came nearest to grating.
    """
    pitch = _pitch(rng)
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 11))):
        start = rng.random()
        if start < 0.35:
            low = rng.uniform(1500, 5000)
            hiss = band_passed(
                rng.standard_normal(round(rng.uniform(0.04, 0.16) * sample_rate)),
                low,
                low * rng.uniform(1.5, 2.5),
                sample_rate,
            )
            hiss *= swell(hiss.size, 0.4, 0.4) * rng.uniform(0.05, 0.5) / np.max(np.abs(hiss))
            parts.append(hiss)
        elif start < 0.7:
            count = round(rng.uniform(0.03, 0.09) * sample_rate)
            pause = np.zeros(count)
            tail = round(rng.uniform(0.004, 0.02) * sample_rate)
            fade = np.exp(-np.arange(tail) / (0.3 * tail))
            pause[-tail:] = (
                rng.uniform(0.1, 0.6)
                * fade
                * _formants(rng, rng.standard_normal(tail), sample_rate)
            )
            parts.append(pause)
        count = round(rng.uniform(0.07, 0.3) * sample_rate)
        vowel = _gliding(rng, _voiced(rng, count, pitch, sample_rate), sample_rate)
        vowel *= swell(count, rng.uniform(0.05, 0.3), rng.uniform(0.2, 0.6))
        parts.append(vowel * rng.uniform(0.4, 1.0) / np.max(np.abs(vowel)))
        if rng.random() < 0.2:
            parts.append(np.zeros(round(rng.uniform(0.05, 0.25) * sample_rate)))
    return finished(np.concatenate(parts), sample_rate, "other", "speech")


def hum(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Hum or groan: one long voiced sound."""
    count = round(log_uniform(rng, 0.2, 2.0) * sample_rate)
    pitch = _pitch(rng)
    tone = _formants(rng, _voiced(rng, count, pitch, sample_rate), sample_rate)
    tone = band_passed(tone, None, log_uniform(rng, 500, 4000), sample_rate)
    return finished(
        tone * swell(count, rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.5)),
        sample_rate,
        "other",
        "hum",
    )


def cough(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Cough one to three times: a burst, a long noisy phase, sometimes a voiced end."""
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 4))):
        count = round(rng.uniform(0.15, 0.45) * sample_rate)
        time = np.arange(count) / sample_rate
        rise = 1 - np.exp(-time / rng.uniform(5e-4, 6e-3))
        blast = np.exp(-time / rng.uniform(0.02, 0.06)) + rng.uniform(0.1, 0.5) * np.exp(
            -time / rng.uniform(0.08, 0.2)
        )
        air = _formants(rng, rng.standard_normal(count), sample_rate)
        air += rng.uniform(0.05, 0.8) * coloured_noise(rng, count, sample_rate, rng.uniform(0, 9))
        one = air * rise * blast
        if rng.random() < 0.6:
            voice = _formants(
                rng, _voiced(rng, count, log_uniform(rng, 110, 420), sample_rate), sample_rate
            )
            one = one + rng.uniform(0.1, 0.8) * voice * swell(count, 0.5, 0.3)
        parts += [
            one / np.max(np.abs(one)) * rng.uniform(0.5, 1),
            np.zeros(round(rng.uniform(0.05, 0.35) * sample_rate)),
        ]
    return finished(np.concatenate(parts[:-1]), sample_rate, "other", "cough")


def breath(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Breathe in or out, through nose or mouth."""
    count = round(log_uniform(rng, 0.25, 1.8) * sample_rate)
    centres = np.exp(rng.uniform(np.log(300), np.log(6000), 3))
    air = shaped_noise(
        rng,
        count,
        sample_rate,
        centres,
        rng.uniform(0.3, 1.2, 3),
        rng.uniform(0.2, 1.0, 3),
        floor=0.05,
    )
    air *= swell(count, rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.7))
    return finished(
        air * slow_curve(rng, count, sample_rate, 12.0, 0.15), sample_rate, "other", "breath"
    )


def mouth(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Smack lips or click the tongue: soft, wet, short, often in twos and threes."""
    times = np.cumsum(rng.exponential(0.07, int(rng.integers(1, 5))))
    times -= times[0]
    count = int(rng.integers(2, 5))
    frequencies = np.exp(rng.uniform(np.log(700), np.log(6000), count))
    sound = struck(
        rng,
        times,
        rng.uniform(0.2, 1.0, times.size),
        frequencies,
        np.full(count, log_uniform(rng, 1.5e-3, 9e-3)),
        np.full(count, 1.0 / count),
        log_uniform(rng, 3e-4, 2e-3),
        rng.uniform(0.1, 0.6),
        sample_rate,
    )
    return finished(sound, sample_rate, "other", "mouth", times)


def stomach(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Rumble: bowel bursts of 10-40 ms at 60 Hz-2 kHz, several a second (bowel-sound studies)."""
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 9))):
        count = round(rng.uniform(0.010, 0.045) * sample_rate)
        pitch = log_uniform(rng, 80, 1200) * np.exp(
            rng.uniform(-0.4, 0.4) * np.linspace(0, 1, count)
        )
        gurgle = np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate)
        gurgle += 0.4 * coloured_noise(rng, count, sample_rate, 6.0)
        parts += [
            gurgle * swell(count, 0.2, 0.6) * rng.uniform(0.2, 1.0),
            np.zeros(round(rng.exponential(0.12) * sample_rate) + 1),
        ]
    return finished(np.concatenate(parts[:-1]), sample_rate, "other", "stomach")
