"""Nested cross-validation: every case is answered by a model that knows nothing of its group.

Not its sounds, not its parameters, not its calibration, not its thresholds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.datasets.examples import AnnotatedRecording, Events, Example
from audio_pipeline.datasets.loading import TrainingData
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model import metrics
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.model.scoring import (
    AnnotatedAnalysis,
    CasePrediction,
    PredictionTable,
    analyze_annotated,
    predict_cases,
    prediction_table,
)
from audio_pipeline.model.selection import (
    Fold,
    Selection,
    TrainingSettings,
    grouped_folds,
    quick_predictor,
    select_model,
)
from audio_pipeline.model.thresholds import Decision, Heard, decide, hear, joined_hearings, trade

Progress = Callable[[int, int], None]
Deciding = tuple[Sequence[Example], Sequence[AnnotatedRecording]]
_SHARES = (0.25, 0.5, 0.75)
_FEWEST_GROUPS = 8


@dataclass(frozen=True, eq=False)
class LearningProblem:
    """What models are fitted to, and what they are judged on."""

    material: TrainingData
    kept: NDArray[np.int64]  #: int64 array, shape (n_cases,): Which of the material's cases
    groups: NDArray[np.str_]  #: str array, shape (n_cases,): The linked group of each of these
    labels: Sequence[str]  #: Sorted
    folds: Sequence[Fold]  #: Indices of these cases; empty when no honest split exists
    events: Events  #: Of those of these cases that are learnt from, and what else is trained on

    @cached_property
    def cases(self) -> list[Example]:
        """The cases that are judged."""
        return [self.material.cases[index] for index in self.kept]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What models of the other groups answered."""

    predictions: list[CasePrediction]  #: In the order of the cases
    table: PredictionTable  #: The same as arrays
    analyses: list[AnnotatedAnalysis]  #: Of whole recordings of each fold
    #: When an event is sure, by the takes of all folds; None where there were none to choose by
    decision: Decision | None = None
    #: What more or less caution gives, see `thresholds.trade`
    trade: Sequence[Mapping[str, float]] = ()


def classifier_of(
    selection: Selection,
    labels: Sequence[str],
    settings: TrainingSettings,
    analysis: AnalysisConfig,
    name: str = "fold",
) -> Classifier:
    """Return a classifier that was never saved."""
    return Classifier(
        name,
        tuple(labels),
        settings.feature_names or FEATURE_NAMES,
        analysis,
        selection.thresholds,
        selection.estimator,
        background_odds=selection.background_odds,
    )


def cross_validate(
    problem: LearningProblem,
    settings: TrainingSettings,
    base: BaseEstimator | None = None,
    heard: Sequence[Sequence[AnnotatedRecording]] | None = None,
    deciding: Sequence[Deciding] | None = None,
    progress: Progress | None = None,
) -> CrossValidation:
    """Answer every case by a model that was chosen and fitted without its group.

    Parameters
    ----------
    problem : LearningProblem
        With at least one fold, each case tested once.
    settings : TrainingSettings
        The recipe: the same for every fold and for the final model.
    base : fitted forest or None
        Start from this one.
    heard : sequence of sequence of AnnotatedRecording, or None
        Whole recordings of each fold's groups, for that fold's model to judge.
    deciding : sequence of (clips, takes), or None
        Those of each fold's groups by which it is chosen when an event is sure: for each fold by
        those of all others, as models answered them that had not seen them.
    progress : callable or None
        Called with (folds done, folds).
    """
    folds, cases, events = problem.folds, problem.cases, problem.events
    labels, analysis = problem.labels, problem.material.settings

    def fitted(fold: Fold) -> Classifier:
        """Return a model made in every way without the groups it is tested on."""
        outside = ~np.isin(events.groups, np.unique(problem.groups[fold.test]))
        selection = select_model(events.rows(outside), labels, settings, analysis.context, base)
        return classifier_of(selection, labels, settings, analysis)

    predictions: list[CasePrediction | None] = [None] * len(cases)
    analyses: list[AnnotatedAnalysis] = []
    models: Iterable[Classifier] = map(fitted, folds)
    decision = None
    traded: list[dict[str, float]] = []
    if deciding:
        models = list(models)
        said = [hear(*given, model) for given, model in zip(deciding, models, strict=True)]
        decision = _decision(said, settings)
        traded = trade(said, settings.budgets)
        others = [_decision([*said[:n], *said[n + 1 :]], settings) for n in range(len(said))]
        models = [replace(model, **vars(one)) for model, one in zip(models, others, strict=True)]
    for number, (fold, model) in enumerate(zip(folds, models, strict=True)):
        tested = predict_cases([cases[index] for index in fold.test], model)
        for index, one in zip(fold.test, tested, strict=True):
            predictions[index] = one
        analyses += analyze_annotated(heard[number] if heard else [], model)
        if progress:
            progress(number + 1, len(folds))
    done = [one for one in predictions if one is not None]
    assert len(done) == len(cases)
    table = prediction_table(done, labels, problem.groups)
    return CrossValidation(done, table, analyses, decision, traded)


