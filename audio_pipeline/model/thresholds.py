"""One model from events: chosen, calibrated and given thresholds on groups it had not seen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import ContextConfig
from audio_pipeline.datasets.examples import Events
from audio_pipeline.model.adapt import adapt_forest, side_by_side, thinned
from audio_pipeline.model.calibration import choose_thresholds, fit_calibration
from audio_pipeline.model.classifier import Calibration
from audio_pipeline.model.fit import FitSettings, balanced_weights, fit_forest
from audio_pipeline.model.forest import Forest
from audio_pipeline.model.splits import Fold, grouped_folds

Floats = NDArray[np.float64]

_LEAST_PROBABILITY = 1e-3
_MANY_EVENTS = 300
"""Without folds to choose by, fewer events than this get the smallest leaves."""


@dataclass(frozen=True)
class TuningSettings:
    """How a model is found.

    Attributes
    ----------
    fit : FitSettings
    leaf_scales : tuple of float
        Leaf sizes tried, as multiples of those in `fit`; small ones are for small datasets.
    strengths : tuple of float
        Tried instead when starting from a model: how many events each of its leaves is worth.
    trees : int
        Trees of each kind while choosing.
    folds : int
        Grouped folds inside, where the groups allow it.
    budgets : mapping of str to float
        Largest share of ``other`` recordings that may be answered with a sure event of a label.
        A false grating frightens people, a false pop does not.
    least_kept : float
        Share of a label's rightly named events that stay sure, whatever its budget.
    judge_only : bool
        Grow trees from made sounds only; the recordings calibrate the model and choose its
        thresholds.
    thresholds : mapping of str to float
        Set by hand for some labels instead of chosen.
    seed : int
    """

    fit: FitSettings = field(default_factory=FitSettings)
    leaf_scales: tuple[float, ...] = (1.0, 0.35, 0.1)
    strengths: tuple[float, ...] = (3.0, 10.0)
    trees: int = 40
    folds: int = 3
    budgets: Mapping[str, float] = field(default_factory=lambda: {"pop": 0.08, "grating": 0.01})
    least_kept: float = 0.5
    judge_only: bool = False
    thresholds: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fitted estimator with everything chosen on groups it had not seen.

    Attributes
    ----------
    forest : Forest
    calibration : Calibration
    thresholds : dict of str to float
    choice : float
        The leaf scale or strength chosen.
    """

    forest: Forest
    calibration: Calibration
    thresholds: dict[str, float]
    choice: float


class Grower:
    """Fits forests to events, from nothing or beside the trees of another model.

    Parameters
    ----------
    labels : sequence of str
    settings : TuningSettings
    base : Forest or None
        Start from this model instead of from nothing.

    Notes
    -----
    Where only made sounds are learnt from, all folds ask for the same forests, so each is grown
    once and kept.
    """

    def __init__(
        self, labels: Sequence[str], settings: TuningSettings, base: Forest | None = None
    ) -> None:
        self.labels = tuple(labels)
        self.settings = settings
        self.base = base
        self._grown: dict[tuple[float, int, str], Forest] = {}

    @property
    def candidates(self) -> tuple[float, ...]:
        """What :meth:`grow` can be asked for: leaf scales, or strengths beside another model."""
        return self.settings.leaf_scales if self.base is None else self.settings.strengths

    def grow(self, events: Events, choice: float, trees: int | None = None) -> Forest:
        """Fit one forest.

        Parameters
        ----------
        events : Events
            At least one.
        choice : float
            One of `candidates`.
        trees : int or None
            Of each kind; None: as many as the settings say.
        """
        trees = trees or self.settings.fit.trees
        if not self.settings.judge_only:
            return self._fitted(events, choice, trees)
        events = events.rows(events.case < 0)
        content = hashlib.sha256(np.ascontiguousarray(events.table).tobytes())
        key = (choice, trees, content.hexdigest())
        if key not in self._grown:
            self._grown[key] = self._fitted(events, choice, trees)
        return self._grown[key]

    def _fitted(self, events: Events, choice: float, trees: int) -> Forest:
        settings = replace(self.settings, fit=replace(self.settings.fit, trees=trees))
        if self.base is not None:
            return _grow_beside(self.base, events, self.labels, choice, settings)
        fit = settings.fit.scaled(choice)
        return fit_forest(
            events.table, events.labels, events.weights, self.labels, fit, settings.seed
        )


