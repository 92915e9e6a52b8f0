"""How far a figure could be off: resample whole groups, since recordings of one are alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Statistic = Callable[[NDArray[np.int64]], float]
_FEWEST_GROUPS = 3


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def group_interval(
    statistic: Statistic, groups: NDArray[np.str_], seed: int = 0, resamples: int = 1000
) -> Interval | None:
    """Return the 95 % percentile interval of a figure over resampled groups.

    Parameters
    ----------
    statistic : callable
        Takes the indices of recordings (repeats allowed), returns the figure or NaN.
    groups : array, shape (n,)
        The group of each recording.
    seed : int
    resamples : int

    Returns
    -------
    Interval or None
        None with fewer than three groups, or when most resamples give no figure: an interval
        would only pretend to know.
    """
    names, member = np.unique(groups, return_inverse=True)
    if names.size < _FEWEST_GROUPS:
        return None
    members = [np.flatnonzero(member == number) for number in range(names.size)]
    generator = np.random.default_rng(seed)
    figures = np.array(
        [
            statistic(np.concatenate([members[number] for number in chosen]))
            for chosen in generator.integers(0, names.size, (resamples, names.size))
        ]
    )
    known = figures[~np.isnan(figures)]
    if known.size < resamples / 2:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return Interval(float(low), float(high))
