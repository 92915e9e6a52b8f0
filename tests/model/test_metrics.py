"""Figures: equal to scikit-learn's where it has them, and the relations they must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_pipeline.model import metrics
from audio_pipeline.model.metrics import group_intervals, plan_people

LABELS = ("grating", "other", "pop")


def _answers(seed: int, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, n)
    scores = rng.dirichlet(np.ones(3), n) + 0.7 * np.eye(3)[truth] * rng.random((n, 1))
    return truth, scores / scores.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_agrees_with_scikit_learn(seed: int) -> None:
    truth, scores = _answers(seed)
    answer = scores.argmax(axis=1)
    assert metrics.balanced_accuracy(truth, answer, 3) == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(truth, answer)
    )
    assert metrics.macro_auc(truth, scores) == pytest.approx(
        sklearn.metrics.roc_auc_score(truth, scores, multi_class="ovr")
    )
    np.testing.assert_array_equal(
        metrics.confusion(truth, answer, 3), sklearn.metrics.confusion_matrix(truth, answer)
    )
    np.testing.assert_allclose(
        metrics.precisions(metrics.confusion(truth, answer, 3)),
        sklearn.metrics.precision_score(truth, answer, average=None),
    )


def test_ties_count_half_in_the_auc() -> None:
    truth = np.array([0, 0, 1, 1])
    assert metrics.macro_auc(truth, np.full((4, 2), 0.5)) == 0.5


def test_abstaining_changes_coverage_and_strict_figures_only() -> None:
    truth = np.array([0, 0, 1, 1])
    answer = np.array([0, -1, 1, -1])
    assert metrics.balanced_accuracy(truth, answer, 2) == 1.0
    assert metrics.strict_balanced_accuracy(truth, answer, 2) == 0.5


def test_what_cannot_be_said_is_nan() -> None:
    none = np.zeros(0, np.int64)
    assert math.isnan(metrics.balanced_accuracy(none, none, 3))
    assert math.isnan(metrics.macro_auc(np.zeros(3, np.int64), np.ones((3, 2))))
    assert math.isnan(metrics.calibration_error(np.zeros(0), np.zeros(0, bool)))
    assert metrics.plain(float("nan")) is None


def test_a_calibrated_model_has_little_calibration_error() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1.0, 20_000)
    right = rng.random(20_000) < confidence
    assert metrics.calibration_error(confidence, right) < 0.02
    assert metrics.calibration_error(np.ones(20_000), right) == pytest.approx(
        1 - right.mean(), abs=1e-9
    )
    counts = [one.count for one in metrics.reliability(confidence, right)]
    assert len(counts) == 15
    assert max(counts) - min(counts) <= 1


def test_answering_less_helps_a_model_that_knows_when_it_is_right() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 3000)
    confidence = rng.uniform(0.4, 1.0, 3000)
    answer = np.where(rng.random(3000) < confidence, truth, (truth + 1) % 3)
    curve = metrics.risk_coverage(truth, answer, confidence, 3)
    assert curve[0].coverage == 1.0
    assert [point.coverage for point in curve] == sorted(
        (point.coverage for point in curve), reverse=True
    )
    assert curve[-1].balanced_accuracy > curve[0].balanced_accuracy + 0.1


times = st.lists(st.integers(0, 200).map(lambda t: t / 100), max_size=8)


@settings(max_examples=60, deadline=None)
@given(times, times, st.sampled_from([0.02, 0.05]))
def test_onsets_are_paired_one_to_one_and_as_many_as_possible(
    found: list[float], wanted: list[float], tolerance: float
) -> None:
    matches = metrics.match_onsets(found, wanted, tolerance)
    assert matches == metrics.match_onsets(found[::-1], wanted[::-1], tolerance)
    assert matches.matched <= min(len(found), len(wanted))
    near = np.abs(np.subtract.outer(found, wanted)) <= tolerance + 1e-9
    if near.size:
        from scipy.optimize import linear_sum_assignment

        rows, columns = linear_sum_assignment(-near.astype(int))
        assert matches.matched == near[rows, columns].sum()
    own = metrics.match_onsets(found, found, tolerance)
    assert own.matched == len(found)


def test_stretches_match_by_their_overlap() -> None:
    wanted = [(0.0, 1.0), (2.0, 3.0)]
    assert metrics.match_spans(wanted, wanted).f1 == 1.0
    assert metrics.match_spans([(0.0, 0.4)], wanted).matched == 0
    assert metrics.match_spans([(0.0, 0.6), (0.1, 0.9)], wanted).matched == 1
    assert metrics.match_spans([(0.0, 3.0)], wanted).matched == 0


def test_an_interval_is_wider_when_groups_differ() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{n}" for n in range(10)], 20)
    alike = rng.random(200) < 0.7
    apart = np.repeat(np.arange(10) < 7, 20)

    def shares(rows: np.ndarray) -> list[float]:
        return [float(alike[rows].mean()), float(apart[rows].mean()), math.nan]

    narrow, wide, unknown = group_intervals(shares, groups, resamples=300)
    assert unknown is None
    assert narrow is not None
    assert wide is not None
    assert narrow.low < alike.mean() < narrow.high
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    assert group_intervals(shares, groups[:40]) == [None] * 3, "two groups say nothing"


def _pilot(people: int, tries: int, icc: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return hits and tries of people whose own shares spread as an intraclass correlation says."""
    random = np.random.default_rng(seed)
    spread = (1 - icc) / icc
    shares = random.beta(0.7 * spread, 0.3 * spread, people)
    return random.binomial(tries, shares), np.full(people, tries)


def test_a_plan_keeps_its_word() -> None:
    plan = plan_people(*_pilot(400, 10, 0.3, 0), width=0.1)
    assert plan.icc == pytest.approx(0.3, abs=0.06)
    found = [
        hits.sum() / tries.sum()
        for hits, tries in (_pilot(plan.needed, 10, 0.3, seed) for seed in range(1, 600))
    ]
    low, high = np.quantile(found, (0.025, 0.975))
    assert high - low == pytest.approx(0.1, rel=0.15)


def test_people_count_and_clips_do_not() -> None:
    few = plan_people(*_pilot(200, 4, 0.8, 1), width=0.1)
    many = plan_people(*_pilot(200, 40, 0.8, 1), width=0.1)
    assert many.needed > 0.7 * few.needed  # ten times the clips, nearly as many people
    alike = plan_people(*_pilot(200, 40, 0.02, 1), width=0.1)
    assert alike.needed < 0.2 * many.needed


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=3, max_size=30))
@settings(max_examples=6, deadline=None)
def test_any_pilot_gives_a_plan_that_narrows(rows: list[tuple[int, int]]) -> None:
    counts = np.array([tries for _, tries in rows])
    hits = np.minimum([hit for hit, _ in rows], counts)
    plan = plan_people(hits, counts, width=0.2)
    assert 0 < plan.share < 1
    assert 0 <= plan.icc < 1
    assert plan.needed >= 2
    widths = [expected for _, expected, _, _ in plan.curve]
    assert widths[-1] <= widths[0]
    assert all(0 <= low <= high <= 1 for _, _, low, high in plan.curve)


def test_two_people_are_no_pilot() -> None:
    with pytest.raises(ValueError, match="three"):
        plan_people(np.array([1, 2]), np.array([3, 3]), width=0.1)
