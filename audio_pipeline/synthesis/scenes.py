"""Whole scenes: several sounds in one channel with exact labels, and clips cut around one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.signal import oaconvolve

from audio_pipeline.synthesis import family_a, family_b
from audio_pipeline.synthesis.bodies import Body, draw_body
from audio_pipeline.synthesis.channel import (
    ChannelSettings,
    background,
    draw_channel,
    processed,
)
from audio_pipeline.synthesis.codecs import draw_codec, round_trip
from audio_pipeline.synthesis.everyday import EverydaySettings, draw_everyday
from audio_pipeline.synthesis.family_a import JointSettings
from audio_pipeline.synthesis.sounds import (
    Family,
    LabelledEvent,
    Parameter,
    Samples,
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


@dataclass(frozen=True)
class _Placed:
    """A sound at its place in the scene, with its level."""

    sound: Sound
    time: float
    gain: float


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
    placed: list[_Placed] = []
    while True:
        group = _draw_group(rng, family, own, sample_rate, settings)
        end = max(at + sound.end for sound, at in group)
        if placed and time + end > duration:
            break
        gain = 10 ** (rng.uniform(*settings.level) / 20)
        placed += [
            _Placed(sound, time + at, gain * (10 ** (rng.uniform(-6, 0) / 20) if at else 1))
            for sound, at in group
        ]
        time += end + log_uniform(rng, *settings.gap)
    count = round(max(duration, time - 0.2) * sample_rate)
    return _recorded(rng, placed, count, sample_rate, family, settings)


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
    placed = [_Placed(sound, lead, 1.0)]
    return _recorded(rng, placed, round(length * sample_rate), sample_rate, family, settings)


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


def _recorded(
    rng: np.random.Generator,
    placed: list[_Placed],
    count: int,
    sample_rate: int,
    family: Family,
    settings: SceneSettings,
) -> Scene:
    """Mix the sounds, send them through one channel and label them."""
    dry = np.zeros(count)
    for item in placed:
        at = round(item.time * sample_rate)
        part = item.sound.samples[: max(count - at, 0)]
        dry[at : at + part.size] += item.gain * part
    channel = draw_channel(rng, sample_rate, settings.channel)
    wet = oaconvolve(dry, channel.response)[:count]
    noise, noise_drawn = background(rng, count, sample_rate, settings.channel)
    snr = rng.uniform(*settings.channel.snr)
    loudest = float(np.max(np.abs(wet), initial=0.0))
    noise_level = loudest / 3.0 / 10 ** (snr / 20)
    events = tuple(_labelled(item, wet, noise_level, sample_rate) for item in placed)
    heard, drawn = processed(
        rng, wet + noise_level * noise, sample_rate, noise_level, settings.channel
    )
    codec_name = "none"
    if rng.random() < settings.channel.codec:
        codec, bit_rate = draw_codec(rng)
        heard = np.clip(round_trip(heard, sample_rate, codec, bit_rate), -1.0, 1.0)
        codec_name = f"{codec.name}_{bit_rate}"
    parameters: dict[str, Parameter] = {"snr": round(float(snr), 1), "codec": codec_name}
    parameters |= channel.parameters | noise_drawn | drawn
    return Scene(
        heard.astype(np.float32),
        sample_rate,
        tuple(sorted(events, key=lambda e: e.start)),
        family,
        parameters,
    )


def _labelled(item: _Placed, wet: Samples, noise_level: float, sample_rate: int) -> LabelledEvent:
    start, end = item.time + item.sound.start, item.time + item.sound.end
    end = min(end, wet.size / sample_rate)
    part = wet[round(start * sample_rate) : round(end * sample_rate) + 1]
    peak = float(np.max(np.abs(part), initial=1e-12))
    snr = 20 * np.log10(peak / max(3 * noise_level, 1e-12))
    impacts = tuple(item.time + t for t in item.sound.impacts if item.time + t < end)
    return LabelledEvent(
        start, end, item.sound.label, item.sound.kind, impacts, round(float(snr), 1)
    )
