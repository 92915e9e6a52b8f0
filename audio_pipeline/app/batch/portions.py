"""Recordings in handy portions, for workers that should not wait between small ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice

from audio_pipeline.app.batch.store import Pending


class Portions:
    """Recordings cut into portions.

    Parameters
    ----------
    pending
        The recordings.
    count, size
        A portion ends with this many recordings or bytes.
    takers
        How many take portions. When little is left, each portion is a small part of it, so that at
        the end nobody has much more to do than the others.
    """

    def __init__(
        self, pending: Iterator[Pending], *, count: int, size: int, takers: int = 1
    ) -> None:
        self._pending = pending
        self._count = count
        self._size = size
        self._rounds = 2 * takers if takers > 1 else 1
        self._ahead: deque[Pending] = deque()
        self._returned: deque[Pending] = deque()

    def next(self) -> list[Pending]:
        """Return the next portion, empty when nothing is left; what came back goes first, alone."""
        if self._returned:
            return [self._returned.popleft()]
        wanted = self._count * self._rounds - len(self._ahead)
        self._ahead.extend(islice(self._pending, wanted))
        count = max(1, len(self._ahead) // self._rounds)
        portion: list[Pending] = []
        size = 0
        while self._ahead and len(portion) < count and size < self._size:
            portion.append(self._ahead.popleft())
            size += portion[-1].size or 0
        return portion

    def give_back(self, some: Iterable[Pending]) -> None:
        """Take back recordings that nobody has looked at."""
        self._returned.extend(some)
