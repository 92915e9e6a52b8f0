"""The whole of retraining: a dataset in, a model folder and honest figures out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.datasets.augmentation import RealClip
from audio_pipeline.datasets.examples import Case, Events, joined
from audio_pipeline.datasets.loading import (
    Caution,
    Material,
    Progress,
    gather,
    shown_names,
    silent_caution,
)
from audio_pipeline.datasets.manifest import Dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.bootstrap import Interval, group_intervals
from audio_pipeline.model.card import model_card, model_plots
from audio_pipeline.model.classifier import CARD, Classifier, refuse_existing_model, save_classifier
from audio_pipeline.model.confounds import probe_balanced_accuracy, shortcut_caution
from audio_pipeline.model.crossvalidation import (
    CrossValidation,
    CurvePoint,
    case_folds,
    classifier_of,
    cross_validate,
    learning_curve,
)
from audio_pipeline.model.metrics import plain
from audio_pipeline.model.provenance import provenance, seen_by, versions
from audio_pipeline.model.scoring import FIGURES
from audio_pipeline.model.thresholds import Grower, TuningSettings, tune

MadeEvents = Callable[[AnalysisConfig, Sequence[RealClip], Progress | None], Events]
"""Makes events that are only trained on, from the settings and the recordings with one label."""

_WITH_INTERVAL = ("balanced_accuracy", "recording_balanced_accuracy")


@dataclass(frozen=True)
class TrainSettings:
    """How a model is trained and judged.

    Attributes
    ----------
    tuning : TuningSettings
    folds : int
        Grouped folds of the outer cross-validation.
    ignore_groups : bool
        Report figures although recordings of a group sit on both sides of a split. They are then
        too good, and the model says so.
    sample_rate : int or None
        Hz the model listens at; None: the default rate, or the lowest of the dataset.
    name : str
        Name of the model; empty: its data's digest, so that the same data give the same bytes.
    """

    tuning: TuningSettings = field(default_factory=TuningSettings)
    folds: int = 5
    ignore_groups: bool = False
    sample_rate: int | None = None
    name: str = ""


@dataclass(frozen=True, eq=False)
class Training:
    """The result of training.

    Attributes
    ----------
    classifier : Classifier
        As saved.
    metrics : mapping
        Plain numbers, None where no honest figure exists, and the scheme in words.
    cautions : tuple of Caution
    curve : list of CurvePoint
        The learning curve.
    cross_validation : CrossValidation or None
        None when no honest split exists.
    """

    classifier: Classifier
    metrics: Mapping[str, Any]
    cautions: tuple[Caution, ...]
    curve: list[CurvePoint]
    cross_validation: CrossValidation | None

    def to_dict(self) -> dict[str, Any]:
        """Return the ``train --json`` document, without the folder's name."""
        return {
            "labels": list(self.classifier.labels),
            "metrics": dict(self.metrics),
            "warnings": [{"code": one.code, "text": one.text} for one in self.cautions],
        }


def train(
    dataset: Dataset,
    folder: Path,
    settings: TrainSettings | None = None,
    base: Classifier | None = None,
    made: MadeEvents | None = None,
    progress: Progress | None = None,
) -> Training:
    """Train a model, judge it by nested grouped cross-validation, and write its folder.

    Parameters
    ----------
    dataset : Dataset
    folder : Path
        Must not exist, or be empty.
    settings : TrainSettings or None
    base : Classifier or None
        Start from this model: its trees stay, their answers are updated.
    made : callable or None
        Makes further events that are only trained on.
    progress : callable or None

    Returns
    -------
    Training

    Raises
    ------
    InvalidInputError
        When the folder is not empty, there are fewer than two labels, or the recordings do not
        suit the model to start from.
    """
    settings = settings or TrainSettings()
    refuse_existing_model(folder)
    listening = base.settings if base else None
    if listening is None and settings.sample_rate is not None:
        listening = AnalysisConfig().at_rate(settings.sample_rate)
    elif listening is None and settings.tuning.judge_only:
        listening = AnalysisConfig()  # the recordings only judge: their rates bind nothing
    material = gather(dataset, listening, settings.ignore_groups, progress)
    usable = material.usable
    cases = [material.cases[index] for index in usable]
    if not cases:
        problem = next((one.problem for one in material.heard if one.problem), "no sound")
        raise InvalidInputError(f"no recording of {dataset.source} can be used: {problem}")
    labels = _labels(cases, base)
    events = material.events()
    if made is not None:
        events = joined(events, made(material.settings, _real_clips(material), progress))
    grower = Grower(labels, settings.tuning, base.estimator if base else None)
    seed = settings.tuning.seed
    folds = case_folds(cases, material.groups[usable], settings.folds, seed)
    cautions = [*material.cautions, *silent_caution(cases), *_base_caution(base, material)]
    validation = None
    if folds:
        validation = cross_validate(
            cases,
            events,
            grower,
            material.settings,
            folds,
            lambda done, total: progress and progress("Cross-validating", done, total),
        )
    else:
        cautions.append(_no_split(cases, material, usable.tolist()))
    metrics = _metrics(validation, material, settings, labels)
    shortcut = shortcut_caution(
        metrics["shortcut_balanced_accuracy"],
        metrics["recording_balanced_accuracy"],
        len(labels),
        metrics["n_recordings"],
    )
    cautions += [shortcut] if shortcut else []
    if progress:
        progress("Fitting the model", 0, 1)
    tuned = tune(events, grower, material.settings.context)
    curve = learning_curve(validation, cases, events, grower, tuned.choice) if validation else []
    if progress:
        progress("Fitting the model", 1, 1)
    description = {
        "training": provenance(material, settings.tuning, tuned.choice, events, base),
        "versions": versions(),
        "metrics": metrics,
        "warnings": [{"code": one.code, "text": one.text} for one in cautions],
    }
    unsaved = classifier_of(tuned, labels, material.settings, settings.name or _name(material))
    classifier = replace(unsaved, description=description)
    result = Training(classifier, metrics, tuple(cautions), curve, validation)
    files = model_plots(result)
    files[CARD] = model_card(result, material, sorted(files)).encode()
    saved = save_classifier(classifier, folder, files)
    return Training(saved, metrics, tuple(cautions), curve, validation)


