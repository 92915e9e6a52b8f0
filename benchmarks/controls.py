"""Power and false alarms of the negative controls: ``python -m benchmarks.controls --seeds 100``.

Made data sets of two sounds by eight people. In a clean one nothing goes with the labels but the
sounds; in the others one thing does: the device, the room, mains hum, clipping, a lossy codec,
loudness, or the order of recording. Counted is how often some control catches it.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

RATE = 8000
PLANTS = ("clean", "device", "room", "hum", "clipping", "codec", "loudness", "order")
SECONDS = 2.5


def write_planted(
    folder: Path, plant: str, seed: int, people: int = 8, each: int = 2, share: float = 1.0
) -> Path:
    """Write a data set of ticks and rasps in which one thing goes with the labels.

    Parameters
    ----------
    folder : Path
        New.
    plant : str
        One of :data:`PLANTS`.
    seed, people, each : int
        `each` recordings of each label by each person.
    share : float
        Of the recordings of one label that have it (of the people, where it is the order).
    """
    from audio_pipeline.audio.recording import Recording, write_recording

    rng = np.random.default_rng([seed, PLANTS.index(plant)])

    def planted() -> bool:
        return share == 1 or rng.random() < share

    folder.mkdir(parents=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "group", "order"))
        for person in range(people):
            labels = ["tick", "rasp"] * each
            if plant == "order" and planted():
                labels.sort(reverse=True)
            else:
                rng.shuffle(labels)
            gain = 10 ** (rng.uniform(-8, 0) / 20)
            for place, label in enumerate(labels):
                marked = label == "rasp" and plant not in {"clean", "order"} and planted()
                samples = _recorded(rng, label, gain, plant if marked else "")
                name = f"p{person}_{place}.wav"
                write_recording(folder / name, Recording(samples, RATE), "16-bit")
                table.writerow((name, label, f"person {person}", place))
    return folder


def _recorded(rng: np.random.Generator, label: str, gain: float, plant: str) -> NDArray[np.float32]:
    """Record two or three sounds of a label, with one thing done to the recording."""
    from scipy.signal import butter, fftconvolve, sosfilt

    count = round(SECONDS * RATE)
    samples = rng.normal(0, 0.002, count)
    for start in np.linspace(0.7, 2.1, int(rng.integers(2, 4))) + rng.uniform(-0.1, 0.1):
        length = round((0.25 if label == "rasp" else 0.05) * RATE)
        time = np.arange(length) / RATE
        rough = rng.normal(0, 0.4, length) * (
            rng.random(length // 20 + 1).repeat(20)[:length] > 0.5
        )
        tick = np.sin(2 * np.pi * rng.uniform(1500, 2500) * time) * np.exp(-time / 0.005)
        at = round(start * RATE)
        samples[at : at + length] += rng.uniform(0.4, 0.8) * (rough if label == "rasp" else tick)
    if plant == "device":
        samples = sosfilt(butter(4, 1500, fs=RATE, output="sos"), samples)
    elif plant == "room":
        tail = rng.normal(0, 1, RATE // 3) * np.exp(-np.arange(RATE // 3) / (0.08 * RATE))
        tail[0] = 4.0
        samples = fftconvolve(samples, tail / 4.0)[:count]
    elif plant == "hum":
        samples = samples + 0.01 * np.sin(2 * np.pi * 50 * np.arange(count) / RATE)
    elif plant == "clipping":
        samples = np.clip(samples, -0.15, 0.15)
    elif plant == "codec":
        from audio_pipeline.datasets.synthesis.channel import CODECS, round_trip

        samples = round_trip(np.clip(samples, -1, 1), RATE, CODECS[1], 16)
    elif plant == "loudness":
        samples = samples * 0.15
    return np.clip(gain * samples, -1, 1).astype(np.float32)


def caught(folder: Path, seed: int, estimator: str = "forest") -> list[str]:
    """Return the controls that catch something in a data set."""
    from audio_pipeline.datasets.loading import load_training_data
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.model.controls import ControlSettings, negative_controls

    material = load_training_data(read_dataset(folder))
    settings = ControlSettings(estimator, seed=seed)
    controls = negative_controls(material, material.usable, 1.0, settings)
    return [one.name for one in controls if one.caught]


@click.command()
@click.option("--seeds", default=100, show_default=True, help="Data sets of each plant.")
@click.option("--only", multiple=True, type=click.Choice(PLANTS), help="Only these plants.")
@click.option("--estimator", default="forest", show_default=True, help="logistic is fast.")
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Of one label's recordings that have what is planted.",
)
def command(seeds: int, only: Sequence[str], estimator: str, share: float) -> None:
    """Count how often a planted confound is caught, and how often a clean set raises an alarm."""
    from audio_pipeline.model.metrics import wilson

    result = {}
    for plant in only or PLANTS:
        by, hits = Counter[str](), 0
        for seed in range(seeds):
            with tempfile.TemporaryDirectory() as scratch:
                folder = write_planted(Path(scratch) / "data", plant, seed, share=share)
                names = caught(folder, seed, estimator)
            by.update(names)
            hits += bool(names)
        low, high = wilson(hits / seeds, seeds)
        result[plant] = {
            "caught": hits,
            "of": seeds,
            "interval": [round(low, 3), round(high, 3)],
            "by": dict(by),
        }
        click.echo(json.dumps({plant: result[plant]}))


if __name__ == "__main__":
    command()
