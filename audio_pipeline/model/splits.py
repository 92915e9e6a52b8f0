"""Splits that keep every group on one side, and say so when that cannot be done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.str_]
Groups = NDArray[np.str_]
Floats = NDArray[np.float64]
_ATTEMPTS = 20


@dataclass(frozen=True)
class Fold:
    """Indices of what is trained on and what is tested on; no group is in both."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]


def linked_groups(groups: Groups, pairs: Iterable[tuple[int, int]]) -> Groups:
    """Join the groups of recordings that are copies of each other.

    Parameters
    ----------
    groups : str array, shape (n,)
    pairs : iterable of (int, int)
        Indices of recordings that hold the same sound.

    Returns
    -------
    str array, shape (n,)
        Joined groups carry the name that sorts first among them.
    """
    root = {str(name): str(name) for name in np.unique(groups)}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for left, right in pairs:
        first, second = sorted((find(str(groups[left])), find(str(groups[right]))))
        root[second] = first
    return np.array([find(str(name)) for name in groups], dtype=np.str_)


def grouped_folds(labels: Labels, groups: Groups, n_splits: int, seed: int) -> list[Fold]:
    """Split so that groups stay whole and labels are spread as evenly as groups allow.

    Parameters
    ----------
    labels, groups : str array, shape (n,)
    n_splits : int
        Wanted number of folds, >= 2; fewer when there are fewer groups.
    seed : int

    Returns
    -------
    list of Fold
        Every row is tested once and every training part holds every label. Empty when a label
        occurs in fewer than two groups: then no honest split exists.
    """
    names, member = np.unique(groups, return_inverse=True)
    classes, label = np.unique(labels, return_inverse=True)
    counts = np.zeros((names.size, classes.size))
    np.add.at(counts, (member, label), 1.0)
    if names.size < 2 or ((counts > 0).sum(axis=0) < 2).any():
        return []
    share = counts / counts.sum(axis=0)
    for attempt in range(_ATTEMPTS):
        fold_of = _deal(share, min(n_splits, names.size), np.random.default_rng((seed, attempt)))
        if _trains_every_label(counts, fold_of):
            break
    else:
        fold_of = np.arange(names.size)
    return [
        Fold(np.flatnonzero(fold_of[member] != number), np.flatnonzero(fold_of[member] == number))
        for number in np.unique(fold_of)
    ]


def _deal(share: Floats, n_splits: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Deal groups out, those with most of a label first, each where it evens the shares most."""
    order = generator.permutation(len(share))
    order = order[np.argsort(-share[order].max(axis=1), kind="stable")]
    filled = np.zeros((n_splits, share.shape[1]))
    fold_of = np.zeros(len(share), np.int64)
    for group in order:
        unevenness = ((filled + share[group]) ** 2 - filled**2).sum(axis=1)
        fold_of[group] = int(np.argmin(unevenness + 1e-9 * filled.sum(axis=1)))
        filled[fold_of[group]] += share[group]
    return fold_of


def _trains_every_label(counts: Floats, fold_of: NDArray[np.int64]) -> bool:
    folds = np.unique(fold_of)
    return folds.size > 1 and all(
        (counts[fold_of != number].sum(axis=0) > 0).all() for number in folds
    )


def groups_per_label(labels: Labels, groups: Groups, classes: Sequence[str]) -> dict[str, int]:
    """Return how many groups each label was heard in; below 2 it cannot be tested honestly."""
    return {label: int(np.unique(groups[labels == label]).size) for label in classes}
