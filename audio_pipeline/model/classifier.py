"""A model folder: labels, settings, calibration and thresholds as plain numbers, trees as arrays.

``model.json`` describes the model and lists every other file with its SHA-256; nothing is read
before its hash agrees, and nothing that is read is ever run. A folder is written once, whole, and
never changed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.model.forest import Forest, read_forest, write_forest

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "model.json"
ESTIMATOR: Final = "estimator.skops"
CARD: Final = "CARD.md"

_LARGEST_MANIFEST: Final = 16 * 1024 * 1024
_LARGEST_FILE: Final = 64 * 1024 * 1024
_LEAST_PROBABILITY: Final = 1e-4
"""A forest of a few hundred trees cannot tell a rarer answer from an impossible one."""


@dataclass(frozen=True)
class Calibration:
    """Turns the trees' scores into probabilities: one temperature and one offset a label.

    Attributes
    ----------
    temperature : float
        > 0; above 1 makes scores less extreme.
    offsets : tuple of float
        Added to the log scores, one a label; all 0 leaves the order of labels as it is.
    """

    temperature: float
    offsets: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if not all(math.isfinite(offset) for offset in self.offsets):
            raise ValueError("calibration offsets must be finite")

    @classmethod
    def identity(cls, n_labels: int) -> Calibration:
        """Return the calibration that changes nothing."""
        return cls(1.0, (0.0,) * n_labels)

    def apply(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Calibrate.

        Parameters
        ----------
        scores : array, shape (n, n_labels)
            Rows that sum to 1.

        Returns
        -------
        float64 array, shape (n, n_labels)
            Rows that sum to 1.
        """
        likely = np.maximum(np.asarray(scores, np.float64), _LEAST_PROBABILITY)
        logits: NDArray[np.float64] = np.log(likely)
        logits = logits / self.temperature + np.asarray(self.offsets)
        if len(logits) == 0:
            return logits
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True)
class Classifier:
    """A trained model, ready to use.

    Attributes
    ----------
    name : str
        Name of the model.
    sha256 : str
        Hash of ``model.json``, which holds the hashes of all other files; empty before saving.
    labels : tuple of str
        Columns of :meth:`predict_proba`.
    feature_names : tuple of str
        Columns of the feature table it takes.
    settings : AnalysisConfig
        How recordings must be analysed for it.
    thresholds : mapping of str to float
        An event is sure when the probability of its likeliest label reaches this.
    calibration : Calibration
    estimator : Forest
    description : mapping
        The rest of ``model.json``: training data, versions, metrics, warnings.
    """

    name: str
    labels: tuple[str, ...]
    feature_names: tuple[str, ...]
    settings: AnalysisConfig
    thresholds: Mapping[str, float]
    calibration: Calibration
    estimator: Forest
    description: Mapping[str, Any] = field(default_factory=dict)
    sha256: str = ""

    def predict_proba(self, table: ArrayLike) -> NDArray[np.float64]:
        """Return calibrated probabilities.

        Parameters
        ----------
        table : array, shape (n, n_features)
            A feature table; columns as in `feature_names`.

        Returns
        -------
        float64 array, shape (n, n_labels)
            Rows sum to 1; shape (0, n_labels) when there is no segment. A row's probabilities do
            not depend on the other rows.
        """
        return self.calibration.apply(self.estimator.predict_proba(table))


