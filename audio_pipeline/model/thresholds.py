"""From which probability an event is sure of its label: where "unsure" begins."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

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

    Returns
    -------
    dict of str to float
        Labels with a budget get the lowest threshold that keeps it (at most 0.95). The others
        share the one that leaves three quarters of the events answered, between just above
        chance and 0.5.
    """
    likeliest = probabilities.argmax(axis=1)
    highest = probabilities.max(axis=1)
    common = 0.5
    if highest.size:
        lowest = min(0.5, max(0.35, round(1 / len(labels), 2)))
        common = float(np.clip(np.quantile(highest, 1 - _LEAST_COVERAGE), lowest, 0.5))
    thresholds = {label: math.floor(common * 100) / 100 for label in labels}
    if not budgets or background not in labels:
        return thresholds
    of_background = truth == list(labels).index(background)
    n_background = np.unique(case[of_background]).size
    for label, budget in budgets.items():
        if label not in thresholds or n_background == 0:
            continue
        false = of_background & (likeliest == list(labels).index(label))
        affordable = (
            float(threshold)
            for threshold in _CANDIDATES
            if threshold >= thresholds[label]
            and np.unique(case[false & (highest >= threshold)]).size <= budget * n_background
        )
        number = list(labels).index(label)
        right = highest[(truth == number) & (likeliest == number)]
        kept = (
            float(np.quantile(right, 1 - least_kept, method="lower"))
            if right.size
            else _HIGHEST_THRESHOLD
        )
        wanted = min(next(affordable, _HIGHEST_THRESHOLD), math.floor(kept * 100) / 100)
        thresholds[label] = max(wanted, thresholds[label])
    return thresholds
