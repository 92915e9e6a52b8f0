"""What a dataset gives to train on and to judge by, and what is doubtful about it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.datasets.conditions import (
    RecordingConditions,
    find_copies,
    in_parallel,
    linked_groups,
    measure_conditions,
)
from audio_pipeline.datasets.examples import (
    AnnotatedRecording,
    Example,
    analyze_dataset,
    balanced_weights,
    events_of,
)
from audio_pipeline.datasets.manifest import Dataset, read_dataset, uncorrected_guesses
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES

if TYPE_CHECKING:
    from sklearn.utils import Bunch

LOWEST_RATE = 1000
"""Hz. Below it a click of a few milliseconds is a handful of samples."""

_FEW_RECORDINGS = 10
_FEW_GROUPS = 5
_SHOWN = 5
_SHOWN_COPIES = 50
_MANY_UNHEARD = 0.1

Progress = Callable[[str, int, int], None]
"""Called with (what is being done, done, total)."""


@dataclass(frozen=True)
class DataWarning:
    """Something about the data or the figures that a person should know."""

    code: str
    text: str


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A dataset, heard."""

    dataset: Dataset
    #: At the default rate, or the lowest of the dataset where that is lower
    settings: AnalysisConfig
    heard: list[AnnotatedRecording]  #: A recording each
    cases: tuple[Example, ...]  #: All of them; those that cannot be read or used have no events
    groups: NDArray[np.str_]  #: str array, shape (n_cases,): Copies of a recording share one
    surveys: dict[str, RecordingConditions]  #: By the recording's name
    data_warnings: tuple[DataWarning, ...]

    @property
    def usable(self) -> NDArray[np.int64]:
        """Indices of the cases that can be learnt from."""
        return np.flatnonzero([len(case.table) > 0 for case in self.cases])

    @cached_property
    def paths(self) -> dict[str, Path]:
        """The file of each recording, by its name."""
        return {clip.name: clip.path for clip in self.dataset.clips}

    @property
    def conditions(self) -> NDArray[np.float64]:
        """Recording conditions of each case, shape (n_cases, n_conditions)."""
        return np.array([self.surveys[case.name].conditions for case in self.cases])

    @property
    def digest(self) -> str:
        """SHA-256 over labels, groups and sound: the same for the same data, wherever it lies."""
        lines = sorted(
            f"{self.surveys[c.name].digest}\t{c.label}\t{c.group}\t{c.start}\t{c.end}"
            for c in self.dataset.clips
        )
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def load_training_data(
    dataset: Dataset,
    settings: AnalysisConfig | None = None,
    ignore_groups: bool = False,
    progress: Progress | None = None,
) -> TrainingData:
    """Measure the conditions of every recording of a dataset, and analyse it.

    Parameters
    ----------
    dataset : Dataset
    settings : AnalysisConfig or None
        None: the defaults, at a lower rate where a recording has one; otherwise exactly these, and
        recordings of a lower rate are interpolated up where the settings allow it.
    ignore_groups : bool
        Every recording is its own group, whatever the dataset says.
    progress : callable or None

    Raises
    ------
    InvalidInputError
        When no recording can be read, or a rate is below 1 kHz.
    """
    recordings = dataset.recordings
    paths = {name: clips[0].path for name, clips in recordings.items()}
    looks = in_parallel(
        [(measure_conditions, (path,)) for path in paths.values()],
        progress=lambda done, total: progress and progress("Reading recordings", done, total),
    )
    surveys: dict[str, RecordingConditions] = dict(zip(paths, looks, strict=True))
    if settings is None:
        settings = _settings_for(dataset, surveys)
    heard = analyze_dataset(
        dataset, settings, lambda done, total: progress and progress("Listening", done, total)
    )
    cases = tuple(case for one in heard for case in one.cases)
    names = list(paths)
    found = find_copies(list(surveys.values()), list(paths.values()))
    copies = [(names[copy.first], names[copy.second]) for copy in found]
    given = np.array([case.name if ignore_groups else case.group for case in cases], dtype=np.str_)
    first_case = {case.name: index for index, case in reversed(list(enumerate(cases)))}
    same_name = [(first_case[case.name], index) for index, case in enumerate(cases)]
    pairs = [(first_case[first], first_case[second]) for first, second in copies]
    groups = linked_groups(given, same_name + pairs)
    data_warnings = [
        *_dataset_warnings(dataset, ignore_groups),
        *_recording_warnings(surveys, settings, heard),
        *_copies_warnings(copies, dataset),
        *_sizes_warnings(cases, groups),
    ]
    return TrainingData(dataset, settings, heard, cases, groups, surveys, tuple(data_warnings))


