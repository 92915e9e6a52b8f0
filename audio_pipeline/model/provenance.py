"""Whether a model has seen a recording, or another of its group."""

from __future__ import annotations

import hashlib

from audio_pipeline.datasets.examples import Case
from audio_pipeline.datasets.loading import Material
from audio_pipeline.model.classifier import Classifier


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
