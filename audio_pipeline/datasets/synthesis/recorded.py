"""Mixing: sounds at their places, through one channel, labelled to the sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import oaconvolve

from audio_pipeline.datasets.synthesis.channel import (
    ChannelSettings,
    background,
    draw_channel,
    processed,
)
from audio_pipeline.datasets.synthesis.codecs import draw_codec, round_trip
from audio_pipeline.datasets.synthesis.sounds import (
    LabelledEvent,
    Parameter,
    Samples,
    Scene,
    Sound,
)


@dataclass(frozen=True)
class Placed:
    """A sound at its place in the scene (seconds), with a linear gain."""

    sound: Sound
    time: float
    gain: float


def recorded(
    rng: np.random.Generator,
    placed: list[Placed],
    count: int,
    sample_rate: int,
    family: str,
    settings: ChannelSettings,
) -> Scene:
    """Mix the sounds, send them through one channel and label them."""
    dry = np.zeros(count)
    for item in placed:
        at = round(item.time * sample_rate)
        part = item.sound.samples[: max(count - at, 0)]
        dry[at : at + part.size] += item.gain * part
    channel = draw_channel(rng, sample_rate, settings)
    wet = oaconvolve(dry, channel.response)[:count]
    noise, noise_drawn = background(rng, count, sample_rate, settings)
    snr = rng.uniform(*settings.snr)
    loudest = float(np.max(np.abs(wet), initial=0.0))
    noise_level = loudest / 3.0 / 10 ** (snr / 20)
    events = tuple(_labelled(item, wet, noise_level, sample_rate) for item in placed)
    heard, drawn = processed(rng, wet + noise_level * noise, sample_rate, noise_level, settings)
    codec_name = "none"
    if rng.random() < settings.codec:
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
