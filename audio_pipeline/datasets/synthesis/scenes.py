"""Scenes: sounds at their places, through one channel, labelled to the sample.

Whole scenes of several sounds, clips cut around one, and real clips put into a random background
and channel, or taken apart into impacts and put together anew, to make more of the few there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy.signal import find_peaks, oaconvolve

from audio_pipeline.datasets.synthesis.channel import (
    ChannelSettings,
    background,
    draw_channel,
    draw_codec,
    processed,
    round_trip,
)
from audio_pipeline.datasets.synthesis.everyday import EverydaySettings, draw_everyday
from audio_pipeline.datasets.synthesis.joints import (
    JointSettings,
    PatternSettings,
    add_sound,
    cascade,
    grating_a,
    grating_b,
    passage,
    pop_a,
    pop_b,
    renewal,
    stick_slip,
)
from audio_pipeline.datasets.synthesis.resonance import (
    Body,
    Draws,
    Family,
    LabelledEvent,
    Parameter,
    Samples,
    Scene,
    Sound,
    draw_body,
    level_envelope,
)


@dataclass(frozen=True)
class Placed:
    """A sound at its place in the scene (seconds), with a linear gain."""

    sound: Sound
    time: float
    gain: float


def recorded(
    rng: Draws, placed: list[Placed], count: int, family: str, settings: ChannelSettings
) -> Scene:
    """Mix the sounds, send them through one channel and label them."""
    dry = np.zeros(count)
    for item in placed:
        at = round(item.time * rng.rate)
        part = item.sound.samples[: max(count - at, 0)]
        dry[at : at + part.size] += item.gain * part
    channel = draw_channel(rng, settings)
    wet = oaconvolve(dry, channel.response)[:count]
    noise, noise_drawn = background(rng, count, settings)
    snr = rng.uniform(*settings.snr)
    loudest = float(np.max(np.abs(wet), initial=0.0))
    noise_level = loudest / 3.0 / 10 ** (snr / 20)
    events = tuple(_labelled(item, wet, noise_level, rng.rate) for item in placed)
    heard, drawn = processed(rng, wet + noise_level * noise, noise_level, settings)
    codec_name = "none"
    if rng.random() < settings.codec:
        codec, bit_rate = draw_codec(rng)
        heard = np.clip(round_trip(heard, rng.rate, codec, bit_rate), -1.0, 1.0)
        codec_name = f"{codec.name}_{bit_rate}"
    parameters: dict[str, Parameter] = {"snr": round(float(snr), 1), "codec": codec_name}
    parameters |= channel.parameters | noise_drawn | drawn
    return Scene(
        heard.astype(np.float32),
        rng.rate,
        tuple(sorted(events, key=lambda e: e.start)),
        family,
        parameters,
    )


def _labelled(item: Placed, wet: Samples, noise_level: float, sample_rate: int) -> LabelledEvent:
    start, end = item.time + item.sound.start, item.time + item.sound.end
    end = min(end, wet.size / sample_rate)
    part = wet[round(start * sample_rate) : round(end * sample_rate) + 1]
    peak = float(np.max(np.abs(part), initial=1e-12))
    snr = 20 * np.log10(peak / max(3 * noise_level, 1e-12))
    impacts = tuple(item.time + t for t in item.sound.impacts if item.time + t < end)
    return LabelledEvent(
        start, end, item.sound.label, item.sound.kind, impacts, round(float(snr), 1)
    )


_JOINTS = {"a": {"pop": pop_a, "grating": grating_a}, "b": {"pop": pop_b, "grating": grating_b}}


@dataclass(frozen=True)
class SceneSettings:
    """Ranges of a scene."""

    #: Hz, drawn with equal chance: what phones and browsers record
    sample_rates: tuple[int, ...] = (44_100, 48_000)
    #: Seconds; about 7 s holds one slow twist to each side
    duration: tuple[float, float] = (5.5, 8.5)
    #: Shares of the events in scenes of families a and b; the rest is everyday sound
    pop: float = 0.38
    grating: float = 0.27
    #: Chance that a pop is followed by others 60-300 ms later (separate pops: at most four in half
    #: a second)
    series: float = 0.25
    #: Seconds of background between events; above the 0.3 s within which the definition would join
    #: them
    gap: tuple[float, float] = (0.36, 1.0)
    #: Chance of at least half a second of background before the first event
    quiet_start: float = 0.6
    #: dB of an event below the loudest in the scene, the same for all labels
    level: tuple[float, float] = (-20.0, 0.0)
    #: Chance that an event comes from the scene's own joint rather than another
    same_body: float = 0.5
    #: Seconds before the sound in a tight clip; clips cut at the onset are as frequent as clips
    #: with a little air
    clip_lead: tuple[float, float] = (0.0, 0.35)
    #: Seconds of a clip, drawn alike for all labels and stretched where the sound is longer
    clip_length: tuple[float, float] = (0.04, 2.5)
    joint: JointSettings = field(default_factory=JointSettings)
    everyday: EverydaySettings = field(default_factory=EverydaySettings)
    channel: ChannelSettings = field(default_factory=ChannelSettings)


def scene(
    generator: np.random.Generator, family: Family, settings: SceneSettings | None = None
) -> Scene:
    """Make one scene of several events.

    Parameters
    ----------
    generator : numpy Generator
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
    rng = Draws(int(generator.choice(settings.sample_rates)), generator)
    duration = rng.uniform(*settings.duration)
    own = draw_body(rng, settings.joint.body)
    time = rng.uniform(0.5, 1.5) if rng.random() < settings.quiet_start else rng.uniform(0.0, 0.4)
    placed: list[Placed] = []
    while True:
        group = _draw_group(rng, family, own, settings)
        end = max(at + sound.end for sound, at in group)
        if placed and time + end > duration:
            break
        gain = 10 ** (rng.uniform(*settings.level) / 20)
        placed += [
            Placed(sound, time + at, gain * (10 ** (rng.uniform(-6, 0) / 20) if at else 1))
            for sound, at in group
        ]
        time += end + rng.log_uniform(*settings.gap)
    count = round(max(duration, time - 0.2) * rng.rate)
    return recorded(rng, placed, count, family, settings.channel)


