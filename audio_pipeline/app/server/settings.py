"""How much the server takes from outside, in one frozen object."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


def _default_workers() -> int:
    """Return one worker a core, at most two: a page serves a household, not a hospital."""
    return min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class ServerSettings:
    """Limits of the server. Every size, time and number that comes from outside has one.

    Parameters
    ----------
    upload_bytes
        Largest body of a request with a recording: ten minutes of 24-bit stereo at 48 kHz are
        173 MB, a minute of phone video about 100 MB; the page itself sends 5.8 MB a minute.
    body_bytes
        Largest body of any other request, and of the answers beside a recording.
    upload_memory_bytes
        Most memory that all recordings in flight may take together; it is given back to the
        system when the last of them is done.
    upload_seconds
        Longest time a body may take to arrive.
    window_seconds, window_bytes
        A body that brings fewer than `window_bytes` in `window_seconds` is refused: slower than
        any phone, and the only honest defence against a byte a second.
    idle_seconds
        Longest time from a connection's start, or from an answer on it, to the end of the next
        request's line and headers; and the time in which part of an answer must be taken.
    connections
        Most connections at once; one more takes the place of the one that is idle longest.
    recording_seconds
        Longest recording or live stream, in seconds of sound; a longer one belongs to ``crepitus
        analyze`` or ``listen``.
    analysis_seconds
        Longest time one analysis may take before its worker is ended.
    workers
        Analyses at once, each in its own process.
    queue
        Analyses that may wait; one more is answered 503 with ``Retry-After``.
    streams
        Live streams at once; one process hears them all.
    message_bytes
        Largest message of a live stream.
    worker_memory_bytes
        Memory a worker may take on top of what it has when it is ready.
    """

    upload_bytes: int = 100_000_000
    body_bytes: int = 64_000
    upload_memory_bytes: int = 250_000_000
    upload_seconds: float = 120.0
    window_seconds: float = 6.0
    window_bytes: int = 5_000
    idle_seconds: float = 15.0
    connections: int = 200
    recording_seconds: float = 900.0
    analysis_seconds: float = 60.0
    workers: int = field(default_factory=_default_workers)
    queue: int = 8
    streams: int = 4
    message_bytes: int = 65_536
    worker_memory_bytes: int = 1_500_000_000