def _decision(said: Sequence[Heard], settings: TrainingSettings) -> Decision:
    """Choose when an event is sure, but for what was set by hand."""
    chosen = decide(joined_hearings(said), settings.budgets)
    return replace(chosen, thresholds={**chosen.thresholds, **settings.thresholds})


def case_folds(cases: Sequence[Example], groups: NDArray[np.str_], n: int, seed: int) -> list[Fold]:
    """Split cases by group; empty when a label occurs in fewer than two groups."""
    return grouped_folds(np.array([case.label for case in cases]), groups, n, seed)


@dataclass(frozen=True)
class CurvePoint:
    """Accuracy with part of the groups."""

    groups: float
    recording_balanced_accuracy: float


def learning_curve(
    cross_validation: CrossValidation,
    problem: LearningProblem,
    settings: TrainingSettings,
    params: Mapping[str, Any],
) -> list[CurvePoint]:
    """Tell whether more recordings would help: fit on a quarter, half, most of the groups.

    Parameters
    ----------
    cross_validation : CrossValidation
    problem, settings
        As for :func:`cross_validate`.
    params : mapping
        Of the final model; nothing is chosen again.

    Returns
    -------
    list of CurvePoint
        Rising number of groups, the last with all; empty with fewer than eight groups, or when
        recordings are not learnt from.
    """
    given, events, labels = cross_validation.table, problem.events, problem.labels
    groups = np.unique(given.groups)
    if groups.size < _FEWEST_GROUPS or settings.judge_only:
        return []
    order = np.random.default_rng(settings.seed).permutation(groups)
    points = []
    for share in _SHARES:
        answer = np.full(len(problem.cases), metrics.ABSTAINED)
        used = []
        for fold in problem.folds:
            tested = set(given.groups[fold.test])
            outside = [name for name in order if name not in tested]
            kept = outside[: max(2, round(share * len(outside)))]
            used.append(len(kept))
            part = events.rows(np.isin(events.groups, kept) | (events.case < 0))
            part = part.rows(~np.isin(part.groups, list(tested)))
            if np.unique(part.labels).size < 2:
                continue
            tables = [problem.cases[index].table for index in fold.test]
            bounds = np.cumsum([len(table) for table in tables])[:-1]
            try:
                predict_proba = quick_predictor(part, labels, settings, params)
                scores = np.split(predict_proba(np.concatenate(tables)), bounds)
            except (InvalidInputError, ValueError):  # too few for this estimator: no such point
                break
            answer[fold.test] = [int(score.mean(axis=0).argmax()) for score in scores]
        else:
            accuracy = metrics.balanced_accuracy(given.y_true, answer, len(labels))
            points.append(CurvePoint(float(np.mean(used)), accuracy))
    whole = metrics.balanced_accuracy(given.y_true, given.y_pred, len(labels))
    full = groups.size * (1 - 1 / max(2, len(problem.folds)))
    points.append(CurvePoint(float(full), whole))
    return points


def seen_by(classifier: Classifier, material: TrainingData) -> list[bool]:
    """Tell of each case whether the model knows its recording or its group.

    From its training, or from choosing when an event is sure.
    """
    training = classifier.description.get("training", {})
    known = (training, training.get("decided", {}))
    recordings = {one for part in known for one in part.get("recordings", ())}
    groups = {one for part in known for one in part.get("groups", ())}
    groups = groups if material.dataset.has_groups else set()
    digests = {name: one.digest for name, one in material.surveys.items()}
    return [
        (digests[case.name] != "" and digests[case.name] in recordings)
        or not groups.isdisjoint(map(group_mark, _groups_of(case)))
        for case in material.cases
    ]


def _groups_of(case: Example) -> list[str]:
    """Return the case's group, and those of the clips it was put together from."""
    return [case.group, *filter(None, case.columns.get("groups", "").split(";"))]


def group_mark(group: str) -> str:
    """Return what stands for a group in ``model.json``, to notice it in another dataset."""
    return hashlib.sha256(f"crepitus group {group}".encode()).hexdigest()[:16]
