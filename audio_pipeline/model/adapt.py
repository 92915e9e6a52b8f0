"""Adding a few recordings to what a model knows.

Every leaf of a forest holds what the model believes about sounds that arrive there. New events vote
in the leaves they reach, against the old belief counted as `strength` events. As many new trees are
grown beside them: the old ones know the world, the new ones these recordings. Over three sources,
five draws of about twenty clips each, tested on the rest of the source, balanced accuracy was 0.66
with the model as it was, 0.70 with new trees alone, 0.75 with moved leaves, 0.78 with both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.model.fit import balanced_weights
from audio_pipeline.model.forest import Forest


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


def thinned(forest: Forest, n_trees: int) -> Forest:
    """Return a forest of at most `n_trees` of the trees, taken evenly."""
    if n_trees >= forest.n_trees:
        return forest
    state = forest.__getstate__()
    sizes = state["nodes_per_tree"].astype(np.int64)
    kept = np.unique(np.linspace(0, forest.n_trees - 1, n_trees).round().astype(np.int64))
    tree = np.repeat(np.arange(forest.n_trees), sizes)
    chosen, inner = np.isin(tree, kept), state["feature"] >= 0
    return Forest(
        state["classes"],
        forest.n_features_in_,
        state["feature"][chosen],
        state["threshold"][chosen[inner]],
        state["value"][chosen[~inner]],
        sizes[kept],
    )


def side_by_side(first: Forest, second: Forest) -> Forest:
    """Return a forest of the trees of both, which must know the same classes and features."""
    ours, theirs = first.__getstate__(), second.__getstate__()
    if first.n_features_in_ != second.n_features_in_ or (
        first.classes_.tolist() != second.classes_.tolist()
    ):
        raise ValueError("the forests know different classes or features")
    return Forest(
        ours["classes"],
        first.n_features_in_,
        *(
            np.concatenate([ours[name], theirs[name]])
            for name in ("feature", "threshold", "value", "nodes_per_tree")
        ),
    )
