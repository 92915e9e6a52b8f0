"""Everyday sounds without a single cause: cloth, paper, rain, fire, zips, water, fans.

Rustle reaches from crackling highs to dull lows and is not bound in time or frequency (iZotope,
Kendrick 2015); crumpling follows power laws (Kramer and Lobkovsky 1996, Houle and Sethna 1996).
By the written definition fire and paper could be grating: only their looseness tells them apart.
"""

from __future__ import annotations

import numpy as np

from audio_pipeline.datasets.synthesis.ringing import (
    band_passed,
    coloured_noise,
    shaped_noise,
    slow_curve,
    struck,
    swell,
)
from audio_pipeline.datasets.synthesis.sounds import Samples, Sound, finished, log_uniform


def _grains(
    rng: np.random.Generator,
    count: int,
    rate: float,
    low: float,
    high: float,
    decay: tuple[float, float],
    exponent: float,
    sample_rate: int,
) -> Samples:
    """Independent little clicks at random times with power-law levels; float64 (count,)."""
    duration = count / sample_rate
    number = max(1, int(rng.poisson(rate * duration)))
    times = np.sort(rng.uniform(0.0, 0.98 * duration, number))
    levels = np.minimum(rng.random(number) ** (-1.0 / exponent), 40.0)
    total = np.zeros(count)
    kind = rng.integers(0, 4, number)
    for which in range(4):
        mine = kind == which
        if not mine.any():
            continue
        frequencies = np.exp(rng.uniform(np.log(low), np.log(high), 3))
        decays = np.maximum(np.full(3, log_uniform(rng, *decay)), 0.6 / frequencies)
        clicks = struck(
            rng,
            times[mine],
            levels[mine] * rng.choice([-1.0, 1.0], int(mine.sum())),
            frequencies,
            decays,
            np.full(3, 1 / 3),
            log_uniform(rng, 3e-5, 4e-4),
            rng.uniform(0.0, 0.6),
            sample_rate,
        )[:count]
        total[: clicks.size] += clicks
    return total / max(float(np.max(np.abs(total))), 1e-12)