def load_examples(dataset: Dataset | Path | str, *, sample_rate: int | None = None) -> Bunch:
    """Return the sounds of a labelled dataset as arrays, for scikit-learn.

    Parameters
    ----------
    dataset : Dataset or path
        As :func:`~audio_pipeline.datasets.manifest.read_dataset` takes it.
    sample_rate : int or None
        Hz to listen at; None: the default model's rate, or the lowest of the dataset when that is
        lower.

    Returns
    -------
    sklearn.utils.Bunch
        One entry per segment, or per recording where none was found:

        - ``data``: float32 (n, n_features)
        - ``target``: str (n,), the labels
        - ``groups``: str (n,); copies of a recording share one
        - ``recording``: str (n,), the recording as the dataset names it
        - ``start``, ``end``: float64 (n,), seconds
        - ``sample_weight``: float64 (n,), mean 1: every label weighs the same, and within it a
          recording by the square root of its number of segments
        - ``feature_names``: list of str

    Raises
    ------
    InvalidInputError
        When nothing can be read, or the rate is no whole number of Hz.

    Examples
    --------
    >>> from sklearn.model_selection import StratifiedGroupKFold, cross_val_score
    >>> examples = load_examples("my_recordings")  # doctest: +SKIP
    >>> cross_val_score(  # doctest: +SKIP
    ...     make_classifier(), examples.data, examples.target, groups=examples.groups,
    ...     cv=StratifiedGroupKFold(5), scoring="balanced_accuracy",
    ... )
    """
    given = dataset if isinstance(dataset, Dataset) else read_dataset(dataset)
    settings = None if sample_rate is None else AnalysisConfig().at_rate(sample_rate)
    return examples_of(load_training_data(given, settings))


def examples_of(material: TrainingData) -> Bunch:
    """Return the same of a dataset that was analysed already."""
    from sklearn.utils import Bunch

    cases = [material.cases[index] for index in material.usable]
    if not cases:
        raise InvalidInputError(f"no recording of {material.dataset.source} can be used")
    events = events_of(cases, material.groups[material.usable])
    spans = np.concatenate([case.spans for case in cases])
    return Bunch(
        data=events.table,
        target=events.labels,
        groups=events.groups,
        recording=np.array([case.name for case in cases])[events.case],
        start=spans[:, 0],
        end=spans[:, 1],
        sample_weight=balanced_weights(events.labels, events.weights),
        feature_names=list(FEATURE_NAMES),
    )


def fail_for_unreadable(data_warnings: Sequence[DataWarning]) -> None:
    """Raise CrepitusError (exit code 1) when some recordings could not be read.

    The work is done by then: as in every command, a broken recording harms no other, but whoever
    waits for the exit code learns of it.
    """
    for data_warning in data_warnings:
        if data_warning.code == "unreadable":
            raise CrepitusError(data_warning.text)


def _settings_for(dataset: Dataset, surveys: dict[str, RecordingConditions]) -> AnalysisConfig:
    settings = AnalysisConfig()
    rates = {one.sample_rate: name for name, one in surveys.items() if one.sample_rate}
    if not rates:
        first = next(iter(dataset.recordings), "it holds none")
        raise InvalidInputError(
            f"no recording of {dataset.source} can be read, {shown_names([first])} first of all"
        )
    lowest = min(rates)
    if lowest < LOWEST_RATE:
        raise InvalidInputError(
            f"{rates[lowest]} has a sample rate of {lowest} Hz; {LOWEST_RATE} Hz is the lowest"
        )
    return settings.at_rate(lowest) if lowest < settings.sample_rate else settings


