"""The whole of retraining: a dataset in, a model folder and honest figures out."""

from __future__ import annotations

import json
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from audio_pipeline._version import __version__
from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import LABELS
from audio_pipeline.datasets.augmentation import MadeSettings, made_events
from audio_pipeline.datasets.examples import (
    AnnotatedRecording,
    Events,
    Example,
    concatenate_events,
    events_of,
)
from audio_pipeline.datasets.loading import (
    DataWarning,
    Progress,
    TrainingData,
    load_training_data,
    shown_names,
    silence_warning,
)
from audio_pipeline.datasets.manifest import Dataset, LabelledClip, in_doubt, read_dataset
from audio_pipeline.datasets.synthesis.dataset import write_dataset
from audio_pipeline.datasets.takes import heard_takes
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.classifier import (
    Classifier,
    needs_trust,
    refuse_existing_model,
    save_classifier,
)
from audio_pipeline.model.controls import ControlSettings, with_controls
from audio_pipeline.model.crossvalidation import (
    CrossValidation,
    CurvePoint,
    Deciding,
    LearningProblem,
    case_folds,
    classifier_of,
    cross_validate,
    group_mark,
    learning_curve,
    seen_by,
)
from audio_pipeline.model.estimator import STEP, base_forest, last_step, make_classifier
from audio_pipeline.model.evaluation import Evaluation, assemble, sizes
from audio_pipeline.model.scoring import FIGURES
from audio_pipeline.model.selection import Fold, Selection, TrainingSettings, select_model

MadeEvents = Callable[[AnalysisConfig, Sequence[LabelledClip], Progress | None], Events]
"""Makes events that are only trained on, from the settings and the recordings with one label."""

_WITH_INTERVAL = ("balanced_accuracy", "recording_balanced_accuracy")
EVALUATION = "evaluation.json"
"""What a model folder is published with: the figures, generated."""

_PACKAGES = ("numpy", "scipy", "scikit-learn", "librosa", "soxr", "skops", "av")


@dataclass(frozen=True, eq=False)
class Training:
    """The result of training.

    Attributes
    ----------
    classifier : Classifier
        As saved.
    metrics : mapping
        Plain numbers, None where no honest figure exists, and the scheme in words.
    data_warnings : tuple of DataWarning
    curve : list of CurvePoint
        The learning curve.
    cross_validation : CrossValidation or None
        None when no honest split exists.
    evaluation : Evaluation or None
        The same scored as `evaluate` does; its figures are `metrics`, and ``evaluation.json``.
    material : TrainingData
        What it was trained on.
    """

    classifier: Classifier
    metrics: Mapping[str, Any] = field(repr=False)
    data_warnings: tuple[DataWarning, ...] = field(repr=False)
    curve: list[CurvePoint] = field(repr=False)
    cross_validation: CrossValidation | None = field(repr=False)
    evaluation: Evaluation | None
    material: TrainingData = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the ``train --json`` document, without the folder's name."""
        return {
            "labels": list(self.classifier.labels),
            "metrics": dict(self.metrics),
            "warnings": [{"code": one.code, "text": one.text} for one in self.data_warnings],
        }


ExtraFiles = Callable[["Training"], Mapping[str, bytes]]
"""Writes the card and plots of a model that was just trained, by file name."""


