"""Where "sure" begins: chosen by budgets for what must not be said, on takes or on clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import (
    BACKGROUND,
    JOINT_LABELS,
    SOUNDS,
    certainties,
    with_background_odds,
)
from audio_pipeline.analysis.pipeline import Extraction, classify_segments
from audio_pipeline.datasets.examples import AnnotatedRecording, Example
from audio_pipeline.datasets.manifest import FAR_KINDS, FINDING, KIND, is_near
from audio_pipeline.model.classifier import Classifier

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_CANDIDATES: Final = np.round(np.arange(0.35, 0.951, 0.01), 2)
_LEAST_COVERAGE: Final = 0.75
_HIGHEST_THRESHOLD: Final = 0.95

_SURE: Final = np.round(np.arange(0.5, 0.981, 0.03), 2)
"""A joint sound that is no likelier than the background is never sure."""

ODDS: Final = (0.5, 0.7, 1.0, 1.2, 1.5, 2.0)
"""Of the background, to choose from."""
_NEVER: Final = 1.01
_SCALES: Final = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Decision:
    """When an event is sure."""

    #: Certainty (:func:`~audio_pipeline.analysis.events.certainties`) by label
    thresholds: dict[str, float]
    background_odds: float = 1.0  #: By what the odds of the background are multiplied


@dataclass(frozen=True, eq=False)
class Heard:
    """What a model says of recordings, before anything is sure; rows are recordings."""

    #: float64 array, shape (n_odds, n, 2): With each of the background odds tried, the highest
    #: certainty of an event that is likeliest a pop, or a grating, and may decide; 0 without any
    certainty: Floats
    #: bool array, shape (n_odds, n): Some event that counts is likeliest a pop or a grating
    doubt: Bools
    holds: Bools  #: bool array, shape (n, 2): A pop, a grating is there
    take: Bools  #: bool array, shape (n,): A whole recording; the others are clips
    near: Bools  #: bool array, shape (n,): A clip of an everyday sound near a person
    kinds: NDArray[np.str_]  #: str array, shape (n,): What a clip is of; every kind weighs alike


def hear(
    cases: Sequence[Example], takes: Sequence[AnnotatedRecording], classifier: Classifier
) -> Heard:
    """Ask a model about clips and takes whose groups it has not seen.

    Parameters
    ----------
    cases : sequence of Example
    takes : sequence of AnnotatedRecording
        Their manifest says what should be found.
    classifier : Classifier
        Of pops, gratings and others; its thresholds and odds do not matter.
    """
    extractions = [*(one.extraction for one in cases), *(one.extraction for one in takes)]
    plain = replace(classifier, background_odds=1.0)
    answers = plain.predict_tables([one.table for one in extractions])
    said = [
        [_said(*pair, classifier, odds) for pair in zip(extractions, answers, strict=True)]
        for odds in ODDS
    ]
    sounds = [frozenset({one.label}) for one in cases]
    sounds += [SOUNDS[one.cases[0].columns[FINDING]] for one in takes]
    near = [one.label == BACKGROUND and bool(is_near(one.columns)) for one in cases]
    return Heard(
        np.array([[certainty for certainty, _ in row] for row in said]).reshape(len(ODDS), -1, 2),
        np.array([[doubt for _, doubt in row] for row in said]),
        np.array([[label in one for label in JOINT_LABELS] for one in sounds]).reshape(-1, 2),
        np.array([False] * len(cases) + [True] * len(takes)),
        np.array(near + [False] * len(takes)),
        np.array([*(one.columns.get(KIND, "") for one in cases), *([""] * len(takes))]),
    )


def _said(
    extraction: Extraction, answers: Floats, classifier: Classifier, odds: float
) -> tuple[list[float], bool]:
    """Return the highest certainty of a pop and of a grating, and whether any is doubted."""
    labels = classifier.labels
    weighed = with_background_odds(answers, labels, odds)
    willing, reluctant = (
        classify_segments(
            extraction, weighed, replace(classifier, thresholds=dict.fromkeys(labels, limit))
        )
        for limit in (0.0, _NEVER)
    )
    may = [event for event in willing.events if not event.uncertain]
    chances = np.array([[event.probabilities[name] for name in labels] for event in may])
    certain = certainties(chances.reshape(-1, len(labels)), labels)
    likeliest = np.array([event.label for event in may], np.str_)
    highest = [float(certain[likeliest == label].max(initial=0.0)) for label in JOINT_LABELS]
    finding = reluctant.finding
    return highest, finding is not None and finding.label == "uncertain"


def joined_hearings(parts: Sequence[Heard]) -> Heard:
    """Put together what several models said of their own recordings."""
    return Heard(
        np.concatenate([one.certainty for one in parts], axis=1),
        np.concatenate([one.doubt for one in parts], axis=1),
        np.concatenate([one.holds for one in parts]),
        np.concatenate([one.take for one in parts]),
        np.concatenate([one.near for one in parts]),
        np.concatenate([one.kinds for one in parts]),
    )


def decide(heard: Heard, budgets: Mapping[str, float]) -> Decision:
    """Choose when an event is sure: as much said rightly as the budgets allow.

    Parameters
    ----------
    heard : Heard
        Takes and clips of groups that the models had not seen.
    budgets : mapping of str to float
        Largest shares: ``near_pop`` and ``near_grating`` of the clips of everyday sounds near a
        person that are surely named so, every kind alike; ``grating`` of the takes without one in
        which a grating is sure; ``wrong`` of all takes in which a joint sound is named that is not
        there; ``missed`` of all takes with one that are said to hold nothing.

    Returns
    -------
    Decision
        Of those within all budgets the one with most takes told right plus most kinds of gratings
        and of pops found; where none is, the one least beyond.
    """
    return _best(_candidates(heard), budgets)


def _candidates(heard: Heard) -> list[tuple[Decision, dict[str, float]]]:
    """Return all decisions to choose from, each with the shares it gives."""
    outcomes = _Outcomes(heard)
    return [
        (
            Decision({"pop": float(pop), "grating": float(grating), BACKGROUND: 0.5}, odds),
            outcomes.of(number, pop, grating),
        )
        for number, odds in enumerate(ODDS)
        for pop in _SURE
        for grating in _SURE
    ]


def _best(
    candidates: Sequence[tuple[Decision, Mapping[str, float]]], budgets: Mapping[str, float]
) -> Decision:
    """Return the decision that says most rightly; the first of several alike."""

    def worth(shares: Mapping[str, float]) -> tuple[float, float]:
        beyond = sum(
            max(0.0, shares[name] - most) / max(most, 1e-3) for name, most in budgets.items()
        )
        return -beyond, shares["right"] + shares["gratings_found"] + shares["pops_found"]

    return max(candidates, key=lambda one: worth(one[1]))[0]


def trade(said: Sequence[Heard], budgets: Mapping[str, float]) -> list[dict[str, float]]:
    """Tell what more or less caution gives, each part decided by all others.

    Returns
    -------
    list of dict
        A row for half, all, twice and four times the budgets: ``budgets``, the shares that have
        one, ``right`` of the takes, and of the clips of a label, every kind alike, ``pops_found``
        and ``gratings_found``.
    """
    candidates = [
        _candidates(joined_hearings([*said[:n], *said[n + 1 :]])) for n in range(len(said))
    ]
    rows = []
    for scale in _SCALES:
        scaled = {name: scale * most for name, most in budgets.items()}
        judged = [
            _judged(part, _best(of_others, scaled))
            for part, of_others in zip(said, candidates, strict=True)
        ]
        rows.append({"budgets": scale, **_Outcomes(joined_hearings(judged)).of(0, 0.5, 0.5)})
    return rows


def _judged(heard: Heard, decision: Decision) -> Heard:
    """Return the same with a certainty of 1 for what is sure and 0 for what is not."""
    number = ODDS.index(decision.background_odds)
    limits = [decision.thresholds[label] for label in JOINT_LABELS]
    sure = (heard.certainty[number] >= limits).astype(np.float64)
    return replace(heard, certainty=sure[None], doubt=heard.doubt[number][None])


class _Outcomes:
    """What is said rightly and wrongly of recordings."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        clips = ~heard.take
        self._of_clips = {
            "near_pop": (0, *_by_kind(heard, heard.near)),
            "near_grating": (1, *_by_kind(heard, heard.near)),
            "pops_found": (0, *_by_kind(heard, clips & heard.holds[:, 0])),
            "gratings_found": (1, *_by_kind(heard, clips & heard.holds[:, 1])),
        }
        self._truth = heard.holds[heard.take]
        self._doubt = heard.doubt[:, heard.take]

    def of(self, number: int, pop: float, grating: float) -> dict[str, float]:
        """Return shares, with the background odds of that number and these thresholds."""
        sure = self._heard.certainty[number] >= (pop, grating)
        said, truth = sure[self._heard.take], self._truth
        silent, doubt = ~said.any(axis=1), self._doubt[number]
        false = said & ~truth
        return {
            "right": float(((said == truth).all(axis=1) & ~(silent & doubt)).mean()),
            "missed": float((silent & ~doubt & truth.any(axis=1)).mean()),
            "wrong": float(false.any(axis=1).mean()),
            "grating": float(false[~truth[:, 1], 1].sum() / max(1, (~truth[:, 1]).sum())),
            **{
                name: float(weights @ sure[rows, column])
                for name, (column, rows, weights) in self._of_clips.items()
            },
        }


