"""Cases about which a small model says what a test wants it to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction
from audio_pipeline.audio.quality import Quality, QualityConfig, QualityMeter
from audio_pipeline.datasets.examples import Example
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.segmentation.segment import Segment
from tests.small_models import says

JOINTS = ("grating", "other", "pop")


def speaker() -> Classifier:
    """A model whose first feature decides: <= 0 pop, <= 1 grating, <= 2 other, else unsure."""
    said = {
        0.0: [0.05, 0.05, 0.9],
        1.0: [0.9, 0.05, 0.05],
        2.0: [0.05, 0.9, 0.05],
        3.0: [0.3, 0.3, 0.4],
    }
    thresholds = dict.fromkeys(JOINTS, 0.6)
    settings = AnalysisConfig()
    estimator = says(JOINTS, said)
    return Classifier("speaker", JOINTS, FEATURE_NAMES, settings, thresholds, estimator)


SAYS = {"pop": 0.0, "grating": 1.0, "other": 2.0, "unsure": 3.0}


def quality(usable: bool = True) -> Quality:
    meter = QualityMeter(22_050, QualityConfig())
    meter.update(np.random.default_rng(0).normal(0, 0.01, 22_050).astype(np.float32))
    return replace(meter.result([]), usable=usable)


def extraction(said: Sequence[str], times: Sequence[tuple[float, float]] = ()) -> Extraction:
    table = np.zeros((len(said), len(FEATURE_NAMES)), np.float32)
    table[:, 0] = [SAYS[word] for word in said]
    spans = times or [(float(n), n + 0.5) for n in range(len(said))]
    segments = tuple(Segment(start, end, (start,)) for start, end in spans)
    return Extraction("x.wav", "ok", None, 30.0, 22_050, quality(), segments, table)


def case_of(label: str, said: Sequence[str], group: str = "g") -> Example:
    heard = extraction(said)
    return Example("x.wav", label, group, heard, heard.table)
