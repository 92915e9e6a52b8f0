"""The recordings that the repository ships: small, readable, and labelled where they sound."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from audio_pipeline.audio.recording import read_recording
from audio_pipeline.datasets.manifest import read_dataset

DATASETS = Path(__file__).parents[3] / "datasets"
SAMPLES = DATASETS / "samples"
FILES = sorted(SAMPLES.glob("*.flac"))


def test_samples_are_small_and_all_in_the_manifest() -> None:
    dataset = read_dataset(SAMPLES)
    assert {clip.path.name for clip in dataset.clips} == {path.name for path in FILES}
    assert dataset.labels == ("grating", "other", "pop")
    assert all(path.stat().st_size < 200_000 for path in FILES)
    assert sum(path.stat().st_size for path in FILES) < 1_500_000


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_labels_stand_where_the_sound_is(path: Path) -> None:
    recording = read_recording(path)
    level = np.abs(recording.samples)
    room = np.percentile(level, 50)
    for clip in read_dataset(SAMPLES).clips:
        if clip.path.name == path.name and clip.start is not None and clip.end is not None:
            assert 0 <= clip.start < clip.end <= recording.duration
            first, last = (round(at * recording.sample_rate) for at in (clip.start, clip.end))
            assert level[first : last + 50].max() > 3 * room


def test_samples_can_be_made_again(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_samples", DATASETS / "make_samples.py")
    assert spec
    assert spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    maker.main(tmp_path)
    made, shipped = (
        [(clip.path.name, clip.label, clip.columns["kind"]) for clip in read_dataset(where).clips]
        for where in (tmp_path, SAMPLES)
    )
    assert made == shipped
    for path in FILES:
        old, new = read_recording(path), read_recording(tmp_path / path.name)
        assert new.duration == pytest.approx(old.duration, abs=0.5)


def test_the_example_table_is_one_that_train_reads(tmp_path: Path) -> None:
    with (DATASETS / "manifest_example.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "manifest.csv").write_text((DATASETS / "manifest_example.csv").read_text())
    dataset = read_dataset(tmp_path)
    assert len(dataset.clips) == len(rows)
    assert dataset.has_groups
    assert {clip.columns["felt_release"] for clip in dataset.clips} == {"yes", "no", "unsure"}
