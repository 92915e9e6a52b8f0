"""Figures from answers: plain functions on arrays, none of which knows what a recording is.

Classes are integers 0..k-1; an answer of -1 is an abstention. Where a figure cannot be computed it
is NaN, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.datasets.loading import DataWarning
from audio_pipeline.model.classifier import clean_table
from audio_pipeline.model.selection import Fold

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
ABSTAINED = -1


def confusion(y_true: Ints, answer: Ints, n_classes: int, weights: Floats | None = None) -> Floats:
    """Count answers; abstentions are left out.

    Parameters
    ----------
    y_true, answer : int array, shape (n,)
    n_classes : int
    weights : float array, shape (n,), optional
        What each counts; 1 without it.

    Returns
    -------
    float64 array, shape (n_classes, n_classes)
        Rows are the truth, columns the answer.
    """
    answered = answer != ABSTAINED
    pairs = y_true[answered] * n_classes + answer[answered]
    counted = None if weights is None else weights[answered]
    counts = np.bincount(pairs, counted, minlength=n_classes**2)
    return counts.reshape(n_classes, n_classes).astype(np.float64)


def recalls(counts: Floats) -> Floats:
    """Return the recall of each class, shape (n_classes,); NaN for a class that never occurs."""
    return _ratio(np.diag(counts), counts.sum(axis=1))


def precisions(counts: Floats) -> Floats:
    """Return the precision of each class, shape (n_classes,); NaN for one never answered."""
    return _ratio(np.diag(counts), counts.sum(axis=0))


def balanced_accuracy(
    y_true: Ints, answer: Ints, n_classes: int, weights: Floats | None = None
) -> float:
    """Return the mean recall over the classes that occur among the answered; NaN for none."""
    return _mean(recalls(confusion(y_true, answer, n_classes, weights)))


def strict_balanced_accuracy(
    y_true: Ints, answer: Ints, n_classes: int, weights: Floats | None = None
) -> float:
    """Return the mean recall with abstentions counted as errors; NaN for no recording."""
    weights = np.ones(len(y_true)) if weights is None else weights
    hit = y_true == answer
    right = np.bincount(y_true[hit], weights[hit], minlength=n_classes)
    there = np.bincount(y_true, weights, minlength=n_classes)
    return _mean(_ratio(right.astype(np.float64), there.astype(np.float64)))


def macro_auc(y_true: Ints, probabilities: Floats) -> float:
    """Return the mean over classes of the area under the one-against-rest ROC curve.

    Parameters
    ----------
    y_true : int array, shape (n,)
    probabilities : float array, shape (n, n_classes)

    Returns
    -------
    float
        NaN when fewer than two classes occur. Ties count half.
    """
    from scipy.stats import rankdata

    areas = []
    for column in range(probabilities.shape[1]):
        positive = y_true == column
        n_positive = int(positive.sum())
        n_negative = positive.size - n_positive
        if n_positive == 0 or n_negative == 0:
            continue
        ranks = rankdata(probabilities[:, column])
        above = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
        areas.append(above / (n_positive * n_negative))
    return float(np.mean(areas)) if areas else float("nan")


@dataclass(frozen=True)
class ReliabilityBin:
    """Events of like confidence: how sure the model was, how often it was right, how many."""

    confidence: float
    accuracy: float
    count: int


def reliability(
    confidence: Floats, right: NDArray[np.bool_], bins: int = 15
) -> list[ReliabilityBin]:
    """Sort events by confidence into bins of equal count.

    Parameters
    ----------
    confidence : float array, shape (n,)
        Probability of the likeliest class.
    right : bool array, shape (n,)
    bins : int

    Returns
    -------
    list of ReliabilityBin
        At most `bins`, from unsure to sure; empty for no event.
    """
    order = np.argsort(confidence, kind="stable")
    return [
        ReliabilityBin(float(confidence[part].mean()), float(right[part].mean()), len(part))
        for part in np.array_split(order, bins)
        if len(part)
    ]


def calibration_error(confidence: Floats, right: NDArray[np.bool_], bins: int = 15) -> float:
    """Return the expected calibration error over bins of equal count; NaN for no event."""
    found = reliability(confidence, right, bins)
    total = sum(one.count for one in found)
    if not total:
        return float("nan")
    return sum(one.count * abs(one.confidence - one.accuracy) for one in found) / total


def brier_score(y_true: Ints, probabilities: Floats) -> float:
    """Return the mean squared distance of the probabilities from the truth, 0 to 2."""
    if not y_true.size:
        return float("nan")
    wanted = np.zeros_like(probabilities)
    wanted[np.arange(y_true.size), y_true] = 1.0
    return float(((probabilities - wanted) ** 2).sum(axis=1).mean())


@dataclass(frozen=True)
class OperatingPoint:
    """What would be had if only answers at least this confident were given."""

    threshold: float
    coverage: float
    balanced_accuracy: float


def risk_coverage(
    y_true: Ints,
    answer: Ints,
    confidence: Floats,
    n_classes: int,
    weights: Floats | None = None,
) -> list[OperatingPoint]:
    """Trade coverage against accuracy: keep the most confident answers.

    Parameters
    ----------
    y_true, answer : int array, shape (n,)
        Answers without abstention.
    confidence : float array, shape (n,)
    n_classes : int
    weights : float array, shape (n,), optional
        What each counts; 1 without it.

    Returns
    -------
    list of OperatingPoint
        From full coverage down in steps of 5 %, as long as every class that occurs is still
        answered.
    """
    weights = np.ones(len(y_true)) if weights is None else weights
    order = np.argsort(-confidence, kind="stable")
    reached = np.cumsum(weights[order]) / max(weights.sum(), 1e-12)
    occurring = np.unique(y_true).size
    curve = []
    for share in np.linspace(1.0, 0.0, 21)[:-1]:
        kept = order[: int(np.searchsorted(reached, share - 1e-9)) + 1]
        if not y_true.size or np.unique(y_true[kept]).size < occurring:
            break
        curve.append(
            OperatingPoint(
                float(confidence[kept].min()),
                float(reached[len(kept) - 1]),
                balanced_accuracy(y_true[kept], answer[kept], n_classes, weights[kept]),
            )
        )
    return curve


@dataclass(frozen=True)
class Matches:
    """How many events were found, were there, and agree."""

    found: int
    wanted: int
    matched: int

    def __add__(self, other: Matches) -> Matches:
        return Matches(
            self.found + other.found, self.wanted + other.wanted, self.matched + other.matched
        )

    @property
    def precision(self) -> float:
        """Share of the found events that were there; NaN when nothing was found."""
        return self.matched / self.found if self.found else float("nan")

    @property
    def recall(self) -> float:
        """Share of the events there that were found; NaN when there were none."""
        return self.matched / self.wanted if self.wanted else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN when there is nothing on either side."""
        total = self.found + self.wanted
        return 2 * self.matched / total if total else float("nan")


