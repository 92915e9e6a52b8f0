"""A trained model: a fitted scikit-learn estimator with what it must be fed and how it is read.

``model.json`` holds labels, names of features, settings, thresholds and where the model comes
from; ``estimator.skops`` the estimator (:mod:`audio_pipeline.model.persistence`). A folder is
written once, whole, and never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.model import persistence
from audio_pipeline.model.fitted_checks import MOST_FEATURES, MOST_LABELS
from audio_pipeline.model.persistence import CARD, ESTIMATOR, MANIFEST, SCHEMA_VERSION, refuse

if TYPE_CHECKING:
    from sklearn.base import ClassifierMixin

    from audio_pipeline.analysis.config import AnalysisConfig

__all__ = ["CARD", "Classifier", "default_model_folder", "load_classifier", "save_classifier"]

_ROWS_TOGETHER: Final = 64
_LARGEST_VALUE: Final = 1e6
_DESCRIPTION: Final = ("training", "versions", "metrics", "warnings")
_SCRATCH: Final = ".model-"
_ABANDONED: Final = 3600.0
"""Seconds after which, on Windows, a folder being written is taken for one of a killed training."""


@dataclass(frozen=True)
class Classifier:
    """A trained model, ready to use.

    Attributes
    ----------
    name : str
        Name of the model.
    labels : tuple of str
        Columns of :meth:`predict_proba`, sorted.
    feature_names : tuple of str
        Columns of the feature table that the estimator takes.
    settings : AnalysisConfig
        How recordings must be analysed for it.
    thresholds : mapping of str to float
        An event is sure when the certainty of its likeliest label reaches this
        (:func:`~audio_pipeline.analysis.events.certainties`).
    estimator : scikit-learn classifier
        Fitted; its ``classes_`` are `labels`. Takes (n, len(feature_names)) tables.
    description : mapping
        The rest of ``model.json``: training data, versions, metrics, warnings.
    sha256 : str
        Hash of ``model.json``, which holds the hashes of all other files; empty before saving.
    background_odds : float
        By what the odds of the background are multiplied: labels weigh alike in what is learnt,
        while most sounds of a recording are no joint's.
    """

    name: str
    labels: tuple[str, ...]
    feature_names: tuple[str, ...] = field(repr=False)
    settings: AnalysisConfig = field(repr=False)
    thresholds: Mapping[str, float]
    estimator: ClassifierMixin = field(repr=False)
    description: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sha256: str = ""
    background_odds: float = 1.0

    @cached_property
    def columns(self) -> NDArray[np.int64] | slice:
        """Which columns of today's feature table the estimator takes.

        Raises
        ------
        ValueError
            When a feature is no longer computed.
        """
        return feature_columns(self.feature_names)

    def predict_proba(self, table: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities.

        Parameters
        ----------
        table : array or DataFrame, shape (n, n_features)
            A feature table with all of today's features, as :func:`analysis.pipeline.extract`
            gives it; the columns of `feature_names` are taken from it. Those of a data frame are
            taken by name, whatever their order.

        Returns
        -------
        float64 array, shape (n, n_labels)
            Rows sum to 1; shape (0, n_labels) when there is no segment. A row's probabilities do
            not depend on the other rows, to the last bit.

        Raises
        ------
        InvalidInputError
            When a data frame has not all of `feature_names`.
        """
        from audio_pipeline.analysis.events import with_background_odds

        return with_background_odds(self._estimated(table), self.labels, self.background_odds)

    def predict_tables(self, tables: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float64]]:
        """Return the probabilities of each of some tables, at least one, asked in one call."""
        bounds = np.cumsum([len(table) for table in tables])[:-1]
        return np.split(self.predict_proba(np.concatenate(tables)), bounds)

    def _estimated(self, table: ArrayLike) -> NDArray[np.float64]:
        """Return what the estimator itself says."""
        rows = self._rows(table)
        if not len(rows):
            return np.zeros((0, len(self.labels)))
        if self._independent:
            return np.asarray(self.estimator.predict_proba(rows), np.float64)
        # BLAS rounds by the shape of a matrix: rows are asked about in matrices of one shape.
        padded = np.zeros((-(-len(rows) // _ROWS_TOGETHER) * _ROWS_TOGETHER, rows.shape[1]))
        padded[: len(rows)] = rows
        answers = [
            self.estimator.predict_proba(padded[first : first + _ROWS_TOGETHER].astype(np.float32))
            for first in range(0, len(padded), _ROWS_TOGETHER)
        ]
        return np.concatenate(answers)[: len(rows)].astype(np.float64)

    def _rows(self, table: Any) -> NDArray[np.float32]:
        """Return the columns the estimator takes."""
        if not hasattr(table, "columns"):
            return clean_table(table)[:, self.columns]
        missing = [name for name in self.feature_names if name not in table.columns]
        if missing:
            raise InvalidInputError(
                f"the table has no column {missing[0]!r}, which the model {self.name} needs"
            )
        return clean_table(table[list(self.feature_names)].to_numpy())

    @cached_property
    def _independent(self) -> bool:
        from audio_pipeline.model.estimator import is_tree_based, last_step

        return is_tree_based(last_step(self.estimator))


def feature_columns(feature_names: tuple[str, ...]) -> NDArray[np.int64] | slice:
    """Return where features stand in today's table; ``slice(None)`` for all in their order.

    Raises
    ------
    ValueError
        When one is not computed.
    """
    from audio_pipeline.features.transformer import FEATURE_NAMES

    if feature_names == FEATURE_NAMES:
        return slice(None)
    place = {name: column for column, name in enumerate(FEATURE_NAMES)}
    gone = [name for name in feature_names if name not in place]
    if gone:
        raise ValueError(
            f"it takes the feature {gone[0]!r}, which this version does not compute; train it again"
        )
    return np.array([place[name] for name in feature_names])


def clean_table(table: ArrayLike) -> NDArray[np.float32]:
    """Return a feature table as estimators see it: float32 within +-1e6, 0 for missing values."""
    rows = np.ascontiguousarray(table, dtype=np.float32)
    if np.isfinite(rows).all():
        return rows
    finite = np.nan_to_num(rows, nan=0.0, posinf=_LARGEST_VALUE, neginf=-_LARGEST_VALUE)
    clipped: NDArray[np.float32] = np.clip(finite, -_LARGEST_VALUE, _LARGEST_VALUE)
    return clipped


def default_model_folder() -> Path:
    """Return the folder of the default model: inside the wheel, else beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_models" / "default"
    return inside if inside.is_dir() else package.parent / "models" / "default"


def load_classifier(folder: Path | str | None = None, *, trusted: bool = False) -> Classifier:
    """Load a model folder after checking its version, the hash of every file and every number.

    Parameters
    ----------
    folder : path or None
        None: the default model.
    trusted : bool
        Also load an estimator that is no forest, tree or linear model. Nothing in the file is run
        even then, but a file made to do harm could end the process.

    Raises
    ------
    InvalidInputError
        When the folder or one of its files is missing, altered, of another schema, or not a model.

    Warns
    -----
    UserWarning
        When the model was made with another minor version of scikit-learn.
    """
    where = default_model_folder() if folder is None else Path(folder)
    document, sha256, data = persistence.read_manifest(where)
    try:
        labels = persistence.names(document, "labels", MOST_LABELS)
        feature_names = persistence.names(document, "feature_names", MOST_FEATURES)
        if list(labels) != sorted(labels):
            raise ValueError("labels must be sorted")
        name = document["name"]
        if not isinstance(name, str) or len(name) > 200 or not name.isprintable():
            raise ValueError("name must be one short line of text")
        thresholds = _thresholds(document["thresholds"], labels)
        odds = _background_odds(document.get("calibration", {}))
        description = _described(document)
        if not all(isinstance(description.get(key, {}), dict) for key in _DESCRIPTION[:3]):
            raise ValueError(f"one of {', '.join(_DESCRIPTION[:3])} is no mapping")
        from audio_pipeline.analysis.config import AnalysisConfig

        settings = AnalysisConfig.from_dict(document["settings"])
        feature_columns(feature_names)
    except KeyError as error:
        refuse(where, f"{MANIFEST} has no {error}")
    except (CrepitusError, ValueError, TypeError, AttributeError, OverflowError) as error:
        refuse(where, f"{MANIFEST}: {error}")
    made_with = description.get("versions", {}).get("scikit-learn")
    try:
        estimator = persistence.read_estimator(data, labels, len(feature_names), trusted)
    except ValueError as error:
        refuse(where, f"{ESTIMATOR}: {error}{_version_hint(made_with)}")
    if hint := _version_hint(made_with):
        warnings.warn(f"the model {name} may answer otherwise{hint}", UserWarning, stacklevel=2)
    return Classifier(
        name, labels, feature_names, settings, thresholds, estimator, description, sha256, odds
    )


def save_classifier(
    classifier: Classifier, folder: Path | str, extra_files: Mapping[str, bytes] | None = None
) -> Classifier:
    """Write a model folder, whole or not at all, and never over something that exists.

    Parameters
    ----------
    classifier : Classifier
    folder : path
        Must not exist, or be empty.
    extra_files : mapping of file name to content
        ``CARD.md``, plots and tables.

    Returns
    -------
    Classifier
        As :func:`load_classifier` would read it back.

    Raises
    ------
    InvalidInputError
        When the folder exists and is not empty, or the model could not be loaded again; nothing
        is left of it then.
    CrepitusError
        When it cannot be written.
    """
    where = Path(folder)
    refuse_existing_model(where)
    data = persistence.write_estimator(classifier.estimator)
    files = {ESTIMATOR: data, **(extra_files or {})}
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": classifier.name,
        "labels": list(classifier.labels),
        "feature_names": list(classifier.feature_names),
        "settings": classifier.settings.to_dict(),
        "calibration": {
            **calibration(classifier.estimator),
            "background_odds": classifier.background_odds,
        },
        "thresholds": dict(classifier.thresholds),
        **_described(classifier.description),
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    files[MANIFEST] = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(where.parent)
        with tempfile.TemporaryDirectory(
            prefix=f"{_SCRATCH}{os.getpid()}-", dir=where.parent
        ) as scratch:
            whole = Path(scratch) / "model"
            whole.mkdir()
            for name, content in files.items():
                (whole / name).write_bytes(content)
            # Whoever trained it just now may trust it; what cannot be loaded is not left behind.
            load_classifier(whole, trusted=True)
            # An empty folder may be replaced by rename; a full one makes it fail.
            os.replace(whole, where)
    except OSError as error:
        raise CrepitusError(f"cannot write the model to {where}: {error.strerror}") from None
    return load_classifier(where, trusted=True)


def _described(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a document says of where a model comes from."""
    return {key: document[key] for key in _DESCRIPTION if key in document}


def needs_trust(classifier: Classifier) -> bool:
    """Tell whether a classifier loads only with ``trusted=True``."""
    schema, _ = persistence.unpack(persistence.write_estimator(classifier.estimator))
    return bool(persistence.untrusted_types(schema))


def calibration(estimator: Any) -> dict[str, Any]:
    """Return how an estimator is calibrated: its temperature, 1 for one that is not."""
    for one in getattr(estimator, "calibrated_classifiers_", ()):
        for calibrator in one.calibrators:
            if hasattr(calibrator, "beta_"):
                return {"method": one.method, "temperature": round(1 / float(calibrator.beta_), 6)}
    return {"method": "none", "temperature": 1.0}


def refuse_existing_model(folder: Path) -> None:
    """Raise InvalidInputError when `folder` holds anything: a model is never overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder} already exists; name a new folder for the model")


def _remove_abandoned(parent: Path) -> None:
    """Remove what killed trainings left beside the models: only folders that only they make."""
    for path in parent.glob(f"{_SCRATCH}*"):
        inside = list(path.iterdir()) if path.is_dir() and not path.is_symlink() else [path]
        ours = all(each.name == "model" and each.is_dir() for each in inside)
        if ours and not _is_being_written(path):
            shutil.rmtree(path, ignore_errors=True)


def _is_being_written(scratch: Path) -> bool:
    """Tell whether the process that a scratch folder is named after still runs."""
    if os.name != "posix":  # where asking would end it
        return time.time() - scratch.stat().st_mtime < _ABANDONED
    number = scratch.name.removeprefix(_SCRATCH).partition("-")[0]
    try:
        with suppress(PermissionError):  # somebody else's runs as well
            os.kill(int(number), 0)
    except (ValueError, ProcessLookupError, OverflowError):
        return False
    return True


def _version_hint(made_with: Any) -> str:
    """Say so when a model comes from another minor version of scikit-learn; else empty."""
    here = version("scikit-learn")
    if not isinstance(made_with, str) or made_with.split(".")[:2] == here.split(".")[:2]:
        return ""
    return (
        f" (it was made with scikit-learn {made_with[:20]}, this is {here}: train it again, or "
        f"install scikit-learn {'.'.join(made_with.split('.')[:2])[:10]})"
    )


def _background_odds(calibrated: Mapping[str, Any]) -> float:
    odds = calibrated.get("background_odds", 1.0)
    if isinstance(odds, bool) or not isinstance(odds, int | float) or not 0.1 <= odds <= 10:
        raise ValueError("background_odds must be a number from 0.1 to 10")
    return float(odds)


def _thresholds(given: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, float]:
    thresholds = {}
    for label in labels:
        threshold = given[label]
        if isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise ValueError("thresholds must be numbers")
        if not 0.0 <= threshold <= 1.0:
            raise ValueError("thresholds must be between 0 and 1")
        thresholds[label] = float(threshold)
    return thresholds
