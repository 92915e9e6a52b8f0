"""Measuring a model on labelled recordings it has not been trained on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline._version import __version__
from audio_pipeline.analysis.events import Event
from audio_pipeline.analysis.pipeline import conclude
from audio_pipeline.datasets.examples import Case, Heard
from audio_pipeline.datasets.loading import Caution, Material, Progress, gather, shown_names
from audio_pipeline.datasets.manifest import Dataset
from audio_pipeline.exceptions import RefusedError
from audio_pipeline.model import metrics
from audio_pipeline.model.bootstrap import group_intervals
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.model.confounds import probe_balanced_accuracy, shortcut_caution
from audio_pipeline.model.crossvalidation import case_folds
from audio_pipeline.model.metrics import plain
from audio_pipeline.model.provenance import seen_by
from audio_pipeline.model.scoring import FIGURES, Answers, answers, judge

SCHEMA_VERSION = 1
COLUMNS = ("tier", "snr", "family", "kind")
"""Manifest columns that are reported by where they are there."""

MEASURED_SNR = "measured_snr"
"""What is always reported by: how far the sounds stand out of the noise, in steps of 10 dB."""

_NUMERIC_STEP = 10.0
_MOST_VALUES = 40
_NO_INTERVAL = {"ece"}
"""Resampled events repeat, which makes any model look worse calibrated than it is."""


@dataclass(frozen=True)
class Breakdown:
    """Figures of some of the recordings.

    Attributes
    ----------
    name : str
    count : int
        Recordings, or labelled stretches.
    coverage : float
        Share answered.
    right_of_answered, right_of_all : float
        Share right among the answered, and with every one answered by its likeliest label.
    balanced_accuracy : float
        Of the answered.
    low, high : float
        Wilson's 95 % interval of `right_of_all`.
    """

    name: str
    count: int
    coverage: float
    right_of_answered: float
    right_of_all: float
    balanced_accuracy: float
    low: float
    high: float

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON; None for what cannot be said."""
        return {
            name: plain(value) if isinstance(value, float) else value
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class EventScore:
    """How well events of one label are found in time.

    Attributes
    ----------
    label : str
    onset_20ms, onset_50ms, overlap : Matches
        Starts within 20 and 50 ms; stretches that overlap by half of their union.
    """

    label: str
    onset_20ms: metrics.Matches
    onset_50ms: metrics.Matches
    overlap: metrics.Matches

    def document(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        kinds = {"onset_20ms": self.onset_20ms, "onset_50ms": self.onset_50ms}
        return {"label": self.label, "found": self.overlap.found, "wanted": self.overlap.wanted} | {
            f"{kind}_{name}": plain(value)
            for kind, matches in {**kinds, "overlap": self.overlap}.items()
            for name, value in (
                ("precision", matches.precision),
                ("recall", matches.recall),
                ("f1", matches.f1),
            )
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything a report of an evaluation shows."""

    classifier: Classifier
    material: Material
    answers: Answers
    figures: dict[str, Any]
    groups: list[Breakdown]
    by: dict[str, list[Breakdown]]
    curve: list[metrics.OperatingPoint]
    bins: list[metrics.ReliabilityBin]
    events: list[EventScore]
    cautions: tuple[Caution, ...]

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Truth by row; answers by column, abstentions in a last column."""
        given = self.answers
        table = metrics.confusion(given.truth, given.answer, len(given.labels))
        silent = given.answer == metrics.ABSTAINED
        abstained = np.bincount(given.truth[silent], minlength=len(given.labels))
        return np.column_stack([table, abstained])

    @property
    def by_label(self) -> list[dict[str, Any]]:
        """Recall and precision of each label, answered and with every recording answered."""
        given = self.answers
        answered = metrics.confusion(given.truth, given.answer, len(given.labels))
        forced = metrics.confusion(given.truth, given.forced, len(given.labels))
        return [
            {
                "label": label,
                "count": int((given.truth == number).sum()),
                "coverage": plain(metrics.coverage(given.answer[given.truth == number])),
                "recall": plain(metrics.recalls(answered)[number]),
                "precision": plain(metrics.precisions(answered)[number]),
                "recall_of_all": plain(metrics.recalls(forced)[number]),
                "precision_of_all": plain(metrics.precisions(forced)[number]),
            }
            for number, label in enumerate(given.labels)
        ]

    def document(self) -> dict[str, Any]:
        """Return the ``evaluate --json`` document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "software": f"crepitus {__version__}",
            "model": {"name": self.classifier.name, "sha256": self.classifier.sha256},
            "dataset": {
                "source": str(self.material.dataset.source),
                "digest": self.material.digest,
                "counts": dict(sorted(Counter(c.label for c in self.material.cases).items())),
            },
            "metrics": self.figures,
            "labels": self.by_label,
            "groups": [one.document() for one in self.groups],
            "by": {name: [one.document() for one in rows] for name, rows in self.by.items()},
            "confusion": {
                "labels": [*self.answers.labels, "abstained"],
                "rows": self.confusion.tolist(),
            },
            "risk_coverage": [
                {name: plain(value) for name, value in vars(point).items()} for point in self.curve
            ],
            "reliability": [
                {
                    "confidence": plain(one.confidence),
                    "accuracy": plain(one.accuracy),
                    "count": one.count,
                }
                for one in self.bins
            ],
            "events": [one.document() for one in self.events],
            "warnings": [{"code": one.code, "text": one.text} for one in self.cautions],
        }


def evaluate(
    dataset: Dataset,
    classifier: Classifier,
    *,
    by: Sequence[str] = (),
    allow_overlap: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model.

    Parameters
    ----------
    dataset : Dataset
    classifier : Classifier
    by : sequence of str
        Further manifest columns to report by.
    allow_overlap : bool
        Count recordings and groups the model was trained on; without it they are left out.
    seed : int
        Of the intervals and the shortcut probe.
    progress : callable or None

    Raises
    ------
    RefusedError
        When no recording has a label the model knows, or a column is not there.
    """
    missing = [name for name in by if not any(name in clip.columns for clip in dataset.clips)]
    if missing:
        raise RefusedError(f"{dataset.source} has no column {missing[0]!r} to report by")
    material = gather(dataset, classifier.settings, progress=progress)
    cautions = list(material.cautions)
    kept, further = _kept(material, classifier, allow_overlap)
    cautions += further
    cases = [material.cases[index] for index in kept]
    judged = judge(cases, classifier)
    given = answers(judged, classifier.labels, material.groups[kept])
    figures = _figures(given, seed)
    usable = np.flatnonzero([len(case.table) > 0 for case in cases])
    figures["shortcut_balanced_accuracy"] = _probe(material, kept[usable], cases, usable, seed)
    shortcut = shortcut_caution(
        figures["shortcut_balanced_accuracy"],
        figures["recording_balanced_accuracy"],
        np.unique(given.truth).size,
        len({case.name for case in cases}),
    )
    cautions += [shortcut] if shortcut else []
    figures["n_recordings"] = len({case.name for case in cases})
    figures["n_cases"] = len(cases)
    figures["n_events"] = len(given.event_truth)
    figures["n_groups"] = int(np.unique(given.groups).size)
    figures["scheme"] = f"the model {classifier.name} on recordings it was not trained on"
    if allow_overlap:
        figures["scheme"] = f"the model {classifier.name}, also on what it was trained on"
    known = given.forced != metrics.ABSTAINED
    highest = given.event_probabilities.max(axis=1, initial=0.0)
    right = given.event_probabilities.argmax(axis=1) == given.event_truth
    named = [name for name in COLUMNS if any(name in case.columns for case in cases)]
    columns = {name: column_values(cases, name) for name in dict.fromkeys([*named, *by])}
    names = {case.name for case in cases}
    return Evaluation(
        classifier,
        material,
        given,
        figures,
        breakdown(given, [case.group for case in cases]),
        {
            name: breakdown(given, values)
            for name, values in {**columns, MEASURED_SNR: measured_snr(cases)}.items()
        },
        metrics.risk_coverage(
            given.truth[known],
            given.forced[known],
            given.mean[known].max(axis=1, initial=0.0),
            len(given.labels),
        ),
        metrics.reliability(highest, right),
        score_events([one for one in material.heard if one.name in names], classifier),
        tuple(cautions),
    )


def _kept(
    material: Material, classifier: Classifier, allow_overlap: bool
) -> tuple[NDArray[np.int64], list[Caution]]:
    """Leave out labels the model does not know and, unless allowed, what it was trained on."""
    kept: list[int] = []
    unknown: set[str] = set()
    trained: set[str] = set()
    for index, (case, seen) in enumerate(
        zip(material.cases, seen_by(classifier, material), strict=True)
    ):
        if case.label not in classifier.labels:
            unknown.add(case.label)
            continue
        if seen:
            trained.add(case.name)
        if allow_overlap or not seen:
            kept.append(index)
    if len({case.label for case in material.cases} - unknown) == 0:
        raise RefusedError(
            f"no recording of {material.dataset.source} has a label the model knows "
            f"({', '.join(classifier.labels)})"
        )
    cautions = []
    if unknown:
        text = f"the model does not know {', '.join(sorted(unknown))}; these were left out"
        cautions.append(Caution("unknown_label", text))
    if trained:
        what = "counted as asked, and the figures are too good" if allow_overlap else "left out"
        text = (
            f"{len(trained)} recordings, or others of their groups, were used to train the model; "
            f"{what}: {shown_names(sorted(trained))}"
        )
        hint = "" if allow_overlap else " (--allow-overlap counts them)"
        cautions.append(Caution("overlap", text + hint))
    return np.array(kept, np.int64), cautions


def _figures(given: Answers, seed: int) -> dict[str, Any]:
    figures: dict[str, Any] = {name: plain(figure(given)) for name, figure in FIGURES.items()}
    known = [name for name in FIGURES if figures[name] is not None and name not in _NO_INTERVAL]

    def statistics(rows: NDArray[np.int64]) -> list[float]:
        part = given.subset(rows)
        return [FIGURES[name](part) for name in known]

    intervals = group_intervals(statistics, given.groups, seed)
    for name, interval in zip(known, intervals, strict=False):
        if interval:
            figures[f"{name}_low"] = plain(interval.low)
            figures[f"{name}_high"] = plain(interval.high)
    return figures


def _probe(
    material: Material,
    indices: NDArray[np.int64],
    cases: Sequence[Case],
    usable: NDArray[np.int64],
    seed: int,
) -> float | None:
    chosen = [cases[index] for index in usable]
    folds = case_folds(chosen, material.groups[indices], 5, seed)
    if not folds:
        return None
    labels, truth = np.unique([case.label for case in chosen], return_inverse=True)
    conditions = material.conditions[indices]
    return plain(probe_balanced_accuracy(conditions, truth, folds, labels.size, seed))


def column_values(cases: Sequence[Case], column: str) -> list[str]:
    """Return a column's value for each case; many different numbers become steps of ten."""
    values = [case.columns.get(column, "") for case in cases]
    try:
        numbers = [float(value) if value else math.nan for value in values]
    except ValueError:
        return values
    if len(set(values)) <= _NUMERIC_STEP:
        return values
    return [_step(number) for number in numbers]


def measured_snr(cases: Sequence[Case]) -> list[str]:
    """Return how far the sounds of each case's recording stand out, as steps of 10 dB.

    Empty text where nothing stood out, or where a clip is too short to measure its noise.
    """
    qualities = [case.extraction.quality for case in cases]
    heights = [None if one is None else one.event_snr_db for one in qualities]
    return ["" if height is None else _step(height) for height in heights]


def _step_order(value: str) -> float:
    """Order steps by where they begin; everything else keeps its order."""
    low, middle, _ = value.partition(" to ")
    return float(low) if middle and low.lstrip("-").isdigit() else 0.0


def _step(number: float) -> str:
    if not math.isfinite(number):
        return ""
    low = math.floor(number / _NUMERIC_STEP) * _NUMERIC_STEP
    return f"{low:.0f} to {low + _NUMERIC_STEP:.0f}"


def breakdown(given: Answers, values: Sequence[str]) -> list[Breakdown]:
    """Return figures by value, at most 40: steps in order, else most recordings first."""
    column = np.array(values, dtype=np.str_)
    rows = []
    common = [value for value, _ in Counter(values).most_common(_MOST_VALUES)]
    for value in sorted(common, key=_step_order):
        chosen = np.flatnonzero(column == value)
        part = given.subset(chosen)
        answered = part.answer != metrics.ABSTAINED
        right = part.forced == part.truth
        share = float(right.mean())
        low, high = metrics.wilson(share, len(chosen))
        rows.append(
            Breakdown(
                value or "not known",
                len(chosen),
                metrics.coverage(part.answer),
                float((part.answer == part.truth)[answered].mean()) if answered.any() else math.nan,
                share,
                metrics.balanced_accuracy(part.truth, part.answer, len(part.labels)),
                low,
                high,
            )
        )
    return rows


def score_events(heard: Sequence[Heard], classifier: Classifier) -> list[EventScore]:
    """Compare the events found with the stretches labelled, over whole recordings.

    Parameters
    ----------
    heard : sequence of Heard
        Those without times are left out.
    classifier : Classifier

    Returns
    -------
    list of EventScore
        One for each label that occurs on either side; empty when no recording has times.
    """
    timed = [one for one in heard if one.regions and one.problem is None]
    if not timed:
        return []
    bounds = np.cumsum([len(one.extraction.table) for one in timed])[:-1]
    tables = np.concatenate([one.extraction.table for one in timed])
    parts = np.split(classifier.predict_proba(tables), bounds)
    nothing = metrics.Matches(0, 0, 0)
    totals = {label: [nothing] * 3 for label in classifier.labels}
    for one, probabilities in zip(timed, parts, strict=True):
        found = conclude(one.extraction, probabilities, classifier).events
        for label, so_far in totals.items():
            scores = _matches(
                [event for event in found if event.label == label],
                [(region.start, region.end) for region in one.regions if region.label == label],
            )
            totals[label] = [a + b for a, b in zip(so_far, scores, strict=True)]
    return [
        EventScore(label, *scores)
        for label, scores in totals.items()
        if scores[0].found or scores[0].wanted
    ]


def _matches(
    found: Sequence[Event], wanted: Sequence[tuple[float, float]]
) -> tuple[metrics.Matches, metrics.Matches, metrics.Matches]:
    starts, theirs = [event.start for event in found], [start for start, _ in wanted]
    return (
        metrics.match_onsets(starts, theirs, 0.020),
        metrics.match_onsets(starts, theirs, 0.050),
        metrics.match_spans([(event.start, event.end) for event in found], wanted),
    )
