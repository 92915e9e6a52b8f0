"""Lossy codecs of phones and browsers: a round trip in memory through PyAV, aligned in time."""

from __future__ import annotations

import io
from dataclasses import dataclass

import av
import numpy as np
import soxr
from scipy.signal import correlate

from audio_pipeline.datasets.synthesis.sounds import Samples


@dataclass(frozen=True)
class Codec:
    """One codec: container, encoder name, bit rates (kbit/s) and its own sample rate or 0."""

    name: str
    container: str
    encoder: str
    bit_rates: tuple[int, ...]
    sample_rate: int = 0


CODECS = (
    Codec("aac", "mp4", "aac", (32, 48, 64, 96, 128)),
    Codec("opus", "ogg", "libopus", (16, 24, 32, 64), 48_000),
    Codec("mp3", "mp3", "libmp3lame", (48, 64, 128)),
)
"""AAC of phones, Opus of browsers and messengers, MP3 of old recorders. At 24 kbit/s and more
they are a minor nuisance to pops (simulation in the acoustic notes), hence a small share."""


def draw_codec(rng: np.random.Generator) -> tuple[Codec, int]:
    """Draw a codec and a bit rate in kbit/s."""
    codec = CODECS[int(rng.choice(len(CODECS), p=[0.5, 0.35, 0.15]))]
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
