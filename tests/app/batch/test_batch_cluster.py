"""A real Dask scheduler and recordings behind URLs: the same rows as one process."""

from __future__ import annotations

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from batch_support import small_model, tables, write_clicks, write_folder

from audio_pipeline.app.batch import run as run_module
from audio_pipeline.app.batch.run import BatchRequest, run_batch
from audio_pipeline.app.text import BatchProgress
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

pytest.importorskip("distributed")
pytest.importorskip("aiohttp")


class Dask:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, workers: int, scratch: Path) -> None:
        self._environment = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__DASHBOARD__STATUS__TASK_STREAM_LENGTH": "10",
            "PYTHONPATH": os.path.dirname(__file__),
        }
        self._scratch = scratch
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self._scheduler = self._start("dask_scheduler", "--host", "127.0.0.1", "--port", port)
        self.workers = [self._start_worker() for _ in range(workers)]

    def _start(self, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command}", *arguments, "--no-dashboard"],
            env=self._environment,
            cwd=self._scratch,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _start_worker(self) -> subprocess.Popen[bytes]:
        directory = str(self._scratch)
        options = ("--nthreads", "1", "--no-nanny", "--local-directory", directory)
        return self._start("dask_worker", self.address, *options)

    def wait(self) -> None:
        """Wait until all workers have arrived."""
        from distributed import Client

        with Client(self.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=60)

    def end(self) -> None:
        """End all processes."""
        for process in [*self.workers, self._scheduler]:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dask]:
    started = Dask(2, tmp_path_factory.mktemp("dask"))
    try:
        started.wait()
        yield started
    finally:
        started.end()


class KillAfter(BatchProgress):
    """Kills a process when the first results have been kept."""

    def __init__(self, victim: subprocess.Popen[bytes]) -> None:
        super().__init__()
        self._victim = victim

    def advance(self, **counts: Any) -> None:
        super().advance(**counts)
        self._victim.kill()


@pytest.mark.slow
def test_two_workers_one_killed_give_the_rows_of_one_process(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audio_pipeline.app.batch.run._RECORDINGS_AT_ONCE", 5)
    model = small_model(tmp_path / "model")
    write_folder(tmp_path / "rec", 120)
    (tmp_path / "rec" / "bad.wav").write_bytes(b"no sound")
    here = BatchRequest((tmp_path / "rec",), tmp_path / "here", jobs=1)
    there = BatchRequest((tmp_path / "rec",), tmp_path / "there", cluster=dask.address)
    one = run_batch(here, model)
    killer = KillAfter(dask.workers[0])
    two = run_batch(there, model, killer)
    assert dask.workers[0].wait(10)
    assert tables(tmp_path / "here") == tables(tmp_path / "there")
    assert one.counts == two.counts
    assert two.counts["failed"] == 1


@pytest.mark.slow
def test_workers_with_other_versions_are_refused(
    dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clicks(tmp_path / "a.wav")
    request = BatchRequest((tmp_path / "a.wav",), tmp_path / "out", cluster=dask.address)
    monkeypatch.setattr(run_module, "__version__", "0.0.0")
    with pytest.raises(InvalidInputError, match=r"has crepitus .*, here it is 0\.0\.0"):
        run_batch(request, small_model(tmp_path / "model"))


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "_REACH_SECONDS", 1)
    write_clicks(tmp_path / "a.wav")
    request = BatchRequest((tmp_path / "a.wav",), tmp_path / "out", cluster="tcp://127.0.0.1:9")
    with pytest.raises(CrepitusError, match=r"no cluster at 'tcp://127\.0\.0\.1:9'"):
        run_batch(request, small_model(tmp_path / "model"))


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing; ``busy.wav`` is always refused."""

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("busy.wav"):
            self.send_error(503)
        else:
            super().do_GET()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address under which a folder is served."""
    handler = partial(Quiet, directory=str(tmp_path / "rec"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_recordings_behind_urls_give_the_same_events(tmp_path: Path, served: str) -> None:
    model = small_model(tmp_path / "model")
    write_folder(tmp_path / "rec", 6, duration=0.6)
    (tmp_path / "rec" / "busy.wav").write_bytes(b"x")
    paths = sorted(path.relative_to(tmp_path / "rec") for path in (tmp_path / "rec").rglob("*.wav"))
    urls = [f"{served}/{str(path).replace(' ', '%20')}" for path in paths]
    request = BatchRequest((*urls, f"{served}/gone.wav"), tmp_path / "remote", jobs=1)
    report = run_batch(request, model)
    assert report.counts["done"] == 6
    reasons = dict(report.failures)
    assert reasons[f"{served}/gone.wav"] == "there is no such file"
    assert "503" in reasons[f"{served}/busy.wav"]
    run_batch(BatchRequest((tmp_path / "rec",), tmp_path / "local", jobs=1), model)

    def events(out: Path) -> list[str]:
        lines = (out / "events.csv").read_text().splitlines()[1:]
        return [re.sub(r"^.*/(take.\d+|take%20\d+)", "", line) for line in lines]

    assert events(tmp_path / "remote") == events(tmp_path / "local") != []
    write_clicks(tmp_path / "rec" / paths[1], (0.2, 0.4), duration=0.7)
    again = run_batch(request, model)
    assert again.counts == {"found": 8, "done": 1, "resumed": 5, "failed": 2, "unusable": 0}


def test_all_recordings_below_a_url_are_found(tmp_path: Path, served: str) -> None:
    write_clicks(tmp_path / "rec" / "deep" / "a.wav")
    write_clicks(tmp_path / "rec" / "b.wav")
    (tmp_path / "rec" / "c.txt").write_text("")
    model = small_model(tmp_path / "model")
    report = run_batch(BatchRequest((f"{served}/",), tmp_path / "out", jobs=1), model)
    assert report.counts["done"] == 2
