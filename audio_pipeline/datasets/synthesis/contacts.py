"""Everyday impacts: keys, clicks, taps, knocks, claps, footsteps, bounces, clinks, chairs.

These are the hardest negatives: one key press or tap can be as short and as lonely as a pop.
What differs is how they are made: a press is followed by a release 60-150 ms later, a table or a
housing rings longer and lower than a joint, a contact has a soft push before the click. All
numbers are from the second exploratory study's third family where it names them (press and
release 60-150 ms apart, cap and housing modes, contact pulse into table modes), from the taps of
the acoustic notes (time constants of 4-25 ms at 60-800 Hz), or judgement; all are kept wide.

Sounds of a home made of such impacts: ticking clocks, music, a dog, things that drop and scatter.

Recordings of a watch and of things set down were taken for joints: a clock repeats like a creak and
each tick is a lone click; what is dropped hits once and then scatters, five to ten impacts in half
a second, like a cascade that runs down. Music and the dog are there because homes have them. Ranges
are judgement, kept wide.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import numpy as np

from audio_pipeline.datasets.synthesis.joints import PatternSettings, creak
from audio_pipeline.datasets.synthesis.resonance import (
    Draws,
    Modes,
    Samples,
    Sound,
    band_passed,
    coloured_noise,
    finished,
    slow_curve,
    struck,
    swell,
)

_PATTERNS = PatternSettings()


def draw_modes(rng: Draws, count: int, low: float, high: float, fast: float, slow: float) -> Modes:
    """Draw ``count`` modes (Hz) with decays (s) between two bounds; frequencies, decays, gains."""
    frequencies = np.exp(rng.uniform(np.log(low), np.log(high), count))
    decay = rng.log_uniform(fast, slow)
    decays = decay * (frequencies / np.median(frequencies)) ** -rng.uniform(0.0, 0.8)
    decays = np.maximum(decays, 0.6 / frequencies)
    gains = np.exp(0.6 * rng.standard_normal(count))
    return frequencies, decays, gains / gains.sum()


def struck_once(rng: Draws, modes: Modes, contact: float, tick: float) -> Samples:
    """Strike modes once, ``contact`` seconds long; float64 (n,), largest magnitude 1."""
    ring = struck(rng, np.zeros(1), np.ones(1), modes, contact, tick)
    return np.asarray(ring / max(float(np.max(np.abs(ring))), 1e-12))


def together(parts: Hits, sample_rate: int) -> Samples:
    """Add sounds given as (time in s, level in dB, samples)."""
    ends = [round(time * sample_rate) + part.size for time, _, part in parts]
    total = np.zeros(max(ends))
    for (_, level, part), end in zip(parts, ends, strict=True):
        total[end - part.size : end] += 10 ** (level / 20) * part
    return total


# Sounds given as (time in s, level in dB, samples).
Hits = list[tuple[float, float, Samples]]

# What an everyday sound is made of: samples, hits, or samples and the times of their impacts.
Parts = Samples | Hits | tuple[Samples, Samples]

MAKERS: dict[str, Callable[[Draws], Sound]] = {}
"""Every everyday sound by its name."""


def everyday(make: Callable[[Draws], Parts]) -> Callable[[Draws], Sound]:
    """Enter what makes an everyday sound into :data:`MAKERS`, and let it return a finished one."""

    @wraps(make)
    def maker(rng: Draws) -> Sound:
        made = make(rng)
        impacts: Samples | tuple[float, ...] = ()
        if isinstance(made, list):
            made, impacts = together(made, rng.rate), tuple(time for time, _, _ in made)
        elif isinstance(made, tuple):
            made, impacts = made
        return finished(made, rng.rate, "other", make.__name__, impacts)

    MAKERS[make.__name__] = maker
    return maker


@everyday
def key(rng: Draws) -> Parts:
    """Press a key: click and bottoming out, then the release; sometimes only one of them."""
    cap = draw_modes(rng, int(rng.integers(2, 6)), 1200.0, 9000.0, 3e-4, 3e-3)
    housing = draw_modes(rng, int(rng.integers(2, 5)), 150.0, 1500.0, 2e-3, 1.4e-2)
    body = rng.uniform(-40.0, -8.0) if rng.random() < 0.5 else rng.uniform(-20.0, 3.0)

    def stroke() -> Samples:
        contact = rng.log_uniform(3e-5, 4e-4)
        high = struck_once(rng, cap, contact, rng.uniform(0.0, 0.6))
        low = struck_once(rng, housing, rng.log_uniform(3e-4, 2.5e-3), 0.0)
        return together([(0.0, 0.0, high), (0.0, body, low)], rng.rate)

    parts = [(0.0, 0.0, stroke())]
    if rng.random() < 0.4:
        parts.append((rng.log_uniform(4e-3, 2.5e-2), rng.uniform(-12.0, 4.0), stroke()))
    if rng.random() < 0.7:
        parts.append((rng.uniform(0.055, 0.17), rng.uniform(-18.0, 0.0), stroke()))
    return parts


@everyday
def click(rng: Draws) -> Parts:
    """Click a mouse or a pen: two sharp, light snaps."""
    modes = draw_modes(rng, int(rng.integers(2, 6)), 1500.0, 9500.0, 2e-4, 2.5e-3)

    def snap() -> Samples:
        return struck_once(rng, modes, rng.log_uniform(2e-5, 2e-4), rng.uniform(0.0, 0.7))

    parts = [(0.0, 0.0, snap())]
    if rng.random() < 0.75:
        parts.append((rng.log_uniform(0.04, 0.22), rng.uniform(-15.0, 3.0), snap()))
    return parts


@everyday
def tap(rng: Draws) -> Parts:
    """Tap a table or a phone with a fingertip or a nail, one to four times."""
    nail = rng.random() < 0.4
    # A phone is small and stiff and stops ringing sooner than a table.
    slow = 2.5e-2 if rng.random() < 0.5 else 5e-3
    plate = draw_modes(rng, int(rng.integers(1, 8)), 80.0, 3500.0 if nail else 1200.0, 1e-3, slow)
    times = np.cumsum(rng.uniform(0.09, 0.35, int(rng.choice([1, 1, 1, 2, 3, 4]))))
    parts = []
    for time in times - times[0]:
        contact = rng.log_uniform(8e-5, 5e-4) if nail else rng.log_uniform(8e-4, 6e-3)
        push = struck_once(rng, plate, contact, rng.uniform(0.0, 0.4) if nail else 0.0)
        parts.append((float(time), rng.uniform(-6.0, 0.0), push))
    return parts


@everyday
def knock(rng: Draws) -> Parts:
    """Knock on wood with a knuckle, one to five times."""
    panel = draw_modes(rng, int(rng.integers(4, 9)), 90.0, 1800.0, 4e-3, 3.5e-2)
    times = np.cumsum(rng.uniform(0.11, 0.35, int(rng.integers(1, 6))))
    parts = [
        (
            float(time),
            rng.uniform(-5.0, 0.0),
            struck_once(rng, panel, rng.log_uniform(3e-4, 2.5e-3), rng.uniform(0.0, 0.3)),
        )
        for time in times - times[0]
    ]
    return parts


@everyday
def clap(rng: Draws) -> Parts:
    """Clap: bursts of air with a broad cavity peak, one to five times, never twice alike."""
    centre = rng.log_uniform(500.0, 2800.0)
    decay = rng.log_uniform(2.5e-3, 1.5e-2)
    count = round(8 * decay * rng.rate)
    fade = np.exp(-np.arange(count) / (decay * rng.rate))
    times = np.cumsum(rng.uniform(0.18, 0.5, int(rng.choice([1, 1, 2, 3, 5]))))
    parts = []
    for time in times - times[0]:
        noise = rng.standard_normal(count)
        peak = band_passed(noise, 0.7 * centre, 1.5 * centre, rng.rate)
        burst = (peak / peak.std() + rng.uniform(0.1, 0.6) * noise) * fade
        parts.append((float(time), rng.uniform(-6, 0), burst / np.max(np.abs(burst))))
    return parts


@everyday
def footstep(rng: Draws) -> Parts:
    """Walk: heel, sole and toe on a floor that may be hard, soft, wet or gritty; one to four steps.

    Centroids of real steps lie at 350-1,200 Hz, with 10 dB gone in 2-4 ms and 20 dB in 5-20 ms.
    """
    floor = draw_modes(rng, int(rng.integers(4, 9)), 80.0, rng.log_uniform(600, 5000), 2e-3, 2e-2)
    slope = rng.uniform(-2.0, 6.0)
    sole_level, sole_length = rng.uniform(-24.0, 0.0), rng.log_uniform(0.02, 0.25)
    grit = rng.log_uniform(0.5, 40.0)
    parts: Hits = []
    stride = rng.uniform(0.35, 0.75)
    hardness = rng.log_uniform(2e-4, 8e-3)
    for step in range(int(rng.choice([1, 1, 2, 3, 4]))):
        time = step * stride * rng.uniform(0.93, 1.07)
        heel = struck_once(rng, floor, hardness, rng.uniform(0.0, 0.5))
        parts.append((time, rng.uniform(-6.0, 0.0), heel))
        if rng.random() < 0.7:
            toe = struck_once(rng, floor, 1.5 * hardness, 0.2)
            parts.append((time + rng.uniform(0.03, 0.2), rng.uniform(-20.0, -3.0), toe))
        count = round(sole_length * rng.uniform(0.7, 1.4) * rng.rate)
        sole = coloured_noise(rng, count, slope)
        sole *= np.exp(0.1 * grit**0.6 * slow_curve(rng, count, 300.0, 0.8))
        sole *= swell(count, rng.uniform(0.02, 0.4), rng.uniform(0.5, 0.95))
        parts.append((time, sole_level, sole / np.max(np.abs(sole))))
    return sorted(parts, key=lambda part: part[0])


@everyday
def mechanism(rng: Draws) -> Parts:
    """Work a latch, lock, zip-lock, camera, can or drawer: a few unlike hits and a short slide."""
    parts: Hits = []
    time = 0.0
    bodies = [
        draw_modes(rng, int(rng.integers(2, 7)), 120.0, 9000.0, 5e-4, 3e-2)
        for _ in range(int(rng.integers(2, 5)))
    ]
    for _ in range(int(rng.integers(2, 10))):
        place = bodies[int(rng.integers(len(bodies)))]
        hit = struck_once(rng, place, rng.log_uniform(4e-5, 2e-3), rng.uniform(0.0, 0.7))
        parts.append((time, rng.uniform(-22.0, 0.0), hit))
        time += rng.log_uniform(0.008, 0.3)
    if rng.random() < 0.6:
        count = round(rng.log_uniform(0.04, 0.5) * rng.rate)
        slide = coloured_noise(rng, count, rng.uniform(-2.0, 6.0))
        slide *= slow_curve(rng, count, rng.log_uniform(20, 200), 0.5)
        slide *= swell(count, rng.uniform(0.1, 0.8), rng.uniform(0.1, 0.8))
        level = rng.uniform(-24.0, 0.0)
        parts.append((rng.uniform(0.0, time), level, slide / np.max(np.abs(slide))))
    return sorted(parts, key=lambda part: part[0])


@everyday
def thump(rng: Draws) -> Parts:
    """Handle the phone or shut a door: a low thud with a rattle."""
    low = draw_modes(rng, int(rng.integers(2, 6)), 40.0, 320.0, 1e-2, 6e-2)
    parts = [(0.0, 0.0, struck_once(rng, low, rng.log_uniform(1e-3, 1e-2), 0.0))]
    rattle = draw_modes(rng, 4, 400.0, 5000.0, 1e-3, 1.2e-2)
    for time in np.cumsum(rng.exponential(0.03, int(rng.integers(0, 6)))):
        hit = struck_once(rng, rattle, rng.log_uniform(5e-5, 6e-4), 0.3)
        parts.append((float(time), rng.uniform(-25.0, -3.0), hit))
    return parts


@everyday
def bounce(rng: Draws) -> Parts:
    """Drop a coin or a pen: hits that come faster and softer."""
    modes = draw_modes(rng, int(rng.integers(3, 7)), 900.0, 9500.0, 4e-3, 8e-2)
    ratio, gap, time, level = rng.uniform(0.6, 0.9), rng.uniform(0.08, 0.35), 0.0, 0.0
    parts = []
    for _ in range(int(rng.integers(3, 16))):
        hit = struck_once(rng, modes, rng.log_uniform(3e-5, 3e-4), rng.uniform(0, 0.4))
        parts.append((time, level + rng.uniform(-3, 3), hit))
        time, gap, level = time + gap, gap * ratio, level + 20 * np.log10(ratio)
        if gap < 0.006:
            break
    return parts


@everyday
def clink(rng: Draws) -> Parts:
    """Touch glass or metal: one to three hits that ring on."""
    modes = draw_modes(rng, int(rng.integers(3, 8)), 600.0, 9500.0, 1.5e-2, 0.25)
    times = np.cumsum(rng.exponential(0.12, int(rng.integers(1, 4))))
    parts = [
        (
            float(time),
            rng.uniform(-12, 0),
            struck_once(rng, modes, rng.log_uniform(3e-5, 3e-4), 0.2),
        )
        for time in times - times[0]
    ]
    return parts


@everyday
def chair(rng: Draws) -> Parts:
    """Creak like a chair or a floor: slips into wood that rings far longer than a joint."""
    times, levels = creak(rng, _PATTERNS)
    wood = draw_modes(rng, int(rng.integers(3, 8)), 180.0, 3000.0, 1e-2, 6e-2)
    sound = struck(rng, times, levels, wood, rng.log_uniform(1e-4, 1e-3), 0.1)
    return sound, times


_SEMITONE = 2.0 ** (1.0 / 12.0)


@everyday
def clock(rng: Draws) -> Parts:
    """Tick like a watch, a clock or a timer: two alternating ticks in exact time."""
    pace = rng.log_uniform(0.1, 1.0)
    case = draw_modes(rng, int(rng.integers(2, 7)), 400.0, 9500.0, 3e-4, 1.2e-2)
    ticks = []
    for _ in range(2):
        tick = struck_once(rng, case, rng.log_uniform(3e-5, 6e-4), rng.uniform(0.0, 0.5))
        if rng.random() < 0.5:  # the lever falls and is caught
            caught = struck_once(rng, case, rng.log_uniform(3e-5, 6e-4), 0.2)
            tick = together(
                [(0.0, 0.0, tick), (rng.uniform(4e-3, 2.5e-2), rng.uniform(-15, 3), caught)],
                rng.rate,
            )
        ticks.append(tick / np.max(np.abs(tick)))
    count = int(np.clip(rng.uniform(0.4, 3.0) / pace, 1, 30))
    softer = rng.uniform(-8.0, 0.0)
    parts = [
        (
            number * pace * (1 + 5e-3 * rng.standard_normal()),
            softer * (number % 2) + rng.uniform(-1.0, 0.0),
            ticks[number % 2],
        )
        for number in range(count)
    ]
    return parts


@everyday
def music(rng: Draws) -> Parts:
    """Play a few beats: plucked or bowed notes, and drums on some of the beats."""
    beat = 60.0 / rng.uniform(70.0, 170.0) * float(rng.choice([0.5, 1.0]))
    root = rng.log_uniform(70.0, 500.0)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 16, 19])
    decay, rise = rng.log_uniform(0.06, 0.9), rng.log_uniform(1e-3, 0.08)
    orders = np.arange(1, int(rng.integers(3, 15)))
    fall = rng.uniform(0.6, 2.0)
    drums, notes = rng.random() * 0.9, rng.uniform(0.4, 1.0)
    parts: Hits = []
    for number in range(int(rng.integers(2, 9))):
        if rng.random() < notes:
            time = np.arange(round(min(3 * decay, 1.5) * rng.rate)) / rng.rate
            pitch = root * _SEMITONE ** int(rng.choice(scale))
            heard = orders[orders * pitch < 0.45 * rng.rate]
            phases = rng.uniform(0, 2 * np.pi, heard.size)
            swing = np.sin(2 * np.pi * pitch * time[:, None] * heard + phases)
            note = swing @ (heard**-fall * rng.uniform(0.3, 1.0, heard.size))
            note *= np.exp(-time / decay) * (1 - np.exp(-time / rise))
            parts.append((number * beat, rng.uniform(-8, 0), note / np.max(np.abs(note))))
        if rng.random() < drums:
            parts.append((number * beat, rng.uniform(-14, 0), _drum(rng)))
    if not parts:
        parts.append((0.0, 0.0, _drum(rng)))
    return together(parts, rng.rate)


def _drum(rng: Draws) -> Samples:
    """Strike a skin or a cymbal."""
    decay = rng.log_uniform(0.015, 0.3)
    time = np.arange(round(5 * decay * rng.rate)) / rng.rate
    pitch = rng.log_uniform(50, 300) * (1 + rng.uniform(0, 1.5) * np.exp(-time / 0.02))
    skin = np.sin(2 * np.pi * np.cumsum(pitch) / rng.rate) * np.exp(-time / decay)
    low = rng.log_uniform(200, 6000)
    snare = band_passed(rng.standard_normal(time.size), low, None, rng.rate)
    snare *= np.exp(-time / (decay * rng.uniform(0.2, 1.0))) / np.max(np.abs(snare))
    mix = rng.random()
    drum = mix * skin + (1 - mix) * snare
    return np.asarray(drum / np.max(np.abs(drum)))


@everyday
def dog(rng: Draws) -> Parts:
    """Bark or yelp one to four times: a rough harmonic burst whose pitch jumps and falls."""
    base = rng.log_uniform(200.0, 1400.0)
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 5))):
        count = round(rng.log_uniform(0.06, 0.3) * rng.rate)
        place = np.linspace(0.0, 1.0, count)
        bend = np.exp(rng.uniform(-0.2, 0.4) * np.sin(np.pi * place) - rng.uniform(0, 0.5) * place)
        pitch = base * bend * slow_curve(rng, count, 60.0, 0.08)
        phase = 2 * np.pi * np.cumsum(pitch) / rng.rate
        orders = np.arange(1, 9)
        orders = orders[orders * base * 1.6 < 0.45 * rng.rate]
        voice = np.sin(phase[:, None] * orders) @ (orders**-0.7 * rng.uniform(0.2, 1, orders.size))
        air = coloured_noise(rng, count, rng.uniform(0, 6))
        one = voice / np.max(np.abs(voice)) + rng.uniform(0.02, 0.4) * air
        one *= swell(count, rng.uniform(0.03, 0.2), rng.uniform(0.3, 0.7))
        parts += [
            one / np.max(np.abs(one)) * rng.uniform(0.6, 1.0),
            np.zeros(round(rng.uniform(0.08, 0.4) * rng.rate)),
        ]
    return np.concatenate(parts[:-1])


@everyday
def drop(rng: Draws) -> Parts:
    """Drop, set down or break something: one main hit, then a scatter that thins out."""
    slow = rng.log_uniform(3e-3, 6e-2)
    things = [
        draw_modes(rng, int(rng.integers(2, 8)), 100.0, 9000.0, 1e-3, slow)
        for _ in range(int(rng.integers(1, 5)))
    ]
    hardness = rng.log_uniform(5e-5, 3e-3)
    main = struck_once(rng, things[0], hardness, rng.uniform(0.0, 0.6))
    parts: Hits = [(0.0, 0.0, main)]
    time, gap = 0.0, rng.log_uniform(0.008, 0.12)
    fade = rng.uniform(10.0, 60.0)  # dB a second
    for _ in range(int(rng.integers(1, 20))):
        time += rng.exponential(gap) + 2e-3
        gap *= rng.uniform(0.95, 1.25)
        if time > 1.5:
            break
        piece = things[int(rng.integers(len(things)))]
        small = struck_once(rng, piece, hardness * rng.uniform(0.3, 2), rng.uniform(0, 0.5))
        parts.append((time, rng.uniform(-20.0, 0.0) - fade * time, small))
    return parts
