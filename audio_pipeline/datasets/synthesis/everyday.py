"""Everyday sounds that no joint makes, and how often each is drawn.

Of a person: speech, humming, coughs, breath, mouth clicks, heart-slow bowels.

Source and filter: a glottal pulse train or noise through a few formants. Formant and pitch
ranges are textbook values for adults and children; timings are judgement.

Without a single cause: cloth, paper, rain, fire, zips, water, fans.

Rustle reaches from crackling highs to dull lows and is not bound in time or frequency (iZotope,
Kendrick 2015); crumpling follows power laws (Kramer and Lobkovsky 1996, Houle and Sethna 1996).
By the written definition fire and paper could be grating: only their looseness tells them apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy.signal import lfilter

from audio_pipeline.datasets.synthesis.contacts import MAKERS, Parts, everyday
from audio_pipeline.datasets.synthesis.resonance import (
    Draws,
    Family,
    Samples,
    Sound,
    band_passed,
    coloured_noise,
    shaped_noise,
    slow_curve,
    struck,
    swell,
)

_PITCH = (65.0, 330.0)
_CREAKING = (32.0, 75.0)
"""Hz; low ends of phrases and groans fall to single pulses that can be counted."""


def _pitch(rng: Draws) -> float:
    """Draw the pitch of a voice in Hz; one in five creaks."""
    return rng.log_uniform(*(_CREAKING if rng.random() < 0.2 else _PITCH))


def _formants(rng: Draws, source: Samples) -> Samples:
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
        radius = np.exp(-np.pi * rng.uniform(50, 180) * (1 + place) / rng.rate)
        omega = 2 * np.pi * centre / rng.rate
        part = lfilter([1 - radius], [1.0, -2 * radius * np.cos(omega), radius**2], source)
        peak = max(float(np.max(np.abs(part))), 1e-12)
        total += part / peak * 10 ** (-fall * place / 20)
    return total


def _gliding(rng: Draws, source: Samples) -> Samples:
    """Move from one set of formants to another, as syllables do."""
    mix = np.linspace(0.0, 1.0, source.size)
    first, last = (_formants(rng, source) for _ in range(2))
    return np.asarray((1 - mix) * first + mix * last)


def _voiced(rng: Draws, count: int, pitch: float) -> Samples:
    """Pulse the glottis with a wandering pitch, sometimes creaky, and breathe through it."""
    contour = pitch * slow_curve(rng, count, 6.0, 0.12)
    if rng.random() < 0.25:
        contour = contour * slow_curve(rng, count, pitch, rng.uniform(0.03, 0.25))
    phase = np.cumsum(contour) / rng.rate
    beats = np.diff(np.floor(phase), prepend=0.0)
    beats *= 1.0 + rng.uniform(0.02, 0.3) * rng.standard_normal(count)
    dull = np.exp(-2 * np.pi * rng.log_uniform(80, 900) / rng.rate)
    glottis = lfilter([1.0 - dull], [1.0, -dull], beats) * pitch / 100.0
    air = rng.log_uniform(1e-4, 2e-2) * rng.standard_normal(count)
    return np.asarray(glottis + air)


@everyday
def speech(rng: Draws) -> Parts:
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
                rng.standard_normal(round(rng.uniform(0.04, 0.16) * rng.rate)),
                low,
                low * rng.uniform(1.5, 2.5),
                rng.rate,
            )
            hiss *= swell(hiss.size, 0.4, 0.4) * rng.uniform(0.05, 0.5) / np.max(np.abs(hiss))
            parts.append(hiss)
        elif start < 0.7:
            count = round(rng.uniform(0.03, 0.09) * rng.rate)
            pause = np.zeros(count)
            tail = round(rng.uniform(0.004, 0.02) * rng.rate)
            fade = np.exp(-np.arange(tail) / (0.3 * tail))
            pause[-tail:] = rng.uniform(0.1, 0.6) * fade * _formants(rng, rng.standard_normal(tail))
            parts.append(pause)
        count = round(rng.uniform(0.07, 0.3) * rng.rate)
        vowel = _gliding(rng, _voiced(rng, count, pitch))
        vowel *= swell(count, rng.uniform(0.05, 0.3), rng.uniform(0.2, 0.6))
        parts.append(vowel * rng.uniform(0.4, 1.0) / np.max(np.abs(vowel)))
        if rng.random() < 0.2:
            parts.append(np.zeros(round(rng.uniform(0.05, 0.25) * rng.rate)))
    return np.concatenate(parts)


@everyday
def hum(rng: Draws) -> Parts:
    """Hum or groan: one long voiced sound."""
    count = round(rng.log_uniform(0.2, 2.0) * rng.rate)
    pitch = _pitch(rng)
    tone = _formants(rng, _voiced(rng, count, pitch))
    tone = band_passed(tone, None, rng.log_uniform(500, 4000), rng.rate)
    return tone * swell(count, rng.uniform(0.05, 0.4), rng.uniform(0.1, 0.5))


@everyday
def cough(rng: Draws) -> Parts:
    """Cough one to three times: a burst, a long noisy phase, sometimes a voiced end."""
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 4))):
        count = round(rng.uniform(0.15, 0.45) * rng.rate)
        time = np.arange(count) / rng.rate
        rise = 1 - np.exp(-time / rng.uniform(5e-4, 6e-3))
        blast = np.exp(-time / rng.uniform(0.02, 0.06)) + rng.uniform(0.1, 0.5) * np.exp(
            -time / rng.uniform(0.08, 0.2)
        )
        air = _formants(rng, rng.standard_normal(count))
        air += rng.uniform(0.05, 0.8) * coloured_noise(rng, count, rng.uniform(0, 9))
        one = air * rise * blast
        if rng.random() < 0.6:
            voice = _formants(rng, _voiced(rng, count, rng.log_uniform(110, 420)))
            one = one + rng.uniform(0.1, 0.8) * voice * swell(count, 0.5, 0.3)
        parts += [
            one / np.max(np.abs(one)) * rng.uniform(0.5, 1),
            np.zeros(round(rng.uniform(0.05, 0.35) * rng.rate)),
        ]
    return np.concatenate(parts[:-1])


@everyday
def breath(rng: Draws) -> Parts:
    """Breathe in or out, through nose or mouth."""
    count = round(rng.log_uniform(0.25, 1.8) * rng.rate)
    centres = np.exp(rng.uniform(np.log(300), np.log(6000), 3))
    air = shaped_noise(
        rng, count, centres, rng.uniform(0.3, 1.2, 3), rng.uniform(0.2, 1.0, 3), floor=0.05
    )
    air *= swell(count, rng.uniform(0.2, 0.7), rng.uniform(0.2, 0.7))
    return air * slow_curve(rng, count, 12.0, 0.15)


@everyday
def mouth(rng: Draws) -> Parts:
    """Smack lips or click the tongue: soft, wet, short, often in twos and threes."""
    times = np.cumsum(rng.exponential(0.07, int(rng.integers(1, 5))))
    times -= times[0]
    count = int(rng.integers(2, 5))
    frequencies = np.exp(rng.uniform(np.log(700), np.log(6000), count))
    sound = struck(
        rng,
        times,
        rng.uniform(0.2, 1.0, times.size),
        (frequencies, np.full(count, rng.log_uniform(1.5e-3, 9e-3)), np.full(count, 1.0 / count)),
        rng.log_uniform(3e-4, 2e-3),
        rng.uniform(0.1, 0.6),
    )
    return sound, times


@everyday
def stomach(rng: Draws) -> Parts:
    """Rumble: bowel bursts of 10-40 ms at 60 Hz-2 kHz, several a second (bowel-sound studies)."""
    parts: list[Samples] = []
    for _ in range(int(rng.integers(1, 9))):
        count = round(rng.uniform(0.010, 0.045) * rng.rate)
        pitch = rng.log_uniform(80, 1200) * np.exp(
            rng.uniform(-0.4, 0.4) * np.linspace(0, 1, count)
        )
        gurgle = np.sin(2 * np.pi * np.cumsum(pitch) / rng.rate)
        gurgle += 0.4 * coloured_noise(rng, count, 6.0)
        parts += [
            gurgle * swell(count, 0.2, 0.6) * rng.uniform(0.2, 1.0),
            np.zeros(round(rng.exponential(0.12) * rng.rate) + 1),
        ]
    return np.concatenate(parts[:-1])


def _grains(
    rng: Draws,
    count: int,
    rate: float,
    low: float,
    high: float,
    decay: tuple[float, float],
    exponent: float,
) -> Samples:
    """Independent little clicks at random times with power-law levels; float64 (count,)."""
    duration = count / rng.rate
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
        decays = np.maximum(np.full(3, rng.log_uniform(*decay)), 0.6 / frequencies)
        clicks = struck(
            rng,
            times[mine],
            levels[mine] * rng.choice([-1.0, 1.0], int(mine.sum())),
            (frequencies, decays, np.full(3, 1 / 3)),
            rng.log_uniform(3e-5, 4e-4),
            rng.uniform(0.0, 0.6),
        )[:count]
        total[: clicks.size] += clicks
    return total / max(float(np.max(np.abs(total))), 1e-12)


@everyday
def rustle(rng: Draws) -> Parts:
    """Rub cloth: one to four swishes of band noise with a soft envelope and fine crackle."""
    parts: list[Samples] = []
    low, high = rng.log_uniform(100, 1500), rng.log_uniform(2000, 12_000)
    slope = rng.uniform(-2.0, 9.0)
    for _ in range(int(rng.integers(1, 5))):
        count = round(rng.log_uniform(0.08, 0.9) * rng.rate)
        cloth = band_passed(coloured_noise(rng, count, slope), low, high, rng.rate, 1)
        cloth /= np.max(np.abs(cloth))
        cloth *= slow_curve(rng, count, rng.log_uniform(8, 50), rng.uniform(0.1, 0.6))
        cloth *= slow_curve(rng, count, rng.log_uniform(60, 600), rng.uniform(0, 0.8))
        fine = _grains(rng, count, rng.log_uniform(10, 300), 1500, 11_000, (2e-4, 2e-3), 2.5)
        cloth += 10 ** (rng.uniform(-40, -6) / 20) * fine
        cloth *= swell(count, rng.uniform(0.15, 0.6), rng.uniform(0.2, 0.7))
        parts += [
            cloth * rng.uniform(0.3, 1.0),
            np.zeros(round(rng.log_uniform(0.02, 0.4) * rng.rate)),
        ]
    return np.concatenate(parts[:-1])


@everyday
def paper(rng: Draws) -> Parts:
    """Crumple paper or a bag: loose clicks of very different size in uneven bursts."""
    count = round(rng.log_uniform(0.3, 2.0) * rng.rate)
    sheet = _grains(
        rng, count, rng.log_uniform(60, 700), 800, 10_000, (3e-4, 4e-3), rng.uniform(0.8, 1.4)
    )
    sheet *= slow_curve(rng, count, rng.log_uniform(4, 20), rng.uniform(0.5, 1.3))
    return sheet


@everyday
def fire(rng: Draws) -> Parts:
    """Crackle like a fire or a record: sparse clicks of power-law size over a soft roar."""
    count = round(rng.log_uniform(0.8, 3.0) * rng.rate)
    clicks = _grains(
        rng, count, rng.log_uniform(4, 40), 500, 9000, (3e-4, 5e-3), rng.uniform(0.7, 1.4)
    )
    roar = coloured_noise(rng, count, rng.uniform(3, 9))
    return clicks + 10 ** (rng.uniform(-50, -18) / 20) * roar


@everyday
def rain(rng: Draws) -> Parts:
    """Rain or run a tap: very many drops over hiss."""
    count = round(rng.log_uniform(0.8, 3.0) * rng.rate)
    drops = _grains(rng, count, rng.log_uniform(30, 900), 700, 9000, (4e-4, 6e-3), 2.5)
    hiss = coloured_noise(rng, count, rng.uniform(-2, 5))
    mixed = drops + 10 ** (rng.uniform(-34, -8) / 20) * hiss
    return mixed * swell(count, 0.1, 0.1)


@everyday
def zipper(rng: Draws) -> Parts:
    """Pull a zip or velcro: a fast train of tiny clicks whose pace glides."""
    duration = rng.log_uniform(0.25, 1.2)
    pace = rng.log_uniform(60, 400) * np.exp(np.linspace(0, rng.uniform(-0.5, 1.2), 4000))
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
        (frequencies, np.full(4, rng.log_uniform(3e-4, 3e-3)), np.full(4, 0.25)),
        4e-5,
        0.4,
    )
    return teeth


@everyday
def water(rng: Draws) -> Parts:
    """Bubble or slosh: little rising tones."""
    count = round(rng.log_uniform(0.3, 2.0) * rng.rate)
    total = np.zeros(count)
    for _ in range(int(rng.integers(3, 30))):
        size = round(rng.log_uniform(0.008, 0.06) * rng.rate)
        at = int(rng.integers(0, max(1, count - size)))
        time = np.arange(min(size, count - at)) / rng.rate
        pitch = rng.log_uniform(300, 3500)
        tone = np.sin(2 * np.pi * (pitch * time + 0.5 * pitch * rng.uniform(0, 12) * time**2))
        total[at : at + time.size] += rng.uniform(0.1, 1) * tone * swell(time.size, 0.1, 0.9)
    return total


@everyday
def fan(rng: Draws) -> Parts:
    """Switch on a steady noise for a while: a fan, traffic, a kettle."""
    count = round(rng.log_uniform(0.6, 3.0) * rng.rate)
    centres = np.exp(rng.uniform(np.log(60), np.log(7000), 4))
    noise = shaped_noise(
        rng, count, centres, rng.uniform(0.3, 1.5, 4), rng.uniform(0.1, 1, 4), floor=0.1
    )
    return noise * swell(count, rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4))


@everyday
def squeak(rng: Draws) -> Parts:
    """Squeak: a harmonic tone of 0.4-3 kHz that wavers by 5 % (hip squeaks, shoes, doors)."""
    count = round(rng.log_uniform(0.08, 0.8) * rng.rate)
    pitch = rng.log_uniform(350, 3000) * slow_curve(rng, count, 15, 0.05)
    phase = 2 * np.pi * np.cumsum(pitch) / rng.rate
    tone = sum(rng.uniform(0.1, 1) / order * np.sin(order * phase) for order in range(1, 5))
    tone = np.asarray(tone) * slow_curve(rng, count, 25, 0.4)
    return tone * swell(count, 0.1, 0.3)


@everyday
def wind(rng: Draws) -> Parts:
    """Blow or wash: gusts, waves and leaves, noise that comes and goes slowly."""
    count = round(rng.log_uniform(0.8, 3.0) * rng.rate)
    gust = coloured_noise(rng, count, rng.uniform(1, 10))
    gust *= slow_curve(rng, count, rng.log_uniform(1.5, 12), rng.uniform(0.2, 0.9))
    gust *= slow_curve(rng, count, rng.log_uniform(40, 500), rng.uniform(0, 0.7))
    return gust * swell(count, 0.15, 0.15)


@everyday
def chirps(rng: Draws) -> Parts:
    """Chirp like a bird or a cricket: gliding tones, alone or in fast regular trills."""
    total: list[Samples] = []
    pace = rng.log_uniform(0.008, 0.12)
    pitch, glide = rng.log_uniform(1200, 7500), rng.uniform(-0.5, 0.5)
    for _ in range(int(rng.integers(2, 25))):
        size = max(16, round(pace * rng.uniform(0.3, 0.9) * rng.rate))
        path = pitch * np.exp(glide * np.linspace(0, 1, size) + 0.03 * rng.standard_normal())
        tone = np.sin(2 * np.pi * np.cumsum(path) / rng.rate) * swell(size, 0.3, 0.5)
        total += [
            tone * rng.uniform(0.5, 1),
            np.zeros(round(pace * rng.uniform(0.2, 0.8) * rng.rate)),
        ]
    return np.concatenate(total)


def _weights(text: str) -> Mapping[str, float]:
    """Read names and weights that take turns."""
    words = text.split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


@dataclass(frozen=True)
class EverydaySettings:
    """How often each everyday sound is drawn, as weights by family.

    The negatives that matter most in both exploratory studies weigh most: single clicks, speech,
    coughs, breath, cloth, steps. Families A and B share those but not the rest, so that a model
    tested on the other family also meets everyday sounds it has not seen. Nearly half of the
    third family are keys, clicks, taps, knocks and claps: they overlap with dull and single pops,
    so their share decides how a doubtful click is called. Creaking chairs, zips, rain, wind and
    the mouth weigh more than they are heard: they were taken for joints most often.
    """

    a: Mapping[str, float] = field(
        default_factory=lambda: _weights(
            "speech 4  breath 2  rustle 5  footstep 3  tap 2  click 1.5  hum 1  chair 1  rain 1.5 "
            "bounce 0.7  mouth 1  zipper 0.5  mechanism 1.5  wind 2  drop 2  clock 1 "
        )
    )
    b: Mapping[str, float] = field(
        default_factory=lambda: _weights(
            "speech 3  cough 3  rustle 5  thump 2  key 2  knock 1.5  clap 1.5  paper 1  fire 1 "
            "water 1  fan 1  squeak 1  clink 1  stomach 1  breath 2  mechanism 1  footstep 2 "
            "chirps 1.5  music 1.5  dog 1  drop 1.5 "
        )
    )
    everyday: Mapping[str, float] = field(
        default_factory=lambda: _weights(
            "key 14  click 8  tap 14  knock 10  clap 3  footstep 4  thump 2  bounce 1  clink 1 "
            "chair 5  speech 6  cough 3  breath 3  mouth 5  rustle 6  rain 3  fire 2  paper 2 "
            "water 0.7  zipper 4  hum 1  fan 1.5  squeak 0.7  stomach 0.7  mechanism 4  wind 3 "
            "chirps 1.5  drop 5  clock 1.5  music 2  dog 1 "
        )
    )

    def weights(self, family: Family) -> Mapping[str, float]:
        """Return the weights of one family."""
        return {"a": self.a, "b": self.b, "everyday": self.everyday}[family]


def draw_everyday(rng: Draws, family: Family, settings: EverydaySettings) -> Sound:
    """Draw one everyday sound by the weights of the family."""
    weights = settings.weights(family)
    names = list(weights)
    share = np.array([weights[name] for name in names], dtype=np.float64)
    name = names[int(rng.choice(len(names), p=share / share.sum()))]
    return MAKERS[name](rng)
