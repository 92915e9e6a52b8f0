"""An open benchmark: estimators judged on the same published splits, so that results compare.

The splits are a file of content hashes: whoever has the recordings can judge on exactly the same
ones, wherever they lie and whatever they are called. A result holds the answer to every recording,
by hash, so that two results can be compared pair by pair and the figures in it can be checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from audio_pipeline._version import __version__
from audio_pipeline.datasets.loading import Progress, TrainingData, shown_names
from audio_pipeline.datasets.manifest import KIND, in_doubt
from audio_pipeline.exceptions import InvalidInputError, first_problem
from audio_pipeline.model import metrics
from audio_pipeline.model.controls import ControlSettings, control_tables, with_controls
from audio_pipeline.model.crossvalidation import cross_validate
from audio_pipeline.model.evaluation import Evaluation
from audio_pipeline.model.scoring import HEADLINE
from audio_pipeline.model.selection import Fold, TrainingSettings, grouped_folds
from audio_pipeline.model.training import (
    MadeEvents,
    evaluation_of,
    learning_problem,
    learnt_from,
    versions,
)

SCHEMA_VERSION: Final = 1
SPLITS: Final = "crepitus benchmark splits"
RESULT: Final = "crepitus benchmark result"
_LARGEST: Final = 64 * 2**20

Document = TypeVar("Document", bound=BaseModel)
Ints = NDArray[np.int64]
Text = Annotated[str, Field(max_length=200)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{16,64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, lt=1e7, allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Splits(BaseModel):
    """Which recordings are tested together, by the digest of their sound."""

    format: Literal["crepitus benchmark splits"] = SPLITS
    schema_version: Literal[1] = 1
    folds: list[list[Hash]] = Field(min_length=2, max_length=1000)

    @property
    def sha256(self) -> str:
        """What the splits are known by: the same for the same recordings in the same folds."""
        folds = sorted(sorted(fold) for fold in self.folds)
        return hashlib.sha256(json.dumps(folds).encode()).hexdigest()


class Case(BaseModel):
    """What was answered about one recording, or one labelled stretch of it."""

    recording: Hash
    start: Seconds | None
    end: Seconds | None
    label: Text
    kind: Text
    group: Hash
    answer: Text | None
    likeliest: Text | None
    probabilities: list[Share | None]


class ControlRow(BaseModel):
    """What one negative control found."""

    name: Text
    balanced_accuracy: Share
    low: Share | None
    high: Share | None
    caught: bool
    verdict: Annotated[str, Field(max_length=1000)]


class Task(BaseModel):
    """What results must share to be ranked together."""

    data: Hash
    splits: Hash
    learn_from: dict[Text, list[Text]]

    @property
    def sha256(self) -> str:
        """What the task is known by."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Result(BaseModel):
    """One estimator on one task."""

    format: Literal["crepitus benchmark result"] = RESULT
    schema_version: Literal[1] = 1
    software: Text
    versions: dict[Text, Text]
    estimator: Text
    params: dict[Text, Any]
    seed: int
    #: What was learnt besides the recordings, and at which rate all was heard; empty: nothing, and
    #: the default rate or the lowest of the recordings
    besides: dict[Text, int] = {}
    task: Task
    labels: list[Text] = Field(min_length=2, max_length=1000)
    metrics: dict[Text, Number | str | None]
    controls: list[ControlRow]
    cases: list[Case] = Field(min_length=1, max_length=1_000_000)

    @property
    def asked(self) -> dict[str, Any]:
        """What makes this recipe differ from the estimator as it comes."""
        return {**self.params, **self.besides}

    def figure(self, name: str) -> float | None:
        """Return a figure, None where there is none."""
        value = self.metrics.get(name)
        return value if isinstance(value, float) else None


def in_order(material: TrainingData) -> Ints:
    """Return the usable cases in an order that depends on their sound and label alone."""
    labels = np.array([material.cases[index].label for index in material.usable])
    order: Ints = material.usable[np.lexsort((labels, _digests(material, material.usable)))]
    return order


