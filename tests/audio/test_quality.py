"""Is a recording usable: each warning where it belongs, and nowhere else, in blocks of any size."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soxr
from audio_files import clicks
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_pipeline.audio.quality import (
    SILENT_LEVEL,
    Quality,
    QualityConfig,
    QualityMeter,
    silent_gaps,
)

RATE = 48000


def judge(
    samples: np.ndarray,
    rate: int = RATE,
    block: int = 10**9,
    events: tuple[tuple[float, float], ...] = (),
) -> Quality:
    meter = QualityMeter(rate)
    for start in range(0, len(samples), block):
        meter.update(samples[start : start + block].astype(np.float32))
    return meter.result(events)


def codes(quality: Quality) -> list[str]:
    return [warning.code for warning in quality.warnings]


def noise(seconds: float, level: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(round(seconds * rate)) * level


def sine(frequency: float, level: float, seconds: float = 2.0) -> np.ndarray:
    return level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE)


def sixteen_bits(samples: np.ndarray) -> np.ndarray:
    return np.clip(np.round(samples * 32768), -32768, 32767) / 32768


# ---- usable or not: only the reasons of the contract ---------------------------------------------


@pytest.mark.parametrize("samples", [np.zeros(RATE), np.full(RATE, 0.3), np.full(RATE, -1.0)])
def test_silence_and_a_constant_are_unusable(samples: np.ndarray) -> None:
    quality = judge(samples)
    assert not quality.usable
    assert codes(quality) == ["silent"]


@pytest.mark.parametrize("count", [0, 1, 2, 500, 1439])
def test_less_than_30_ms_is_unusable(count: int) -> None:
    quality = judge(noise(1, 0.1)[:count])
    assert not quality.usable
    assert "too_short" in codes(quality)


@pytest.mark.parametrize("count", [1440, 1920, 4800])
def test_a_short_clip_is_only_warned_of(count: int) -> None:
    quality = judge(clicks((0.0,), 1.0, RATE)[:count])
    assert quality.usable
    assert codes(quality) == ["short"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_more_than_one_percent_of_broken_numbers_is_unusable(bad: float) -> None:
    samples = noise(1, 0.01)
    samples[: len(samples) // 100] = bad
    few = judge(samples)
    assert few.usable
    assert codes(few) == ["nonfinite"]
    assert few.nonfinite_fraction == pytest.approx(0.01)
    samples[len(samples) // 100] = bad
    many = judge(samples)
    assert not many.usable
    assert codes(many) == ["nonfinite"]


def test_broken_numbers_become_zero_and_the_rest_stays() -> None:
    block = noise(0.1, 0.1).astype(np.float32)
    meter = QualityMeter(RATE)
    assert meter.update(block) is block
    broken = block.copy()
    broken[[3, 70]] = np.nan, np.inf
    cleaned = meter.update(broken)
    assert np.isnan(broken[3])
    assert cleaned.dtype == np.float32
    expected = block.copy()
    expected[[3, 70]] = 0
    np.testing.assert_array_equal(cleaned, expected)


def test_a_rate_below_what_the_model_needs_is_unusable() -> None:
    assert codes(judge(noise(1, 0.01, 7999), 7999)) == ["low_rate"]
    assert judge(noise(1, 0.01, 8000), 8000).usable
    strict = QualityMeter(8000, QualityConfig(minimum_rate=16000))
    strict.update(noise(1, 0.01, 8000).astype(np.float32))
    assert not strict.result().usable


@given(
    samples=st.lists(st.floats(width=32, allow_nan=True), max_size=3000),
    rate=st.sampled_from([1, 50, 8000, 44100]),
)
@settings(max_examples=60, deadline=None)
def test_any_samples_get_an_answer_that_is_plain_json(samples: list[float], rate: int) -> None:
    quality = judge(np.array(samples, np.float32), rate, events=((0.0, 0.1), (5.0, 6.0)))
    page = json.loads(json.dumps(quality.to_dict(), allow_nan=False))
    assert list(page)[:2] == ["usable", "warnings"]
    assert page["usable"] == (
        not {"too_short", "silent", "low_rate"} & set(codes(quality))
        and quality.nonfinite_fraction <= 0.01
    )


# ---- the same for any block size and gain -----------------------------------------------------


@given(block=st.integers(1, 60000))
@settings(max_examples=25, deadline=None)
def test_blocks_of_any_size_measure_the_same(block: int) -> None:
    samples = np.clip(clicks((0.3, 1.2), 1.7, RATE) * 3, -0.9, 0.9)
    samples[30000:34000] = 0
    samples[50] = np.nan
    events = ((0.3, 0.32), (1.2, 1.22))
    block = max(block, len(samples) // 500)
    assert judge(samples, block=block, events=events) == judge(samples, events=events)


def test_single_samples_measure_the_same() -> None:
    samples = clicks((0.3,), 0.75, 8000)
    assert judge(samples, 8000, block=1) == judge(samples, 8000)


def test_a_result_in_between_changes_nothing() -> None:
    samples = clicks((0.3, 1.2), 1.7, RATE)
    meter = QualityMeter(RATE)
    for start in range(0, len(samples), 5000):
        meter.update(samples[start : start + 5000])
        meter.result(((0.1, 0.2),))
    assert meter.result() == judge(samples)


@given(gain=st.floats(0.05, 20))
@settings(max_examples=20, deadline=None)
def test_gain_moves_the_levels_and_nothing_else(gain: float) -> None:
    samples = clicks((0.3, 1.2), 1.7, RATE)
    events = ((0.3, 0.32), (1.2, 1.22))
    plain, louder = judge(samples, events=events), judge(samples * gain, events=events)
    shift = 20 * np.log10(gain)
    assert louder.usable
    assert louder.peak_dbfs == pytest.approx(plain.peak_dbfs + shift, abs=0.01)
    assert louder.noise_floor_dbfs == pytest.approx(plain.noise_floor_dbfs + shift, abs=0.05)
    assert louder.event_snr_db == pytest.approx(plain.event_snr_db, abs=0.05)
    assert louder.bandwidth_hz == plain.bandwidth_hz
    assert louder.clipped_fraction == 0


# ---- measures and warnings ---------------------------------------------------------------------


def test_a_good_recording_has_no_warning() -> None:
    quality = judge(clicks((0.5, 1.5), 3.0, RATE), events=((0.5, 0.52), (1.5, 1.52)))
    assert quality.usable
    assert quality.warnings == ()
    assert quality.peak_dbfs == pytest.approx(-6, abs=0.3)
    assert quality.noise_floor_dbfs == pytest.approx(-60, abs=0.5)
    assert 20 < quality.event_snr_db < 60
    assert quality.bandwidth_hz == RATE / 2


def test_levels_of_a_sine() -> None:
    quality = judge(sine(1000, 0.5))
    assert quality.peak_dbfs == pytest.approx(-6.02, abs=0.01)
    assert quality.noise_floor_dbfs == pytest.approx(-9.03, abs=0.02)


def test_a_quiet_recording_is_told() -> None:
    assert codes(judge(clicks((0.5,), 1.0, RATE) * 1e-3)) == ["too_quiet"]


@pytest.mark.parametrize(("level", "found"), [(0.1, True), (0.005, False)])
def test_a_loud_background_is_told(level: float, found: bool) -> None:
    assert ("noisy" in codes(judge(noise(1, level)))) is found


@pytest.mark.parametrize(("level", "found"), [(1e-3, True), (0.3, False)])
def test_an_event_that_hardly_stands_out_is_told(level: float, found: bool) -> None:
    samples = noise(2, 1e-3)
    samples[48000:48480] += noise(0.01, level, seed=1)
    assert ("faint" in codes(judge(samples, events=((1.0, 1.01),)))) is found


@pytest.mark.parametrize("ceiling", [1.0, 0.5])
@pytest.mark.parametrize("side", ["both", "above", "below"])
def test_clipping_is_found_at_any_level_and_side(ceiling: float, side: str) -> None:
    low = -9.0 if side == "above" else -ceiling
    high = 9.0 if side == "below" else ceiling
    loud = clicks((0.3, 0.8), 1.5, RATE) * (4 * ceiling)
    quality = judge(sixteen_bits(np.clip(loud, low, high)))
    assert quality.clipped_fraction > 1e-4
    assert "clipped" in codes(quality)


@pytest.mark.parametrize(
    "samples",
    [
        sixteen_bits(sine(50, 0.9)),
        sixteen_bits(sine(440, 1.0)),
        sixteen_bits(noise(2, 0.15)),
        sixteen_bits(clicks((0.5,), 2.0, RATE)),
    ],
    ids=["hum", "tone", "noise", "click"],
)
def test_what_is_not_clipped_is_not_called_clipped(samples: np.ndarray) -> None:
    assert judge(samples).clipped_fraction == 0


def test_floats_beyond_full_scale_are_told_but_not_called_clipped() -> None:
    quality = judge(clicks((0.3, 0.8), 1.5, RATE) * 5)
    assert codes(quality) == ["over_full_scale"]
    assert quality.peak_dbfs > 0


@pytest.mark.parametrize(("through", "low", "high"), [(8000, 3300, 4300), (15000, 7000, 7500)])
def test_a_narrow_channel_is_found(through: int, low: float, high: float) -> None:
    voice = clicks((0.5, 1.0), 2.0, RATE) + noise(2.0, 0.003).astype(np.float32)
    narrow = soxr.resample(soxr.resample(voice, RATE, through), through, RATE)
    quality = judge(sixteen_bits(narrow))
    assert "narrow_bandwidth" in codes(quality)
    assert low <= quality.bandwidth_hz <= high


@pytest.mark.parametrize("slope", [1.0, 2.0])
@pytest.mark.parametrize("rate", [16000, 22050, 44100])
def test_a_sloping_spectrum_is_no_narrow_channel(slope: float, rate: int) -> None:
    white = np.fft.rfft(noise(3.0, 1.0, rate))
    colour = np.arange(1, len(white) + 1) ** (-slope / 2)
    samples = np.fft.irfft(white * colour)
    quality = judge(sixteen_bits(samples / np.abs(samples).max() * 0.3), rate)
    assert quality.bandwidth_hz == rate / 2


def test_a_rate_that_cannot_hold_the_band_counts_as_narrow() -> None:
    assert "narrow_bandwidth" in codes(judge(clicks((0.5,), 1.0, 8000), 8000))


def test_dropouts_and_gates_are_told_apart() -> None:
    sound = noise(3.0, 0.01)
    dropped = sound.copy()
    for start in (1.0, 1.5, 2.0):
        dropped[round(start * RATE) :][: round(0.04 * RATE)] = 0
    quality = judge(dropped)
    assert codes(quality) == ["dropouts"]
    assert quality.silent_gaps == 3
    assert quality.silent_gap_seconds == pytest.approx(0.12, abs=0.04)
    gated = sound.copy()
    gated[RATE : 2 * RATE] = 0
    assert codes(judge(gated)) == ["noise_suppression"]


def test_silence_around_a_sound_is_no_gap() -> None:
    padded = np.concatenate([np.zeros(RATE), noise(1.0, 0.01), np.zeros(RATE)])
    quality = judge(padded)
    assert quality.silent_gaps == 0
    assert quality.warnings == ()
    assert quality.noise_floor_dbfs == pytest.approx(-40, abs=1)


def test_an_offset_is_told_and_does_not_hide_the_noise_floor() -> None:
    quality = judge(clicks((0.5,), 2.0, RATE) + 0.1)
    assert codes(quality) == ["dc_offset"]
    assert quality.dc_offset == pytest.approx(0.1, abs=0.001)
    assert quality.noise_floor_dbfs == pytest.approx(-60, abs=1)


def test_a_cut_off_file_is_told() -> None:
    meter = QualityMeter(RATE)
    meter.update(clicks((0.5,), 1.0, RATE))
    assert codes(meter.result(truncated=True)) == ["truncated"]


def test_every_warning_is_a_sentence_that_says_what_to_do() -> None:
    found: dict[str, str] = {}
    broken = noise(1, 0.5)
    broken[:100] = np.nan
    for samples, rate, events in (
        (np.zeros(RATE), RATE, ()),
        (noise(1, 0.5)[:100], 100, ()),
        (np.full(RATE, np.nan), RATE, ()),
        (broken + 0.1, RATE, ((0.2, 0.3),)),
        (np.clip(noise(1, 1.0), -1, 1), RATE, ()),
        (clicks((0.1,), 0.2, 8000) * 1e-4, 8000, ()),
    ):
        for warning in judge(samples, rate, events=events).warnings:
            found[warning.code] = warning.text
    assert len(found) >= 10
    for text in found.values():
        assert text[0].isupper()
        assert ". " in text
        assert text.endswith(".")
        assert "\n" not in text


@given(st.lists(st.booleans(), max_size=60))
def test_silent_gaps_are_the_silence_with_sound_on_both_sides(silent: list[bool]) -> None:
    levels = np.where(silent, SILENT_LEVEL, SILENT_LEVEL + 1).astype(np.int16)
    runs = "".join("_" if each else "x" for each in silent).strip("_").split("x")
    assert silent_gaps(levels).tolist() == [len(run) for run in runs if run]
