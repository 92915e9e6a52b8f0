"""Events made of real clips: of the clip's group, with its label, the same each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from labelled_clips import write_clips

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.datasets.augmentation import MadeSettings, RealClip, made_events
from audio_pipeline.datasets.manifest import in_doubt, read_dataset


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[RealClip]:
    dataset = read_dataset(write_clips(tmp_path_factory.mktemp("made") / "clips"))
    return [
        RealClip(clip.path, clip.label, clip.group)
        for clip in dataset.clips
        if not in_doubt(clip.columns)
    ]


def test_takes_teach_each_clip_in_its_own_group(clips: list[RealClip]) -> None:
    recipe = MadeSettings(copies={}, takes=4, jobs=1)
    first, second = (made_events(AnalysisConfig(), recipe, clips) for _ in range(2))
    np.testing.assert_array_equal(first.table, second.table)
    np.testing.assert_array_equal(first.groups, second.groups)
    known = {(clip.group, clip.label) for clip in clips}
    made = np.char.startswith(first.groups, "made:")
    assert not made.all()
    assert {*zip(first.groups[~made], first.labels[~made], strict=True)} <= known
    assert set(first.labels[made]) <= {"other"}, "handling and the room are no joint"
    assert (first.case == -1).all()
    assert (first.weights > 0).all()


def test_a_take_for_every_third_clip_at_most(clips: list[RealClip]) -> None:
    none = made_events(AnalysisConfig(), MadeSettings(copies={}, takes=9, jobs=1), clips[:2])
    assert len(none) == 0
