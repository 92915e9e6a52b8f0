"""How far a figure could be off: resample whole groups, since recordings of one are alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Statistics = Callable[[NDArray[np.int64]], Sequence[float]]
_FEWEST_GROUPS = 3


@dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def group_intervals(
    statistics: Statistics, groups: NDArray[np.str_], seed: int = 0, resamples: int = 500
) -> list[Interval | None]:
    """Return the 95 % percentile interval of each figure over resampled groups.

    Parameters
    ----------
    statistics : callable
        Takes the indices of recordings (repeats allowed), returns the figures, NaN for none.
    groups : array, shape (n,)
        The group of each recording.
    seed : int
    resamples : int

    Returns
    -------
    list of Interval or None
        One a figure. None with fewer than three groups, or when most resamples give no figure: an
        interval would only pretend to know.
    """
    names, member = np.unique(groups, return_inverse=True)
    everything = statistics(np.arange(groups.size)) if groups.size else []
    if names.size < _FEWEST_GROUPS:
        return [None] * len(everything)
    members = [np.flatnonzero(member == number) for number in range(names.size)]
    generator = np.random.default_rng(seed)
    figures = np.array(
        [
            statistics(np.concatenate([members[number] for number in chosen]))
            for chosen in generator.integers(0, names.size, (resamples, names.size))
        ]
    )
    return [_interval(column) for column in figures.T]


def _interval(figures: NDArray[np.float64]) -> Interval | None:
    known = figures[~np.isnan(figures)]
    if known.size < figures.size / 2:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return Interval(float(low), float(high))
