"""Weights: what each label, source and made sound counts in what is learnt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.datasets.examples import Events, balanced_weights, with_synthetic_share
from audio_pipeline.model.selection import TrainingSettings, learning_weights

events = st.lists(
    st.tuples(
        st.sampled_from(["pop", "grating", "other"]),
        st.sampled_from(["home", "office", "made:a"]),
        st.floats(0.01, 10.0),
    ),
    min_size=1,
    max_size=60,
)


def _columns(rows: list[tuple[str, str, float]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels, groups, weights = zip(*rows, strict=True)
    return np.array(labels), np.array(groups), np.array(weights)


@given(rows=events)
def test_labels_and_the_groups_of_each_weigh_alike(rows: list[tuple[str, str, float]]) -> None:
    labels, groups, weights = _columns(rows)
    balanced = balanced_weights(labels, weights, (groups, 1.0))
    assert balanced.mean() == pytest.approx(1.0)
    of_label = [balanced[labels == label].sum() for label in np.unique(labels)]
    assert of_label == pytest.approx([of_label[0]] * len(of_label))
    for label in np.unique(labels):
        inside = labels == label
        of_group = [balanced[inside & (groups == one)].sum() for one in np.unique(groups[inside])]
        assert of_group == pytest.approx([of_group[0]] * len(of_group))


@given(rows=events)
def test_without_balance_only_labels_are_scaled(rows: list[tuple[str, str, float]]) -> None:
    labels, groups, weights = _columns(rows)
    balanced = balanced_weights(labels, weights, (groups, 0.0))
    for label in np.unique(labels):
        ratio = balanced[labels == label] / weights[labels == label]
        np.testing.assert_allclose(ratio, ratio[0])


@given(rows=events, share=st.floats(0.05, 0.95))
def test_made_sounds_get_their_share_of_a_label(
    rows: list[tuple[str, str, float]], share: float
) -> None:
    labels, groups, weights = _columns(rows)
    scaled = with_synthetic_share(weights, labels, groups, share)
    made = np.char.startswith(groups, "made:")
    for label in np.unique(labels):
        inside = labels == label
        total = weights[inside].sum()
        assert scaled[inside].sum() == pytest.approx(total)
        if (made & inside).any() and (~made & inside).any():
            assert scaled[made & inside].sum() == pytest.approx(share * total)
        else:
            np.testing.assert_array_equal(scaled[inside], weights[inside])


@given(rows=events, weight=st.floats(0.5, 5.0))
def test_the_background_weighs_so_much_against_each_other_label(
    rows: list[tuple[str, str, float]], weight: float
) -> None:
    labels, groups, weights = _columns(rows)
    nothing = np.full(len(rows), -1)
    given_events = Events(
        np.zeros((len(rows), 1), np.float32),
        labels,
        groups,
        weights,
        nothing,
        np.full((len(rows), 2), np.nan),
        np.full(len(rows), ""),
    )
    learnt = learning_weights(given_events, TrainingSettings(background_weight=weight))
    total = {label: learnt[labels == label].sum() for label in np.unique(labels)}
    joint = [total[label] for label in total if label != "other"]
    assert joint == pytest.approx(joint[:1] * len(joint))
    if joint and "other" in total:
        assert total["other"] == pytest.approx(weight * joint[0])
