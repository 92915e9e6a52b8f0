"""Any classifier of scikit-learn can be the model: trained, calibrated, saved, loaded, used."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
from sklearn.utils.estimator_checks import check_estimator

from audio_pipeline import load_classifier, load_examples, make_classifier, train
from audio_pipeline.app.cli import main
from audio_pipeline.app.readiness import check_machine
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.pool import WorkerProcess
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.estimator import (
    NAMES,
    ContinuedForest,
    base_forest,
    last_step,
    parse_params,
    without_training_parts,
)
from audio_pipeline.model.fitted_checks import check_fitted
from audio_pipeline.model.persistence import read_estimator, write_estimator
from audio_pipeline.model.selection import TrainingSettings
from tests.labelled_sounds import LABELS, write_people

SMALL = ["--folds", "2", "--json"]
QUICK = [*SMALL, "--no-controls"]


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("data") / "people")


def test_the_default_keeps_the_contract_of_scikit_learn() -> None:
    # Every Pipeline fails these two: it fits the steps it was given.
    of_every_pipeline = {
        "check_estimators_overwrite_params": "a Pipeline fits its steps in place",
        "check_dont_overwrite_parameters": "a Pipeline fits its steps in place",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # checks that are skipped or expected to fail
        check_estimator(make_classifier(n_estimators=10), expected_failed_checks=of_every_pipeline)


def test_examples_are_arrays_for_scikit_learn(people: Path) -> None:
    examples = load_examples(people)
    n = len(examples.target)
    assert set(examples) == {
        *("data", "target", "groups", "recording", "start", "end"),
        *("sample_weight", "feature_names"),
    }
    assert examples.data.shape == (n, len(FEATURE_NAMES))
    assert examples.data.dtype == np.float32
    assert examples.feature_names == list(FEATURE_NAMES)
    assert set(examples.target) == set(LABELS)
    assert (examples.end > examples.start).all()
    assert examples.sample_weight.mean() == pytest.approx(1.0)
    for label in LABELS:
        share = examples.sample_weight[examples.target == label].sum()
        assert share == pytest.approx(n / len(LABELS))
    assert len(set(examples.recording)) == len(read_dataset(people).recordings)
    lower = load_examples(people, sample_rate=1000)
    assert set(lower.recording) == set(examples.recording)


@pytest.mark.slow
def test_the_tools_of_scikit_learn_work_on_examples(people: Path, tmp_path: Path) -> None:
    examples = load_examples(people)
    scores = cross_val_score(
        make_classifier(n_estimators=20),
        examples.data,
        examples.target,
        groups=examples.groups,
        cv=StratifiedGroupKFold(3),
        scoring="balanced_accuracy",
    )
    assert scores.min() > 0.6
    settings = TrainingSettings(params={"n_estimators": 20}, folds=2, inner_folds=2)
    train(people, tmp_path / "model", settings=settings)
    estimator = load_classifier(tmp_path / "model").estimator
    assert estimator.classes_.tolist() == sorted(LABELS)
    importance = permutation_importance(
        estimator,
        examples.data,
        examples.target,
        scoring="neg_log_loss",
        n_repeats=2,
        random_state=0,
    )
    assert importance.importances_mean.shape == (len(FEATURE_NAMES),)
    assert importance.importances_mean.max() > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "params"),
    [
        ("sklearn.linear_model.LogisticRegression", "LogisticRegression", ["--param", "C=0.5"]),
        ("neighbors", "KNeighborsClassifier", []),
        ("boosting", "HistGradientBoostingClassifier", ["--param", "max_iter=10"]),
        ("extra_trees", "ExtraTreesClassifier", ["--param", "n_estimators=8"]),
        ("svm", "SVC", []),
    ],
)
def test_other_estimators_from_the_command_line(
    name: str,
    kind: str,
    params: list[str],
    people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "model"
    with pytest.raises(SystemExit) as done:
        main(["train", str(people), "-o", str(folder), "--estimator", name, *params, *QUICK])
    assert done.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert document["metrics"]["recording_balanced_accuracy"] > 0.6
    codes = {one["code"] for one in document["warnings"]}
    needs_trust = kind in {"HistGradientBoostingClassifier", "SVC", "KNeighborsClassifier"}
    assert ("needs_trust" in codes) == needs_trust
    model = load_classifier(folder, trusted=needs_trust)
    assert type(last_step(model.estimator)).__name__ == kind
    assert model.description["training"]["kind"] == kind
    described = json.loads((folder / "model.json").read_text())
    assert described["calibration"]["method"] == "temperature"
    recording = str(next(people.glob("*.wav")))
    trust = ["--trust-model"] if needs_trust else []
    with pytest.raises(SystemExit) as done:
        main(["analyze", recording, "--model", str(folder), *trust, "--json"])
    assert done.value.code == 0
    (analysed,) = json.loads(capsys.readouterr().out)["recordings"]
    assert analysed["finding"]["label"] in {*LABELS, "uncertain"}
    if needs_trust:
        with pytest.raises(SystemExit) as done:
            main(["analyze", recording, "--model", str(folder), "--json"])
        assert done.value.code == 2
        assert "--trust-model" in capsys.readouterr().err
        for trusted, status in ((True, "ok"), (False, "problem")):
            checks = check_machine(None, folder, trusted=trusted)
            assert next(one.status for one in checks if one.name == "model") == status
        if kind == "SVC":
            worker = WorkerProcess(folder, ServerSettings(trust_model=True))
            assert worker.wait_until_ready()["sha256"] == model.sha256
            worker.close()


def test_an_estimator_of_ones_own_from_python(people: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(folds=2, inner_folds=2)
    result = train(people, tmp_path / "m", LogisticRegression(C=0.3, max_iter=500), settings)
    loaded = load_classifier(tmp_path / "m")
    asked = LogisticRegression(C=0.3, max_iter=500).get_params() | {"random_state": 0}
    assert last_step(loaded.estimator).get_params() == asked, "an instance is taken as it is"
    assert result.metrics["recording_balanced_accuracy"] > 0.6
    # What a model is made of can be cloned, looked at and fitted again.
    examples = load_examples(people)
    for model in (result.classifier, loaded):
        again = clone(model.estimator).fit(examples.data, examples.target)
        assert last_step(again).get_params() == asked


def test_no_memory_between_the_fields_of_a_tree_gets_into_a_file() -> None:
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(4, n_jobs=2, random_state=0)
    pipeline = make_classifier(forest).fit(rng.normal(size=(80, 5)), rng.integers(0, 2, 80))
    files = []
    for between in (3, 7):
        for tree in last_step(pipeline).estimators_:
            state = tree.tree_.__getstate__()
            nodes = np.zeros_like(state["nodes"])
            nodes.view(np.uint8)[:] = between
            for name in nodes.dtype.names:
                nodes[name] = state["nodes"][name]
            tree.tree_.__setstate__({**state, "nodes": nodes})
        files.append(write_estimator(pipeline))
    assert files[0] == files[1]


def test_a_model_answers_in_one_thread() -> None:
    rng = np.random.default_rng(0)
    forest = RandomForestClassifier(4, n_jobs=2, random_state=0)
    pipeline = make_classifier(forest).fit(rng.normal(size=(80, 5)), rng.integers(0, 2, 80))
    assert last_step(without_training_parts(pipeline)).n_jobs is None


def test_a_threshold_for_what_is_no_label_is_refused(people: Path, tmp_path: Path) -> None:
    settings = TrainingSettings(thresholds={"clunkk": 0.5})
    with pytest.raises(InvalidInputError, match="clunkk"):
        train(people, tmp_path / "m", settings=settings)
    assert not (tmp_path / "m").exists()


def test_a_pipeline_of_ones_own_keeps_its_seed() -> None:
    kept = make_classifier(RandomForestClassifier(random_state=7))
    assert last_step(kept).random_state == 7
    assert last_step(make_classifier(RandomForestClassifier())).random_state == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sklearn.ensemble.AdaBoostClassifier", "neighbors"])
def test_few_recordings_of_any_estimator_train(people: Path, tmp_path: Path, name: str) -> None:
    every = read_dataset(people)
    groups = sorted({clip.group for clip in every.clips})[:9]
    few = replace(every, clips=tuple(clip for clip in every.clips if clip.group in groups))
    result = train(few, tmp_path / "m", name, TrainingSettings(folds=2, inner_folds=2))
    assert result.metrics["recording_balanced_accuracy"] is not None


def test_what_an_estimator_cannot_learn_is_said(people: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"MultinomialNB cannot learn.*[Nn]egative"):
        train(people, tmp_path / "m", "sklearn.naive_bayes.MultinomialNB")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", [SGDClassifier(loss="log_loss"), LinearDiscriminantAnalysis()])
def test_plain_linear_models_load_as_they_are(kind: BaseEstimator) -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 5)).astype(np.float32), np.array(LABELS)[rng.integers(0, 3, 60)]
    fitted = make_classifier(kind).fit(X, y)
    loaded = read_estimator(write_estimator(fitted), sorted(LABELS), 5, trusted=False)
    np.testing.assert_array_equal(loaded.predict_proba(X), fitted.predict_proba(X))
    loaded.named_steps["classify"].coef_ = np.zeros((3, 4))
    with pytest.raises(ValueError, match="coef_"):
        check_fitted(loaded, np.array(sorted(LABELS)), 5)


def test_the_shipped_estimator_can_be_fitted_again() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(90, len(FEATURE_NAMES))).astype(np.float32)
    y, groups = np.array(LABELS)[rng.integers(0, 3, 90)], np.repeat(np.arange(9), 10)
    ours = clone(load_classifier().estimator.estimator)
    scores = cross_val_score(ours, X, y, groups=groups, cv=StratifiedGroupKFold(3))
    assert np.isfinite(scores).all()


def test_the_shipped_estimator_shows_what_it_is() -> None:
    estimator = load_classifier().estimator
    (fitted,) = estimator.calibrated_classifiers_
    shown, inside = last_step(estimator.estimator), last_step(fitted.estimator)
    assert type(shown) is type(inside)
    assert shown.get_params() == inside.get_params()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--estimator", "os.system"], "no classifier of scikit-learn"),
        (["--estimator", "sklearn.svm.LinearSVC"], "predict_proba"),
        (["--estimator", "sklearn.ensemble.VotingClassifier"], "other estimators"),
        (["--estimator", "sklearn.linear_model.Ridge"], "no classifier"),
        (["--param", "n_trees=3"], "n_estimators"),
        (["--param", "n_estimators=many"], "n_estimators"),
        (["--param", "n_estimators"], "NAME=VALUE"),
        (["--param", "n_estimators=3", "--param", "n_estimators=4"], "twice"),
        (["--param", "criterion={'a': [1]}"], "--param"),
    ],
)
def test_what_is_no_estimator_is_refused_before_any_work(
    arguments: list[str],
    message: str,
    people: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["train", str(people), "-o", str(tmp_path / "m"), *arguments])
    assert done.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_every_short_name_is_made() -> None:
    for name in NAMES:
        assert hasattr(make_classifier(name), "predict_proba")
    with pytest.raises(InvalidInputError, match="no parameter"):
        make_classifier("logistic", depth=3)


def test_values_of_parameters_have_the_type_they_look_like() -> None:
    given = ("a=3", "b=0.5", "c=None", "d=entropy", "e=True", "f=(4, 2)", "g='7'")
    assert parse_params(given) == {
        **{"a": 3, "b": 0.5, "c": None, "d": "entropy", "e": True},
        **{"f": (4, 2), "g": "7"},
    }


@pytest.mark.parametrize("kind", ["forest", "extra_trees"])
def test_a_forest_fit_to_be_saved_is_smaller_and_answers_the_same(kind: str) -> None:
    generator = np.random.default_rng(0)
    labels = np.array(LABELS)[np.arange(600) % len(LABELS)]
    rows = generator.normal(size=(600, 5)) + (np.arange(600) % len(LABELS))[:, None]
    whole = make_classifier(kind, n_estimators=5).fit(rows, labels)
    answers, size = whole.predict_proba(rows), len(write_estimator(whole))
    saved = without_training_parts(whole)
    np.testing.assert_allclose(saved.predict_proba(rows).sum(axis=1), 1.0, rtol=1e-12)
    # Thresholds are rounded: a row that lies on one may fall to its other side.
    assert np.quantile(np.abs(saved.predict_proba(rows) - answers), 0.98) < 0.002
    assert len(write_estimator(saved)) < size
    again = ContinuedForest(base_forest(saved, kind), tuple(sorted(LABELS)))
    assert np.isfinite(again.fit(rows, labels).predict_proba(rows)).all()
