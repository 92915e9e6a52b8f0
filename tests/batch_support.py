"""A model small enough to read, and recordings to try a batch on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.tree import DecisionTreeClassifier

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.features.transformer import FEATURES
from audio_pipeline.model.classifier import Classifier, save_classifier
from tests.small_models import says

RATE = 22_050
LABELS = ("grating", "other", "pop")


def small_estimator() -> DecisionTreeClassifier:
    """Few impacts are a pop, many grating; in between it is less sure."""
    few, some = [0.05, 0.04, 0.91], [0.31, 0.06, 0.63]
    more, many = [0.52, 0.09, 0.39], [0.82, 0.07, 0.11]
    counts = {1: few, 3: few, 4: some, 5: some, 6: more, 8: more, 9: many, 40: many}
    answers = {float(np.log(count)): answer for count, answer in counts.items()}
    return says(LABELS, answers, "impacts")


def small_model(folder: Path, thresholds: float = 0.6) -> Classifier:
    """Save the model above in a folder."""
    return save_classifier(
        Classifier(
            name=folder.name,
            labels=LABELS,
            feature_names=tuple(feature.name for feature in FEATURES),
            settings=AnalysisConfig(),
            thresholds=dict.fromkeys(LABELS, thresholds),
            estimator=small_estimator(),
        ),
        folder,
    )


def clicks(
    times: Iterable[float], duration: float, seed: int = 0, rate: int = RATE
) -> npt.NDArray[np.float32]:
    """Return decaying clicks at some times (seconds) over faint noise."""
    random = np.random.default_rng(seed)
    samples = random.normal(0, 1e-3, round(duration * rate))
    for time in times:
        start = round(time * rate)
        length = min(round(0.02 * rate), len(samples) - start)
        decay = np.exp(-np.arange(length) / (0.002 * rate))
        samples[start : start + length] += 0.5 * decay * random.normal(0, 1, length)
    return samples.astype(np.float32)


def write_clicks(
    path: Path | bytes, times: Iterable[float] = (0.5,), duration: float = 1.0, seed: int = 0
) -> None:
    """Write a WAV file of clicks, whatever bytes its name has."""
    name = os.fsencode(path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    write_recording(name, Recording(clicks(times, duration, seed), RATE), subtype="16-bit")


def write_folder(folder: Path, count: int, duration: float = 1.0) -> None:
    """Write recordings with none to eleven clicks each, in a few folders below."""
    for number in range(count):
        times = np.linspace(0.3, duration - 0.2, number % 12)
        path = folder / f"part{number % 3}" / f"take {number:04}.wav"
        write_clicks(path, times, duration, seed=number)


def tables(out: Path) -> tuple[bytes, bytes]:
    """Return the bytes of both tables."""
    return ((out / "events.csv").read_bytes(), (out / "recordings.csv").read_bytes())