def train(
    dataset: Dataset | Path | str,
    folder: Path | str,
    estimator: str | BaseEstimator | None = None,
    settings: TrainingSettings | None = None,
    *,
    base: Classifier | None = None,
    made: MadeEvents | None = None,
    extra_files: ExtraFiles | None = None,
    progress: Progress | None = None,
) -> Training:
    """Train a model, judge it by nested grouped cross-validation, and write its folder.

    The figures are those of recordings that no part of the model judging them has seen: not its
    estimator, not its calibration, not its thresholds.

    Parameters
    ----------
    dataset : Dataset or path
        A path is read by :func:`~audio_pipeline.datasets.manifest.read_dataset`.
    folder : path
        Must not exist, or be empty.
    estimator : str or scikit-learn classifier or None
        As :func:`~audio_pipeline.model.estimator.make_classifier` takes it; None: as in `settings`.
    settings : TrainingSettings or None
    base : Classifier or None
        Start from this model: its trees stay, their answers are updated.
    made : callable or None
        Makes further events that are only trained on.
    extra_files : callable or None
        Gives further files for the folder, such as a card.
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
    folder = Path(folder)
    refuse_existing_model(folder)
    settings = settings or TrainingSettings()
    if estimator is not None:
        settings = replace(settings, estimator=estimator)
    if base is not None:
        settings = replace(settings, feature_names=base.feature_names)
    check_recipe(settings)
    forest = base_forest(base.estimator, base.name) if base else None
    if not isinstance(dataset, Dataset):
        dataset = read_dataset(dataset)
    listening = base.settings if base else None
    if listening is None and settings.sample_rate is not None:
        listening = AnalysisConfig().at_rate(settings.sample_rate)
    elif listening is None and settings.judge_only:
        listening = AnalysisConfig()  # the recordings only judge: their rates bind nothing
    material = load_training_data(dataset, listening, settings.ignore_groups, progress)
    usable = material.usable
    cases = [material.cases[index] for index in usable]
    if not cases:
        reason = next((one.problem for one in material.heard if one.problem), "no sound")
        raise InvalidInputError(f"no recording of {dataset.source} can be used: {reason}")
    teaches = learnt_from(cases, settings)
    labels = _labels([case for case, may in zip(cases, teaches, strict=True) if may], base)
    if strangers := sorted(set(settings.thresholds) - set(labels)):
        raise InvalidInputError(
            f"a threshold for {strangers[0]!r}, which is no label; they are {', '.join(labels)}"
        )
    known = np.isin([case.label for case in cases], labels)
    usable, teaches = usable[known], teaches[known]
    cases = [material.cases[index] for index in usable]
    groups = material.groups[usable]
    folds = case_folds(cases, groups, settings.folds, settings.seed)
    problem = learning_problem(material, usable, groups, labels, folds, teaches, made, progress)
    data_warnings = [
        *material.data_warnings,
        *silence_warning(cases),
        *_base_warning(base, material),
    ]
    deciding = _deciding_of(problem, settings)
    if settings.takes and not deciding:
        settings = replace(settings, takes=0)
        text = (
            "no takes can be made: two parts of the recordings would need a pop, a grating and "
            "other sounds each; when an event is sure was chosen on clips"
        )
        data_warnings.append(DataWarning("no_takes", text))
    validation = None
    if folds:
        validation = cross_validate(
            problem,
            settings,
            forest,
            _recordings_of(problem, settings),
            deciding,
            lambda done, total: progress and progress("Cross-validating", done, total),
        )
    else:
        data_warnings.append(_no_split(problem))
    evaluation = None
    metrics = _no_metrics(problem)
    if validation:
        evaluation = evaluation_of(validation, problem, settings)
        if settings.controls:
            asked = ControlSettings(settings.estimator, settings.params, seed=settings.seed)
            evaluation = with_controls(evaluation, asked)
        metrics = evaluation.figures
        data_warnings += [
            one for one in evaluation.data_warnings if one.code.startswith(("shortcut", "control_"))
        ]
    if progress:
        progress("Fitting the model", 0, 1)
    selection = select_model(problem.events, labels, settings, material.settings.context, forest)
    if validation and validation.decision:
        selection = replace(selection, **vars(validation.decision))
    curve: list[CurvePoint] = []
    if validation and base is None:
        curve = learning_curve(validation, problem, settings, selection.params)
    if progress:
        progress("Fitting the model", 1, 1)
    name = settings.name or f"model-{material.digest[:12]}"
    unsaved = classifier_of(selection, labels, settings, material.settings, name)
    if needs_trust(unsaved):
        text = (
            f"the estimator is a {_kind(selection)}: whoever uses the model must pass "
            "--trust-model (in Python load_classifier(folder, trusted=True)); forests, trees and "
            "linear models load as they are"
        )
        data_warnings.append(DataWarning("needs_trust", text))
    description = {
        "training": _provenance(problem, usable[teaches], settings, selection, base),
        "versions": versions(),
        "metrics": metrics,
        "warnings": [{"code": one.code, "text": one.text} for one in data_warnings],
    }
    classifier = replace(unsaved, description=description)
    result = Training(
        classifier, metrics, tuple(data_warnings), curve, validation, evaluation, material
    )
    files = dict(extra_files(result)) if extra_files else {}
    if evaluation is not None:
        files[EVALUATION] = (json.dumps(evaluation.published(), indent=1) + "\n").encode()
    return replace(result, classifier=save_classifier(classifier, folder, files))


def check_recipe(settings: TrainingSettings) -> None:
    """Refuse, before any work, an estimator or parameters that do not exist."""
    make_classifier(settings.estimator, random_state=settings.seed, **dict(settings.params))


def _kind(selection: Selection) -> str:
    return type(last_step(selection.estimator)).__name__


def _labels(cases: Sequence[Example], base: Classifier | None) -> tuple[str, ...]:
    """Return the labels of the new model, sorted: the base's and new ones."""
    given = sorted({case.label for case in cases})
    known = list(base.labels) if base else []
    labels = sorted({*known, *given})
    if len(labels) < 2:
        raise InvalidInputError(f"the dataset has only the label {labels[0]!r}; a model needs two")
    return tuple(labels)


