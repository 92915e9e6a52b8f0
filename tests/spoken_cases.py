"""Cases about which a small model says what a test wants it to say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction
from audio_pipeline.audio.quality import Quality, QualityConfig, QualityMeter
from audio_pipeline.datasets.examples import Case
from audio_pipeline.features.table import FEATURE_NAMES
from audio_pipeline.model.classifier import Calibration, Classifier
from audio_pipeline.model.forest import Forest
from audio_pipeline.segmentation.segment import Segment

JOINTS = ("grating", "other", "pop")


def speaker() -> Classifier:
    """A model whose first feature decides: <= 0 pop, <= 1 grating, <= 2 other, else unsure."""
    forest = Forest(
        JOINTS,
        len(FEATURE_NAMES),
        [0, 0, 0, -1, -1, -1, -1],
        [1.0, 0.0, 2.0],
        [[0.05, 0.05, 0.9], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]],
        [7],
    )
    thresholds = dict.fromkeys(JOINTS, 0.6)
    settings = AnalysisConfig()
    identity = Calibration.identity(3)
    return Classifier("speaker", JOINTS, FEATURE_NAMES, settings, thresholds, identity, forest)


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


def case_of(label: str, said: Sequence[str], group: str = "g") -> Case:
    heard = extraction(said)
    return Case("x.wav", label, group, heard, heard.table)