def match_onsets(found: Sequence[float], wanted: Sequence[float], tolerance: float) -> Matches:
    """Pair onsets one to one within `tolerance` seconds, as many as possible."""
    ours, theirs = sorted(found), sorted(wanted)
    i = j = matched = 0
    while i < len(ours) and j < len(theirs):
        gap = ours[i] - theirs[j]
        if abs(gap) <= tolerance + 1e-9:  # 0.59 - 0.57 is a little over 0.02
            matched, i, j = matched + 1, i + 1, j + 1
        elif gap < 0:
            i += 1
        else:
            j += 1
    return Matches(len(ours), len(theirs), matched)


def match_spans(
    found: Sequence[tuple[float, float]],
    wanted: Sequence[tuple[float, float]],
    least_overlap: float = 0.5,
) -> Matches:
    """Pair stretches of time one to one, best overlap first.

    Parameters
    ----------
    found, wanted : sequence of (start, end) in seconds
    least_overlap : float
        Intersection over union that counts as found.
    """
    pairs = []
    for i, (start, end) in enumerate(found):
        for j, (first, last) in enumerate(wanted):
            shared = min(end, last) - max(start, first)
            union = max(end, last) - min(start, first)
            if shared > 0 and shared / union >= least_overlap:
                pairs.append((-shared / union, i, j))
    ours: set[int] = set()
    theirs: set[int] = set()
    for _, i, j in sorted(pairs):
        if i not in ours and j not in theirs:
            ours.add(i)
            theirs.add(j)
    return Matches(len(found), len(wanted), len(ours))


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` >= 1 recordings."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def plain(value: float) -> float | None:
    """Return a figure rounded to six digits, or None for NaN."""
    return None if math.isnan(value) else round(float(value), 6)


def plain_values(figures: object) -> dict[str, Any]:
    """Return the fields of a dataclass for JSON, its figures as :func:`plain` gives them."""
    return {
        name: plain(value) if isinstance(value, float) else value
        for name, value in vars(figures).items()
    }


def _ratio(part: Floats, whole: Floats) -> Floats:
    ratio = np.full(part.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


Statistics = Callable[[NDArray[np.int64]], Sequence[float]]
_FEWEST_GROUPS = 3


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def group_intervals(
    statistics: Statistics, groups: NDArray[np.str_], seed: int = 0, resamples: int = 500
) -> list[Interval | None]:
    """Return the 95 % percentile interval of each figure over resampled groups.

    Parameters
    ----------
    statistics : callable
        Takes the indices of recordings (repeats allowed), returns the figures, NaN for none.
    groups : array, shape (n,)
        The group of each recording.
    seed : int
    resamples : int

    Returns
    -------
    list of Interval or None
        One a figure. None with fewer than three groups, or when most resamples give no figure: an
        interval would only pretend to know.
    """
    names, member = np.unique(groups, return_inverse=True)
    everything = statistics(np.arange(groups.size)) if groups.size else []
    if names.size < _FEWEST_GROUPS:
        return [None] * len(everything)
    members = [np.flatnonzero(member == number) for number in range(names.size)]
    generator = np.random.default_rng(seed)
    figures = np.array(
        [
            statistics(np.concatenate([members[number] for number in chosen]))
            for chosen in generator.integers(0, names.size, (resamples, names.size))
        ]
    )
    return [_interval(column) for column in figures.T]


def _interval(figures: NDArray[np.float64]) -> Interval | None:
    known = figures[~np.isnan(figures)]
    if known.size < figures.size / 2:
        return None
    low, high = np.quantile(known, (0.025, 0.975))
    return Interval(float(low), float(high))


_SIZES: Final = (5, 10, 15, 20, 30, 40, 60, 80, 120, 160, 240, 320, 480)
_USUAL: Final = 40
_STUDIES: Final = 1000
_PILOTS: Final = 60


@dataclass(frozen=True)
class PeoplePlan:
    """How many people a share needs for an interval of a given width, by simulation.

    Attributes
    ----------
    share : float
        What the pilot found, in [0, 1].
    icc : float
        How alike the answers of one person are, in [0, 1]: at 1 ten of them say what one says.
    people : int
        In the pilot.
    width : float
        Wanted width of the 95 % interval.
    needed : int
        People for it.
    needed_low, needed_high : int
        10th and 90th percentile of that over pilots drawn again from the people of this one.
    curve : tuple of (int, float, float, float)
        People; the width expected; its 10th and 90th percentile over such pilots.
    """

    share: float
    icc: float
    people: int
    width: float
    needed: int
    needed_low: int
    needed_high: int
    curve: tuple[tuple[int, float, float, float], ...]


def plan_people(hits: Ints, counts: Ints, width: float, seed: int = 0) -> PeoplePlan:
    """Plan a study by its people, from the hits and tries of each person of a pilot.

    Each person has a share of their own (a beta distribution whose spread is the pilot's
    intraclass correlation, ANOVA estimator, Fleiss and others 2003, 15.3.1); a study of n people
    draws shares and as many tries as people had in the pilot, 1,000 times over.

    Parameters
    ----------
    hits, counts : int array, shape (n_people,)
        0 <= hits <= counts, counts > 0.
    width : float
        In (0, 1).
    seed : int

    Raises
    ------
    ValueError
        With fewer than three people: nobody can tell yet how they differ.
    """
    if len(counts) < _FEWEST_GROUPS:
        raise ValueError("a plan needs three people")
    random = np.random.default_rng(seed)
    own = _share_and_icc(hits, counts)
    pilots = [
        _share_and_icc(hits[drawn], counts[drawn])
        for drawn in random.integers(0, len(counts), (_PILOTS, len(counts)))
    ]
    curve = []
    # Widths shrink with the root of the people: one size tells how much another pilot changes.
    ratios = [_expected_width(*one, counts, _USUAL, random, 200) for one in (own, *pilots)]
    low, high = (np.quantile(ratios[1:], share) / ratios[0] for share in (0.1, 0.9))
    for size in _SIZES:
        expected = _expected_width(*own, counts, size, random, _STUDIES)
        curve.append((size, expected, min(1.0, low * expected), min(1.0, high * expected)))
    root = float(np.median([expected * size**0.5 for size, expected, _, _ in curve[4:]]))
    needed, fewest, most = (
        max(2, math.ceil((factor * root / width) ** 2)) for factor in (1.0, low, high)
    )
    share, icc = own
    return PeoplePlan(share, icc, len(counts), width, needed, fewest, most, tuple(curve))


def _share_and_icc(hits: Ints, counts: Ints) -> tuple[float, float]:
    """Return the share of hits, kept off 0 and 1, and the intraclass correlation."""
    total, people = int(counts.sum()), len(counts)
    share = float((hits.sum() + 0.5) / (total + 1))
    each = hits / counts
    between = float((counts * (each - hits.sum() / total) ** 2).sum()) / (people - 1)
    inside = float((counts * each * (1 - each)).sum())
    if total == people:  # one try each: people and tries are the same
        return share, 0.0
    inside /= total - people
    usual = (total - float((counts**2).sum()) / total) / (people - 1)
    whole = between + (usual - 1) * inside
    return share, min(0.999, max(0.0, (between - inside) / whole)) if whole > 0 else 0.0


def _expected_width(
    share: float, icc: float, counts: Ints, size: int, random: np.random.Generator, studies: int
) -> float:
    """Return the width that holds 95 % of the shares that studies of this size would find."""
    tries = random.choice(counts, (studies, size))
    shares = np.full((studies, size), share)
    if icc > 0.001:
        spread = (1 - icc) / icc
        shares = random.beta(share * spread, (1 - share) * spread, (studies, size))
    found = random.binomial(tries, shares).sum(axis=1) / tries.sum(axis=1)
    low, high = np.quantile(found, (0.025, 0.975))
    return float(high - low)


_TREES: Final = 50
_LEAF: Final = 3
_ABOVE_CHANCE: Final = 0.15
_SHARE: Final = 0.5
_ERRORS: Final = 1.64
"""Standard errors to the lower end of a one-sided 95 % interval."""


def probe_balanced_accuracy(
    conditions: NDArray[np.float64],
    truth: NDArray[np.int64],
    folds: Sequence[Fold],
    n_classes: int,
    seed: int,
) -> float:
    """Return the balanced accuracy of trees that see recording conditions only.

    Parameters
    ----------
    conditions : float array, shape (n, n_conditions)
        A row a recording.
    truth : int array, shape (n,)
    folds : sequence of Fold
        The same splits the model is judged on.
    n_classes : int
    seed : int

    Returns
    -------
    float
        NaN without folds.
    """
    from sklearn.ensemble import ExtraTreesClassifier

    rows = clean_table(conditions)
    answer = np.full(truth.size, ABSTAINED)
    for fold in folds:
        trees = ExtraTreesClassifier(
            _TREES, min_samples_leaf=_LEAF, max_features=None, random_state=seed
        )
        known = truth[fold.train]
        trees.fit(rows[fold.train], known, 1.0 / np.bincount(known)[known])
        answer[fold.test] = trees.predict(rows[fold.test])
    return balanced_accuracy(truth, answer, n_classes)


def shortcut_warning(
    probe: float | None, model: float | None, n_classes: int, n_recordings: int
) -> DataWarning | None:
    """Return what to say when the probe comes near the model, else None.

    Parameters
    ----------
    probe, model : float or None
        Balanced accuracies; None where there is none.
    n_classes, n_recordings : int
    """
    if probe is None or model is None or not is_shortcut(probe, model, n_classes, n_recordings):
        return None
    text = (
        "recording conditions alone (length, rate, level, background) predict the label with "
        f"balanced accuracy {probe:.2f}, the model reaches {model:.2f}: it may be hearing the "
        "microphone or the room; record all labels under the same conditions"
    )
    return DataWarning("shortcut", text)


def is_shortcut(probe: float, model: float, n_classes: int, n_recordings: int) -> bool:
    """Tell whether conditions alone explain at least half of what the model knows above chance.

    The lower end of what the probe may really reach counts: with two dozen recordings it scores
    0.6 of three classes by luck.

    Parameters
    ----------
    probe, model : float
        Balanced accuracies; NaN gives False.
    n_classes, n_recordings : int
    """
    chance = 1.0 / n_classes
    sure = probe - _ERRORS * math.sqrt(max(0.0, probe * (1 - probe)) / max(1, n_recordings))
    return sure - chance >= max(_ABOVE_CHANCE, _SHARE * (model - chance))
