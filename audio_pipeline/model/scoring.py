"""What a model answers about labelled cases, and how good the answers are.

Scored as ``docs/recognition.md`` says: one answer a recording, the finding; an abstention is no
answer; strict figures count it as an error. Where the data say what `kind` of sound each recording
is, every kind of a label weighs alike, so that 181 keys do not outvote one zip.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import BACKGROUND, JOINT_LABELS
from audio_pipeline.analysis.pipeline import Analysis, classify_segments
from audio_pipeline.datasets.examples import AnnotatedRecording, Example
from audio_pipeline.datasets.manifest import KIND, is_near
from audio_pipeline.model import metrics
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.model.metrics import group_intervals

_ANSWER_OF: Final = {
    "single_pop": "pop",
    "repeated_pops": "pop",
    "grating": "grating",
    "nothing_recognised": BACKGROUND,
}
_NO_INTERVAL: Final = {"ece"}
"""Resampled events repeat, which makes any model look worse calibrated than it is."""


@dataclass(frozen=True, eq=False)
class CasePrediction:
    """What a model says about one case."""

    case: Example
    analysis: Analysis  #: With its finding and events
    answer: str | None  #: The label the finding stands for; None for an abstention
    #: float64 array, shape (n_events, n_labels): Of the case's events in context, the whole case
    #: being one where no segment was found
    probabilities: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean probability of each label over the events; NaN where there are none."""
        if not len(self.probabilities):
            return np.full(self.probabilities.shape[1], np.nan)
        return np.asarray(self.probabilities.mean(axis=0))

    @property
    def sure_joints(self) -> dict[str, int]:
        """Number of sure pop and grating events."""
        return {
            label: sum(e.label == label and not e.uncertain for e in self.analysis.events)
            for label in JOINT_LABELS
        }


def answer_of(finding: str, labels: Sequence[str]) -> str | None:
    """Return the label a finding stands for; None for an abstention."""
    answer = finding if finding in labels else _ANSWER_OF.get(finding)
    return answer if answer in labels else None


def predict_cases(cases: Sequence[Example], classifier: Classifier) -> list[CasePrediction]:
    """Let a model answer about every case, all events in one call."""
    if not cases:
        return []
    tables = [case.table for case in cases] + [case.extraction.table for case in cases]
    probabilities = classifier.predict_tables(tables)
    predictions = []
    for number, case in enumerate(cases):
        weighed, heard = probabilities[number], probabilities[len(cases) + number]
        analysis = classify_segments(case.extraction, heard, classifier)
        finding = analysis.finding
        answer = None if finding is None else answer_of(finding.label, classifier.labels)
        if len(analysis.events) == len(weighed):
            chances = [list(event.probabilities.values()) for event in analysis.events]
            weighed = np.array(chances).reshape(weighed.shape)
        predictions.append(CasePrediction(case, analysis, answer, weighed))
    return predictions


class AnnotatedAnalysis(NamedTuple):
    """What a model says about a whole recording of a dataset."""

    recording: AnnotatedRecording
    analysis: Analysis
    #: Of a guided recording the same, had nobody known when it was to turn; else None
    unguided: Analysis | None


def analyze_annotated(
    heard: Sequence[AnnotatedRecording], classifier: Classifier
) -> list[AnnotatedAnalysis]:
    """Analyse whole recordings of a dataset where the whole matters.

    Parameters
    ----------
    heard : sequence of AnnotatedRecording
    classifier : Classifier

    Returns
    -------
    list of AnnotatedAnalysis
        Of those that can be used, and whose manifest gives times or an expected finding.
    """
    wanted = [
        one
        for one in heard
        if one.problem is None and (one.regions or one.cases[0].columns.get("finding"))
    ]
    if not wanted:
        return []
    found = []
    parts = classifier.predict_tables([one.extraction.table for one in wanted])
    for one, part in zip(wanted, parts, strict=True):
        unguided = None
        if one.extraction.phases:
            free = replace(one.extraction, phases=())
            unguided = classify_segments(free, part, classifier)
        analysis = classify_segments(one.extraction, part, classifier)
        found.append(AnnotatedAnalysis(one, analysis, unguided))
    return found


