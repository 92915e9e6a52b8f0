"""The feature table: what each segment sounds like, in numbers that do not depend on its level.

Absolute level and signal-to-noise ratio are left out on purpose: they tell a collection of
recordings apart, not a joint. So is anything like MFCC: it added nothing between synthesizers and
hurt on recordings (``docs/recognition.md``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audio_pipeline.features.registry import Clips, Feature, FeatureConfig, Float32
from audio_pipeline.features.temporal import TEMPORAL
from audio_pipeline.features.transient import TRANSIENT
from audio_pipeline.segmentation.segment import SegmentClip

FEATURES: tuple[Feature, ...] = (*TEMPORAL, *TRANSIENT)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def feature_table(
    clips: Sequence[SegmentClip],
    config: FeatureConfig | None = None,
    features: Sequence[Feature] = FEATURES,
) -> Float32:
    """Return the features of segment clips.

    Parameters
    ----------
    clips : sequence of SegmentClip
        All at the same sample rate.
    config : FeatureConfig, optional
        What the features are computed from.
    features : sequence of Feature
        The columns, in order.

    Returns
    -------
    ndarray of float32, shape (n_clips, n_features)
        All finite; (0, n_features) for no clip. A row does not depend on the other clips, to the
        last bit: no BLAS here, which rounds by the size of a matrix.
    """
    if not len(clips):
        return np.empty((0, len(features)), np.float32)
    given = Clips(clips, config or FeatureConfig())
    columns = np.column_stack([feature.function(given) for feature in features])
    table: Float32 = np.nan_to_num(columns, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)
    return table