def clip(
    generator: np.random.Generator, family: Family, settings: SceneSettings | None = None
) -> Scene:
    """Make one short recording cut around one sound, near its first sample.

    Researchers cut their recordings like this: no quiet to measure, the event fills the file.
    """
    settings = settings or SceneSettings()
    rng = Draws(int(generator.choice(settings.sample_rates)), generator)
    own = draw_body(rng, settings.joint.body)
    label = _draw_label(rng, family, settings)
    sound = _draw_sound(rng, label, family, own, settings)
    lead = rng.uniform(0.0, 0.02) if rng.random() < 0.5 else rng.uniform(*settings.clip_lead)
    tail = rng.uniform(0.005, 0.3)
    length = max(rng.log_uniform(*settings.clip_length), lead + sound.end + tail)
    placed = [Placed(sound, lead, 1.0)]
    count = round(length * rng.rate)
    return recorded(rng, placed, count, family, settings.channel)


def _draw_label(rng: Draws, family: Family, settings: SceneSettings) -> str:
    which = rng.random()
    if family == "everyday" or which >= settings.pop + settings.grating:
        return "other"
    return "pop" if which < settings.pop else "grating"


def _draw_sound(
    rng: Draws, label: str, family: Family, own: Body, settings: SceneSettings
) -> Sound:
    if label == "other":
        return draw_everyday(rng, family, settings.everyday)
    body = own if rng.random() < settings.same_body else draw_body(rng, settings.joint.body)
    return _JOINTS[family][label](rng, body, settings.joint)


