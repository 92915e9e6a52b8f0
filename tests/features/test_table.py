"""The feature table: finite, free of level, and saying what its names say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import librosa
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_sounds import Float32, background, grating_times, impact, with_impacts

from audio_pipeline.features.registry import Clips, FeatureConfig
from audio_pipeline.features.transformer import (
    FEATURE_NAMES,
    FEATURES,
    SegmentFeatures,
    feature_table,
)
from audio_pipeline.features.transient import transients
from audio_pipeline.segmentation.segment import Segment, SegmentationConfig, SegmentClip
from audio_pipeline.segmentation.segmenter import segment_samples

SETTINGS = SegmentationConfig()
RATE = SETTINGS.sample_rate

seeds = st.integers(0, 10_000)
few = settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def table(samples: Float32, rate: int = RATE) -> Float32:
    clips = segment_samples(samples, SETTINGS.at_rate(rate))
    return feature_table(clips)


def value(row: Float32, name: str) -> float:
    return float(row[FEATURE_NAMES.index(name)])


def one(samples: Float32) -> Float32:
    """Return the features of a recording of one sound."""
    rows = table(samples)
    assert len(rows) == 1
    return rows[0]


def pop(decay: float = 0.002, seed: int = 0, level: float = 1e-4) -> Float32:
    samples = background("pink", 1.2, RATE, seed, level)
    sound = 0.3 * impact(RATE, seed, decay, 10 * decay)
    samples[RATE // 2 : RATE // 2 + len(sound)] += sound
    return samples


def train(seconds: float, gaps: float, jitter: float, seed: int = 0) -> Float32:
    rng = np.random.default_rng(seed)
    times = 0.6 + gaps * (
        np.arange(round(seconds / gaps)) + rng.uniform(-jitter, jitter, round(seconds / gaps))
    )
    return with_impacts(background("pink", 2.0, RATE, seed, 1e-4), list(times), RATE, seed)


def scene(seed: int) -> Float32:
    times = [0.4, 0.8, *grating_times(1.4, 0.8, seed)]
    return with_impacts(background("pink", 2.8, RATE, seed), times, RATE, seed)


def test_the_registry_is_complete_and_has_no_double() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    for feature in FEATURES:
        assert feature.unit
        assert feature.meaning
        assert feature.source


def test_no_passage_gives_an_empty_table() -> None:
    empty = feature_table([])
    assert empty.shape == (0, len(FEATURES))
    assert empty.dtype == np.float32


@given(seed=seeds, gain=st.floats(0.05, 20.0), turned=st.booleans())
@few
def test_gain_and_polarity_leave_every_feature_as_it_is(
    seed: int, gain: float, turned: bool
) -> None:
    samples = scene(seed)
    changed = table(samples * np.float32(-gain if turned else gain))
    np.testing.assert_allclose(changed, table(samples), rtol=1e-3, atol=2e-3)


@given(seed=seeds)
@few
def test_a_row_does_not_depend_on_the_other_rows(seed: int) -> None:
    clips = segment_samples(scene(seed), SETTINGS)
    together = feature_table(clips)
    alone = [feature_table([clip])[0] for clip in clips]
    np.testing.assert_array_equal(np.array(alone), together)


@pytest.mark.parametrize("name", FEATURE_NAMES)
def test_a_column_holds_what_its_name_says(name: str) -> None:
    clips = segment_samples(scene(3), SETTINGS)
    (feature,) = (one for one in FEATURES if one.name == name)
    alone = feature_table(clips, features=[feature])
    np.testing.assert_array_equal(alone[:, 0], feature_table(clips)[:, FEATURE_NAMES.index(name)])


def test_known_sounds_have_known_values() -> None:
    row = one(train(1.0, 0.05, 0.0))
    gap = np.log(0.05 + 1e-3)
    assert value(row, "ioi_median") == pytest.approx(gap, abs=0.1)
    assert value(row, "ioi_max") == pytest.approx(gap, abs=0.15)
    assert value(row, "impacts") == pytest.approx(np.log(20), abs=0.1)
    assert value(row, "impacts_half_second") == pytest.approx(np.log(10), abs=0.15)
    assert value(row, "duration") == pytest.approx(0.0, abs=0.1)


@given(seed=seeds)
@few
def test_measures_that_librosa_has_are_librosas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.1, 4096).astype(np.float32)
    samples -= samples.mean()
    envelope = np.ones(64, np.float32)
    clip = SegmentClip(
        Segment(0.0, 4096 / RATE, (0.0,)), samples, RATE, 0.0, envelope, 0.0, envelope[:1]
    )
    row = feature_table([clip])[0]
    crossings = librosa.feature.zero_crossing_rate(
        samples, frame_length=4096, hop_length=4096, center=False
    )
    assert value(row, "zero_crossing_rate") == pytest.approx(crossings.item(), abs=2 / 4096)
    rms = librosa.feature.rms(y=samples, frame_length=4096, hop_length=4096, center=False).item()
    crest = 20 * np.log10(np.abs(samples).max() / rms)
    assert value(row, "crest_factor") == pytest.approx(crest, abs=1e-3)
    powers = np.square(samples[: 4096 // 22 * 22].reshape(-1, 22).astype(float)).mean(axis=1)
    flatness = librosa.feature.spectral_flatness(S=powers[:, None], power=1.0)
    assert value(row, "temporal_flatness") == pytest.approx(np.log(flatness.item()), abs=1e-3)


@given(seed=seeds)
@few
def test_the_centroid_of_the_transient_is_librosas(seed: int) -> None:
    clips = segment_samples(pop(seed=seed), SETTINGS)
    shared = Clips(clips, FeatureConfig())
    found = shared.shared(transients)
    around = found.samples[0, found.at - 44 : found.at + 132] * np.hanning(176)
    power = np.square(np.abs(np.fft.rfft(around)))
    centroid = librosa.feature.spectral_centroid(
        S=power[:, None], freq=np.fft.rfftfreq(176, 1 / RATE)
    )
    row = feature_table(clips)[0]
    assert np.exp(value(row, "transient_centroid")) == pytest.approx(centroid.item(), rel=0.01)


@pytest.mark.parametrize("odd", [None, 3, ["a"]])
def test_what_is_no_list_of_clips_is_refused(odd: Any) -> None:
    with pytest.raises(ValueError, match="segment clips"):
        SegmentFeatures().transform(odd)


def test_clips_of_different_rates_are_refused() -> None:
    clip = segment_samples(scene(0), SETTINGS)[0]
    with pytest.raises(ValueError, match="one sample rate"):
        feature_table([clip, replace(clip, sample_rate=8000)])


@pytest.mark.parametrize("rate", [1000, 2000, 4000, 8000, 16_000, 22_050])
@given(seed=seeds)
@settings(few, max_examples=2)
def test_features_are_finite_at_every_rate(rate: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = background("white", 2.0, rate, seed, 1e-3)
    for place in rng.integers(0, 2 * rate - 8, 5):
        samples[place : place + 4] += rng.choice([-0.8, 0.8])
    rows = table(samples, rate)
    assert len(rows)
    assert np.isfinite(rows).all()


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(RATE, np.float32),
        np.ones(RATE, np.float32),
        np.eye(1, RATE, 0, dtype=np.float32)[0],
        np.eye(1, RATE, RATE - 1, dtype=np.float32)[0],
        np.full(1, 0.5, np.float32),
    ],
    ids=["silence", "constant", "first sample", "last sample", "one sample"],
)
def test_odd_passages_give_finite_features(samples: Float32) -> None:
    seconds = len(samples) / RATE
    clip = SegmentClip(
        Segment(0.0, seconds, ()),
        samples,
        RATE,
        0.0,
        np.zeros(4, np.float32),
        0.0,
        np.empty(0, np.float32),
    )
    assert np.isfinite(feature_table([clip])).all()


@given(seed=seeds, short=st.floats(0.001, 0.003))
@few
def test_a_longer_ring_takes_longer_to_fall(seed: int, short: float) -> None:
    quick, slow = one(pop(short, seed)), one(pop(4 * short, seed))
    assert value(slow, "decay_20") > value(quick, "decay_20")
    assert value(slow, "early_late_30") < value(quick, "early_late_30")


def test_decay_is_measured_in_milliseconds() -> None:
    # An amplitude of exp(-t / 5 ms) falls by 20 dB in 11.5 ms; beating modes fall sooner or later.
    decays = [np.exp(value(one(pop(0.005, seed)), "decay_20")) for seed in range(15)]
    assert np.median(decays) == pytest.approx(11.5, abs=2.0)


@given(seed=seeds, gaps=st.floats(0.03, 0.06))
@few
def test_a_regular_train_is_more_regular_than_an_irregular_one(seed: int, gaps: float) -> None:
    even, uneven = one(train(1.0, gaps, 0.0, seed)), one(train(1.0, gaps, 0.35, seed))
    assert value(even, "regularity") > value(uneven, "regularity")
    assert value(even, "ioi_cv") < value(uneven, "ioi_cv")
    # The rate of a train, or of every second impact where neighbours differ in level by chance.
    periods = np.exp(value(even, "regular_rate")) * gaps
    assert periods == pytest.approx(1 / round(1 / periods), rel=0.1)


@given(seed=seeds)
@few
def test_grating_is_longer_fuller_and_has_more_impacts_than_a_pop(seed: int) -> None:
    times = grating_times(0.5, 0.8, seed)
    grating = one(with_impacts(background("pink", 1.8, RATE, seed, 1e-4), times, RATE, seed))
    single = one(pop(seed=seed))
    for name in ("duration", "impacts", "span", "near_peaks"):
        assert value(grating, name) > value(single, name), name
    assert value(grating, "impacts") == pytest.approx(np.log(len(times)), abs=0.5)
    assert value(grating, "span") == pytest.approx(np.log(times[-1] - times[0]), abs=0.05)


@pytest.mark.parametrize(
    ("frequency", "band"), [(150, "a"), (500, "b"), (1300, "c"), (3000, "d"), (7000, "e")]
)
def test_the_share_of_a_band_is_largest_for_a_sound_in_it(frequency: float, band: str) -> None:
    samples = background("pink", 1.2, RATE, level=1e-5)
    time = np.arange(RATE // 10) / RATE
    sound = 0.3 * np.sin(2 * np.pi * frequency * time) * np.exp(-time / 0.01)
    samples[RATE // 2 : RATE // 2 + len(time)] += sound.astype(np.float32)
    row = one(samples)
    shares = {name: value(row, f"band_share_{name}") for name in "abcde"}
    assert max(shares, key=lambda name: shares[name]) == band
    assert np.exp(value(row, "ring_frequency")) == pytest.approx(frequency, rel=0.15)
