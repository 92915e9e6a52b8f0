"""Worker processes: many give the same as one, and none takes a recording with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from batch_support import small_model, tables, write_clicks, write_folder

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.app.batch import workers as workers_module
from audio_pipeline.app.batch.run import BatchRequest, run_batch
from audio_pipeline.app.batch.store import Pending
from audio_pipeline.app.batch.workers import (
    NOTE_NAME,
    Chunks,
    InProcess,
    LocalWorkers,
    Outcome,
    examine_all,
)


class Crash(bytes):
    """A path that ends the process which receives it, as a broken decoder would."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (os._exit, (70,))


def pending(path: Path | bytes) -> Pending:
    return Pending(path if isinstance(path, Crash) else os.fsencode(path), 1, "1", None)


def by_path(outcomes: Iterator[Outcome]) -> dict[bytes, str | None]:
    """Return error, or None, by path; every path must come once."""
    found: dict[bytes, str | None] = {}
    for one in outcomes:
        assert one.pending.path not in found
        assert one.extraction is not None
        found[one.pending.path] = one.extraction.error
    return found


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("rec")
    write_folder(folder, 12, duration=0.8)
    return sorted(folder.rglob("*.wav"))


def look(jobs: int, todo: list[Pending]) -> dict[bytes, str | None]:
    with closing(LocalWorkers(jobs)) as pool:
        return by_path(pool.outcomes(iter(todo), AnalysisConfig(), verify=False))


def test_every_recording_is_looked_at_once(recordings: list[Path]) -> None:
    assert look(2, [pending(path) for path in recordings]) == {
        os.fsencode(path): None for path in recordings
    }
    assert look(3, []) == {}


@pytest.mark.slow
def test_a_recording_that_crashes_its_decoder_fails_alone(recordings: list[Path]) -> None:
    crash = Crash(b"crash.wav")
    todo = [pending(path) for path in recordings]
    found = look(2, [*todo[:5], pending(crash), *todo[5:]])
    assert found.pop(crash) == "its decoder crashed, twice"
    assert found == {os.fsencode(path): None for path in recordings}


@pytest.mark.slow
def test_killed_workers_take_nothing_with_them(recordings: list[Path]) -> None:
    with closing(LocalWorkers(2)) as pool:
        stream = pool.outcomes(
            (pending(path) for path in recordings), AnalysisConfig(), verify=False
        )
        first = next(stream)
        for process in multiprocessing.active_children():
            process.kill()
        found = by_path(stream)
    assert set(found) | {first.pending.path} == {os.fsencode(path) for path in recordings}
    assert set(found.values()) == {None}


@pytest.mark.slow
def test_a_recording_that_hangs_is_given_up(
    recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers_module, "_TIMEOUT", 1.0)
    monkeypatch.setattr(workers_module, "_POLL_SECONDS", 0.2)
    monkeypatch.setattr(workers_module, "_CHUNK", 1)
    todo = [pending(path) for path in recordings]
    with closing(LocalWorkers(1)) as pool:
        stream = pool.outcomes(iter(todo), AnalysisConfig(), verify=False)
        first = next(stream)
        (process,) = multiprocessing.active_children()
        assert process.pid
        os.kill(process.pid, signal.SIGSTOP)
        found = by_path(stream)
    hung = [error for error in found.values() if error]
    assert hung == ["its decoder hung and was stopped"]
    assert len(found) == len(recordings) - 1
    assert first.pending.path not in found


def test_workers_end_with_the_process_that_started_them(recordings: list[Path]) -> None:
    with closing(LocalWorkers(2)) as pool:
        next(pool.outcomes((pending(path) for path in recordings), AnalysisConfig(), verify=False))
        children = multiprocessing.active_children()
        assert len(children) == 2
    for process in children:
        process.join(5)
        assert not process.is_alive()


