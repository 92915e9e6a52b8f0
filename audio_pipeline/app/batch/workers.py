"""Who looks at recordings: this process, or worker processes of this machine.

Only the cheap half of an analysis runs here, segments and features; predictions and the store
belong to the process that started the batch, so workers never import a classifier. One that dies or
hangs costs at most one recording: each worker has its own pipe, so it is known what it was doing.
Those few recordings are looked at alone, and one that brings its worker down gets a second try
before it is called failed, for the worker may have been killed for reasons of its own. No worker
outlives the process that started it.
"""

from __future__ import annotations

import atexit
import hashlib
import multiprocessing
import os
import shutil
import signal
import stat
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import (
    Extraction,
    SegmentedRecording,
    extract,
    extract_features,
    segment_recording,
)
from audio_pipeline.app.batch.store import Pending
from audio_pipeline.app.outputs import writing
from audio_pipeline.audio.discovery import file_system, is_url
from audio_pipeline.audio.recording import Recording
from audio_pipeline.exceptions import CrepitusError, RecordingError, one_line
from audio_pipeline.features.transformer import FEATURES

NOTE_NAME = ".current"

_LONGEST_PATH = 2**16

_IN_MEMORY = 32 * 2**20
"""Bytes of a download kept in memory; longer ones go through a temporary file."""

_CHUNK = 16
_CHUNK_BYTES = 8 * 2**20
"""A chunk ends with this many recordings or bytes. Features of several recordings together cost
less, and small ones need not wait for the pipe."""

_MOST_FILES = 2**16
"""No process that starts workers has more files open."""

_FALSE_STARTS = 3
"""Workers in a row that die before they have begun: then something is wrong with all of them."""

_SIGNALS = {
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
}

_POLL_SECONDS = 5.0
_START_TIMEOUT = 300.0
_TIMEOUT = 300.0
_TIMEOUT_PER_BYTE = 20.0 / 2**20
"""Seconds of work after which a recording counts as hung: hundreds of times what decoding takes."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one recording."""

    pending: Pending  # the recording, with the identity it had when it was read
    digest: str | None  # SHA-256 of its content in hexadecimal, where that was asked for
    # segments and features, or the reason of the failure; None where the content is that of the
    # earlier result
    extraction: Extraction | None


def examine_all(
    chunk: Sequence[Pending],
    settings: AnalysisConfig,
    verify: bool,
    before: Callable[[Pending], None] = lambda pending: None,
) -> list[Outcome]:
    """Look at some recordings; what is wrong with one ends up in its outcome, not as an exception.

    ``verify``: hash the content; with the same content as before the earlier result stands.
    ``before``: told about each recording before it is opened.
    """
    heard = []
    for pending in chunk:
        before(pending)
        heard.append(_guarded(pending, settings, verify=verify))
    return _described(heard, settings)


def _described(heard: Sequence[_Heard], settings: AnalysisConfig) -> list[Outcome]:
    """Describe what was heard in some recordings."""
    known = [one.hearing for one in heard if one.hearing is not None]
    try:
        described = iter(extract_features(known, settings))
    except Exception as error:
        if len(heard) == 1:
            return [failure(heard[0].pending, f"unexpected {type(error).__name__}: {error}")]
        # Something is wrong with one of them: with which one shows when they are alone.
        return [outcome for one in heard for outcome in _described([one], settings)]
    return [
        Outcome(one.pending, one.digest, None if one.hearing is None else next(described))
        for one in heard
    ]


@dataclass(frozen=True, slots=True)
class _Heard:
    """An outcome under way; no hearing where the earlier result stands."""

    pending: Pending
    digest: str | None
    hearing: SegmentedRecording | None


