"""Reading in blocks, writing, resampling, and what may be handed in as a source."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_files import clicks, encode, onset
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_pipeline.audio.recording import (
    Recording,
    Resampler,
    open_recording,
    read_recording,
    write_recording,
)
from audio_pipeline.exceptions import InvalidInputError

RATE = 16000
SOUND = clicks((0.2, 0.6), 0.8, RATE)
BLOCK_SIZES = st.floats(min_value=1 / RATE, max_value=1.0)


@pytest.mark.parametrize("kind", ["wav", "wav-24-bit", "aiff", "flac", "mp3", "ogg-opus", "m4a"])
@given(seconds=BLOCK_SIZES)
@settings(max_examples=8, deadline=None)
def test_blocks_of_any_size_hold_the_same_sound(kind: str, seconds: float) -> None:
    data = encode(SOUND, RATE, kind)
    whole = read_recording(io.BytesIO(data))
    with open_recording(io.BytesIO(data)) as reader:
        blocks = list(reader.blocks(max(seconds, 0.002)))
    np.testing.assert_array_equal(np.concatenate(blocks), whole.samples)
    assert all(len(block) for block in blocks)


def test_blocks_go_on_where_the_last_ones_stopped() -> None:
    with open_recording(io.BytesIO(encode(SOUND, RATE, "wav"))) as reader:
        first = next(reader.blocks(0.1))
        rest = list(reader.blocks(0.3))
    np.testing.assert_array_equal(
        np.concatenate([first, *rest]),
        read_recording(io.BytesIO(encode(SOUND, RATE, "wav"))).samples,
    )
    assert len(first) == RATE // 10


@pytest.mark.parametrize("channels", range(1, 9))
@pytest.mark.parametrize("kind", ["wav", "aiff", "flac"])
def test_channels_are_mixed_by_their_mean(kind: str, channels: int) -> None:
    generator = np.random.default_rng(channels)
    frames = generator.integers(-20000, 20000, (500, channels)).astype(np.float32) / 32768
    recording = read_recording(io.BytesIO(encode(frames, RATE, kind)))
    np.testing.assert_allclose(recording.samples, frames.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("kind", ["m4a", "mp3", "ogg-opus", "m4a-alac", "mov-pcm"])
def test_stereo_of_a_media_file_is_mixed_by_its_mean(kind: str) -> None:
    rate = 48000
    sound = clicks((0.2,), 0.5, rate)
    left = read_recording(io.BytesIO(encode(np.stack([sound, 0 * sound], 1), rate, kind)))
    both = read_recording(io.BytesIO(encode(np.stack([sound, sound], 1), rate, kind)))
    ratio = np.abs(both.samples).max() / np.abs(left.samples).max()
    assert ratio == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_equals_what_libsndfile_reads(subtype: str) -> None:
    generator = np.random.default_rng(1)
    frames = generator.uniform(-1, 1, (999, 2))
    frames[:4] = [[-1, 1], [1, -1], [0, 0], [0.5, -0.5]]
    buffer = io.BytesIO()
    soundfile.write(buffer, frames, RATE, subtype=subtype, format="WAV")
    buffer.seek(0)
    expected, _ = soundfile.read(buffer, dtype="float32")
    mixed = (expected[:, 0] + expected[:, 1]) * np.float32(0.5)
    np.testing.assert_array_equal(read_recording(buffer).samples, mixed)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000, 192000, 384000])
def test_any_rate_is_kept(rate: int) -> None:
    for kind in ("wav", "flac", "w64"):
        recording = read_recording(io.BytesIO(encode(clicks((0.05,), 0.1, rate), rate, kind)))
        assert recording.sample_rate == rate
        assert onset(recording.samples, rate) == pytest.approx(0.05, abs=0.001)


def test_float_beyond_full_scale_is_kept() -> None:
    loud = np.array([0.0, 3.5, -20.0, 1.0], np.float32)
    np.testing.assert_array_equal(
        read_recording(io.BytesIO(encode(loud, RATE, "wav-float"))).samples, loud
    )


def test_doubles_too_large_for_a_float_become_infinite_without_a_warning() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.array([0.0, 1e300]), RATE, subtype="DOUBLE", format="WAV")
    assert np.isinf(read_recording(buffer).samples[1])


NAMES = [
    "plain.wav",
    "two words.wav",
    "line\nbreak.wav",
    "Knöchel 🦴.wav",
    "http:localhost.wav",
    "-o.wav",
    b"\xff\xfe\x80.wav",
    "no extension",
    "song.mp3",
]


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids most of these names")
@pytest.mark.parametrize("kind", ["wav", "flac", "m4a"])
@pytest.mark.parametrize("name", NAMES)
def test_a_name_never_matters(tmp_path: Path, name: str | bytes, kind: str) -> None:
    path = os.path.join(os.fsencode(tmp_path), os.fsencode(name))
    Path(os.fsdecode(path)).write_bytes(encode(SOUND, RATE, kind))
    by_bytes = read_recording(path)
    by_text = read_recording(os.fsdecode(path))
    by_path = read_recording(Path(os.fsdecode(path)))
    for recording in (by_bytes, by_text, by_path):
        assert recording.source == os.fsdecode(path)
        np.testing.assert_array_equal(recording.samples, by_bytes.samples)
    assert onset(by_bytes.samples, by_bytes.sample_rate) == pytest.approx(0.2, abs=0.01)


def test_an_upload_is_read_from_its_start_and_stays_open() -> None:
    for kind in ("wav", "flac", "m4a"):
        upload = io.BytesIO(encode(SOUND, RATE, kind))
        upload.seek(77)
        first = read_recording(upload)
        assert not upload.closed
        np.testing.assert_array_equal(read_recording(upload).samples, first.samples)


def test_a_recording_is_read_like_a_file() -> None:
    recording = Recording(SOUND, RATE, "memory")
    with open_recording(recording) as reader:
        blocks = list(reader.blocks(0.25))
        assert (reader.sample_rate, reader.source) == (RATE, "memory")
        assert reader.duration == pytest.approx(0.8)
    assert [len(block) for block in blocks] == [4000, 4000, 4000, 800]
    np.testing.assert_array_equal(np.concatenate(blocks), SOUND)


def test_samples_without_a_rate_are_refused_with_what_to_do() -> None:
    for source in (SOUND, SOUND.tolist(), None):
        with pytest.raises(InvalidInputError, match=r"Recording\(samples, sample_rate\)"):
            open_recording(source)  # type: ignore[arg-type]


def test_a_recording_must_be_mono_and_have_a_rate() -> None:
    with pytest.raises(ValueError, match="one dimension"):
        Recording(np.zeros((4, 2), np.float32), RATE)
    with pytest.raises(ValueError, match="sample_rate"):
        Recording(np.zeros(4, np.float32), 0)
    assert Recording(np.arange(4), 2).samples.dtype == np.float32
    assert Recording(np.arange(4), 2).duration == 2.0


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_integers_are_scaled_by_the_range_of_their_type(kind: type[np.integer]) -> None:
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    middle = (int(low) + int(high) + 1) // 2
    samples = Recording(np.array([low, middle, high], kind), RATE).samples
    assert samples.dtype == np.float32
    assert samples[:2].tolist() == [-1.0, 0.0]
    assert 0.99 <= samples[2] <= 1.0


def test_floats_are_taken_as_they_are() -> None:
    for kind in (np.float32, np.float64):
        np.testing.assert_array_equal(Recording(SOUND.astype(kind), RATE).samples, SOUND)


@pytest.mark.parametrize("subtype", ["16-bit", "24-bit", "32-bit", "float"])
def test_what_is_written_is_read_back(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "take.wav"
    metadata = {"title": "Twist", "comment": "echo cancellation off"}
    write_recording(path, Recording(SOUND, RATE), subtype, metadata)
    read = read_recording(path)
    step = {"16-bit": 2**-15, "24-bit": 2**-23, "32-bit": 2**-24, "float": 0}[subtype]
    np.testing.assert_allclose(read.samples, SOUND, atol=step)
    assert [entry.name for entry in tmp_path.iterdir()] == ["take.wav"]
    with soundfile.SoundFile(path) as file:
        assert file.comment == "echo cancellation off"


def test_flac_is_written_where_the_name_says_so(tmp_path: Path) -> None:
    write_recording(tmp_path / "take.FLAC", Recording(SOUND, RATE))
    assert (tmp_path / "take.FLAC").read_bytes()[:4] == b"fLaC"
    assert len(read_recording(tmp_path / "take.FLAC").samples) == len(SOUND)


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "take.wav"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="unknown metadata key"):
        write_recording(path, Recording(SOUND, RATE), metadata={"colour": "blue"})
    with pytest.raises(ValueError, match="subtype"):
        write_recording(path, Recording(SOUND, RATE), "12-bit")
    assert path.read_bytes() == b"before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["take.wav"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
@pytest.mark.parametrize("name", ["take.wav", "take.flac"])
def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"before")
    script = """
