"""Model selection: parameters, calibration and thresholds, chosen on groups not learnt from.

scikit-learn does it: :class:`~sklearn.model_selection.StratifiedGroupKFold` splits,
:class:`~sklearn.model_selection.GridSearchCV` chooses parameters by log loss,
:class:`~sklearn.calibration.CalibratedClassifierCV` fits one temperature out of fold. What is ours
is who may learn from whom: events of a group, and whatever was made of its recordings, stay on one
side; made events are learnt from and never judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss, make_scorer
from sklearn.model_selection import (
    GridSearchCV,
    LeaveOneGroupOut,
    ParameterGrid,
    StratifiedGroupKFold,
)
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest
from sklearn.utils.validation import has_fit_parameter

from audio_pipeline.analysis.events import BACKGROUND, ContextConfig
from audio_pipeline.datasets.examples import (
    Events,
    balanced_weights,
    concatenate_events,
    unjudged_events,
    with_synthetic_share,
)
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import unknown_features
from audio_pipeline.model.classifier import clean_table, feature_columns
from audio_pipeline.model.estimator import (
    DEFAULT,
    STEP,
    ContinuedForest,
    make_classifier,
    param_grid,
    without_training_parts,
)
from audio_pipeline.model.thresholds import choose_thresholds

Labels = NDArray[np.str_]
Groups = NDArray[np.str_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ATTEMPTS = 20
_MANY_EVENTS = 300
"""Without folds to choose by, fewer events than this get the smallest leaves."""

_SHARPEST = 4.0
"""Temperatures are kept between a quarter and this."""

_MANY_ROWS = 3000
"""Below, starting threads costs more than they gain."""


_LEAST = {"folds": 2, "inner_folds": 2, "search_trees": 1, "takes": 0, "seed": 0}
_RANGES = {
    "background_weight": (1e-6, 1e6),
    **dict.fromkeys(("kind_balance", "group_balance", "synthetic_share", "least_kept"), (0.0, 1.0)),
}


@dataclass(frozen=True)
class TrainingSettings:
    """The recipe of a model: how it is found and judged.

    Attributes
    ----------
    estimator : str or scikit-learn classifier
        As :func:`~audio_pipeline.model.estimator.make_classifier` takes it. The parameters of a
        named one are searched; an instance is taken as it is.
    params : mapping
        Parameters of it that are set instead of searched.
    search_trees : int
        Trees at most while parameters are chosen.
    inner_folds : int
        Grouped folds inside, where the groups allow it.
    feature_names : tuple of str or None
        What the model may see; None: all features.
    background_weight : float
        > 0. What the background weighs against each other label, which weigh alike: it is far more
        often heard.
    kind_balance : float
        In [0, 1]. With 1 every ``kind`` of a label (a column of the manifest) weighs the same, with
        0 each kind weighs what its events weigh.
    group_balance : float
        In [0, 1]: with 1 every group of a label weighs the same in what is learnt: a source of
        three hundred clips is one source.
    synthetic_share : float
        In [0, 1]: what made sounds weigh beside recordings of the same label.
    budgets : mapping of str to float
        What may be said wrongly, for :func:`~audio_pipeline.model.thresholds.decide` on takes. A
        false grating frightens people, a false pop does not.
    clip_budgets : mapping of str to float
        Where there are no takes: largest share of ``other`` recordings, every kind near a person
        alike, that may be answered with a sure event of a label.
    least_kept : float
        Without takes: share of a label's rightly named events that stay sure, whatever its budget.
    thresholds : mapping of str to float
        Set by hand for some labels instead of chosen.
    judge_only : bool
        Learn from made sounds only; the recordings calibrate the model and choose its thresholds.
    folds : int
        Grouped folds of the outer cross-validation.
    learn_from : mapping of str to tuple of str
        Values that a column of the manifest must have for a recording to be learnt from, all of
        them; the others only judge. Rows in doubt are never learnt from.
    takes : int
        Recordings put together from the clips of each fold, for that fold's model to judge, and as
        many others to choose by when an event is sure; only where pops, gratings and others are
        told apart.
    controls : bool
        Also ask what holds no joint sound for the labels (:mod:`audio_pipeline.model.controls`).
    ignore_groups : bool
        Report figures although recordings of a group sit on both sides of a split. They are then
        too good, and the model says so.
    sample_rate : int or None
        Hz the model listens at; None: the default rate, or the lowest of the dataset.
    name : str
        Name of the model; empty: its data's digest, so that the same data give the same bytes.
    seed : int
    jobs : int
        Threads for more than a few thousand events; the result does not depend on it.

    Raises
    ------
    InvalidInputError
        When a number is of another type or out of its range, or a feature is unknown.
    """

    estimator: str | BaseEstimator = DEFAULT
    params: Mapping[str, Any] = field(default_factory=dict)
    search_trees: int = 40
    inner_folds: int = 3
    feature_names: tuple[str, ...] | None = None
    background_weight: float = 2.0
    kind_balance: float = 0.0
    group_balance: float = 1.0
    synthetic_share: float = 0.25
    budgets: Mapping[str, float] = field(
        default_factory=lambda: {
            "near_pop": 0.05,
            "near_grating": 0.01,
            "grating": 0.015,
            "wrong": 0.08,
            "missed": 0.08,
        }
    )
    clip_budgets: Mapping[str, float] = field(default_factory=lambda: {"pop": 0.1, "grating": 0.01})
    least_kept: float = 0.05
    thresholds: Mapping[str, float] = field(default_factory=dict)
    judge_only: bool = False
    folds: int = 5
    learn_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    takes: int = 0
    controls: bool = False
    ignore_groups: bool = False
    sample_rate: int | None = None
    name: str = ""
    seed: int = 0
    jobs: int = 2

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            count = getattr(self, name)
            if not isinstance(count, int | np.integer) or not least <= count < 2**31:
                raise InvalidInputError(
                    f"{name} must be a whole number, {least} or more, not {count!r}"
                )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not isinstance(value, int | float | np.floating) or not low <= value <= high:
                raise InvalidInputError(f"{name} must be from {low:g} to {high:g}, not {value!r}")
        if self.feature_names is not None and (complaint := unknown_features(self.feature_names)):
            raise InvalidInputError(complaint)


@dataclass(frozen=True, eq=False)
class Selection:
    """A fitted estimator with everything chosen on groups it had not seen."""

    estimator: BaseEstimator  #: Calibrated where the groups allowed it
    thresholds: dict[str, float]
    params: dict[str, Any]  #: The parameters chosen
    #: As a :class:`~audio_pipeline.model.classifier.Classifier` keeps them
    background_odds: float = 1.0


@dataclass(frozen=True)
class Fold:
    """Indices of what is trained on and what is tested on; no group is in both."""

    train: Ints
    test: Ints


def grouped_folds(labels: Labels, groups: Groups, n_splits: int, seed: int) -> list[Fold]:
    """Split so that groups stay whole and labels are spread as evenly as groups allow.

    Parameters
    ----------
    labels, groups : str array, shape (n,)
    n_splits : int
        Wanted number of folds, >= 2; fewer when there are fewer groups.
    seed : int

    Returns
    -------
    list of Fold
        Every row is tested once and every training part holds every label. Empty when a label
        occurs in fewer than two groups: then no honest split exists.
    """
    names, label = np.unique(labels, return_inverse=True)
    if not names.size or min(np.unique(groups[label == k]).size for k in range(names.size)) < 2:
        return []
    everything = np.zeros((len(labels), 1))
    # scikit-learn warns where a label has fewer rows than there are folds.
    n = min(n_splits, np.unique(groups).size, int(np.bincount(label).min()))
    for attempt in range(_ATTEMPTS):
        splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed + attempt)
        splits = list(splitter.split(everything, labels, groups))
        if all(test.size and np.unique(labels[train]).size == names.size for train, test in splits):
            break
    else:
        splits = list(LeaveOneGroupOut().split(everything, labels, groups))
    return [Fold(train, test) for train, test in splits]


def event_folds(events: Events, n_splits: int, seed: int) -> list[Fold]:
    """Split events by group; only events of a case are tested, the rest of their group left out.

    Returns
    -------
    list of Fold
        Empty when some label of the judged events occurs in fewer than two groups.
    """
    judged = np.flatnonzero(events.case >= 0)
    folds = []
    for fold in grouped_folds(events.labels[judged], events.groups[judged], n_splits, seed):
        test = judged[fold.test]
        outside = ~np.isin(events.groups, np.unique(events.groups[test]))
        folds.append(Fold(np.flatnonzero(outside), test))
    return folds


def select_model(
    events: Events,
    labels: Sequence[str],
    settings: TrainingSettings,
    context: ContextConfig,
    base: BaseEstimator | None = None,
) -> Selection:
    """Choose parameters, fit, calibrate, choose thresholds.

    Parameters
    ----------
    events : Events
        All of them may be learnt from; those of a case are also judged on, always by an estimator
        that saw nothing of their group.
    labels : sequence of str
        Sorted; every one has an event, or is known to `base`.
    settings : TrainingSettings
    context : ContextConfig
        Thresholds hold for probabilities in context.
    base : fitted forest or None
        Start from this one.

    Returns
    -------
    Selection
        Uncalibrated, with parameters by the number of events, when the groups allow no split. Its
        thresholds are preliminary where takes are to choose them.
    """
    events = _with_all_labels(events.rows(np.isin(events.labels, labels)), labels, settings)
    X = clean_table(events.table)[:, feature_columns_of(settings)]
    judged = np.flatnonzero(events.case >= 0)
    learnt = np.flatnonzero(events.case < 0) if settings.judge_only else np.arange(len(events))
    weights = learning_weights(events, settings)
    judge_weights = np.zeros(len(events))
    judge_weights[judged] = balanced_weights(
        events.labels[judged],
        events.weights[judged],
        (events.kinds[judged], settings.kind_balance),
    )
    judge_weights[events.labels == BACKGROUND] *= settings.background_weight
    if settings.judge_only:
        # The shares of labels among a few recordings are those of a collection: as they are.
        judge_weights[judged] = events.weights[judged]
    folds = event_folds(events, settings.inner_folds, settings.seed)
    if settings.judge_only and folds:
        # No recording is learnt from: one split does, with all of them on the other side.
        folds = [Fold(learnt, judged)]
    pipeline, grid = _pipeline(settings, len(learnt), base, labels)
    with _learning(pipeline):
        search = _Weighted(pipeline, events.labels, weights, judge_weights)
        if folds:
            params = search.choose(X, folds, grid, settings.search_trees)
            estimator = search.calibrate(X, folds, params)
        else:
            many = len(events) > _MANY_EVENTS or base is not None
            candidates = list(ParameterGrid(grid))
            params = candidates[0] if many else candidates[-1]
            estimator = search.fit(X, learnt, params)
        if folds and not settings.takes:
            probabilities = search.out_of_fold(X, folds, params, estimator)[judged]
        else:  # nothing to judge by, or takes decide later when an event is sure
            judged = judged[:0]
            probabilities = np.zeros((0, len(labels)))
    cases = events.rows(judged)
    number = {label: column for column, label in enumerate(labels)}
    thresholds = choose_thresholds(
        cases.smooth_probabilities(probabilities, context),
        np.array([number[str(label)] for label in cases.labels], np.int64),
        cases.case,
        labels,
        settings.clip_budgets if folds else None,
        least_kept=settings.least_kept,
        kinds=cases.kinds,
    )
    thresholds |= {label: p for label, p in settings.thresholds.items() if label in labels}

    return Selection(without_training_parts(estimator), thresholds, params)


def _with_all_labels(events: Events, labels: Sequence[str], settings: TrainingSettings) -> Events:
    """Name every label that none of the events learnt from has, by an event without weight."""
    learnt = events.labels[events.case < 0] if settings.judge_only else events.labels
    absent = np.setdiff1d(np.array(labels), learnt)
    none = np.zeros((len(absent), events.table.shape[1]), np.float32)
    return concatenate_events(events, unjudged_events(none, absent, np.full(len(absent), "")))


def quick_predictor(
    events: Events, labels: Sequence[str], settings: TrainingSettings, params: Mapping[str, Any]
) -> Callable[[NDArray[np.float32]], Floats]:
    """Fit with given parameters and few trees, uncalibrated.

    Returns
    -------
    callable
        Takes feature tables, returns float64 (n, n_labels); 0 for labels that no event has.
    """
    events = events.rows(np.isin(events.labels, labels))
    columns = feature_columns_of(settings)
    X = clean_table(events.table)[:, columns]
    weights = learning_weights(events, settings)
    pipeline, _ = _pipeline(settings, len(X), None, labels)
    pipeline = _with_fewer_trees(pipeline, settings.search_trees)
    with _learning(pipeline):
        search = _Weighted(pipeline, events.labels, weights, weights)
        fitted = search.fit(X, np.arange(len(X)), params)
    place = np.searchsorted(np.array(labels), fitted.classes_)

    def predict_proba(table: NDArray[np.float32]) -> Floats:
        answers = np.zeros((len(table), len(labels)))
        answers[:, place] = fitted.predict_proba(clean_table(table)[:, columns])
        return answers

    return predict_proba


def learning_weights(events: Events, settings: TrainingSettings) -> Floats:
    """Return how much each event weighs in what is learnt, float64 (n,)."""
    weights = balanced_weights(
        events.labels,
        events.weights,
        (events.kinds, settings.kind_balance),
        (events.groups, settings.group_balance),
    )
    weights = with_synthetic_share(weights, events.labels, events.groups, settings.synthetic_share)
    return np.where(events.labels == BACKGROUND, settings.background_weight, 1.0) * weights


def feature_columns_of(settings: TrainingSettings) -> Ints | slice:
    """Return the columns of today's feature table that a recipe lets a model see."""
    names = settings.feature_names
    return slice(None) if names is None else feature_columns(names)


