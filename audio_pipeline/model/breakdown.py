"""Figures of parts: by group, condition or kind of sound, and of events in time."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import SOUNDS, Event
from audio_pipeline.analysis.pipeline import Analysis
from audio_pipeline.datasets.examples import Example
from audio_pipeline.datasets.manifest import FINDING, is_near, number_in
from audio_pipeline.model import metrics
from audio_pipeline.model.metrics import Interval, group_intervals, plain, plain_values
from audio_pipeline.model.scoring import AnnotatedAnalysis, PredictionTable

MEASURED_SNR = "measured_snr"
"""What is always reported by: how far the sounds stand out of the noise, in steps of 10 dB."""

_NUMERIC_STEP = 10.0
_MOST_VALUES = 60


@dataclass(frozen=True)
class Breakdown:
    """Figures of some of the recordings."""

    name: str
    count: int  #: Recordings, or labelled stretches
    coverage: float  #: Share answered
    #: Share right among the answered, and with every one answered by its likeliest label
    right_of_answered: float
    right_of_all: float
    balanced_accuracy: float  #: Of the answered
    low: float  #: Wilson's 95 % interval of `right_of_all`
    high: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; None for what cannot be said."""
        return plain_values(self)


@dataclass(frozen=True)
class EventScore:
    """How well events of one label are found in time."""

    label: str
    #: Starts within 20 and 50 ms; stretches that overlap by half of their union
    onset_20ms: metrics.Matches
    onset_50ms: metrics.Matches
    overlap: metrics.Matches

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"label": self.label, "found": self.overlap.found, "wanted": self.overlap.wanted} | {
            f"{kind}_{figure}": plain(getattr(getattr(self, kind), figure))
            for kind in ("onset_20ms", "onset_50ms", "overlap")
            for figure in ("precision", "recall", "f1")
        }


def column_values(cases: Sequence[Example], column: str) -> list[str]:
    """Return a column's value for each case; many different numbers become steps of ten."""
    values = [case.columns.get(column, "") for case in cases]
    try:
        numbers = [float(value) if value else math.nan for value in values]
    except ValueError:
        return values
    if len(set(values)) <= _NUMERIC_STEP:
        return values
    return [_step(number) for number in numbers]


def measured_snr(cases: Sequence[Example]) -> list[str]:
    """Return how far the sounds of each case's recording stand out, as steps of 10 dB.

    Empty text where nothing stood out, or where a clip is too short to measure its noise.
    """
    qualities = [case.extraction.quality for case in cases]
    heights = [None if one is None else one.event_snr_db for one in qualities]
    return ["" if height is None else _step(height) for height in heights]


def _step_order(value: str) -> float:
    """Order steps by where they begin; everything else keeps its order."""
    low, middle, _ = value.partition(" to ")
    return float(low) if middle and low.lstrip("-").isdigit() else 0.0


def _step(number: float) -> str:
    if not math.isfinite(number):
        return ""
    low = math.floor(number / _NUMERIC_STEP) * _NUMERIC_STEP
    return f"{low:.0f} to {low + _NUMERIC_STEP:.0f}"


def breakdown(given: PredictionTable, values: Sequence[str]) -> list[Breakdown]:
    """Return figures by value, at most 60: steps in order, else most recordings first."""
    column = np.array(values, dtype=np.str_)
    rows = []
    common = [value for value, _ in Counter(values).most_common(_MOST_VALUES)]
    for value in sorted(common, key=_step_order):
        chosen = np.flatnonzero(column == value)
        part = given.subset(chosen).unweighted()
        answered = part.answer != metrics.ABSTAINED
        share = float((part.y_pred == part.y_true).mean())
        low, high = metrics.wilson(share, len(chosen))
        right = (part.answer == part.y_true)[answered]
        rows.append(
            Breakdown(
                value or "not known",
                len(chosen),
                float(answered.mean()),
                float(right.mean()) if right.size else math.nan,
                share,
                metrics.balanced_accuracy(part.y_true, part.answer, len(part.labels)),
                low,
                high,
            )
        )
    return rows


