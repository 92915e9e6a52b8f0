"""How often the finding of a whole recording is right, where it is known what it should be.

A finding is what a person reads, so this is the figure of the product; clips cut around one sound
only say how well that sound is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.pipeline import Analysis
from audio_pipeline.model.metrics import group_intervals, plain

FINDING: Final = "finding"
"""The manifest column that says what should be found in a whole recording."""

SOUNDS: Final[Mapping[str, frozenset[str]]] = {
    "nothing_recognised": frozenset(),
    "single_pop": frozenset({"pop"}),
    "repeated_pops": frozenset({"pop"}),
    "grating": frozenset({"grating"}),
    "mixed": frozenset({"pop", "grating"}),
}
"""The joint sounds that a finding names. One pop and several count alike: a cascade is one by
definition and three by ear."""

Outcome = Literal["right", "partly", "uncertain", "missed", "wrong"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("right", "partly", "uncertain", "missed", "wrong")
_SNR_STEP: Final = 10.0
_BY: Final = ("guided", "take_snr", FINDING)


def outcome(expected: str, found: str) -> Outcome:
    """Judge one finding.

    Returns
    -------
    str
        ``right``: it names just the joint sounds that are there, or rightly none. ``partly``: one
        of the two that are there. ``uncertain``: it says that it cannot tell. ``missed``: it is
        sure that there is none, and there is one. ``wrong``: it names one that is not there.
    """
    said = SOUNDS.get(found)
    if said is None:
        return "uncertain"
    there = SOUNDS[expected]
    if said == there:
        return "right"
    if not said:
        return "missed"
    return "partly" if said < there else "wrong"


@dataclass(frozen=True)
class FindingShares:
    """Shares of recordings by outcome.

    Attributes
    ----------
    name : str
    count : int
    shares : dict of str to float
        By outcome; they sum to 1.
    false_grating : float
        Share of those without grating in which it was found all the same; NaN without any.
    """

    name: str
    count: int
    shares: dict[str, float]
    false_grating: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "count": self.count,
            **{name: plain(share) for name, share in self.shares.items()},
            "false_grating": plain(self.false_grating),
        }


@dataclass(frozen=True)
class FindingScores:
    """How often findings are right.

    Attributes
    ----------
    total : FindingShares
    intervals : dict of str to (float, float)
        95 % intervals of the total by bootstrap over groups, where there are at least three.
    by : dict of str to list of FindingShares
        By ``guided``, by ``take_snr`` in steps of 10 dB, by the finding expected.
    without_protocol : FindingShares or None
        Of the guided recordings, had nobody known when they were to turn: what the protocol is
        worth is the difference to ``guided``.
    """

    total: FindingShares
    intervals: dict[str, tuple[float, float]]
    by: dict[str, list[FindingShares]]
    without_protocol: FindingShares | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        ends = {
            f"{name}_{end}": plain(value)
            for name, interval in self.intervals.items()
            for end, value in zip(("low", "high"), interval, strict=True)
        }
        rows = {name: [one.to_dict() for one in parts] for name, parts in self.by.items()}
        bare = None if self.without_protocol is None else self.without_protocol.to_dict()
        return {**self.total.to_dict(), **ends, "by": rows, "without_protocol": bare}


def score_findings(
    recordings: Sequence[tuple[Mapping[str, str], Analysis]], seed: int = 0
) -> FindingScores | None:
    """Score the findings of recordings.

    Parameters
    ----------
    recordings : sequence of (columns, Analysis)
        `columns` as in the manifest; those without an expected finding are left out.
    seed : int
        Of the intervals.

    Returns
    -------
    FindingScores or None
        None where no recording says what should be found.
    """
    told = [(columns, one) for columns, one in recordings if columns.get(FINDING) in SOUNDS]
    if not told:
        return None
    columns = [one for one, _ in told]
    expected = [one[FINDING] for one in columns]
    found = ["" if one.finding is None else one.finding.label for _, one in told]
    numbers = [OUTCOMES.index(outcome(*pair)) for pair in zip(expected, found, strict=True)]
    outcomes = np.array(numbers, np.int64)
    without = np.array(["grating" not in SOUNDS[one] for one in expected])
    false = np.array(["grating" in SOUNDS.get(one, ()) for one in found]) & without

    def shares(rows: NDArray[np.int64], name: str = "") -> FindingShares:
        counts = np.bincount(outcomes[rows], minlength=len(OUTCOMES)) / max(1, len(rows))
        clear = rows[without[rows]]
        wrongly = float(false[clear].mean()) if len(clear) else math.nan
        return FindingShares(name, len(rows), dict(zip(OUTCOMES, counts, strict=True)), wrongly)

    everything = np.arange(len(told))
    names = [*OUTCOMES, "false_grating"]

    def statistics(rows: NDArray[np.int64]) -> list[float]:
        part = shares(rows)
        return [*part.shares.values(), part.false_grating]

    groups = np.array([one.get("group", "") or one.get("fold", "") for one in columns])
    intervals = group_intervals(statistics, groups, seed)
    return FindingScores(
        shares(everything, "all"),
        {
            name: (interval.low, interval.high)
            for name, interval in zip(names, intervals, strict=True)
            if interval
        },
        {name: _by([one.get(name, "") for one in columns], name, shares) for name in _BY},
    )


def _by(
    values: Sequence[str], name: str, shares: Callable[[NDArray[np.int64], str], FindingShares]
) -> list[FindingShares]:
    stepped = name == "take_snr"
    column = np.array([_step(value) if stepped else value for value in values])
    order = sorted(set(column), key=lambda value: (_low(value) if stepped else 0.0, value))
    return [shares(np.flatnonzero(column == value), value) for value in order if value]


def _step(value: str) -> str:
    try:
        low = math.floor(float(value) / _SNR_STEP) * _SNR_STEP
    except ValueError:
        return ""
    return f"{low:.0f} to {low + _SNR_STEP:.0f}"


def _low(step: str) -> float:
    return float(step.partition(" to ")[0] or 0.0)
