"""When an event is sure: what the budgets allow, on takes and on clips."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_clips import write_clips
from small_models import says

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import (
    BACKGROUND,
    certainties,
    with_background_odds,
)
from audio_pipeline.datasets.examples import analyze_dataset
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.datasets.takes import clip_folds, heard_takes, take_clips
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.breakdown import score_findings
from audio_pipeline.model.classifier import Classifier, load_classifier, save_classifier
from audio_pipeline.model.scoring import analyze_annotated
from audio_pipeline.model.thresholds import ODDS, Decision, Heard, choose_thresholds, decide, hear

LABELS = ("grating", "other", "pop")
BUDGETS = {"near_pop": 0.05, "near_grating": 0.01, "grating": 0.02, "wrong": 0.1, "missed": 0.15}
chances = st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3)


def _answers(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    scores = rng.dirichlet(np.ones(3), n) + 0.7 * np.eye(3)[truth] * rng.random((n, 1))
    return truth, scores / scores.sum(axis=1, keepdims=True)


@given(chances, st.floats(1.0, 9.0))
def test_a_joint_sound_is_as_certain_as_it_is_likely_beside_the_background(
    weights: list[float], odds: float
) -> None:
    row = np.array([weights]) / sum(weights)
    certain = certainties(row, LABELS)
    assert row.max() <= certain[0] <= 1.0
    assert certainties(row, ("a", "b", "c"))[0] == row.max()
    if LABELS[row.argmax()] == BACKGROUND:
        assert certain[0] == row.max()
    tilted = with_background_odds(row, LABELS, odds)
    assert tilted.sum() == pytest.approx(1.0)
    assert tilted[0, 1] >= row[0, 1]
    assert tilted[0, 0] / tilted[0, 2] == pytest.approx(row[0, 0] / row[0, 2])
    if tilted.argmax() == row.argmax() != 1:
        assert certainties(tilted, LABELS)[0] <= certain[0] + 1e-12
    np.testing.assert_array_equal(with_background_odds(row, ("a", "b", "c"), odds), row)


def test_nothing_is_certain_of_nothing() -> None:
    assert certainties(np.zeros((0, 3)), LABELS).shape == (0,)


def _heard(seed: int) -> Heard:
    """Return clips and takes of which a model knows something."""
    rng = np.random.default_rng(seed)
    n = 300
    holds = rng.random((n, 2)) < 0.3
    take = np.arange(n) >= 200
    holds[:200, 1] &= ~holds[:200, 0]
    certainty = np.clip(0.45 * holds + rng.beta(2, 3, (n, 2)), 0, 1)
    shrunk = np.stack([certainty / (certainty + (1 - certainty) * odds) for odds in ODDS])
    near = ~take & ~holds.any(axis=1) & (rng.random(n) < 0.8)
    kinds = rng.choice(["a", "b", "c", "d"], n)
    return Heard(shrunk, shrunk.max(axis=2) > 0.5, holds, take, near, kinds)


def _shares(heard: Heard, decision: Decision) -> dict[str, float]:
    number = ODDS.index(decision.background_odds)
    sure = heard.certainty[number] >= [decision.thresholds[label] for label in ("pop", "grating")]
    takes, truth = heard.take, heard.holds[heard.take]
    false = sure[takes] & ~truth
    missed = ~sure[takes].any(axis=1) & ~heard.doubt[number, takes] & truth.any(axis=1)
    by_kind = [sure[heard.near & (heard.kinds == kind)].mean(axis=0) for kind in "abcd"]
    pop, grating = np.mean(by_kind, axis=0)
    return {
        "near_pop": pop,
        "near_grating": grating,
        "grating": false[~truth[:, 1], 1].mean(),
        "wrong": false.any(axis=1).mean(),
        "missed": missed.mean(),
    }


def _found(heard: Heard, decision: Decision) -> int:
    number = ODDS.index(decision.background_odds)
    sure = heard.certainty[number] >= [decision.thresholds[label] for label in ("pop", "grating")]
    return int((sure & heard.holds).sum())


@given(seed=st.integers(0, 40), by=st.sampled_from([1.0, 2.0, 4.0]))
@settings(max_examples=4, deadline=None)
def test_a_decision_keeps_its_budgets(seed: int, by: float) -> None:
    heard = _heard(seed)
    budgets = {name: by * most for name, most in BUDGETS.items()}
    chosen = decide(heard, budgets)
    shares = _shares(heard, chosen)
    assert all(shares[name] <= most + 1e-9 for name, most in budgets.items())
    assert decide(heard, budgets) == chosen
    assert chosen.thresholds["other"] >= 0.5
    free = decide(heard, dict.fromkeys(budgets, 1.0))
    assert _found(heard, chosen) <= _found(heard, free)


def test_budgets_that_cannot_be_kept_are_exceeded_least() -> None:
    heard = _heard(3)
    certain = replace(heard, certainty=np.ones_like(heard.certainty))
    chosen = decide(certain, BUDGETS)
    assert chosen.thresholds["grating"] <= 1.0, "an answer is given all the same"


@pytest.fixture(scope="module")
def model() -> Classifier:
    answers = {0.0: (0.1, 0.7, 0.2), 1.0: (0.2, 0.3, 0.5), 3.0: (0.5, 0.1, 0.4)}
    return Classifier(
        "some",
        LABELS,
        FEATURE_NAMES,
        AnalysisConfig(),
        dict.fromkeys(LABELS, 0.5),
        says(LABELS, answers, "log_impacts" if "log_impacts" in FEATURE_NAMES else None),
    )


@pytest.mark.slow
def test_what_is_decided_by_is_what_is_scored(tmp_path: Path, model: Classifier) -> None:
    dataset = read_dataset(write_clips(tmp_path / "clips"))
    heard = analyze_dataset(dataset, model.settings)
    cases = [case for one in heard for case in one.cases]
    (takes,) = heard_takes(clip_folds(take_clips(dataset), 2, 0)[:1], 24, 3, model.settings)
    said = hear(cases, takes, model)
    thresholds = {"grating": 0.6, "other": 0.5, "pop": 0.55}
    for number, odds in enumerate(ODDS[:2]):
        decided = replace(model, thresholds=thresholds, background_odds=odds)
        answers = analyze_annotated(takes, decided)
        scores = score_findings([(one.cases[0].columns, found) for one, found, _ in answers])
        assert scores is not None
        sure = said.certainty[number, said.take] >= (thresholds["pop"], thresholds["grating"])
        truth = said.holds[said.take]
        silent, doubt = ~sure.any(axis=1), said.doubt[number, said.take]
        assert scores.total.shares["wrong"] == (sure & ~truth).any(axis=1).mean()
        right = (sure == truth).all(axis=1) & ~(silent & doubt)
        assert scores.total.shares["right"] == right.mean()
        assert scores.total.shares["uncertain"] == (silent & doubt).mean()


def test_the_odds_of_the_background_are_kept(tmp_path: Path, model: Classifier) -> None:
    saved = save_classifier(replace(model, background_odds=1.7), tmp_path / "model")
    loaded = load_classifier(tmp_path / "model")
    assert loaded.background_odds == saved.background_odds == 1.7
    rows = np.zeros((3, len(FEATURE_NAMES)), np.float32)
    plain = replace(model, background_odds=1.0).predict_proba(rows)
    given_odds = loaded.predict_proba(rows)
    np.testing.assert_allclose(given_odds[:, 1] / given_odds[:, 0], 1.7 * plain[:, 1] / plain[:, 0])


@pytest.mark.parametrize("budget", [0.0, 0.01, 0.1])
def test_thresholds_keep_the_budget_for_false_alarms(budget: float) -> None:
    truth, scores = _answers(3, 600)
    case = np.arange(600) // 2
    thresholds = choose_thresholds(
        scores, truth, case, LABELS, {"grating": budget, "pop": 0.05}, least_kept=0.0
    )
    column = LABELS.index("grating")
    false = (truth == 1) & (scores.argmax(axis=1) == column)
    false &= certainties(scores, LABELS) >= thresholds["grating"]
    n_other = np.unique(case[truth == 1]).size
    assert np.unique(case[false]).size <= budget * n_other or thresholds["grating"] == 0.95
    assert thresholds["grating"] >= thresholds["other"]
    kept = choose_thresholds(scores, truth, case, LABELS, {"grating": budget}, least_kept=0.8)
    right = certainties(scores, LABELS)[(truth == column) & (scores.argmax(axis=1) == column)]
    assert (right >= kept["grating"]).mean() >= 0.8 or kept["grating"] == kept["other"]


def test_kinds_far_from_a_person_cost_no_budget() -> None:
    truth, scores = _answers(5, 600)
    case = np.arange(600)
    kinds = np.where(case % 2, "fire", "speech")
    near = truth[kinds == "speech"], scores[kinds == "speech"]
    mixed = choose_thresholds(
        scores, truth, case, LABELS, {"grating": 0.02}, least_kept=0.0, kinds=kinds
    )
    alone = choose_thresholds(
        near[1], near[0], np.arange(len(near[0])), LABELS, {"grating": 0.02}, least_kept=0.0
    )
    assert mixed["grating"] == pytest.approx(alone["grating"], abs=0.1)
    column = LABELS.index("grating")
    false = (truth == 1) & (kinds == "speech") & (scores.argmax(axis=1) == column)
    false &= certainties(scores, LABELS) >= mixed["grating"]
    assert false.sum() <= 0.02 * ((truth == 1) & (kinds == "speech")).sum()


def test_a_kind_of_many_recordings_does_not_hide_a_rare_one() -> None:
    # A hundred recordings of speech are told right, the only two of keys are not.
    scores = np.array([[0.05, 0.9, 0.05]] * 100 + [[0.1, 0.1, 0.8]] * 2)
    truth = np.ones(102, np.int64)
    kinds = np.array(["speech"] * 100 + ["key"] * 2)
    budget = {"pop": 0.05}
    counted = choose_thresholds(scores, truth, np.arange(102), LABELS, budget, least_kept=0.0)
    alike = choose_thresholds(
        scores, truth, np.arange(102), LABELS, budget, least_kept=0.0, kinds=kinds
    )
    assert counted["pop"] < 0.8 < alike["pop"]


@given(seed=st.integers(0, 50))
@settings(max_examples=10, deadline=None)
def test_likelier_by_a_hair_is_no_sure_background(seed: int) -> None:
    truth, scores = _answers(seed)
    for budgets in (None, {"pop": 0.05}):
        thresholds = choose_thresholds(scores, truth, np.arange(200), LABELS, budgets)
        assert thresholds["other"] >= 0.5


def test_other_labels_share_one_threshold() -> None:
    truth, scores = _answers(4)
    thresholds = choose_thresholds(scores, truth, np.arange(200), ("a", "b", "c"), {"pop": 0.01})
    assert set(thresholds) == {"a", "b", "c"}
    assert len(set(thresholds.values())) == 1
    assert (scores.max(axis=1) >= thresholds["a"]).mean() >= 0.74