def _pipeline(
    settings: TrainingSettings, n_rows: int, base: BaseEstimator | None, labels: Sequence[str]
) -> tuple[Pipeline, dict[str, list[Any]]]:
    if base is not None:
        continued = ContinuedForest(base, tuple(labels), random_state=settings.seed)
        pipeline = make_classifier()
        pipeline.steps[-1] = (STEP, continued)
        return pipeline, {f"{STEP}__strength": [3.0, 10.0]}
    pipeline = make_classifier(
        settings.estimator, random_state=settings.seed, **dict(settings.params)
    )
    last, classifier = pipeline.steps[-1]
    if n_rows > _MANY_ROWS and "n_jobs" in classifier.get_params(deep=False):
        pipeline.set_params(**{f"{last}__n_jobs": settings.jobs})
    if not isinstance(settings.estimator, str):
        return pipeline, {}  # whoever gives an instance has chosen its parameters
    return pipeline, param_grid(pipeline, n_rows, settings.params)


def _with_fewer_trees(pipeline: Pipeline, most: int) -> Pipeline:
    name = f"{pipeline.steps[-1][0]}__n_estimators"
    trees = pipeline.get_params().get(name)
    return pipeline if trees is None else pipeline.set_params(**{name: min(most, trees)})


def _named(classifier: BaseEstimator) -> str:
    inner = getattr(classifier, "estimator", None)
    return type(inner or classifier).__name__