def _guarded(pending: Pending, settings: AnalysisConfig, *, verify: bool) -> _Heard:
    """Hear a recording; turn whatever goes wrong with it into a failed one."""
    try:
        return _hear(pending, settings, verify=verify)
    except MemoryError:
        reason = "there is not enough memory for it"
    except CrepitusError as error:
        reason = str(error)
    except Exception as error:  # one bad file never harms another, whatever it does to a decoder
        reason = f"unexpected {type(error).__name__}: {error}"
    return _Heard(pending, None, SegmentedRecording(_failed(reason)))


def _hear(pending: Pending, settings: AnalysisConfig, *, verify: bool) -> _Heard:
    """Open and hear a recording."""
    if is_url(pending.path):
        with fetched(pending.path) as copy:
            return _hear_file(pending, copy, settings, verify=verify)
    with _opened(pending.path) as file:
        if file is None:
            return _Heard(pending, None, segment_recording(pending.path, settings))
        state = os.fstat(file.fileno())
        now = replace(pending, size=state.st_size, mtime_ns=str(state.st_mtime_ns))
        return _hear_file(now, file, settings, verify=verify)


def _hear_file(
    pending: Pending, file: BinaryIO, settings: AnalysisConfig, *, verify: bool
) -> _Heard:
    """Hear an open recording."""
    digest = None
    if verify:
        digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
        if digest == pending.digest:
            return _Heard(pending, digest, None)
    return _Heard(pending, digest, segment_recording(file, settings))


def _opened(path: bytes) -> AbstractContextManager[BinaryIO | None]:
    """Open an ordinary file; give None for anything else, which `_hear` then finds words for."""
    with suppress(OSError):
        # Opening a pipe would wait for somebody to write into it.
        if stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb", buffering=0)
    return nullcontext()


def failure(pending: Pending, reason: str) -> Outcome:
    """Return the outcome of a recording that cannot be analysed."""
    return Outcome(pending, None, _failed(reason))


def _failed(reason: str) -> Extraction:
    nothing = np.empty((0, len(FEATURES)), np.float32)
    return Extraction("", "failed", one_line(reason), None, None, None, (), nothing)


@contextmanager
def fetched(url: bytes) -> Iterator[BinaryIO]:
    """Give the content of a URL as a file that can be sought in; it is gone afterwards.

    Raises RecordingError when the server does not give it.
    """
    system, path = file_system(url)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        try:
            with system.open(path, "rb", block_size=0) as source:
                shutil.copyfileobj(source, copy, 2**20)
        except FileNotFoundError:
            raise RecordingError("there is no such file") from None
        except Exception as error:  # every protocol has exceptions of its own
            reason = f"{type(error).__name__} {error}".strip()
            raise RecordingError(f"it cannot be fetched: {reason}") from None
        copy.seek(0)
        yield cast(BinaryIO, copy)


