"""Nested cross-validation: every case is answered by a model that knows nothing of its group.

Not its sounds, not its leaf size, not its calibration, not its thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.datasets.examples import Case, Events
from audio_pipeline.features.table import FEATURE_NAMES
from audio_pipeline.model import metrics
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.model.scoring import (
    CasePrediction,
    PredictionTable,
    predict_cases,
    prediction_table,
)
from audio_pipeline.model.splits import Fold, grouped_folds
from audio_pipeline.model.thresholds import Grower, Tuned, tune

Progress = Callable[[int, int], None]
_SHARES = (0.25, 0.5, 0.75)
_FEWEST_GROUPS = 8


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What models of the other groups answered.

    Attributes
    ----------
    predictions : list of CasePrediction
        In the order of the cases.
    table : PredictionTable
        The same as arrays.
    folds : list of Fold
        Indices of cases.
    """

    predictions: list[CasePrediction]
    table: PredictionTable
    folds: list[Fold]


def classifier_of(
    tuned: Tuned, labels: Sequence[str], settings: AnalysisConfig, name: str = "fold"
) -> Classifier:
    """Return a classifier that was never saved."""
    return Classifier(
        name,
        tuple(labels),
        FEATURE_NAMES,
        settings,
        tuned.thresholds,
        tuned.calibration,
        tuned.forest,
    )


def cross_validate(
    cases: Sequence[Case],
    events: Events,
    grower: Grower,
    settings: AnalysisConfig,
    folds: Sequence[Fold],
    progress: Progress | None = None,
) -> CrossValidation:
    """Answer every case by a model that was tuned and fitted without its group.

    Parameters
    ----------
    cases : sequence of Case
    events : Events
        Of these cases, and what else is trained on; linked groups.
    grower : Grower
    settings : AnalysisConfig
    folds : sequence of Fold
        Indices of cases; at least one, each case tested once.
    progress : callable or None
        Called with (folds done, folds).
    """
    groups = case_groups(events, len(cases))
    predictions: list[CasePrediction | None] = [None] * len(cases)
    for number, fold in enumerate(folds, start=1):
        outside = ~np.isin(events.groups, np.unique(groups[fold.test]))
        tuned = tune(events.rows(outside), grower, settings.context)
        model = classifier_of(tuned, grower.labels, settings)
        for index, one in zip(
            fold.test, predict_cases([cases[index] for index in fold.test], model), strict=True
        ):
            predictions[index] = one
        if progress:
            progress(number, len(folds))
    done = [one for one in predictions if one is not None]
    assert len(done) == len(cases)
    return CrossValidation(done, prediction_table(done, grower.labels, groups), list(folds))


def case_folds(cases: Sequence[Case], groups: NDArray[np.str_], n: int, seed: int) -> list[Fold]:
    """Split cases by group; empty when a label occurs in fewer than two groups."""
    return grouped_folds(np.array([case.label for case in cases]), groups, n, seed)


def case_groups(events: Events, n_cases: int) -> NDArray[np.str_]:
    """Return the linked group of each case, shape (n_cases,); empty text without events."""
    groups = np.full(n_cases, "", dtype=events.groups.dtype)
    own = events.case >= 0
    groups[events.case[own]] = events.groups[own]
    return groups


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with part of the groups."""

    groups: float
    recording_balanced_accuracy: float


def learning_curve(
    cross_validation: CrossValidation,
    cases: Sequence[Case],
    events: Events,
    grower: Grower,
    choice: float,
) -> list[CurvePoint]:
    """Tell whether more recordings would help: fit on a quarter, half, most of the groups.

    Returns
    -------
    list of CurvePoint
        Rising number of groups, the last with all; empty with fewer than eight groups.
    """
    given = cross_validation.table
    names = np.unique(given.groups)
    if names.size < _FEWEST_GROUPS:
        return []
    settings = grower.settings
    order = np.random.default_rng(settings.seed).permutation(names)
    points = []
    for share in _SHARES:
        answer = np.full(len(cases), metrics.ABSTAINED)
        used = []
        for fold in cross_validation.folds:
            outside = [name for name in order if name not in set(given.groups[fold.test])]
            kept = outside[: max(2, round(share * len(outside)))]
            used.append(len(kept))
            part = events.rows(np.isin(events.groups, kept) | (events.case < 0))
            part = part.rows(~np.isin(part.groups, np.unique(given.groups[fold.test])))
            if np.unique(part.labels).size < 2:
                continue
            forest = grower.grow(part, choice, settings.trees)
            tables = [cases[index].table for index in fold.test]
            bounds = np.cumsum([len(table) for table in tables])[:-1]
            scores = np.split(forest.predict_proba(np.concatenate(tables)), bounds)
            answer[fold.test] = [int(score.mean(axis=0).argmax()) for score in scores]
        accuracy = metrics.balanced_accuracy(given.y_true, answer, len(grower.labels))
        points.append(CurvePoint(float(np.mean(used)), accuracy))
    whole = metrics.balanced_accuracy(given.y_true, given.y_pred, len(grower.labels))
    full = names.size * (1 - 1 / max(2, len(cross_validation.folds)))
    points.append(CurvePoint(float(full), whole))
    return points