def shown_names(names: Sequence[str], most: int = _SHOWN) -> str:
    """Return the first few names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _dataset_warnings(dataset: Dataset, ignore_groups: bool) -> Iterator[DataWarning]:
    """Say what is doubtful about labels and groups."""
    if dataset.synthetic:
        yield DataWarning(
            "synthetic_only",
            "trained and judged on made sounds only: its figures say nothing about recordings",
        )
    if count := uncorrected_guesses(dataset.source, {c.name: c.label for c in dataset.clips}):
        yield DataWarning(
            "own_guesses",
            f"all {count} labels are a model's own guesses and none was corrected: what is trained "
            "on them learns what that model believes, and the figures say how well it agrees with "
            "itself; listen, correct the tracks and decide those that end in ?",
        )
    if ignore_groups:
        yield DataWarning(
            "groups_ignored",
            "groups were ignored as asked: recordings of one person may sit on both sides of a "
            "split, and the figures are too good",
        )
    elif not dataset.has_groups:
        yield DataWarning(
            "no_groups",
            "nothing says which recordings belong together, so each was its own group; if a person "
            "was recorded twice the figures are too good: add a group column",
        )


def _recording_warnings(
    surveys: dict[str, RecordingConditions],
    settings: AnalysisConfig,
    heard: Sequence[AnnotatedRecording],
) -> Iterator[DataWarning]:
    """Say when a few recordings of a low rate lower it for all, and what cannot be heard."""
    usual = AnalysisConfig().sample_rate
    low = [name for name, one in surveys.items() if 0 < one.sample_rate < usual]
    if settings.sample_rate < usual and len(low) <= len(surveys) / 2:
        yield DataWarning(
            "lower_rate",
            f"the model listens at {settings.sample_rate} Hz because {len(low)} of {len(surveys)} "
            f"recordings have less than {usual} Hz; leave them out, or pass --sample-rate {usual} "
            f"to listen at that: {shown_names(low)}",
        )
    failed = [one.name for one in heard if one.extraction.status != "ok"]
    unusable = [one.name for one in heard if one.problem and one.extraction.status == "ok"]
    for code, names, verb in (("unreadable", failed, "read"), ("unusable", unusable, "used")):
        if names:
            many = f"{len(names)} of {len(heard)} recordings cannot be {verb}"
            yield DataWarning(code, f"{many}: {shown_names(names)}")


def silence_warning(cases: Sequence[Example]) -> list[DataWarning]:
    """Say so when much of a dataset is of sounds that the segmentation does not find."""
    usable = [case for case in cases if len(case.table)]
    unheard = [case.name for case in usable if not len(case.extraction.table)]
    if len(unheard) <= _MANY_UNHEARD * len(usable):
        return []
    text = (
        f"in {len(unheard)} of {len(usable)} recordings or labelled stretches no sound stood out, "
        "so all of each was learnt from; the model will recognise nothing in such: "
        + shown_names(list(dict.fromkeys(unheard)))
    )
    return [DataWarning("nothing_found", text)]


def _copies_warnings(copies: Sequence[tuple[str, str]], dataset: Dataset) -> Iterator[DataWarning]:
    """Name copies; those under two labels first, for at least one of their labels is wrong."""
    labels = {name: {clip.label for clip in clips} for name, clips in dataset.recordings.items()}
    wrong, agreeing = [], []
    for first, second in copies:
        if labels[first] == labels[second]:
            agreeing.append(f"{first} = {second}")
        else:
            both = " and ".join("/".join(sorted(labels[name])) for name in (first, second))
            wrong.append(f"{first} = {second} (labelled {both})")
    if wrong:
        yield DataWarning(
            "duplicate_labels",
            f"{len(wrong)} pairs of recordings hold the same sound under different labels; correct "
            f"one of each: {shown_names(wrong, _SHOWN_COPIES)}",
        )
    if copies:
        yield DataWarning(
            "duplicate",
            f"{len(copies)} pairs of recordings hold the same sound; they are kept on one side of "
            f"every split: {shown_names([*wrong, *agreeing], _SHOWN_COPIES)}",
        )


def _sizes_warnings(cases: Sequence[Example], groups: NDArray[np.str_]) -> Iterator[DataWarning]:
    usable = [index for index, case in enumerate(cases) if len(case.table)]
    counts = Counter(cases[index].label for index in usable)
    few = [f"{label} ({n})" for label, n in sorted(counts.items()) if n < _FEW_RECORDINGS]
    n_groups = np.unique(groups[usable]).size if usable else 0
    if few:
        text = f"fewer than {_FEW_RECORDINGS} recordings of {', '.join(few)}: figures are rough"
        yield DataWarning("few_samples", text)
    if n_groups < _FEW_GROUPS:
        text = f"only {n_groups} groups: figures say little about new people or devices"
        yield DataWarning("few_groups", text)
