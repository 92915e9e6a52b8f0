"""Negative controls: whether the labels can be told from what holds no joint sound.

A model that hears the microphone, the room or the order of recording gets good figures on data in
which these go with the labels. So its own estimator is asked to tell the labels from nothing else:
the quiet stretch before the sounds, the time between them, length, format, level, background and
order; from labels that were dealt out anew; and from recordings whose person stays while the
sounds are another's. Where it can, the data cannot show that the model hears joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import extract
from audio_pipeline.audio.recording import Recording, read_recording
from audio_pipeline.datasets.conditions import CONDITIONS, in_parallel
from audio_pipeline.datasets.examples import Example
from audio_pipeline.datasets.loading import DataWarning, TrainingData
from audio_pipeline.datasets.manifest import number_in
from audio_pipeline.exceptions import RecordingError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.classifier import Classifier, clean_table
from audio_pipeline.model.estimator import DEFAULT, NAMES, fit_weighted, make_classifier
from audio_pipeline.model.evaluation import Control, Evaluation
from audio_pipeline.model.metrics import balanced_accuracy, group_intervals
from audio_pipeline.model.selection import Fold, grouped_folds

Floats = NDArray[np.float64]

_WORDS: Final[Mapping[str, str]] = {
    "quiet": "the quiet stretch without any sound of interest",
    "timing": "the time between the sounds",
    "length": "the length of the recording",
    "format": "the file's format, rate and bandwidth",
    "level": "how loud it is between the sounds, and how much is clipped,",
    "background": "the noise and hum of the background",
    "order": "the order of recording",
    "permuted": "the sounds, with labels dealt out anew,",
    "swapped": "the person, with the sounds of another,",
}
_ORDER_COLUMNS: Final = ("recorded", "date", "time", "order", "session")
_ABOVE_CHANCE: Final = 0.1
_SHARE: Final = 0.5
_FOLDS: Final = 5
_SMALL_TREES: Final = {"n_estimators": 60, "min_samples_leaf": 3}
_LEAST_QUIET: Final = 0.1
_LEAST_GAP: Final = 0.3
_LONGEST_QUIET: Final = 2.0
_MOST_PAIRS: Final = 120
_FEWEST_KNOWN: Final = 0.5


@dataclass(frozen=True)
class ControlSettings:
    """What tells the labels apart in the controls: the model's own estimator."""

    #: As :func:`~audio_pipeline.model.estimator.make_classifier` takes it
    estimator: str | BaseEstimator = DEFAULT
    params: Mapping[str, Any] = field(default_factory=dict)  #: Of it
    seed: int = 0


def negative_controls(
    material: TrainingData,
    kept: NDArray[np.int64],
    accuracy: float | None,
    settings: ControlSettings,
    classifier: Classifier | None = None,
    tables: Mapping[str, Floats] | None = None,
) -> list[Control]:
    """Ask what holds no joint sound for the labels.

    Parameters
    ----------
    material : TrainingData
    kept : int64 array, shape (n,)
        The cases to ask about; those without events are left out.
    accuracy : float or None
        The model's balanced accuracy over all recordings, to compare with.
    settings : ControlSettings
    classifier : Classifier, optional
        Is asked about recordings with the sounds of another person; without it that is left out.
    tables : mapping of str to array, optional
        What :func:`control_tables` gave for these cases, when several estimators are asked.

    Returns
    -------
    list of Control
        Empty when no grouped split exists. A control is left out where the data do not know it:
        no order, no gap between sounds, no quiet.
    """
    kept = np.array([index for index in kept if len(material.cases[index].table)], np.int64)
    cases = [material.cases[index] for index in kept]
    labels, y_true = np.unique([case.label for case in cases], return_inverse=True)
    groups = material.groups[kept]
    folds = grouped_folds(labels[y_true], groups, _FOLDS, settings.seed) if cases else []
    if not folds or labels.size < 2:
        return []
    rng = np.random.default_rng(settings.seed)
    told = []
    for name, table in (tables or control_tables(material, kept)).items():
        known = ~np.isnan(table).all(axis=1)
        if known.mean() < _FEWEST_KNOWN:
            continue
        told.append((name, y_true, _told_from(table, y_true, folds, settings), groups))
    means = np.array([case.table.mean(axis=0) for case in cases])
    dealt = rng.permutation(y_true)
    told.append(("permuted", dealt, _told_from(means, dealt, folds, settings), groups))
    swapped = classifier and _swapped(material, cases, groups, classifier, rng)
    if swapped:
        told.append(("swapped", *swapped))
    return [_control(*one, accuracy, settings.seed) for one in told]


