"""A batch that is killed, or whose disk fills, ends with the bytes of one that was not."""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_support import small_model, tables, write_clicks, write_folder

from audio_pipeline.app.cli import main


class Batch:
    """``crepitus batch rec`` in a process that has what it needs loaded already."""

    def __init__(self, home: Path, out: Path | str, *options: str) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["audio_pipeline.app.batch.workers"])
        self._said, theirs = context.Pipe(duplex=False)
        arguments = ["batch", "rec", "--model", "model", "-o", str(out), *options]
        self._process = context.Process(target=_run, args=(home, arguments, theirs))
        self._process.start()
        theirs.close()

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        assert self._process.pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, number)

    def wait(self, seconds: float | None = None) -> int | None:
        """Return the exit code, None when it has not ended in time."""
        self._process.join(seconds)
        return self._process.exitcode

    def said(self) -> str:
        """Return what it wrote on standard error."""
        try:
            text: str = self._said.recv()
        except EOFError:
            return ""
        return text


def _run(home: Path, arguments: list[str], said: Any) -> None:
    os.chdir(home)
    # Whoever started the tests may have told them to ignore these, as nohup and "&" do.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
            main(arguments)
    finally:
        said.send(errors.getvalue())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    small_model(home / "model")
    write_folder(home / "rec", 160)
    for number in range(5):
        (home / "rec" / f"bad{number}.wav").write_bytes(b"no sound" * number)
    write_clicks(home / "rec" / "long.wav", range(1, 50, 7), duration=60.0)
    return home


@pytest.fixture(scope="module")
def undisturbed(home: Path) -> tuple[float, tuple[bytes, bytes]]:
    """Seconds and tables of a run that nobody disturbed."""
    Batch(home, "warm", "--jobs", "1").wait()
    began = time.monotonic()
    assert Batch(home, "whole", "--jobs", "1").wait() == 1
    return time.monotonic() - began, tables(home / "whole")


def kill_and_finish(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]], seed: int, jobs: str = "1"
) -> None:
    """Kill a run one to three times, let it finish, compare."""
    seconds, expected = undisturbed
    chance = random.Random(seed)
    out = home / f"killed{seed}"
    options = ("--jobs", jobs, "--format", "csv,jsonl")
    for _ in range(chance.randint(1, 3)):
        killed = Batch(home, out, *options)
        killed.wait(chance.uniform(0.01, 1.1) * seconds)
        killed.signal(signal.SIGKILL)
        killed.wait()
    last = Batch(home, out, *options)
    assert last.wait() == 1, last.said()
    assert tables(out) == expected
    assert not list(out.glob(".*.partial"))
    shutil.rmtree(out)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_killed_run_ends_with_the_same_bytes(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]], seed: int
) -> None:
    kill_and_finish(home, undisturbed, seed, jobs="2" if seed == 1 else "1")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 150))
def test_many_killed_runs_end_with_the_same_bytes(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]], seed: int
) -> None:
    kill_and_finish(home, undisturbed, seed, jobs="2" if seed % 3 == 0 else "1")


@pytest.mark.slow
def test_ctrl_c_stops_with_130_and_the_rest_follows_later(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]]
) -> None:
    _, expected = undisturbed
    stopped = Batch(home, "stopped", "--jobs", "1")
    # Not a share of the undisturbed time: that holds what only a first run has to load.
    _wait_for(lambda: (home / "stopped").exists())
    stopped.signal(signal.SIGINT)
    assert stopped.wait() == 130
    assert "Traceback" not in stopped.said()
    assert Batch(home, "stopped", "--jobs", "2").wait() == 1
    assert tables(home / "stopped") == expected