def tune(events: Events, grower: Grower, context: ContextConfig) -> Tuned:
    """Choose, fit, calibrate.

    Parameters
    ----------
    events : Events
        All of them may be trained on; those of a case are also judged on, always by a forest that
        saw nothing of their group.
    grower : Grower
    context : ContextConfig
        Thresholds hold for probabilities in context.

    Returns
    -------
    Tuned
        Uncalibrated, with a leaf size by the number of events, when the groups allow no split.
    """
    settings, labels, candidates = grower.settings, grower.labels, grower.candidates
    folds = event_folds(events, settings.folds, settings.seed)
    judged = np.flatnonzero(events.case >= 0)
    truth = _numbers(events.labels[judged], labels)
    weights = balanced_weights(events.labels[judged], events.weights[judged], labels)
    if not folds:
        many = len(events) > _MANY_EVENTS or grower.base is not None
        choice = candidates[0] if many else candidates[-1]
        calibration = Calibration.identity(len(labels))
        thresholds = choose_thresholds(np.zeros((0, len(labels))), truth[:0], truth[:0], labels)
    else:
        tried = {}
        for candidate in candidates:
            scores = np.zeros((len(events), len(labels)))
            for fold in folds:
                forest = grower.grow(events.rows(fold.train), candidate, settings.trees)
                scores[fold.test] = forest.predict_proba(events.table[fold.test])
            tried[candidate] = scores[judged]
        losses = {one: _log_loss(scores, truth, weights) for one, scores in tried.items()}
        choice = min(losses, key=lambda one: losses[one])
        # People are shown the probabilities in context, so these are what is calibrated.
        cases = events.rows(judged)
        mixed = cases.smooth_probabilities(tried[choice], context)
        if settings.judge_only:
            # A few recordings judge what made sounds taught: their shares of labels are those of a
            # collection, not of the world, so they may set the temperature and nothing else.
            calibration = fit_calibration(mixed, truth, cases.weights, offsets=False)
        else:
            calibration = fit_calibration(mixed, truth, weights)
        weighed = cases.smooth_probabilities(calibration.apply(tried[choice]), context)
        thresholds = choose_thresholds(
            weighed,
            truth,
            cases.case,
            labels,
            settings.budgets,
            least_kept=settings.least_kept,
        )
    thresholds |= {label: p for label, p in settings.thresholds.items() if label in labels}
    return Tuned(grower.grow(events, choice), calibration, thresholds, choice)


def _grow_beside(
    base: Forest, events: Events, labels: Sequence[str], strength: float, settings: TuningSettings
) -> Forest:
    """Move the leaves of `base` and grow as many new trees beside its own."""
    old = thinned(base, 2 * settings.fit.trees)
    moved = adapt_forest(old, events.table, events.labels, events.weights, labels, strength)
    fit = replace(settings.fit.scaled(settings.leaf_scales[-1]), trees=max(1, old.n_trees // 2))
    new = fit_forest(events.table, events.labels, events.weights, labels, fit, settings.seed)
    return side_by_side(moved, new)


def event_folds(events: Events, n_splits: int, seed: int) -> list[Fold]:
    """Split events by group; only events of a case are tested, the rest of their group left out.

    Returns
    -------
    list of Fold
        Empty when some label of the judged events occurs in fewer than two groups.
    """
    judged = np.flatnonzero(events.case >= 0)
    folds = grouped_folds(events.labels[judged], events.groups[judged], n_splits, seed)
    result = []
    for fold in folds:
        test = judged[fold.test]
        outside = ~np.isin(events.groups, np.unique(events.groups[test]))
        result.append(Fold(np.flatnonzero(outside), test))
    return result


def _numbers(values: NDArray[np.str_], labels: Sequence[str]) -> NDArray[np.int64]:
    number = {label: index for index, label in enumerate(labels)}
    return np.array([number[str(value)] for value in values], np.int64)


def _log_loss(scores: Floats, truth: NDArray[np.int64], weights: Floats) -> float:
    right = np.maximum(scores[np.arange(truth.size), truth], _LEAST_PROBABILITY)
    return float(-(weights * np.log(right)).sum() / weights.sum())
