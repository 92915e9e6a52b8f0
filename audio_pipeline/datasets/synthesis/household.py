"""Everyday sounds of a home: ticking clocks, music, a dog, things that drop and scatter.

Recordings of a watch and of things set down were taken for joints: a clock repeats like a creak and
each tick is a lone click; what is dropped hits once and then scatters, five to ten impacts in half
a second, like a cascade that runs down. Music and the dog are there because homes have them. Ranges
are judgement, kept wide.
"""

from __future__ import annotations

import numpy as np

from audio_pipeline.datasets.synthesis.contacts import draw_modes, sound_of, struck_once, together
from audio_pipeline.datasets.synthesis.ringing import band_passed, coloured_noise, slow_curve, swell
from audio_pipeline.datasets.synthesis.sounds import Samples, Sound, finished, log_uniform

_SEMITONE = 2.0 ** (1.0 / 12.0)


def clock(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Tick like a watch, a clock or a timer: two alternating ticks in exact time."""
    pace = log_uniform(rng, 0.1, 1.0)
    case = draw_modes(rng, int(rng.integers(2, 7)), 400.0, 9500.0, 3e-4, 1.2e-2)
    ticks = []
    for _ in range(2):
        tick = struck_once(
            rng, case, log_uniform(rng, 3e-5, 6e-4), rng.uniform(0.0, 0.5), sample_rate
        )
        if rng.random() < 0.5:  # the lever falls and is caught
            caught = struck_once(rng, case, log_uniform(rng, 3e-5, 6e-4), 0.2, sample_rate)
            tick = together(
                [(0.0, 0.0, tick), (rng.uniform(4e-3, 2.5e-2), rng.uniform(-15, 3), caught)],
                sample_rate,
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
    return sound_of(parts, sample_rate, "clock")


def music(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Play a few beats: plucked or bowed notes, and drums on some of the beats."""
    beat = 60.0 / rng.uniform(70.0, 170.0) * float(rng.choice([0.5, 1.0]))
    root = log_uniform(rng, 70.0, 500.0)
    scale = np.array([0, 2, 4, 5, 7, 9, 11, 12, 16, 19])
    decay, rise = log_uniform(rng, 0.06, 0.9), log_uniform(rng, 1e-3, 0.08)
    orders = np.arange(1, int(rng.integers(3, 15)))
    fall = rng.uniform(0.6, 2.0)
    drums, notes = rng.random() * 0.9, rng.uniform(0.4, 1.0)
    parts: list[tuple[float, float, Samples]] = []
    for number in range(int(rng.integers(2, 9))):
        if rng.random() < notes:
            time = np.arange(round(min(3 * decay, 1.5) * sample_rate)) / sample_rate
            pitch = root * _SEMITONE ** int(rng.choice(scale))
            heard = orders[orders * pitch < 0.45 * sample_rate]
            phases = rng.uniform(0, 2 * np.pi, heard.size)
            swing = np.sin(2 * np.pi * pitch * time[:, None] * heard + phases)
            note = swing @ (heard**-fall * rng.uniform(0.3, 1.0, heard.size))
            note *= np.exp(-time / decay) * (1 - np.exp(-time / rise))
            parts.append((number * beat, rng.uniform(-8, 0), note / np.max(np.abs(note))))
        if rng.random() < drums:
            parts.append((number * beat, rng.uniform(-14, 0), _drum(rng, sample_rate)))
    if not parts:
        parts.append((0.0, 0.0, _drum(rng, sample_rate)))
    return finished(together(parts, sample_rate), sample_rate, "other", "music")


def _drum(rng: np.random.Generator, sample_rate: int) -> Samples:
    """Strike a skin or a cymbal."""
    decay = log_uniform(rng, 0.015, 0.3)
    time = np.arange(round(5 * decay * sample_rate)) / sample_rate
    pitch = log_uniform(rng, 50, 300) * (1 + rng.uniform(0, 1.5) * np.exp(-time / 0.02))
    skin = np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate) * np.exp(-time / decay)
    low = log_uniform(rng, 200, 6000)
    snare = band_passed(rng.standard_normal(time.size), low, None, sample_rate)
    snare *= np.exp(-time / (decay * rng.uniform(0.2, 1.0))) / np.max(np.abs(snare))
    mix = rng.random()
    drum = mix * skin + (1 - mix) * snare
    return np.asarray(drum / np.max(np.abs(drum)))


def dog(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Bark or yelp one to four times: a rough harmonic burst whose pitch jumps and falls."""
    base = log_uniform(rng, 200.0, 1400.0)
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 5))):
        count = round(log_uniform(rng, 0.06, 0.3) * sample_rate)
        place = np.linspace(0.0, 1.0, count)
        bend = np.exp(rng.uniform(-0.2, 0.4) * np.sin(np.pi * place) - rng.uniform(0, 0.5) * place)
        pitch = base * bend * slow_curve(rng, count, sample_rate, 60.0, 0.08)
        phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
        orders = np.arange(1, 9)
        orders = orders[orders * base * 1.6 < 0.45 * sample_rate]
        voice = np.sin(phase[:, None] * orders) @ (orders**-0.7 * rng.uniform(0.2, 1, orders.size))
        air = coloured_noise(rng, count, sample_rate, rng.uniform(0, 6))
        one = voice / np.max(np.abs(voice)) + rng.uniform(0.02, 0.4) * air
        one *= swell(count, rng.uniform(0.03, 0.2), rng.uniform(0.3, 0.7))
        parts += [
            one / np.max(np.abs(one)) * rng.uniform(0.6, 1.0),
            np.zeros(round(rng.uniform(0.08, 0.4) * sample_rate)),
        ]
    return finished(np.concatenate(parts[:-1]), sample_rate, "other", "dog")


def drop(rng: np.random.Generator, sample_rate: int) -> Sound:
    """Drop, set down or break something: one main hit, then a scatter that thins out."""
    slow = log_uniform(rng, 3e-3, 6e-2)
    things = [
        draw_modes(rng, int(rng.integers(2, 8)), 100.0, 9000.0, 1e-3, slow)
        for _ in range(int(rng.integers(1, 5)))
    ]
    hardness = log_uniform(rng, 5e-5, 3e-3)
    main = struck_once(rng, things[0], hardness, rng.uniform(0.0, 0.6), sample_rate)
    parts: list[tuple[float, float, Samples]] = [(0.0, 0.0, main)]
    time, gap = 0.0, log_uniform(rng, 0.008, 0.12)
    fade = rng.uniform(10.0, 60.0)  # dB a second
    for _ in range(int(rng.integers(1, 20))):
        time += rng.exponential(gap) + 2e-3
        gap *= rng.uniform(0.95, 1.25)
        if time > 1.5:
            break
        piece = things[int(rng.integers(len(things)))]
        small = struck_once(
            rng, piece, hardness * rng.uniform(0.3, 2), rng.uniform(0, 0.5), sample_rate
        )
        parts.append((time, rng.uniform(-20.0, 0.0) - fade * time, small))
    return sound_of(parts, sample_rate, "drop")
