"""Events to train on that nobody recorded: synthetic scenes, and real clips in new surroundings.

None of them is ever judged. Synthetic figures are no evidence; new surroundings for a clip keep its
group, so that in cross-validation they stay on the clip's side of every split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction, extract
from audio_pipeline.audio.recording import Recording, read_recording
from audio_pipeline.datasets.conditions import in_parallel
from audio_pipeline.datasets.examples import SYNTHETIC_GROUP, Events, labelled_rows
from audio_pipeline.datasets.synthesis.dataset import DatasetSettings, numbered_scene
from audio_pipeline.datasets.synthesis.resonance import LabelledEvent, Scene
from audio_pipeline.datasets.synthesis.scenes import EmbedSettings, embed
from audio_pipeline.exceptions import RecordingError
from audio_pipeline.features.transformer import FEATURE_NAMES

_LONGEST_CLIP = 4.0
_RING_CENTROID = FEATURE_NAMES.index("ring_centroid")
_NOTHING = np.empty((0, len(FEATURE_NAMES)), np.float32)


@dataclass(frozen=True)
class MadeSettings:
    """What is made."""

    scenes: int = 0  #: Synthetic scenes and clips, all families together
    #: New surroundings for each real clip of a label: more of what is rare
    copies: Mapping[str, int] = field(default_factory=lambda: {"pop": 8, "grating": 6, "other": 2})
    #: Weight of a pop that rings well below `dull_below` against a bright one. Heard over air a
    #: lone dull thump is far more often a tap, a step or a key than a joint: with equal weights
    #: half of the real key presses were called pops, with a quarter one in six, and no real pop was
    #: lost
    dull_pop: float = 0.25
    #: Hz, mean frequency of the ring; real pop-like clips have 1,300-6,900 Hz
    dull_below: float = 1300.0
    seed: int = 0
    jobs: int = 2  #: Processes; the result does not depend on it
    dataset: DatasetSettings = field(default_factory=DatasetSettings)
    embed: EmbedSettings = field(default_factory=EmbedSettings)


@dataclass(frozen=True)
class RealClip:
    """A recording to put into new surroundings; `group` is its linked group."""

    path: Path
    label: str
    group: str


Progress = Callable[[str, int, int], None]


def made_events(
    settings: AnalysisConfig,
    recipe: MadeSettings,
    clips: Sequence[RealClip] = (),
    progress: Progress | None = None,
) -> Events:
    """Make events, the same for the same recipe and clips.

    Parameters
    ----------
    settings : AnalysisConfig
        Those of the model.
    recipe : MadeSettings
    clips : sequence of RealClip
        Recordings with one label each; longer ones are cut to 4 s.
    progress : callable or None

    Returns
    -------
    Events
        With -1 for every case; weights 1 / sqrt(events of the scene), those of a clip's copies
        shared among them so that a clip weighs the same however often it is copied.
    """
    work: list[tuple[Callable[..., Made], tuple[object, ...]]] = [
        (_synthetic, (number, recipe, settings)) for number in range(recipe.scenes)
    ]
    for index, clip in enumerate(clips):
        copies = recipe.copies.get(clip.label, 0)
        if copies:
            work.append((_surrounded, (index, clip, copies, recipe, settings)))
    made = in_parallel(
        work,
        recipe.jobs,
        worth=20,
        progress=lambda done, total: progress and progress("Making events", done, total),
    )
    return _events(list(made))


@dataclass(frozen=True, eq=False)
class Made:
    """Events of one scene or clip."""

    table: NDArray[np.float32]  #: float32 array, shape (n, n_features)
    labels: list[str]
    weights: list[float]
    group: str


def _events(made: Sequence[Made]) -> Events:
    return Events(
        np.concatenate([_NOTHING, *(one.table for one in made)]),
        np.array([label for one in made for label in one.labels], dtype=np.str_),
        np.array([one.group for one in made for _ in one.labels], dtype=np.str_),
        np.array([weight for one in made for weight in one.weights], dtype=np.float64),
        np.full(sum(len(one.labels) for one in made), -1),
        np.full((sum(len(one.labels) for one in made), 2), np.nan),
        np.array(["" for one in made for _ in one.labels], dtype=np.str_),
    )


def _synthetic(number: int, recipe: MadeSettings, settings: AnalysisConfig) -> Made:
    _, scene = numbered_scene(number, recipe.seed, recipe.dataset)
    table, labels = _heard(scene, settings)
    dullness = 1 / (1 + np.exp(3 * (table[:, _RING_CENTROID] - np.log(recipe.dull_below))))
    weights = [
        weight * (1 - (1 - recipe.dull_pop) * float(dull)) if label == "pop" else weight
        for weight, label, dull in zip(_shared(len(labels)), labels, dullness, strict=True)
    ]
    return Made(table, labels, weights, f"{SYNTHETIC_GROUP}{scene.family}")


def _surrounded(
    index: int, clip: RealClip, copies: int, recipe: MadeSettings, settings: AnalysisConfig
) -> Made:
    try:
        recording = read_recording(clip.path)
    except RecordingError:
        return Made(_NOTHING, [], [], clip.group)
    samples = recording.samples[: round(_LONGEST_CLIP * recording.sample_rate)]
    generator = np.random.default_rng([recipe.seed, 1 << 20, index])
    tables = [_NOTHING]
    labels: list[str] = []
    weights: list[float] = []
    for _ in range(copies):
        try:
            scene = embed(generator, samples, recording.sample_rate, clip.label, recipe.embed)
        except ValueError:  # silent or not finite: nothing to hear in it
            break
        table, heard = _heard(scene, settings)
        tables.append(table)
        labels += heard
        weights += [weight / np.sqrt(copies) for weight in _shared(len(heard))]
    return Made(np.concatenate(tables), labels, weights, clip.group)


def _heard(scene: Scene, settings: AnalysisConfig) -> tuple[NDArray[np.float32], list[str]]:
    """Return what the segmentation finds in a scene, labelled by what was put there."""
    extraction = extract(Recording(scene.samples, scene.sample_rate), settings)
    rows, labels = labels_of(extraction, scene.events)
    return extraction.table[rows], labels


def labels_of(
    extraction: Extraction, truth: Sequence[LabelledEvent]
) -> tuple[list[int], list[str]]:
    """Label the segments of a scene.

    Returns
    -------
    (rows, labels)
        Segments that hold two labels are left out; those that hold none are ``other``.
    """
    found: dict[int, set[str]] = {row: set() for row in range(len(extraction.segments))}
    touched = set()
    for event in truth:
        for row in labelled_rows(extraction.segments, (event.start, event.end)):
            found[row].add(event.label)
        touched |= {
            row
            for row, segment in enumerate(extraction.segments)
            if segment.start < event.end and event.start < segment.end
        }
    rows = [row for row, names in found.items() if len(names) == 1 or row not in touched]
    return rows, [next(iter(found[row]), "other") for row in rows]


def _shared(count: int) -> list[float]:
    return [1.0 / np.sqrt(max(1, count))] * count
