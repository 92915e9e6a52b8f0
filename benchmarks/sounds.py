"""Recordings to measure with: noise, pops and a grating passage, in any length and format."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import soundfile

RATE = 48_000
EVENTS_PER_FIVE_SECONDS = 4

PHONE_FORMATS = {
    "m4a": ("ipod", "aac", 1),
    "stereo.m4a": ("ipod", "aac", 2),
    "webm": ("webm", "libopus", 1),
    "opus": ("ogg", "libopus", 1),
}
"""Container, codec and channels, as phones and browsers write them; 64 kbit/s a channel."""

FILE_FORMATS = {"wav": "PCM_16", "flac": "PCM_16", "mp3": None, "ogg": "VORBIS"}


def scene(seconds: float, seed: int) -> npt.NDArray[np.float32]:
    """Return room noise with three pops and a grating passage every five seconds."""
    random = np.random.default_rng(seed)
    count = round(seconds * RATE)
    samples = np.cumsum(random.normal(0, 1, count))
    samples = np.diff(samples - np.convolve(samples, np.ones(64) / 64, "same"), prepend=0.0)
    samples *= 1e-3 / max(1e-9, samples.std())
    for begin in np.arange(0.0, seconds, 5.0):
        for time in begin + np.sort(random.uniform(0.3, 3.3, 3)):
            _strike(samples, time, 0.3 * random.uniform(0.3, 1.0), random)
        start = begin + 3.6 + random.uniform(0.0, 0.3)
        for time in start + np.sort(random.uniform(0.0, 0.8, 40)):
            _strike(samples, time, 0.05 * random.uniform(0.2, 1.0), random)
    return samples.astype(np.float32)


def _strike(
    samples: npt.NDArray[np.float64], time: float, level: float, random: np.random.Generator
) -> None:
    """Add one impact that rings for a few milliseconds."""
    start = round(time * RATE)
    length = min(RATE // 25, len(samples) - start)
    if length <= 0:
        return
    clock = np.arange(length) / RATE
    ring = np.sin(2 * np.pi * random.uniform(800, 4000) * clock)
    samples[start : start + length] += level * ring * np.exp(-clock / 0.004)


def write(path: Path, samples: npt.NDArray[np.float32]) -> Path:
    """Write a recording in the format of its suffix."""
    kind = path.name.partition(".")[2]
    if kind in FILE_FORMATS:
        soundfile.write(path, samples, RATE, subtype=FILE_FORMATS[kind])
        return path
    container, codec, channels = PHONE_FORMATS[kind]
    layout = "mono" if channels == 1 else "stereo"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE, layout=layout, bit_rate=64_000 * channels)
        frame_size = 960 if codec == "libopus" else 1024
        for start in range(0, len(samples), frame_size):
            # The second channel hears it a little later, as from one side.
            part = np.stack(
                [np.roll(samples, each)[start : start + frame_size] for each in range(channels)]
            )
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
            if codec == "libopus":
                packed = (part * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            frame.sample_rate, frame.pts = RATE, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_long(path: Path, seconds: float) -> Path:
    """Write a WAV file of any length in little memory; every minute is the same."""
    minute = scene(min(60.0, seconds), 1)
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="RF64") as file:
        left = round(seconds * RATE)
        while left > 0:
            file.write(minute[:left])
            left -= len(minute)
    return path


def write_some(folder: Path, count: int, seconds: float, kind: str = "wav") -> list[Path]:
    """Write some recordings of one length and format; those already there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:05}.{kind}" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            write(path, scene(seconds, number))
    return paths
