"""What a person, a full disk or a service can cause ends in one line, and costs nothing done."""

from __future__ import annotations

import csv
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import joblib  # noqa: F401  # before the disk is full: it tries a semaphore when it is imported
import numpy as np
import pytest
from made_sounds import background, with_impacts

from audio_pipeline.analysis.pipeline import analyze_file
from audio_pipeline.app.capture.live import ClipKeeper
from audio_pipeline.app.cli import main
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.datasets.manifest import read_dataset, read_track
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.model.classifier import load_classifier

RATE = 48_000
SOUND = Recording(with_impacts(background("white", 1.0, RATE), [0.4], RATE), RATE)


class Ran:
    """How a command ended and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Return a function that runs a command; it never says that something should not happen."""

    def run(*arguments: str | Path) -> Ran:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "should not happen" not in captured.err
        assert "Traceback" not in captured.err
        return Ran(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with two recordings in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.flac", "b.flac"):
        write_recording(tmp_path / name, SOUND)
    return tmp_path


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """Let no file grow beyond some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class TestFullDisk:
    @pytest.mark.parametrize("room", [0, 100, 30_000])
    @pytest.mark.parametrize(
        "words",
        [
            ("features", "a.flac", "b.flac", "-o", "new.csv"),
            ("features", "a.flac", "b.flac", "-o", "new.parquet"),
            ("analyze", "a.flac", "--report", "new.html"),
            ("triage", "--json", "--save", "new.yaml"),
            ("triage", "--json", "--fhir", "new.json"),
            ("segments", "a.flac", "b.flac", "-o", "new"),
        ],
    )
    def test_nothing_half_written_is_left_and_the_same_command_works_later(
        self, here: Path, run: Callable[..., Ran], words: tuple[str, ...], room: int
    ) -> None:
        before = below(here)
        with full_disk(room):
            ran = run(*words)
        if ran.code == 0:  # there was room enough
            return
        assert ran.code == 1
        assert "new" in ran.err
        assert "too large" in ran.err
        assert below(here) == before
        assert run(*words).code == 0

    def test_segments_keeps_what_was_cut_before(self, here: Path, run: Callable[..., Ran]) -> None:
        long = Recording(np.tile(SOUND.samples, 4), RATE)  # its clips have no room
        write_recording(here / "b.flac", long)
        with full_disk(230_000):
            ran = run("segments", "a.flac", "b.flac", "-o", "clips", "--around", "2")
        assert ran.code == 1
        assert "kept" in ran.err
        with open("clips/segments.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows
        assert {row["recording"] for row in rows} == {"a.flac"}
        clips = {row["clip"] for row in rows}
        assert {name for name in below(here / "clips") if name.endswith(".wav")} == clips
        assert run("segments", "a.flac", "-o", "clips").code == 2
        assert run("segments", "a.flac", "-o", "clips", "--overwrite").code == 0

    @pytest.mark.parametrize("room", [0, 10, 5000])
    def test_clips_of_a_stream(self, tmp_path: Path, room: int) -> None:
        keeper = ClipKeeper(tmp_path, RATE)
        keeper.add(np.random.default_rng(1).standard_normal(RATE).astype(np.float32))
        event = analyze_file(SOUND, load_classifier()).events[0]
        keeper.keep(event)
        with full_disk(room), pytest.raises(CrepitusError, match="cannot write"):
            keeper.finish()
        assert below(tmp_path) == set()


class TestStreams:
    """Services start programs without standard streams."""

    @staticmethod
    def crepitus(shell: str) -> subprocess.CompletedProcess[str]:
        command = f'"{sys.executable}" -m audio_pipeline {shell}'
        return subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=120, check=False
        )

    @pytest.mark.parametrize(
        "words",
        [
            "triage",
            "triage --json",
            pytest.param("analyze a.flac", marks=pytest.mark.slow),
            pytest.param("analyze a.flac --json", marks=pytest.mark.slow),
        ],
    )
    def test_no_standard_input(self, here: Path, words: str) -> None:
        ran = self.crepitus(f"{words} <&-")
        assert ran.returncode == 0
        assert ran.stdout
        assert "isatty" not in ran.stderr

    @pytest.mark.parametrize(
        "words",
        [
            "triage --json",
            "questions",
            "--help",
            pytest.param("analyze a.flac", marks=pytest.mark.slow),
        ],
    )
    def test_a_full_disk_where_the_result_goes(self, here: Path, words: str) -> None:
        ran = self.crepitus(f"{words} </dev/null >/dev/full")
        assert ran.returncode == 1
        assert ran.stderr.startswith("crepitus: ")
        assert ran.stderr.count("\n") == 1
        assert "No space left" in ran.stderr

    @pytest.mark.parametrize(
        "streams", ["<&- >&- 2>&-", "</dev/null 2>/dev/full", "</dev/null >&-"]
    )
    def test_whatever_is_closed_the_work_is_done(self, here: Path, streams: str) -> None:
        ran = self.crepitus(f"triage --save kept.yaml {streams}")
        assert ran.returncode == 0
        assert Path("kept.yaml").stat().st_size > 100
        assert self.crepitus(f"triage --sound no {streams}").returncode == 2

    def test_a_reader_that_has_seen_enough(self, here: Path) -> None:
        ran = self.crepitus("questions | head -1")
        assert ran.stderr == ""

    @pytest.mark.slow
    def test_a_terminal_without_our_letters(self, here: Path) -> None:
        shutil.copy("a.flac", "é\U0001f9b4.flac")
        ran = self.crepitus("analyze é\U0001f9b4.flac --json </dev/null | cat -v")
        assert ran.returncode == 0
        os.environ["PYTHONIOENCODING"] = "ascii"
        try:
            ran = self.crepitus("analyze é\U0001f9b4.flac --json </dev/null")
        finally:
            del os.environ["PYTHONIOENCODING"]
        assert json.loads(ran.stdout)["recordings"][0]["source"] == "é\U0001f9b4.flac"


def test_one_thread_for_every_numeric_library() -> None:
    script = (
        "import os, sys, atexit\n"
        "names = ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS')\n"
        "def told():\n"
        "    import numpy, threadpoolctl\n"
        "    assert all(p['num_threads'] == 1 for p in threadpoolctl.threadpool_info())\n"
        "    print('one')\n"
        "atexit.register(told)\n"
        "from audio_pipeline.app.cli import main\n"
        "assert 'numpy' not in sys.modules\n"
        "main(['questions', '--json'])\n"
    )
    unset = {key: value for key, value in os.environ.items() if not key.endswith("_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=unset, check=True
    )
    assert ran.stdout.endswith("one\n")


class TestMemory:
    def test_no_memory_is_one_recordings_failure(
        self, here: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from audio_pipeline.analysis import pipeline

        whole = pipeline.open_recording

        def short(source: object) -> object:
            if str(source) == "a.flac":
                raise MemoryError
            return whole(source)  # type: ignore[arg-type]

        monkeypatch.setattr(pipeline, "open_recording", short)
        ran = run("analyze", "a.flac", "b.flac", "--json")
        assert ran.code == 1
        first, second = json.loads(ran.out)["recordings"]
        assert first["status"] == "failed"
        assert "memory" in first["error"]
        assert second["status"] == "ok"

    def test_what_is_done_is_told_whatever_ends_the_rest(
        self, here: Path, run: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from audio_pipeline.analysis import pipeline

        whole = pipeline.open_recording

        def stopped(source: object) -> object:
            if str(source) == "b.flac":
                raise KeyboardInterrupt
            return whole(source)  # type: ignore[arg-type]

        monkeypatch.setattr(pipeline, "open_recording", stopped)
        ran = run("analyze", "a.flac", "b.flac", "--json")
        assert ran.code == 130
        assert [one["source"] for one in json.loads(ran.out)["recordings"]] == ["a.flac"]

    @pytest.mark.slow
    def test_a_header_that_claims_two_gigabytes_harms_no_other(self, here: Path) -> None:
        pcm = np.zeros(2000, "<i2").tobytes()
        chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
        chunks += b"bext" + struct.pack("<I", 2**31 - 1) + b"data" + struct.pack("<I", len(pcm))
        Path("bext.wav").write_bytes(
            b"RIFF" + struct.pack("<I", len(chunks) + len(pcm) + 4) + b"WAVE" + chunks + pcm
        )
        command = (
            f'ulimit -v 4000000; "{sys.executable}" -m audio_pipeline analyze '
            "a.flac bext.wav b.flac --json </dev/null"
        )
        ran = subprocess.run(
            ["bash", "-c", command], capture_output=True, text=True, timeout=300, check=False
        )
        recordings = json.loads(ran.stdout)["recordings"]
        assert [one["status"] for one in recordings][::2] == ["ok", "ok"]
        assert "should not happen" not in ran.stderr


class TestNames:
    @pytest.mark.parametrize(
        "words",
        [
            ("analyze", "\0.wav"),
            ("analyze", "\ud800.wav"),
            ("features", "a.flac", "-o", "\ud800.csv"),
            ("analyze", "a.flac", "--report", "\0.html"),
            ("analyze", "a.flac", "--answers", "\0"),
            ("analyze", "a.flac", "--model", "\0"),
            ("batch", "\0.wav", "-o", "out"),
            ("batch", "a.flac", "-o", "\0"),
            ("batch", "a.flac", "-o", "out", "--answers", "\0"),
            ("export", "\0", "--format", "csv"),
            ("features", "\0.wav", "-o", "t.csv"),
            ("features", "a.flac", "-o", "\0.csv"),
            ("segments", "\0.wav", "-o", "clips"),
            ("segments", "a.flac", "-o", "\0"),
            ("train", "\0", "-o", "m"),
            ("train", "a.flac", "-o", "\0"),
            ("train", "x", "-o", "m", "--start-from", "\0"),
            ("evaluate", "\0"),
            ("triage", "--answers", "\0"),
            ("triage", "--save", "\0"),
            ("record", "-o", "\0.wav"),
            ("listen", "--model", "\0"),
            ("review", "\0"),
            ("synthesize", "--count", "1", "-o", "\0"),
            ("takes", "x", "-o", "\0"),
            ("check", "--model", "\0"),
            ("serve", "--model", "\0"),
        ],
    )
    def test_a_nul_is_refused_in_one_line(
        self, here: Path, run: Callable[..., Ran], words: tuple[str, ...]
    ) -> None:
        ran = run(*words)
        assert ran.code in {1, 2}
        assert len([line for line in ran.err.splitlines() if line.startswith("crepitus")]) == 1

    def test_odd_names_are_cut_like_any_other(self, here: Path, run: Callable[..., Ran]) -> None:
        (here / "in").mkdir()
        names = [
            "..flac",
            "n" * 245 + ".flac",
            "segments.csv.flac",
            "A.flac",
            "a.flac",
            "con.flac",
            "é\x1b[2J.flac",
            os.fsdecode(b"\xff.flac"),
            " .flac",
            "a_2.flac",
        ]
        for name in names:
            shutil.copy("a.flac", here / "in" / name)
        ran = run("segments", *(f"in/{name}" for name in names), "-o", "clips", "--json")
        assert ran.code == 0
        done = json.loads(ran.out)["recordings"]
        assert len(done) == len(names)
        assert all(one["clips"] for one in done)
        assert sum(path.is_dir() for path in (here / "clips").iterdir()) == len(names)
        dataset = read_dataset(here / "clips")
        assert len({clip.group for clip in dataset.clips}) <= len(names)

    @pytest.mark.slow
    def test_folders_as_deep_as_they_go(self, here: Path, run: Callable[..., Ran]) -> None:
        top = here / "deep"
        top.mkdir()
        handle = os.open(top, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=handle)
            below_it = os.open("d", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = below_it
        os.close(handle)
        shutil.copy("a.flac", top / "a.flac")
        try:
            for words in (
                ("batch", "deep", "-o", "out"),
                ("features", "deep", "-o", "t.csv"),
                ("segments", "deep", "-o", "clips"),
                ("train", "deep", "-o", "m"),
                ("evaluate", "deep"),
            ):
                ran = run(*words)
                assert max(map(len, ran.err.splitlines()), default=0) < 2100
                assert ran.code in {0, 1, 2}, words
        finally:
            subprocess.run(["rm", "-rf", str(top)], check=True)

    @pytest.mark.parametrize(
        "words",
        [
            ("record", "--seconds", "nan"),
            ("record", "--seconds", "inf"),
            ("segments", "a.flac", "-o", "clips", "--around", "nan"),
            ("triage", "--sound", "grating", "--confidence", "nan"),
            ("triage", "--sound", "grating", "--confidence", "-inf"),
            ("train", "x", "-o", "m", "--threshold", "pop=nan"),
        ],
    )
    def test_no_number_is_refused(
        self, here: Path, run: Callable[..., Ran], words: tuple[str, ...]
    ) -> None:
        assert run(*words).code == 2


class TestDatasets:
    @pytest.mark.slow
    @pytest.mark.parametrize("way", ["path", "absolute", "link", "folder link", "label folder"])
    def test_nothing_outside_is_read_unless_told(
        self, here: Path, run: Callable[..., Ran], way: str
    ) -> None:
        (here / "set" / "pop").mkdir(parents=True)
        (here / "set" / "other").mkdir()
        shutil.copy("b.flac", "set/other/b.flac")
        file = {
            "path": "../a.flac",
            "absolute": str(here / "a.flac"),
            "link": "pop/x.flac",
            "folder link": "linked/a.flac",
            "label folder": "",
        }[way]
        if way in {"link", "label folder"}:
            os.symlink(here / "a.flac", here / "set" / "pop" / "x.flac")
        if way == "folder link":
            os.symlink(here, here / "set" / "linked")
        if file:
            (here / "set" / "manifest.csv").write_text(
                f"file,label\n{file},pop\nother/b.flac,other\n"
            )
        for words in (("evaluate", "set"), ("train", "set", "-o", "m"), ("review", "set")):
            ran = run(*words)
            assert ran.code == 2
            assert "outside the dataset" in ran.err
            assert "--allow-outside" in ran.err
        assert len(read_dataset(here / "set", allow_outside=True).clips) == 2
        assert run("evaluate", "set", "--allow-outside", "--json").code == 0

    def test_a_label_track_outside_is_not_read(self, here: Path) -> None:
        (here / "set").mkdir()
        shutil.copy("a.flac", "set/a.flac")
        (here / "track.txt").write_text("0.1\t0.2\tpop\n")
        os.symlink(here / "track.txt", here / "set" / "a.txt")
        with pytest.raises(InvalidInputError, match="outside"):
            read_dataset(here / "set")
        assert len(read_dataset(here / "set", allow_outside=True).clips) == 1

    def test_links_inside_are_followed(self, here: Path) -> None:
        (here / "set" / "pop").mkdir(parents=True)
        shutil.copy("a.flac", "set/a.flac")
        os.symlink("../a.flac", here / "set" / "pop" / "b.flac")
        os.symlink(here / "set", here / "also")
        assert len(read_dataset(here / "also").clips) == 1

    def test_a_recording_is_no_dataset(self, here: Path, run: Callable[..., Ran]) -> None:
        ran = run("train", "a.flac", "-o", "m")
        assert ran.code == 2
        assert "a.flac is a recording and no dataset" in ran.err

    def test_a_manifest_of_what_is_not_there_ends_soon(
        self, here: Path, run: Callable[..., Ran]
    ) -> None:
        rows = (f"no/{number}.wav,pop\n" for number in range(50_000))
        Path("manifest.csv").write_text("file,label\n" + "".join(rows))
        ran = run("train", "manifest.csv", "-o", "m")
        assert ran.code == 2
        assert "10000 of the first 10000 recordings are not there" in ran.err

    def test_the_folder_of_the_model_is_looked_at_first(
        self, here: Path, run: Callable[..., Ran]
    ) -> None:
        ran = run("train", "no such dataset", "-o", ".")
        assert ran.code == 2
        assert "not an empty folder" in ran.err

    def test_a_track_that_is_a_pipe_hangs_nothing(self, here: Path) -> None:
        os.mkfifo("a.txt")
        with pytest.raises(InvalidInputError):
            read_track(Path("a.txt"))
        Path("b.txt").write_text("0\tinf\tpop\n")
        with pytest.raises(InvalidInputError):
            read_track(Path("b.txt"))


class TestFailures:
    def test_each_failure_is_said_once(self, here: Path, run: Callable[..., Ran]) -> None:
        for words in (("analyze", "gone.m4a"), ("batch", "gone.m4a", "-o", "out")):
            ran = run(*words)
            assert ran.code == 1
            assert (ran.out + ran.err).count("no such file") == 1
            assert "crepitus: gone.m4a: " in ran.err

    @pytest.mark.slow
    def test_of_many_the_first_few_are_said_and_the_rest_counted(
        self, here: Path, run: Callable[..., Ran]
    ) -> None:
        names = [f"gone{number:04}.wav" for number in range(40)]
        for words in (
            ("analyze", "a.flac", *names),
            ("batch", "a.flac", *names, "-o", "out"),
            ("features", "a.flac", *names, "-o", "t.csv"),
            ("segments", "a.flac", *names, "-o", "clips"),
        ):
            ran = run(*words)
            assert ran.code == 1
            lines = ran.err.splitlines()
            assert len(lines) < 10
            assert "40 of 41 recordings failed" in lines[-1]
        with open("out/recordings.csv", encoding="utf-8", newline="") as file:
            assert sum(row["status"] == "failed" for row in csv.DictReader(file)) == 40

    def test_segments_never_reads_what_it_replaces(
        self, here: Path, run: Callable[..., Ran]
    ) -> None:
        assert run("segments", "a.flac", "-o", "clips").code == 0
        before = below(here)
        ran = run("segments", "clips", "-o", "clips", "--overwrite")
        assert ran.code == 2
        assert below(here) == before

    def test_overwriting_segments_removes_only_what_was_cut(
        self, here: Path, run: Callable[..., Ran]
    ) -> None:
        victim = here / "victim.wav"
        victim.write_text("mine")
        assert run("segments", "a.flac", "-o", "clips").code == 0
        (here / "clips" / "notes.txt").write_text("mine")
        os.symlink(here, here / "clips" / "linked")
        with open("clips/segments.csv", "a", encoding="utf-8") as file:
            for clip in ("../victim.wav", "linked/victim.wav", str(victim), "a/../../victim.wav"):
                file.write(f"{clip},x,0,1,pop,1,false\r\n")
        assert run("segments", "b.flac", "-o", "clips", "--overwrite").code == 0
        assert victim.read_text() == "mine"
        assert (here / "clips" / "notes.txt").read_text() == "mine"
        assert not (here / "clips" / "a").exists()
        assert (here / "clips" / "b").is_dir()
