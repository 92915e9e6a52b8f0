"""Measuring a model on labelled recordings it has not been trained on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline._version import __version__
from audio_pipeline.datasets.examples import Example
from audio_pipeline.datasets.loading import (
    DataWarning,
    Progress,
    TrainingData,
    load_training_data,
    shown_names,
)
from audio_pipeline.datasets.manifest import KIND, Dataset, in_doubt, read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model import metrics
from audio_pipeline.model.breakdown import (
    MEASURED_SNR,
    Breakdown,
    EventScore,
    FindingScores,
    breakdown,
    column_values,
    kinds_table,
    measured_snr,
    score_events,
    score_findings,
)
from audio_pipeline.model.classifier import Classifier, load_classifier
from audio_pipeline.model.crossvalidation import case_folds, seen_by
from audio_pipeline.model.metrics import (
    plain,
    plain_values,
    probe_balanced_accuracy,
    shortcut_warning,
)
from audio_pipeline.model.scoring import (
    AnnotatedAnalysis,
    CasePrediction,
    PredictionTable,
    analyze_annotated,
    figures_with_intervals,
    point_figures,
    predict_cases,
    prediction_table,
)

SCHEMA_VERSION = 2
COLUMNS = ("tier", "snr", "family", KIND)
"""Manifest columns that are reported by where they are there."""


@dataclass(frozen=True)
class Control:
    """What one negative control found (see :mod:`audio_pipeline.model.controls`)."""

    name: str
    balanced_accuracy: float  #: Of labels told from it, by models of other groups
    low: float | None  #: 95 % interval by bootstrap over groups; None with fewer than three
    high: float | None
    chance: float  #: One over the number of labels
    count: int  #: Cases
    #: The lower end is clearly above chance and half as far as the model gets, or it tells the
    #: labels apart as well as the model does
    caught: bool
    verdict: str  #: In words

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return plain_values(self)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Everything a report of an evaluation shows.

    Attributes
    ----------
    name, sha256 : str
        Of the model; no hash where models were fitted for the evaluation and not kept.
    material : TrainingData
    predictions : list of CasePrediction
        Without those in doubt.
    table : PredictionTable
        The same as arrays.
    figures : dict
        The headline, with intervals: every kind of a label weighs alike where kinds are told.
    unweighted : dict
        The same with every recording weighing alike, without intervals.
    doubtful : dict
        Figures of the rows in doubt, `n_cases` among them.
    groups : list of Breakdown
    by : dict of str to list of Breakdown
    kinds : list of dict
        What each kind of each label was taken for.
    curve : list of OperatingPoint
    bins : list of ReliabilityBin
    events : list of EventScore
    findings : FindingScores or None
        Of recordings whose manifest says what should be found in them as a whole.
    data_warnings : tuple of DataWarning
    controls : tuple of Control
        What holds no joint sound, asked for the labels; empty where nobody wanted to know.
    trade : tuple of dict
        What more or less caution would give; only from training with takes.
    """

    name: str
    sha256: str
    material: TrainingData
    predictions: list[CasePrediction]
    table: PredictionTable
    figures: dict[str, Any]
    unweighted: dict[str, Any]
    doubtful: dict[str, Any]
    groups: list[Breakdown]
    by: dict[str, list[Breakdown]]
    kinds: list[dict[str, Any]]
    curve: list[metrics.OperatingPoint]
    bins: list[metrics.ReliabilityBin]
    events: list[EventScore]
    findings: FindingScores | None
    data_warnings: tuple[DataWarning, ...]
    controls: tuple[Control, ...] = ()
    trade: tuple[Mapping[str, float], ...] = ()

    def __repr__(self) -> str:
        shown = ("n_recordings", "balanced_accuracy", "coverage")
        facts = (f"{name}={self.figures.get(name)!r}" for name in shown)
        return f"Evaluation({', '.join([f'name={self.name!r}', *facts])})"

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Truth by row; answers by column, abstentions in a last column; recordings, unweighted."""
        given = self.table
        counts = metrics.confusion(given.y_true, given.answer, len(given.labels))
        silent = given.answer == metrics.ABSTAINED
        abstained = np.bincount(given.y_true[silent], minlength=len(given.labels))
        return np.column_stack([counts, abstained]).astype(np.int64)

    @property
    def by_label(self) -> list[dict[str, Any]]:
        """Recall and precision of each label, answered and with every recording answered."""
        given = self.table
        size, weights = len(given.labels), given.weights
        answered = metrics.confusion(given.y_true, given.answer, size, weights)
        forced = metrics.confusion(given.y_true, given.y_pred, size, weights)
        rows = []
        for number, label in enumerate(given.labels):
            own = given.y_true == number
            total = (weights * own).sum()
            said = (weights * own * (given.answer != metrics.ABSTAINED)).sum()
            found = answered[number, number]
            rows.append(
                {
                    "label": label,
                    "count": int(own.sum()),
                    "coverage": plain(said / total if total else math.nan),
                    "found": plain(found / total if total else math.nan),
                    "recall": plain(metrics.recalls(answered)[number]),
                    "precision": plain(metrics.precisions(answered)[number]),
                    "recall_of_all": plain(metrics.recalls(forced)[number]),
                    "precision_of_all": plain(metrics.precisions(forced)[number]),
                }
            )
        return rows

    @property
    def recordings(self) -> list[dict[str, Any]]:
        """What was said of each recording or labelled stretch."""
        return [_prediction_row(one, self.table.labels) for one in self.predictions]

    def published(self) -> dict[str, Any]:
        """Return what a model is published with: figures, and no recording or group by name."""
        apart = {"model", "dataset", "groups", "by", "reliability", "events", "recordings"}
        given = self.to_dict()
        return {name: value for name, value in given.items() if name not in apart | {"warnings"}}

    def to_dict(self) -> dict[str, Any]:
        """Return the ``evaluate --json`` document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "software": f"crepitus {__version__}",
            "model": {"name": self.name, "sha256": self.sha256},
            "dataset": {
                "source": str(self.material.dataset.source),
                "digest": self.material.digest,
                "counts": dict(sorted(Counter(c.label for c in self.material.cases).items())),
            },
            "metrics": self.figures,
            "unweighted": self.unweighted,
            "doubtful": self.doubtful,
            "controls": [one.to_dict() for one in self.controls],
            "trade": [dict(row) for row in self.trade],
            "takes": None if self.findings is None else self.findings.to_dict(),
            "labels": self.by_label,
            "kinds": self.kinds,
            "groups": [one.to_dict() for one in self.groups],
            "by": {name: [one.to_dict() for one in rows] for name, rows in self.by.items()},
            "confusion": {
                "labels": [*self.table.labels, "abstained"],
                "rows": self.confusion.tolist(),
            },
            "risk_coverage": [plain_values(point) for point in self.curve],
            "reliability": [plain_values(one) for one in self.bins],
            "events": [one.to_dict() for one in self.events],
            "recordings": self.recordings,
            "warnings": [{"code": one.code, "text": one.text} for one in self.data_warnings],
        }


