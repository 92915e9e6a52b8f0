"""What a model is made of besides the recordings it is given: the recipe of the default model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.datasets.augmentation import MadeSettings, RealClip, made_events
from audio_pipeline.datasets.examples import Events
from audio_pipeline.datasets.loading import Progress
from audio_pipeline.datasets.manifest import Dataset, read_dataset
from audio_pipeline.datasets.synthesis.dataset import write_dataset
from audio_pipeline.model.training import MadeEvents


def made_by(recipe: MadeSettings, embed: bool) -> MadeEvents:
    """Return what makes the events of a recipe for :func:`train`.

    Parameters
    ----------
    recipe : MadeSettings
    embed : bool
        Also put the real clips into new surroundings.
    """

    def make(
        settings: AnalysisConfig, clips: Sequence[RealClip], progress: Progress | None
    ) -> Events:
        return made_events(settings, recipe, clips if embed else (), progress)

    return make


@contextmanager
def read_or_make(
    source: Path | None, synthetic: int, seed: int, group_by: str, progress: Progress
) -> Iterator[Dataset]:
    """Give the dataset to train on: the one named, or made scenes while the block runs.

    Made scenes are grouped by family, so that a model is judged on a family it has not seen. The
    synthetic-only model of a fresh clone is trained like that; its figures are no evidence about
    recordings.
    """
    if source is not None:
        yield read_dataset(source, group_by)
        return
    with tempfile.TemporaryDirectory(prefix="crepitus-") as scratch:
        folder = Path(scratch) / "made"
        write_dataset(
            folder, synthetic, seed, progress=lambda done: progress("Making", done, synthetic)
        )
        made = read_dataset(folder, "family")
        yield replace(made, synthetic=True)
