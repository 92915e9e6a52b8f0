"""Everything in this process: ``--jobs 1``, and batches too small to be worth starting workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from audio_pipeline.app.batch.portions import Portions
from audio_pipeline.app.batch.store import Pending
from audio_pipeline.app.batch.worker import Outcome, examine_all
from audio_pipeline.app.outputs import writing

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig

NOTE_NAME = ".current"

_LONGEST_PATH = 2**16

_PORTION = 16
_PORTION_BYTES = 8 * 2**20
"""Recordings, or bytes, whose features are computed together."""


class InProcess:
    """Look at one recording after the other.

    A note in the output folder says which one is at hand. When a run dies there, the next one looks
    at that recording in a process of its own: if its decoder crashes, only that process dies.

    Parameters
    ----------
    out
        The output folder.
    """

    def __init__(self, out: Path) -> None:
        self._path = out / NOTE_NAME
        with writing(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
            self._note = open(os.open(self._path, flags, 0o666), "r+b", buffering=0)  # noqa: SIM115
        self._note.seek(0)
        self._suspect = self._note.read(_LONGEST_PATH)

    def outcomes(
        self, pending: Iterator[Pending], settings: AnalysisConfig, *, verify: bool
    ) -> Iterator[Outcome]:
        """Yield an outcome for every recording."""
        portions = Portions(pending, count=_PORTION, size=_PORTION_BYTES)
        while portion := portions.next():
            for one in portion:
                if one.path == self._suspect:
                    yield from _apart(one, settings, verify=verify)
            portion = [one for one in portion if one.path != self._suspect]
            yield from examine_all(portion, settings, verify, lambda one: self._write(one.path))
        self._path.unlink(missing_ok=True)

    def _write(self, path: bytes) -> None:
        """Note what is at hand; without room on the disk there is no note, and that is all."""
        with suppress(OSError):
            self._note.truncate(0)
            self._note.write(path)

    def close(self) -> None:
        """Close the note."""
        self._note.close()


def _apart(one: Pending, settings: AnalysisConfig, *, verify: bool) -> Iterator[Outcome]:
    """Look at a recording in a process of its own."""
    from audio_pipeline.app.batch.workers import LocalWorkers

    with closing(LocalWorkers(1)) as workers:
        yield from workers.outcomes(iter([one]), settings, verify=verify)