SIGNALS = [
    "SIGTERM",
    pytest.param(
        "SIGHUP",
        marks=pytest.mark.skipif(
            signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, reason="started by nohup"
        ),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_to_stop_keeps_what_is_done(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]], name: str
) -> None:
    """Results are kept every five seconds; nobody has to wait for that to be able to stop."""
    number = getattr(signal, name)
    for attempt in range(8):  # the work may be done before enough of it was seen
        out = f"{name}{attempt}"
        stopped = Batch(home, out, "--jobs", "1")
        at_hand = home / out / ".current"
        seen: set[bytes] = set()
        while len(seen) <= 18 and stopped.wait(0.001) is None:
            with contextlib.suppress(OSError):
                seen.add(at_hand.read_bytes())
        stopped.signal(number)
        if stopped.wait() == 128 + number:
            break
    else:
        pytest.fail("it was never stopped")
    assert stopped.said() == "Stopped.\n"
    assert Batch(home, out, "--jobs", "2").wait() == 1
    assert tables(home / out) == undisturbed[1]
    counts = json.loads((home / out / "run.json").read_text())["counts"]
    assert counts["resumed"] >= 16
    assert counts["done"] > 0, "it was not stopped at all"


@pytest.mark.slow
@pytest.mark.parametrize("name", SIGNALS)
def test_no_worker_outlives_a_stopped_command(home: Path, name: str) -> None:
    command = [sys.executable, "-m", "audio_pipeline", "batch", "rec", "--model", "model"]
    command += ["-o", f"workers-{name}", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL)
    workers = _wait_for(lambda: len(_children(process.pid)) >= 2 and _children(process.pid))
    # Forked, so that they share what is loaded: no other program.
    programs = {Path(f"/proc/{one}/cmdline").read_bytes() for one in (process.pid, *workers)}
    assert len(programs) == 1
    # One of them hangs.
    os.kill(workers[0], signal.SIGSTOP)
    process.send_signal(getattr(signal, name))
    assert process.wait(60) == 128 + getattr(signal, name)
    assert not any(_alive(worker) for worker in workers)


@pytest.mark.slow
def test_a_killed_command_leaves_neither_workers_nor_a_lock(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]]
) -> None:
    command = [sys.executable, "-m", "audio_pipeline", "batch", "rec", "--model", "model"]
    command += ["-o", "command", "--jobs", "2"]
    process = subprocess.Popen(command, cwd=home, stderr=subprocess.DEVNULL)
    workers = _wait_for(lambda: len(_children(process.pid)) >= 2 and _children(process.pid))
    process.kill()
    process.wait()
    _wait_for(lambda: not any(_alive(worker) for worker in workers))
    ended = subprocess.run(command, cwd=home, check=False, stderr=subprocess.DEVNULL)
    assert ended.returncode == 1
    assert tables(home / "command") == undisturbed[1]


def _wait_for(condition: Callable[[], Any], every: float = 0.02) -> Any:
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(every)
    return found


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB, where the system lets us make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    made = subprocess.run([mount, "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], check=False)
    if made.returncode:
        pytest.skip("this system mounts no tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 20_000, 150_000, 220_000])
def test_a_full_disk_stops_the_run_and_loses_nothing(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]], small_disk: Path, free: int
) -> None:
    _, expected = undisturbed
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (400_000 - free))
    out = small_disk / "out"
    full = Batch(home, out, "--jobs", "1")
    code, said = full.wait(), full.said()
    assert code in (1, 2), said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if line.startswith("crepitus:")]) == 1
    ballast.unlink()
    again = Batch(home, out, "--jobs", "1")
    assert again.wait() == 1, again.said()
    assert tables(out) == expected


@pytest.mark.slow
def test_a_drive_that_comes_back_is_read_again(
    home: Path, undisturbed: tuple[float, tuple[bytes, bytes]], tmp_path: Path
) -> None:
    """Half of the recordings are gone during the first run: all is as ever after the second."""
    seconds, expected = undisturbed
    shutil.copytree(home / "rec", tmp_path / "rec")
    (tmp_path / "model").symlink_to(home / "model")
    first = Batch(tmp_path, "out", "--jobs", "1")
    first.wait(0.4 * seconds)
    (tmp_path / "rec" / "part1").rename(tmp_path / "away")
    first.wait()
    (tmp_path / "away").rename(tmp_path / "rec" / "part1")
    assert Batch(tmp_path, "out", "--jobs", "1").wait() == 1
    assert tables(tmp_path / "out") == expected
