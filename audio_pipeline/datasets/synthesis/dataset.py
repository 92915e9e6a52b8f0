"""Write synthetic scenes as a dataset: sound files and a manifest in the project's own format."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from audio_pipeline._version import __version__
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.datasets.synthesis.resonance import Family, Scene
from audio_pipeline.datasets.synthesis.scenes import SceneSettings, clip, scene
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

COLUMNS = (
    "file",
    "label",
    "group",
    "start",
    "end",
    "kind",
    "family",
    "impacts",
    "snr",
    "scene",
    "sample_rate",
    "scene_snr",
    "codec",
    "gain_control",
    "rt60",
)
"""The manifest's columns: those of every dataset first, then what to report by."""

LARGEST = 1_000_000
"""Most scenes in one call: a limit on what a typing error can do to a disk."""


@dataclass(frozen=True)
class DatasetSettings:
    """What a dataset holds."""

    #: Near the 300 : 300 : 220 scenes of the second exploratory study, with more of the third
    families: tuple[tuple[Family, float], ...] = (("a", 0.34), ("b", 0.34), ("everyday", 0.32))
    #: Share of short clips cut around one sound, among the scenes of each family (judgement)
    clips: float = 0.5
    scene: SceneSettings = field(default_factory=SceneSettings)  #: The ranges


def numbered_scene(
    number: int, seed: int, settings: DatasetSettings | None = None
) -> tuple[str, Scene]:
    """Make scene ``number`` of a dataset by itself; returns its name and the scene.

    A scene depends on the seed and its own number only, so a larger dataset of the same seed
    starts with the smaller one, and any part can be made anywhere.
    """
    settings = settings or DatasetSettings()
    rng = np.random.default_rng([seed, number])
    families = [family for family, _ in settings.families]
    shares = np.array([share for _, share in settings.families])
    family = families[int(rng.choice(len(families), p=shares / shares.sum()))]
    cut = rng.random() < settings.clips
    made = (clip if cut else scene)(rng, family, settings.scene)
    return f"{family}_{'clip' if cut else 'scene'}_{number:06d}", made


def rows(name: str, made: Scene) -> Iterator[dict[str, str]]:
    """Yield the manifest rows of one scene, one an event."""
    drawn = made.parameters
    for event in made.events:
        yield {
            "file": f"audio/{name}.flac",
            "label": event.label,
            "group": name,
            "start": f"{event.start:.4f}",
            "end": f"{event.end:.4f}",
            "kind": event.kind,
            "family": made.family,
            "impacts": str(len(event.impacts)),
            "snr": f"{event.snr:.1f}",
            "scene": "clip" if "_clip_" in name else "scene",
            "sample_rate": str(made.sample_rate),
            "scene_snr": str(drawn["snr"]),
            "codec": str(drawn["codec"]),
            "gain_control": str(drawn["gain_control"]).lower(),
            "rt60": str(drawn["rt60"]),
        }


def check_new_dataset(folder: Path, count: int, seed: int, largest: int) -> None:
    """Refuse a folder that holds something, and a count or seed out of range.

    Raises
    ------
    InvalidInputError
        Names the value and what to give instead.
    """
    if not 1 <= count <= largest:
        raise InvalidInputError(f"count is {count}: give a number from 1 to {largest}")
    if seed < 0:
        raise InvalidInputError(f"seed is {seed}: give a number of at least 0")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder} is not an empty folder: name one that is new or empty")


@contextmanager
def new_dataset(
    folder: Path, columns: Sequence[str], recipe: Mapping[str, Any]
) -> Iterator[csv.DictWriter[str]]:
    """Give the manifest of a new dataset to write rows to; its recipe is written at the end.

    Raises
    ------
    CrepitusError
        If the folder cannot be written.
    """
    try:
        (folder / "audio").mkdir(parents=True)
        with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, columns, lineterminator="\n")
            table.writeheader()
            yield table
        text = json.dumps({"software": f"crepitus {__version__}", **recipe}, indent=1) + "\n"
        (folder / "recipe.json").write_text(text, encoding="utf-8")
    except OSError as error:
        raise CrepitusError(f"cannot write the dataset to {folder}: {error.strerror}") from error


def write_dataset(
    folder: Path,
    count: int,
    seed: int,
    settings: DatasetSettings | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, object]:
    """Write ``count`` scenes to ``folder``.

    Parameters
    ----------
    folder : Path
        Made when missing; must be empty, nothing is ever overwritten.
    count : int
        Scenes, 1 to a million.
    seed : int
        At least 0. The same seed gives the same files with the same versions of the libraries.
    settings : DatasetSettings, optional
        What it holds.
    progress : callable, optional
        Called with the number of scenes done.

    Returns
    -------
    dict
        ``dataset``, ``count``, ``seed``, ``seconds`` of audio, ``events`` by label.

    Raises
    ------
    InvalidInputError
        If count or seed are out of range or the folder is not empty.
    CrepitusError
        If the folder cannot be written.
    """
    settings = settings or DatasetSettings()
    check_new_dataset(folder, count, seed, LARGEST)
    labels: Counter[str] = Counter()
    seconds = 0.0
    recipe = {"seed": seed, "count": count, "licence": "CC0-1.0", "settings": asdict(settings)}
    with new_dataset(folder, COLUMNS, recipe) as table:
        for number in range(count):
            name, made = numbered_scene(number, seed, settings)
            recording = Recording(made.samples, made.sample_rate, name)
            write_recording(folder / "audio" / f"{name}.flac", recording, "16-bit")
            table.writerows(rows(name, made))
            labels.update(event.label for event in made.events)
            seconds += recording.duration
            if progress:
                progress(number + 1)
    return {
        "dataset": str(folder),
        "count": count,
        "seed": seed,
        "seconds": round(seconds, 1),
        "events": dict(sorted(labels.items())),
    }
