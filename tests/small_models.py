"""Fitted scikit-learn classifiers small enough to know what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.tree import DecisionTreeClassifier

from audio_pipeline.features.transformer import FEATURE_NAMES


def says(
    labels: Sequence[str], answers: Mapping[float, Sequence[float]], feature: str | None = None
) -> DecisionTreeClassifier:
    """Return a tree that looks at one feature alone.

    Near each value of it (the first feature unless named) it answers with the probabilities given
    for that value, in the order of `labels`.
    """
    column = 0 if feature is None else FEATURE_NAMES.index(feature)
    rows = np.zeros((len(answers) * len(labels), len(FEATURE_NAMES)), np.float32)
    rows[:, column] = np.repeat(list(answers), len(labels))
    names = np.array(list(labels) * len(answers))
    weights = np.concatenate([np.asarray(each, np.float64) for each in answers.values()])
    return DecisionTreeClassifier(random_state=0).fit(rows, names, weights)
