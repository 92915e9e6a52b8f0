"""From the joint to the file: tissue, distance, phone equaliser, room, noise, processing.

Every sound of a scene, whatever its label, goes through the same channel, and every scene draws
its channel from the same ranges, so that no recording condition can give a label away.

At its end, lossy codecs of phones and browsers: a round trip in memory, aligned in time.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
import soxr
from scipy.fft import irfft, rfft, rfftfreq
from scipy.ndimage import maximum_filter1d
from scipy.signal import correlate, lfilter, oaconvolve

from audio_pipeline.datasets.synthesis.resonance import (
    Draws,
    Parameter,
    Samples,
    band_passed,
    coloured_noise,
    slow_curve,
)

_FIR = 1024


@dataclass(frozen=True)
class ChannelSettings:
    """Ranges of the channel."""

    #: dB an octave, largest random tilt of the equaliser either way. Contact force alone tilts the
    #: knee spectrum by 13 dB above 1 kHz (Safaei 2021); the exploratory study used a random slope
    slope: float = 6.0
    #: dB, standard deviation of the equaliser's curve at ten knots: phones are held to +-10 dB
    #: between 100 Hz and 7 kHz (Android CDD), old ones show troughs of 21 dB
    ripple: float = 4.0
    high_pass: tuple[float, float] = (15.0, 220.0)  #: Hz, 60-200 Hz of phones, lower for recorders
    #: Chance and cut-off (Hz) of a first-order low-pass by clothes or tissue: 0.6-6 kHz contact,
    #: 2-12 kHz air
    tissue: float = 0.35
    tissue_cutoff: tuple[float, float] = (600.0, 12_000.0)
    #: Chance of reflections from things close by (hand, bed, table; 15-90 ms) and the direct sound
    #: over them in dB. Real pops ring on as noise of unchanged colour; judgement
    near: float = 0.5
    near_direct: tuple[float, float] = (2.0, 24.0)
    #: Chance of a room, its RT60 in seconds (0.15-0.6 s) and the direct sound over the
    #: reverberation in dB (5-25 dB near the back; lower when the phone lies away)
    room: float = 0.7
    reverberation: tuple[float, float] = (0.03, 0.7)
    direct: tuple[float, float] = (-3.0, 26.0)
    #: dB, peak of the loudest event over three standard deviations of the noise. 0-60 dB worked
    #: best in the exploratory study
    snr: tuple[float, float] = (0.0, 70.0)
    noise_slope: tuple[float, float] = (-2.0, 8.0)  #: dB an octave: white to brown
    hum: float = 0.3  #: Chance of 50 or 60 Hz hum with harmonics
    restless: float = 0.4  #: Chance that the noise level wanders (traffic, breathing nearby)
    #: Chance and cut-off (Hz) of a steep band limit: telephone and Bluetooth links, old codecs,
    #: resampled files
    low_pass: float = 0.25
    low_pass_cutoff: tuple[float, float] = (3400.0, 16_000.0)
    #: Chance of automatic gain control (attack 1-10 ms, release 100-500 ms, ratio 2-8; 0.35 in the
    #: recipe, less here because our recorder switches it off)
    gain_control: float = 0.2
    suppression: float = 0.06  #: Chance of a gate like a noise suppressor between events
    clipping: float = 0.06  #: Chance that the loudest event is clipped, by up to 12 dB
    peak: tuple[float, float] = (-30.0, -0.5)  #: dBFS of the loudest event otherwise
    #: Chance of a lossy codec (capped: round trips cost more than everything else together)
    codec: float = 0.12


@dataclass(frozen=True)
class Channel:
    """One drawn channel: an impulse response and what happens after it."""

    #: float64 (m,): Tissue, distance, equaliser and room; the direct sound at sample 0
    response: Samples
    parameters: dict[str, Parameter]  #: The draws, for tables


def draw_channel(rng: Draws, settings: ChannelSettings) -> Channel:
    """Draw the linear part of a channel."""
    slope = rng.uniform(-settings.slope, settings.slope)
    high_pass = rng.log_uniform(*settings.high_pass)
    tissue = rng.random() < settings.tissue
    cutoff = rng.log_uniform(*settings.tissue_cutoff) if tissue else 0.0
    response = equaliser(rng, slope, rng.uniform(0.2, 1.0) * settings.ripple, high_pass, cutoff)
    if rng.random() < settings.near:
        close = room(rng, rng.log_uniform(0.015, 0.09), rng.uniform(*settings.near_direct))
        response = oaconvolve(close, response)
    rt60 = 0.0
    direct = 99.0
    if rng.random() < settings.room:
        rt60 = rng.log_uniform(*settings.reverberation)
        direct = rng.uniform(*settings.direct)
        response = oaconvolve(room(rng, rt60, direct), response)
    return Channel(
        response,
        {
            "slope": round(slope, 2),
            "tissue": round(cutoff),
            "rt60": round(rt60, 3),
            "direct": round(direct, 1),
        },
    )


def equaliser(
    rng: Draws, slope: float, ripple: float, high_pass: float, low_pass: float
) -> Samples:
    """Make a random minimum-phase equaliser; float64 (1024,), unit gain near 1 kHz.

    ``low_pass`` 0 means none. Minimum phase keeps the onset where it was and rings only after it.
    """
    frequency = np.maximum(rfftfreq(4 * _FIR, 1 / rng.rate), 10.0)
    octave = np.log2(frequency / 1000.0)
    knots = np.linspace(-5.0, 4.6, 12)
    curve = np.interp(octave, knots, ripple * rng.standard_normal(knots.size))
    level = curve + slope * np.clip(octave, -3.0, 3.3)
    level -= 10 * np.log10(1 + (high_pass / frequency) ** 4)
    if low_pass > 0:
        level -= 10 * np.log10(1 + (frequency / low_pass) ** 2)
    cepstrum = irfft(level * np.log(10) / 20)
    half = cepstrum.size // 2
    cepstrum[1:half] *= 2
    cepstrum[half + 1 :] = 0
    response = irfft(np.exp(rfft(cepstrum)))[:_FIR]
    response[-256:] *= np.linspace(1, 0, 256)
    return np.asarray(response)


def room(rng: Draws, rt60: float, direct: float) -> Samples:
    """Make a room response: direct sound, a few early reflections, a tail that dulls as it fades.

    ``direct`` is the energy of the direct sound over all the rest, in dB.
    """
    count = round(min(0.8 * rt60 + 0.03, 0.6) * rng.rate)
    time = np.arange(count) / rng.rate
    first = rng.uniform(0.001, 0.012)
    tail = rng.standard_normal(count) * np.exp(-6.9 * time / rt60) * (time > first)
    bright = tail * np.exp(-6.9 * time / (rt60 * rng.uniform(0.2, 0.8)))
    dull = band_passed(tail, None, rng.uniform(800, 4000), rng.rate, 1)
    tail = dull + rng.uniform(0.1, 1.0) * bright
    early = np.zeros(count)
    places = rng.uniform(first, first + 0.03, int(rng.integers(1, 7)))
    at = np.minimum((places * rng.rate).astype(int), count - 1)
    early[at] += (
        rng.choice([-1, 1], at.size) * rng.uniform(0.2, 1.0, at.size) * np.exp(-places / 0.02)
    )
    early /= max(float(np.sqrt(np.sum(early**2))), 1e-12)
    tail /= max(float(np.sqrt(np.sum(tail**2))), 1e-12)
    mix = rng.uniform(0.1, 0.7)
    rest = np.sqrt(mix) * early + np.sqrt(1 - mix) * tail
    response = 10 ** (-direct / 20) * rest
    response[0] += 1.0
    return np.asarray(response)


def background(
    rng: Draws, count: int, settings: ChannelSettings
) -> tuple[Samples, dict[str, Parameter]]:
    """Make background noise of deviation 1: coloured, sometimes humming, sometimes restless."""
    slope = rng.uniform(*settings.noise_slope)
    noise = coloured_noise(rng, count, slope)
    if rng.random() < 0.5:
        noise = oaconvolve(noise, equaliser(rng, 0.0, 6.0, 30.0, 0.0))[:count]
    hum = 0.0
    if rng.random() < settings.hum:
        hum = rng.log_uniform(0.02, 1.0)
        base = rng.choice([50.0, 60.0]) * (1 + 2e-4 * rng.standard_normal())
        phase = 2 * np.pi * base / rng.rate * np.arange(count)
        orders = rng.choice(np.arange(1, 13), int(rng.integers(1, 5)), replace=False)
        for order in orders:
            noise = noise + hum * noise.std() * rng.uniform(0.1, 1) * np.sin(order * phase)
    if rng.random() < settings.restless:
        noise = noise * slow_curve(rng, count, rng.uniform(0.3, 2.0), 0.3)
    noise = noise / max(float(noise.std()), 1e-12)
    return noise, {"noise_slope": round(float(slope), 2), "hum": round(float(hum), 3)}


def gain_control(rng: Draws, samples: Samples) -> Samples:
    """Compress and lift like a phone's automatic gain control; output peak as the input's."""
    peak = float(np.max(np.abs(samples), initial=0.0))
    if peak <= 0:
        return samples
    attack = max(1, round(rng.uniform(0.001, 0.010) * rng.rate))
    release = rng.uniform(0.1, 0.5) * rng.rate
    # A peak hold of the attack time, then a decay over the release time, both causal.
    held = maximum_filter1d(np.abs(samples), 2 * attack, origin=attack - 1)
    fade = np.exp(-64.0 / release)
    coarse = np.maximum.reduceat(held, np.arange(0, held.size, 64))
    level = np.empty_like(coarse)
    now = 0.0
    for place, value in enumerate(coarse):
        now = max(float(value), now * fade)
        level[place] = now
    envelope = np.interp(np.arange(samples.size), 64.0 * np.arange(level.size), level)
    smooth = lfilter(
        [1 / attack], [1, -(1 - 1 / attack)], envelope, zi=[envelope[0] * (1 - 1 / attack)]
    )[0]
    threshold = peak * 10 ** (rng.uniform(-40, -10) / 20)
    ratio = rng.uniform(2, 8)
    gain = np.minimum(1.0, (np.maximum(smooth, 1e-9) / threshold) ** (1 / ratio - 1))
    out = samples * gain
    return np.asarray(out * (peak / np.max(np.abs(out))))


def suppressed(rng: Draws, samples: Samples, noise_level: float) -> Samples:
    """Duck everything near the noise level, as a simple noise suppressor does."""
    window = round(0.02 * rng.rate)
    level = np.sqrt(np.convolve(samples**2, np.ones(window) / window, "same"))
    floor = 10 ** (-rng.uniform(6, 30) / 20)
    open_at = noise_level * rng.uniform(1.5, 3)
    gain = np.clip((level / max(open_at, 1e-12)) ** 2, floor, 1.0)
    return samples * gain


def processed(
    rng: Draws, samples: Samples, noise_level: float, settings: ChannelSettings
) -> tuple[Samples, dict[str, Parameter]]:
    """Apply what a device does after the microphone: suppression, gain control, level, limit.

    Parameters
    ----------
    noise_level : float
        Deviation of the background noise in ``samples``.

    Returns
    -------
    float64 (n,) in [-1, 1], and the draws.
    """
    drawn: dict[str, Parameter] = {"suppressed": False, "gain_control": False, "low_pass": 0}
    if rng.random() < settings.suppression:
        samples = suppressed(rng, samples, noise_level)
        drawn["suppressed"] = True
    if rng.random() < settings.gain_control:
        samples = gain_control(rng, samples)
        drawn["gain_control"] = True
    if rng.random() < settings.low_pass:
        cutoff = rng.log_uniform(*settings.low_pass_cutoff)
        samples = band_passed(samples, None, cutoff, rng.rate, 8)
        drawn["low_pass"] = round(cutoff)
    over = rng.random() < settings.clipping
    peak = rng.uniform(1.0, 12.0) if over else rng.uniform(*settings.peak)
    samples = samples * (10 ** (peak / 20) / max(float(np.max(np.abs(samples))), 1e-12))
    drawn["peak"] = round(float(peak), 1)
    return np.clip(samples, -1.0, 1.0), drawn


@dataclass(frozen=True)
class Codec:
    """One codec: share of the draws, container, encoder, bit rates (kbit/s), its own rate or 0."""

    name: str
    share: float
    container: str
    encoder: str
    bit_rates: tuple[int, ...]
    sample_rate: int = 0


CODECS = tuple(
    codec
    for codec in (
        Codec("aac", 0.42, "mp4", "aac", (24, 32, 48, 64, 96, 128)),
        Codec("opus", 0.33, "ogg", "libopus", (12, 16, 24, 32, 64), 48_000),
        Codec("mp3", 0.1, "mp3", "libmp3lame", (32, 48, 64, 128)),
        Codec("amr", 0.15, "amr", "libopencore_amrnb", (12,), 8_000),
    )
    if codec.encoder in av.codecs_available
)
"""AAC of phones, Opus of browsers and messengers, MP3 of old recorders, AMR of voice notes, which
leaves nothing above 4 kHz. Only those that this PyAV encodes: the wheels of 19 have no AMR."""


def draw_codec(rng: Draws) -> tuple[Codec, int]:
    """Draw a codec and a bit rate in kbit/s."""
    shares = np.array([codec.share for codec in CODECS])
    codec = CODECS[int(rng.choice(len(CODECS), p=shares / shares.sum()))]
    return codec, int(rng.choice(codec.bit_rates))


def round_trip(samples: Samples, sample_rate: int, codec: Codec, bit_rate: int) -> Samples:
    """Encode and decode; returns float64 of the same length, aligned to within a sample or two.

    Parameters
    ----------
    samples : float64 (n,)
        In [-1, 1].
    bit_rate : int
        kbit/s.
    """
    rate = codec.sample_rate or sample_rate
    sent = samples if rate == sample_rate else soxr.resample(samples, sample_rate, rate)
    # The codecs' delays differ with container and encoder; padding leaves room to find them.
    pad = rate // 10
    padded = np.concatenate([np.zeros(pad), sent, np.zeros(pad)]).astype(np.float32)
    back = _decode(_encode(padded, rate, codec, bit_rate)).astype(np.float64)
    start = pad + _delay(padded.astype(np.float64), back, pad)
    got = back[start : start + sent.size]
    got = np.pad(got, (0, sent.size - got.size))
    if rate != sample_rate:
        got = soxr.resample(got, rate, sample_rate)
    return np.asarray(np.pad(got, (0, max(0, samples.size - got.size)))[: samples.size])


def _encode(samples: np.ndarray, rate: int, codec: Codec, bit_rate: int) -> bytes:
    memory = io.BytesIO()
    with av.open(memory, "w", format=codec.container) as out:
        stream = out.add_stream(codec.encoder, rate=rate)
        stream.bit_rate = 1000 * bit_rate
        stream.layout = "mono"
        resampler = av.AudioResampler(
            format=stream.format,
            layout="mono",
            rate=rate,
            frame_size=stream.codec_context.frame_size or 1024,
        )
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        frame.pts = 0
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(piece):
                out.mux(packet)
        for packet in stream.encode(None):
            out.mux(packet)
    return memory.getvalue()


def _decode(content: bytes) -> np.ndarray:
    with av.open(io.BytesIO(content)) as source:
        to_float = av.AudioResampler(format="fltp", layout="mono")
        parts = [
            piece.to_ndarray()[0]
            for frame in source.decode(audio=0)
            for piece in to_float.resample(frame)
        ]
    return np.concatenate(parts) if parts else np.zeros(1, dtype=np.float32)


def _delay(sent: Samples, back: Samples, reach: int) -> int:
    """Find by how many samples ``back`` is late, from a window around the loudest moment."""
    loud = int(np.argmax(np.abs(sent)))
    width = 4096
    low = max(0, loud - width)
    piece = sent[low : loud + width]
    first = max(0, low - reach)
    around = back[first : loud + width + reach]
    if around.size < piece.size:
        return 0
    match = correlate(around, piece, mode="valid", method="fft")
    return first + int(np.argmax(match)) - low