def learning_problem(
    material: TrainingData,
    kept: NDArray[np.int64],
    groups: NDArray[np.str_],
    labels: Sequence[str],
    folds: Sequence[Fold],
    teaches: NDArray[np.bool_],
    made: MadeEvents | None = None,
    progress: Progress | None = None,
) -> LearningProblem:
    """Return what models learn from: events of cases, and what is made besides.

    Parameters
    ----------
    material, kept, groups, labels, folds
        As of :class:`~audio_pipeline.model.crossvalidation.LearningProblem`.
    teaches : bool array, shape (n_cases,)
        Which of these cases are learnt from.
    made : callable or None
        Makes further events, also of the recordings that have one label as a whole. What is made of
        a clip is left out with its group, as the folds name it.
    progress : callable or None
    """
    events = events_of([material.cases[index] for index in kept], groups)
    events = events.rows(teaches[events.case])
    if made is not None:
        clips = _whole_clips(material, kept[teaches], groups[teaches])
        events = concatenate_events(events, made(material.settings, clips, progress))
        events = events.rows(np.isin(events.labels, labels))
    return LearningProblem(material, kept, groups, labels, folds, events)


def _whole_clips(
    material: TrainingData, kept: NDArray[np.int64], groups: NDArray[np.str_]
) -> list[LabelledClip]:
    """Return the recordings of some cases that have one label as a whole, with these groups."""
    cases = [material.cases[index] for index in kept]
    return [
        LabelledClip(
            material.paths[case.name], case.name, case.label, str(group), columns=case.columns
        )
        for case, group in zip(cases, groups, strict=True)
        if case.stretch is None
    ]


def _base_warning(base: Classifier | None, material: TrainingData) -> list[DataWarning]:
    seen = [] if base is None else seen_by(base, material)
    names = [case.name for case, one in zip(material.cases, seen, strict=False) if one]
    if base is None or not names:
        return []
    text = (
        f"the model to start from, {base.name}, already knew {len(set(names))} of these recordings "
        f"or others of their groups; the figures are too good: {shown_names(sorted(set(names)))}"
    )
    return [DataWarning("overlap", text)]


