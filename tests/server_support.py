"""A real server in a thread, and recordings to send to it."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import httpx
import numpy as np
import soundfile
import uvicorn

from audio_pipeline.app.server.app import Service

RATE = 44100
SAMPLE = Path(__file__).parents[1] / "datasets" / "samples" / "twist_two_pops.flac"
SAMPLE_POP = 3.0


@contextmanager
def running(service: Service) -> Iterator[httpx.Client]:
    """Serve in a thread and yield a client for it."""
    with serving(service.server(), [service.listener]) as client:
        yield client


@contextmanager
def serving(server: uvicorn.Server, sockets: list[socket.socket]) -> Iterator[httpx.Client]:
    """Run a server in a thread and yield a client for it."""
    address = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    with in_thread(server, sockets), httpx.Client(base_url=address, timeout=120) as client:
        yield client


@contextmanager
def started(service: Service) -> Iterator[None]:
    """Serve in a thread, for a client of one's own."""
    with in_thread(service.server(), [service.listener]):
        yield


@contextmanager
def in_thread(server: uvicorn.Server, sockets: list[socket.socket]) -> Iterator[None]:
    """Run a server in a thread while the block lasts."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": sockets})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        for each in sockets:
            each.close()
        assert not thread.is_alive()


@cache
def sample() -> np.ndarray:
    """Return the recording of two pops that the repository ships; float32 (n,) at `RATE`."""
    samples, rate = soundfile.read(SAMPLE, dtype="float32")
    assert rate == RATE
    return samples


def twist(pops: tuple[float, ...] = (1.0, 2.5), seconds: float = 4.0) -> np.ndarray:
    """Return a recording of a quiet room with a pop at each time; float32 (n,) at `RATE`."""
    quiet = sample()[: round(1.4 * RATE)]
    pop = sample()[round((SAMPLE_POP - 0.1) * RATE) : round((SAMPLE_POP + 0.4) * RATE)]
    samples = np.resize(quiet, round(seconds * RATE))
    for moment in pops:
        start = round((moment - 0.1) * RATE)
        samples[start : start + len(pop)] = pop[: len(samples) - start]
    return samples


def sound_file(
    samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    """Return a sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()