import resource, signal, sys
import numpy as np
from audio_pipeline.audio.recording import Recording, write_recording
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
noise = np.random.default_rng(0).uniform(-1, 1, 500_000)
try:
    write_recording(sys.argv[1], Recording(noise, 48000))
except OSError as error:
    print("refused:", error.strerror)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / name], capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused: File too large\n"
    assert done.stderr == ""
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"before"


@given(
    sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=12),
    rates=st.sampled_from([(48000, 22050), (44100, 22050), (8000, 22050), (96000, 16000)]),
)
@settings(max_examples=25, deadline=None)
def test_resampling_is_the_same_in_any_blocks(sizes: list[int], rates: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    sound = generator.standard_normal(sum(sizes)).astype(np.float32)
    once = Resampler(*rates)
    expected = np.concatenate([once.push(sound), once.finish()])
    pieces = Resampler(*rates)
    borders = np.cumsum([0, *sizes])
    got = [pieces.push(sound[a:b]) for a, b in pairwise(borders)]
    np.testing.assert_array_equal(np.concatenate([*got, pieces.finish()]), expected)
    assert len(expected) == pytest.approx(len(sound) * rates[1] / rates[0], abs=1)


def test_resampling_keeps_times_and_passes_equal_rates_through() -> None:
    sound = clicks((0.5,), 1.0, 48000)
    resampler = Resampler(48000, 22050)
    resampled = np.concatenate([resampler.push(sound), resampler.finish()])
    assert onset(resampled, 22050) == pytest.approx(0.5, abs=0.0005)
    same = Resampler(22050, 22050)
    assert same.push(sound) is sound
    assert len(same.finish()) == 0


def test_nothing_heavy_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(encode(SOUND, RATE, "wav"))
    script = (
        "import sys; import audio_pipeline.audio.recording as r, audio_pipeline.audio.quality;"
        "r.read_recording(sys.argv[1]);"
        "print([m for m in ('av', 'scipy', 'librosa', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