def _draw_group(
    rng: Draws, family: Family, own: Body, settings: SceneSettings
) -> list[tuple[Sound, float]]:
    """Draw one event, or a series of separate pops, with their times from the first."""
    label = _draw_label(rng, family, settings)
    first = _draw_sound(rng, label, family, own, settings)
    group = [(first, 0.0)]
    if label == "pop" and first.kind == "single" and rng.random() < settings.series:
        at = 0.0
        # Gaps of at least 130 ms keep it at four impacts in any half second.
        for _ in range(int(rng.integers(1, 4))):
            at += rng.uniform(0.06, 0.3) if len(group) < 3 else rng.uniform(0.17, 0.3)
            single = _single_only(settings)
            group.append((_JOINTS[family]["pop"](rng, own, single), at))
    return group


def _single_only(settings: SceneSettings) -> JointSettings:
    """Return the joint settings with nothing but single impacts."""
    joint = settings.joint
    return JointSettings(joint.body, joint.pattern, single=1.0, double=0.0, friction=0.0)


@dataclass(frozen=True)
class EmbedSettings:
    """Ranges of the embedding; those of the second exploratory study unless said otherwise."""

    #: Hz of the result, drawn with equal chance whatever the clip had; the default model's own
    #: rate, which costs half of 44.1 kHz
    sample_rates: tuple[int, ...] = (22_050,)
    #: Resampling factor: the clip gets this much longer and lower
    stretch: tuple[float, float] = (0.85, 1.18)
    cascade: float = 0.25  #: Chance that a pop becomes a cascade of itself (a quarter of the pops)
    #: Chance that nothing is added around the clip (clips as researchers cut them)
    tight: float = 0.2
    lead: tuple[float, float] = (0.05, 1.2)  #: Seconds of background before and after otherwise
    tail: tuple[float, float] = (0.1, 1.0)
    #: Chance of one everyday sound elsewhere in the scene, labelled ``other``
    distractor: float = 0.25
    active_level: float = -30.0  #: dB below the clip's peak down to which it is labelled
    pattern: PatternSettings = field(default_factory=PatternSettings)
    everyday: EverydaySettings = field(default_factory=EverydaySettings)
    #: For gratings put together of a clip's impacts: how many of its loudest may serve, how many
    #: places rub, each impact a little higher or lower, all of them by a factor of `pitch`; the
    #: shares of regular and dense passages, and the most impacts a second (places as for made
    #: gratings; the rest judgement)
    impacts: int = 24
    places: int = 8
    pitch: tuple[float, float] = (0.8, 1.25)
    passage: JointSettings = field(
        default_factory=lambda: JointSettings(creak=0.2, crunch=0.25, scrape=0.0)
    )
    fastest: float = 600.0
    #: Milder than for synthetic sounds, because a clip has been through one channel already: 6-60
    #: dB coloured noise, reverberation, equaliser, low-pass; and more of what phones do afterwards:
    #: codecs, noise suppression, gain control, clipping
    channel: ChannelSettings = field(
        default_factory=lambda: ChannelSettings(
            slope=4.0,
            ripple=3.0,
            tissue=0.2,
            room=0.55,
            direct=(0.0, 30.0),
            snr=(6.0, 60.0),
            low_pass=0.3,
            low_pass_cutoff=(3400.0, 10_400.0),
            gain_control=0.25,
            suppression=0.15,
            clipping=0.08,
            codec=0.25,
        )
    )


