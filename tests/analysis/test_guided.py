"""The guided recording: its phases, and which sounds return, come once or fall outside."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import LABELS, Event, derive_finding
from audio_pipeline.analysis.guided import (
    Evidence,
    ProtocolConfig,
    cues_in_comment,
    performed_phases,
    phase_at,
    phases_in_comment,
    planned_phases,
    weigh_evidence,
)
from audio_pipeline.analysis.pipeline import Analysis, analyze_file, apply_protocol, extract
from audio_pipeline.audio.capture_file import CaptureFile
from audio_pipeline.audio.quality import QualityMeter
from audio_pipeline.audio.recording import Recording, read_recording, write_recording
from audio_pipeline.model.classifier import load_classifier
from benchmarks.formats import encode

PHASES = planned_phases()
TURNS = [phase for phase in PHASES if phase.kind == "turn"]
END = PHASES[-1].end


def sound(start: float, label: str) -> Event:
    shares = {"pop": 0.04, "grating": 0.03, "other": 0.03} | {label: 0.93}
    return Event(start, start + 0.01, label, shares, uncertain=False, impacts=1)


def at_each_turn(point: float, label: str = "pop", turns: int = 5) -> list[Event]:
    return [sound(turn.start + point, label) for turn in TURNS[:turns]]


def said(evidence: Evidence) -> str:
    return " ".join(evidence.reasons)


@given(st.integers(1, 8), st.floats(1, 8), st.floats(0, 120))
def test_phases_follow_each_other_without_gap_and_end_with_the_recording(
    turns: int, seconds: float, duration: float
) -> None:
    planned = planned_phases(ProtocolConfig(turns=turns, turn_seconds=seconds))
    assert planned[0].start == 0
    assert all(a.end == b.start for a, b in itertools.pairwise(planned))
    assert [phase.turn for phase in planned if phase.kind == "turn"] == [*range(1, turns + 1)]
    performed = performed_phases(planned, duration)
    assert sum(phase.end - phase.start for phase in performed) == pytest.approx(
        min(duration, planned[-1].end)
    )


def test_a_time_belongs_to_exactly_one_phase() -> None:
    for time in np.arange(0, END, 0.37):
        assert sum(phase.start <= time < phase.end for phase in PHASES) == 1
        assert phase_at(PHASES, float(time)) is not None
    assert phase_at(PHASES, END) is None


@pytest.mark.parametrize(
    ("container", "codec", "suffix"),
    [("ipod", "aac", "m4a"), ("mp3", "libmp3lame", "mp3"), ("webm", "libopus", "webm")],
)
def test_phases_survive_what_a_phone_makes_of_the_file(
    tmp_path: Path, container: str, codec: str, suffix: str
) -> None:
    path = tmp_path / f"take.{suffix}"
    samples = np.random.default_rng(0).normal(0, 0.01, round(END * 48_000)).astype(np.float32)
    comment = json.dumps({"protocol": [phase.to_dict() for phase in PHASES]})
    encode(path, samples, 48_000, container, codec, 48_000, 96_000, comment)
    assert extract(path, AnalysisConfig()).phases == PHASES


def test_phases_survive_the_metadata() -> None:
    comment = json.dumps({"device": "x", "protocol": [phase.to_dict() for phase in PHASES]})
    assert phases_in_comment(comment, END) == PHASES
    assert phases_in_comment(comment, END - 1) == ()  # somebody cut the file


@pytest.mark.parametrize(
    "comment",
    [
        "",
        "recorded in my kitchen",
        '"protocol"',
        '{"protocol": 3}',
        '{"protocol": [{"start": 1}]}',
        '{"protocol": [{"kind": "jump", "start": 0, "end": 1, "turn": 1}]}',
        '{"protocol": [{"kind": "turn", "start": 0, "end": NaN, "turn": 1}]}',
        '{"protocol": [{"kind": "turn", "start": 2, "end": 1, "turn": 1}]}',
        '{"protocol": [{"kind": "turn", "start": 0, "end": 1, "turn": 1e999}]}',
        '{"protocol": ' + "[" * 100_000,
        '{"protocol": ' + "[" * 60_000,
    ],
)
def test_a_comment_of_somebody_else_is_no_protocol(comment: str) -> None:
    assert phases_in_comment(comment, 1.0) == ()


@pytest.mark.parametrize("label", ["pop", "grating"])
def test_what_returns_at_the_same_point_is_said_to_return(label: str) -> None:
    jitter = [0.1, -0.15, 0.0, 0.2, -0.1]
    sounds = [
        sound(s.start + j, label) for s, j in zip(at_each_turn(1.8, label), jitter, strict=True)
    ]
    evidence = weigh_evidence(PHASES, sounds)
    assert "same point in 5 of 5 turns" in said(evidence)
    assert all(evidence.event_reasons)
    assert not any(evidence.outside)


def test_a_pop_in_one_turn_fits_a_joint_that_cracks() -> None:
    start = TURNS[2].start + 1.5
    evidence = weigh_evidence(PHASES, [sound(start, "pop"), sound(start + 0.2, "pop")])
    assert "only one of 5 turns" in said(evidence)
    assert "20 minutes" in said(evidence)


def test_what_comes_while_still_is_outside_and_not_counted() -> None:
    sounds = [sound(1.0, "pop"), sound(END - 0.5, "grating"), sound(1.5, "other")]
    evidence = weigh_evidence(PHASES, sounds)
    assert evidence.outside == (True, True, True)
    assert "2 sounds came while" in said(evidence)
    assert "turns" not in said(evidence)


def test_a_movement_may_begin_early_and_end_late() -> None:
    plan = ProtocolConfig()
    sounds = [sound(TURNS[0].start - 0.2, "pop"), sound(TURNS[-1].end + 0.5, "pop")]
    assert weigh_evidence(PHASES, sounds, plan).outside == (False, False)


def test_order_does_not_matter() -> None:
    sounds = [*at_each_turn(1.0), sound(0.5, "grating"), sound(8.1, "grating")]
    forward, backward = weigh_evidence(PHASES, sounds), weigh_evidence(PHASES, sounds[::-1])
    assert forward.reasons == backward.reasons
    assert forward.outside == backward.outside[::-1]


def test_labels_are_compared_apart() -> None:
    mixed = [
        sound(event.start, label)
        for event, label in zip(at_each_turn(2.0), ["pop", "grating"] * 3, strict=False)
    ]
    assert "of 5 turns, so" not in said(weigh_evidence(PHASES, mixed))


@pytest.mark.parametrize("turns", [0, 1, 2])
def test_too_few_turns_conclude_nothing(turns: int) -> None:
    duration = 3.0 + 4.0 * turns
    phases = performed_phases(PHASES, duration)
    evidence = weigh_evidence(
        phases, [event for event in at_each_turn(1.0) if event.start < duration]
    )
    assert evidence.reasons == ()


def test_an_unfinished_turn_is_not_compared() -> None:
    phases = performed_phases(PHASES, TURNS[3].start + 2.0)
    evidence = weigh_evidence(phases, at_each_turn(1.0, turns=4))
    assert "in 3 of 3 turns" in said(evidence)


@pytest.mark.parametrize("per_turn", [1, 2, 5, 12])
def test_sounds_at_random_points_seldom_seem_to_return(per_turn: int) -> None:
    rng = np.random.default_rng(per_turn)
    runs = 200
    returned = 0
    for _ in range(runs):
        starts = rng.uniform(TURNS[0].start, TURNS[-1].end, per_turn * len(TURNS))
        evidence = weigh_evidence(PHASES, [sound(float(start), "pop") for start in starts])
        returned += "same point" in said(evidence)
    limit = ProtocolConfig().chance
    assert returned / runs <= limit + 3 * math.sqrt(limit * (1 - limit) / runs)


def test_no_sounds_no_words() -> None:
    assert weigh_evidence(PHASES, []) == Evidence((), (), (), ())


def analysis_of(events: list[Event]) -> Analysis:
    meter = QualityMeter(8000)
    meter.update(np.random.default_rng(0).normal(0, 0.01, 8000 * 25).astype(np.float32))
    quality = meter.result(())
    return Analysis(
        "x", "ok", None, 25.0, 8000, quality, tuple(events), derive_finding(events, True)
    )


def test_a_sound_outside_the_movement_does_not_decide_the_finding() -> None:
    tap = sound(1.0, "pop")
    heard = apply_protocol(analysis_of([tap]), PHASES, LABELS)
    assert heard.finding is not None
    assert heard.finding.label == "nothing_recognised"
    assert heard.finding.reasons[0] == "No sound came while you moved."
    (event,) = heard.events
    assert event.uncertain
    assert (event.label, event.probabilities) == (tap.label, tap.probabilities)
    assert any("keep still" in reason for reason in event.reasons)
    inside = sound(TURNS[0].start + 1, "pop")
    both = apply_protocol(analysis_of([tap, inside]), PHASES, LABELS)
    assert both.finding is not None
    assert both.finding.label == "single_pop"


def test_a_grating_in_one_turn_only_is_not_sure() -> None:
    turns = [phase for phase in PHASES if phase.kind == "turn"]
    once = apply_protocol(analysis_of([sound(turns[1].start + 1, "grating")]), PHASES, LABELS)
    assert once.finding is not None
    assert once.finding.label == "uncertain"
    returning = [sound(turn.start + 1, "grating") for turn in turns]
    again = apply_protocol(analysis_of(returning), PHASES, LABELS)
    assert again.finding is not None
    assert again.finding.label == "grating"
    pop = apply_protocol(analysis_of([sound(turns[1].start + 1, "pop")]), PHASES, LABELS)
    assert pop.finding is not None
    assert pop.finding.label == "single_pop", "a joint cracks once"


def test_what_the_turns_tell_goes_into_the_finding() -> None:
    before = analysis_of(at_each_turn(1.2))
    after = apply_protocol(before, PHASES, LABELS)
    assert before.finding is not None
    assert after.finding is not None
    assert after.finding.label == before.finding.label == "repeated_pops"
    assert after.finding.confidence == before.finding.confidence
    assert any("same point" in reason for reason in after.finding.reasons)


def test_without_events_or_turns_nothing_changes() -> None:
    for analysis, phases in (
        (analysis_of([]), PHASES),
        (analysis_of([sound(1.0, "pop")]), PHASES[:1]),
    ):
        assert apply_protocol(analysis, phases, LABELS) == analysis


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_guided_recording_is_judged_the_same_when_its_file_is_analysed(
    tmp_path: Path, ending: str
) -> None:
    rate = 48_000
    samples = np.random.default_rng(1).normal(0, 0.001, round(END * rate)).astype(np.float32)
    click = 0.4 * np.exp(-np.arange(480) / 50) * np.sin(np.arange(480) * 0.5)
    for moment in (1.0, *(turn.start + 1.5 for turn in TURNS)):
        samples[round(moment * rate) :][:480] += click
    path = tmp_path / f"twist.{ending}"
    take = CaptureFile(rate, path)
    take.add(samples)
    take.save({"comment": json.dumps({"protocol": [phase.to_dict() for phase in PHASES]})})
    classifier = load_classifier()
    guided = analyze_file(path, classifier)
    plain = analyze_file(Recording(take.samples(), rate, str(path)), classifier)
    assert guided == apply_protocol(plain, PHASES, classifier.labels)
    assert guided.events[0].uncertain
    assert any("keep still" in reason for reason in guided.events[0].reasons)
    assert [event.start for event in guided.events] == [event.start for event in plain.events]


@given(st.text() | st.from_regex(r'\{"cues": .{0,40}\}'))
def test_a_strangers_comment_holds_no_cues(comment: str) -> None:
    for start, end in cues_in_comment(comment):
        assert 0 <= start <= end < math.inf


def test_the_recorders_own_sounds_are_no_events(tmp_path: Path) -> None:
    classifier = load_classifier()
    sample = Path(__file__).parents[2] / "datasets" / "samples" / "twist_two_pops.flac"
    recording = read_recording(sample)
    first, *others = analyze_file(sample, classifier).events
    cue = {"start": first.start - 0.05, "end": first.end}
    told = tmp_path / "told.wav"
    write_recording(told, recording, metadata={"comment": json.dumps({"cues": [cue]})})
    left = analyze_file(told, classifier).events
    assert [event.start for event in left] == pytest.approx(
        [event.start for event in others], abs=1e-3
    )
