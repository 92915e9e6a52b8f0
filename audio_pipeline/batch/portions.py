"""Recordings in handy portions, for workers that should not wait between small ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from audio_pipeline.batch.store import Pending


class Portions:
    """Recordings cut into portions.

    Parameters
    ----------
    pending
        The recordings.
    count, size
        A portion ends with this many recordings or bytes.
    """

    def __init__(self, pending: Iterator[Pending], *, count: int, size: int) -> None:
        self._pending = pending
        self._count = count
        self._size = size
        self._returned: deque[Pending] = deque()

    def next(self) -> list[Pending]:
        """Return the next portion, empty when nothing is left; what came back goes first, alone."""
        if self._returned:
            return [self._returned.popleft()]
        portion: list[Pending] = []
        size = 0
        for one in self._pending:
            portion.append(one)
            size += one.size or 0
            if len(portion) >= self._count or size >= self._size:
                break
        return portion

    def give_back(self, some: Iterable[Pending]) -> None:
        """Take back recordings that nobody has looked at."""
        self._returned.extend(some)