@dataclass(frozen=True, eq=False)
class PredictionTable:
    """Predictions as arrays; labels are numbered as in `labels`."""

    labels: tuple[str, ...]
    y_true: NDArray[np.int64]  #: int64 array, shape (n_cases,): -1 in `answer` for an abstention
    answer: NDArray[np.int64]
    #: float64 array, shape (n_cases, n_labels): Mean probability of each case's events; NaN for a
    #: case that cannot be read or used
    mean: NDArray[np.float64]
    groups: NDArray[np.str_]  #: str array, shape (n_cases,)
    #: int64 array, shape (n_cases,): What each is, as numbers of `kind_names`; those of a label
    #: weigh alike
    kinds: NDArray[np.int64]
    #: int64 array, shape (n_cases,): 1 for a sound near a person, 0 for a far one, -1 where nobody
    #: knows
    near: NDArray[np.int64]
    seconds: NDArray[np.float64]  #: float64 array, shape (n_cases,)
    joints: NDArray[np.int64]  #: int64 array, shape (n_cases, 2): Sure pop and sure grating events
    event_true: NDArray[np.int64]  #: int64 array, shape (n_events,)
    event_case: NDArray[np.int64]  #: int64 array, shape (n_events,)
    event_probabilities: NDArray[np.float64]  #: float64 array, shape (n_events, n_labels)
    kind_names: tuple[str, ...] = ("",)

    @property
    def event_confidence(self) -> NDArray[np.float64]:
        """The highest probability of each event."""
        return np.asarray(self.event_probabilities.max(axis=1, initial=0.0))

    @property
    def event_right(self) -> NDArray[np.bool_]:
        """Whether the likeliest label of each event is its own."""
        return np.asarray(self.event_probabilities.argmax(axis=1) == self.event_true)

    @property
    def y_pred(self) -> NDArray[np.int64]:
        """The likeliest label of each case by its mean probability; -1 where there is none."""
        unknown = np.isnan(self.mean).any(axis=1)
        return np.where(unknown, metrics.ABSTAINED, self.mean.argmax(axis=1))

    @property
    def has_kinds(self) -> bool:
        """Whether the data say what kind of sound each recording is."""
        return self.kind_names != ("",)

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each case: one over the number of its kind; 1 where kinds are not told."""
        if not self.has_kinds:
            return np.ones(len(self.y_true))
        cell = self.y_true * len(self.kind_names) + self.kinds
        return np.asarray(1.0 / np.bincount(cell)[cell])

    def unweighted(self) -> PredictionTable:
        """Return the same with every recording weighing alike."""
        return replace(self, kinds=np.zeros_like(self.kinds), kind_names=("",))

    def subset(self, chosen: NDArray[np.int64]) -> PredictionTable:
        """Return some of the cases (repeats allowed), in this order."""
        position = np.argsort(self.event_case, kind="stable")
        bounds = np.searchsorted(self.event_case[position], np.arange(len(self.y_true) + 1))
        counts = np.diff(bounds)[chosen]
        # Event numbers within each case, counted on from where the case's events begin.
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        events = position[np.repeat(bounds[:-1][chosen], counts) + within]
        of_cases = ("y_true", "answer", "mean", "groups", "kinds", "near", "seconds", "joints")
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in of_cases},
            event_true=self.event_true[events],
            event_case=np.repeat(np.arange(len(chosen)), counts),
            event_probabilities=self.event_probabilities[events],
        )


def prediction_table(
    predictions: Sequence[CasePrediction], labels: Sequence[str], groups: NDArray[np.str_]
) -> PredictionTable:
    """Put predictions into arrays.

    Parameters
    ----------
    predictions : sequence of CasePrediction
        Their labels all among `labels`.
    labels : sequence of str
        The model's labels, in its order.
    groups : str array, shape (n_cases,)
        The linked group of each.
    """
    number = {label: index for index, label in enumerate(labels)}
    counts = [len(one.probabilities) for one in predictions]
    y_true = np.array([number[one.case.label] for one in predictions], np.int64)
    answers = [-1 if one.answer is None else number[one.answer] for one in predictions]
    near = [is_near(one.case.columns) for one in predictions]
    told = np.array([one.case.columns.get(KIND, "") for one in predictions], dtype=np.str_)
    names, kinds = np.unique(told, return_inverse=True)
    joints = [list(one.sure_joints.values()) for one in predictions]
    return PredictionTable(
        tuple(labels),
        y_true,
        np.array(answers, np.int64),
        np.array([one.mean for one in predictions]).reshape(-1, len(labels)),
        groups,
        kinds.astype(np.int64),
        np.array([-1 if one is None else int(one) for one in near], np.int64),
        np.array([_seconds(one.case) for one in predictions]),
        np.array(joints, np.int64).reshape(-1, len(JOINT_LABELS)),
        np.repeat(y_true, counts),
        np.repeat(np.arange(len(predictions)), counts),
        np.concatenate([np.zeros((0, len(labels))), *(one.probabilities for one in predictions)]),
        tuple(names.tolist()) or ("",),
    )


def _seconds(case: Example) -> float:
    if case.stretch is not None:
        return case.stretch[1] - case.stretch[0]
    return case.extraction.duration or 0.0


Figure = Callable[[PredictionTable], float]


def _balanced_accuracy(given: PredictionTable, answer: NDArray[np.int64]) -> float:
    return metrics.balanced_accuracy(given.y_true, answer, len(given.labels), given.weights)


def _named_right(label: str, *, among_named: bool) -> Figure:
    """Share of the recordings of a label, or of those surely named so, that are both.

    Silence counts as a miss.
    """

    def figure(given: PredictionTable) -> float:
        if label not in given.labels:
            return float("nan")
        number = given.labels.index(label)
        named, there = given.answer == number, given.y_true == number
        return _share(named & there, given, named if among_named else there)

    return figure


def _share(
    hit: NDArray[np.bool_], given: PredictionTable, among: NDArray[np.bool_] | None = None
) -> float:
    weights = given.weights if among is None else given.weights * among
    total = weights.sum()
    return float((weights * hit).sum() / total) if total > 0 else float("nan")


def _auc(given: PredictionTable) -> float:
    known = given.y_pred != metrics.ABSTAINED
    return metrics.macro_auc(given.y_true[known], given.mean[known])


def _pop_against_grating(given: PredictionTable) -> float:
    """Return right / (right + confused) among answered pops and gratings."""
    joint = [given.labels.index(label) for label in JOINT_LABELS if label in given.labels]
    if len(joint) < 2:
        return float("nan")
    among = np.isin(given.y_true, joint) & np.isin(given.answer, joint)
    return _share(given.y_true == given.answer, given, among)


def _of_background(given: PredictionTable) -> NDArray[np.bool_]:
    """Return which recordings are of the background; none where no joint sound is told from it."""
    if BACKGROUND not in given.labels or not set(JOINT_LABELS) & set(given.labels):
        return np.zeros(len(given.y_true), bool)
    return np.asarray(given.y_true == given.labels.index(BACKGROUND))


def _false_a_minute(*labels: str) -> Figure:
    """Sure joint events in background recordings, per minute of these, unweighted."""
    columns = [JOINT_LABELS.index(label) for label in labels]

    def figure(given: PredictionTable) -> float:
        background = _of_background(given)
        minutes = given.seconds[background].sum() / 60
        heard = given.joints[background][:, columns].sum()
        return float(heard / minutes) if minutes > 0 else float("nan")

    return figure


def _false_share(*labels: str, near: bool | None = None) -> Figure:
    """Share of background recordings, or of the near or far ones, with a sure joint event."""
    columns = [JOINT_LABELS.index(label) for label in labels]

    def figure(given: PredictionTable) -> float:
        among = _of_background(given)
        if near is not None:
            among = among & (given.near == int(near))
        return _share(given.joints[:, columns].sum(axis=1) > 0, given, among)

    return figure


FIGURES: dict[str, Figure] = {
    "balanced_accuracy": lambda a: _balanced_accuracy(a, a.answer),
    "coverage": lambda a: _share(a.answer != metrics.ABSTAINED, a),
    "recording_balanced_accuracy": lambda a: _balanced_accuracy(a, a.y_pred),
    "strict_balanced_accuracy": lambda a: metrics.strict_balanced_accuracy(
        a.y_true, a.answer, len(a.labels), a.weights
    ),
    "auc": _auc,
    "pops_found": _named_right("pop", among_named=False),
    "gratings_found": _named_right("grating", among_named=False),
    "pop_precision": _named_right("pop", among_named=True),
    "grating_precision": _named_right("grating", among_named=True),
    "pop_against_grating": _pop_against_grating,
    "near_false_gratings": _false_share("grating", near=True),
    "near_false_pops": _false_share("pop", near=True),
    "far_false_gratings": _false_share("grating", near=False),
    "far_false_pops": _false_share("pop", near=False),
    "false_joint_recordings": _false_share("pop", "grating"),
    "false_grating_recordings": _false_share("grating"),
    "false_alarms_per_minute": _false_a_minute("pop", "grating"),
    "false_pops_per_minute": _false_a_minute("pop"),
    "false_gratings_per_minute": _false_a_minute("grating"),
    "ece": lambda a: metrics.calibration_error(a.event_confidence, a.event_right),
    "brier": lambda a: metrics.brier_score(a.event_true, a.event_probabilities),
}
"""Every figure a report gives, from predictions; NaN where it does not apply. All weigh kinds alike
but the AUC (every clip alike), those a minute, and those of events (`ece`, `brier`)."""

FIGURE_NAMES: Final = (
    ("balanced_accuracy", "Balanced accuracy of the answers given"),
    ("coverage", "Share of the recordings answered"),
    ("recording_balanced_accuracy", "Balanced accuracy, every recording answered"),
    ("strict_balanced_accuracy", "Balanced accuracy, no answer counted as an error"),
    ("auc", "Area under the ROC curve, mean over labels"),
    ("pops_found", "Share of the pops surely found"),
    ("gratings_found", "Share of the grinding sounds surely found"),
    ("pop_precision", "Share of the sure pops that are pops"),
    ("grating_precision", "Share of the sure grinding sounds that are such"),
    ("pop_against_grating", "Pop against grinding sound, given an answer of these"),
    ("near_false_gratings", "Sounds near a person with a false grinding sound"),
    ("near_false_pops", "Sounds near a person with a false pop"),
    ("far_false_gratings", "Other everyday sounds with a false grinding sound"),
    ("far_false_pops", "Other everyday sounds with a false pop"),
    ("false_joint_recordings", "Share of other recordings with a false pop or grinding sound"),
    ("false_grating_recordings", "Share of other recordings with a false grinding sound"),
    ("false_alarms_per_minute", "False pops and grinding sounds a minute of other sound"),
    ("false_gratings_per_minute", "False grinding sounds a minute of other sound"),
    ("ece", "Calibration error"),
    ("brier", "Brier score"),
    ("shortcut_balanced_accuracy", "Balanced accuracy of recording conditions alone"),
)
"""What is shown of the figures, in this order, with its name for people."""


HEADLINE: Final = "recording_balanced_accuracy"
"""What estimators are ranked by: every recording answered, every kind of a label weighing alike."""


def point_figures(given: PredictionTable) -> dict[str, float | None]:
    """Return :data:`FIGURES`, None where one does not apply."""
    return {name: metrics.plain(figure(given)) for name, figure in FIGURES.items()}


def figures_with_intervals(given: PredictionTable, seed: int = 0) -> dict[str, Any]:
    """Return figures with their 95 % intervals by bootstrap over groups.

    Parameters
    ----------
    given : PredictionTable
    seed : int

    Returns
    -------
    dict of str to float or None
        ``<name>``, None where it does not apply, and where an interval can be had ``<name>_low``
        and ``<name>_high``.
    """
    figures: dict[str, Any] = point_figures(given)
    known = [name for name in FIGURES if figures[name] is not None and name not in _NO_INTERVAL]

    def statistics(rows: NDArray[np.int64]) -> list[float]:
        part = given.subset(rows)
        return [FIGURES[name](part) for name in known]

    for name, interval in zip(known, group_intervals(statistics, given.groups, seed), strict=False):
        if interval:
            figures[f"{name}_low"] = metrics.plain(interval.low)
            figures[f"{name}_high"] = metrics.plain(interval.high)
    return figures
