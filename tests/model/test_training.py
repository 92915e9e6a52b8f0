"""Retraining end to end: labels and rates nobody planned for, honest refusals, the same twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_clips import write_clips

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import analyze_file
from audio_pipeline.app.cli import main
from audio_pipeline.app.reporting.model_card import card_and_plots
from audio_pipeline.audio.recording import Recording, read_recording, write_recording
from audio_pipeline.datasets.examples import annotate_recording
from audio_pipeline.datasets.loading import load_training_data
from audio_pipeline.datasets.manifest import Dataset, LabelledClip, read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.classifier import Classifier, load_classifier
from audio_pipeline.model.estimator import ContinuedForest, base_forest, last_step
from audio_pipeline.model.evaluation import evaluate
from audio_pipeline.model.selection import TrainingSettings
from audio_pipeline.model.training import EVALUATION, Training
from audio_pipeline.model.training import train as train_model
from tests.labelled_sounds import LABELS, sound, write_people

SMALL = TrainingSettings(params={"n_estimators": 8}, search_trees=3, inner_folds=2, folds=2)
KEYS = {
    "balanced_accuracy",
    "recording_balanced_accuracy",
    "auc",
    "coverage",
    "ece",
    "shortcut_balanced_accuracy",
    "n_recordings",
    "n_groups",
    "scheme",
}


def train(
    data: Dataset, folder: Path, settings: TrainingSettings = SMALL, base: Classifier | None = None
) -> Training:
    """Train as the command does."""
    return train_model(data, folder, settings=settings, base=base, extra_files=card_and_plots)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("data") / "people")


@pytest.fixture(scope="module")
def trained(people: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Path]:
    folder = tmp_path_factory.mktemp("models") / "model"
    return train(read_dataset(people), folder, SMALL), folder


def _codes(training: Training) -> set[str]:
    return {one.code for one in training.data_warnings}


def test_three_labels_nobody_planned_for_at_2_khz(trained: tuple[Training, Path]) -> None:
    result, folder = trained
    assert set(result.metrics) >= KEYS
    assert result.metrics["recording_balanced_accuracy"] > 0.8
    assert result.metrics["n_recordings"] == 24
    assert result.metrics["n_groups"] == 4
    assert "shortcut" not in _codes(result)
    loaded = load_classifier(folder)
    assert loaded.labels == LABELS
    assert loaded.settings.sample_rate == 2000
    json.dumps(result.to_dict(), allow_nan=False)


def test_the_model_hears_a_new_recording(trained: tuple[Training, Path], tmp_path: Path) -> None:
    classifier = load_classifier(trained[1])
    path = tmp_path / "new.wav"
    samples = sound(np.random.default_rng(99), "rasp", 2000)
    write_recording(path, Recording(samples, 2000))
    analysis = analyze_file(path, classifier)
    assert analysis.finding is not None
    assert analysis.finding.label == "rasp"


def test_its_result_is_shown_on_a_few_lines(trained: tuple[Training, Path]) -> None:
    assert len(repr(trained[0])) < 500


def test_the_card_says_what_it_is(trained: tuple[Training, Path]) -> None:
    card = (trained[1] / "CARD.md").read_text()
    for part in ("person 2", "clunk", "Never measured", "Intended use", "not stated"):
        assert part in card
    plots = {path.name for path in trained[1].iterdir()}
    assert plots >= {"risk_coverage.svg", "reliability.svg", "groups.svg"}


def test_the_card_names_published_recordings() -> None:
    from spoken_cases import case_of

    from audio_pipeline.app.reporting.model_card import recordings_table

    case = case_of("pop", ["pop"])
    assert not recordings_table([case]).rows
    stated = replace(case, columns={"licence": "CC BY 4.0", "source": "a|b\nc"})
    rows = recordings_table([stated, stated]).markdown()
    assert rows.count("| x.wav | pop | g | CC BY 4.0 | a\\|b c |") == 1


def test_names_are_no_html_in_the_card(trained: tuple[Training, Path]) -> None:
    names = {"name": "=<i>x</i>", "labels": ("<b>&tick", "clunk")}
    odd = replace(trained[0], classifier=replace(trained[0].classifier, **names))
    card = card_and_plots(odd)["CARD.md"].decode()
    assert "&lt;b>&amp;tick" in card
    assert "<" not in card


def test_the_same_seed_gives_the_same_folder(
    people: Path, trained: tuple[Training, Path], tmp_path: Path
) -> None:
    train(read_dataset(people), tmp_path / "again", SMALL)
    for path in trained[1].iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_model_is_never_overwritten(people: Path, trained: tuple[Training, Path]) -> None:
    with pytest.raises(InvalidInputError, match="already exists"):
        train(read_dataset(people), trained[1], SMALL)


def test_one_label_is_refused(tmp_path: Path) -> None:
    data = write_people(tmp_path / "data", people=1, labels=("tick",))
    with pytest.raises(InvalidInputError, match="'tick'"):
        train(read_dataset(data), tmp_path / "model", SMALL)


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        *[("folds", 1), ("folds", 2.5), ("inner_folds", 0), ("search_trees", 0), ("takes", -1)],
        *[("seed", "a"), ("seed", -1), ("seed", None), ("kind_balance", 1.5)],
        *[("background_weight", 0.0), ("least_kept", float("nan")), ("group_balance", "all")],
    ],
)
def test_a_recipe_with_an_odd_number_is_refused_by_name(name: str, odd: Any) -> None:
    with pytest.raises(InvalidInputError, match=name):
        replace(SMALL, **{name: odd})


def test_a_mistyped_feature_is_named_with_those_like_it() -> None:
    with pytest.raises(InvalidInputError, match=r"'crest'.*crest_factor"):
        replace(SMALL, feature_names=("duration", "crest"))


def test_no_accuracy_where_a_group_would_be_on_both_sides(tmp_path: Path) -> None:
    data = read_dataset(write_people(tmp_path / "data", people=1, each=3))
    alone = train(data, tmp_path / "alone", SMALL)
    assert "no_honest_split" in _codes(alone)
    for key in ("balanced_accuracy", "recording_balanced_accuracy", "auc"):
        assert alone.metrics[key] is None
    assert "No figure is given" in (tmp_path / "alone" / "CARD.md").read_text()
    forced = replace(SMALL, ignore_groups=True)
    told = train(data, tmp_path / "told", forced)
    assert told.metrics["recording_balanced_accuracy"] is not None
    assert "groups_ignored" in _codes(told)


@pytest.fixture(scope="module")
def doubtful(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    """Copies under two labels, a label recorded in another room, no groups, a broken file."""
    folder = tmp_path_factory.mktemp("doubtful") / "data"
    rng = np.random.default_rng(5)
    for path in people.glob("*.wav"):
        person, label, take = path.stem.split("_")
        target = folder / label / f"{person}{take}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        recording = read_recording(path)
        hiss = rng.normal(0, 0.01 if label == "tick" else 0.0, recording.samples.size)
        noisy = Recording((recording.samples + hiss).astype(np.float32), 2000)
        write_recording(target, noisy, "16-bit")
    original = read_recording(folder / "rasp" / "p10.wav")
    copy = np.concatenate([np.zeros(321, np.float32), original.samples * 0.5])
    write_recording(folder / "clunk" / "copy.wav", Recording(copy, 2000), "16-bit")
    (folder / "tick" / "broken.wav").write_bytes(b"RIFF")
    return train(read_dataset(folder), folder.parent / "model", SMALL)


def test_copies_under_two_labels_are_named_first(doubtful: Training) -> None:
    texts = {one.code: one.text for one in doubtful.data_warnings}
    assert "clunk/copy.wav = rasp/p10.wav" in texts["duplicate_labels"]
    assert "clunk/copy.wav = rasp/p10.wav" in texts["duplicate"]
    codes = [one.code for one in doubtful.data_warnings]
    assert codes.index("duplicate_labels") < codes.index("duplicate")
    assert doubtful.cross_validation is not None
    groups = {
        one.case.name: group
        for one, group in zip(
            doubtful.cross_validation.predictions,
            doubtful.cross_validation.table.groups,
            strict=True,
        )
    }
    assert groups["clunk/copy.wav"] == groups["rasp/p10.wav"] != groups["rasp/p00.wav"]


def test_doubts_are_said(doubtful: Training) -> None:
    assert _codes(doubtful) >= {"no_groups", "few_samples", "unreadable"}
    assert doubtful.metrics["n_recordings"] == 25


@pytest.mark.slow
def test_starting_from_a_model_keeps_its_labels_and_adds_new_ones(
    trained: tuple[Training, Path], tmp_path: Path
) -> None:
    base = load_classifier(trained[1])
    data = write_people(tmp_path / "data", people=3, each=1, labels=("clunk", "tick"), seed=9)
    for path in list(data.glob("*tick*")):
        path.rename(path.with_name(path.name.replace("tick", "snap")))
    table = (data / "manifest.csv").read_text().replace("tick", "snap")
    (data / "manifest.csv").write_text(table)
    result = train(read_dataset(data), tmp_path / "model", SMALL, base)
    assert result.classifier.labels == ("clunk", "rasp", "snap", "tick")
    assert result.classifier.description["training"]["base"]["sha256"] == base.sha256
    assert "overlap" in _codes(result), "persons 0 to 2 were in the first model"
    seen = set(base.description["training"]["recordings"])
    assert seen < set(result.classifier.description["training"]["recordings"])


def test_recordings_that_do_not_suit_the_model_to_start_from(
    trained: tuple[Training, Path], tmp_path: Path
) -> None:
    base = load_classifier(trained[1])
    data = tmp_path / "data"
    for label in ("clunk", "tick"):
        (data / label).mkdir(parents=True)
        slow = Recording(sound(np.random.default_rng(0), label, 1000), 1000)
        write_recording(data / label / "slow.wav", slow)
    with pytest.raises(InvalidInputError, match="can be used"):
        train(read_dataset(data), tmp_path / "model", SMALL, base)


def test_one_recording_of_a_low_rate_lowers_it_for_all_and_that_is_said(tmp_path: Path) -> None:
    data = write_people(tmp_path / "data", people=2, each=1, rate=22_050)
    slow = Recording(sound(np.random.default_rng(0), "tick", 8000), 8000)
    write_recording(data / "p0_tick_0.wav", slow)
    lowered = load_training_data(read_dataset(data))
    assert lowered.settings.sample_rate == 8000
    (said,) = [one.text for one in lowered.data_warnings if one.code == "lower_rate"]
    assert "p0_tick_0.wav" in said
    kept = load_training_data(read_dataset(data), AnalysisConfig())
    assert kept.settings.sample_rate == 22_050
    assert "lower_rate" not in {one.code for one in kept.data_warnings}


def test_continuing_moves_the_leaves_that_new_events_reach(
    trained: tuple[Training, Path],
) -> None:
    base = load_classifier(trained[1])
    forest = last_step(base.estimator)
    rows = np.random.default_rng(0).normal(size=(30, forest.n_features_in_)).astype(np.float32)
    before = forest.predict_proba(rows)
    start = base_forest(base.estimator, base.name)
    more, weights = np.concatenate([rows, rows[:3]]), np.r_[np.ones(30), np.zeros(3)]
    names = np.array(["tick"] * 30 + ["clunk", "rasp", "tick"])
    firm, soft = (
        ContinuedForest(start, LABELS, strength).fit(more, names, weights)
        for strength in (1e9, 1.0)
    )
    for one in (firm, soft):
        assert one.forest_.n_estimators == 2 * forest.n_estimators
        assert one.classes_.tolist() == sorted(LABELS)
    old = np.mean([t.predict_proba(rows) for t in firm.forest_.estimators_[:8]], axis=0)
    np.testing.assert_allclose(old, before, atol=1e-6)
    tick = LABELS.index("tick")
    assert (soft.predict_proba(rows)[:, tick] > before[:, tick]).all()
    names = np.where(names == "tick", "snap", names)
    names[-1] = "tick"
    wider = ContinuedForest(start, ("clunk", "rasp", "snap", "tick")).fit(more, names, weights)
    assert wider.predict_proba(rows).argmax(axis=1).tolist() == [2] * 30
    np.testing.assert_array_equal(forest.predict_proba(rows), before, "the base is as it was")


def test_a_label_reaches_every_segment_or_the_whole_file(people: Path) -> None:
    dataset = read_dataset(people)
    name, clips = next(iter(dataset.recordings.items()))
    settings = AnalysisConfig().at_rate(2000)
    heard = annotate_recording(name, clips, settings)
    (case,) = heard.cases
    assert len(case.table) == len(heard.extraction.segments) >= 3
    hiss = Recording(np.random.default_rng(0).normal(0, 1e-3, 4000), 2000)
    nothing = LabelledClip(clips[0].path, "quiet.wav", "tick", "g")
    (whole,) = annotate_recording("quiet.wav", [nothing], settings, hiss).cases
    assert len(whole.extraction.segments) == 0
    assert len(whole.table) == 1


def test_labelled_stretches_are_cases_of_their_own(people: Path) -> None:
    path = people / "p0_clunk_0.wav"
    spans = [("a", 0.3, 0.6), ("b", 0.85, 1.2), ("b", 1.4, 1.7), ("c", 1.75, 1.85)]
    clips = [LabelledClip(path, "x.wav", label, "g", start, end) for label, start, end in spans]
    heard = annotate_recording("x.wav", clips, AnalysisConfig().at_rate(2000))
    assert [case.label for case in heard.cases] == ["a", "b", "b", "c"]
    assert [len(case.table) for case in heard.cases] == [1, 1, 1, 1]
    assert [len(case.extraction.segments) for case in heard.cases] == [1, 1, 1, 0]
    same = [LabelledClip(path, "x.wav", "a", "g", start, end) for _, start, end in spans[:2]]
    (one,) = annotate_recording("x.wav", same, AnalysisConfig().at_rate(2000)).cases
    assert one.stretch is None
    assert len(one.table) == 2
    assert len(one.extraction.segments) == 3, "the answer is about the whole recording"


@pytest.mark.slow
def test_the_command_prints_one_document(
    people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model"
    small = ["--param", "n_estimators=4", "--folds", "2"]
    with pytest.raises(SystemExit) as done:
        main(["train", str(people), "-o", str(model), *small, "--json"])
    assert done.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["model"] == str(model)
    assert set(document["metrics"]) >= KEYS
    assert all(set(one) == {"code", "text"} for one in document["warnings"])
    with pytest.raises(SystemExit) as done:
        main(["train", str(people), "-o", str(model), *small])
    assert done.value.code == 2
    assert "already exists" in capsys.readouterr().err


def test_the_command_refuses_what_it_cannot_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([str(tmp_path)], [], [str(tmp_path), "--param", "n_estimators=0"]):
        with pytest.raises(SystemExit) as done:
            main(["train", *arguments, "-o", str(tmp_path / "model")])
        assert done.value.code == 2
        assert capsys.readouterr().err.strip()
    assert not (tmp_path / "model").exists()


@pytest.mark.slow
def test_high_rate_labels_in_folders(tmp_path: Path) -> None:
    data = write_people(tmp_path / "data", people=4, each=2, rate=44_100)
    for path in list(data.glob("*.wav")):
        person, label, _ = path.stem.split("_")
        (data / label / person).mkdir(parents=True, exist_ok=True)
        shutil.move(path, data / label / person / path.name)
    (data / "manifest.csv").unlink()
    result = train(read_dataset(data), tmp_path / "model", SMALL)
    assert result.metrics["n_groups"] == 4
    assert result.classifier.settings.sample_rate == 22_050
    assert result.metrics["recording_balanced_accuracy"] > 0.7


@pytest.mark.slow
def test_made_sounds_alone_and_beside_real_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--param", "n_estimators=4", "--folds", "2", "--no-controls", "--json"]
    documents = []
    data = write_people(
        tmp_path / "data", people=3, each=1, rate=22_050, labels=("pop", "grating", "other")
    )
    both = [str(data), "--synthetic", "8", "--embed", "--takes", "4"]
    for name, arguments in (("alone", ["--synthetic", "24"]), ("one", both), ("two", both)):
        with pytest.raises(SystemExit) as done:
            main(["train", *arguments, "-o", str(tmp_path / name), *small])
        assert done.value.code == 0
        documents.append(json.loads(capsys.readouterr().out))
    first, second = (tmp_path / name / "model.json" for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    alone, beside, _ = documents
    assert "synthetic_only" in {one["code"] for one in alone["warnings"]}
    assert "synthetic_only" not in {one["code"] for one in beside["warnings"]}
    assert beside["metrics"]["n_recordings"] == 9, "made events are never judged"
    model = load_classifier(tmp_path / "one")
    assert model.description["training"]["made_events"] > 0


@pytest.mark.slow
def test_what_is_published_was_measured_out_of_fold(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips")
    rows = (folder / "manifest.csv").read_text().splitlines()
    may = ["may", *("no" if "group 5" in row or "group 0" in row else "yes" for row in rows[1:])]
    lines = [f"{row},{one}" for row, one in zip(rows, may, strict=True)]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    settings = replace(SMALL, folds=2, takes=4, learn_from={"may": ("yes",)})
    result = train(read_dataset(folder), tmp_path / "model", settings=settings)
    assert result.evaluation is not None
    published = json.loads((tmp_path / "model" / EVALUATION).read_text())
    assert published["metrics"] == dict(result.metrics)
    assert result.classifier.description["metrics"] == dict(result.metrics)
    assert published["takes"]["count"] == 4
    assert "recordings" not in published
    assert "thresholds on 4 takes" in published["metrics"]["scheme"]
    document = json.loads((tmp_path / "model" / "model.json").read_text())
    assert document["calibration"]["background_odds"] == result.classifier.background_odds
    assert document["training"]["budgets"] == dict(settings.budgets)
    # Rows that only judge teach nothing; but they chose the thresholds, so they are known.
    assert result.metrics["n_recordings"] == 18, "the row in doubt is in no headline figure"
    assert result.evaluation.doubtful["n_recordings"] == 1
    assert result.classifier.description["training"]["label_counts"] == (
        dict.fromkeys(["grating", "other", "pop"], 4)
    )
    new = evaluate(read_dataset(folder), result.classifier)
    assert new.figures["n_recordings"] == 0
    untold = {**result.classifier.description, "training": {"recordings": [], "groups": []}}
    all_new = evaluate(read_dataset(folder), replace(result.classifier, description=untold))
    assert all_new.figures["n_recordings"] == 18
    taught = {**document["training"], "decided": {}}
    untold = {**result.classifier.description, "training": taught}
    judged = evaluate(read_dataset(folder), replace(result.classifier, description=untold))
    assert {row["group"] for row in judged.recordings} == {"group 0", "group 5"}
    none = replace(settings, learn_from={"may": ("perhaps",)})
    with pytest.raises(InvalidInputError, match="may=perhaps"):
        train(read_dataset(folder), tmp_path / "none", settings=none)


def test_without_clips_for_takes_it_says_so(tmp_path: Path) -> None:
    folder = write_clips(tmp_path / "clips", groups=3)
    lines = (folder / "manifest.csv").read_text().splitlines()
    kept = [line for line in lines if "grating" not in line]
    (folder / "manifest.csv").write_text("\n".join(kept) + "\n")
    settings = replace(SMALL, folds=3, takes=4)
    result = train(read_dataset(folder), tmp_path / "model", settings=settings)
    assert "no_takes" in {one.code for one in result.data_warnings}
    assert "takes" not in result.metrics["scheme"]
    assert result.classifier.background_odds == 1.0
