"""Family B: pressure pulses with a noise body, released by stick and slip.

A pop is a pressure jump (a Friedlander pulse, mostly rarefaction first) followed by a burst of
coloured noise; grating is the slipping of a driven spring-block chain, each slip such a burst.
Nothing here is a sinusoid: what is learnt on family A has to carry over to sounds made otherwise.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import oaconvolve

from audio_pipeline.datasets.synthesis.bodies import Body, draw_body, varied
from audio_pipeline.datasets.synthesis.family_a import (
    SPOT_SPREAD,
    JointSettings,
    pop_pattern,
    under,
)
from audio_pipeline.datasets.synthesis.patterns import creak, movement, stick_slip
from audio_pipeline.datasets.synthesis.ringing import HIGHEST, impulses, shaped_noise, slow_curve
from audio_pipeline.datasets.synthesis.sounds import Samples, Sound, finished, log_uniform

RAREFACTION_FIRST = 0.7
"""Share of pops whose leading deflection is a rarefaction (one web measurement; judgement)."""


def burst(rng: np.random.Generator, body: Body, sample_rate: int) -> Samples:
    """Make one release: pressure pulse plus noise body; float64 (n,), largest magnitude 1."""
    count = round((8.0 * float(body.decays.max()) + 0.004) * sample_rate)
    time = np.arange(count) / sample_rate
    wide = rng.uniform(0.1, 0.5)
    noise = np.zeros(count)
    for frequency, decay, gain in zip(body.frequencies, body.decays, body.gains, strict=True):
        if frequency > HIGHEST * sample_rate:
            continue
        # A smeared start and a stretched decay, unlike the pure exponential of family A.
        rise = 1.0 - np.exp(-time / max(body.contact, 1e-5))
        fall = np.exp(-((time / decay) ** rng.uniform(0.75, 1.3)))
        hump = shaped_noise(
            rng,
            count,
            sample_rate,
            np.array([frequency]),
            np.array([wide]),
            np.ones(1),
            floor=body.tick * 0.05,
        )
        noise += gain * rise * fall * hump
    loudest = float(np.max(np.abs(noise)))
    noise /= max(loudest, 1e-12)
    width = max(body.contact * rng.uniform(0.7, 2.0), 2.0 / sample_rate)
    pulse = (1.0 - time / width) * np.exp(-time / width)
    pulse = gaussian_filter1d(pulse, max(0.3, 0.25 * width * sample_rate), mode="constant")
    sign = -1.0 if rng.random() < RAREFACTION_FIRST else 1.0
    share = rng.uniform(0.0, 1.0) if loudest > 0 else 1.0
    whole = noise + sign * share * pulse / max(float(np.max(np.abs(pulse))), 1e-12)
    return np.asarray(whole / np.max(np.abs(whole)))


def pop(rng: np.random.Generator, body: Body, sample_rate: int, settings: JointSettings) -> Sound:
    """Synthesise one pop of family B."""
    kind, times, levels = pop_pattern(rng, settings, "branching")
    bursts = []
    for _ in times:
        place = draw_body(rng, settings.body) if rng.random() < settings.fresh_body else body
        bursts.append(burst(rng, varied(rng, place), sample_rate))
    at = np.round(times * sample_rate).astype(int)
    sound = np.zeros(max(int(a) + b.size for a, b in zip(at, bursts, strict=True)))
    for place_at, level, shot in zip(at, levels, bursts, strict=True):
        sound[place_at : place_at + shot.size] += level * shot
    if rng.random() < settings.friction:
        length = sound.size + round(rng.uniform(0.0, 0.2) * sample_rate)
        soft = friction(rng, body, length, sample_rate)
        sound = under(sound, soft, rng.uniform(*settings.friction_level))
    return finished(sound, sample_rate, "pop", kind, times)


def friction(rng: np.random.Generator, body: Body, count: int, sample_rate: int) -> Samples:
    """Continuous rubbing: noise of the body's colour, roughened at 20-200 Hz; float64 (count,)."""
    keep = body.frequencies < HIGHEST * sample_rate
    centres = body.frequencies[keep] if keep.any() else np.array([0.2 * sample_rate])
    gains = body.gains[keep] if keep.any() else np.ones(1)
    widths = np.full(centres.size, rng.uniform(0.2, 0.8))
    noise = shaped_noise(rng, count, sample_rate, centres, widths, gains, floor=0.02)
    coarse = gaussian_filter1d(rng.standard_normal(count), sample_rate / log_uniform(rng, 80, 1200))
    rough = np.exp(rng.uniform(0.35, 1.2) * coarse / max(float(coarse.std()), 1e-12))
    hump = np.interp(np.linspace(0, 1, count), np.linspace(0, 1, 64), movement(rng, 64))
    slow = slow_curve(rng, count, sample_rate, log_uniform(rng, 4.0, 20.0), rng.uniform(0.0, 0.8))
    return np.asarray(noise * rough * hump * slow)


def grating(
    rng: np.random.Generator, body: Body, sample_rate: int, settings: JointSettings
) -> Sound:
    """Synthesise one grating passage of family B."""
    which = rng.random()
    pattern = settings.pattern
    resolvable = True
    if which < settings.creak:
        kind = "creak"
        times, levels = creak(rng, pattern)
    elif which < settings.creak + settings.crunch:
        kind = "crunch"
        duration = log_uniform(rng, *settings.crunch_duration)
        rate = log_uniform(rng, max(pattern.dense_rate[0], 22 / duration), 900.0)
        times, levels = stick_slip(rng, rate, duration, pattern)
        resolvable = rate < 250.0
    elif which < settings.creak + settings.crunch + settings.scrape:
        count = round(log_uniform(rng, *settings.scrape_duration) * sample_rate)
        return finished(friction(rng, body, count, sample_rate), sample_rate, "grating", "scrape")
    else:
        kind = "crepitus"
        rate = log_uniform(rng, *pattern.rough_rate)
        times, levels = stick_slip(rng, rate, log_uniform(rng, *pattern.duration), pattern)
    sound = _slips(rng, body, times, levels, sample_rate)
    if resolvable and rng.random() < settings.layered:
        soft = friction(rng, draw_body(rng, settings.body), sound.size, sample_rate)
        sound = under(sound, soft, rng.uniform(-36.0, -10.0))
    return finished(sound, sample_rate, "grating", kind, times if resolvable else ())


def _slips(
    rng: np.random.Generator,
    body: Body,
    times: Samples,
    levels: Samples,
    sample_rate: int,
    variants: int = 6,
) -> Samples:
    spread = log_uniform(rng, *SPOT_SPREAD)
    shots = [burst(rng, varied(rng, body, spread), sample_rate) for _ in range(variants)]
    longest = max(shot.size for shot in shots)
    count = round(times[-1] * sample_rate) + 2
    total = np.zeros(count + longest - 1)
    turn = rng.integers(0, variants, times.size)
    for variant, shot in enumerate(shots):
        mine = turn == variant
        if mine.any():
            train = impulses(times[mine], levels[mine], count, sample_rate)
            slid = oaconvolve(train, shot)
            total[: slid.size] += slid
    return total
