"""SegmentFeatures among scikit-learn's own: cloned, set, piped, and given a data frame to fill."""

from __future__ import annotations

import numpy as np
import pytest
from made_sounds import background, with_impacts
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from audio_pipeline.features.registry import FeatureConfig
from audio_pipeline.features.transformer import (
    FEATURE_NAMES,
    SegmentFeatures,
    feature_table,
    unknown_features,
)
from audio_pipeline.segmentation.segment import SegmentationConfig, SegmentClip
from audio_pipeline.segmentation.segmenter import segment_samples

CONFIG = SegmentationConfig()
CHOSEN = ["ioi_median", "duration", "crest_factor"]


@pytest.fixture(scope="module")
def clips() -> list[SegmentClip]:
    rate = CONFIG.sample_rate
    samples = with_impacts(background("pink", 3.0, rate), [0.5, 1.0, 1.5, 2.0, 2.02], rate)
    return segment_samples(samples, CONFIG)


def test_rows_are_those_of_the_feature_table(clips: list[SegmentClip]) -> None:
    rows = SegmentFeatures().fit_transform(clips)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, feature_table(clips))
    assert SegmentFeatures().get_feature_names_out().tolist() == list(FEATURE_NAMES)


def test_chosen_columns_come_in_the_order_asked_for(clips: list[SegmentClip]) -> None:
    transformer = SegmentFeatures(features=CHOSEN)
    columns = [FEATURE_NAMES.index(name) for name in CHOSEN]
    np.testing.assert_array_equal(transformer.transform(clips), feature_table(clips)[:, columns])
    assert transformer.get_feature_names_out().tolist() == CHOSEN


def test_no_clip_gives_no_row() -> None:
    assert SegmentFeatures(features=CHOSEN).transform([]).shape == (0, 3)


def test_it_is_cloned_and_set_like_any_estimator() -> None:
    config = FeatureConfig(dynamic_range_db=30.0)
    original = SegmentFeatures(features=CHOSEN, config=config)
    copy = clone(original)
    assert copy.get_params() == original.get_params() == {"features": CHOSEN, "config": config}
    assert copy.set_params(features=None).get_feature_names_out().tolist() == list(FEATURE_NAMES)
    check_is_fitted(SegmentFeatures())


def test_it_is_the_first_step_of_a_pipeline(clips: list[SegmentClip]) -> None:
    labels = ["pop", "other"] * len(clips)
    pipeline = make_pipeline(SegmentFeatures(), StandardScaler(), LogisticRegression())
    pipeline.fit([*clips, *clips], labels[: 2 * len(clips)])
    assert pipeline.predict(clips).shape == (len(clips),)
    pipeline.set_params(segmentfeatures__features=CHOSEN)
    assert pipeline[:1].get_feature_names_out().tolist() == CHOSEN


def test_a_data_frame_has_the_names_as_columns(clips: list[SegmentClip]) -> None:
    pytest.importorskip("pandas")
    frame = SegmentFeatures(features=CHOSEN).set_output(transform="pandas").fit_transform(clips)
    assert frame.columns.tolist() == CHOSEN


def test_an_unknown_name_is_refused(clips: list[SegmentClip]) -> None:
    with pytest.raises(ValueError, match="'loudness'"):
        SegmentFeatures(features=["duration", "loudness"]).fit(clips)


def test_an_unknown_name_brings_those_like_it() -> None:
    assert unknown_features(FEATURE_NAMES) == ""
    for name in FEATURE_NAMES:
        assert name in unknown_features([f"{name}x"])


def test_a_table_is_no_clips(clips: list[SegmentClip]) -> None:
    for odd in (np.zeros((2, 3)), [*clips, None], ["clip.wav"]):
        with pytest.raises(ValueError, match="segment clips"):
            SegmentFeatures().transform(odd)
