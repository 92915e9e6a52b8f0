"""From scores to probabilities, and from probabilities to "sure" or "uncertain".

Both are fitted on answers about groups the trees had not seen, and stored as plain numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.model.classifier import Calibration

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS: Final = 50
_OFFSET_PENALTY: Final = 0.02
_TEMPERATURE_PENALTY: Final = 0.01
_CANDIDATES: Final = np.round(np.arange(0.35, 0.951, 0.01), 2)
_LEAST_COVERAGE: Final = 0.75
_HIGHEST_THRESHOLD: Final = 0.95


def fit_calibration(
    scores: Floats, truth: Ints, weights: ArrayLike, offsets: bool = True
) -> Calibration:
    """Fit one temperature and one offset a label by penalised maximum likelihood.

    The penalty pulls towards "change nothing", so that a dozen events cannot bend the scores.

    Parameters
    ----------
    scores : float array, shape (n, n_labels)
        Out-of-group scores; rows sum to 1.
    truth : int array, shape (n,)
        Columns of the right labels.
    weights : array, shape (n,)
        Event weights >= 0.
    offsets : bool
        Without them only the temperature is fitted.

    Returns
    -------
    Calibration
        The identity when there is no event.
    """
    n_labels = scores.shape[1]
    given = np.asarray(weights, np.float64)
    if not truth.size or given.sum() <= 0:
        return Calibration.identity(n_labels)
    free = np.r_[True, np.full(n_labels, offsets)]
    logits = np.log(np.maximum(scores, 1e-4))
    share = given / given.sum()
    # A penalty worth a few events: it fades as data grow.
    strength = 10.0 / truth.size
    wanted = np.eye(n_labels)[truth]
    # Parameters: log of the inverse temperature, then the offsets. Newton steps with numerical
    # damping: the problem is smooth, tiny and close to convex.
    parameters = np.zeros(1 + n_labels)

    def loss(values: Floats) -> float:
        moved = logits * np.exp(values[0]) + values[1:]
        moved -= moved.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(moved).sum(axis=1))
        fit = float((share * (log_sum - (moved * wanted).sum(axis=1))).sum())
        penalty = _TEMPERATURE_PENALTY * values[0] ** 2 + _OFFSET_PENALTY * (values[1:] ** 2).sum()
        return fit + strength * float(penalty)

    current = loss(parameters)
    damping = 1e-3
    for _ in range(_STEPS):
        gradient, curvature = _derivatives(parameters, logits, wanted, share, strength)
        step = np.zeros(parameters.size)
        damped = (curvature + damping * np.eye(parameters.size))[np.ix_(free, free)]
        step[free] = np.linalg.solve(damped, -gradient[free])
        trial = loss(parameters + step)
        if trial < current:
            small = current - trial < 1e-12
            parameters, current, damping = parameters + step, trial, damping / 5
            if small:
                break
        else:
            damping *= 10
            if damping > 1e6:
                break
    shifts = parameters[1:] - parameters[1:].mean()
    return Calibration(
        round(float(np.exp(-parameters[0])), 6), tuple(round(float(one), 6) for one in shifts)
    )


def _derivatives(
    values: Floats, logits: Floats, wanted: Floats, share: Floats, strength: float
) -> tuple[Floats, Floats]:
    """Return the gradient and the Gauss-Newton curvature of the penalised loss."""
    slope = float(np.exp(values[0]))
    moved = logits * slope + values[1:]
    moved -= moved.max(axis=1, keepdims=True)
    probabilities = np.exp(moved)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    n_labels = logits.shape[1]
    # Jacobian of each logit: d/d log-slope = slope * logit, d/d offset_j = 1 for its own column.
    jacobian = np.zeros((*logits.shape, 1 + n_labels))
    jacobian[:, :, 0] = slope * logits
    jacobian[:, np.arange(n_labels), 1 + np.arange(n_labels)] = 1.0
    error = (probabilities - wanted) * share[:, None]
    gradient = np.einsum("nk,nkp->p", error, jacobian)
    weighted = jacobian * (probabilities * share[:, None])[:, :, None]
    mean = np.einsum("nk,nkp->np", probabilities, jacobian)
    curvature = np.einsum("nkp,nkq->pq", weighted, jacobian)
    curvature -= np.einsum("np,nq->pq", mean * share[:, None], mean)
    penalty = np.r_[_TEMPERATURE_PENALTY, np.full(n_labels, _OFFSET_PENALTY)] * 2 * strength
    return gradient + penalty * values, curvature + np.diag(penalty)


def choose_thresholds(
    probabilities: Floats,
    truth: Ints,
    case: Ints,
    labels: Sequence[str],
    budgets: Mapping[str, float] | None = None,
    background: str = "other",
    least_kept: float = 0.5,
) -> dict[str, float]:
    """Choose the probability at which an event is sure of its label.

    Parameters
    ----------
    probabilities : float array, shape (n, n_labels)
        Calibrated, about groups the model had not seen; a row an event.
    truth : int array, shape (n,)
    case : int array, shape (n,)
        Which recording an event belongs to.
    labels : sequence of str
    budgets : mapping of str to float or None
        Largest share of `background` recordings in which some event may be sure of this label.
    background : str
        The label the budgets are about.
    least_kept : float
        Share of the rightly named events of a label that stay sure, whatever its budget: a
        threshold that silences a label helps nobody.

    Returns
    -------
    dict of str to float
        Labels with a budget get the lowest threshold that keeps it (at most 0.95). The others
        share the one that leaves three quarters of the events answered, between just above
        chance and 0.5.
    """
    likeliest = probabilities.argmax(axis=1)
    highest = probabilities.max(axis=1)
    common = 0.5
    if highest.size:
        lowest = min(0.5, max(0.35, round(1 / len(labels), 2)))
        common = float(np.clip(np.quantile(highest, 1 - _LEAST_COVERAGE), lowest, 0.5))
    thresholds = {label: math.floor(common * 100) / 100 for label in labels}
    if not budgets or background not in labels:
        return thresholds
    of_background = truth == list(labels).index(background)
    n_background = np.unique(case[of_background]).size
    for label, budget in budgets.items():
        if label not in thresholds or n_background == 0:
            continue
        false = of_background & (likeliest == list(labels).index(label))
        affordable = (
            float(threshold)
            for threshold in _CANDIDATES
            if threshold >= thresholds[label]
            and np.unique(case[false & (highest >= threshold)]).size <= budget * n_background
        )
        number = list(labels).index(label)
        right = highest[(truth == number) & (likeliest == number)]
        kept = (
            float(np.quantile(right, 1 - least_kept, method="lower"))
            if right.size
            else _HIGHEST_THRESHOLD
        )
        wanted = min(next(affordable, _HIGHEST_THRESHOLD), math.floor(kept * 100) / 100)
        thresholds[label] = max(wanted, thresholds[label])
    return thresholds
