"""Which sounds a person should label next, and how well a model of these labels would do.

A model is fitted again to the labels made so far. What to ask next is what it is least sure of and
what is least like anything asked before, in turn from every likeliest label. One sound in five is
drawn at random instead and never learnt from: by them, and by models that know nothing of their
group, precision and recall are told honestly while the labels grow.

The margin between the two likeliest labels is the oldest measure of doubt (Scheffer and others
2001); weighing it by the distance from what is labelled is Zhdanov's (arXiv 1901.05954), made
greedy as in core sets (Sener and Savarese, arXiv 1708.00489).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from audio_pipeline.datasets.examples import balanced_weights
from audio_pipeline.model import metrics
from audio_pipeline.model.classifier import clean_table
from audio_pipeline.model.estimator import DEFAULT, fit_weighted, make_classifier

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

APART_SHARE: Final = 0.2
"""One sound in five is drawn at random and kept apart."""

REFIT_EVERY: Final = 20
"""Labels after which the model is fitted again."""

_SMALL_TREES: Final = {"n_estimators": 60, "min_samples_leaf": 2}
_FOLDS: Final = 5
_FARTHEST: Final = 4.0
"""Standard deviations beyond which a feature is not more unlike."""


def draw_of(key: str) -> float:
    """Return where a sound comes in a random order, in [0, 1): the same in every run.

    Parameters
    ----------
    key : str
        What makes it the same sound in another run.
    """
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:7], "big") / 2**56


def uncertainty(probabilities: Floats) -> Floats:
    """Return how close the two likeliest labels are, in [0, 1], shape (n,).

    Parameters
    ----------
    probabilities : float array, shape (n, n_labels)
    """
    best = np.sort(probabilities, axis=1)
    second = best[:, -2] if best.shape[1] > 1 else 0.0
    return np.asarray(np.clip(1.0 - (best[:, -1] - second), 0.0, 1.0))


def standardized(table: NDArray[np.float32]) -> Floats:
    """Return features in standard deviations from their mean, none beyond four."""
    rows = clean_table(table).astype(np.float64)
    spread = rows.std(axis=0)
    scaled = (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.asarray(np.clip(scaled, -_FARTHEST, _FARTHEST))


def learned_order(
    space: Floats,
    probabilities: Floats,
    worth: Floats,
    asked: Bools,
    groups: Sequence[str],
    most: int,
    barred: Bools | None = None,
) -> Ints:
    """Return which sounds to ask about next.

    Parameters
    ----------
    space : float array, shape (n, n_features)
        Of :func:`standardized`.
    probabilities : float array, shape (n, n_labels)
    worth : float array, shape (n,)
        In [0, 1]: what an answer would add, such as :func:`uncertainty`.
    asked : bool array, shape (n,)
        What is labelled.
    groups : sequence of str
        Who or what each was recorded from.
    most : int
    barred : bool array, shape (n,), optional
        What must not be asked about.

    Returns
    -------
    int64 array
        At most `most` numbers of sounds that are not asked, the first to be asked first: in turn
        from every likeliest label; of it from the group that was asked about least; of that the
        most worth, weighed by how far it is from all that was asked or comes before it.
    """
    waiting = np.flatnonzero(~asked if barred is None else ~(asked | barred))
    if not waiting.size:
        return waiting
    rest = space[waiting]
    far = np.full(waiting.size, math.inf)
    for row in np.flatnonzero(asked):
        far = np.minimum(far, np.linalg.norm(rest - space[row], axis=1))
    guess = probabilities[waiting].argmax(axis=1)
    names, member = np.unique(np.array(groups, dtype=np.str_), return_inverse=True)
    heard = np.bincount(member[asked], minlength=names.size)
    of_group = member[waiting]
    there = np.ones(waiting.size, bool)
    order = []
    for turn in range(min(most, waiting.size)):
        labels = np.unique(guess[there])
        among = there & (guess == labels[turn % labels.size])
        among &= heard[of_group] == heard[of_group[among]].min()
        nearness = np.where(np.isinf(far), 1.0, far)
        score = np.where(among, worth[waiting] * nearness + 1e-9 * nearness, -1.0)
        chosen = int(score.argmax())
        order.append(waiting[chosen])
        there[chosen] = False
        heard[of_group[chosen]] += 1
        far = np.minimum(far, np.linalg.norm(rest - rest[chosen], axis=1))
    return np.array(order, np.int64)


def most_alike(space: Floats, number: int, asked: Bools, most: int) -> Ints:
    """Return the sounds most like one, nearest first, without it and without what was asked."""
    far: Floats = np.linalg.norm(space - space[number], axis=1)
    far[asked] = math.inf
    far[number] = math.inf
    nearest: Ints = np.argsort(far, kind="stable")[:most]
    return nearest[np.isfinite(far[nearest])]


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval, and of how many it is; None of nothing."""

    value: float | None
    low: float | None
    high: float | None
    count: int


@dataclass(frozen=True)
class Estimate:
    """How well a model of the labels made so far would do, by the sounds kept apart."""

    learnt: int  #: Labels it is fitted to
    right: Share  #: Of the sounds kept apart
    precision: dict[str, Share]  #: By label
    recall: dict[str, Share]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Refit:
    """A model fitted to the labels made so far."""

    #: float64 array, shape (n, n_labels): Of every sound, for the labels in the order given
    probabilities: Floats
    estimate: Estimate


