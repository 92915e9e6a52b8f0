"""Events to train on that nobody recorded: synthetic scenes, and what is made of real clips.

Clips get new surroundings, and gratings are put together of their impacts. None of it is ever
judged. Synthetic figures are no evidence; what is made of a clip keeps its group, so that in
cross-validation it stays on the clip's side of every split.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction, extract
from audio_pipeline.audio.recording import Recording, read_recording
from audio_pipeline.datasets.conditions import in_parallel
from audio_pipeline.datasets.examples import (
    SYNTHETIC_GROUP,
    Events,
    concatenate_events,
    labelled_rows,
    unjudged_events,
)
from audio_pipeline.datasets.manifest import LabelledClip
from audio_pipeline.datasets.synthesis.dataset import DatasetSettings, numbered_scene
from audio_pipeline.datasets.synthesis.resonance import LabelledEvent, Scene
from audio_pipeline.datasets.synthesis.scenes import EmbedSettings, embed, reassemble
from audio_pipeline.exceptions import RecordingError
from audio_pipeline.features.transformer import FEATURE_NAMES

_LONGEST_CLIP = 4.0
_RING_CENTROID = FEATURE_NAMES.index("ring_centroid")
_NOTHING = unjudged_events(
    np.empty((0, len(FEATURE_NAMES)), np.float32), np.array([], np.str_), np.array([], np.str_)
)


@dataclass(frozen=True)
class MadeSettings:
    """What is made."""

    scenes: int = 0  #: Synthetic scenes and clips, all families together
    #: New surroundings for each real clip of a label: more of what is rare
    copies: Mapping[str, int] = field(default_factory=lambda: {"pop": 8, "grating": 6, "other": 2})
    #: Gratings put together of the impacts of each real clip of a label: twice the sources of
    #: gratings
    reassembled: Mapping[str, int] = field(default_factory=lambda: {"pop": 4, "grating": 4})
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


Progress = Callable[[str, int, int], None]


def made_events(
    settings: AnalysisConfig,
    recipe: MadeSettings,
    clips: Sequence[LabelledClip] = (),
    progress: Progress | None = None,
) -> Events:
    """Make events, the same for the same recipe and clips.

    Parameters
    ----------
    settings : AnalysisConfig
        Those of the model.
    recipe : MadeSettings
    clips : sequence of LabelledClip
        Recordings with one label each, to put into new surroundings; longer ones are cut to 4 s.
    progress : callable or None

    Returns
    -------
    Events
        With -1 for every case; weights 1 / sqrt(events of the scene), those of a clip's copies
        shared among them so that a clip weighs the same however often it is copied.
    """
    work: list[tuple[Callable[..., Events], tuple[object, ...]]] = [
        (_synthetic, (number, recipe, settings)) for number in range(recipe.scenes)
    ]
    for index, clip in enumerate(clips):
        for again, copies in enumerate((recipe.copies, recipe.reassembled)):
            if number := copies.get(clip.label, 0):
                work.append((_of_clip, (index, clip, number, bool(again), recipe, settings)))
    made = in_parallel(
        work,
        recipe.jobs,
        worth=20,
        progress=lambda done, total: progress and progress("Making events", done, total),
    )
    return concatenate_events(_NOTHING, *made)


def _synthetic(number: int, recipe: MadeSettings, settings: AnalysisConfig) -> Events:
    _, scene = numbered_scene(number, recipe.seed, recipe.dataset)
    events = _heard(scene, settings, f"{SYNTHETIC_GROUP}{scene.family}")
    dullness = 1 / (1 + np.exp(3 * (events.table[:, _RING_CENTROID] - np.log(recipe.dull_below))))
    weighed = np.where(events.labels == "pop", 1 - (1 - recipe.dull_pop) * dullness, 1.0)
    return replace(events, weights=events.weights * weighed)


def _of_clip(
    index: int,
    clip: LabelledClip,
    copies: int,
    again: bool,
    recipe: MadeSettings,
    settings: AnalysisConfig,
) -> Events:
    """Put a clip into new surroundings, or make gratings of its impacts."""
    try:
        recording = read_recording(clip.path)
    except RecordingError:
        return _NOTHING
    samples = recording.samples[: round(_LONGEST_CLIP * recording.sample_rate)]
    generator = np.random.default_rng([recipe.seed, (1 << 20) + again, index])
    given = samples, recording.sample_rate
    made = []
    for _ in range(copies):
        try:
            if again:
                scene = reassemble(generator, *given, recipe.embed)
            else:
                scene = embed(generator, *given, clip.label, recipe.embed)
        except ValueError:  # silent or not finite: nothing to hear in it
            break
        events = _heard(scene, settings, clip.group)
        made.append(replace(events, weights=events.weights / np.sqrt(copies)))
    return concatenate_events(_NOTHING, *made)


def _heard(scene: Scene, settings: AnalysisConfig, group: str) -> Events:
    """Return what the segmentation finds in a scene, labelled by what was put there."""
    extraction = extract(Recording(scene.samples, scene.sample_rate), settings)
    rows, labels = labels_of(extraction, scene.events)
    weights = np.full(len(rows), 1.0 / np.sqrt(max(1, len(rows))))
    return unjudged_events(
        extraction.table[rows], np.array(labels, np.str_), np.full(len(rows), group), weights
    )


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
