"""The bank of band filters: what SciPy's filters let through, frame by frame."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from audio_pipeline.features.registry import FeatureConfig
from audio_pipeline.features.transient import band_powers

EDGES = FeatureConfig().band_edges


def noise(rows: int, frames: int, frame: int, seed: int = 0) -> np.ndarray:
    """Quiet noise with a loud burst in the middle of each row."""
    random = np.random.default_rng(seed)
    samples = random.normal(0.0, 1e-3, (rows, frames * frame))
    samples[:, samples.shape[1] // 2 :][:, :100] += random.normal(0.0, 0.3, (rows, 100))
    return samples.astype(np.float32)


@pytest.mark.parametrize("rate", [2_000, 8_000, 22_050, 48_000])
def test_powers_are_those_of_scipys_filters(rate: int) -> None:
    frame = max(1, round(0.001 * rate))
    edges = tuple(edge * rate / 22_050 for edge in EDGES)
    samples = noise(3, 280, frame)
    found = band_powers(samples, edges, rate, frame)
    assert found.shape == (3, len(edges) - 1, 280)
    for band, limits in enumerate(pairwise(edges)):
        filters = butter(2, limits, "bandpass", fs=rate, output="sos")
        outputs = sosfilt(filters, samples.astype(np.float64), axis=1)
        expected = np.square(outputs).reshape(3, -1, frame).mean(axis=2)
        least = 1e-6 * expected.max()
        np.testing.assert_allclose(found[:, band], expected, rtol=1e-4, atol=1e-4 * least)


def test_nothing_comes_through_before_the_sound() -> None:
    samples = np.zeros((1, 200 * 22), np.float32)
    samples[0, 100 * 22] = 1.0
    powers = band_powers(samples, EDGES, 22_050, 22)
    assert not powers[:, :, :100].any()
    assert powers[:, :, 100:102].all()


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    samples = noise(21, 60, 22)
    together = band_powers(samples, EDGES, 22_050, 22)
    for row, alone in zip(samples, together, strict=True):
        np.testing.assert_array_equal(band_powers(row[None], EDGES, 22_050, 22)[0], alone)


def test_no_row_gives_no_powers() -> None:
    assert band_powers(np.empty((0, 220), np.float32), EDGES, 22_050, 22).shape == (0, 5, 10)
