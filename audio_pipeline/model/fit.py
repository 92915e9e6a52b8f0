"""Growing the trees: two regularised forests from scikit-learn, averaged into one Forest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.model.forest import Forest, clean_table

Labels = NDArray[np.str_]
Weights = NDArray[np.float64]

_FEW_ROWS = 3000
"""Below, starting threads costs more than they gain."""


@dataclass(frozen=True)
class FitSettings:
    """How the forests are grown.

    The defaults are what carried over best to recordings from unseen sources in the study behind
    ``docs/recognition.md``: large leaves and few rows a tree were its largest single gain.

    Attributes
    ----------
    trees : int
        Trees of each of the two kinds, >= 1.
    forest_leaf, extra_leaf : int
        Fewest training events in a leaf of a random forest tree and of an extra tree, >= 1.
    forest_features, extra_features : float
        Share of the features tried at each split, (0, 1].
    forest_samples : float
        Share of the events each random forest tree sees, (0, 1].
    most_leaves : int
        Leaves grow with the number of events so that a tree has about this many at most; bounds
        the size of the model file.
    jobs : int
        Threads for more than a few thousand events; the result does not depend on it.
    """

    trees: int = 250
    forest_leaf: int = 20
    extra_leaf: int = 15
    forest_features: float = 0.3
    extra_features: float = 0.35
    forest_samples: float = 0.6
    most_leaves: int = 1500
    jobs: int = 2

    def scaled(self, leaf_scale: float) -> FitSettings:
        """Return the same settings with leaves `leaf_scale` times as large (at least 1 event)."""
        return replace(
            self,
            forest_leaf=max(1, round(self.forest_leaf * leaf_scale)),
            extra_leaf=max(1, round(self.extra_leaf * leaf_scale)),
        )

    def to_dict(self) -> dict[str, float | int]:
        """Return the settings that the result depends on, as plain numbers."""
        return {name: value for name, value in asdict(self).items() if name != "jobs"}


def balanced_weights(labels: Labels, weights: ArrayLike, classes: Sequence[str]) -> Weights:
    """Scale event weights so that every class present weighs the same, with a mean of 1.

    Parameters
    ----------
    labels : str array, shape (n,)
    weights : array, shape (n,)
        >= 0.
    classes : sequence of str

    Returns
    -------
    float64 array, shape (n,)
    """
    balanced = np.asarray(weights, np.float64).copy()
    present = [label for label in classes if balanced[labels == label].sum() > 0]
    for label in present:
        mask = labels == label
        balanced[mask] *= len(labels) / (len(present) * balanced[mask].sum())
    return balanced


def fit_forest(
    table: ArrayLike,
    labels: Labels,
    weights: ArrayLike,
    classes: Sequence[str],
    settings: FitSettings,
    seed: int,
) -> Forest:
    """Grow both forests and pack their trees.

    Parameters
    ----------
    table : array, shape (n, n_features)
        n >= 1.
    labels : str array, shape (n,)
        Each one of `classes`; a class without events gets probability 0.
    weights : array, shape (n,)
        Event weights >= 0; classes are balanced on top of them.
    classes : sequence of str
        The order of the forest's columns.
    settings : FitSettings
    seed : int
        The same seed and data give the same trees.

    Returns
    -------
    Forest
    """
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    rows = clean_table(table)
    target = np.searchsorted(np.sort(classes), labels)
    order = np.argsort(classes)
    balanced = balanced_weights(labels, weights, classes)
    smallest_leaf = len(rows) // settings.most_leaves
    common = {
        "n_estimators": settings.trees,
        "bootstrap": True,
        "n_jobs": settings.jobs if len(rows) > _FEW_ROWS else 1,
    }
    forest = RandomForestClassifier(
        min_samples_leaf=max(settings.forest_leaf, smallest_leaf),
        max_features=settings.forest_features,
        max_samples=max(1, round(settings.forest_samples * len(rows))),
        random_state=seed,
        **common,
    ).fit(rows, target, balanced)
    extra = ExtraTreesClassifier(
        min_samples_leaf=max(settings.extra_leaf, smallest_leaf),
        max_features=settings.extra_features,
        random_state=seed + 1,
        **common,
    ).fit(rows, target, balanced)
    estimators = [*forest.estimators_, *extra.estimators_]
    columns = order[forest.classes_.astype(int)]
    return pack_trees([tree.tree_ for tree in estimators], columns, classes, rows.shape[1])


def pack_trees(
    trees: Sequence[Any], columns: NDArray[Any], classes: Sequence[str], n_features: int
) -> Forest:
    """Turn scikit-learn trees into a :class:`Forest`.

    Parameters
    ----------
    trees : sequence of sklearn.tree._tree.Tree
    columns : int array
        For each class the trees know, its place in `classes`.
    classes : sequence of str
    n_features : int
    """
    features, thresholds, values, sizes = [], [], [], []
    for tree in trees:
        order = _breadth_first(tree.children_left, tree.children_right)
        leaf = tree.children_left[order] < 0
        features.append(np.where(leaf, -1, tree.feature[order]))
        thresholds.append(_float32_below(tree.threshold[order[~leaf]]))
        answers = tree.value[order[leaf], 0, :]
        spread = np.zeros((len(answers), len(classes)))
        spread[:, columns] = answers / answers.sum(axis=1, keepdims=True)
        values.append(spread)
        sizes.append(len(order))
    return Forest(
        classes,
        n_features,
        np.concatenate(features),
        np.concatenate(thresholds),
        np.concatenate(values),
        sizes,
    )


def _breadth_first(left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    level = np.zeros(1, np.int64)
    levels = [level]
    while True:
        inner = level[left[level] >= 0]
        if not inner.size:
            return np.concatenate(levels)
        level = np.stack((left[inner], right[inner]), axis=1).ravel()
        levels.append(level)


def _float32_below(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round towards minus infinity: float32 x <= threshold exactly when x <= the result."""
    rounded = threshold.astype(np.float32)
    below = np.nextafter(rounded, np.float32(-np.inf))
    result: NDArray[np.float32] = np.where(rounded > threshold, below, rounded)
    return result