def _no_split(problem: LearningProblem) -> DataWarning:
    given = np.array([case.label for case in problem.cases])
    lonely = [
        str(label)
        for label in np.unique(given)
        if np.unique(problem.groups[given == label]).size < 2
    ]
    text = (
        f"no accuracy is reported: {', '.join(lonely)} comes from a single group, which would sit "
        "on both sides of every split; record another person, or pass --ignore-groups"
    )
    return DataWarning("no_honest_split", text)


def evaluation_of(
    validation: CrossValidation, problem: LearningProblem, settings: TrainingSettings
) -> Evaluation:
    """Score what models of the other groups answered, by the scorer of `evaluate`."""
    evaluation = assemble(
        problem.material,
        problem.kept,
        validation.predictions,
        validation.analyses,
        problem.labels,
        _scheme(validation, problem, settings),
        seed=settings.seed,
    )
    return replace(evaluation, trade=tuple(validation.trade))


def _no_metrics(problem: LearningProblem) -> dict[str, Any]:
    """Return the same names without a figure: there is no honest one."""
    ends = [f"{name}_{end}" for name in _WITH_INTERVAL for end in ("low", "high")]
    return {
        **dict.fromkeys([*FIGURES, *ends, "shortcut_balanced_accuracy", "weighed_by"]),
        **sizes(problem.cases, problem.groups),
        "scheme": "none: no honest split exists",
    }


def learnt_from(cases: Sequence[Example], settings: TrainingSettings) -> NDArray[np.bool_]:
    """Tell of each case whether it may teach; the others only judge."""
    may = [
        not in_doubt(case.columns)
        and all(case.columns.get(name) in values for name, values in settings.learn_from.items())
        for case in cases
    ]
    if not any(may):
        asked = ", ".join(f"{name}={'|'.join(one)}" for name, one in settings.learn_from.items())
        raise InvalidInputError(f"no row may be learnt from: none has {asked or 'a sure label'}")
    return np.array(may, bool)


def _recordings_of(
    problem: LearningProblem, settings: TrainingSettings
) -> list[list[AnnotatedRecording]]:
    """Return the whole recordings of each fold: its own, and takes made of its clips."""
    own = []
    for fold in problem.folds:
        names = {problem.cases[index].name for index in fold.test}
        own.append([one for one in problem.material.heard if one.name in names])
    takes = _takes_of(problem, settings, settings.seed) or [[] for _ in own]
    return [[*heard, *made] for heard, made in zip(own, takes, strict=True)]


def _deciding_of(problem: LearningProblem, settings: TrainingSettings) -> list[Deciding]:
    """Return the clips of each fold and takes made of them; empty where none can be made."""
    takes = _takes_of(problem, settings, settings.seed + 1)
    sure = [not in_doubt(case.columns) for case in problem.cases]
    return [
        ([problem.cases[index] for index in fold.test if sure[index]], made)
        for fold, made in zip(problem.folds, takes, strict=False)
    ]


def _takes_of(
    problem: LearningProblem, settings: TrainingSettings, seed: int
) -> list[list[AnnotatedRecording]]:
    """Make takes of the clips of each fold that has every label; none with fewer than two such."""
    clips = [
        [
            clip
            for clip in _whole_clips(
                problem.material, problem.kept[fold.test], problem.groups[fold.test]
            )
            if not in_doubt(clip.columns)
        ]
        for fold in problem.folds
    ]
    if not (settings.takes and clips and set(problem.labels) == set(LABELS)):
        return []
    complete = [{clip.label for clip in one} == set(LABELS) for one in clips]
    if sum(complete) < 2:
        return []
    whole = [one for one, full in zip(clips, complete, strict=True) if full]
    made = iter(heard_takes(whole, settings.takes, seed, problem.material.settings))
    return [next(made) if full else [] for full in complete]


