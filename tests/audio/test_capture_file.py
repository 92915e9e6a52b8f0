"""A take keeps every sample, whatever happens to the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.audio.capture_file import CaptureFile, check_target
from audio_pipeline.audio.recording import open_recording, read_recording
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

RATE = 48_000


def sound(frames: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1.1, 1.1, frames).astype(np.float32)


@pytest.mark.parametrize("ending", ["wav", "flac", "FLAC"])
def test_a_saved_take_reads_back_bit_for_bit(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"my twist.{ending}"
    with CaptureFile(RATE, path) as take:
        for block in np.array_split(sound(30_000), 17):
            take.add(block)
        heard = take.samples()
        take.save({"title": "odd", "comment": '{"ä": 1}', "software": "crepitus"})
        assert np.array_equal(take.samples(), heard)  # now from the file
    assert os.listdir(tmp_path) == [path.name]
    assert soundfile.info(path).subtype == "PCM_24"
    back = read_recording(path)
    assert np.array_equal(back.samples, heard)
    assert back.sample_rate == RATE
    with open_recording(path) as reader:
        assert reader.comment == '{"ä": 1}'
    assert np.abs(heard - np.clip(sound(30_000), -1, 1)).max() <= 2**-23


@given(st.lists(st.integers(0, 500), max_size=8))
def test_memory_and_journal_hold_the_same(sizes: list[int]) -> None:
    import tempfile

    blocks = [sound(size, seed) for seed, size in enumerate(sizes)]
    with tempfile.TemporaryDirectory() as folder:
        in_memory = CaptureFile(8000)
        with CaptureFile(8000, Path(folder) / "a.wav") as on_disk:
            for block in blocks:
                in_memory.add(block)
                on_disk.add(block)
            assert np.array_equal(in_memory.samples(), on_disk.samples())
            assert in_memory.duration == on_disk.duration == sum(sizes) / 8000


def test_a_take_in_memory_leaves_nothing_on_disk_until_it_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with CaptureFile(RATE) as take:
        take.add(sound(1000))
        assert os.listdir(tmp_path) == []
        take.save({}, tmp_path / "kept.wav")
    assert len(read_recording(tmp_path / "kept.wav").samples) == 1000


def test_what_a_killed_program_recorded_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "twist.flac"
    program = (
        "import os, signal, sys, numpy, pathlib\n"
        "from audio_pipeline.audio.capture_file import CaptureFile\n"
        "take = CaptureFile(48000, pathlib.Path(sys.argv[1]))\n"
        "take.add(numpy.full(4800, 0.25, numpy.float32))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], timeout=30)
    assert ended.returncode == -signal.SIGKILL
    assert not path.exists()
    journal = tmp_path / "twist.flac.unfinished.au"
    kept = read_recording(journal)
    assert kept.sample_rate == RATE
    assert np.array_equal(kept.samples, np.full(4800, 0.25, np.float32))
    with pytest.raises(InvalidInputError, match=r"unfinished\.au"):
        check_target(path)


def test_a_full_disk_is_one_line_and_keeps_what_came_before(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    take = CaptureFile(RATE, tmp_path / "a.wav")
    take.add(sound(4800))
    take.close()
    with (
        full.open("wb", buffering=0) as take._journal,  # what the next write meets
        pytest.raises(CrepitusError, match=r"No space left.*a\.wav\.unfinished\.au"),
    ):
        take.add(sound(480))
    assert take.frames == 4800
    assert len(read_recording(take.journal_path).samples) == 4800


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_file_that_cannot_be_written_whole_is_not_written_and_the_journal_stays(
    tmp_path: Path, ending: str
) -> None:
    resource = pytest.importorskip("resource", reason="no limits on file sizes here")
    with CaptureFile(RATE, tmp_path / f"a.{ending}") as take:
        take.add(sound(RATE))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(CrepitusError, match=r"cannot write .*; the take is in .*\.au$"):
                take.save({"comment": "x"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert os.listdir(tmp_path) == [take.journal_path.name]
        take.save({"comment": "x"})
    assert os.listdir(tmp_path) == [f"a.{ending}"]


def test_names_are_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    taken = tmp_path / "there.wav"
    taken.write_bytes(b"sound")
    folder = tmp_path / "folder.wav"
    folder.mkdir()
    for path in (tmp_path / "a.mp3", tmp_path / "no" / "a.wav", taken, folder):
        with pytest.raises(InvalidInputError, match=path.name):
            check_target(path)
    check_target(tmp_path / "new.flac")
    check_target(taken, overwrite=True)
