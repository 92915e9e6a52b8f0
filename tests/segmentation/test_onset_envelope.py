"""The onset envelope: a spectrogram as librosa makes it, from blocks of any size, and its peaks."""

from __future__ import annotations

from dataclasses import replace

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_sounds import Float32, background, grating_times, with_impacts

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.segmentation.onset_envelope import (
    OnsetEnvelope,
    log_mel_spectrogram,
    peak_pick,
)
from audio_pipeline.segmentation.segment import SegmentationConfig

CONFIG = SegmentationConfig()
RATE, HOP, FFT = CONFIG.sample_rate, CONFIG.hop_length, CONFIG.n_fft

seeds = st.integers(0, 10_000)
few = settings(max_examples=20, deadline=None)


def scene(seed: int = 0) -> Float32:
    """Four seconds: two pops, a grating passage of one second, a last pop."""
    under = background("pink", 4.0, RATE, seed)
    return with_impacts(under, [0.4, 0.8, *grating_times(1.4, 1.0, seed), 3.3], RATE, seed)


@given(first=st.integers(0, 200), count=st.integers(1, 300))
@few
def test_a_frame_does_not_depend_on_the_block_it_came_in(first: int, count: int) -> None:
    samples = scene()[: 600 * HOP]
    whole = log_mel_spectrogram(samples, CONFIG)
    part = log_mel_spectrogram(samples[first * HOP : (first + count - 1) * HOP + FFT], CONFIG)
    np.testing.assert_array_equal(part, whole[:, first : first + count])


@given(seed=seeds, sizes=st.lists(st.integers(1, 30_000), min_size=1, max_size=40))
@few
def test_a_stream_in_blocks_of_any_size_equals_the_whole(seed: int, sizes: list[int]) -> None:
    samples = scene(seed)
    whole = OnsetEnvelope(CONFIG).finish(samples)
    stream = OnsetEnvelope(CONFIG)
    borders = [border for border in np.cumsum(sizes).tolist() if border < len(samples)]
    *blocks, last = np.split(samples, borders)
    parts = [*(stream.push(block) for block in blocks), stream.finish(last)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == 1 + len(samples) // HOP


def test_it_is_the_log_mel_spectrogram_of_librosa() -> None:
    samples = scene()
    expected = librosa.power_to_db(
        librosa.feature.melspectrogram(
            y=samples,
            sr=RATE,
            n_fft=FFT,
            hop_length=HOP,
            center=False,
            n_mels=CONFIG.n_mels,
            fmin=CONFIG.fmin,
            fmax=CONFIG.fmax,
            norm=None,
        ),
        amin=1e-20,
        top_db=None,
    )
    levels = log_mel_spectrogram(samples, CONFIG)
    assert levels.dtype == np.float32
    np.testing.assert_allclose(levels, expected, atol=0.01)


@pytest.mark.parametrize("count", [0, 1, FFT - 1])
def test_less_than_a_frame_gives_no_frame(count: int) -> None:
    assert log_mel_spectrogram(np.zeros(count, np.float32), CONFIG).shape == (CONFIG.n_mels, 0)


def test_digital_silence_has_no_level() -> None:
    samples = scene()
    samples[:RATE] = 0.0
    levels = log_mel_spectrogram(samples, CONFIG)
    silent = (RATE - FFT) // HOP
    assert np.isneginf(levels[:, :silent]).all()
    assert np.isfinite(levels[:, silent + FFT // HOP :]).all()


@given(seed=seeds, step=st.sampled_from([0.0, 0.5, 3.0]))
@few
def test_a_peak_is_high_the_highest_near_it_and_above_the_mean(seed: int, step: float) -> None:
    levels = np.random.default_rng(seed).gamma(1.0, 8.0, 500).astype(np.float32)
    if step:  # with flat tops
        levels = np.round(levels / np.float32(step)) * np.float32(step)
    near, around = CONFIG.frames(CONFIG.peak_distance), CONFIG.frames(CONFIG.peak_context)
    expected = [
        place
        for place, level in enumerate(levels)
        if level >= CONFIG.peak_height
        and level == levels[max(0, place - near) : place + near + 1].max()
        and level >= levels[max(0, place - around) : place + around + 1].mean() + CONFIG.peak_delta
    ]
    assert peak_pick(levels, CONFIG).tolist() == expected


def test_what_does_not_stand_out_has_no_peak() -> None:
    for count in (0, 1, 3, 1000):
        assert not len(peak_pick(np.full(count, 11.0, np.float32), CONFIG))


@pytest.mark.parametrize(
    "changes",
    [
        {"fmin": -1.0},
        {"fmin": 5000.0, "fmax": 4000.0},
        {"fmax": 11_026.0},
        {"fmax": float("nan")},
        {"n_mels": 0},
        {"n_mels": 65},
        {"n_fft": 16_384},
        {"hop_length": 257},
        {"hop_length": 0},
        {"sample_rate": 999},
        {"sample_rate": 1_000_000},
        {"max_duration": float("inf")},
        {"dense_window": 0.6},
    ],
    ids=str,
)
def test_values_out_of_their_range_are_refused_by_name(changes: dict[str, float]) -> None:
    name = next(iter(changes))
    with pytest.raises(ValueError, match=name):
        replace(CONFIG, **changes)
    values = AnalysisConfig().to_dict()
    values["segmentation"].update(changes)
    with pytest.raises(InvalidInputError, match=rf"settings\.segmentation.*{name}"):
        AnalysisConfig.from_dict(values)


@given(count=st.integers(1, 64), fmin=st.floats(0, 5000), width=st.floats(10, 5000))
@few
def test_no_band_is_empty(count: int, fmin: float, width: float) -> None:
    config = replace(CONFIG, n_mels=count, fmin=fmin, fmax=fmin + width)
    levels = log_mel_spectrogram(scene(), config)
    assert levels.shape[0] == count
    assert np.isfinite(levels).all()
