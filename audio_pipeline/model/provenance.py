"""What a model says about where it comes from."""

from __future__ import annotations

import hashlib
import platform
from collections import Counter
from importlib.metadata import version
from typing import Any

from audio_pipeline._version import __version__
from audio_pipeline.datasets.examples import Case, Events
from audio_pipeline.datasets.loading import Material
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.model.thresholds import TuningSettings

_PACKAGES = ("numpy", "scipy", "scikit-learn", "librosa", "soxr", "skops")


def provenance(
    material: Material,
    tuning: TuningSettings,
    choice: float,
    events: Events,
    base: Classifier | None,
) -> dict[str, Any]:
    """Return what a model was trained on and how, for ``model.json``.

    Recordings are named by the digest of their sound and groups by a mark, so that an evaluation
    notices what the model has seen before, wherever it lies.
    """
    usable = [material.cases[index] for index in material.usable]
    groups = sorted({group_mark(case.group) for case in usable})
    inherited = base.description.get("training", {}) if base else {}
    digests = {material.surveys[case.name].digest for case in usable}
    return {
        "digest": material.digest,
        "licences": dict(
            sorted(Counter(case.columns.get("licence") or "not stated" for case in usable).items())
        ),
        "recordings": sorted(digests | set(inherited.get("recordings", ()))),
        "groups": sorted(
            {*(groups if material.dataset.has_groups else ()), *inherited.get("groups", ())}
        ),
        "label_counts": dict(sorted(Counter(case.label for case in usable).items())),
        "made_events": int((events.case < 0).sum()),
        "judge_only": tuning.judge_only,
        "seed": tuning.seed,
        "choice": choice,
        "fit": tuning.fit.to_dict(),
        "base": {"name": base.name, "sha256": base.sha256} if base else None,
    }


def seen_by(classifier: Classifier, material: Material) -> list[bool]:
    """Tell of each case whether the model was trained on its recording or on its group."""
    training = classifier.description.get("training", {})
    recordings = set(training.get("recordings", ()))
    groups = set(training.get("groups", ())) if material.dataset.has_groups else set()
    digests = {name: one.digest for name, one in material.surveys.items()}
    return [
        (digests[case.name] != "" and digests[case.name] in recordings)
        or not groups.isdisjoint(map(group_mark, _groups_of(case)))
        for case in material.cases
    ]


def _groups_of(case: Case) -> list[str]:
    """Return the case's group, and those of the clips it was put together from."""
    return [case.group, *filter(None, case.columns.get("groups", "").split(";"))]


def group_mark(group: str) -> str:
    """Return what stands for a group in ``model.json``, to notice it in another dataset."""
    return hashlib.sha256(f"crepitus group {group}".encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of everything the numbers depend on."""
    return {
        "crepitus": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in _PACKAGES},
    }
