"""Adding a few recordings to what a model knows: the trees stay, their answers are updated.

Every leaf of a forest holds what the model believes about sounds that arrive there. New events vote
in the leaves they reach, against the old belief counted as `strength` events. Twenty clips are too
few to grow trees from, but enough to move the leaves they fall into.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.forest import Forest
from audio_pipeline.training.fit import balanced_weights


def adapt_forest(
    base: Forest,
    table: ArrayLike,
    labels: NDArray[np.str_],
    weights: ArrayLike,
    classes: Sequence[str],
    strength: float,
) -> Forest:
    """Return `base` with its leaves updated by new events.

    Parameters
    ----------
    base : Forest
    table : array, shape (n, n_features)
    labels : str array, shape (n,)
        Each one of `classes`.
    weights : array, shape (n,)
        >= 0; classes are balanced on top of them.
    classes : sequence of str
        The labels of the result: all of the base's, and new ones.
    strength : float
        > 0. How many events the belief of a leaf is worth.

    Returns
    -------
    Forest
        The same trees; with no event the same answers.
    """
    missing = set(base.classes_.tolist()) - set(classes)
    if missing:
        raise ValueError(f"the result must keep the label {sorted(missing)[0]!r}")
    state = base.__getstate__()
    place = {label: column for column, label in enumerate(classes)}
    belief = np.zeros((len(base.value), len(classes)))
    belief[:, [place[label] for label in base.classes_.tolist()]] = base.value
    belief /= np.maximum(belief.sum(axis=1, keepdims=True), 1e-12)
    leaves = base.apply(table)
    balanced = balanced_weights(labels, weights, classes)
    columns = np.array([place[str(label)] for label in labels], np.int64)
    votes = np.zeros_like(belief)
    np.add.at(votes, (leaves, columns[:, None]), balanced[:, None])
    updated = strength * belief + votes
    updated /= updated.sum(axis=1, keepdims=True)
    return Forest(
        list(classes),
        base.n_features_in_,
        state["feature"],
        state["threshold"],
        updated,
        state["nodes_per_tree"],
    )
