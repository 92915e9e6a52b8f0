"""Everything in this process: ``--jobs 1``, and batches too small to be worth starting workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from audio_pipeline.batch.store import Pending
from audio_pipeline.batch.worker import Outcome, examine
from audio_pipeline.errors import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.settings import AnalysisSettings

NOTE_NAME = ".current"


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
        try:
            self._note = os.open(out / NOTE_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise CrepitusError(f"cannot write in {str(out)!r}: {error.strerror}") from None
        self._suspect = os.pread(self._note, 2**16, 0)

    def outcomes(
        self, pending: Iterator[Pending], settings: AnalysisSettings, *, verify: bool
    ) -> Iterator[Outcome]:
        """Yield an outcome for every recording."""
        for one in pending:
            if one.path == self._suspect:
                yield from _apart(one, settings, verify=verify)
            else:
                self._write(one.path)
                yield examine(one, settings, verify=verify)
        self._write(b"")

    def _write(self, path: bytes) -> None:
        """Note what is at hand; without room on the disk there is no note, and that is all."""
        try:
            os.pwrite(self._note, path, 0)
            os.ftruncate(self._note, len(path))
        except OSError:
            return

    def close(self) -> None:
        """Close the note."""
        os.close(self._note)


def _apart(one: Pending, settings: AnalysisSettings, *, verify: bool) -> Iterator[Outcome]:
    """Look at a recording in a process of its own."""
    from audio_pipeline.batch.workers import LocalWorkers

    with closing(LocalWorkers(1)) as workers:
        yield from workers.outcomes(iter([one]), settings, verify=verify)
