"""The shortcut probe: how well recording conditions alone predict the label.

On a well-known public set of knee recordings, six such numbers (length, level, noise floor, hum,
bandwidth and the like) reach a balanced accuracy of 0.85: a classifier can look good there without
hearing a joint. When the probe comes near the model, its figures may be the microphone's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.datasets.loading import DataWarning
from audio_pipeline.model.classifier import clean_table
from audio_pipeline.model.metrics import ABSTAINED, balanced_accuracy
from audio_pipeline.model.selection import Fold

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
    if probe is None or model is None:
        return None
    if not is_shortcut(probe, model, n_classes, n_recordings):
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