def _control(
    name: str,
    y_true: NDArray[np.int64],
    answer: NDArray[np.int64],
    groups: NDArray[np.str_],
    accuracy: float | None,
    seed: int,
) -> Control:
    n_classes = int(np.unique(y_true).size)
    chance = 1.0 / n_classes
    size = int(max(y_true.max(), answer.max())) + 1
    reached = balanced_accuracy(y_true, answer, size)
    (interval,) = group_intervals(
        lambda rows: [balanced_accuracy(y_true[rows], answer[rows], size)], groups, seed
    )
    low, high = interval or (None, None)
    surely = reached if low is None else low
    beyond = 0.0 if accuracy is None else _SHARE * (accuracy - chance)
    as_well = accuracy is not None and surely > chance and reached >= accuracy
    caught = bool(as_well or surely - chance >= max(_ABOVE_CHANCE, beyond))
    told = f"{_WORDS[name]} tells the labels apart with {reached:.2f}"
    told += "" if interval is None else f" [{low:.2f}, {high:.2f}]"
    told += f", where guessing gives {chance:.2f}"
    told += "" if accuracy is None else f" and the model {accuracy:.2f}"
    if caught:
        verdict = f"{told}: these data cannot show that the model hears joints."
    elif surely > chance:
        verdict = f"{told}: a part of the model's figure may come from it."
    else:
        verdict = f"{told}: no sign that it gives the labels away."
    verdict = verdict[0].upper() + verdict[1:]
    return Control(name, reached, low, high, chance, len(y_true), caught, verdict)


def _told_from(
    table: Floats, y_true: NDArray[np.int64], folds: Sequence[Fold], settings: ControlSettings
) -> NDArray[np.int64]:
    """Answer each case by the model's own estimator, fitted on the other groups."""
    rows = clean_table(table)
    answer = np.full(len(y_true), -1)
    for fold in folds:
        model = make_classifier(
            settings.estimator, random_state=settings.seed, **dict(settings.params)
        )
        known = y_true[fold.train]
        weights = len(known) * (1.0 / np.bincount(known, minlength=known.max() + 1))[known]
        fit_weighted(model, rows[fold.train], known, weights, **_SMALL_TREES)
        answer[fold.test] = model.predict(rows[fold.test])
    return answer


def control_tables(material: TrainingData, kept: NDArray[np.int64]) -> dict[str, Floats]:
    """Return what each control may see of each case, one row a case; NaN for what is not known.

    Parameters
    ----------
    material : TrainingData
    kept : int64 array, shape (n,)
        Cases with events.
    """
    cases = [material.cases[index] for index in kept]
    conditions = material.conditions[kept]

    def columns(*names: str) -> Floats:
        return conditions[:, [CONDITIONS.index(name) for name in names]]

    endings = [material.paths[case.name].suffix.lower() for case in cases]
    _, formats = np.unique(endings, return_inverse=True)
    flat = [material.surveys[case.name].flat_share for case in cases]
    floors = [name for name in CONDITIONS if name.startswith("floor")]
    tables = {
        "quiet": _quiet_table(cases, material.paths, material.settings),
        "timing": np.array([_gaps(case) for case in cases]),
        "length": columns("duration"),
        "format": np.column_stack([columns("sample_rate", "bandwidth"), formats]),
        # Not the peak: how loud a sound is belongs to the sound.
        "level": np.column_stack([columns("level", "dc"), flat]),
        "background": columns(*floors, "hum"),
    }
    order = _order(cases)
    return tables if order is None else {**tables, "order": order}


def _gaps(case: Example) -> list[float]:
    """Return the shortest, middle and longest time from one sound of a recording to the next.

    Segments less than 0.3 s apart are one sound: how it falls apart is its own matter.
    """
    segments = sorted(case.extraction.segments, key=lambda one: one.start)
    later = [b.start for a, b in pairwise(segments) if b.start - a.end >= _LEAST_GAP]
    starts = [segment.start for segment in segments[:1]] + later
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    return [min(gaps), float(np.median(gaps)), max(gaps)] if gaps else [np.nan] * 3


def _order(cases: Sequence[Example]) -> Floats | None:
    """Return where each recording came among those of its group, 0 to 1; None if nobody knows."""
    name = next(
        (name for name in _ORDER_COLUMNS if all(case.columns.get(name) for case in cases)), None
    )
    if name is None:
        return None
    values = [case.columns[name] for case in cases]
    keys = [(0.0, text) if isnan(number := number_in(text)) else (number, "") for text in values]
    place = np.zeros((len(cases), 1))
    for group in {case.group for case in cases}:
        own = [index for index, case in enumerate(cases) if case.group == group]
        for rank, index in enumerate(sorted(own, key=lambda index: keys[index])):
            place[index] = rank / max(1, len(own) - 1)
    return place


