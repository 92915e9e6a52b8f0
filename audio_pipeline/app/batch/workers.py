"""Worker processes of this machine; one that dies or hangs costs at most one recording.

Each worker has its own pipe, so it is known what it was doing when it died. Those few recordings
are looked at alone, and one that brings its worker down gets a second try before it is called
failed: the worker may have been killed for reasons of its own. Workers never import a classifier,
nor do they outlive this process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_pipeline.analysis.pipeline import extract
from audio_pipeline.app.batch.portions import Portions
from audio_pipeline.app.batch.store import Pending
from audio_pipeline.app.batch.threads import one_thread_in_children
from audio_pipeline.app.batch.worker import Outcome, examine_all, failure
from audio_pipeline.audio.recording import Recording
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig

_PORTION = 16
_PORTION_BYTES = 8 * 2**20
"""A portion ends with this many recordings or bytes. Features of several recordings together cost
less, and small ones need not wait for the pipe."""

_MOST_FILES = 2**16
"""No process that starts workers has more files open."""

_FALSE_STARTS = 3
"""Workers in a row that die before they have begun: then something is wrong with all of them."""

_SIGNALS = {
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
}

_TICK = 5.0
_PATIENCE = 300.0
_PATIENCE_PER_BYTE = 20.0 / 2**20
"""Seconds of work after which a recording counts as hung: hundreds of times what decoding takes."""


def processors() -> int:
    """Return the number of processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class LocalWorkers:
    """Some worker processes; they start while the caller does something else.

    Parameters
    ----------
    jobs
        How many.
    """

    def __init__(self, jobs: int) -> None:
        self._workers = [_start() for _ in range(jobs)]
        self._false_starts = 0

    def outcomes(
        self, pending: Iterator[Pending], settings: AnalysisConfig, *, verify: bool
    ) -> Iterator[Outcome]:
        """Yield an outcome for every recording, in no particular order."""
        waiting = Portions(pending, count=_PORTION, size=_PORTION_BYTES, takers=len(self._workers))
        tried: set[bytes] = set()
        for worker in self._workers:
            worker.greet(settings, verify)
        then = time.monotonic()
        while True:
            for worker in self._workers:
                if worker.wants_more and (portion := waiting.next()):
                    worker.give(portion)
            busy = [worker for worker in self._workers if worker.todo]
            if not busy:
                return
            ready = wait([worker.pipe for worker in busy], _TICK)
            # Ticks are counted, not the clock: time in which all was suspended is not work.
            passed, then = min(time.monotonic() - then, _TICK), time.monotonic()
            for worker in busy:
                if worker.pipe in ready and (outcomes := worker.receive()):
                    yield from outcomes
                elif worker.dead or worker.tire(passed):
                    self._replace(worker, settings, verify)
                    suspects, *others = worker.todo
                    for portion in others:
                        waiting.give_back(portion)
                    if not worker.started or len(suspects) > 1:
                        # Which one it was shows when each is looked at alone.
                        waiting.give_back(suspects)
                    elif not worker.dead:
                        yield failure(suspects[0], "its decoder hung and was stopped")
                    elif suspects[0].path in tried:
                        yield failure(suspects[0], "its decoder crashed, twice")
                    else:
                        tried.add(suspects[0].path)
                        waiting.give_back(suspects)

    def _replace(self, worker: _Worker, settings: AnalysisConfig, verify: bool) -> None:
        """Put a fresh process in the place of a worker."""
        self._false_starts = 0 if worker.started else self._false_starts + 1
        if self._false_starts > _FALSE_STARTS:
            raise CrepitusError(
                "worker processes cannot start: in a script, call this below "
                "`if __name__ == '__main__':`, or use --jobs 1"
            )
        worker.end()
        fresh = _start()
        self._workers[self._workers.index(worker)] = fresh
        fresh.greet(settings, verify)

    def close(self) -> None:
        """End all workers, whatever they are doing."""
        for worker in self._workers:
            worker.end()


def _start() -> _Worker:
    """Start a worker from a process that has loaded what it needs, and share that memory.

    That process is this one where a fork cannot copy a lock some other thread holds.
    """
    known = multiprocessing.get_all_start_methods()
    if "fork" in known and _threads() == 1:
        _warm_up()
        # A signal that comes before the worker has its own handlers waits for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            return _Worker(multiprocessing.get_context("fork"))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    context.set_forkserver_preload([__name__, "librosa.core", "librosa.filters", "librosa.util"])
    with one_thread_in_children():
        return _Worker(context)


@cache
def _warm_up() -> None:
    """Load what the first recording would load: two seconds of work, shared by all forks."""
    samples = np.random.default_rng(0).normal(0, 1e-3, 8000).astype(np.float32)
    samples[4000:4040] = 0.5
    extract(Recording(samples, 8000))


def _threads() -> int | None:
    """Return the number of threads this process has, those of libraries too; None if unknown."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return None


class _Worker:
    """One process and what it has been given."""

    def __init__(self, context: Any) -> None:
        self.pipe, theirs = context.Pipe()
        forked = context.get_start_method() == "fork"
        self._process = context.Process(target=_work, args=(theirs, forked), daemon=True)
        self._process.start()
        theirs.close()
        self.todo: deque[list[Pending]] = deque()
        self.started = False
        self.dead = False
        self._busy = 0.0

    def greet(self, settings: AnalysisConfig, verify: bool) -> None:
        """Send what holds for all recordings."""
        self._send((settings, verify))

    @property
    def wants_more(self) -> bool:
        """Whether it may run out of work before its next answer has been dealt with."""
        if not self.todo:
            return True
        small = sum(one.size or 0 for one in self.todo[0]) < _PORTION_BYTES
        return len(self.todo) == 1 and small

    def give(self, portion: list[Pending]) -> None:
        """Hand over some recordings."""
        self.todo.append(portion)
        self._send(portion)

    def _send(self, message: object) -> None:
        """Send; a worker that is gone shows when its answer is waited for."""
        with suppress(OSError):
            self.pipe.send(message)

    def receive(self) -> list[Outcome]:
        """Return the answers for its first portion; none when it has just started, or died."""
        try:
            outcomes: list[Outcome] = self.pipe.recv()
        except (EOFError, OSError):
            self.dead = True
            return []
        self.started = True
        self._busy = 0.0
        if outcomes:
            self.todo.popleft()
        return outcomes

    def tire(self, seconds: float) -> bool:
        """Count working time; tell whether its portion has taken beyond all patience."""
        self._busy += seconds
        size = sum(one.size or 0 for one in self.todo[0])
        return self._busy > _PATIENCE + _PATIENCE_PER_BYTE * size

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.kill()
        self._process.join(_TICK)


def _work(pipe: Connection, forked: bool) -> None:
    """Run in the worker: answer until the other end is gone."""
    # Ctrl-C and a closed terminal reach the whole group; the process that started the batch decides
    # what they mean, and ends its workers.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in _SIGNALS - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if forked:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        # With a copy of another worker's pipe, or of the lock, that would outlive the parent.
        os.closerange(3, pipe.fileno())
        os.closerange(pipe.fileno() + 1, _MOST_FILES)
    with suppress(EOFError, OSError):
        pipe.send([])
        settings, verify = pipe.recv()
        while True:
            pipe.send(examine_all(pipe.recv(), settings, verify))