def _scheme(
    validation: CrossValidation, problem: LearningProblem, settings: TrainingSettings
) -> str:
    n, n_groups = len(problem.folds), np.unique(problem.groups).size
    outer = "leave one group out" if n == n_groups else f"{n} folds of whole groups"
    group = "recordings, groups ignored" if settings.ignore_groups else "groups"
    inside = f"inside on {settings.inner_folds} folds of the other groups"
    chosen = f"parameters, calibration and thresholds chosen {inside}"
    if validation.decision:
        chosen = (
            f"parameters and calibration chosen {inside}, thresholds on {settings.takes} takes and "
            "on clips, those of the other folds only"
        )
    return f"nested cross-validation, {outer} ({n_groups} {group}); {chosen}"


def _provenance(
    problem: LearningProblem,
    learnt: NDArray[np.int64],
    settings: TrainingSettings,
    selection: Selection,
    base: Classifier | None,
) -> dict[str, Any]:
    """Return what a model was trained on and how, for ``model.json``.

    Recordings are named by the digest of their sound and groups by a mark, so that an evaluation
    notices what the model has seen before, wherever it lies.
    """
    material = problem.material
    usable = [material.cases[index] for index in learnt]
    inherited = base.description.get("training", {}) if base else {}
    deciding = [case for case in problem.cases if settings.takes and not in_doubt(case.columns)]
    given = settings.estimator
    return {
        "digest": material.digest,
        "licences": dict(
            sorted(Counter(case.columns.get("licence") or "not stated" for case in usable).items())
        ),
        **_known(material, usable, inherited),
        "decided": _known(material, deciding, inherited.get("decided", {})),
        "label_counts": dict(sorted(Counter(case.label for case in usable).items())),
        "made_events": int((problem.events.case < 0).sum()),
        "judge_only": settings.judge_only,
        "seed": settings.seed,
        "estimator": given if isinstance(given, str) else type(last_step(given)).__name__,
        "kind": _kind(selection),
        "params": {
            name.removeprefix(f"{STEP}__"): value
            for name, value in {**settings.params, **selection.params}.items()
        },
        "background_weight": settings.background_weight,
        "kind_balance": settings.kind_balance,
        "group_balance": settings.group_balance,
        "synthetic_share": settings.synthetic_share,
        "takes": settings.takes,
        "budgets": dict(settings.budgets),
        "base": {"name": base.name, "sha256": base.sha256} if base else None,
    }


def _known(
    material: TrainingData, cases: Sequence[Example], before: Mapping[str, Any]
) -> dict[str, list[str]]:
    """Return the digests of recordings and the marks of groups, with those known before."""
    digests = {material.surveys[case.name].digest for case in cases}
    groups = {group_mark(case.group) for case in cases if material.dataset.has_groups}
    return {
        "recordings": sorted(digests.union(before.get("recordings", ()))),
        "groups": sorted(groups.union(before.get("groups", ()))),
    }


def versions() -> dict[str, str]:
    """Return the versions of everything the numbers depend on."""
    return {
        "crepitus": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }


def made_by(recipe: MadeSettings, embed: bool) -> MadeEvents:
    """Return what makes the events of a recipe for :func:`train`.

    Parameters
    ----------
    recipe : MadeSettings
    embed : bool
        Also put the real clips into new surroundings.
    """
    return lambda settings, clips, progress: made_events(
        settings, recipe, clips if embed else (), progress
    )


@contextmanager
def read_or_make(
    source: Path | None,
    synthetic: int,
    seed: int,
    group_by: str,
    progress: Progress,
    *,
    allow_outside: bool = False,
) -> Iterator[Dataset]:
    """Give the dataset to train on: the one named, or made scenes while the block runs.

    Made scenes are grouped by family, so that a model is judged on a family it has not seen. The
    synthetic-only model of a fresh clone is trained like that; its figures are no evidence about
    recordings.
    """
    if source is not None:
        yield read_dataset(source, group_by, allow_outside=allow_outside)
        return
    with tempfile.TemporaryDirectory(prefix="crepitus-") as scratch:
        folder = Path(scratch) / "made"
        write_dataset(
            folder, synthetic, seed, progress=lambda done: progress("Making", done, synthetic)
        )
        made = read_dataset(folder, "family")
        yield replace(made, synthetic=True)