def rustle(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Rub cloth: one to four swishes of band noise with a soft envelope and fine crackle."""
    parts: list[Samples] = []
    low, high = log_uniform(rng, 100, 1500), log_uniform(rng, 2000, 12_000)
    slope = rng.uniform(-2.0, 9.0)
    for _ in range(int(rng.integers(1, 5))):
        count = round(log_uniform(rng, 0.08, 0.9) * sample_rate)
        cloth = band_passed(
            coloured_noise(rng, count, sample_rate, slope), low, high, sample_rate, 1
        )
        cloth /= np.max(np.abs(cloth))
        cloth *= slow_curve(rng, count, sample_rate, log_uniform(rng, 8, 50), rng.uniform(0.1, 0.6))
        cloth *= slow_curve(rng, count, sample_rate, log_uniform(rng, 60, 600), rng.uniform(0, 0.8))
        fine = _grains(
            rng, count, log_uniform(rng, 10, 300), 1500, 11_000, (2e-4, 2e-3), 2.5, sample_rate
        )
        cloth += 10 ** (rng.uniform(-40, -6) / 20) * fine
        cloth *= swell(count, rng.uniform(0.15, 0.6), rng.uniform(0.2, 0.7))
        parts += [
            cloth * rng.uniform(0.3, 1.0),
            np.zeros(round(log_uniform(rng, 0.02, 0.4) * sample_rate)),
        ]
    return finished(np.concatenate(parts[:-1]), sample_rate, "other", "rustle")


def paper(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Crumple paper or a bag: loose clicks of very different size in uneven bursts."""
    count = round(log_uniform(rng, 0.3, 2.0) * sample_rate)
    sheet = _grains(
        rng,
        count,
        log_uniform(rng, 60, 700),
        800,
        10_000,
        (3e-4, 4e-3),
        rng.uniform(0.8, 1.4),
        sample_rate,
    )
    sheet *= slow_curve(rng, count, sample_rate, log_uniform(rng, 4, 20), rng.uniform(0.5, 1.3))
    return finished(sheet, sample_rate, "other", "paper")


def fire(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Crackle like a fire or a record: sparse clicks of power-law size over a soft roar."""
    count = round(log_uniform(rng, 0.8, 3.0) * sample_rate)
    clicks = _grains(
        rng,
        count,
        log_uniform(rng, 4, 40),
        500,
        9000,
        (3e-4, 5e-3),
        rng.uniform(0.7, 1.4),
        sample_rate,
    )
    roar = coloured_noise(rng, count, sample_rate, rng.uniform(3, 9))
    return finished(
        clicks + 10 ** (rng.uniform(-50, -18) / 20) * roar, sample_rate, "other", "fire"
    )


def rain(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Rain or run a tap: very many drops over hiss."""
    count = round(log_uniform(rng, 0.8, 3.0) * sample_rate)
    drops = _grains(
        rng, count, log_uniform(rng, 30, 900), 700, 9000, (4e-4, 6e-3), 2.5, sample_rate
    )
    hiss = coloured_noise(rng, count, sample_rate, rng.uniform(-2, 5))
    mixed = drops + 10 ** (rng.uniform(-34, -8) / 20) * hiss
    return finished(mixed * swell(count, 0.1, 0.1), sample_rate, "other", "rain")


def zipper(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Pull a zip or velcro: a fast train of tiny clicks whose pace glides."""
    duration = log_uniform(rng, 0.25, 1.2)
    pace = log_uniform(rng, 60, 400) * np.exp(np.linspace(0, rng.uniform(-0.5, 1.2), 4000))
    beats = np.interp(
        np.arange(0, np.sum(pace) * duration / 4000),
        np.cumsum(pace) * duration / 4000,
        np.linspace(0, duration, 4000),
    )
    times = np.sort(
        np.clip(beats + rng.uniform(0, 2e-3) * rng.standard_normal(beats.size), 0, None)
    )
    frequencies = np.exp(rng.uniform(np.log(1500), np.log(10_000), 4))
    teeth = struck(
        rng,
        times,
        np.exp(0.3 * rng.standard_normal(times.size)),
        frequencies,
        np.full(4, log_uniform(rng, 3e-4, 3e-3)),
        np.full(4, 0.25),
        4e-5,
        0.4,
        sample_rate,
    )
    return finished(teeth, sample_rate, "other", "zipper")


def water(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Bubble or slosh: little rising tones."""
    count = round(log_uniform(rng, 0.3, 2.0) * sample_rate)
    total = np.zeros(count)
    for _ in range(int(rng.integers(3, 30))):
        size = round(log_uniform(rng, 0.008, 0.06) * sample_rate)
        at = int(rng.integers(0, max(1, count - size)))
        time = np.arange(min(size, count - at)) / sample_rate
        pitch = log_uniform(rng, 300, 3500)
        tone = np.sin(2 * np.pi * (pitch * time + 0.5 * pitch * rng.uniform(0, 12) * time**2))
        total[at : at + time.size] += rng.uniform(0.1, 1) * tone * swell(time.size, 0.1, 0.9)
    return finished(total, sample_rate, "other", "water")


def fan(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Switch on a steady noise for a while: a fan, traffic, a kettle."""
    count = round(log_uniform(rng, 0.6, 3.0) * sample_rate)
    centres = np.exp(rng.uniform(np.log(60), np.log(7000), 4))
    noise = shaped_noise(
        rng,
        count,
        sample_rate,
        centres,
        rng.uniform(0.3, 1.5, 4),
        rng.uniform(0.1, 1, 4),
        floor=0.1,
    )
    return finished(
        noise * swell(count, rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)),
        sample_rate,
        "other",
        "fan",
    )


def squeak(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Squeak: a harmonic tone of 0.4-3 kHz that wavers by 5 % (hip squeaks, shoes, doors)."""
    count = round(log_uniform(rng, 0.08, 0.8) * sample_rate)
    pitch = log_uniform(rng, 350, 3000) * slow_curve(rng, count, sample_rate, 15, 0.05)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    tone = sum(rng.uniform(0.1, 1) / order * np.sin(order * phase) for order in range(1, 5))
    tone = np.asarray(tone) * slow_curve(rng, count, sample_rate, 25, 0.4)
    return finished(tone * swell(count, 0.1, 0.3), sample_rate, "other", "squeak")


def wind(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Blow or wash: gusts, waves and leaves, noise that comes and goes slowly."""
    count = round(log_uniform(rng, 0.8, 3.0) * sample_rate)
    gust = coloured_noise(rng, count, sample_rate, rng.uniform(1, 10))
    gust *= slow_curve(rng, count, sample_rate, log_uniform(rng, 1.5, 12), rng.uniform(0.2, 0.9))
    gust *= slow_curve(rng, count, sample_rate, log_uniform(rng, 40, 500), rng.uniform(0, 0.7))
    return finished(gust * swell(count, 0.15, 0.15), sample_rate, "other", "wind")


def chirps(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Chirp like a bird or a cricket: gliding tones, alone or in fast regular trills."""
    total: list[Samples] = []
    pace = log_uniform(rng, 0.008, 0.12)
    pitch, glide = log_uniform(rng, 1200, 7500), rng.uniform(-0.5, 0.5)
    for _ in range(int(rng.integers(2, 25))):
        size = max(16, round(pace * rng.uniform(0.3, 0.9) * sample_rate))
        path = pitch * np.exp(glide * np.linspace(0, 1, size) + 0.03 * rng.standard_normal())
        tone = np.sin(2 * np.pi * np.cumsum(path) / sample_rate) * swell(size, 0.3, 0.5)
        total += [
            tone * rng.uniform(0.5, 1),
            np.zeros(round(pace * rng.uniform(0.2, 0.8) * sample_rate)),
        ]
    return finished(np.concatenate(total), sample_rate, "other", "chirps")
