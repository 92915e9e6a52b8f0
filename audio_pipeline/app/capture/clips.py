"""Clips of single events, cut out of a stream that is never kept whole."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import Event
from audio_pipeline.app.outputs import writing
from audio_pipeline.app.text import file_name
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.exceptions import CrepitusError

AROUND_SECONDS = 1.0
KEPT_SECONDS = 15.0
"""Sound held in memory: the longest event (10 s), the second before it and the delay until it is
final, with room to spare."""


class ClipKeeper:
    """Writes a FLAC file for each event, with 1 s of sound on both sides where there is any.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    sample_rate : int
        Hz.

    Raises
    ------
    CrepitusError
        When the folder cannot be made.
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self._folder = folder
        self._sample_rate = sample_rate
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._end = 0  # frames seen
        self._held = 0
        self._waiting: list[Event] = []
        self._began = time.time()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CrepitusError(f"cannot make the folder {folder}: {error.strerror}") from None

    def add(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, shape (n,), and write the clips that are now complete."""
        self._blocks.append(block)
        self._end += len(block)
        self._held += len(block)
        while self._held - len(self._blocks[0]) >= KEPT_SECONDS * self._sample_rate:
            self._held -= len(self._blocks.popleft())
        now = self._end / self._sample_rate
        ready = [event for event in self._waiting if event.end + AROUND_SECONDS <= now]
        for event in ready:
            self._waiting.remove(event)
            self._write(event)

    def keep(self, event: Event) -> None:
        """Ask for a clip of an event; it is written once the second after it has come."""
        self._waiting.append(event)

    def finish(self) -> None:
        """Write what still waits, with as much sound after it as there is."""
        for event in self._waiting:
            self._write(event)
        self._waiting.clear()

    def _write(self, event: Event) -> None:
        held = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        first = self._end - len(held)
        start = max(first, round((event.start - AROUND_SECONDS) * self._sample_rate))
        end = round((event.end + AROUND_SECONDS) * self._sample_rate)
        samples = held[start - first : max(0, end - first)]
        clock = time.strftime("%Y%m%d-%H%M%S", time.localtime(self._began + event.start))
        label = file_name(event.label)
        path = self._folder / f"{clock}-{event.start:.2f}s-{label}.flac"
        comment = f"{event.start:.4f} s to {event.end:.4f} s of the stream"
        with writing(path):
            write_recording(
                path,
                Recording(samples, self._sample_rate),
                metadata={"comment": comment},
                replace=False,
            )