def make_splits(material: TrainingData, n_folds: int = 5, seed: int = 0) -> Splits:
    """Split recordings by group; the same recordings give the same splits.

    Neither the order of the data nor the names of recordings and groups matter.

    Parameters
    ----------
    material : TrainingData
    n_folds : int
        >= 2; fewer where there are fewer groups.
    seed : int

    Raises
    ------
    InvalidInputError
        When a label comes from a single group: then no honest split exists.
    """
    order = in_order(material)
    digests, groups = _digests(material, order), _canonical_groups(material, order)
    labels = np.array([material.cases[index].label for index in order])
    folds = grouped_folds(labels, groups, n_folds, seed)
    if not folds:
        raise InvalidInputError(
            f"{material.dataset.source}: a label comes from a single group, which would sit on "
            "both sides of every split"
        )
    return Splits(folds=[sorted(set(digests[fold.test].tolist())) for fold in folds])


def folds_of(splits: Splits, material: TrainingData) -> list[Fold]:
    """Return the folds as indices of the usable cases :func:`in_order`.

    Raises
    ------
    InvalidInputError
        When the recordings are not those of the splits, or a group lies in two folds.
    """
    number = {digest: fold for fold, part in enumerate(splits.folds) for digest in part}
    order = in_order(material)
    digests = _digests(material, order)
    unknown = [digest for digest in digests.tolist() if digest not in number]
    missing = set(number) - set(digests.tolist())
    if unknown or missing:
        raise InvalidInputError(
            f"{material.dataset.source} does not hold the recordings of these splits: "
            f"{len(missing)} are missing and {len(set(unknown))} are others"
        )
    member = np.array([number[digest] for digest in digests.tolist()])
    groups = material.groups[order]
    for group in np.unique(groups):
        if np.unique(member[groups == group]).size > 1:
            raise InvalidInputError(f"these splits tear the group {group} apart")
    parts = [np.flatnonzero(member == fold) for fold in range(len(splits.folds))]
    return [Fold(np.flatnonzero(member != fold), part) for fold, part in enumerate(parts)]


def run_benchmark(
    material: TrainingData,
    splits: Splits,
    recipes: Sequence[TrainingSettings],
    progress: Progress | None = None,
    *,
    made: MadeEvents | None = None,
    besides: Mapping[str, int] | None = None,
) -> Iterator[Result]:
    """Judge estimators out of fold, with everything chosen inside the other folds.

    Parameters
    ----------
    material : TrainingData
    splits : Splits
    recipes : sequence of TrainingSettings
        One per estimator; `learn_from` must be the same in all.
    progress : callable or None
    made : callable or None
        Makes further events that are only trained on, as for
        :func:`~audio_pipeline.model.training.train`.
    besides : mapping or None
        What results say about that.

    Yields
    ------
    Result
        In the order of the recipes, each as soon as it is there.
    """
    usable = in_order(material)
    cases = [material.cases[index] for index in usable]
    groups = _canonical_groups(material, usable)
    folds = folds_of(splits, material)
    teaches = learnt_from(cases, recipes[0])
    labels = sorted({case.label for case, may in zip(cases, teaches, strict=True) if may})
    strangers = {case.label for case in cases} - set(labels)
    if strangers or len(labels) < 2:
        named = shown_names(sorted(strangers)) or f"any label but {labels[0]}"
        raise InvalidInputError(f"no row that may teach has {named}; leave such rows out")
    problem = learning_problem(material, usable, groups, labels, folds, teaches, made, progress)
    asked = any(recipe.controls for recipe in recipes)
    tables = control_tables(material, usable) if asked else None
    for recipe in recipes:
        validation = cross_validate(problem, recipe, progress=_named(recipe, progress))
        evaluation = evaluation_of(validation, problem, recipe)
        if recipe.controls:
            asks = ControlSettings(recipe.estimator, recipe.params, seed=recipe.seed)
            sure = [not in_doubt(case.columns) for case in cases]
            seen = {name: table[sure] for name, table in (tables or {}).items()}
            evaluation = with_controls(evaluation, asks, tables=seen)
        yield _result(evaluation, splits, recipe, besides or {})


