"""Splits and copies: nothing of a group, and no copy, is ever on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_pipeline.audio.recording import Recording, Resampler, write_recording
from audio_pipeline.datasets.conditions import (
    CONDITIONS,
    common_shift,
    find_copies,
    linked_groups,
    measure_conditions,
    recording_conditions,
    voice_stretches,
)
from audio_pipeline.model.metrics import is_shortcut, probe_balanced_accuracy, shortcut_warning
from audio_pipeline.model.selection import grouped_folds
from tests.labelled_sounds import LABELS, sound

RATE = 8000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2)), min_size=2, max_size=60),
    st.integers(2, 6),
    st.integers(0, 5),
)
def test_groups_stay_whole_and_every_row_is_tested_once(
    pairs: list[tuple[int, int]], n_splits: int, seed: int
) -> None:
    groups = np.array([f"g{group}" for group, _ in pairs])
    labels = np.array([f"l{label}" for _, label in pairs])
    folds = grouped_folds(labels, groups, n_splits, seed)
    spread = [np.unique(groups[labels == label]).size for label in np.unique(labels)]
    if not folds:
        assert min(spread) < 2
        return
    assert min(spread) >= 2
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(len(pairs)))
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert set(labels[fold.train]) == set(labels)


def test_labels_are_spread_over_the_folds() -> None:
    groups = np.repeat([f"g{n}" for n in range(20)], 3)
    labels = np.repeat(np.where(np.arange(20) < 5, "rare", "common"), 3)
    folds = grouped_folds(labels, groups, 5, 0)
    assert [np.count_nonzero(labels[fold.test] == "rare") for fold in folds] == [3] * 5


def test_copies_join_their_groups_through_others() -> None:
    groups = np.array(["a", "b", "c", "d", "b"])
    linked = linked_groups(groups, [(0, 1), (4, 2)])
    assert linked.tolist() == ["a", "a", "a", "d", "a"]


def _write(path: Path, samples: np.ndarray, rate: int = RATE) -> Path:
    write_recording(path, Recording(samples.astype(np.float32), rate), "16-bit")
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    samples = sound(np.random.default_rng(7), "clunk", RATE)
    return _write(tmp_path_factory.mktemp("copies") / "original.wav", samples), samples


def _shifted(samples: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1234), samples])


COPIES = {
    "the same": (lambda samples: samples, 0.0),
    "louder": (lambda samples: samples * 2.0, 0.0),
    "quieter and upside down": (lambda samples: samples * -0.2, 0.0),
    "later": (_shifted, 1234 / RATE),
    "later and quieter": (lambda samples: _shifted(samples) * 0.3, 1234 / RATE),
    "cut from it": (lambda samples: samples[3000:11_000], -3000 / RATE),
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found_with_its_shift(
    kind: str, original: tuple[Path, np.ndarray], tmp_path: Path
) -> None:
    change, shift = COPIES[kind]
    copy = _write(tmp_path / "copy.wav", change(original[1]))
    stranger = _write(tmp_path / "other.wav", sound(np.random.default_rng(8), "clunk", RATE))
    paths = [original[0], stranger, copy]
    (found,) = find_copies([measure_conditions(path) for path in paths], paths)
    assert (found.first, found.second) == (0, 2)
    assert found.shift == pytest.approx(shift, abs=1.5 / RATE)


def test_a_copy_of_a_clip_cut_around_its_sound(tmp_path: Path) -> None:
    time = np.arange(round(0.04 * RATE)) / RATE
    rng = np.random.default_rng(4)
    clip = np.exp(-time / 0.006) * rng.normal(0, 0.3, time.size)
    quieter = np.concatenate([np.zeros(40), clip]) * 0.4
    paths = [_write(tmp_path / f"{n}.wav", part) for n, part in enumerate((clip, quieter))]
    assert len(find_copies([measure_conditions(path) for path in paths], paths)) == 1


def test_a_copy_at_another_rate_is_found(original: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    resampler = Resampler(RATE, 22_050)
    samples = original[1].astype(np.float32)
    higher = np.concatenate([resampler.push(samples), resampler.finish()])
    paths = [original[0], _write(tmp_path / "copy.wav", higher, 22_050)]
    assert len(find_copies([measure_conditions(path) for path in paths], paths)) == 1


@pytest.mark.parametrize("label", LABELS)
def test_like_sounds_are_no_copies(label: str, tmp_path: Path) -> None:
    """The same knock twice in the same room: only the noise differs."""
    once = sound(np.random.default_rng(1), label, RATE)
    noise = np.random.default_rng(2).normal(0, 0.003, (2, once.size))
    paths = [_write(tmp_path / f"{take}.wav", once * 0.7 + noise[take]) for take in (0, 1)]
    assert find_copies([measure_conditions(path) for path in paths], paths) == []


def test_what_cannot_be_read_has_no_copies(tmp_path: Path) -> None:
    paths = [tmp_path / "a.wav", tmp_path / "b.wav"]
    for path in paths:
        path.write_bytes(b"not audio")
    empty = [measure_conditions(path) for path in paths]
    assert find_copies(empty, paths) == []
    assert np.isnan(empty[0].conditions).all()
    assert common_shift(*paths) is None


def test_conditions_say_how_it_was_recorded_not_what(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 0.003, 2 * RATE)
    time = np.arange(noise.size) / RATE

    def measured(samples: np.ndarray) -> dict[str, float]:
        values = recording_conditions(Recording(samples.astype(np.float32), RATE))
        return dict(zip(CONDITIONS, values, strict=True))

    quiet, hum = measured(noise), measured(noise + 0.01 * np.sin(2 * np.pi * 50 * time))
    offset, dull = measured(noise + 0.05), measured(np.convolve(noise, np.hanning(17) / 8, "same"))
    assert hum["hum"] > quiet["hum"] + 10
    assert offset["dc"] > quiet["dc"] + 10
    assert dull["bandwidth"] < quiet["bandwidth"] - 500
    assert measured(noise * 10)["floor"] == pytest.approx(quiet["floor"] + 20, abs=1)
    with_pop = noise.copy()
    with_pop[4000:4040] += 0.5
    popped = measured(with_pop)
    for name in ("floor", "level", "dc", "bandwidth", "hum"):
        scale = 50 if name == "bandwidth" else 1.0
        assert abs(popped[name] - quiet[name]) <= 2 * scale, name


def test_the_probe_finds_a_shortcut_and_nothing_where_there_is_none() -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(60) % 3
    groups = np.array([f"g{n // 6}" for n in range(60)])
    conditions = rng.normal(size=(60, len(CONDITIONS)))
    folds = grouped_folds(truth.astype(str), groups, 5, 0)
    fair = probe_balanced_accuracy(conditions, truth, folds, 3, 0)
    conditions[:, 3] += 6 * truth
    unfair = probe_balanced_accuracy(conditions, truth, folds, 3, 0)
    assert fair < 0.6
    assert unfair > 0.95
    assert shortcut_warning(unfair, 0.97, 3, 60) is not None
    assert shortcut_warning(fair, 0.97, 3, 60) is None
    assert shortcut_warning(None, 0.97, 3, 60) is None


def test_a_probe_counts_by_what_the_model_adds() -> None:
    assert is_shortcut(0.85, 0.90, 2, 100)
    assert is_shortcut(0.85, 0.70, 2, 100)
    assert not is_shortcut(0.60, 0.90, 2, 100)
    assert not is_shortcut(0.40, 0.38, 3, 1000)
    assert not is_shortcut(0.67, 1.0, 3, 24), "luck"
    assert is_shortcut(1.0, 1.0, 3, 24)


def _voice(seconds: float, pitch: float, glide: float, rate: int = 22050) -> np.ndarray:
    """Return a buzz with the overtones of a voice, whose pitch glides by so many octaves."""
    time = np.arange(round(seconds * rate)) / rate
    phase = np.cumsum(pitch * 2 ** (glide * time / seconds)) / rate
    tones = [np.sin(2 * np.pi * k * phase) / k for k in range(1, 12)]
    return (0.1 * np.sum(tones, axis=0)).astype(np.float32)


@given(st.floats(90, 300), st.floats(0.1, 0.5), st.floats(0.3, 1.0))
@settings(max_examples=20, deadline=None)
def test_a_gliding_pitch_is_a_voice_where_it_is(pitch: float, glide: float, seconds: float) -> None:
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(22050).astype(np.float32)
    samples = np.concatenate([quiet, _voice(seconds, pitch, glide), quiet])
    [(start, end)] = voice_stretches(Recording(samples, 22050))
    assert 0.6 < start < 1.1
    assert 0.9 + seconds < end < 1.4 + seconds


def test_hum_noise_and_nothing_are_no_voice() -> None:
    noise = 0.05 * np.random.default_rng(1).standard_normal(44100).astype(np.float32)
    for samples in (_voice(2.0, 100.0, 0.0), noise, np.zeros(0, np.float32), noise[:100]):
        assert voice_stretches(Recording(samples, 22050)) == ()