def default_model_folder() -> Path:
    """Return the folder of the default model: inside the wheel, else beside the package."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_models" / "default"
    return inside if inside.is_dir() else package.parent / "models" / "default"


def load_classifier(folder: Path | str | None = None) -> Classifier:
    """Load a model folder after checking its version and the hash of every file.

    Parameters
    ----------
    folder : path or None
        None: the default model.

    Raises
    ------
    InvalidInputError
        When the folder or one of its files is missing, altered, of another schema, or not a model.
    """
    from audio_pipeline.analysis.config import AnalysisConfig
    from audio_pipeline.features.table import FEATURE_NAMES

    where = default_model_folder() if folder is None else Path(folder)
    content = _read(where, MANIFEST, _LARGEST_MANIFEST)
    document = _parse_manifest(where, content)
    files = _checked_files(where, document)
    forest = read_forest(files[ESTIMATOR], str(where / ESTIMATOR))
    try:
        calibration = document["calibration"]
        labels = _names(document, "labels")
        classifier = Classifier(
            name=str(document["name"]),
            labels=labels,
            feature_names=_names(document, "feature_names"),
            settings=AnalysisConfig.from_dict(document["settings"]),
            thresholds=_thresholds(document["thresholds"], labels),
            calibration=Calibration(
                float(calibration["temperature"]),
                tuple(float(calibration["offsets"][label]) for label in labels),
            ),
            estimator=forest,
            description={key: document[key] for key in _DESCRIPTION if key in document},
            sha256=hashlib.sha256(content).hexdigest(),
        )
    except KeyError as error:
        raise _refused(where, f"{MANIFEST} has no {error}") from None
    except (CrepitusError, ValueError, TypeError, AttributeError) as error:
        raise _refused(where, " ".join(f"{MANIFEST}: {error}".split())) from None
    if tuple(forest.classes_.tolist()) != classifier.labels:
        raise _refused(where, "its estimator knows other labels than its model.json")
    if forest.n_features_in_ != len(classifier.feature_names):
        raise _refused(where, "its estimator takes another number of features than its model.json")
    if classifier.feature_names != FEATURE_NAMES:
        raise _refused(where, "it takes other features than this version computes; train it again")
    return classifier


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
        ``CARD.md`` and plots.

    Returns
    -------
    Classifier
        As :func:`load_classifier` would read it back.

    Raises
    ------
    InvalidInputError
        When the folder exists and is not empty.
    CrepitusError
        When it cannot be written.
    """
    where = Path(folder)
    refuse_existing_model(where)
    files = {ESTIMATOR: write_forest(classifier.estimator), **(extra_files or {})}
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": classifier.name,
        "labels": list(classifier.labels),
        "feature_names": list(classifier.feature_names),
        "settings": classifier.settings.to_dict(),
        "calibration": {
            "temperature": classifier.calibration.temperature,
            "offsets": dict(zip(classifier.labels, classifier.calibration.offsets, strict=True)),
        },
        "thresholds": dict(classifier.thresholds),
        **{
            key: classifier.description[key]
            for key in _DESCRIPTION
            if key in classifier.description
        },
        "files": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
    }
    files[MANIFEST] = (json.dumps(document, indent=1, allow_nan=False) + "\n").encode()
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".model-", dir=where.parent) as scratch:
            whole = Path(scratch) / "model"
            whole.mkdir()
            for name, data in files.items():
                (whole / name).write_bytes(data)
            # An empty folder may be replaced by rename; a full one makes it fail.
            os.replace(whole, where)
    except OSError as error:
        raise CrepitusError(f"cannot write the model to {where}: {error.strerror}") from None
    return load_classifier(where)


def refuse_existing_model(folder: Path) -> None:
    """Raise InvalidInputError when `folder` holds anything: a model is never overwritten."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder} already exists; name a new folder for the model")


_DESCRIPTION: Final = ("training", "versions", "metrics", "warnings")


def _refused(where: Path, reason: str) -> InvalidInputError:
    return InvalidInputError(f"the model in {where} cannot be used: {reason}")


def _read(where: Path, name: str, limit: int) -> bytes:
    try:
        path = where / name
        if path.stat().st_size > limit:
            raise _refused(where, f"{name} is larger than {limit >> 20} MB")
        return path.read_bytes()
    except OSError as error:
        raise _refused(where, f"{name}: {error.strerror or 'cannot be read'}") from None


def _parse_manifest(where: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise _refused(where, f"{MANIFEST} is not JSON") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise _refused(
            where, f"its schema_version is {version!r}; this version reads {SCHEMA_VERSION}"
        )
    assert isinstance(document, dict)
    return document


def _checked_files(where: Path, document: Mapping[str, Any]) -> dict[str, bytes]:
    """Read every listed file; its hash must agree."""
    listed = document.get("files")
    if not isinstance(listed, dict) or ESTIMATOR not in listed:
        raise _refused(where, f"{MANIFEST} does not list {ESTIMATOR}")
    files = {}
    for name, expected in listed.items():
        if Path(name).name != name or "\\" in name or name in {"", ".", "..", MANIFEST}:
            raise _refused(where, f"{MANIFEST} lists {name!r}, which is no plain file name")
        data = _read(where, name, _LARGEST_FILE)
        if hashlib.sha256(data).hexdigest() != expected:
            raise _refused(where, f"{name} was altered (its SHA-256 differs from {MANIFEST})")
        files[name] = data
    return files


def _names(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = document[key]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} must be a list of names")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{key} must be given once each, at least one")
    return tuple(names)


def _thresholds(given: Mapping[str, Any], labels: tuple[str, ...]) -> dict[str, float]:
    thresholds = {label: float(given[label]) for label in labels}
    if not all(0.0 <= threshold <= 1.0 for threshold in thresholds.values()):
        raise ValueError("thresholds must be between 0 and 1")
    return thresholds