def _named(recipe: TrainingSettings, progress: Progress | None) -> Any:
    return lambda done, total: progress and progress(f"Judging {recipe.estimator}", done, total)


def _result(
    evaluation: Evaluation,
    splits: Splits,
    recipe: TrainingSettings,
    besides: Mapping[str, int],
) -> Result:
    material = evaluation.material
    place = {id(case): number for number, case in enumerate(material.cases)}
    usable = material.usable.tolist()
    canonical = dict(zip(usable, _canonical_groups(material, material.usable), strict=True))
    given = evaluation.table
    names = [*given.labels, None]  # -1 is no answer
    cases = [
        Case(
            recording=material.surveys[one.case.name].digest,
            start=None if one.case.stretch is None else one.case.stretch[0],
            end=None if one.case.stretch is None else one.case.stretch[1],
            label=one.case.label,
            kind=one.case.columns.get(KIND, "")[:200],
            group=str(canonical[place[id(one.case)]]),
            answer=one.answer,
            likeliest=names[given.y_pred[row]],
            probabilities=[metrics.plain(value) for value in given.mean[row]],
        )
        for row, one in enumerate(evaluation.predictions)
    ]
    learn_from = {name: sorted(values) for name, values in sorted(recipe.learn_from.items())}
    return Result(
        software=f"crepitus {__version__}",
        versions=versions(),
        estimator=str(recipe.estimator),
        params=dict(recipe.params),
        seed=recipe.seed,
        besides=dict(besides),
        task=Task(data=material.digest, splits=splits.sha256, learn_from=learn_from),
        labels=list(given.labels),
        metrics=evaluation.figures,
        controls=[ControlRow(**one.to_dict()) for one in evaluation.controls],
        cases=sorted(cases, key=lambda one: (one.recording, one.start or 0.0, one.label)),
    )


def file_name(recipe: TrainingSettings, besides: Mapping[str, int]) -> str:
    """Return what the file of a result is called, without its ending."""
    asked = {**recipe.params, **besides}
    mark = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:8]
    return f"{recipe.estimator}-{mark}" if asked else str(recipe.estimator)


def _digests(material: TrainingData, cases: Ints) -> NDArray[np.str_]:
    """Return the digest of each case's recording."""
    return np.array([material.surveys[material.cases[index].name].digest for index in cases])


def _canonical_groups(material: TrainingData, cases: Ints) -> NDArray[np.str_]:
    """Return a name for the group of each case that does not depend on what it is called."""
    digests, groups = _digests(material, cases), material.groups[cases]
    first = {group: min(digests[groups == group].tolist()) for group in np.unique(groups)}
    return np.array([first[group] for group in groups])


@dataclass(frozen=True)
class Place:
    """Where a result comes among those of its task."""

    result: Result
    rank: int  #: 1 for the best
    behind: float  #: How much less it reaches than the best, in balanced accuracy of all recordings
    low: float | None  #: 95 % interval of that, pair by pair, by bootstrap over groups
    high: float | None

    @property
    def told_apart(self) -> bool:
        """Whether the best is surely better."""
        return self.low is not None and self.low > 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        keys = ("estimator", "params", "seed", "besides", "software", "metrics")
        return {
            "rank": self.rank,
            "task": self.result.task.sha256,
            **self.result.model_dump(include=set(keys)),
            "controls": [one.model_dump() for one in self.result.controls],
            "behind": metrics.plain(self.behind),
            "behind_low": None if self.low is None else metrics.plain(self.low),
            "behind_high": None if self.high is None else metrics.plain(self.high),
        }


