"""Impacts and segments: the written definition of pop and grating, and lasting relations."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_sounds import Float32, background, grating_times, impact, with_impacts

from audio_pipeline.segmentation.onset_envelope import log_mel_spectrogram
from audio_pipeline.segmentation.segment import Segment, SegmentationConfig, SegmentClip
from audio_pipeline.segmentation.segmenter import Segmenter, segment_samples

SETTINGS = SegmentationConfig()
RATE = SETTINGS.sample_rate
FRAME = SETTINGS.hop_length / RATE
ONSET = 2 * FRAME
"""Seconds: an impact lies anywhere between two frames, and its peak in one of them."""

seeds = st.integers(0, 10_000)
# Shrinking a recording says nothing that its seed does not, and takes minutes.
few = settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])


def segments(
    samples: Float32, regions: Sequence[tuple[float, float]] | None = None
) -> list[Segment]:
    segmenter = Segmenter(SETTINGS, regions)
    clips = segmenter.push(samples) + segmenter.finish()
    return [clip.segment for clip in clips]


def in_blocks(samples: Float32, sizes: Sequence[int]) -> list[SegmentClip]:
    segmenter = Segmenter(SETTINGS)
    clips, place = [], 0
    while place < len(samples):
        size = sizes[place % len(sizes)]
        clips += segmenter.push(samples[place : place + size])
        place += size
    return clips + segmenter.finish()


def scene(seed: int = 0) -> Float32:
    """Four seconds: two pops, a grating passage of one second, a last pop."""
    under = background("pink", 4.0, RATE, seed)
    return with_impacts(under, [0.4, 0.8, *grating_times(1.4, 1.0, seed), 3.3], RATE, seed)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.04, 0.5, 3.0])
def test_silence_holds_nothing(seconds: float) -> None:
    assert segments(np.zeros(round(seconds * RATE), np.float32)) == []


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "hum"])
@given(seed=seeds, seconds=st.floats(0.15, 6.0), level=st.sampled_from([1e-6, 1e-3, 0.3]))
@few
def test_steady_noise_holds_nothing(kind: str, seed: int, seconds: float, level: float) -> None:
    assert segments(background(kind, seconds, RATE, seed, level)) == []


@given(seed=seeds, gap=st.floats(0.055, 0.3), start=st.floats(0.0, 0.5))
@few
def test_three_pops_stay_separate(seed: int, gap: float, start: float) -> None:
    times = [start, start + gap, start + 2 * gap]
    found = segments(with_impacts(background("pink", 1.5, RATE, seed), times, RATE, seed))
    assert [len(segment.impacts) for segment in found] == [1, 1, 1]
    for segment, time in zip(found, times, strict=True):
        assert segment.start - ONSET <= time <= segment.end
        assert segment.impacts[0] == pytest.approx(time, abs=ONSET)


@given(seed=seeds, gap=st.floats(0.02, 0.115))
@few
def test_five_impacts_within_half_a_second_are_one_cascade(seed: int, gap: float) -> None:
    times = [0.7 + count * gap for count in range(5)]
    found = segments(with_impacts(background("pink", 2.0, RATE, seed), times, RATE, seed))
    assert [len(segment.impacts) for segment in found] == [5]
    assert found[0].start <= 0.7 + ONSET
    assert found[0].end >= times[-1]


@given(seed=seeds, gap=st.floats(0.014, 0.04), count=st.integers(2, 4))
@few
def test_impacts_closer_than_a_cascades_gap_belong_together(
    seed: int, gap: float, count: int
) -> None:
    times = [0.7 + place * gap for place in range(count)]
    found = segments(with_impacts(background("pink", 1.5, RATE, seed), times, RATE, seed))
    assert [len(segment.impacts) for segment in found] == [count]


@given(seed=seeds)
@few
def test_a_grating_passage_stays_whole(seed: int) -> None:
    times = grating_times(0.8, 1.0, seed)
    found = segments(with_impacts(background("pink", 2.5, RATE, seed), times, RATE, seed))
    assert len(found) == 1
    assert found[0].start == pytest.approx(times[0], abs=ONSET)
    assert found[0].end == pytest.approx(times[-1], abs=0.03)
    assert len(found[0].impacts) >= 20


def test_an_event_at_the_first_sample_is_found() -> None:
    found = segments(with_impacts(background("pink", 2.0, RATE), [0.0], RATE))
    assert len(found) == 1
    assert found[0].start == 0.0


def test_an_event_that_fills_the_file_is_found() -> None:
    samples = with_impacts(background("pink", 1.0, RATE), grating_times(0.0, 1.0), RATE)
    found = segments(samples)
    assert len(found) == 1
    assert found[0].start == 0.0
    assert found[0].end == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("seed", range(4))
def test_a_clip_of_40_ms_cut_at_the_sound_is_found(seed: int, level: float) -> None:
    clip = 0.3 * impact(RATE, seed, length=0.04)
    if level:
        clip = clip + background("white", 0.04, RATE, seed, level)
    found = segments(clip)
    assert len(found) == 1
    assert found[0].start == 0.0


@given(seed=seeds, gain=st.floats(0.05, 20.0), turned=st.booleans())
@few
def test_gain_and_polarity_change_nothing(seed: int, gain: float, turned: bool) -> None:
    samples = scene(seed)
    changed = samples * np.float32(-gain if turned else gain)
    assert segments(changed) == segments(samples)


@given(seed=seeds, sizes=st.lists(st.integers(150, 9000), min_size=1, max_size=5))
@few
def test_blocks_of_any_size_give_what_the_whole_gives(seed: int, sizes: list[int]) -> None:
    samples = scene(seed)
    whole = segment_samples(samples, SETTINGS)
    blocks = in_blocks(samples, sizes)
    assert [one.segment for one in blocks] == [one.segment for one in whole]
    for one, other in zip(blocks, whole, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        np.testing.assert_array_equal(one.envelope, other.envelope)
        np.testing.assert_array_equal(one.peaks, other.peaks)
        assert (one.offset, one.frame_offset) == (other.offset, other.frame_offset)


def test_sample_by_sample_gives_what_the_whole_gives() -> None:
    samples = scene()[: round(0.55 * RATE)]
    assert [one.segment for one in in_blocks(samples, [1])] == segments(samples)


@pytest.mark.parametrize("before", [0.01, 0.1, 0.5, 0.7, 3.0, 12.0])
@pytest.mark.parametrize(
    "samples", [scene(), 0.3 * impact(RATE, 3, length=0.04)], ids=["scene", "clip"]
)
def test_silence_before_and_after_only_shifts(samples: Float32, before: float) -> None:
    lead = round(before * RATE)
    padded = np.concatenate([np.zeros(lead, np.float32), samples, np.zeros(RATE, np.float32)])
    assert_shifted(segments(padded), segments(samples), lead / RATE)


@given(seed=seeds, cut=st.integers(1, RATE // 4))
@few
def test_where_a_recording_starts_only_shifts(seed: int, cut: int) -> None:
    samples = scene(seed)
    assert_shifted(segments(samples[cut:]), segments(samples), -cut / RATE)


def assert_shifted(found: list[Segment], expected: list[Segment], shift: float) -> None:
    """Frames fall elsewhere: times agree to a frame or two, a grating's end to an impact."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.start == pytest.approx(other.start + shift, abs=ONSET)
        assert one.end == pytest.approx(
            other.end + shift, abs=ONSET if len(other.impacts) < 6 else 0.03
        )


