"""Small labelled datasets of generated sounds, for training and evaluation tests."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.audio.recording import Recording, write_recording

Samples = NDArray[np.float32]
LABELS = ("clunk", "rasp", "tick")


def sound(rng: np.random.Generator, label: str, rate: int) -> Samples:
    """One recording of two seconds: three sounds of a kind in a quiet room."""
    samples = rng.normal(0, 0.001, 2 * rate)
    for start in (0.4, 0.95, 1.5):
        at = round((start + rng.uniform(-0.03, 0.03)) * rate)
        part = _one(rng, label, rate)
        samples[at : at + part.size] += part * rng.uniform(0.2, 0.4)
    return samples.astype(np.float32)


def _one(rng: np.random.Generator, label: str, rate: int) -> NDArray[np.float64]:
    if label == "rasp":
        count = round(0.25 * rate)
        rough = rng.random(count // 20 + 1).repeat(20)[:count] > 0.5
        return rng.normal(0, 0.4, count) * rough
    time = np.arange(round(0.1 * rate)) / rate
    pitch, decay = (0.08, 0.02) if label == "clunk" else (0.3, 0.003)
    wave = np.sin(2 * np.pi * pitch * rate * rng.uniform(0.9, 1.1) * time)
    return np.asarray(wave * np.exp(-time / decay))


def write_people(
    folder: Path,
    people: int = 4,
    each: int = 2,
    rate: int = 2000,
    labels: tuple[str, ...] = LABELS,
    seed: int = 0,
) -> Path:
    """Write a dataset with a manifest; every person has every label."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "group", "side"))
        for person in range(people):
            for label in labels:
                for take in range(each):
                    name = f"p{person}_{label}_{take}.wav"
                    recording = Recording(sound(rng, label, rate), rate)
                    write_recording(folder / name, recording, "16-bit")
                    table.writerow((name, label, f"person {person}", "left" if take else "right"))
    return folder