def rank(results: Sequence[Result]) -> list[list[Place]]:
    """Rank results, task by task: only what was judged on the same splits of the same data.

    Returns
    -------
    list of list of Place
        The largest number of results first; within a task the best first.
    """
    tasks: dict[str, list[Result]] = {}
    for one in results:
        tasks.setdefault(one.task.sha256, []).append(one)
    ranked = []
    for task in sorted(tasks, key=lambda task: (-len(tasks[task]), task)):
        ordered = sorted(
            tasks[task],
            key=lambda one: (-(one.figure(HEADLINE) or 0.0), one.estimator, str(one.asked)),
        )
        ranked.append(
            [Place(one, number, *_behind(ordered[0], one)) for number, one in enumerate(ordered, 1)]
        )
    return ranked


def _behind(best: Result, other: Result) -> tuple[float, float | None, float | None]:
    """Compare two results recording by recording."""
    theirs = {(one.recording, one.start, one.end, one.label): one for one in other.cases}
    pairs = [
        (one, theirs[key])
        for one in best.cases
        for key in [(one.recording, one.start, one.end, one.label)]
        if key in theirs
    ]
    groups = np.array([one.group for one, _ in pairs], dtype=np.str_)
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))

    def difference(rows: Ints) -> list[float]:
        return [
            _accuracy([first[row] for row in rows], best.labels)
            - _accuracy([second[row] for row in rows], best.labels)
        ]

    (interval,) = metrics.group_intervals(difference, groups, resamples=200)
    low, high = interval or (None, None)
    return difference(np.arange(len(pairs)))[0], low, high


def _accuracy(cases: Sequence[Case], labels: Sequence[str]) -> float:
    """Return the balanced accuracy of the likeliest labels, kinds of a label weighing alike."""
    number = {label: index for index, label in enumerate(labels)}
    y_true = np.array([number[one.label] for one in cases], np.int64)
    y_pred = np.array([number.get(one.likeliest or "", -1) for one in cases], np.int64)
    _, kind = np.unique([one.kind for one in cases], return_inverse=True)
    cell = y_true * (int(kind.max()) + 1) + kind
    weights = 1.0 / np.bincount(cell)[cell]
    return metrics.balanced_accuracy(y_true, y_pred, len(labels), weights)


def read_splits(path: Path) -> Splits:
    """Read a file of splits.

    Raises
    ------
    InvalidInputError
        When it is none, or a recording is in it twice.
    """
    splits = _read(path, Splits, "file of splits")
    named = [digest for fold in splits.folds for digest in fold]
    if len(set(named)) < len(named):
        raise InvalidInputError(f"{path}: a recording is in two folds")
    return splits


def read_result(path: Path) -> Result:
    """Read a result, and check that its headline is that of its answers.

    Raises
    ------
    InvalidInputError
        When it is none, or its figures are not those of its answers.
    """
    result = _read(path, Result, "result of a benchmark")
    if not {one.label for one in result.cases} <= set(result.labels):
        raise InvalidInputError(f"{path}: it has cases of labels that it does not name")
    stated, counted = result.figure(HEADLINE), _accuracy(result.cases, result.labels)
    if stated is None or abs(stated - counted) > 1e-4:
        raise InvalidInputError(f"{path}: its figures are not those of its answers; leave it out")
    return result


def _read(path: Path, kind: type[Document], what: str) -> Document:
    try:
        if path.stat().st_size > _LARGEST:
            raise InvalidInputError(f"{path} is too large for a {what} (64 MB at most)")
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        where, problem = first_problem(error)
        raise InvalidInputError(f"{path} is no {what}: {where}: {problem}") from None


def is_document(path: Path) -> bool:
    """Tell whether a file is one of the benchmark's own: splits or a result."""
    given: Mapping[str, Any] = json.loads(path.read_bytes()[:_LARGEST])
    return given.get("format") in {SPLITS, RESULT}
