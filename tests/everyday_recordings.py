"""Recordings that hold no joint sound, for the release gate: made sounds of one kind each."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from made_sounds import background

from audio_pipeline.analysis.pipeline import Analysis, analyze_file, analyze_recording
from audio_pipeline.audio.recording import Recording
from audio_pipeline.datasets.synthesis.contacts import MAKERS
from audio_pipeline.datasets.synthesis.everyday import EverydaySettings
from audio_pipeline.datasets.synthesis.scenes import SceneSettings, scene
from audio_pipeline.model.classifier import Classifier

SEED = 987_654
"""Not that of any training; the default model grows from scenes of seed 0."""

CLICKS = frozenset({"key", "click", "tap", "knock", "clap", "clock"})
"""One short impact each, which a pop can equal: reported, held only to the budget of gratings."""

KINDS = {name: {name: 1.0} for name in MAKERS} | {
    "handling": {"rustle": 3.0, "thump": 1.0, "mechanism": 1.0, "squeak": 1.0},
    "several": {name: 1.0 for name in MAKERS if name not in CLICKS},
}
"""Everyday sounds of each kind of recording, with their weights."""

STEADY = ("silence", "white", "pink", "brown", "pure hum", "hum")

_RATE = 44_100


@dataclass
class Alarms:
    """Recordings or hours heard, and false alarms in them."""

    recordings: int = 0
    seconds: float = 0.0
    with_grating: int = 0
    with_joint: int = 0
    gratings: int = 0

    def add(self, analysis: Analysis) -> None:
        """Count one recording."""
        assert analysis.duration is not None
        sure = [event.label for event in analysis.events if not event.uncertain]
        gratings = sure.count("grating")
        self.recordings += 1
        self.seconds += analysis.duration
        self.gratings += gratings
        self.with_grating += gratings > 0
        self.with_joint += gratings > 0 or "pop" in sure

    def __str__(self) -> str:
        return (
            f"{self.recordings} recordings, {self.seconds / 3600:.2f} h: a sure grating in "
            f"{self.with_grating}, a sure joint sound in {self.with_joint}"
        )


def everyday_alarms(kind: str, count: int, classifier: Classifier) -> Alarms:
    """Count alarms in recordings of one kind, each about 7 s through a channel of its own."""
    settings = SceneSettings(everyday=EverydaySettings(everyday=KINDS[kind]))
    alarms = Alarms()
    for number in range(count):
        rng = np.random.default_rng([SEED, number, *kind.encode()])
        made = scene(rng, "everyday", settings)
        alarms.add(analyze_recording(Recording(made.samples, made.sample_rate), classifier))
    return alarms


TALKER = shutil.which("espeak-ng")
"""A speech synthesizer that shares nothing with ours: training has heard nothing like it."""

_VOICES = ("en", "en-us", "en-gb-scotland", "de", "fr", "es", "it", "pl", "nl", "sv", "pt", "hu")
_SPEAKERS = ("", "+f2", "+f4", "+m3", "+m7", "+whisper", "+croak")


def talking_alarms(text: str, seconds: float, classifier: Classifier) -> Alarms:
    """Count alarms in speech of many voices, about a minute each, until there is enough of it."""
    assert TALKER is not None
    words = text.split()
    rng = np.random.default_rng(SEED)
    alarms = Alarms()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        while alarms.seconds < seconds:
            voice = str(rng.choice(_VOICES)) + str(rng.choice(_SPEAKERS))
            begin = int(rng.integers(0, len(words) - 150))
            said = " ".join(words[begin : begin + 150])
            pitch, pace = str(rng.integers(10, 90)), str(rng.integers(110, 230))
            command = [TALKER, "-v", voice, "-p", pitch, "-s", pace, "-w", str(path), said]
            subprocess.run(command, check=True, capture_output=True)
            alarms.add(analyze_file(path, classifier))
    return alarms


def steady_alarms(kind: str, seconds: float, classifier: Classifier) -> Alarms:
    """Count alarms in a sound that does not change, in pieces of at most five minutes."""
    alarms = Alarms()
    for number, length in enumerate(_pieces(seconds)):
        samples = steady(kind, length, SEED + number)
        alarms.add(analyze_recording(Recording(samples, _RATE), classifier))
    return alarms


def steady(kind: str, seconds: float, seed: int) -> np.ndarray:
    """Make one steady sound, float32 (n,) at 44.1 kHz; `pure hum` is a 50 Hz tone in faint hiss."""
    if kind == "silence":
        return np.zeros(round(seconds * _RATE), np.float32)
    if kind == "pure hum":
        hiss = background("white", seconds, _RATE, seed, level=1e-5)
        tone = 0.05 * np.sin(2 * np.pi * 50 / _RATE * np.arange(len(hiss)))
        return (hiss + tone).astype(np.float32)
    return background(kind, seconds, _RATE, seed, level=0.02)


def _pieces(seconds: float, longest: float = 300.0) -> Iterator[float]:
    while seconds > 0:
        yield min(seconds, longest)
        seconds -= longest
