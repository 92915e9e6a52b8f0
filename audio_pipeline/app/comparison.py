"""Two takes of one session: how far the counts differ, and how far they would have to.

Sounds of a rare kind are counted as if each came by itself, at one rate a minute in each take
(Poisson). Given their sum, the count of the second take is then binomial, and the exact
conditional test (Przyborowski and Wilenski 1940; Gu, Ng, Tang and Schucany 2008) says how often
chance alone does as much. Sounds that come in runs differ more by chance, so the test is kind to a
difference; it is still one that few pairs of takes pass.

Takes of different days are not compared at all: recordings of free movement repeat badly between
days (ICC .24 to .33 at the tibia, 0 to .82 at the kneecap; Kalo et al. 2020).
"""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from audio_pipeline.exceptions import InvalidInputError

SESSION_MINUTES = 20.0
"""A joint that has cracked stays silent for about as long (Unsworth, Dowson and Wright 1971)."""

LABELS = {"pop": "pops", "grating": "grinding sounds"}

CHANCE = 0.05 / len(LABELS)
"""For each kind of sound, so that chance alone finds a difference in at most one pair of 20."""

MOST_COUNT = 1000

NOTES = (
    "A joint that has cracked usually stays silent for about 20 minutes. Fewer pops soon after"
    " are expected, whatever you did in between.",
    "Sounds often come in runs, so chance makes larger differences than this test assumes.",
    "It counts what was heard. It does not say how your back is.",
)


@dataclass(frozen=True)
class Counts:
    """What one take holds."""

    name: str  # for a person
    made: datetime.datetime | None  # when; None when not known
    seconds: float  # how long was listened
    model: str  # SHA-256 of the model
    counts: dict[str, int]  # label to the number of sure events
    usable: bool  # whether the recording could be used


@dataclass(frozen=True)
class Difference:
    """One kind of sound in both takes."""

    label: str  # ``pop`` or ``grating``
    first: int  # its counts
    second: int
    # how often two takes between which nothing changed differ at least as much, in [0, 1]
    probability: float
    # counts in the second take that would mean something, given the first: so many or fewer (None
    # when not even 0 would), so many or more (None past 1,000)
    at_most: int | None
    at_least: int | None

    @property
    def means_something(self) -> bool:
        """Whether chance alone seldom does as much."""
        return self.probability <= CHANCE

    def text(self) -> str:
        """Return it in words."""
        words = LABELS[self.label]
        line = f"{words.capitalize()}: {self.first} in the first take, {self.second} in the second."
        if self.means_something:
            return f"{line} Chance alone seldom does this: the two takes differ."
        few = {None: "not even none", 0: "none"}.get(self.at_most, f"{self.at_most} or fewer")
        many = "" if self.at_least is None else f", or {self.at_least} or more"
        return (
            f"{line} That can well be chance. After {self.first} in the first take, {few}{many} in"
            " the second would mean that they differ."
        )


@dataclass(frozen=True)
class Comparison:
    """Two takes side by side."""

    first: Counts
    second: Counts
    differences: tuple[Difference, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "takes": [
                {
                    "name": take.name,
                    "made": None if take.made is None else take.made.isoformat(timespec="seconds"),
                    "seconds": round(take.seconds, 3),
                    "counts": take.counts,
                }
                for take in (self.first, self.second)
            ],
            "differences": [
                {
                    **vars(each),
                    "probability": round(each.probability, 4),
                    "means_something": each.means_something,
                    "text": each.text(),
                }
                for each in self.differences
            ],
            "notes": list(NOTES),
        }


def counted(
    name: str, recording: dict[str, Any], model: str, made: datetime.datetime | None
) -> Counts:
    """Count the sure events of a recording, an entry of ``recordings`` in an analysis."""
    events = [event["label"] for event in recording["events"] if not event["uncertain"]]
    quality = recording.get("quality")
    return Counts(
        name,
        made,
        float(recording.get("duration") or 0.0),
        model,
        {label: events.count(label) for label in LABELS},
        bool(quality and quality["usable"]),
    )


def compare(first: Counts, second: Counts, *, same_session: bool = False) -> Comparison:
    """Compare two takes of one session.

    ``first, second``: in the order in which they were made.
    ``same_session``: the person says that they are of one session, whatever their times are.
    Raises InvalidInputError when they cannot be compared; the reason is one line.
    """
    for take in (first, second):
        if not take.usable or take.seconds <= 0:
            raise InvalidInputError(f"{take.name} cannot be used, so there is nothing to compare")
    if first.model != second.model:
        raise InvalidInputError("the two takes were heard by different models; analyse them again")
    if not same_session:
        _check_session(first, second)
    return Comparison(
        first,
        second,
        tuple(
            difference(
                label, first.counts[label], second.counts[label], first.seconds, second.seconds
            )
            for label in LABELS
        ),
    )


def _check_session(first: Counts, second: Counts) -> None:
    if first.made is None or second.made is None:
        raise InvalidInputError("when the takes were made is not known; say --same-session")
    minutes = abs((second.made - first.made).total_seconds()) / 60
    if minutes > SESSION_MINUTES:
        raise InvalidInputError(
            f"the takes are {_apart(minutes)} apart; only takes within {SESSION_MINUTES:g} minutes"
            " can be compared, because recordings of free movement repeat badly"
        )


def _apart(minutes: float) -> str:
    if minutes < 120:
        return f"{minutes:.0f} minutes"
    return f"{minutes / 60:.0f} hours" if minutes < 48 * 60 else f"{minutes / 1440:.0f} days"


def difference(
    label: str, first: int, second: int, first_seconds: float, second_seconds: float
) -> Difference:
    """Compare the counts of one label.

    ``label``: ``pop`` or ``grating``.
    ``first_seconds, second_seconds``: how long was listened, above 0.
    """
    share = second_seconds / (first_seconds + second_seconds)

    def probability(count: int) -> float:
        return chance_of(count, first + count, share)

    expected = first * share / (1 - share)
    below, above = range(int(expected), -1, -1), range(int(expected) + 1, MOST_COUNT + 1)
    at_most = next((count for count in below if probability(count) <= CHANCE), None)
    at_least = next((count for count in above if probability(count) <= CHANCE), None)
    return Difference(label, first, second, probability(second), at_most, at_least)


def chance_of(count: int, total: int, share: float) -> float:
    """Return the two-sided exact binomial probability of a count as unlikely as this one.

    ``count, total``: 0 <= count <= total.
    ``share``: probability of each to fall into `count`, in (0, 1).
    """
    # Not scipy.stats, which takes a second to import and a millisecond a test.
    logarithms = np.cumsum(np.log(np.arange(1, total + 1)))
    factorials = np.concatenate([[0.0], logarithms])
    counts = np.arange(total + 1)
    log_pmf = (
        factorials[total]
        - factorials
        - factorials[::-1]
        + counts * math.log(share)
        + (total - counts) * math.log1p(-share)
    )
    as_unlikely = log_pmf <= log_pmf[count] + 1e-7
    return float(min(1.0, np.exp(log_pmf[as_unlikely]).sum()))
