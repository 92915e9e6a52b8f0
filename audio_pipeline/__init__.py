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
    "Analysis": "analysis",
    "AnalysisSettings": "settings",
    "Answers": "triage",
    "Assessment": "assessment",
    "BatchReport": "batch.run",
    "BatchRequest": "batch.run",
    "Classifier": "classifier",
    "CrepitusError": "errors",
    "Event": "finding",
    "Finding": "finding",
    "Recommendation": "triage",
    "Recording": "recording",
    "RecordingError": "errors",
    "RefusedError": "errors",
    "Sound": "triage",
    "StreamAnalyzer": "analysis",
    "analyze_file": "analysis",
    "analyze_recording": "analysis",
    "assess": "assessment",
    "conclude": "analysis",
    "document": "assessment",
    "extract": "analysis",
    "load_answers": "triage",
    "load_classifier": "classifier",
    "open_recording": "recording",
    "parse_answers": "triage",
    "read_recording": "recording",
    "recommend": "triage",
    "run_batch": "batch.run",
    "write_recording": "recording",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