def _prediction_row(one: CasePrediction, labels: Sequence[str]) -> dict[str, Any]:
    case, finding = one.case, one.analysis.finding
    return {
        "recording": case.name,
        "start": None if case.stretch is None else case.stretch[0],
        "end": None if case.stretch is None else case.stretch[1],
        "label": case.label,
        "group": case.group,
        "kind": case.columns.get(KIND, ""),
        "answer": one.answer,
        "finding": None if finding is None else finding.label,
        "confidence": None if finding is None else plain(finding.confidence),
        "probabilities": dict(zip(labels, map(plain, one.mean), strict=True)),
        "sure": one.sure_joints,
    }


def evaluate(
    dataset: Dataset | Path | str,
    model: Classifier | Path | str | None = None,
    *,
    by: Sequence[str] = (),
    allow_overlap: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a model on labelled recordings it was not trained on.

    Parameters
    ----------
    dataset : Dataset or path
        A path is read by :func:`~audio_pipeline.datasets.manifest.read_dataset`.
    model : Classifier or path or None
        A loaded model, its folder, or None for the default one. A folder that needs trust is loaded
        by ``load_classifier(folder, trusted=True)`` first.
    by : sequence of str
        Further manifest columns to report by.
    allow_overlap : bool
        Count recordings and groups the model was trained on; without it they are left out.
    seed : int
        Of the intervals and the shortcut probe.
    progress : callable or None
        Called with (what is being done, done, total).

    Returns
    -------
    Evaluation
        `figures` has the headline, `recordings` what was said of each, and ``to_dict()`` all of it.
        Where every recording is left out, since the model was trained on it, the figures are None
        and their ``n_recordings`` 0; `data_warnings` has the reason.

    Raises
    ------
    InvalidInputError
        When the dataset or the model cannot be used, no recording can be read or has a label the
        model knows, or a column is not there.
    """
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(Path(dataset))
    classifier = model if isinstance(model, Classifier) else load_classifier(model)
    missing = [name for name in by if not any(name in clip.columns for clip in dataset.clips)]
    if missing:
        raise InvalidInputError(f"{dataset.source} has no column {missing[0]!r} to report by")
    material = load_training_data(dataset, classifier.settings, progress=progress)
    kept, data_warnings = _kept(material, classifier, allow_overlap)
    scheme = f"the model {classifier.name} on recordings it was not trained on"
    if allow_overlap:
        scheme = f"the model {classifier.name}, also on what it was trained on"
    cases = [material.cases[index] for index in kept]
    names = {case.name for case in cases}
    heard = [one for one in material.heard if one.name in names]
    evaluation = assemble(
        material,
        kept,
        predict_cases(cases, classifier),
        analyze_annotated(heard, classifier),
        classifier.labels,
        scheme,
        by=by,
        seed=seed,
        data_warnings=data_warnings,
    )
    return replace(evaluation, name=classifier.name, sha256=classifier.sha256)


def assemble(
    material: TrainingData,
    kept: NDArray[np.int64],
    predictions: Sequence[CasePrediction],
    analyses: Sequence[AnnotatedAnalysis],
    labels: Sequence[str],
    scheme: str,
    *,
    by: Sequence[str] = (),
    seed: int = 0,
    data_warnings: Sequence[DataWarning] = (),
) -> Evaluation:
    """Score predictions, whoever made them: the one scorer of all published figures.

    Parameters
    ----------
    material : TrainingData
    kept : int64 array, shape (n,)
        The cases that were predicted.
    predictions : sequence of CasePrediction
        Of these cases, in this order.
    analyses : sequence of AnnotatedAnalysis
        Whole recordings; used where they have times or a finding that is expected.
    labels : sequence of str
    scheme : str
        In words: which model on what.
    by : sequence of str
        Further manifest columns to report by.
    seed : int
        Of the intervals and the shortcut probe.
    data_warnings : sequence of DataWarning
        Further ones, after those of the data.
    """
    data_warnings = [*material.data_warnings, *data_warnings]
    sure = np.array([not in_doubt(one.case.columns) for one in predictions], bool)
    everything = prediction_table(predictions, labels, material.groups[kept])
    given = everything.subset(np.flatnonzero(sure))
    judged = [one for one, certain in zip(predictions, sure, strict=True) if certain]
    cases = [one.case for one in judged]
    figures = figures_with_intervals(given, seed)
    usable = np.flatnonzero([len(case.table) > 0 for case in cases])
    figures["shortcut_balanced_accuracy"] = _probe(
        material, kept[sure][usable], [cases[index] for index in usable], seed
    )
    shortcut = shortcut_warning(
        figures["shortcut_balanced_accuracy"],
        figures["recording_balanced_accuracy"],
        np.unique(given.y_true).size,
        len({case.name for case in cases}),
    )
    data_warnings += [shortcut] if shortcut else []
    figures["weighed_by"] = KIND if given.has_kinds else None
    figures |= sizes(cases, given.groups)
    figures["scheme"] = scheme
    known = given.y_pred != metrics.ABSTAINED
    named = [name for name in COLUMNS if any(name in case.columns for case in cases)]
    columns = {name: column_values(cases, name) for name in dict.fromkeys([*named, *by])}
    columns[MEASURED_SNR] = measured_snr(cases)
    return Evaluation(
        "",
        "",
        material,
        judged,
        given,
        figures,
        point_figures(given.unweighted()),
        _doubtful(everything.subset(np.flatnonzero(~sure)), predictions),
        breakdown(given, [case.group for case in cases]),
        {name: breakdown(given, values) for name, values in columns.items()},
        kinds_table(given, cases),
        metrics.risk_coverage(
            given.y_true[known],
            given.y_pred[known],
            given.mean[known].max(axis=1, initial=0.0),
            len(given.labels),
            given.weights[known],
        ),
        metrics.reliability(given.event_confidence, given.event_right),
        score_events(analyses, labels),
        _findings(analyses, seed),
        tuple(data_warnings),
    )


def _findings(analyses: Sequence[AnnotatedAnalysis], seed: int) -> FindingScores | None:
    told = [(one.cases[0].columns, analysis) for one, analysis, _ in analyses]
    free = [(one.cases[0].columns, unguided) for one, _, unguided in analyses if unguided]
    scores, bare = score_findings(told, seed), score_findings(free, seed)
    return replace(scores, without_protocol=bare.total) if scores and bare else scores


def sizes(cases: Sequence[Example], groups: NDArray[np.str_]) -> dict[str, int]:
    """Return how many recordings, cases, events and groups figures are of."""
    return {
        "n_recordings": len({case.name for case in cases}),
        "n_cases": len(cases),
        "n_events": sum(len(case.table) for case in cases),
        "n_groups": int(np.unique(groups).size),
    }


def _doubtful(given: PredictionTable, predictions: Sequence[CasePrediction]) -> dict[str, Any]:
    cases = [one.case for one in predictions if in_doubt(one.case.columns)]
    return sizes(cases, given.groups) | (point_figures(given) if cases else {})


def _kept(
    material: TrainingData, classifier: Classifier, allow_overlap: bool
) -> tuple[NDArray[np.int64], list[DataWarning]]:
    """Leave out labels the model does not know and, unless allowed, what it was trained on."""
    unknown = {case.label for case in material.cases} - set(classifier.labels)
    known = np.array([case.label not in unknown for case in material.cases], bool)
    seen = known & seen_by(classifier, material)
    trained = {material.cases[index].name for index in np.flatnonzero(seen)}
    if not known.any():
        raise InvalidInputError(
            f"no recording of {material.dataset.source} has a label the model knows "
            f"({', '.join(classifier.labels)})"
        )
    data_warnings = []
    if unknown:
        text = f"the model does not know {', '.join(sorted(unknown))}; these were left out"
        data_warnings.append(DataWarning("unknown_label", text))
    if trained:
        what = "counted as asked, and the figures are too good" if allow_overlap else "left out"
        text = (
            f"{len(trained)} recordings, or others of their groups, were used to make the model; "
            f"{what}: {shown_names(sorted(trained))}"
        )
        if not allow_overlap:
            text += " (--allow-overlap, in Python allow_overlap=True, counts them)"
        data_warnings.append(DataWarning("overlap", text))
    return np.flatnonzero(known if allow_overlap else known & ~seen), data_warnings


def _probe(
    material: TrainingData, indices: NDArray[np.int64], cases: Sequence[Example], seed: int
) -> float | None:
    folds = case_folds(cases, material.groups[indices], 5, seed)
    if not folds:
        return None
    labels, y_true = np.unique([case.label for case in cases], return_inverse=True)
    conditions = material.conditions[indices]
    return plain(probe_balanced_accuracy(conditions, y_true, folds, labels.size, seed))
