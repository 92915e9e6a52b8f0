"""Many hostile uploads at once, and how long an honest one takes (by hand: ``-m soak -s``)."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from server_support import running, sound_file, twist

from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings

pytestmark = pytest.mark.soak

ALLOWED = {200, 413, 422, 503}


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(port=0, settings=ServerSettings(upload_bytes=20_000_000))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with running(service) as client:
        while not client.get("/api/v1/health").json()["ready"]:
            time.sleep(0.1)
        yield client


def upload(client: httpx.Client, audio: bytes, name: str = "twist.wav") -> httpx.Response:
    return client.post("/api/v1/analyses", files={"audio": (name, audio)}, data={"answers": "{}"})


def hostile(rng: np.random.Generator) -> tuple[bytes, str]:
    """Return a sound file that was cut, flipped, repeated, mislabelled or made of nothing."""
    kind = str(rng.choice(["WAV", "FLAC", "OGG", "MP3", "AIFF"]))
    subtype_free = {"OGG": "VORBIS", "MP3": "MPEG_LAYER_III"}
    samples = twist((rng.uniform(0.2, 3.5),))
    audio = bytearray(sound_file(samples, kind=kind, subtype=subtype_free.get(kind, "PCM_16")))
    harm = rng.integers(5)
    if harm == 0:
        audio = audio[: rng.integers(len(audio))]
    elif harm == 1:
        for at in rng.integers(0, len(audio), 40):
            audio[at] = rng.integers(256)
    elif harm == 2:
        audio[: min(200, len(audio))] = rng.bytes(min(200, len(audio)))
    elif harm == 3:
        audio = bytearray(rng.bytes(int(rng.integers(1, 200_000))))
    else:
        at = int(rng.integers(0, 64))
        audio[at : at + 4] = b"\xff\xff\xff\x7f"
    return bytes(audio), f"x.{rng.choice(['wav', 'm4a', 'webm', 'txt'])}"


def workers_memory(service: Service) -> int:
    """Return the resident memory of all workers in bytes."""
    total = 0
    for process in service.app.state.pool.processes():
        status = Path(f"/proc/{process}/statm")
        total += int(status.read_text().split()[1]) * 4096 if status.exists() else 0
    return total


def test_a_thousand_hostile_uploads(client: httpx.Client, service: Service) -> None:
    rng = np.random.default_rng(0)
    cases = [hostile(rng) for _ in range(1000)]
    before = workers_memory(service)
    largest = before
    beats: list[float] = []
    done = threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.25):
            started = time.perf_counter()
            assert client.get("/api/v1/health").status_code == 200
            beats.append(time.perf_counter() - started)
            largest = max(largest, workers_memory(service))

    watcher = threading.Thread(target=watch)
    watcher.start()
    statuses: list[int] = []

    def send(case: tuple[bytes, str]) -> None:
        for _ in range(50):
            response = upload(client, *case)
            assert response.status_code in ALLOWED, response.text
            if response.status_code != 503:
                break
            time.sleep(0.2)
        statuses.append(response.status_code)
        assert "Traceback" not in response.text

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(send, cases))
    done.set()
    watcher.join()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    print(f"\nanswers {counts}; health: {len(beats)} beats, slowest {max(beats) * 1000:.0f} ms")
    print(f"worker memory {before / 1e6:.0f} MB -> at most {largest / 1e6:.0f} MB")
    assert len(statuses) == len(cases)
    assert largest < before + 600e6


def test_how_long_an_honest_upload_takes(client: httpx.Client) -> None:
    audio = sound_file(twist((2.0, 5.0, 8.0), 10.0))

    def timed(_: int) -> tuple[int, float]:
        started = time.perf_counter()
        status = upload(client, audio).status_code
        return status, 1000 * (time.perf_counter() - started)

    timed(0)
    for at_once in (1, 2, 4, 8, 16, 32):
        with ThreadPoolExecutor(at_once) as threads:
            started = time.perf_counter()
            results = list(threads.map(timed, range(max(60, 4 * at_once))))
            seconds = time.perf_counter() - started
        served = [elapsed for status, elapsed in results if status == 200]
        p50, p95 = np.percentile(served, [50, 95])
        print(
            f"{at_once:2d} at once: p50 {p50:.0f} ms, p95 {p95:.0f} ms, "
            f"{len(served) / seconds:.1f} a second, {len(results) - len(served)} told to wait"
        )
        assert {status for status, _ in results} <= {200, 503}
        assert served


def test_memory_of_a_burst_is_bounded_and_given_back() -> None:
    """Sixty-four long recordings at once, to a server in a process of its own, three times."""

    def resident(process: int) -> float:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 / 1e6

    command = [sys.executable, "-m", "audio_pipeline", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = re.search(r"http://\S+", server.stdout.readline())
        assert address is not None
        audio = sound_file(np.resize(twist(), 44_100 * 300))

        def send(_: int) -> int:
            with httpx.Client(base_url=address[0], timeout=120) as client:
                return upload(client, audio).status_code

        while not httpx.get(f"{address[0]}api/v1/health").json()["ready"]:
            time.sleep(0.1)
        before = resident(server.pid)
        for _ in range(3):
            largest = 0.0
            with ThreadPoolExecutor(64) as threads:
                sent = [threads.submit(send, number) for number in range(64)]
                while not all(future.done() for future in sent):
                    largest = max(largest, resident(server.pid))
                    time.sleep(0.05)
            assert {future.result() for future in sent} <= {200, 503}
            time.sleep(1)
            after = resident(server.pid)
            print(f"\nserver {before:.0f} MB -> at most {largest:.0f} MB -> {after:.0f} MB")
            assert largest < before + ServerSettings().upload_memory_bytes / 1e6 + 150
            assert after < before + 60
        server.send_signal(signal.SIGINT)
