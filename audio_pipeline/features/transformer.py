"""The feature table as a scikit-learn transformer: segment clips in, float32 rows out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from audio_pipeline.features.registry import Clips, Feature, FeatureConfig, Float32
from audio_pipeline.features.temporal import TEMPORAL
from audio_pipeline.features.transient import TRANSIENT
from audio_pipeline.segmentation.segment import SegmentClip


class SegmentFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Turns segment clips into rows of features; there is nothing to fit.

    Parameters
    ----------
    features : sequence of str, optional
        Names of the columns, in order; all features by default.
    config : FeatureConfig, optional
        What the features are computed from.

    Examples
    --------
    >>> import numpy as np
    >>> from audio_pipeline.segmentation.segmenter import segment_samples
    >>> from audio_pipeline.segmentation.segment import SegmentationConfig
    >>> samples = np.random.default_rng(0).normal(0, 1e-3, 22_050).astype(np.float32)
    >>> samples[9_000:9_020] = 0.5
    >>> clips = segment_samples(samples, SegmentationConfig())
    >>> SegmentFeatures(features=["duration", "crest_factor"]).fit_transform(clips).shape
    (1, 2)
    """

    def __init__(
        self, *, features: Sequence[str] | None = None, config: FeatureConfig | None = None
    ) -> None:
        self.features = features
        self.config = config

    def fit(self, X: Sequence[SegmentClip], y: Any = None) -> Self:
        """Check the parameters and return the transformer itself."""
        self._chosen()
        return self

    def transform(self, X: Sequence[SegmentClip]) -> NDArray[np.float32]:
        """Return the features of segment clips.

        Parameters
        ----------
        X : sequence of SegmentClip
            From :func:`audio_pipeline.segmentation.segmenter.segment_samples`, all at one rate.

        Returns
        -------
        ndarray of float32, shape (n_clips, n_features)

            (0, n_features) for no clip.

        Raises
        ------
        ValueError
            If a name in `features` is unknown, the clips have different rates, or `X` holds
            anything else than clips.
        """
        X = list(X if isinstance(X, Iterable) else [X])
        for clip in X:
            if not isinstance(clip, SegmentClip):
                raise ValueError(
                    f"X must hold segment clips, as segment_samples returns them, not "
                    f"{type(clip).__name__}; a feature table of a recording comes from extract"
                )
        return feature_table(X, self.config, self._chosen())

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Return the names of the columns."""
        return np.array([feature.name for feature in self._chosen()], dtype=object)

    def _chosen(self) -> Sequence[Feature]:
        if self.features is None:
            return FEATURES
        if complaint := unknown_features(self.features):
            raise ValueError(complaint)
        known = {feature.name: feature for feature in FEATURES}
        return [known[name] for name in self.features]

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True
        tags.input_tags.two_d_array = False
        return tags


FEATURES: tuple[Feature, ...] = (*TEMPORAL, *TRANSIENT)

FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)


def unknown_features(names: Iterable[str]) -> str:
    """Say which names no feature has, with those that are most like them; empty when all are."""
    unknown = [str(name) for name in names if name not in FEATURE_NAMES]
    if not unknown:
        return ""
    alike = [close for name in unknown for close in get_close_matches(name, FEATURE_NAMES, 3, 0.5)]
    hint = f"did you mean {', '.join(alike)}?" if alike else "`crepitus features --list` has all"
    return f"there is no feature called {', '.join(map(repr, unknown))}; {hint}"


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
