"""The whole way for a recording: relations between recordings, and between a file and a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pytest
import soxr
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from made_sounds import Float32, background, grating_times, with_impacts

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import Event, certainties
from audio_pipeline.analysis.pipeline import (
    Analysis,
    LiveEvent,
    StreamAnalyzer,
    analyze_file,
    analyze_recording,
    classify_segments,
    extract,
)
from audio_pipeline.audio.recording import Recording, read_recording
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.classifier import Classifier, load_classifier

SAMPLES = Path(__file__).parents[2] / "datasets" / "samples"
RATE = 44_100
FRAME = 0.003
"""Seconds between two frames: times differ by one or two where frames fall elsewhere."""

few = settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
seeds = st.integers(0, 10_000)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """Return the default model, sure of what is likelier than not: no sound is at a threshold."""
    shipped = load_classifier()
    return replace(shipped, thresholds=dict.fromkeys(shipped.labels, 0.5))


@pytest.fixture(scope="module", params=["twist_two_pops", "twist_grinding", "twist_both"])
def twist(request: pytest.FixtureRequest) -> Recording:
    return read_recording(SAMPLES / f"{request.param}.flac")


def scene(seed: int, rate: int = RATE) -> Recording:
    """Three seconds: two pops and a grating clip."""
    under = background("pink", 3.0, rate, seed)
    times = [0.7, 1.1, *grating_times(1.6, 0.8, seed)]
    return Recording(with_impacts(under, times, rate, seed), rate)


def changed(recording: Recording, samples: Float32, rate: int | None = None) -> Recording:
    return Recording(np.ascontiguousarray(samples, np.float32), rate or recording.sample_rate)


def joint(analysis: Analysis) -> list[Event]:
    """Sure or not: one that stands at its threshold may be either after a change of a hair."""
    return [event for event in analysis.events if event.label != "other"]


def assert_equal(one: Sequence[Event], other: Sequence[Event]) -> None:
    """Number and labels agree, times within 1 ms, probabilities within 1e-4."""
    assert [event.label for event in one] == [event.label for event in other]
    assert [event.impacts for event in one] == [event.impacts for event in other]
    for left, right in zip(one, other, strict=True):
        assert left.start == pytest.approx(right.start, abs=1e-3)
        assert left.end == pytest.approx(right.end, abs=1e-3)
        assert left.probabilities == pytest.approx(dict(right.probabilities), abs=1e-4)
        assert left.uncertain == right.uncertain


def assert_same_sounds(one: Analysis, other: Analysis, shift: float = 0.0) -> None:
    """The same finding from the same joint sounds, `shift` seconds later in `one`."""
    assert one.finding is not None
    assert other.finding is not None
    assert one.finding.label == other.finding.label
    assert [event.label for event in joint(one)] == [event.label for event in joint(other)]
    for left, right in zip(joint(one), joint(other), strict=True):
        # A grating fades out in weak impacts, the last of which may go unheard.
        loose = 0.05 if right.label == "grating" else 2 * FRAME
        assert left.start == pytest.approx(right.start + shift, abs=2 * FRAME)
        assert left.end == pytest.approx(right.end + shift, abs=loose)


@pytest.mark.parametrize("gain", [0.05, 0.3, 4.0, 20.0, -1.0])
def test_gain_and_polarity_change_no_event(
    twist: Recording, gain: float, classifier: Classifier
) -> None:
    louder = analyze_recording(changed(twist, twist.samples * np.float32(gain)), classifier)
    assert_equal(louder.events, analyze_recording(twist, classifier).events)


def test_48_khz_is_heard_like_44_khz(twist: Recording, classifier: Classifier) -> None:
    assert twist.sample_rate == 44_100
    faster = changed(twist, soxr.resample(twist.samples, 44_100, 48_000), 48_000)
    one, other = (analyze_recording(each, classifier) for each in (faster, twist))
    assert_same_sounds(one, other)
    assert len(one.events) == len(other.events)


@pytest.mark.parametrize("seconds", [0.2, 2.0])
def test_silence_before_and_after_only_shifts(
    twist: Recording, seconds: float, classifier: Classifier
) -> None:
    silence = np.zeros(round(seconds * twist.sample_rate), np.float32)
    padded = changed(twist, np.concatenate([silence, twist.samples, silence]))
    whole = analyze_recording(twist, classifier)
    assert_same_sounds(analyze_recording(padded, classifier), whole, seconds)


@given(seed=seeds, cut=st.integers(1, RATE // 2))
@few
def test_a_later_start_only_shifts(seed: int, cut: int) -> None:
    # Frames fall elsewhere, so probabilities move a little: what is beyond doubt in one stays
    # there in the other, and nobody calls it by the other joint's name.
    model, recording = load_classifier(), scene(seed)
    later = analyze_recording(changed(recording, recording.samples[cut:]), model).events
    whole = analyze_recording(recording, model).events
    for those, these, shift in ((whole, later, cut / RATE), (later, whole, -cut / RATE)):
        for event in those:
            chance = event.probabilities[event.label]
            if event.label == "other" or chance < model.thresholds[event.label] + 0.1:
                continue
            twins = [one for one in these if abs(one.start + shift - event.start) < 0.02]
            assert [one.label for one in twins] == [event.label]
            assert twins[0].probabilities[event.label] == pytest.approx(chance, abs=0.15)


@pytest.mark.parametrize("hops", [1, 40, 100])
def test_a_start_some_frames_later_only_shifts(
    twist: Recording, hops: int, classifier: Classifier
) -> None:
    """Frames at the same places: a gap of just the longest in a cascade stays what it was."""
    cut = hops * 128
    later = analyze_recording(changed(twist, twist.samples[cut:]), classifier)
    assert_same_sounds(later, analyze_recording(twist, classifier), -cut / RATE)


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "hum"])
@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_steady_noise_holds_nothing(
    kind: str, rate: int, offset: float, classifier: Classifier
) -> None:
    noise = background(kind, 2.0, rate) + np.float32(offset)
    analysis = analyze_recording(Recording(noise, rate), classifier)
    assert analysis.events == ()
    assert analysis.finding is not None
    assert (analysis.finding.label, analysis.finding.confidence) == ("nothing_recognised", 1.0)


def test_silence_is_unusable_and_holds_nothing(classifier: Classifier) -> None:
    analysis = analyze_recording(Recording(np.zeros(RATE, np.float32), RATE), classifier)
    assert analysis.status == "ok"
    assert analysis.events == ()
    assert analysis.finding is not None
    assert analysis.finding.label == "unusable"


def test_a_clip_of_40_ms_is_a_recording_like_any_other(classifier: Classifier) -> None:
    clip = with_impacts(background("pink", 0.04, RATE, level=1e-4), [0.0], RATE)
    analysis = analyze_recording(Recording(clip, RATE), classifier)
    assert analysis.quality is not None
    assert analysis.quality.usable
    assert len(analysis.events) == 1
    assert analysis.events[0].start == 0.0
    assert analysis.events[0].reasons


def streamed(
    recording: Recording, sizes: Sequence[int], classifier: Classifier
) -> tuple[StreamAnalyzer, list[tuple[float, LiveEvent]]]:
    """Return the finished stream and its reports with the seconds of sound it had by then."""
    stream = StreamAnalyzer(recording.sample_rate, classifier)
    reports, place, turn = [], 0, 0
    while place < len(recording.samples):
        size = sizes[turn % len(sizes)]
        told = stream.push(recording.samples[place : place + size])
        place, turn = min(place + size, len(recording.samples)), turn + 1
        reports += [(place / recording.sample_rate, report) for report in told]
    reports += [(recording.duration, report) for report in stream.finish()]
    return stream, reports


@given(seed=seeds, sizes=st.lists(st.integers(400, 30_000), min_size=1, max_size=4))
@few
def test_a_stream_in_any_blocks_ends_like_its_file(seed: int, sizes: list[int]) -> None:
    model = load_classifier()
    recording = scene(seed)
    stream, reports = streamed(recording, sizes, model)
    final = [report.event for _, report in reports if report.final]
    whole = analyze_recording(recording, model)
    assert_equal(final, whole.events)
    assert_equal(stream.analysis().events, whole.events)
    assert stream.analysis().finding == whole.finding
    assert stream.analysis().quality == whole.quality


def test_a_stream_of_a_shipped_recording_ends_like_its_file(
    twist: Recording, classifier: Classifier
) -> None:
    stream, _ = streamed(twist, [480], classifier)
    assert_equal(stream.analysis().events, analyze_recording(twist, classifier).events)


@pytest.mark.parametrize("seed", range(4))
def test_every_sound_is_told_within_its_time(seed: int, classifier: Classifier) -> None:
    """300 ms after the end can be known: after the last impact nothing joins for 45 ms."""
    _, reports = streamed(scene(seed), [441], classifier)
    final = [report.event for _, report in reports if report.final]
    assert len(final) == 3
    for event in final:
        told = min(
            time
            for time, report in reports
            if abs(report.event.start - event.start) < 1e-3
            and report.event.impacts == event.impacts
        )
        last = extracted_impacts(seed, classifier)[event.start]
        assert told - last <= 0.345


def extracted_impacts(seed: int, classifier: Classifier) -> dict[float, float]:
    """Return the last impact of each segment by the segment's start."""
    segments = extract(scene(seed), classifier.settings).segments
    return {segment.start: segment.impacts[-1] for segment in segments}


