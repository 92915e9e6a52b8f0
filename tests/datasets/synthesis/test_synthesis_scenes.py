"""Scenes, clips, embedded recordings and datasets: exact labels, reproducible, no shortcuts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from audio_pipeline.app.cli.train import synthesize_command as command
from audio_pipeline.audio.recording import read_recording
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.datasets.synthesis.channel import (
    CODECS,
    ChannelSettings,
    Codec,
    draw_channel,
    equaliser,
    gain_control,
    room,
    round_trip,
)
from audio_pipeline.datasets.synthesis.dataset import COLUMNS, numbered_scene, write_dataset
from audio_pipeline.datasets.synthesis.resonance import Draws, Scene
from audio_pipeline.datasets.synthesis.scenes import (
    EmbedSettings,
    SceneSettings,
    clip,
    embed,
    reassemble,
    scene,
)
from audio_pipeline.exceptions import InvalidInputError

RATE = 48_000
PLAIN = ChannelSettings(
    near=0.0, room=0.0, tissue=0.0, hum=0.0, restless=0.0, low_pass=0.0, gain_control=0.0,
    suppression=0.0, clipping=0.0, codec=0.0,
)  # fmt: skip
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=4, deadline=None)


def check(made: Scene) -> None:
    """What holds for every scene."""
    assert made.samples.dtype == np.float32
    assert np.all(np.abs(made.samples) <= 1.0)
    duration = made.samples.size / made.sample_rate
    assert made.events
    for event in made.events:
        assert 0.0 <= event.start < event.end <= duration + 1e-9
        assert all(event.start - 1e-9 <= time <= event.end for time in event.impacts)
        assert event.label in ("pop", "grating", "other")


@few
@given(seed=seeds, family=st.sampled_from(["a", "b", "everyday"]))
def test_scene_is_sane_and_reproducible(seed: int, family: str) -> None:
    made = scene(np.random.default_rng(seed), family)
    check(made)
    assert 4.5 < made.samples.size / made.sample_rate < 14.0
    again = scene(np.random.default_rng(seed), family)
    assert np.array_equal(made.samples, again.samples)
    assert made.events == again.events
    if family == "everyday":
        assert {event.label for event in made.events} == {"other"}


@few
@given(seed=seeds, family=st.sampled_from(["a", "b"]))
def test_pops_and_gratings_keep_their_distance(seed: int, family: str) -> None:
    made = scene(np.random.default_rng(seed), family)
    for before, after in zip(made.events, made.events[1:], strict=False):
        gap = after.start - before.end
        both_pops = before.label == after.label == "pop"
        # Within 0.3 s of each other only separate pops stand.
        assert gap > 0.3 or both_pops
        if both_pops:
            assert after.impacts[0] - before.impacts[-1] > 0.045
    singles = [e.impacts[0] for e in made.events if e.label == "pop" and len(e.impacts) == 1]
    counts = [sum(1 for t in singles if start <= t <= start + 0.5) for start in singles]
    assert max(counts, default=0) <= 4


@few
@given(seed=seeds, family=st.sampled_from(["a", "b", "everyday"]))
def test_clip_holds_one_sound_near_its_start(seed: int, family: str) -> None:
    made = clip(np.random.default_rng(seed), family)
    check(made)
    assert len(made.events) == 1
    assert made.events[0].start < 0.6


def test_label_times_are_where_the_sound_is() -> None:
    quiet = SceneSettings(channel=replace(PLAIN, snr=(60.0, 60.0)), pop=1.0, grating=0.0)
    for seed in range(6):
        made = clip(np.random.default_rng(seed), "a", quiet)
        loudest = np.argmax(np.abs(made.samples)) / made.sample_rate
        nearest = min(abs(loudest - time) for time in made.events[0].impacts)
        assert nearest < 0.02
        before = made.samples[: round(made.events[0].start * made.sample_rate) - 10]
        assert before.size == 0 or np.max(np.abs(before)) < 0.05 * np.max(np.abs(made.samples))


def test_noise_is_as_loud_as_the_scene_says() -> None:
    for snr in (10.0, 40.0):
        noisy = SceneSettings(channel=replace(PLAIN, snr=(snr, snr)), quiet_start=1.0)
        made = scene(np.random.default_rng(3), "a", noisy)
        start = made.samples[: round(0.4 * made.sample_rate)].std()
        measured = 20 * np.log10(np.max(np.abs(made.samples)) / (3 * start))
        assert measured == pytest.approx(snr, abs=3.0)
        assert max(event.snr for event in made.events) == pytest.approx(snr, abs=0.6)


def test_another_seed_makes_another_scene() -> None:
    one, two = (clip(np.random.default_rng(seed), "b") for seed in (1, 2))
    assert not np.array_equal(one.samples[:100], two.samples[:100])


# --- the channel ---------------------------------------------------------------------------------


@few
@given(seed=seeds)
def test_equaliser_keeps_the_onset(seed: int) -> None:
    response = equaliser(Draws(RATE, seed), 3.0, 4.0, 50.0, 6000.0)
    early = np.sum(response[: RATE // 500] ** 2) / np.sum(response**2)
    assert np.all(np.isfinite(response))
    assert early > 0.8  # within 2 ms


@few
@given(seed=seeds, direct=st.floats(-3.0, 26.0))
def test_room_has_the_direct_sound_it_was_asked_for(seed: int, direct: float) -> None:
    response = room(Draws(RATE, seed), 0.3, direct)
    rest = np.sum(response[1:] ** 2)
    assert 10 * np.log10(1.0 / rest) == pytest.approx(direct, abs=3.5)


def test_gain_control_lifts_the_quiet() -> None:
    rng = Draws(RATE, 0)
    sound = 0.01 * rng.standard_normal(RATE)
    sound[RATE // 2 : RATE // 2 + 2000] *= 60.0
    out = gain_control(rng, sound)
    assert np.max(np.abs(out)) == pytest.approx(np.max(np.abs(sound)))
    assert out[: RATE // 4].std() > 1.3 * sound[: RATE // 4].std()


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_codecs_keep_time(codec: Codec, rate: int) -> None:
    rng = np.random.default_rng(1)
    sound = 1e-3 * rng.standard_normal(rate)
    for at in (0.2, 0.5, 0.81):
        place = round(at * rate)
        fade = np.exp(-np.arange(300) / 60)
        sound[place : place + 300] += 0.5 * fade * np.sin(np.arange(300) * 0.4)
    back = round_trip(sound, rate, codec, codec.bit_rates[-1])
    assert back.shape == sound.shape
    for at in (0.2, 0.5, 0.81):
        window = slice(round(at * rate) - 500, round(at * rate) + 500)
        late = np.argmax(np.abs(back[window])) - np.argmax(np.abs(sound[window]))
        assert abs(late) <= 30  # under a millisecond; codecs smear the peak itself


@pytest.mark.slow
def test_the_channel_does_not_know_the_label() -> None:
    rng = Draws(RATE, 5)
    drawn = [draw_channel(rng, ChannelSettings()).parameters for _ in range(4)]
    assert len({str(one) for one in drawn}) == 4
    numbers = []
    for seed in range(50):
        label = seed % 2
        chosen = SceneSettings(pop=float(label), grating=1.0 - label)
        made = clip(np.random.default_rng([9, seed]), "a", chosen)
        numbers.append((label, made.sample_rate, made.parameters["snr"], made.parameters["peak"]))
    truth = np.array([one[0] for one in numbers])
    for column in (1, 2, 3):
        value = np.array([float(one[column]) for one in numbers])
        assert abs(roc_auc_score(truth, value) - 0.5) < 0.25


# --- real clips in new surroundings --------------------------------------------------------------


def knock(rate: int = 22_050) -> np.ndarray:
    time = np.arange(round(0.12 * rate)) / rate
    return np.sin(2 * np.pi * 900 * time) * np.exp(-time / 0.002)


@few
@given(seed=seeds, label=st.sampled_from(["pop", "grating", "other"]))
def test_embedded_clip_is_sane_and_reproducible(seed: int, label: str) -> None:
    made = embed(np.random.default_rng(seed), knock(), 22_050, label)
    check(made)
    assert made.family == "real"
    assert label in {event.label for event in made.events}
    again = embed(np.random.default_rng(seed), knock(), 22_050, label)
    assert np.array_equal(made.samples, again.samples)


def test_pops_can_become_cascades_and_nothing_else_does() -> None:
    always = EmbedSettings(cascade=1.0, distractor=0.0)
    pop = embed(np.random.default_rng(0), knock(), 22_050, "pop", always)
    grating = embed(np.random.default_rng(0), knock(), 22_050, "grating", always)
    assert len(pop.events[0].impacts) >= 3
    assert pop.events[0].kind == "cascade"
    assert grating.events[0].kind == "clip"


@few
@given(seed=seeds)
def test_impacts_put_together_are_a_grating_of_that_clip(seed: int) -> None:
    made = reassemble(np.random.default_rng(seed), knock(), 22_050)
    check(made)
    (event,) = made.events
    assert (made.family, event.label) == ("real", "grating")
    # By the definition: a regular train of six at least, a dense passage, or twenty impacts.
    assert event.end - event.start > 0.08
    louder = reassemble(np.random.default_rng(seed), 0.01 * knock(), 22_050)
    np.testing.assert_allclose(made.samples, louder.samples, atol=2e-4)


@pytest.mark.parametrize(
    "samples", [np.zeros(0), np.zeros(500), np.array([0.0, np.nan]), np.ones((4, 2))]
)
def test_a_clip_without_sound_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="clip"):
        embed(np.random.default_rng(0), samples, 8000, "pop")
    with pytest.raises(ValueError, match="clip"):
        reassemble(np.random.default_rng(0), samples, 8000)


# --- datasets ------------------------------------------------------------------------------------


def test_dataset_is_written_read_and_repeated(tmp_path: Path) -> None:
    summary = write_dataset(tmp_path / "one", 4, 7)
    write_dataset(tmp_path / "two", 4, 7)
    for path in (tmp_path / "one").rglob("*.*"):
        assert (
            path.read_bytes()
            == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
        )
    dataset = read_dataset(tmp_path / "one")
    assert dataset.has_groups
    assert len(dataset.clips) == sum(summary["events"].values())
    assert set(dataset.clips[0].columns) >= set(COLUMNS) - {
        "file",
        "label",
        "group",
        "start",
        "end",
    }
    name, made = numbered_scene(3, 7)
    stored = read_recording(tmp_path / "one" / "audio" / f"{name}.flac")
    assert stored.sample_rate == made.sample_rate
    assert np.max(np.abs(stored.samples - made.samples)) < 1e-4


def test_scenes_do_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    write_dataset(tmp_path / "two", 2, 1)
    write_dataset(tmp_path / "three", 3, 1)
    short = (tmp_path / "two" / "manifest.csv").read_text()
    assert (tmp_path / "three" / "manifest.csv").read_text().startswith(short)


@pytest.mark.parametrize(("count", "seed"), [(0, 0), (2_000_000, 0), (1, -1)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, count: int, seed: int) -> None:
    with pytest.raises(InvalidInputError, match="give a number"):
        write_dataset(tmp_path / "new", count, seed)
    assert not (tmp_path / "new").exists()


def test_command_prints_one_document_and_overwrites_nothing(tmp_path: Path) -> None:
    target = tmp_path / "set"
    done = CliRunner().invoke(command, ["-o", str(target), "--count", "2", "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["count"] == 2
    assert sum(document["events"].values()) >= 2
    with pytest.raises(InvalidInputError, match="empty folder"):
        CliRunner().invoke(command, ["-o", str(target)], catch_exceptions=False)