@pytest.mark.slow
def test_a_stopped_worker_that_nobody_ended_does_not_keep_the_process_from_ending() -> None:
    # As when a signal comes while workers start: whoever would have closed them has none yet.
    code = (
        "import multiprocessing, os, signal\n"
        "from audio_pipeline.app.batch.workers import LocalWorkers\n"
        "workers = LocalWorkers(1)\n"
        "(process,) = multiprocessing.active_children()\n"
        "os.kill(process.pid, signal.SIGSTOP)\n"
        "print(process.pid)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not Path(f"/proc/{ended.stdout.strip()}").exists()


@pytest.mark.slow
def test_tables_do_not_depend_on_the_number_of_jobs(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    write_folder(tmp_path / "rec", 70, duration=0.6)
    write_clicks(tmp_path / "rec" / "long.wav", (1.0, 40.0), duration=60.0)
    for jobs in (1, 2, 3):
        request = BatchRequest((tmp_path / "rec",), tmp_path / f"out{jobs}", jobs=jobs)
        assert run_batch(request, model).counts["done"] == 71
    assert tables(tmp_path / "out1") == tables(tmp_path / "out2") == tables(tmp_path / "out3")


@pytest.mark.slow
def test_what_a_killed_run_was_working_on_is_looked_at_apart(
    tmp_path: Path, recordings: list[Path]
) -> None:
    # A run with one job died while this one was at hand.
    crash = Crash(b"crash.wav")
    (tmp_path / NOTE_NAME).write_bytes(bytes(crash))
    todo = [pending(recordings[0]), pending(crash), pending(recordings[1])]
    with closing(InProcess(tmp_path)) as engine:
        found = by_path(engine.outcomes(iter(todo), AnalysisConfig(), verify=False))
    assert found.pop(crash)
    assert list(found.values()) == [None, None]
    assert not (tmp_path / NOTE_NAME).exists()


def test_chunks_keep_every_recording(recordings: list[Path]) -> None:
    todo = [Pending(b"%d" % size, size, "", None) for size in (10, 9, 8, 3, 2, 1, 1, 1, 1)]
    chunks = Chunks(iter(todo), count=4, size=10)
    sizes = []
    while chunk := chunks.next():
        sizes.append([one.size for one in chunk])
        if len(sizes) == 2:
            chunks.give_back(chunk)
    assert sizes == [[10], [9, 8], [9], [8], [3, 2, 1, 1], [1, 1]]


@pytest.mark.parametrize("total", [0, 1, 7, 100])
@pytest.mark.parametrize("consumers", [2, 3])
def test_the_last_chunks_are_small(total: int, consumers: int) -> None:
    todo = [Pending(b"%d" % number, 1, "", None) for number in range(total)]
    chunks = Chunks(iter(todo), count=8, size=1000, consumers=consumers)
    sizes, found = [], []
    while chunk := chunks.next():
        sizes.append(len(chunk))
        found += chunk
    assert found == todo
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= 8
    # Whoever takes the last one has at most a small part of the work left to wait for.
    assert sizes[-2 * consumers :] == [1] * min(total, 2 * consumers)
    if total == 100:
        assert sizes[0] == 8


@pytest.mark.parametrize("kind", ["pipe", "folder", "gone", "loop"])
def test_what_is_no_file_fails_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.wav"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    began = time.monotonic()
    [outcome] = examine_all([pending(path)], AnalysisConfig(), True)
    assert time.monotonic() - began < 2
    assert outcome.extraction is not None
    assert outcome.extraction.status == "failed"
    assert outcome.extraction.error


def test_a_file_that_vanishes_while_listed_ones_are_read_fails_alone(tmp_path: Path) -> None:
    model = small_model(tmp_path / "model")
    write_folder(tmp_path / "rec", 40, duration=0.3)
    victims = sorted((tmp_path / "rec").rglob("*.wav"))[::2]
    thread = threading.Thread(target=lambda: [victim.unlink() for victim in victims])
    thread.start()
    request = BatchRequest((tmp_path / "rec",), tmp_path / "out", jobs=1)
    report = run_batch(request, model)
    thread.join()
    assert all(reason == "there is no such file" for _, reason in report.failures)
    assert report.counts["found"] == report.counts["done"] + report.counts["failed"]
    again = run_batch(request, model)
    assert again.counts == {"found": 20, "done": 0, "resumed": 20, "failed": 0, "unusable": 0}
