"""From which probability an event is sure of its label: where "unsure" begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.datasets.manifest import FAR_KINDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CANDIDATES: Final = np.round(np.arange(0.35, 0.951, 0.01), 2)
_LEAST_COVERAGE: Final = 0.75
_HIGHEST_THRESHOLD: Final = 0.95


def choose_thresholds(
    probabilities: Floats,
    truth: Ints,
    case: Ints,
    labels: Sequence[str],
    budgets: Mapping[str, float] | None = None,
    background: str = "other",
    least_kept: float = 0.5,
    kinds: NDArray[np.str_] | None = None,
) -> dict[str, float]:
    """Choose the probability at which an event is sure of its label.

    Parameters
    ----------
    probabilities : float array, shape (n, n_labels)
        Calibrated, about groups the model had not seen; a row an event.
    truth : int array, shape (n,)
    case : int array, shape (n,)
        Which recording an event belongs to.
    labels : sequence of str
    budgets : mapping of str to float or None
        Largest share of `background` recordings in which some event may be sure of this label.
    background : str
        The label the budgets are about.
    least_kept : float
        Share of the rightly named events of a label that stay sure, whatever its budget: a
        threshold that silences a label helps nobody.
    kinds : str array, shape (n,), or None
        What each event's recording is of: kinds of the background weigh alike in a budget, and
        those hardly ever heard near a person do not count.

    Returns
    -------
    dict of str to float
        Labels with a budget get the lowest threshold that keeps it (at most 0.95). The others
        share the one that leaves three quarters of the events answered, between just above
        chance and 0.5; the background's is at least 0.5, for likelier by a hair is not sure.
    """
    likeliest = probabilities.argmax(axis=1)
    highest = probabilities.max(axis=1)
    common = 0.5
    if highest.size:
        lowest = min(0.5, max(0.35, round(1 / len(labels), 2)))
        common = float(np.clip(np.quantile(highest, 1 - _LEAST_COVERAGE), lowest, 0.5))
    thresholds = {label: math.floor(common * 100) / 100 for label in labels}
    if background in labels:
        thresholds[background] = max(thresholds[background], 0.5)
    if not budgets or background not in labels:
        return thresholds
    shares = _BackgroundShares(case, kinds, truth == list(labels).index(background))
    if not shares:
        return thresholds
    for label, budget in budgets.items():
        if label not in thresholds:
            continue
        number = list(labels).index(label)
        affordable = (
            float(threshold)
            for threshold in _CANDIDATES
            if threshold >= thresholds[label]
            and shares.of((likeliest == number) & (highest >= threshold)) <= budget
        )
        right = highest[(truth == number) & (likeliest == number)]
        kept = (
            float(np.quantile(right, 1 - least_kept, method="lower"))
            if right.size
            else _HIGHEST_THRESHOLD
        )
        wanted = min(next(affordable, _HIGHEST_THRESHOLD), math.floor(kept * 100) / 100)
        thresholds[label] = max(wanted, thresholds[label])
    return thresholds


class _BackgroundShares:
    """Shares of the background's recordings that have some event, every kind of them alike."""

    def __init__(self, case: Ints, kinds: NDArray[np.str_] | None, background: Bools) -> None:
        if kinds is not None:
            background = background & ~np.isin(kinds, sorted(FAR_KINDS))
        self._rows = background
        cases, first = np.unique(case[background], return_index=True)
        self._cases = cases
        of_kind = np.zeros(len(case), np.str_) if kinds is None else kinds
        _, kind = np.unique(of_kind[background][first], return_inverse=True)
        counts = np.bincount(kind)
        self._weights = 1.0 / (counts[kind] * counts.size) if cases.size else np.zeros(0)
        self._case = case

    def __bool__(self) -> bool:
        return bool(self._cases.size)

    def of(self, events: Bools) -> float:
        """Return the share of recordings with one of these events."""
        return float(self._weights[np.isin(self._cases, self._case[events & self._rows])].sum())