def test_a_recording_after_another_is_heard_like_alone() -> None:
    samples, gap = scene(1), np.zeros(RATE, np.float32)
    both = segments(np.concatenate([samples, gap, samples]))
    alone = segments(samples)
    assert_shifted(both[: len(alone)], alone, 0.0)
    assert_shifted(both[len(alone) :], alone, (len(samples) + len(gap)) / RATE)


@given(seed=seeds)
@few
def test_segments_are_in_order_and_hold_their_impacts(seed: int) -> None:
    samples = scene(seed)
    found = segments(samples)
    assert found
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    for segment in found:
        assert 0 <= segment.start < segment.end <= len(samples) / RATE
        assert list(segment.impacts) == sorted(segment.impacts)
        assert all(segment.start <= time < segment.end for time in segment.impacts)


def test_given_regions_become_exactly_the_segments() -> None:
    regions = [(2.0, 2.5), (0.3, 0.5), (0.0, 4.0), (3.99, 4.0), (3.5, 3.6)]
    found = segments(scene(), regions)
    assert sorted((one.start, one.end) for one in found) == sorted(regions)
    by_region = {(one.start, one.end): one for one in found}
    assert len(by_region[0.3, 0.5].impacts) == 1
    assert by_region[3.5, 3.6].impacts == ()
    assert len(by_region[0.0, 4.0].impacts) >= 20


@pytest.mark.parametrize("rate", [1000, 2000, 4000, 8000, 16_000])
def test_other_rates_keep_their_frames_in_time(rate: int) -> None:
    scaled = SETTINGS.at_rate(rate)
    assert scaled.sample_rate == rate
    assert scaled.fmax <= rate / 2
    assert scaled.frame_rate == pytest.approx(SETTINGS.frame_rate, rel=0.3)
    noise = background("white", 3.0, rate, level=0.001)
    assert np.isfinite(log_mel_spectrogram(noise, scaled)).all()
    assert segment_samples(noise, scaled) == []
    noise[rate : rate + 8] += np.float32(0.5)
    found = segment_samples(noise, scaled)
    assert len(found) == 1
    assert found[0].segment.impacts[0] == pytest.approx(1.0, abs=2 / scaled.frame_rate)


def test_memory_stays_bounded() -> None:
    segmenter = Segmenter(SETTINGS)
    block = background("pink", 1.0, RATE)
    for _ in range(60):
        segmenter.push(block)
    assert len(segmenter._samples) < 2 * RATE
    assert len(segmenter._envelope) < 2 * SETTINGS.frame_rate