def test_every_final_event_was_told_before_or_came_at_the_end(classifier: Classifier) -> None:
    _, reports = streamed(scene(0), [441], classifier)
    early = {report.event.start for _, report in reports if not report.final}
    final = {report.event.start for _, report in reports if report.final}
    assert final <= early


def test_regions_force_exactly_these_segments(twist: Recording, classifier: Classifier) -> None:
    regions = [(0.5, 0.9), (1.0, 4.0), (3.0, 3.2)]
    extraction = extract(twist, classifier.settings, regions=regions)
    assert sorted((one.start, one.end) for one in extraction.segments) == sorted(regions)
    assert extraction.table.shape[0] == len(regions)
    assert np.isfinite(extraction.table).all()


def test_an_analysis_puts_each_event_where_its_row_is(
    twist: Recording, classifier: Classifier
) -> None:
    extraction = extract(twist, classifier.settings)
    analysis = classify_segments(extraction, classifier.predict_proba(extraction.table), classifier)
    for segment, event in zip(extraction.segments, analysis.events, strict=True):
        assert (event.start, event.end) == (segment.start, segment.end)
        assert event.impacts == len(segment.impacts)
        assert sum(event.probabilities.values()) == pytest.approx(1.0)
        likeliest = max(event.probabilities, key=lambda label: event.probabilities[label])
        assert event.label == likeliest
        limit = classifier.thresholds[event.label]
        chances = np.array([[event.probabilities[label] for label in classifier.labels]])
        assert event.uncertain == (certainties(chances, classifier.labels)[0] < limit)
        assert event.reasons