def quiet_span(case: Example) -> tuple[float, float] | None:
    """Return the stretch of a recording without any sound: the guided one, else the longest.

    Returns
    -------
    (start, end) or None
        Seconds, at most 2 s; None where no tenth of a second is free of sounds.
    """
    extraction = case.extraction
    quiet = next((phase for phase in extraction.phases if phase.kind == "quiet"), None)
    if quiet is not None:
        return quiet.start, min(quiet.end, quiet.start + _LONGEST_QUIET)
    edges = [0.0]
    for segment in sorted(extraction.segments, key=lambda one: one.start):
        edges += [segment.start, segment.end]
    edges.append(extraction.duration or 0.0)
    gaps = [(start + 0.02, end - 0.02) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    longest = max(gaps, key=lambda gap: gap[1] - gap[0])
    if longest[1] - longest[0] < _LEAST_QUIET:
        return None
    return longest[0], min(longest[1], longest[0] + _LONGEST_QUIET)


def _quiet_table(
    cases: Sequence[Example], paths: Mapping[str, Path], config: AnalysisConfig
) -> Floats:
    """Describe the quiet stretch of each case by the model's own features."""
    spans = [quiet_span(case) for case in cases]
    table = np.full((len(cases), len(FEATURE_NAMES)), np.nan)
    there = [row for row, span in enumerate(spans) if span is not None]
    work = [(_quiet_row, (paths[cases[row].name], spans[row], config)) for row in there]
    for row, features in zip(there, in_parallel(work), strict=True):
        table[row] = features
    return table


def _quiet_row(path: Path, span: tuple[float, float], config: AnalysisConfig) -> Floats:
    table = extract(path, config, regions=[span]).table
    return table[0].astype(np.float64) if len(table) else np.full(len(FEATURE_NAMES), np.nan)


def _swapped(
    material: TrainingData,
    cases: Sequence[Example],
    groups: NDArray[np.str_],
    classifier: Classifier,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]] | None:
    """Put the sounds of another label and group into the quiet of each recording, and ask.

    The label of the person's own recording, the likeliest label heard, the person's group.
    """
    usable = [n for n, case in enumerate(cases) if case.extraction.segments and quiet_span(case)]
    own, said, whose = [], [], []
    for first in rng.permutation(usable)[:_MOST_PAIRS]:
        others = [
            n for n in usable if cases[n].label != cases[first].label and groups[n] != groups[first]
        ]
        if not others or cases[first].label not in classifier.labels:
            continue
        second = others[int(rng.integers(len(others)))]
        try:
            sound = _with_sounds_of(cases[first], cases[second], material.paths)
        except RecordingError:
            continue
        table = extract(sound, classifier.settings).table
        if len(table):
            heard = classifier.predict_proba(table).mean(axis=0)
            own.append(classifier.labels.index(cases[first].label))
            said.append(int(heard.argmax()))
            whose.append(str(groups[first]))
    if len(set(own)) < 2:
        return None
    return np.array(own), np.array(said), np.array(whose)


def _with_sounds_of(person: Example, other: Example, paths: Mapping[str, Path]) -> Recording:
    """Return the quiet of one recording with the sounds of another in it, at their level."""
    home, away = read_recording(paths[person.name]), read_recording(paths[other.name])
    span = quiet_span(person)
    assert span is not None
    rate = home.sample_rate
    quiet = home.samples[round(span[0] * rate) : round(span[1] * rate)]
    mirrored = np.concatenate([quiet, quiet[::-1]])  # no jump where it repeats
    segments = other.extraction.segments
    length = round((max(segment.end for segment in segments) + 0.5) * rate)
    samples = np.tile(mirrored, length // len(mirrored) + 1)[:length].astype(np.float64)
    own_peak, other_peak = np.abs(home.samples).max(), np.abs(away.samples).max()
    gain = own_peak / max(float(other_peak), 1e-9)
    for segment in segments:
        first = max(0, round((segment.start - 0.01) * away.sample_rate))
        part = away.samples[first : round((segment.end + 0.02) * away.sample_rate)]
        if away.sample_rate != rate:
            import soxr

            part = soxr.resample(part, away.sample_rate, rate)
        at = round(segment.start * rate)
        part = part[: length - at]
        fade = min(len(part), rate // 200)
        window = np.ones(len(part))
        window[len(part) - fade :] = np.linspace(1, 0, fade)
        samples[at : at + len(part)] += gain * part * window
    return Recording(np.clip(samples, -1, 1).astype(np.float32), rate, person.name)


def with_controls(
    evaluation: Evaluation,
    settings: ControlSettings | None = None,
    classifier: Classifier | None = None,
    tables: Mapping[str, Floats] | None = None,
) -> Evaluation:
    """Return an evaluation with its negative controls, and a warning for each that caught.

    Parameters
    ----------
    evaluation : Evaluation
    settings : ControlSettings, optional
        None: the estimator that the classifier was trained with, where it says so.
    classifier, tables
        As for :func:`negative_controls`.
    """
    accuracy = evaluation.figures["recording_balanced_accuracy"]
    if settings is None:
        recipe = {} if classifier is None else classifier.description.get("training", {})
        name = recipe.get("estimator")
        settings = ControlSettings(name if name in NAMES else DEFAULT)
    place = {id(case): number for number, case in enumerate(evaluation.material.cases)}
    kept = np.array([place[id(one.case)] for one in evaluation.predictions], np.int64)
    controls = negative_controls(evaluation.material, kept, accuracy, settings, classifier, tables)
    caught = [DataWarning(f"control_{one.name}", one.verdict) for one in controls if one.caught]
    return replace(
        evaluation, controls=tuple(controls), data_warnings=(*evaluation.data_warnings, *caught)
    )