def refit(
    table: NDArray[np.float32],
    given: Sequence[str | None],
    apart: Bools,
    groups: Sequence[str],
    labels: Sequence[str],
    *,
    estimator: str | BaseEstimator = DEFAULT,
    seed: int = 0,
    judge: bool = True,
) -> Refit | None:
    """Fit a model to the labels made so far, and tell by the sounds kept apart how good it is.

    Parameters
    ----------
    table : float32 array, shape (n, n_features)
    given : sequence of str or None
        The label of each sound; None where there is none yet, or nobody is sure.
    apart : bool array, shape (n,)
        Never learnt from.
    groups : sequence of str
        Sounds of a group are told by models that know nothing of it.
    labels : sequence of str
        All that a sound may be called.
    estimator
        As :func:`~audio_pipeline.model.estimator.make_classifier` takes it.
    seed : int
    judge : bool
        Whether the sounds kept apart are asked about at all.

    Returns
    -------
    Refit or None
        None as long as the labels learnt from are fewer than two different ones.
    """
    rows = clean_table(table)
    number = {label: index for index, label in enumerate(labels)}
    y = np.array([number.get(label or "", -1) for label in given], np.int64)
    of_group = np.array(groups, dtype=np.str_)
    learnt = np.flatnonzero((y >= 0) & ~apart)
    if np.unique(y[learnt]).size < 2:
        return None

    smaller = _SMALL_TREES if isinstance(estimator, str) else {}

    def told(train: Ints, asked: Ints) -> Floats:
        answers = np.zeros((asked.size, len(labels)))
        # Every label weighs alike, and within it every group.
        weights = balanced_weights(
            y[train].astype(np.str_), np.ones(train.size), (of_group[train], 1.0)
        )
        model = make_classifier(estimator, random_state=seed)
        fitted = fit_weighted(model, rows[train], y[train], weights, **smaller)
        answers[:, fitted.classes_] = fitted.predict_proba(rows[asked])
        return answers

    judged = np.flatnonzero((y >= 0) & apart & judge)
    y_pred = np.full(judged.size, metrics.ABSTAINED)
    parts = np.array([int(draw_of(group) * _FOLDS) for group in of_group[judged].tolist()], int)
    for part in np.unique(parts):
        tested = judged[parts == part]
        train = learnt[~np.isin(of_group[learnt], of_group[tested])]
        if np.unique(y[train]).size > 1:
            y_pred[parts == part] = told(train, tested).argmax(axis=1)
    known = y_pred != metrics.ABSTAINED
    estimate = estimate_of(
        y[judged][known], y_pred[known], of_group[judged][known], labels, learnt.size
    )
    return Refit(told(learnt, np.arange(len(rows))), estimate)


def estimate_of(
    y_true: Ints, y_pred: Ints, groups: NDArray[np.str_], labels: Sequence[str], learnt: int = 0
) -> Estimate:
    """Return precision and recall of every label, with intervals.

    Parameters
    ----------
    y_true, y_pred : int array, shape (n,)
        Numbers of labels.
    groups : str array, shape (n,)
    labels : sequence of str
    learnt : int
        Labels that the answers were learnt from.

    Returns
    -------
    Estimate
        Each interval is the wider of Wilson's and a bootstrap over groups: the one is honest with
        few sounds, the other with sounds that come in groups.
    """
    right = y_true == y_pred

    def share(among: Bools) -> Share:
        hits, of_group = right[among], groups[among]
        if not hits.size:
            return Share(None, None, None, 0)
        value = float(hits.mean())
        low, high = metrics.wilson(value, hits.size)
        (drawn,) = metrics.group_intervals(lambda rows: [float(hits[rows].mean())], of_group)
        if drawn is not None:
            low, high = min(low, drawn.low), max(high, drawn.high)
        return Share(value, low, high, int(hits.size))

    numbers = dict(enumerate(labels))
    return Estimate(
        learnt,
        share(np.ones(y_true.size, bool)),
        {label: share(y_pred == number) for number, label in numbers.items()},
        {label: share(y_true == number) for number, label in numbers.items()},
    )


@dataclass(frozen=True)
class Agreement:
    """How far two people agree about the same sounds."""

    count: int  #: Sounds that both have named
    agreed: float | None  #: Share of them named alike
    #: Cohen's kappa: agreement beyond what chance would give, 1 at most; None where chance alone
    #: would agree always, or nothing was named by both
    kappa: float | None
    #: 95 % interval of kappa by bootstrap over groups; None with fewer than three
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def agreement(first: Sequence[str], second: Sequence[str], groups: Sequence[str]) -> Agreement:
    """Compare what two people called the same sounds.

    Parameters
    ----------
    first, second : sequence of str
        Labels, in the same order.
    groups : sequence of str
        Sounds of a group are drawn together for the interval.
    """
    names, numbers = np.unique([*first, *second], return_inverse=True)
    a, b = np.split(numbers, 2)

    def kappa(rows: Ints) -> list[float]:
        counts = metrics.confusion(a[rows], b[rows], names.size) / max(1, rows.size)
        chance = float(counts.sum(axis=0) @ counts.sum(axis=1))
        return [(float(np.trace(counts)) - chance) / (1 - chance) if chance < 1 else math.nan]

    if not a.size:
        return Agreement(0, None, None, None, None)
    (interval,) = metrics.group_intervals(kappa, np.array(groups, dtype=np.str_))
    return Agreement(
        int(a.size),
        float((a == b).mean()),
        metrics.plain(kappa(np.arange(a.size))[0]),
        None if interval is None else metrics.plain(interval.low),
        None if interval is None else metrics.plain(interval.high),
    )