def _labels(cases: Sequence[Case], base: Classifier | None) -> tuple[str, ...]:
    """Return the labels of the new model: the base's first, in their order, then new ones."""
    given = sorted({case.label for case in cases})
    known = list(base.labels) if base else []
    labels = known + [label for label in given if label not in known]
    if len(labels) < 2:
        raise InvalidInputError(f"the dataset has only the label {labels[0]!r}; a model needs two")
    return tuple(labels)


def _real_clips(material: Material) -> list[RealClip]:
    paths = {clip.name: clip.path for clip in material.dataset.clips}
    return [
        RealClip(paths[case.name], case.label, str(group))
        for case, group in zip(material.cases, material.groups, strict=True)
        if len(case.table) and case.stretch is None
    ]


def _base_caution(base: Classifier | None, material: Material) -> list[Caution]:
    seen = [] if base is None else seen_by(base, material)
    names = [case.name for case, one in zip(material.cases, seen, strict=False) if one]
    if base is None or not names:
        return []
    text = (
        f"the model to start from, {base.name}, already knew {len(set(names))} of these recordings "
        f"or others of their groups; the figures are too good: {shown_names(sorted(set(names)))}"
    )
    return [Caution("overlap", text)]


def _no_split(cases: Sequence[Case], material: Material, usable: Sequence[int]) -> Caution:
    groups: dict[str, set[str]] = {}
    for case, index in zip(cases, usable, strict=True):
        groups.setdefault(case.label, set()).add(str(material.groups[index]))
    lonely = [label for label, names in sorted(groups.items()) if len(names) < 2]
    text = (
        f"no accuracy is reported: {', '.join(lonely)} comes from a single group, which would sit "
        "on both sides of every split; record another person, or pass --ignore-groups"
    )
    return Caution("no_honest_split", text)


def _metrics(
    validation: CrossValidation | None,
    material: Material,
    settings: TrainSettings,
    labels: Sequence[str],
) -> dict[str, Any]:
    """Return plain numbers; None where there is no honest figure."""
    usable = material.usable
    seed = settings.tuning.seed
    metrics: dict[str, Any] = {}
    for name, figure in FIGURES.items():
        metrics[name] = plain(figure(validation.table)) if validation else None
    intervals: list[Interval | None] = [None] * len(_WITH_INTERVAL)
    if validation:
        given = validation.table

        def statistics(rows: NDArray[np.int64]) -> list[float]:
            part = given.subset(rows)
            return [FIGURES[name](part) for name in _WITH_INTERVAL]

        intervals = group_intervals(statistics, given.groups, seed)
    for name, interval in zip(_WITH_INTERVAL, intervals, strict=True):
        metrics[f"{name}_low"] = plain(interval.low) if interval else None
        metrics[f"{name}_high"] = plain(interval.high) if interval else None
    probe = math.nan
    if validation:
        probe = probe_balanced_accuracy(
            material.conditions[usable],
            validation.table.y_true,
            validation.folds,
            len(labels),
            seed,
        )
    metrics["shortcut_balanced_accuracy"] = plain(probe)
    metrics["n_recordings"] = len({material.cases[index].name for index in usable})
    metrics["n_cases"] = len(usable)
    metrics["n_events"] = sum(len(material.cases[index].table) for index in usable)
    metrics["n_groups"] = int(np.unique(material.groups[usable]).size)
    metrics["scheme"] = _scheme(validation, settings, metrics["n_groups"])
    return metrics


def _scheme(validation: CrossValidation | None, settings: TrainSettings, n_groups: int) -> str:
    if validation is None:
        return "none: no honest split exists"
    n = len(validation.folds)
    outer = "leave one group out" if n == n_groups else f"{n} folds of whole groups"
    group = "recordings, groups ignored" if settings.ignore_groups else "groups"
    return (
        f"nested cross-validation, {outer} ({n_groups} {group}); leaf size, calibration and "
        f"thresholds chosen inside on {settings.tuning.folds} folds of the other groups"
    )


def _name(material: Material) -> str:
    return f"model-{material.digest[:12]}"
