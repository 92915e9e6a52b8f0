"""What joints do: patterns of impacts, and two families of sounds made by them.

**When impacts happen**: cascades, renewal trains, stick-slip of a spring-block chain.

Times are float64 (n,) seconds from 0, ascending; levels float64 (n,), linear, largest 1.

Family A: damped modes, struck by renewal processes.

A joint is a bank of damped sinusoids; a pop strikes it once or in a short cascade with gamma
gaps, grating strikes it again and again with gamma or log-normal gaps (a Cox process).

Family B: pressure pulses with a noise body, released by stick and slip.

A pop is a pressure jump (a Friedlander pulse, mostly rarefaction first) followed by a burst of
coloured noise; grating is the slipping of a driven spring-block chain, each slip such a burst.
Nothing here is a sinusoid: what is learnt on family A has to carry over to sounds made otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import oaconvolve

from audio_pipeline.datasets.synthesis.resonance import (
    HIGHEST,
    Body,
    BodySettings,
    Draws,
    Samples,
    Sound,
    draw_body,
    finished,
    impulses,
    shaped_noise,
    slow_curve,
    struck,
    varied,
)

Pattern = tuple[Samples, Samples]


@dataclass(frozen=True)
class PatternSettings:
    """Ranges of the patterns."""

    #: Impacts of a cascade: 3-12. L5-S1 thrusts gave 5.3 (2-9; Mourad 2019), C1-2 3.6 (Dunning
    #: 2013), real clips of cracks 3-20
    cascade_impacts: tuple[int, int] = (3, 12)
    #: Seconds between neighbours: 10-45 ms (means of 33 and 38 ms in those two studies; 45 ms is
    #: where the written definition starts a new pop)
    cascade_gap: tuple[float, float] = (0.010, 0.045)
    cascade_span: float = 0.5  #: Seconds, the longest cascade of the definition
    #: Spread of impact levels, natural logarithm: 0.3-0.8 in the exploratory study
    level_sigma: tuple[float, float] = (0.3, 0.8)
    #: Hz and coefficient of variation of a regular train. Jaw creaks repeat at 16 Hz, sd 9 (Prinz
    #: 1998); the lower end keeps four impacts in half a second
    creak_rate: tuple[float, float] = (8.0, 60.0)
    creak_variation: tuple[float, float] = (0.02, 0.30)
    #: Impacts a second of resolvable grating: at least 20 in 0.5 s by definition; the upper end is
    #: where 4-8 ms resolution ends
    rough_rate: tuple[float, float] = (42.0, 160.0)
    #: Impacts a second of dense passages (60-600 in the recipe, higher for smooth scrapes)
    dense_rate: tuple[float, float] = (150.0, 2500.0)
    #: Seconds of a grating passage (0.2-1.5 s of each half-cycle of a movement; judgement)
    duration: tuple[float, float] = (0.5, 2.0)
    #: Exponent of the number of impacts above a level: knee emissions 1.33-1.92 (Jeong 2018,
    #: Whittingslow 2020), crumpled paper 0.6-1.2 (Houle and Sethna 1996)
    b_value: tuple[float, float] = (0.8, 2.0)


def normal_levels(rng: Draws, count: int, settings: PatternSettings) -> Samples:
    """Log-normal levels, largest 1."""
    levels = np.exp(rng.uniform(*settings.level_sigma) * rng.standard_normal(count))
    return np.asarray(levels / levels.max())


def power_levels(rng: Draws, count: int, settings: PatternSettings) -> Samples:
    """Power-law levels over at most 30 dB (crumpling, knee emissions), largest 1."""
    exponent = rng.uniform(*settings.b_value)
    levels = np.minimum(rng.random(count) ** (-1.0 / exponent), 10**1.5)
    return np.asarray(levels / levels.max())


def cascade(rng: Draws, settings: PatternSettings, shape: str) -> Pattern:
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


def creak(rng: Draws, settings: PatternSettings) -> Pattern:
    """Draw a regular train of at least six impacts whose rate drifts with the movement."""
    rate = float(np.clip(rng.normal(18.0, 11.0), *settings.creak_rate))
    if rng.random() < 0.3:
        rate = rng.log_uniform(*settings.creak_rate)
    count = max(6, round(rate * rng.uniform(0.35, 1.5)))
    drift = np.exp(rng.uniform(-0.5, 0.5) * np.linspace(-0.5, 0.5, count - 1))
    jitter = 1.0 + rng.uniform(*settings.creak_variation) * rng.standard_normal(count - 1)
    gaps = drift * np.clip(jitter, 0.4, 1.8) / rate
    levels = normal_levels(rng, count, settings) ** 0.5 * movement(rng, count)
    return np.concatenate([[0.0], np.cumsum(gaps)]), np.asarray(levels / levels.max())


def movement(rng: Draws, count: int) -> Samples:
    """Speed of a movement over a passage: one to six skewed humps on a floor, float64 (count,).

    Real gratings swell and fade several times a second (modulation at 2-10 Hz).
    """
    strokes = float(rng.choice([1.0, 1.0, 1.0, 2.0, 3.0, 4.0, 6.0]))
    place = np.linspace(0.0, strokes, count) % 1.0
    skew = np.exp(rng.uniform(-0.7, 0.7))
    hump = np.abs(np.sin(np.pi * place**skew)) ** rng.uniform(0.2, 1.5)
    return np.asarray(rng.uniform(0.08, 0.7) + hump)


def renewal(rng: Draws, rate: float, duration: float, settings: PatternSettings) -> Pattern:
    """Draw a gamma or log-normal renewal train whose rate is modulated at random (clusters)."""
    count = max(20, round(rate * duration))
    if rng.random() < 0.5:
        shape = rng.uniform(0.6, 3.0)
        gaps = rng.gamma(shape, 1.0 / shape, count)
    else:
        sigma = rng.uniform(0.4, 1.1)
        gaps = np.exp(sigma * rng.standard_normal(count) - sigma**2 / 2)
    correlation = float(np.clip(rate * rng.log_uniform(0.02, 0.2), 1.0, count / 8))
    clusters = gaussian_filter1d(rng.standard_normal(count), correlation, mode="wrap")
    clusters = (clusters - clusters.mean()) * rng.uniform(0.0, 1.2) / clusters.std()
    gaps = gaps * np.exp(clusters) / movement(rng, count)
    times = np.concatenate([[0.0], np.cumsum(gaps)[:-1]])
    times *= duration / times[-1]
    draw = power_levels if rng.random() < 0.5 else normal_levels
    levels = draw(rng, count, settings) * movement(rng, count)
    return times, np.asarray(levels / levels.max())


def stick_slip(rng: Draws, rate: float, duration: float, settings: PatternSettings) -> Pattern:
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


SPOT_SPREAD = (0.03, 0.6)
"""How far the modes of the spots of one passage lie apart (natural logarithm of frequency): from
one ringing body to a crunch in which no two impacts sound alike; judgement, kept wide because a
constant ring would tell grating from cloth in made sounds and in no real ones."""


@dataclass(frozen=True)
class JointSettings:
    """Shares and ranges of the joint sounds; both families use the same."""

    #: Ranges of the body and of the pattern of impacts
    body: BodySettings = field(default_factory=BodySettings)
    pattern: PatternSettings = field(default_factory=PatternSettings)
    #: Shares of pops with one and with two impacts; the rest are cascades. Only 18 % of neck cracks
    #: are single (Reggars 1996), self-twists give fewer impacts than thrusts, and a third or more
    #: of the pops must be cascades (exploratory study)
    single: float = 0.45
    double: float = 0.10
    #: Shares of regular trains, of dense short passages and of dense long ones without resolvable
    #: impacts; the rest is resolvable grating. Jaw sounds: creak and continuous crepitus both occur
    #: (Prinz 1998); shares are judgement
    creak: float = 0.20
    crunch: float = 0.20
    scrape: float = 0.18
    #: Seconds; 0.15 s is the shortest dense passage of the definition, bursts of 20-300 ms are
    #: published (Widmalm 1996), real scrapes last 0.2-1.5 s
    crunch_duration: tuple[float, float] = (0.16, 0.6)
    scrape_duration: tuple[float, float] = (0.2, 1.6)
    #: Chance that the next impact of a cascade comes from another joint (judgement)
    fresh_body: float = 0.3
    #: Chance that resolvable grating has a finer, softer passage under it, 10-36 dB down (real
    #: gratings mix crunches with hiss; judgement)
    layered: float = 0.4
    #: Chance and level (dB) of a soft friction sound under a pop: the movement itself
    friction: float = 0.15
    friction_level: tuple[float, float] = (-45.0, -24.0)


def pop_pattern(rng: Draws, settings: JointSettings, shape: str) -> tuple[str, Samples, Samples]:
    """Draw kind, times and levels of a pop."""
    which = rng.random()
    if which < settings.single:
        return "single", np.zeros(1), np.ones(1)
    if which < settings.single + settings.double:
        gap = rng.log_uniform(0.006, 0.044)
        return "double", np.array([0.0, gap]), normal_levels(rng, 2, settings.pattern)
    times, levels = cascade(rng, settings.pattern, shape)
    return "cascade", times, levels


def pop_a(rng: Draws, body: Body, settings: JointSettings) -> Sound:
    """Synthesise one pop of family A."""
    kind, times, levels = pop_pattern(rng, settings, "gamma")
    tail = 8.0 * float(body.decays.max()) + 0.01
    sound = np.zeros(round((times[-1] + tail) * rng.rate) + 16)
    for time, level in zip(times, levels, strict=True):
        place = draw_body(rng, settings.body) if rng.random() < settings.fresh_body else body
        place = varied(rng, place)
        ring = struck(rng, np.zeros(1), np.array([1.0]), place.modes, place.contact, place.tick)
        add_sound(sound, ring, level / max(float(np.max(np.abs(ring))), 1e-12), time, rng.rate)
    sound = _with_friction(rng, sound, body, settings)
    return finished(sound, rng.rate, "pop", kind, times)


def passage(
    rng: Draws, settings: JointSettings, train: Callable[..., Pattern], fastest: float
) -> tuple[str, Samples, Samples, bool]:
    """Draw a grating: its kind, times (none for a scrape), levels, whether impacts can be resolved.

    ``fastest`` is the highest rate of a crunch, in impacts a second.
    """
    which, pattern = rng.random(), settings.pattern
    if which < settings.creak:
        return "creak", *creak(rng, pattern), True
    if which < settings.creak + settings.crunch:
        duration = rng.log_uniform(*settings.crunch_duration)
        rate = rng.log_uniform(max(pattern.dense_rate[0], 22 / duration), fastest)
        return "crunch", *train(rng, rate, duration, pattern), rate < 250.0
    if which < settings.creak + settings.crunch + settings.scrape:
        return "scrape", np.empty(0), np.empty(0), False
    rate = rng.log_uniform(*pattern.rough_rate)
    return "crepitus", *train(rng, rate, rng.log_uniform(*pattern.duration), pattern), True


def grating_a(rng: Draws, body: Body, settings: JointSettings) -> Sound:
    """Synthesise one grating passage of family A."""
    pattern = settings.pattern
    fastest = pattern.dense_rate[1]
    kind, times, levels, resolvable = passage(rng, settings, renewal, fastest)
    if kind == "scrape":
        rate = rng.log_uniform(300.0, fastest)
        times, levels = renewal(rng, rate, rng.log_uniform(*settings.scrape_duration), pattern)
    sound = rubbed(rng, body, times, levels)
    if resolvable and rng.random() < settings.layered:
        fine = renewal(rng, rng.log_uniform(400.0, 4000.0), max(float(times[-1]), 0.1), pattern)
        soft = rubbed(rng, draw_body(rng, settings.body), *fine)
        sound = under(sound, soft, rng.uniform(-36.0, -10.0))
    return finished(sound, rng.rate, "grating", kind, times if resolvable else ())


def rubbed(rng: Draws, body: Body, times: Samples, levels: Samples, places: int = 6) -> Samples:
    """Strike a handful of places of one body in turn, with random polarity; float64 (n,)."""
    tail = 8.0 * float(body.decays.max()) + 0.01
    total = np.zeros(round((times[-1] + tail) * rng.rate) + 16)
    turn = rng.integers(0, places, times.size)
    spread = rng.log_uniform(*SPOT_SPREAD)
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
            spot.modes,
            spot.contact,
            spot.tick,
            tail=times[-1] - times[mine][-1] + tail,
        )
        total[: ring.size] += ring[: total.size]
    return total


def add_sound(target: Samples, sound: Samples, gain: float, time: float, sample_rate: int) -> None:
    """Add a sound to another one at a time in seconds; what would stand out of its end is cut."""
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


def _with_friction(rng: Draws, sound: Samples, body: Body, settings: JointSettings) -> Samples:
    if rng.random() >= settings.friction:
        return sound
    length = sound.size / rng.rate + rng.uniform(0.0, 0.2)
    times, levels = renewal(rng, rng.log_uniform(800.0, 4000.0), length, settings.pattern)
    soft = rubbed(rng, body, times, levels)
    return under(sound, soft, rng.uniform(*settings.friction_level))


RAREFACTION_FIRST = 0.7
"""Share of pops whose leading deflection is a rarefaction (one web measurement; judgement)."""


def burst(rng: Draws, body: Body) -> Samples:
    """Make one release: pressure pulse plus noise body; float64 (n,), largest magnitude 1."""
    count = round((8.0 * float(body.decays.max()) + 0.004) * rng.rate)
    time = np.arange(count) / rng.rate
    wide = rng.uniform(0.1, 0.5)
    noise = np.zeros(count)
    for frequency, decay, gain in zip(*body.modes, strict=True):
        if frequency > HIGHEST * rng.rate:
            continue
        # A smeared start and a stretched decay, unlike the pure exponential of family A.
        rise = 1.0 - np.exp(-time / max(body.contact, 1e-5))
        fall = np.exp(-((time / decay) ** rng.uniform(0.75, 1.3)))
        hump = shaped_noise(
            rng, count, np.array([frequency]), np.array([wide]), np.ones(1), floor=body.tick * 0.05
        )
        noise += gain * rise * fall * hump
    loudest = float(np.max(np.abs(noise)))
    noise /= max(loudest, 1e-12)
    width = max(body.contact * rng.uniform(0.7, 2.0), 2.0 / rng.rate)
    pulse = (1.0 - time / width) * np.exp(-time / width)
    pulse = gaussian_filter1d(pulse, max(0.3, 0.25 * width * rng.rate), mode="constant")
    sign = -1.0 if rng.random() < RAREFACTION_FIRST else 1.0
    share = rng.uniform(0.0, 1.0) if loudest > 0 else 1.0
    whole = noise + sign * share * pulse / max(float(np.max(np.abs(pulse))), 1e-12)
    return np.asarray(whole / np.max(np.abs(whole)))


def pop_b(rng: Draws, body: Body, settings: JointSettings) -> Sound:
    """Synthesise one pop of family B."""
    kind, times, levels = pop_pattern(rng, settings, "branching")
    bursts = []
    for _ in times:
        place = draw_body(rng, settings.body) if rng.random() < settings.fresh_body else body
        bursts.append(burst(rng, varied(rng, place)))
    at = np.round(times * rng.rate).astype(int)
    sound = np.zeros(max(int(a) + b.size for a, b in zip(at, bursts, strict=True)))
    for place_at, level, shot in zip(at, levels, bursts, strict=True):
        sound[place_at : place_at + shot.size] += level * shot
    if rng.random() < settings.friction:
        length = sound.size + round(rng.uniform(0.0, 0.2) * rng.rate)
        soft = friction(rng, body, length)
        sound = under(sound, soft, rng.uniform(*settings.friction_level))
    return finished(sound, rng.rate, "pop", kind, times)


def friction(rng: Draws, body: Body, count: int) -> Samples:
    """Continuous rubbing: noise of the body's colour, roughened at 20-200 Hz; float64 (count,)."""
    keep = body.frequencies < HIGHEST * rng.rate
    centres = body.frequencies[keep] if keep.any() else np.array([0.2 * rng.rate])
    gains = body.gains[keep] if keep.any() else np.ones(1)
    widths = np.full(centres.size, rng.uniform(0.2, 0.8))
    noise = shaped_noise(rng, count, centres, widths, gains, floor=0.02)
    coarse = gaussian_filter1d(rng.standard_normal(count), rng.rate / rng.log_uniform(80, 1200))
    rough = np.exp(rng.uniform(0.35, 1.2) * coarse / max(float(coarse.std()), 1e-12))
    hump = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, 64), movement(rng, 64))
    slow = slow_curve(rng, count, rng.log_uniform(4.0, 20.0), rng.uniform(0.0, 0.8))
    return np.asarray(noise * rough * hump * slow)


