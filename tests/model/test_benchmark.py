"""The open benchmark: splits to use again, results that can be checked and compared."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from labelled_sounds import write_people

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.app.cli import app
from audio_pipeline.datasets.examples import Events
from audio_pipeline.datasets.loading import TrainingData, load_training_data
from audio_pipeline.datasets.manifest import LabelledClip, read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.benchmark import (
    Splits,
    folds_of,
    in_order,
    make_splits,
    rank,
    read_result,
    read_splits,
    run_benchmark,
)
from audio_pipeline.model.scoring import HEADLINE
from audio_pipeline.model.selection import TrainingSettings

QUICK = ("--estimator", "logistic", "--folds", "2", "--no-controls")


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("people") / "set", people=4, each=1)


@pytest.fixture(scope="module")
def material(people: Path) -> TrainingData:
    return load_training_data(read_dataset(people))


@pytest.fixture(scope="module")
def done(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("benchmark") / "out"
    crepitus(people, "-o", out, *QUICK)
    return out


def crepitus(*arguments: object, code: int = 0) -> str:
    ran = CliRunner().invoke(app, ["benchmark", *map(str, arguments)], standalone_mode=False)
    if code == 0:
        assert ran.exception is None, ran.exception
    return f"{ran.output}{ran.exception or ''}"


def renamed(people: Path, folder: Path) -> Path:
    """Copy a dataset with its rows the other way round and other names for all."""
    folder.mkdir()
    with (people / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", "label", "group"))
        for number, row in enumerate(reversed(rows)):
            shutil.copy(people / row["file"], folder / f"{number}.wav")
            table.writerow((f"{number}.wav", row["label"], f"z{row['group'][::-1]}"))
    return folder


class TestSplits:
    def test_names_and_order_do_not_matter(
        self, people: Path, material: TrainingData, tmp_path: Path
    ) -> None:
        other = load_training_data(read_dataset(renamed(people, tmp_path / "other")))
        assert make_splits(other, 3, 1).sha256 == make_splits(material, 3, 1).sha256
        assert make_splits(other, 3, 2).sha256 != make_splits(material, 3, 1).sha256

    def test_each_recording_is_tested_once_and_no_group_is_torn(
        self, material: TrainingData
    ) -> None:
        folds = folds_of(make_splits(material, 3), material)
        tested = np.concatenate([fold.test for fold in folds])
        assert sorted(tested) == list(range(len(material.usable)))
        groups = material.groups[in_order(material)]
        for fold in folds:
            assert not set(groups[fold.train]) & set(groups[fold.test])

    def test_other_recordings_or_torn_groups_are_refused(self, material: TrainingData) -> None:
        splits = make_splits(material, 2)
        less = Splits(folds=[splits.folds[0], splits.folds[1][1:]])
        with pytest.raises(InvalidInputError, match="others"):
            folds_of(less, material)
        torn = Splits(folds=[sorted({*splits.folds[0], splits.folds[1][0]}), splits.folds[1][1:]])
        with pytest.raises(InvalidInputError, match="apart"):
            folds_of(torn, material)

    @pytest.mark.parametrize("text", ["", "[]", "{}", '{"folds": [["../x"], []]}', '{"folds": 1}'])
    def test_what_is_no_file_of_splits_is_refused(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "s.json").write_text(text)
        with pytest.raises(InvalidInputError, match="no file of splits"):
            read_splits(tmp_path / "s.json")


class TestResults:
    def test_the_same_splits_give_the_same_answers_elsewhere(
        self, people: Path, done: Path, tmp_path: Path
    ) -> None:
        other = renamed(people, tmp_path / "other")
        crepitus(other, "-o", tmp_path / "out", "--splits", done / "splits.json", *QUICK)
        first, second = (read_result(at / "logistic.json") for at in (done, tmp_path / "out"))
        assert first.task.splits == second.task.splits
        for here, there in zip(first.cases, second.cases, strict=True):
            assert here.probabilities == pytest.approx(there.probabilities, abs=1e-4)
            assert here.model_dump(exclude={"probabilities"}) == there.model_dump(
                exclude={"probabilities"}
            )

    def test_no_name_of_a_recording_or_person_is_in_a_result(self, done: Path) -> None:
        for file in done.glob("*.json"):
            text = file.read_text()
            assert "person" not in text
            assert ".wav" not in text

    def test_figures_that_are_not_those_of_the_answers_are_refused(
        self, done: Path, tmp_path: Path
    ) -> None:
        given = json.loads((done / "logistic.json").read_text())
        given["metrics"][HEADLINE] = 0.123
        (tmp_path / "x.json").write_text(json.dumps(given))
        with pytest.raises(InvalidInputError, match="not those of its answers"):
            read_result(tmp_path / "x.json")

    def test_a_better_one_comes_first_and_one_is_not_behind_itself(self, done: Path) -> None:
        good = read_result(done / "logistic.json")
        wrong = [
            one.model_copy(update={"likeliest": good.labels[number % 3]})
            for number, one in enumerate(good.cases)
        ]
        bad = good.model_copy(
            update={"cases": wrong, "estimator": "a", "metrics": {**good.metrics, HEADLINE: 0.01}}
        )
        elsewhere = good.model_copy(
            update={"task": good.task.model_copy(update={"splits": "0" * 64})}
        )
        ranking = rank([bad, good, elsewhere, good])
        assert [len(places) for places in ranking] == [3, 1]
        assert [place.result.estimator for place in ranking[0]] == ["logistic", "logistic", "a"]
        assert [place.behind for place in ranking[0][:2]] == [0, 0]
        assert not ranking[0][1].told_apart
        assert ranking[0][2].behind > 0

    def test_what_is_made_of_a_clip_goes_by_the_name_of_its_group(
        self, material: TrainingData, done: Path
    ) -> None:
        """Groups have names of their own here; under others it would teach about the tested."""

        class Seen(Exception):
            pass

        def made(config: AnalysisConfig, clips: Sequence[LabelledClip], progress: Any) -> Events:
            raise Seen(clips)

        groups = {case.recording: case.group for case in read_result(done / "logistic.json").cases}
        with pytest.raises(Seen) as seen:
            list(run_benchmark(material, make_splits(material, 2), [TrainingSettings()], made=made))
        (clips,) = seen.value.args
        digests = {clip.path: material.surveys[clip.name].digest for clip in material.dataset.clips}
        assert len(clips) == len(material.cases)
        assert all(clip.group == groups[digests[clip.path]] for clip in clips)


class TestCommand:
    def test_a_folder_can_grow_and_be_ranked_again(
        self, people: Path, done: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        shutil.copytree(done, out)
        before = (out / "splits.json").read_bytes()
        arguments = ("--estimator", "neighbors", "--no-controls", "--json")
        document: dict[str, Any] = json.loads(crepitus(people, "-o", out, *arguments))
        assert {one["estimator"] for one in document["ranking"][0]} == {"logistic", "neighbors"}
        assert (out / "splits.json").read_bytes() == before
        (out / "ranking.html").unlink()
        assert "1. " in crepitus("-o", out)
        assert "neighbors" in (out / "ranking.html").read_text()

    def test_a_result_that_is_refused_can_be_made_again(
        self, people: Path, done: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        shutil.copytree(done, out)
        whole = (out / "logistic.json").read_text()
        given = json.loads(whole)
        given["metrics"][HEADLINE] = 0.123
        (out / "logistic.json").write_text(json.dumps(given))
        crepitus(people, "-o", out, "--estimator", "logistic", "--no-controls")
        assert (out / "logistic.json").read_text() == whole

    def test_what_is_somebody_elses_stays(self, people: Path, tmp_path: Path) -> None:
        (tmp_path / "logistic.json").write_text("{}")
        assert "not made by Crepitus" in crepitus(people, "-o", tmp_path, *QUICK, code=2)
        assert [path.name for path in tmp_path.iterdir()] == ["logistic.json"]

    def test_other_splits_do_not_come_into_a_folder(self, done: Path, tmp_path: Path) -> None:
        given = json.loads((done / "splits.json").read_text())
        given["folds"][0].append("0" * 32)
        (tmp_path / "s.json").write_text(json.dumps(given))
        said = crepitus("-o", done, "--splits", tmp_path / "s.json", code=2)
        assert "other splits" in said

    def test_a_folder_keeps_to_its_number_of_folds(self, people: Path, done: Path) -> None:
        before = (done / "splits.json").read_bytes()
        said = crepitus(people, "-o", done, "--estimator", "logistic", "--folds", "3", code=2)
        assert "--folds 3" in said
        assert "have 2" in said
        assert (done / "splits.json").read_bytes() == before

    def test_what_cannot_be_ranked_is_said_before_any_work(
        self, people: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.json").write_text("{}")
        assert "no result of a benchmark" in crepitus(people, "-o", tmp_path, *QUICK, code=2)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.json"]

    @pytest.mark.slow
    def test_what_is_learnt_besides_has_its_own_row(self, people: Path, tmp_path: Path) -> None:
        data, out = tmp_path / "data", tmp_path / "out"
        shutil.copytree(people, data)
        manifest = data / "manifest.csv"
        text = manifest.read_text()
        for mine, ours in (("clunk,", "other,"), ("rasp,", "grating,"), ("tick,", "pop,")):
            text = text.replace(mine, ours)
        manifest.write_text(text)
        crepitus(data, "-o", out, *QUICK, "--sample-rate", "2000")
        for asked in (("--synthetic", "3"), ("--embed",)):
            crepitus(data, "-o", out, *QUICK, "--sample-rate", "2000", *asked)
        (places,) = json.loads(crepitus("-o", out, "--json"))["ranking"]
        besides = sorted((place["besides"] for place in places), key=lambda one: sorted(one))
        assert besides == [
            {"embed": 1, "sample_rate": 2000},
            {"sample_rate": 2000},
            {"sample_rate": 2000, "synthetic": 3},
        ]
        assert "embed=1" in (out / "ranking.html").read_text()
        answers = {
            str([one.probabilities for one in read_result(file).cases])
            for file in out.glob("logistic*.json")
        }
        assert len(answers) == 3

    @pytest.mark.slow
    def test_controls_are_asked_of_every_estimator(self, people: Path, tmp_path: Path) -> None:
        crepitus(people, "-o", tmp_path / "out", "--estimator", "logistic", "--folds", "2")
        controls = read_result(tmp_path / "out" / "logistic.json").controls
        assert {"quiet", "length", "permuted"} <= {one.name for one in controls}
