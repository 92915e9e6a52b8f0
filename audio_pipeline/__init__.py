"""Crepitus: tells pops from grinding sounds in a recording of a twist, and recommends what to do.

The names below are the public interface; each is imported when it is first used, so that
``import audio_pipeline`` costs nothing.

Examples
--------
>>> from audio_pipeline import analyze_file, assess, load_answers, load_classifier
>>> classifier = load_classifier()
>>> analysis = analyze_file("twist.m4a", classifier)  # doctest: +SKIP
>>> assess(analysis, load_answers("answers.yaml")).recommendation.level  # doctest: +SKIP
'self_care'
"""

from __future__ import annotations

import importlib
from typing import Any

from audio_pipeline._version import __version__

_HOMES = {
    "Analysis": "analysis.pipeline",
    "AnalysisConfig": "analysis.config",
    "Answers": "triage.answers",
    "Assessment": "analysis.assessment",
    "BatchReport": "app.batch.run",
    "BatchRequest": "app.batch.run",
    "Classifier": "model.classifier",
    "CrepitusError": "exceptions",
    "Event": "analysis.events",
    "Finding": "analysis.events",
    "Recommendation": "triage.recommendation",
    "Recording": "audio.recording",
    "RecordingError": "exceptions",
    "InvalidInputError": "exceptions",
    "SegmentFeatures": "features.transformer",
    "Sound": "triage.recommendation",
    "StreamAnalyzer": "analysis.pipeline",
    "TrainingSettings": "model.selection",
    "analyze_file": "analysis.pipeline",
    "analyze_recording": "analysis.pipeline",
    "assess": "analysis.assessment",
    "classify_segments": "analysis.pipeline",
    "analyses_to_dict": "analysis.assessment",
    "evaluate": "model.evaluation",
    "extract": "analysis.pipeline",
    "load_answers": "triage.answers",
    "load_classifier": "model.classifier",
    "load_examples": "datasets.loading",
    "make_classifier": "model.estimator",
    "open_recording": "audio.recording",
    "parse_answers": "triage.answers",
    "read_recording": "audio.recording",
    "recommend": "triage.recommendation",
    "run_batch": "app.batch.run",
    "train": "model.training",
    "write_recording": "audio.recording",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