def kinds_table(given: PredictionTable, cases: Sequence[Example]) -> list[dict[str, Any]]:
    """Return what each kind of each label was taken for.

    Returns
    -------
    list of dict
        ``label, kind, near, count, groups``, ``taken_for`` (label, or ``unsure``, to the share of
        the kind's recordings), ``sure_pop`` and ``sure_grating`` (shares with such an event);
        labels in order, frequent kinds first. Empty where no kind is told.
    """
    if not given.has_kinds:
        return []
    rows = []
    cells = Counter(zip(given.y_true.tolist(), given.kinds.tolist(), strict=True))
    for (number, place), count in sorted(cells.items(), key=lambda cell: (cell[0][0], -cell[1])):
        chosen = (given.y_true == number) & (given.kinds == place)
        answer = given.answer[chosen]
        taken = {label: plain((answer == n).mean()) for n, label in enumerate(given.labels)}
        taken["unsure"] = plain((answer == metrics.ABSTAINED).mean())
        rows.append(
            {
                "label": given.labels[number],
                "kind": given.kind_names[place] or "not known",
                "near": is_near(cases[int(np.flatnonzero(chosen)[0])].columns),
                "count": count,
                "groups": int(np.unique(given.groups[chosen]).size),
                "taken_for": taken,
                "sure_pop": plain((given.joints[chosen, 0] > 0).mean()),
                "sure_grating": plain((given.joints[chosen, 1] > 0).mean()),
            }
        )
    return rows


def score_events(analyses: Sequence[AnnotatedAnalysis], labels: Sequence[str]) -> list[EventScore]:
    """Compare the events found with the stretches labelled, over whole recordings.

    Parameters
    ----------
    analyses : sequence of AnnotatedAnalysis
        Those without times are left out.
    labels : sequence of str
        The model's.

    Returns
    -------
    list of EventScore
        One for each label that occurs on either side; empty when no recording has times.
    """
    nothing = metrics.Matches(0, 0, 0)
    totals = {label: [nothing] * 3 for label in labels}
    for one, analysis, _ in analyses:
        if not one.regions:
            continue
        for label, so_far in totals.items():
            scores = _matches(
                [event for event in analysis.events if event.label == label],
                [(region.start, region.end) for region in one.regions if region.label == label],
            )
            totals[label] = [a + b for a, b in zip(so_far, scores, strict=True)]
    return [
        EventScore(label, *scores)
        for label, scores in totals.items()
        if scores[0].found or scores[0].wanted
    ]


def _matches(
    found: Sequence[Event], wanted: Sequence[tuple[float, float]]
) -> tuple[metrics.Matches, metrics.Matches, metrics.Matches]:
    starts, theirs = [event.start for event in found], [start for start, _ in wanted]
    return (
        metrics.match_onsets(starts, theirs, 0.020),
        metrics.match_onsets(starts, theirs, 0.050),
        metrics.match_spans([(event.start, event.end) for event in found], wanted),
    )


Outcome = Literal["right", "partly", "uncertain", "missed", "wrong"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("right", "partly", "uncertain", "missed", "wrong")
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
    """Shares of recordings by outcome."""

    name: str
    count: int
    shares: dict[str, float]  #: By outcome; they sum to 1
    #: Share of those without grating in which it was found all the same; NaN without any
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
    """How often findings are right."""

    total: FindingShares
    #: 95 % intervals of the total by bootstrap over groups, where there are at least three
    intervals: dict[str, Interval]
    #: By ``guided``, by ``take_snr`` in steps of 10 dB, by the finding expected
    by: dict[str, list[FindingShares]]
    #: Of the guided recordings, had nobody known when they were to turn: what the protocol is worth
    #: is the difference to ``guided``
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
        {name: one for name, one in zip(names, intervals, strict=True) if one},
        {name: _by([one.get(name, "") for one in columns], name, shares) for name in _BY},
    )


def _by(
    values: Sequence[str], name: str, shares: Callable[[NDArray[np.int64], str], FindingShares]
) -> list[FindingShares]:
    column = np.array([_step(number_in(one)) if name == "take_snr" else one for one in values])
    order = sorted(set(column), key=lambda value: (_step_order(value), value))
    return [shares(np.flatnonzero(column == value), value) for value in order if value]
