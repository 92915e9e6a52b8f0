"""Family A: damped modes, struck by renewal processes.

A joint is a bank of damped sinusoids; a pop strikes it once or in a short cascade with gamma
gaps, grating strikes it again and again with gamma or log-normal gaps (a Cox process).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from audio_pipeline.datasets.synthesis.bodies import Body, BodySettings, draw_body, varied
from audio_pipeline.datasets.synthesis.patterns import (
    PatternSettings,
    cascade,
    creak,
    normal_levels,
    renewal,
)
from audio_pipeline.datasets.synthesis.ringing import struck
from audio_pipeline.datasets.synthesis.sounds import Samples, Sound, finished, log_uniform

SPOT_SPREAD = (0.03, 0.6)
"""How far the modes of the spots of one passage lie apart (natural logarithm of frequency): from
one ringing body to a crunch in which no two impacts sound alike; judgement, kept wide because a
constant ring would tell grating from cloth in made sounds and in no real ones."""


@dataclass(frozen=True)
class JointSettings:
    """Shares and ranges of the joint sounds; both families use the same.

    Attributes
    ----------
    body, pattern
        Ranges of the body and of the pattern of impacts.
    single, double : float
        Shares of pops with one and with two impacts; the rest are cascades. Only 18 % of neck
        cracks are single (Reggars 1996), self-twists give fewer impacts than thrusts, and a
        third or more of the pops must be cascades (exploratory study).
    creak, crunch, scrape : float
        Shares of regular trains, of dense short passages and of dense long ones without
        resolvable impacts; the rest is resolvable grating. Jaw sounds: creak and continuous
        crepitus both occur (Prinz 1998); shares are judgement.
    crunch_duration, scrape_duration : (float, float)
        Seconds; 0.15 s is the shortest dense passage of the definition, bursts of 20-300 ms are
        published (Widmalm 1996), real scrapes last 0.2-1.5 s.
    fresh_body : float
        Chance that the next impact of a cascade comes from another joint (judgement).
    layered : float
        Chance that resolvable grating has a finer, softer passage under it, 10-36 dB down
        (real gratings mix crunches with hiss; judgement).
    friction, friction_level : float, (float, float)
        Chance and level (dB) of a soft friction sound under a pop: the movement itself.
    """

    body: BodySettings = field(default_factory=BodySettings)
    pattern: PatternSettings = field(default_factory=PatternSettings)
    single: float = 0.45
    double: float = 0.10
    creak: float = 0.20
    crunch: float = 0.20
    scrape: float = 0.18
    crunch_duration: tuple[float, float] = (0.16, 0.6)
    scrape_duration: tuple[float, float] = (0.2, 1.6)
    fresh_body: float = 0.3
    layered: float = 0.4
    friction: float = 0.15
    friction_level: tuple[float, float] = (-45.0, -24.0)


def pop_pattern(
    rng: np.random.Generator, settings: JointSettings, shape: str
) -> tuple[str, Samples, Samples]:
    """Draw kind, times and levels of a pop."""
    which = rng.random()
    if which < settings.single:
        return "single", np.zeros(1), np.ones(1)
    if which < settings.single + settings.double:
        gap = log_uniform(rng, 0.006, 0.044)
        return "double", np.array([0.0, gap]), normal_levels(rng, 2, settings.pattern)
    times, levels = cascade(rng, settings.pattern, shape)
    return "cascade", times, levels


def pop(rng: np.random.Generator, body: Body, sample_rate: int, settings: JointSettings) -> Sound:
    """Synthesise one pop of family A."""
    kind, times, levels = pop_pattern(rng, settings, "gamma")
    tail = 8.0 * float(body.decays.max()) + 0.01
    sound = np.zeros(round((times[-1] + tail) * sample_rate) + 16)
    for time, level in zip(times, levels, strict=True):
        place = draw_body(rng, settings.body) if rng.random() < settings.fresh_body else body
        place = varied(rng, place)
        ring = struck(
            rng,
            np.zeros(1),
            np.array([1.0]),
            place.frequencies,
            place.decays,
            place.gains,
            place.contact,
            place.tick,
            sample_rate,
        )
        _add(sound, ring, level / max(float(np.max(np.abs(ring))), 1e-12), time, sample_rate)
    sound = _with_friction(rng, sound, body, sample_rate, settings)
    return finished(sound, sample_rate, "pop", kind, times)


def grating(
    rng: np.random.Generator, body: Body, sample_rate: int, settings: JointSettings
) -> Sound:
    """Synthesise one grating passage of family A."""
    which = rng.random()
    pattern = settings.pattern
    resolvable = True
    if which < settings.creak:
        kind = "creak"
        times, levels = creak(rng, pattern)
    elif which < settings.creak + settings.crunch:
        kind = "crunch"
        duration = log_uniform(rng, *settings.crunch_duration)
        rate = log_uniform(rng, max(pattern.dense_rate[0], 22 / duration), pattern.dense_rate[1])
        times, levels = renewal(rng, rate, duration, pattern)
        resolvable = rate < 250.0
    elif which < settings.creak + settings.crunch + settings.scrape:
        kind = "scrape"
        rate = log_uniform(rng, 300.0, pattern.dense_rate[1])
        times, levels = renewal(rng, rate, log_uniform(rng, *settings.scrape_duration), pattern)
        resolvable = False
    else:
        kind = "crepitus"
        rate = log_uniform(rng, *pattern.rough_rate)
        times, levels = renewal(rng, rate, log_uniform(rng, *pattern.duration), pattern)
    sound = rubbed(rng, body, times, levels, sample_rate)
    if resolvable and rng.random() < settings.layered:
        fine = renewal(rng, log_uniform(rng, 400.0, 4000.0), max(float(times[-1]), 0.1), pattern)
        soft = rubbed(rng, draw_body(rng, settings.body), *fine, sample_rate)
        sound = under(sound, soft, rng.uniform(-36.0, -10.0))
    return finished(sound, sample_rate, "grating", kind, times if resolvable else ())


def rubbed(
    rng: np.random.Generator,
    body: Body,
    times: Samples,
    levels: Samples,
    sample_rate: int,
    places: int = 6,
) -> Samples:
    """Strike a handful of places of one body in turn, with random polarity; float64 (n,)."""
    tail = 8.0 * float(body.decays.max()) + 0.01
    total = np.zeros(round((times[-1] + tail) * sample_rate) + 16)
    turn = rng.integers(0, places, times.size)
    spread = log_uniform(rng, *SPOT_SPREAD)
    signed = levels * np.where(rng.random(times.size) < 0.7, 1.0, -1.0)
    for place in range(places):
        mine = turn == place
        if not mine.any():
            continue
        spot = varied(rng, body, spread)
        ring = struck(
            rng,
            times[mine],
            signed[mine],
            spot.frequencies,
            spot.decays,
            spot.gains,
            spot.contact,
            spot.tick,
            sample_rate,
            tail=times[-1] - times[mine][-1] + tail,
        )
        total[: ring.size] += ring[: total.size]
    return total


def _add(target: Samples, sound: Samples, gain: float, time: float, sample_rate: int) -> None:
    at = round(time * sample_rate)
    part = sound[: max(target.size - at, 0)]
    target[at : at + part.size] += gain * part


def under(sound: Samples, soft: Samples, level: float) -> Samples:
    """Lay a soft sound under another, its peak ``level`` dB relative; float64 (n,)."""
    total = np.zeros(max(sound.size, soft.size))
    total[: sound.size] += sound
    share = 10 ** (level / 20) * np.max(np.abs(sound)) / max(float(np.max(np.abs(soft))), 1e-12)
    total[: soft.size] += share * soft
    return total


def _with_friction(
    rng: np.random.Generator, sound: Samples, body: Body, sample_rate: int, settings: JointSettings
) -> Samples:
    if rng.random() >= settings.friction:
        return sound
    length = sound.size / sample_rate + rng.uniform(0.0, 0.2)
    times, levels = renewal(rng, log_uniform(rng, 800.0, 4000.0), length, settings.pattern)
    soft = rubbed(rng, body, times, levels, sample_rate)
    return under(sound, soft, rng.uniform(*settings.friction_level))
