"""A real server in a thread, and recordings to send to it."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import soundfile
import uvicorn

from audio_pipeline.server.run import Service

RATE = 48_000


@contextmanager
def running(service: Service) -> Iterator[httpx.Client]:
    """Serve in a thread and yield a client for it."""
    with serving(service.server(), service.sockets) as client:
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
    with in_thread(service.server(), service.sockets):
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


def twist(
    pops: tuple[float, ...] = (1.0, 2.5), seconds: float = 4.0, rate: int = RATE, seed: int = 7
) -> np.ndarray:
    """Return a quiet recording with a short, dull, ringing click at each time; float32 (n,)."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 4e-4, round(seconds * rate))
    for moment in pops:
        t = np.arange(round(0.02 * rate)) / rate
        ringing = sum(
            np.exp(-t / decay) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6))
            for f, decay in ((420, 0.004), (900, 0.003), (1800, 0.0015), (3500, 0.001))
        )
        start = round(moment * rate)
        samples[start : start + len(t)] += 0.25 * ringing * np.minimum(1, t / 2e-4)
    return samples.astype(np.float32)


def sound_file(
    samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str = "PCM_16"
) -> bytes:
    """Return a sound file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=kind)
    return file.getvalue()
