"""When impacts happen: cascades, renewal trains, stick-slip of a spring-block chain.

Times are float64 (n,) seconds from 0, ascending; levels float64 (n,), linear, largest 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from audio_pipeline.datasets.synthesis.sounds import Samples, log_uniform

Pattern = tuple[Samples, Samples]


@dataclass(frozen=True)
class PatternSettings:
    """Ranges of the patterns.

    Attributes
    ----------
    cascade_impacts : (int, int)
        Impacts of a cascade: 3-12. L5-S1 thrusts gave 5.3 (2-9; Mourad 2019), C1-2 3.6
        (Dunning 2013), real clips of cracks 3-20.
    cascade_gap : (float, float)
        Seconds between neighbours: 10-45 ms (means of 33 and 38 ms in those two studies; 45 ms
        is where the written definition starts a new pop).
    cascade_span : float
        Seconds, the longest cascade of the definition.
    level_sigma : (float, float)
        Spread of impact levels, natural logarithm: 0.3-0.8 in the exploratory study.
    creak_rate, creak_variation : (float, float)
        Hz and coefficient of variation of a regular train. Jaw creaks repeat at 16 Hz, sd 9
        (Prinz 1998); the lower end keeps four impacts in half a second.
    rough_rate : (float, float)
        Impacts a second of resolvable grating: at least 20 in 0.5 s by definition; the upper end
        is where 4-8 ms resolution ends.
    dense_rate : (float, float)
        Impacts a second of dense passages (60-600 in the recipe, higher for smooth scrapes).
    duration : (float, float)
        Seconds of a grating passage (0.2-1.5 s of each half-cycle of a movement; judgement).
    b_value : (float, float)
        Exponent of the number of impacts above a level: knee emissions 1.33-1.92
        (Jeong 2018, Whittingslow 2020), crumpled paper 0.6-1.2 (Houle and Sethna 1996).
    """

    cascade_impacts: tuple[int, int] = (3, 12)
    cascade_gap: tuple[float, float] = (0.010, 0.045)
    cascade_span: float = 0.5
    level_sigma: tuple[float, float] = (0.3, 0.8)
    creak_rate: tuple[float, float] = (8.0, 60.0)
    creak_variation: tuple[float, float] = (0.02, 0.30)
    rough_rate: tuple[float, float] = (42.0, 160.0)
    dense_rate: tuple[float, float] = (150.0, 2500.0)
    duration: tuple[float, float] = (0.5, 2.0)
    b_value: tuple[float, float] = (0.8, 2.0)


def normal_levels(rng: np.random.Generator, count: int, settings: PatternSettings) -> Samples:
    """Log-normal levels, largest 1."""
    levels = np.exp(rng.uniform(*settings.level_sigma) * rng.standard_normal(count))
    return np.asarray(levels / levels.max())


def power_levels(rng: np.random.Generator, count: int, settings: PatternSettings) -> Samples:
    """Power-law levels over at most 30 dB (crumpling, knee emissions), largest 1."""
    exponent = rng.uniform(*settings.b_value)
    levels = np.minimum(rng.random(count) ** (-1.0 / exponent), 10**1.5)
    return np.asarray(levels / levels.max())


def cascade(rng: np.random.Generator, settings: PatternSettings, shape: str) -> Pattern:
    """Draw a cascade of impacts.

    ``shape`` is ``gamma`` (independent gaps) or ``branching`` (each impact may set off the next
    after a delay that stretches as the stress is used up, and levels fall).
    """
    low, high = settings.cascade_impacts
    count = int(np.clip(low + rng.geometric(0.3) - 1, low, high))
    least, most = settings.cascade_gap
    gaps: Samples
    levels: Samples
    if shape == "gamma":
        mean = rng.uniform(1.2 * least, 0.85 * most)
        regularity = rng.uniform(1.5, 8.0)
        gaps = rng.gamma(regularity, mean / regularity, count - 1)
        levels = normal_levels(rng, count, settings)
    else:
        stretch = np.cumprod(rng.uniform(0.85, 1.35, count - 1))
        gaps = np.asarray(rng.uniform(least, 0.6 * most) * stretch)
        fading = np.geomspace(1.0, rng.uniform(0.2, 1), count)
        levels = np.asarray(normal_levels(rng, count, settings) * fading)
    gaps = np.clip(gaps, least, most * 0.98)
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    if times[-1] > settings.cascade_span:
        times *= settings.cascade_span / times[-1]
    return times, np.asarray(levels / levels.max())


def creak(rng: np.random.Generator, settings: PatternSettings) -> Pattern:
    """Draw a regular train of at least six impacts whose rate drifts with the movement."""
    rate = float(np.clip(rng.normal(18.0, 11.0), *settings.creak_rate))
    if rng.random() < 0.3:
        rate = log_uniform(rng, *settings.creak_rate)
    count = max(6, round(rate * rng.uniform(0.35, 1.5)))
    drift = np.exp(rng.uniform(-0.5, 0.5) * np.linspace(-0.5, 0.5, count - 1))
    jitter = 1.0 + rng.uniform(*settings.creak_variation) * rng.standard_normal(count - 1)
    gaps = drift * np.clip(jitter, 0.4, 1.8) / rate
    levels = normal_levels(rng, count, settings) ** 0.5 * movement(rng, count)
    return np.concatenate([[0.0], np.cumsum(gaps)]), np.asarray(levels / levels.max())


def movement(rng: np.random.Generator, count: int) -> Samples:
    """Speed of a movement over a passage: one to six skewed humps on a floor, float64 (count,).

    Real gratings swell and fade several times a second (modulation at 2-10 Hz).
    """
    strokes = float(rng.choice([1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 6.0]))
    place = np.linspace(0.0, strokes, count) % 1.0
    skew = np.exp(rng.uniform(-0.7, 0.7))
    hump = np.abs(np.sin(np.pi * place**skew)) ** rng.uniform(0.2, 1.5)
    return np.asarray(rng.uniform(0.08, 0.7) + hump)


def renewal(
    rng: np.random.Generator, rate: float, duration: float, settings: PatternSettings
) -> Pattern:
    """Draw a gamma or log-normal renewal train whose rate is modulated at random (clusters)."""
    count = max(20, round(rate * duration))
    if rng.random() < 0.5:
        shape = rng.uniform(0.6, 3.0)
        gaps = rng.gamma(shape, 1.0 / shape, count)
    else:
        sigma = rng.uniform(0.4, 1.1)
        gaps = np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)
    correlation = float(np.clip(rate * log_uniform(rng, 0.02, 0.2), 1.0, count / 8))
    clusters = gaussian_filter1d(rng.standard_normal(count), correlation, mode="wrap")
    clusters = (clusters - clusters.mean()) * rng.uniform(0.0, 1.2) / clusters.std()
    gaps = gaps * np.exp(clusters) / movement(rng, count)
    times = np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    times *= duration / times[-1]
    draw = power_levels if rng.random() < 0.5 else normal_levels
    levels = draw(rng, count, settings) * movement(rng, count)
    return times, np.asarray(levels / levels.max())


def stick_slip(
    rng: np.random.Generator, rate: float, duration: float, settings: PatternSettings
) -> Pattern:
    """Draw the slips of a driven spring-block chain (Olami, Feder and Christensen's automaton).

    A chain of blocks is loaded evenly; a block past its limit slips and hands a share of its
    load to its neighbours, which may slip too. A slip's level follows the number of blocks that
    moved. The share and the spread of the limits decide between near-regular and clustered.
    """
    count = max(20, round(rate * duration))
    blocks = int(rng.integers(3, 40))
    share = rng.uniform(0.15, 0.47)
    limits = 1.0 + rng.uniform(0.02, 0.4) * rng.random(blocks)
    load = rng.random(blocks) * limits
    times = np.empty(count)
    sizes = np.empty(count)
    clock = 0.0
    for slip in range(count):
        step = float(np.min(limits - load))
        clock += step
        load += step
        moving = load >= limits - 1e-12
        size = 0
        while moving.any() and size < 4 * blocks:
            size += int(moving.sum())
            given = np.where(moving, share * load, 0.0)
            load = np.where(moving, 0.0, load)
            load[1:] += given[:-1]
            load[:-1] += given[1:]
            moving = load >= limits
        times[slip] = clock
        sizes[slip] = size
    times -= times[0]
    progress = times / max(times[-1], 1e-9)
    # The block load is the path travelled: map it to time through the speed of the movement.
    speed = movement(rng, 200)
    path = np.concatenate([[0.0], np.cumsum(speed)])
    times = duration * np.interp(progress, path / path[-1], np.linspace(0.0, 1.0, path.size))
    spread = rng.uniform(*settings.level_sigma)
    levels = sizes ** rng.uniform(0.4, 1.0) * np.exp(spread * rng.standard_normal(count))
    return times, np.asarray(levels / levels.max())