def _by_kind(heard: Heard, rows: Bools) -> tuple[Ints, Floats]:
    """Return which rows these are, and weights that sum to 1, every kind alike."""
    return np.flatnonzero(rows), _alike(heard.kinds[rows])


def _alike(kinds: NDArray[np.str_]) -> Floats:
    """Return weights that sum to 1, every kind alike."""
    _, kind, counts = np.unique(kinds, return_inverse=True, return_counts=True)
    return 1.0 / (counts[kind] * max(1, counts.size))


def choose_thresholds(
    probabilities: Floats,
    truth: Ints,
    case: Ints,
    labels: Sequence[str],
    budgets: Mapping[str, float] | None = None,
    least_kept: float = 0.5,
    kinds: NDArray[np.str_] | None = None,
) -> dict[str, float]:
    """Choose the certainty at which an event is sure of its label, where there are no takes.

    Parameters
    ----------
    probabilities : float array, shape (n, n_labels)
        Calibrated, about groups the model had not seen; a row an event.
    truth : int array, shape (n,)
    case : int array, shape (n,)
        Which recording an event belongs to.
    labels : sequence of str
    budgets : mapping of str to float or None
        Largest share of the background's recordings in which some event may be sure of this label.
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
    likeliest = probabilities.argmax(axis=1) if len(probabilities) else np.zeros(0, np.int64)
    highest = certainties(probabilities, labels)
    common = 0.5
    if highest.size:
        lowest = min(0.5, max(0.35, round(1 / len(labels), 2)))
        common = float(np.clip(np.quantile(highest, 1 - _LEAST_COVERAGE), lowest, 0.5))
    thresholds = {label: math.floor(common * 100) / 100 for label in labels}
    if BACKGROUND not in labels:
        return thresholds
    thresholds[BACKGROUND] = max(thresholds[BACKGROUND], 0.5)
    kinds = np.full(len(case), "") if kinds is None else kinds
    background = (truth == list(labels).index(BACKGROUND)) & ~np.isin(kinds, sorted(FAR_KINDS))
    recordings, first = np.unique(case[background], return_index=True)
    if not budgets or not recordings.size:
        return thresholds
    weights = _alike(kinds[background][first])

    def share(events: Bools) -> float:
        """Return the share of the background's recordings with one of these events."""
        return float(weights[np.isin(recordings, case[events & background])].sum())

    for label, budget in budgets.items():
        if label not in thresholds:
            continue
        number = list(labels).index(label)
        affordable = (
            float(threshold)
            for threshold in _CANDIDATES
            if threshold >= thresholds[label]
            and share((likeliest == number) & (highest >= threshold)) <= budget
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