def grating_b(rng: Draws, body: Body, settings: JointSettings) -> Sound:
    """Synthesise one grating passage of family B."""
    kind, times, levels, resolvable = passage(rng, settings, stick_slip, 900.0)
    if kind == "scrape":
        count = round(rng.log_uniform(*settings.scrape_duration) * rng.rate)
        return finished(friction(rng, body, count), rng.rate, "grating", "scrape")
    sound = _slips(rng, body, times, levels)
    if resolvable and rng.random() < settings.layered:
        soft = friction(rng, draw_body(rng, settings.body), sound.size)
        sound = under(sound, soft, rng.uniform(-36.0, -10.0))
    return finished(sound, rng.rate, "grating", kind, times if resolvable else ())


def _slips(rng: Draws, body: Body, times: Samples, levels: Samples, variants: int = 6) -> Samples:
    spread = rng.log_uniform(*SPOT_SPREAD)
    shots = [burst(rng, varied(rng, body, spread)) for _ in range(variants)]
    longest = max(shot.size for shot in shots)
    count = round(times[-1] * rng.rate) + 2
    total = np.zeros(count + longest - 1)
    turn = rng.integers(0, variants, times.size)
    for variant, shot in enumerate(shots):
        mine = turn == variant
        if mine.any():
            train = impulses(times[mine], levels[mine], count, rng.rate)
            slid = oaconvolve(train, shot)
            total[: slid.size] += slid
    return total