def embed(
    generator: np.random.Generator,
    samples: NDArray[np.floating],
    sample_rate: int,
    label: str,
    settings: EmbedSettings | None = None,
) -> Scene:
    """Make one new scene of a real clip.

    Parameters
    ----------
    generator : numpy Generator
        The only source of randomness.
    samples : float (n,)
        The clip, mono, any level.
    sample_rate : int
        Hz, above 0.
    label : str
        Its label; ``pop`` clips may become cascades.
    settings : EmbedSettings, optional
        The ranges.

    Returns
    -------
    Scene
        Of family ``real``; the first event with the clip's label spans its audible part, a
        distractor is a second event.

    Raises
    ------
    ValueError
        If the clip is empty, silent or not finite.
    """
    settings = settings or EmbedSettings()
    rng = Draws(int(generator.choice(settings.sample_rates)), generator)
    stretch = rng.uniform(*settings.stretch)
    sound = clip_sound(
        samples, sample_rate, rng.rate, label, "clip", stretch, settings.active_level
    )
    if label == "pop" and rng.random() < settings.cascade:
        sound = _cascaded(rng, sound, settings)
    lead, tail = _surroundings(rng, settings)
    placed = [Placed(sound, lead, 1.0)]
    length = lead + sound.samples.size / rng.rate + tail
    if rng.random() < settings.distractor:
        other = draw_everyday(rng, "everyday", settings.everyday)
        gain = 10 ** (rng.uniform(-20.0, 3.0) / 20)
        if rng.random() < 0.5:
            placed.append(Placed(other, length + 0.35, gain))
            length += 0.35 + other.end + 0.1
        else:
            shift = other.end + 0.35
            placed = [Placed(other, 0.02, gain), Placed(sound, lead + shift, 1.0)]
            length += shift
    return recorded(rng, placed, round(length * rng.rate), "real", settings.channel)


def reassemble(
    generator: np.random.Generator,
    samples: NDArray[np.floating],
    sample_rate: int,
    settings: EmbedSettings | None = None,
) -> Scene:
    """Take a real pop or grating apart and make a grating of its impacts.

    By the definition, how many impacts there are and how close decides between a pop and a grating.
    So the impacts of one recording, each a little higher or lower, in the order and at the times of
    a synthetic passage, are another grating, of real sound (concatenative synthesis; Schwarz 2006,
    https://doi.org/10.1080/09298210600696857).

    Parameters
    ----------
    generator, samples, sample_rate, settings
        As for :func:`embed`.

    Returns
    -------
    Scene
        Of family ``real``; its one event is the grating.

    Raises
    ------
    ValueError
        If the clip is empty, silent or not finite.
    """
    settings = settings or EmbedSettings()
    rng = Draws(int(generator.choice(settings.sample_rates)), generator)
    clip = clip_sound(samples, sample_rate, rng.rate, "grating").samples
    level = level_envelope(clip, rng.rate)
    apart = {"distance": round(0.012 * rng.rate), "prominence": 0.1 * level.max()}
    peaks = find_peaks(level, **apart)[0] if level.size > 2 else np.empty(0, int)
    peaks = peaks if peaks.size else np.array([np.argmax(level)])
    loudest = peaks[np.argsort(level[peaks])[::-1][: settings.impacts]]
    impacts = [_impact(clip, level, int(peak), rng.rate) for peak in loudest]
    train = renewal if rng.random() < 0.5 else stick_slip
    kind, times, levels, _ = passage(rng, settings.passage, train, settings.fastest)
    pitch = rng.uniform(*settings.pitch)
    places = []
    for _ in range(settings.places):
        impact = impacts[int(rng.integers(len(impacts)))]
        shifted = soxr.resample(impact, rng.rate, rng.rate * pitch * rng.uniform(*settings.stretch))
        places.append(shifted / max(float(np.max(np.abs(shifted), initial=0.0)), 1e-12))
    total = np.zeros(round(times[-1] * rng.rate) + 2 + max(place.size for place in places))
    for time, gain in zip(times, levels, strict=True):
        place = places[int(rng.integers(len(places)))]
        add_sound(total, place, gain if rng.random() < 0.7 else -gain, time, rng.rate)
    sound = _marked(total, rng.rate, "grating", kind, settings.active_level)
    lead, tail = _surroundings(rng, settings)
    length = lead + total.size / rng.rate + tail
    placed = [Placed(sound, lead, 1.0)]
    return recorded(rng, placed, round(length * rng.rate), "real", settings.channel)


def _surroundings(rng: Draws, settings: EmbedSettings) -> tuple[float, float]:
    """Draw the seconds of background before and after a clip."""
    if rng.random() < settings.tight:
        return rng.uniform(0.0, 0.01), rng.uniform(0.0, 0.02)
    return rng.log_uniform(*settings.lead), rng.log_uniform(*settings.tail)


