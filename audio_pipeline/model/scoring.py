"""What a model answers about labelled cases, and how good the answers are.

Scored as ``docs/recognition.md`` says: one answer a recording, the finding; an abstention is no
answer; strict figures count it as an error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import JOINT_LABELS
from audio_pipeline.analysis.pipeline import Analysis, conclude
from audio_pipeline.datasets.examples import Case
from audio_pipeline.model import metrics
from audio_pipeline.model.classifier import Classifier

BACKGROUND = "other"
_ANSWER_OF = {
    "single_pop": "pop",
    "repeated_pops": "pop",
    "grating": "grating",
    "nothing_recognised": BACKGROUND,
}


@dataclass(frozen=True, eq=False)
class Judged:
    """What a model says about one case.

    Attributes
    ----------
    case : Case
    analysis : Analysis
        With its finding and events.
    answer : str or None
        The label the finding stands for; None for an abstention.
    probabilities : float64 array, shape (n_events, n_labels)
        Of the case's events in context, the whole case being one where no segment was found.
    """

    case: Case
    analysis: Analysis
    answer: str | None
    probabilities: NDArray[np.float64]

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


def judge(cases: Sequence[Case], classifier: Classifier) -> list[Judged]:
    """Let a model answer about every case, all events in one call."""
    if not cases:
        return []
    counts = [len(case.table) for case in cases] + [len(case.extraction.table) for case in cases]
    tables = [case.table for case in cases] + [case.extraction.table for case in cases]
    probabilities = np.split(
        classifier.predict_proba(np.concatenate(tables)), np.cumsum(counts)[:-1]
    )
    judged = []
    for number, case in enumerate(cases):
        analysis = conclude(case.extraction, probabilities[len(cases) + number], classifier)
        finding = analysis.finding
        answer = None if finding is None else answer_of(finding.label, classifier.labels)
        weighed = probabilities[number]
        if len(analysis.events) == len(weighed):
            chances = [list(event.probabilities.values()) for event in analysis.events]
            weighed = np.array(chances).reshape(weighed.shape)
        judged.append(Judged(case, analysis, answer, weighed))
    return judged


@dataclass(frozen=True, eq=False)
class Answers:
    """Judged cases as arrays; labels are numbered as in `labels`.

    Attributes
    ----------
    labels : tuple of str
    truth, answer : int64 array, shape (n_cases,)
        -1 in `answer` for an abstention.
    mean : float64 array, shape (n_cases, n_labels)
        Mean probability of each case's events; NaN for a case that cannot be read or used.
    groups : str array, shape (n_cases,)
    seconds : float64 array, shape (n_cases,)
    joints : int64 array, shape (n_cases, 2)
        Sure pop and sure grating events.
    event_truth : int64 array, shape (n_events,)
    event_case : int64 array, shape (n_events,)
    event_probabilities : float64 array, shape (n_events, n_labels)
    """

    labels: tuple[str, ...]
    truth: NDArray[np.int64]
    answer: NDArray[np.int64]
    mean: NDArray[np.float64]
    groups: NDArray[np.str_]
    seconds: NDArray[np.float64]
    joints: NDArray[np.int64]
    event_truth: NDArray[np.int64]
    event_case: NDArray[np.int64]
    event_probabilities: NDArray[np.float64]

    @property
    def forced(self) -> NDArray[np.int64]:
        """The likeliest label of each case by its mean probability; -1 where there is none."""
        unknown = np.isnan(self.mean).any(axis=1)
        return np.where(unknown, metrics.ABSTAINED, self.mean.argmax(axis=1))

    def subset(self, chosen: NDArray[np.int64]) -> Answers:
        """Return some of the cases (repeats allowed), in this order."""
        position = np.argsort(self.event_case, kind="stable")
        bounds = np.searchsorted(self.event_case[position], np.arange(len(self.truth) + 1))
        parts = [position[bounds[one] : bounds[one + 1]] for one in chosen]
        events = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        case = np.repeat(np.arange(len(chosen)), [len(part) for part in parts])
        return Answers(
            self.labels,
            self.truth[chosen],
            self.answer[chosen],
            self.mean[chosen],
            self.groups[chosen],
            self.seconds[chosen],
            self.joints[chosen],
            self.event_truth[events],
            case,
            self.event_probabilities[events],
        )


def answers(judged: Sequence[Judged], labels: Sequence[str], groups: NDArray[np.str_]) -> Answers:
    """Put judged cases into arrays.

    Parameters
    ----------
    judged : sequence of Judged
        Their labels all among `labels`.
    labels : sequence of str
        The model's labels, in its order.
    groups : str array, shape (n_cases,)
        The linked group of each.
    """
    number = {label: index for index, label in enumerate(labels)}
    counts = [len(one.probabilities) for one in judged]
    truth = np.array([number[one.case.label] for one in judged], np.int64)
    empty = np.zeros((0, len(labels)))
    return Answers(
        tuple(labels),
        truth,
        np.array([-1 if one.answer is None else number[one.answer] for one in judged], np.int64),
        np.array([_mean(one.probabilities) for one in judged]).reshape(-1, len(labels)),
        groups,
        np.array([_seconds(one.case) for one in judged]),
        np.array([list(one.sure_joints.values()) for one in judged], np.int64).reshape(-1, 2),
        np.repeat(truth, counts),
        np.repeat(np.arange(len(judged)), counts),
        np.concatenate([empty, *(one.probabilities for one in judged)]),
    )


def _mean(probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(probabilities):
        return np.full(probabilities.shape[1], np.nan)
    mean: NDArray[np.float64] = probabilities.mean(axis=0)
    return mean


def _seconds(case: Case) -> float:
    if case.stretch is not None:
        return case.stretch[1] - case.stretch[0]
    return case.extraction.duration or 0.0


Figure = Callable[[Answers], float]


def _recording_balanced_accuracy(given: Answers) -> float:
    return metrics.balanced_accuracy(given.truth, given.forced, len(given.labels))


def _auc(given: Answers) -> float:
    known = given.forced != metrics.ABSTAINED
    return metrics.macro_auc(given.truth[known], given.mean[known])


def _pop_against_grating(given: Answers) -> float:
    """Return right / (right + confused) among answered pops and gratings."""
    joint = [given.labels.index(label) for label in JOINT_LABELS if label in given.labels]
    if len(joint) < 2:
        return float("nan")
    among = np.isin(given.truth, joint) & np.isin(given.answer, joint)
    right = given.truth[among] == given.answer[among]
    return float(right.mean()) if right.size else float("nan")


def _false_alarms(given: Answers, columns: Sequence[int]) -> float:
    """Return sure joint events in background recordings, per minute of these."""
    if BACKGROUND not in given.labels or not set(JOINT_LABELS) & set(given.labels):
        return float("nan")
    of_background = given.truth == given.labels.index(BACKGROUND)
    minutes = given.seconds[of_background].sum() / 60
    count = given.joints[of_background][:, list(columns)].sum()
    return float(count / minutes) if minutes > 0 else float("nan")


def _false_share(given: Answers, columns: Sequence[int]) -> float:
    """Return the share of background recordings with a sure joint event."""
    if BACKGROUND not in given.labels or not set(JOINT_LABELS) & set(given.labels):
        return float("nan")
    of_background = given.truth == given.labels.index(BACKGROUND)
    wrong = given.joints[of_background][:, list(columns)].sum(axis=1) > 0
    return float(wrong.mean()) if wrong.size else float("nan")


def _ece(given: Answers) -> float:
    probabilities = given.event_probabilities
    right = probabilities.argmax(axis=1) == given.event_truth if len(probabilities) else np.zeros(0)
    highest = probabilities.max(axis=1) if len(probabilities) else np.zeros(0)
    return metrics.calibration_error(highest, right.astype(bool))


FIGURES: dict[str, Figure] = {
    "balanced_accuracy": lambda a: metrics.balanced_accuracy(a.truth, a.answer, len(a.labels)),
    "strict_balanced_accuracy": lambda a: metrics.strict_balanced_accuracy(
        a.truth, a.answer, len(a.labels)
    ),
    "recording_balanced_accuracy": _recording_balanced_accuracy,
    "coverage": lambda a: metrics.coverage(a.answer),
    "auc": _auc,
    "ece": _ece,
    "brier": lambda a: metrics.brier_score(a.event_truth, a.event_probabilities),
    "pop_against_grating": _pop_against_grating,
    "false_alarms_per_minute": lambda a: _false_alarms(a, (0, 1)),
    "false_pops_per_minute": lambda a: _false_alarms(a, (0,)),
    "false_gratings_per_minute": lambda a: _false_alarms(a, (1,)),
    "false_joint_recordings": lambda a: _false_share(a, (0, 1)),
    "false_grating_recordings": lambda a: _false_share(a, (1,)),
}
"""Every figure a report gives, from answers; NaN where it does not apply."""
