"""A model small enough to read, and recordings to try a batch on."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.features.table import FEATURES
from audio_pipeline.model.classifier import Calibration, Classifier, save_classifier
from audio_pipeline.model.forest import Forest

RATE = 22_050
LABELS = ("pop", "grating", "other")


def small_forest() -> Forest:
    """Few impacts are a pop, many grating, as three trees with one question each."""
    column = [feature.name for feature in FEATURES].index("impacts")
    leaves = [
        [[0.91, 0.05, 0.04], [0.1, 0.81, 0.09]],
        [[0.71, 0.11, 0.18], [0.21, 0.72, 0.07]],
        [[0.83, 0.01, 0.16], [0.02, 0.93, 0.05]],
    ]
    return Forest(
        LABELS,
        len(FEATURES),
        [column, -1, -1] * 3,
        np.log([3.5, 5.5, 8.5]),
        np.concatenate(leaves),
        [3, 3, 3],
    )


def small_model(folder: Path, thresholds: float = 0.6) -> Classifier:
    """Save the model above in a folder."""
    return save_classifier(
        Classifier(
            name=folder.name,
            labels=LABELS,
            feature_names=tuple(feature.name for feature in FEATURES),
            settings=AnalysisConfig(),
            thresholds=dict.fromkeys(LABELS, thresholds),
            calibration=Calibration(1.3, (0.1, 0.0, -0.1)),
            estimator=small_forest(),
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
