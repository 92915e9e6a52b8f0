"""Whole scenes: several sounds in one channel with exact labels, and clips cut around one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from audio_pipeline.datasets.synthesis import family_a, family_b
from audio_pipeline.datasets.synthesis.bodies import Body, draw_body
from audio_pipeline.datasets.synthesis.channel import (
    ChannelSettings,
)
from audio_pipeline.datasets.synthesis.everyday import EverydaySettings, draw_everyday
from audio_pipeline.datasets.synthesis.family_a import JointSettings
from audio_pipeline.datasets.synthesis.recorded import Placed, recorded
from audio_pipeline.datasets.synthesis.sounds import (
    Family,
    Scene,
    Sound,
    log_uniform,
)

_JOINTS = {
    "a": {"pop": family_a.pop, "grating": family_a.grating},
    "b": {"pop": family_b.pop, "grating": family_b.grating},
}


@dataclass(frozen=True)
class SceneSettings:
    """Ranges of a scene.

    Attributes
    ----------
    sample_rates : tuple of int
        Hz, drawn with equal chance: what phones and browsers record.
    duration : (float, float)
        Seconds; about 7 s holds one slow twist to each side.
    pop, grating : float
        Shares of the events in scenes of families a and b; the rest is everyday sound.
    series : float
        Chance that a pop is followed by others 60-300 ms later (separate pops: at most four in
        half a second).
    gap : (float, float)
        Seconds of background between events; above the 0.3 s within which the definition would
        join them.
    quiet_start : float
        Chance of at least half a second of background before the first event.
    level : (float, float)
        dB of an event below the loudest in the scene, the same for all labels.
    same_body : float
        Chance that an event comes from the scene's own joint rather than another.
    clip_lead : (float, float)
        Seconds before the sound in a tight clip; clips cut at the onset are as frequent as
        clips with a little air.
    clip_length : (float, float)
        Seconds of a clip, drawn alike for all labels and stretched where the sound is longer.
    """

    sample_rates: tuple[int, ...] = (44_100, 48_000)
    duration: tuple[float, float] = (5.5, 8.5)
    pop: float = 0.38
    grating: float = 0.27
    series: float = 0.25
    gap: tuple[float, float] = (0.36, 1.0)
    quiet_start: float = 0.6
    level: tuple[float, float] = (-20.0, 0.0)
    same_body: float = 0.5
    clip_lead: tuple[float, float] = (0.0, 0.35)
    clip_length: tuple[float, float] = (0.04, 2.5)
    joint: JointSettings = field(default_factory=JointSettings)
    everyday: EverydaySettings = field(default_factory=EverydaySettings)
    channel: ChannelSettings = field(default_factory=ChannelSettings)


def scene(rng: np.random.Generator, family: Family, settings: SceneSettings | None = None) -> Scene:
    """Make one scene of several events.

    Parameters
    ----------
    rng : numpy Generator
        The only source of randomness: the same state gives the same scene, bit for bit.
    family : {"a", "b", "everyday"}
        Who makes the joint sounds; ``everyday`` scenes hold none.
    settings : SceneSettings, optional
        The ranges.

    Returns
    -------
    Scene
        With at least one event.
    """
    settings = settings or SceneSettings()
    sample_rate = int(rng.choice(settings.sample_rates))
    duration = rng.uniform(*settings.duration)
    own = draw_body(rng, settings.joint.body)
    time = rng.uniform(0.5, 1.5) if rng.random() < settings.quiet_start else rng.uniform(0.0, 0.4)
    placed: list[Placed] = []
    while True:
        group = _draw_group(rng, family, own, sample_rate, settings)
        end = max(at + sound.end for sound, at in group)
        if placed and time + end > duration:
            break
        gain = 10 ** (rng.uniform(*settings.level) / 20)
        placed += [
            Placed(sound, time + at, gain * (10 ** (rng.uniform(-6, 0) / 20) if at else 1))
            for sound, at in group
        ]
        time += end + log_uniform(rng, *settings.gap)
    count = round(max(duration, time - 0.2) * sample_rate)
    return recorded(rng, placed, count, sample_rate, family, settings.channel)


def clip(rng: np.random.Generator, family: Family, settings: SceneSettings | None = None) -> Scene:
    """Make one short recording cut around one sound, near its first sample.

    Researchers cut their recordings like this: no quiet to measure, the event fills the file.
    """
    settings = settings or SceneSettings()
    sample_rate = int(rng.choice(settings.sample_rates))
    own = draw_body(rng, settings.joint.body)
    label = _draw_label(rng, family, settings)
    sound = _draw_sound(rng, label, family, own, sample_rate, settings)
    lead = rng.uniform(0.0, 0.02) if rng.random() < 0.5 else rng.uniform(*settings.clip_lead)
    tail = rng.uniform(0.005, 0.3)
    length = max(log_uniform(rng, *settings.clip_length), lead + sound.end + tail)
    placed = [Placed(sound, lead, 1.0)]
    count = round(length * sample_rate)
    return recorded(rng, placed, count, sample_rate, family, settings.channel)


def _draw_label(rng: np.random.Generator, family: Family, settings: SceneSettings) -> str:
    which = rng.random()
    if family == "everyday" or which >= settings.pop + settings.grating:
        return "other"
    return "pop" if which < settings.pop else "grating"


def _draw_sound(
    rng: np.random.Generator,
    label: str,
    family: Family,
    own: Body,
    sample_rate: int,
    settings: SceneSettings,
) -> Sound:
    if label == "other":
        return draw_everyday(rng, family, sample_rate, settings.everyday)
    body = own if rng.random() < settings.same_body else draw_body(rng, settings.joint.body)
    return _JOINTS[family][label](rng, body, sample_rate, settings.joint)


def _draw_group(
    rng: np.random.Generator, family: Family, own: Body, sample_rate: int, settings: SceneSettings
) -> list[tuple[Sound, float]]:
    """Draw one event, or a series of separate pops, with their times from the first."""
    label = _draw_label(rng, family, settings)
    first = _draw_sound(rng, label, family, own, sample_rate, settings)
    group = [(first, 0.0)]
    if label == "pop" and first.kind == "single" and rng.random() < settings.series:
        at = 0.0
        # Gaps of at least 130 ms keep it at four impacts in any half second.
        for _ in range(int(rng.integers(1, 4))):
            at += rng.uniform(0.06, 0.3) if len(group) < 3 else rng.uniform(0.17, 0.3)
            single = _single_only(settings)
            group.append((_JOINTS[family]["pop"](rng, own, sample_rate, single), at))
    return group


def _single_only(settings: SceneSettings) -> JointSettings:
    """Return the joint settings with nothing but single impacts."""
    joint = settings.joint
    return JointSettings(joint.body, joint.pattern, single=1.0, double=0.0, friction=0.0)
