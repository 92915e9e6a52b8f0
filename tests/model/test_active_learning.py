"""What a person is asked next, and how the answers are judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from audio_pipeline.model.active_learning import (
    agreement,
    draw_of,
    estimate_of,
    learned_order,
    most_alike,
    refit,
    standardized,
    uncertainty,
)

LABELS = ("a", "b", "c")
ONE = ["one"] * 12


def clouds(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points in three clouds, and which of them each is in."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % 3
    return (np.eye(3)[kind] * 4 + rng.normal(0, 0.5, (n, 3))).astype(np.float32), kind


class TestOrder:
    @settings(deadline=None)
    @given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 40), st.integers(0, 99))
    def test_what_was_asked_is_not_asked_again(
        self, n: int, n_asked: int, most: int, seed: int
    ) -> None:
        rng = np.random.default_rng(seed)
        asked = rng.permutation(np.arange(n) < n_asked)
        chances = rng.dirichlet(np.ones(3), n)
        space = standardized(rng.normal(size=(n, 4)).astype(np.float32))
        names = [f"g{number % 4}" for number in range(n)]
        order = learned_order(space, chances, uncertainty(chances), asked, names, most)
        assert len(order) == len(set(order.tolist())) == min(most, int((~asked).sum()))
        assert not asked[order].any()

    def test_labels_take_turns_and_of_twins_one_is_asked(self) -> None:
        table, kind = clouds(12)
        table[3:] = table[:9]  # each is there four times
        chances = np.full((12, 3), 0.2)
        chances[np.arange(12), kind] = 0.6
        order = learned_order(
            standardized(table), chances, uncertainty(chances), np.zeros(12, bool), ONE, 3
        )
        assert sorted(kind[order]) == [0, 1, 2]
        asked = np.zeros(12, bool)
        asked[:3] = True
        table[11] += 1.0
        nexts = learned_order(standardized(table), chances, uncertainty(chances), asked, ONE, 9)
        of_kind = [number for number in nexts if kind[number] == kind[11]]
        assert of_kind[0] == 11  # the only one unlike what was asked

    def test_the_doubtful_one_comes_first_where_all_else_is_equal(self) -> None:
        chances = np.array([[0.9, 0.1], [0.55, 0.45], [0.7, 0.3]])
        space = np.eye(3)
        order = learned_order(space, chances, uncertainty(chances), np.zeros(3, bool), ONE[:3], 3)
        assert order[0] == 1

    def test_people_take_turns(self) -> None:
        chances = np.tile([0.6, 0.4], (20, 1))
        names = ["many"] * 17 + ["few"] * 3
        space = np.random.default_rng(0).normal(size=(20, 3))
        order = learned_order(space, chances, uncertainty(chances), np.zeros(20, bool), names, 6)
        assert sorted(names[number] for number in order) == ["few"] * 3 + ["many"] * 3

    def test_the_most_alike_are_the_nearest(self) -> None:
        table, kind = clouds(30)
        asked = np.zeros(30, bool)
        asked[3] = True
        near = most_alike(standardized(table), 0, asked, 5)
        assert set(kind[near]) == {0}
        assert not {0, 3} & set(near.tolist())

    def test_a_draw_is_even(self) -> None:
        drawn = np.array([draw_of(f"{number}.wav\n0.0") for number in range(4000)])
        assert abs((drawn < 0.2).mean() - 0.2) < 0.03
        assert draw_of("x") == draw_of("x") != draw_of("y")


class TestRefit:
    def test_what_is_kept_apart_does_not_change_the_model(self) -> None:
        table, kind = clouds(60)
        groups = [f"g{number % 5}" for number in range(60)]
        apart = np.arange(60) % 4 == 0
        given_labels = [LABELS[k] for k in kind]
        other = [LABELS[(k + 1) % 3] if apart[n] else LABELS[k] for n, k in enumerate(kind)]
        first, second = (
            refit(table, each, apart, groups, LABELS) for each in (given_labels, other)
        )
        assert first is not None
        assert second is not None
        assert np.array_equal(first.probabilities, second.probabilities)
        assert first.estimate.right.value == 1
        assert second.estimate.right.value == 0

    def test_no_model_of_one_label_and_none_of_the_group_it_is_asked_about(self) -> None:
        table, kind = clouds(12)
        groups = ["one"] * 12
        one = [LABELS[0] if k == 0 else None for k in kind]
        assert refit(table, one, np.zeros(12, bool), groups, LABELS) is None
        apart = np.arange(12) < 4
        found = refit(table, [LABELS[k] for k in kind], apart, groups, LABELS)
        assert found is not None
        assert found.estimate.right.count == 0  # nobody else to learn from

    def test_a_confound_of_people_does_not_flatter(self) -> None:
        rng = np.random.default_rng(0)
        person = np.repeat(np.arange(10), 12)
        table = (np.eye(10)[person] * 5 + rng.normal(0, 0.1, (120, 10))).astype(np.float32)
        labels = [LABELS[p % 2] for p in person]  # only who it is tells the label
        apart = rng.random(120) < 0.3
        found = refit(table, labels, apart, [f"p{p}" for p in person], LABELS)
        assert found is not None
        assert (found.estimate.right.value or 0) < 0.8
        told = found.probabilities.argmax(axis=1) == person % 2
        assert told.mean() > 0.9


class TestEstimates:
    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
    def test_shares_lie_in_their_intervals(self, pairs: list[tuple[int, int]]) -> None:
        y_true, y_pred = (np.array([pair[side] for pair in pairs], int) for side in (0, 1))
        groups = np.array([f"g{n % 4}" for n in range(len(pairs))], dtype=np.str_)
        found = estimate_of(y_true, y_pred, groups, LABELS)
        for share in (found.right, *found.precision.values(), *found.recall.values()):
            if not share.count:
                assert share.value is None
                continue
            assert share.low is not None
            assert share.high is not None
            assert 0 <= share.low <= (share.value or 0) <= share.high <= 1
        assert sum(share.count for share in found.recall.values()) == len(pairs)

    def test_the_interval_holds_the_truth_about_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(1)
        held = 0
        for _ in range(20):
            right = rng.random(40) < 0.7
            groups = np.array([f"g{n}" for n in range(40)], dtype=np.str_)
            share = estimate_of(np.zeros(40, int), np.where(right, 0, 1), groups, LABELS).right
            held += (share.low or 0) <= 0.7 <= (share.high or 1)
        assert held >= 17


class TestAgreement:
    @settings(deadline=None, max_examples=30)
    @given(st.lists(st.tuples(*[st.sampled_from(LABELS)] * 2), min_size=3, max_size=30))
    def test_kappa_is_that_of_scikit_learn(self, pairs: list[tuple[str, str]]) -> None:
        first, second = zip(*pairs, strict=True)
        found = agreement(first, second, [str(n) for n in range(len(pairs))])
        if len({*first, *second}) > 1:
            assert found.kappa == pytest.approx(cohen_kappa_score(first, second), abs=1e-5)
        else:
            assert found.kappa is None

    def test_nothing_in_common_says_nothing(self) -> None:
        assert agreement([], [], []).kappa is None
