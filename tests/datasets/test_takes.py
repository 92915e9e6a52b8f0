"""Takes: the truth is where it says, groups stay apart, the same seed gives the same bytes."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled_clips import write_clips

from audio_pipeline.analysis.events import SOUNDS
from audio_pipeline.analysis.guided import phases_in_comment
from audio_pipeline.app.cli import main
from audio_pipeline.audio.recording import open_recording, read_recording
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.datasets.takes import (
    Take,
    TakeSettings,
    clip_folds,
    make_takes,
    take_clips,
    write_takes,
)
from audio_pipeline.exceptions import InvalidInputError


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clips(tmp_path_factory.mktemp("takes") / "clips")


@pytest.fixture(scope="module")
def takes(clips: Path) -> list[Take]:
    folds = clip_folds(take_clips(read_dataset(clips)), 3, 0)
    return list(make_takes(folds, 12, 7, jobs=1))


def test_folds_hold_whole_groups_and_no_doubt(clips: Path) -> None:
    given = take_clips(read_dataset(clips))
    assert "egg" not in {clip.columns["kind"] for clip in given}
    folds = clip_folds(given, 3, 0)
    assert sum(len(fold) for fold in folds) == len(given)
    owners = Counter(group for fold in folds for group in {clip.group for clip in fold})
    assert set(owners.values()) == {1}
    assert all({clip.label for clip in fold} == {"pop", "grating", "other"} for fold in folds)
    with pytest.raises(InvalidInputError, match="two groups"):
        clip_folds([clip for clip in given if clip.group == "group 1"], 3, 0)


def test_a_take_is_what_its_truth_says(takes: list[Take]) -> None:
    settings = TakeSettings()
    for take in takes:
        samples, rate = take.recording.samples, take.recording.sample_rate
        assert rate in settings.sample_rates
        assert len(samples) == round(settings.duration * rate) == 20 * rate
        assert np.abs(samples).max() <= 1
        assert take.events
        assert all(0 <= event.start < event.end <= 20 for event in take.events)
        joints = Counter(event.label for event in take.events if event.label != "other")
        assert SOUNDS[take.finding] == set(joints)
        assert (take.finding == "repeated_pops") == (joints["pop"] > 1 and not joints["grating"])
        level = np.abs(samples)
        for event in take.events:
            if event.snr > 20 and event.label in {"pop", "grating"}:
                first, last = round(event.start * rate), round(event.end * rate)
                assert level[first : last + rate // 100].max() > 2 * np.percentile(level, 50)
    assert {take.finding for take in takes} >= {"nothing_recognised", "grating"}


def test_guided_takes_keep_joint_sounds_in_the_turns(takes: list[Take]) -> None:
    guided = [take for take in takes if take.phases]
    assert 0 < len(guided) < len(takes)
    for take in guided:
        phases = phases_in_comment(take.comment, take.recording.duration)
        assert phases == take.phases
        turns = [phase for phase in phases if phase.kind == "turn"]
        for event in take.events:
            if event.label != "other":
                assert turns[0].start <= event.start <= turns[-1].end
    assert any(sum(e.label == "grating" for e in take.events) >= 3 for take in guided)


@pytest.mark.parametrize(("label", "other_name"), [("grating", "rasp"), ("pop", "snap")])
def test_other_labels_than_ours_are_refused_by_name(
    clips: Path, tmp_path: Path, label: str, other_name: str
) -> None:
    dataset = read_dataset(clips)
    renamed = [
        replace(clip, label=other_name) if clip.label == label else clip for clip in dataset.clips
    ]
    with pytest.raises(InvalidInputError, match=label):
        write_takes(replace(dataset, clips=tuple(renamed)), tmp_path / "takes", 2, 0)
    assert not (tmp_path / "takes").exists()


def test_groups_of_two_folds_never_meet(takes: list[Take]) -> None:
    folds: dict[str, set[str]] = {}
    for take in takes:
        for group in take.groups:
            folds.setdefault(group, set()).add(take.fold)
    assert len(folds) > 3
    assert all(len(names) == 1 for names in folds.values())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes(clips: Path, tmp_path: Path) -> None:
    dataset = read_dataset(clips)
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    summary = write_takes(dataset, first, 4, 3, n_folds=2)
    write_takes(dataset, again, 4, 3, n_folds=2)
    write_takes(dataset, other, 4, 4, n_folds=2)
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    for name in files:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name
    assert (first / "manifest.csv").read_bytes() != (other / "manifest.csv").read_bytes()
    assert sum(summary["findings"].values()) == summary["count"] == 4
    with pytest.raises(InvalidInputError, match="empty folder"):
        write_takes(dataset, first, 4, 3)
    for count, seed in ((0, 0), (4, -1)):
        with pytest.raises(InvalidInputError):
            write_takes(dataset, tmp_path / "no", count, seed)


@pytest.mark.slow
def test_evaluate_reads_what_takes_writes(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "takes"
    command = ["takes", str(clips), "-o", str(out), "--count", "6", "--guided", "--folds", "3"]
    with pytest.raises(SystemExit) as done:
        main([*command, "--json"])
    assert done.value.code == 0
    assert json.loads(capsys.readouterr().out)["count"] == 6
    with (out / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["guided"] for row in rows} == {"yes"}
    assert all(read_recording(out / row["file"]).duration == 20 for row in rows[:2])
    with open_recording(out / rows[0]["file"]) as reader:
        assert phases_in_comment(reader.comment, 20.0)
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(out), "--json"])
    assert done.value.code == 0
    scores = json.loads(capsys.readouterr().out)["takes"]
    assert scores["count"] == 6
    assert scores["without_protocol"]["count"] == 6
    assert [row["name"] for row in scores["by"]["guided"]] == ["yes"]
    with pytest.raises(SystemExit) as done:
        main(["takes", str(clips), "-o", str(out)])
    assert done.value.code == 2