def _can_be_weighed(classifier: BaseEstimator) -> bool:
    """Tell whether scikit-learn hands weights on to it.

    Not where it is made of others, such as an SVC in a calibration, bagging or boosting: two kinds
    of weights do not get through two of these.
    """
    try:
        return isinstance(classifier.get_metadata_routing(), MetadataRequest)
    except NotImplementedError:
        return False


@contextmanager
def _learning(pipeline: Pipeline) -> Iterator[None]:
    """Let scikit-learn hand on weights where it can, and say what a classifier cannot learn."""
    classifier = pipeline.steps[-1][1]
    try:
        with sklearn.config_context(enable_metadata_routing=_can_be_weighed(classifier)):
            yield
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInputError(
            f"{_named(classifier)} cannot learn from these sounds: {reason}; "
            "take another estimator, other parameters or more recordings"
        ) from error


class _Weighted:
    """Fits a pipeline with weights, which scikit-learn's metadata routing hands on by name.

    Events are weighed twice: by `train_weight` where the estimator learns from them, by
    `sample_weight`, which is 0 for made events, where it is judged and calibrated.
    """

    def __init__(
        self, pipeline: Pipeline, labels: Labels, weights: Floats, judge_weights: Floats
    ) -> None:
        self._pipeline = pipeline
        self._y = labels
        classifier = pipeline.steps[-1][1]
        self._given: dict[str, Floats] = {}
        self._judged: dict[str, Floats] = {}
        if not _can_be_weighed(classifier):
            if not judge_weights.all():
                raise InvalidInputError(
                    f"{_named(classifier)} cannot learn from made sounds; take another estimator"
                )
            return
        for _, step in pipeline.steps[:-1]:
            if has_fit_parameter(step, "sample_weight"):
                step.set_fit_request(sample_weight=False)
        self._judged = {"sample_weight": judge_weights}
        if has_fit_parameter(classifier, "sample_weight"):
            classifier.set_fit_request(sample_weight="train_weight")
            self._given = {"train_weight": weights}

    def fit(self, X: NDArray[np.float32], rows: Ints, params: Mapping[str, Any]) -> Pipeline:
        """Fit the pipeline with some parameters to some rows."""
        pipeline = clone(self._pipeline).set_params(**params)
        weights = {name: weight[rows] for name, weight in self._given.items()}
        return pipeline.fit(X[rows], self._y[rows], **weights)

    def choose(
        self,
        X: NDArray[np.float32],
        folds: Sequence[Fold],
        grid: Mapping[str, list[Any]],
        most_trees: int,
    ) -> dict[str, Any]:
        """Return the parameters of a grid with the least log loss on the folds."""
        candidates = list(ParameterGrid(dict(grid)))
        if len(candidates) == 1:
            return dict(candidates[0])
        quick = _with_fewer_trees(clone(self._pipeline), most_trees)
        # "neg_log_loss" with all labels named: a test part may lack one of them.
        scorer = make_scorer(
            log_loss,
            greater_is_better=False,
            response_method="predict_proba",
            labels=np.unique(self._y),
        )
        if self._judged:
            scorer.set_score_request(sample_weight=True)
        search = GridSearchCV(
            quick,
            dict(grid),
            cv=[(fold.train, fold.test) for fold in folds],
            scoring=scorer,
            refit=False,
            error_score="raise",
        )
        search.fit(X, self._y, **self._judged, **self._given)
        best: dict[str, Any] = search.best_params_
        return best

    def calibrate(
        self, X: NDArray[np.float32], folds: Sequence[Fold], params: Mapping[str, Any]
    ) -> BaseEstimator:
        """Fit the pipeline to all rows and one temperature to its out-of-fold answers."""
        pipeline = clone(self._pipeline).set_params(**params)
        if len(folds) == 1:  # what was held out of the one split is never learnt from
            pipeline = FrozenEstimator(self.fit(X, folds[0].train, params))
        splits = [(fold.train, fold.test) for fold in folds]
        # scikit-learn wants every row tested once. Rows that are only learnt from are tested with
        # the first fold, where their weight is 0.
        rest = np.setdiff1d(np.arange(len(X)), np.concatenate([test for _, test in splits]))
        splits[0] = (splits[0][0], np.concatenate([splits[0][1], rest]))
        calibrated = CalibratedClassifierCV(
            pipeline, method="temperature", cv=splits, ensemble=False
        )
        given = self._given if len(folds) > 1 else {}
        calibrated.fit(X, self._y, **self._judged, **given)
        # Where a dozen events are all told right, no temperature is low enough for them.
        for calibrator in calibrated.calibrated_classifiers_[0].calibrators:
            calibrator.beta_ = np.clip(calibrator.beta_, 1 / _SHARPEST, _SHARPEST)
        return calibrated

    def out_of_fold(
        self,
        X: NDArray[np.float32],
        folds: Sequence[Fold],
        params: Mapping[str, Any],
        calibrated: BaseEstimator,
    ) -> Floats:
        """Return calibrated answers about each tested row by an estimator that saw no such group.

        NaN for rows that no fold tests.
        """
        (whole,) = calibrated.calibrated_classifiers_
        answers = np.full((len(X), len(calibrated.classes_)), np.nan)
        for fold in folds:
            part = copy(whole)
            if len(folds) > 1:
                part.estimator = self.fit(X, fold.train, params)
            answers[fold.test] = part.predict_proba(X[fold.test])
        return answers