def clip_sound(
    samples: NDArray[np.floating],
    sample_rate: int,
    rate: int,
    label: str,
    kind: str = "clip",
    stretch: float = 1.0,
    active_level: float = -30.0,
) -> Sound:
    """Make a dry sound of a real clip: resampled, its edges faded, its audible part marked.

    Parameters
    ----------
    samples : float (n,)
        Mono, any level.
    sample_rate, rate : int
        Hz of the clip, and of the sound.
    label, kind : str
    stretch : float
        How much longer and lower it gets.
    active_level : float
        dB below the clip's peak down to which it is labelled.

    Raises
    ------
    ValueError
        If the clip is empty, silent or not finite.
    """
    clip = np.asarray(samples, dtype=np.float64)
    if clip.ndim != 1 or clip.size == 0 or not np.all(np.isfinite(clip)):
        raise ValueError(f"a clip must be one row of finite samples, not shape {clip.shape}")
    clip = clip - clip.mean()
    if not np.any(clip):
        raise ValueError("a silent clip cannot be embedded")
    clip = _faded(soxr.resample(clip, sample_rate, rate * stretch), rate)
    return _marked(clip, rate, label, kind, active_level)


def _faded(clip: Samples, rate: int) -> Samples:
    """Fade the cut edges: 0.2 ms in, because the sound may start at once, 5 ms out."""
    rise, fall = min(clip.size, max(1, rate // 5000)), min(clip.size, max(1, rate // 200))
    gain = np.ones(clip.size)
    gain[:rise] = np.arange(1, rise + 1) / rise
    gain[clip.size - fall :] *= np.linspace(1.0, 0.0, fall)
    return clip * gain


def _marked(clip: Samples, rate: int, label: str, kind: str, active_level: float) -> Sound:
    """Find the audible extent of a clip."""
    level = level_envelope(clip, rate)
    audible = np.nonzero(level >= 10 ** (active_level / 20) * level.max())[0]
    whole = clip / np.max(np.abs(clip))
    return Sound(whole, label, kind, audible[0] / rate, (audible[-1] + 1) / rate, ())


def _cascaded(rng: Draws, sound: Sound, settings: EmbedSettings) -> Sound:
    """Repeat the loudest impact of a pop at the times of a cascade."""
    loud = int(np.argmax(np.abs(sound.samples)))
    before = max(0, loud - round(0.002 * rng.rate))
    impact = _impact(sound.samples, level_envelope(sound.samples, rng.rate), loud, rng.rate)
    times, levels = cascade(rng, settings.pattern, "gamma")
    total = np.zeros(round(times[-1] * rng.rate) + 2 + 2 * impact.size)
    for time, gain in zip(times, levels, strict=True):
        # Each impact a little higher or lower, or it would be an echo rather than a crack.
        shifted = soxr.resample(impact, rng.rate, rng.rate * rng.uniform(0.85, 1.18))
        add_sound(total, shifted, gain, time, rng.rate)
    marked = _marked(total, rng.rate, sound.label, sound.kind, settings.active_level)
    first = (loud - before) / rng.rate
    impacts = tuple(float(time) + first for time in times)
    return Sound(marked.samples, sound.label, "cascade", marked.start, marked.end, impacts)


def _impact(samples: Samples, level: Samples, peak: int, rate: int) -> Samples:
    """Cut one impact out: from 2 ms before its peak until it is 25 dB down, 50 ms at most."""
    before = max(0, peak - round(0.002 * rate))
    quiet = np.nonzero(level[peak:] < 10 ** (-25.0 / 20) * level[peak])[0]
    length = int(quiet[0]) if quiet.size else samples.size - peak
    impact = samples[before : peak + min(length, round(0.05 * rate)) + 1].copy()
    fall = min(impact.size, max(1, rate // 500))
    impact[impact.size - fall :] *= np.linspace(1.0, 0.0, fall)
    return impact