def test_only_the_threshold_decides_what_is_sure(twist: Recording, classifier: Classifier) -> None:
    strict = replace(classifier, thresholds=dict.fromkeys(classifier.labels, 1.0))
    lenient = replace(classifier, thresholds=dict.fromkeys(classifier.labels, 0.0))
    assert all(event.uncertain for event in analyze_recording(twist, strict).events)
    assert not any(event.uncertain for event in analyze_recording(twist, lenient).events)


@pytest.mark.parametrize("rate", [1000, 2000, 8000])
def test_a_lower_rate_needs_no_other_code(rate: int) -> None:
    lower = AnalysisConfig().at_rate(rate)
    clicks = background("white", 3.0, rate, level=1e-3)
    clicks[[rate, 2 * rate]] += np.float32(0.5)
    extraction = extract(Recording(clicks, rate), lower)
    assert [round(segment.impacts[0]) for segment in extraction.segments] == [1, 2]
    assert np.isfinite(extraction.table).all()


def test_a_recording_that_cannot_be_read_fails_in_one_line(
    tmp_path: Path, classifier: Classifier
) -> None:
    path = tmp_path / "notes.wav"
    path.write_bytes(b"this is no sound")
    analysis = analyze_file(path, classifier)
    assert analysis.status == "failed"
    assert analysis.error
    assert "\n" not in analysis.error
    document = analysis.to_dict()
    assert (document["events"], document["finding"], document["duration"]) == ([], None, None)


def test_the_spectrogram_and_the_peaks_of_a_file_are_librosas(
    monkeypatch: pytest.MonkeyPatch, classifier: Classifier
) -> None:
    called: list[str] = []

    def counted(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, **named: called.append(name) or function(*given, **named)
        )

    counted(librosa, "stft")
    counted(librosa, "power_to_db")
    counted(librosa.util, "peak_pick")
    counted(type(classifier.estimator), "predict_proba")
    assert analyze_file(scene(0), classifier).events
    assert set(called) == {"stft", "power_to_db", "peak_pick", "predict_proba"}


def test_the_default_model_keeps_the_settings_of_this_version(classifier: Classifier) -> None:
    assert classifier.settings == AnalysisConfig()


def test_regions_become_the_segments_where_the_recording_has_them() -> None:
    recording = scene(3)
    inside = [(0.1, 0.4), (0.6, 0.8), (2.9, 9.0)]
    table = extract(recording, regions=inside).table
    assert len(table) == len(inside)
    beyond = extract(recording, regions=[*inside, (3.0, 3.1), (100.0, 200.0)])
    np.testing.assert_array_equal(beyond.table, table)
    assert extract(recording, regions=[(100.0, 200.0)]).table.shape == (0, table.shape[1])


@pytest.mark.parametrize("odd", [(2.0, 1.0), (-2.0, -1.0), (float("nan"), 1.0)])
def test_a_region_that_is_none_is_refused(odd: tuple[float, float]) -> None:
    with pytest.raises(InvalidInputError, match="region"):
        extract(scene(3), regions=[(0.1, 0.4), odd])


def test_settings_are_those_of_a_whole_analysis() -> None:
    with pytest.raises(InvalidInputError, match="AnalysisConfig, not SegmentationConfig"):
        extract(scene(3), AnalysisConfig().segmentation)  # type: ignore[arg-type]


def test_samples_without_a_rate_are_told_from_a_recording(classifier: Classifier) -> None:
    recording = scene(3)
    with pytest.raises(InvalidInputError, match="analyze_recording"):
        analyze_file(recording.samples, classifier)  # type: ignore[arg-type]
    nothing = analyze_recording(Recording(recording.samples[:0], RATE), classifier)
    assert (nothing.status, nothing.events, nothing.finding) == ("failed", (), None)