class Chunks:
    """Recordings cut into chunks.

    ``count, size``: a chunk ends with this many recordings or bytes.
    ``consumers``: how many processes take chunks. When little is left, each chunk is a small part
        of it, so that at the end nobody has much more to do than the others.
    """

    def __init__(
        self, pending: Iterator[Pending], *, count: int, size: int, consumers: int = 1
    ) -> None:
        self._pending = pending
        self._count = count
        self._size = size
        self._rounds = 2 * consumers if consumers > 1 else 1
        self._ahead: deque[Pending] = deque()
        self._returned: deque[Pending] = deque()

    def next(self) -> list[Pending]:
        """Return the next chunk, empty when nothing is left; what came back goes first, alone."""
        if self._returned:
            return [self._returned.popleft()]
        wanted = self._count * self._rounds - len(self._ahead)
        self._ahead.extend(islice(self._pending, wanted))
        count = max(1, len(self._ahead) // self._rounds)
        chunk: list[Pending] = []
        size = 0
        while self._ahead and len(chunk) < count and size < self._size:
            chunk.append(self._ahead.popleft())
            size += chunk[-1].size or 0
        return chunk

    def give_back(self, some: Iterable[Pending]) -> None:
        """Take back recordings that nobody has looked at."""
        self._returned.extend(some)


class InProcess:
    """Look at one recording after the other.

    A note in the output folder says which one is at hand. When a run dies there, the next one looks
    at that recording in a process of its own: if its decoder crashes, only that process dies.
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
        chunks = Chunks(pending, count=_CHUNK, size=_CHUNK_BYTES)
        while chunk := chunks.next():
            for one in chunk:
                if one.path == self._suspect:
                    yield from _apart(one, settings, verify=verify)
            chunk = [one for one in chunk if one.path != self._suspect]
            yield from examine_all(chunk, settings, verify, lambda one: self._write(one.path))
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
    with closing(LocalWorkers(1)) as workers:
        yield from workers.outcomes(iter([one]), settings, verify=verify)


class LocalWorkers:
    """Some worker processes; they start while the caller does something else."""

    def __init__(self, jobs: int) -> None:
        self._workers = [_start() for _ in range(jobs)]
        self._false_starts = 0

    def outcomes(
        self, pending: Iterator[Pending], settings: AnalysisConfig, *, verify: bool
    ) -> Iterator[Outcome]:
        """Yield an outcome for every recording, in no particular order."""
        waiting = Chunks(pending, count=_CHUNK, size=_CHUNK_BYTES, consumers=len(self._workers))
        tried: set[bytes] = set()
        for worker in self._workers:
            worker.send((settings, verify))
        then = time.monotonic()
        while True:
            for worker in self._workers:
                if worker.wants_more and (chunk := waiting.next()):
                    worker.give(chunk)
            busy = [worker for worker in self._workers if worker.todo]
            if not busy:
                return
            ready = wait([worker.pipe for worker in busy], _POLL_SECONDS)
            # Ticks are counted, not the clock: time in which all was suspended is not work.
            passed, then = min(time.monotonic() - then, _POLL_SECONDS), time.monotonic()
            for worker in busy:
                if worker.pipe in ready and (outcomes := worker.receive()):
                    yield from outcomes
                elif worker.dead or worker.check_timeout(passed):
                    self._replace(worker, settings, verify)
                    suspects, *others = worker.todo
                    for chunk in others:
                        waiting.give_back(chunk)
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
        fresh.send((settings, verify))

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
    with _one_thread_in_children():
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
        # A stopped process does not hear the SIGTERM by which Python ends what is left at exit.
        atexit.register(self._process.kill)
        theirs.close()
        self.todo: deque[list[Pending]] = deque()
        self.started = False
        self.dead = False
        self._busy = 0.0

    @property
    def wants_more(self) -> bool:
        """Whether it may run out of work before its next answer has been dealt with."""
        if not self.todo:
            return True
        small = sum(one.size or 0 for one in self.todo[0]) < _CHUNK_BYTES
        return len(self.todo) == 1 and small

    def give(self, chunk: list[Pending]) -> None:
        """Hand over some recordings."""
        self.todo.append(chunk)
        self.send(chunk)

    def send(self, message: object) -> None:
        """Send; a worker that is gone shows when its answer is waited for."""
        with suppress(OSError):
            self.pipe.send(message)

    def receive(self) -> list[Outcome]:
        """Return the answers for its first chunk; none when it has just started, or died."""
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

    def check_timeout(self, seconds: float) -> bool:
        """Count working time; tell whether its chunk has taken too long."""
        self._busy += seconds
        if not self.started:
            return self._busy > _START_TIMEOUT
        size = sum(one.size or 0 for one in self.todo[0])
        return self._busy > _TIMEOUT + _TIMEOUT_PER_BYTE * size

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.kill()
        self._process.join(_POLL_SECONDS)
        atexit.unregister(self._process.kill)


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
    _warm_up()
    with suppress(EOFError, OSError):
        pipe.send([])
        settings, verify = pipe.recv()
        while True:
            pipe.send(examine_all(pipe.recv(), settings, verify))


@contextmanager
def _one_thread_in_children() -> Iterator[None]:
    """Let processes that start meanwhile use one thread: many on small arrays only hinder."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)
        os.environ.update(before)
