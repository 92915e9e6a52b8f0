"""Analyses in worker processes: a bounded number at once, the rest queued or turned away."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, TypeVar

from starlette.responses import Response

from audio_pipeline.app.server import worker
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.schemas import ApiError, busy

# A start takes a second, and much longer on a busy machine with a slow disk.
READY_SECONDS = 180.0

Result = TypeVar("Result")


class WorkerProcess:
    """One process that analyses one recording at a time and may be ended at any moment.

    A decoder reads hostile files here: when it hangs, eats memory or crashes, only this process
    is lost. Messages are JSON and raw bytes, never pickles.
    """

    def __init__(self, model: Path | None, settings: ServerSettings) -> None:
        self._model = model
        self._settings = settings
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._closed = False
        self.description: dict[str, Any] | None = None

    @property
    def pid(self) -> int | None:
        """Process id, None when it is not running."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the process; it gets ready in the background.

        Raises ApiError 503 when the server is going down.
        """
        if self._closed:
            raise busy(10)
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        model = None if self._model is None else str(self._model)
        self._process = context.Process(
            target=worker.serve,
            args=(theirs, model, self._settings.trust_model, self._settings.worker_memory_bytes),
            daemon=True,
            name="crepitus-worker",
        )
        self._process.start()
        theirs.close()
        self._connection = ours
        self.description = None

    def wait_until_ready(self) -> dict[str, Any]:
        """Return what the worker says of its model.

        Raises ApiError 500 when it cannot get ready; the reason is one line.
        """
        if self._connection is None:
            self.start()
        if self.description is None:
            message = json.loads(self._receive(READY_SECONDS))
            if "error" in message:
                raise ApiError(500, "not_ready", message["error"])
            self.description = message
        return self.description

    def run(self, job: dict[str, Any], audio: Sequence[bytearray]) -> Response:
        """Analyse one recording.

        Raises ApiError 422 when the recording cannot be analysed, or took too long, or ended the
        worker.
        """
        for attempt in ("first", "second"):
            try:
                head, body = self._exchange(job, audio)
                break
            except TimeoutError:  # an OSError, but not one of a worker that is gone
                self._replace()
                raise ApiError(
                    422, "too_long", "The recording took too long to analyse. Send a shorter one."
                ) from None
            except (EOFError, OSError):
                # The worker is gone. That need not be this recording's doing, so it gets a second
                # chance; with a fresh worker it is.
                self._replace()
                if attempt == "second":
                    raise ApiError(
                        422, "undecodable_audio", "This file could not be read as a recording."
                    ) from None
        return _reply(head, body)

    def step(self, job: dict[str, Any], audio: Sequence[bytes]) -> Response:
        """Do one step of something that the process remembers, and so cannot be tried again.

        Raises ApiError 500 when the process came to harm; it is then replaced.
        """
        try:
            head, body = self._exchange(job, audio)
        except (EOFError, OSError, TimeoutError):
            self._replace()
            raise ApiError(500, "stream_lost", "The live stream was lost. Try again.") from None
        return _reply(head, body)

    def _exchange(
        self, job: dict[str, Any], audio: Sequence[bytes | bytearray]
    ) -> tuple[dict[str, Any], bytes]:
        self.wait_until_ready()
        assert self._connection is not None
        self._connection.send_bytes(json.dumps(job).encode())
        for piece in audio:
            self._connection.send_bytes(piece)
        self._connection.send_bytes(b"")
        head: dict[str, Any] = json.loads(self._receive(self._settings.analysis_seconds))
        return head, self._receive(self._settings.analysis_seconds)

    def _replace(self) -> None:
        self.end()
        self.start()

    def _receive(self, seconds: float) -> bytes:
        assert self._connection is not None
        if not self._connection.poll(seconds):
            raise TimeoutError
        return self._connection.recv_bytes()

    def end(self) -> None:
        """End the process at once."""
        # The process goes first: its end of the pipe wakes whoever waits at ours.
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
            self._process.close()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def close(self) -> None:
        """End the process for good."""
        self._closed = True
        self.end()


def _reply(head: dict[str, Any], body: bytes) -> Response:
    if head["status"] != 200:
        raise ApiError(head["status"], head["code"], body.decode())
    return Response(body, media_type=head["media_type"])


class AnalysisPool:
    """The workers of one server.

    ``model``: model folder, None for the default one.
    """

    def __init__(self, model: Path | None, settings: ServerSettings) -> None:
        self._settings = settings
        self._threads = ThreadPoolExecutor(settings.workers, thread_name_prefix="crepitus-pool")
        self._workers = [WorkerProcess(model, settings) for _ in range(settings.workers)]
        self._idle: queue.SimpleQueue[WorkerProcess] = queue.SimpleQueue()
        for process in self._workers:
            self._idle.put(process)
        # Streams need an answer at once and analyses take their time: they do not share a process.
        self._stream_worker = WorkerProcess(model, settings)
        self._stream_thread = ThreadPoolExecutor(1, thread_name_prefix="crepitus-stream")
        self._pending = 0
        self._recent_seconds = 1.0
        self._description: dict[str, Any] | None = None

    def start(self) -> None:
        """Start every worker; they get ready in the background."""
        for process in self._workers:
            process.start()
        for _ in self._workers:
            self._threads.submit(self._with_worker, WorkerProcess.wait_until_ready)

    async def description(self) -> dict[str, Any]:
        """Return the name, hash and labels of the model, once a worker has loaded it."""
        if self._description is None:
            self._description = await self._in_thread(WorkerProcess.wait_until_ready)
        return self._description

    @property
    def ready(self) -> bool:
        """Whether a worker has loaded the model."""
        return any(process.description is not None for process in self._workers)

    @property
    def pending(self) -> int:
        """Analyses running or waiting."""
        return self._pending

    def processes(self) -> list[int]:
        """Return the process ids of the workers that are running."""
        return [process.pid for process in self._workers if process.pid is not None]

    def admit(self) -> None:
        """Raise the 503 of a busy server when one more analysis would not fit."""
        if self._pending >= self._settings.workers + self._settings.queue:
            wait = self._recent_seconds * self._pending / self._settings.workers
            raise busy(max(1, min(60, round(wait))))

    async def run(self, job: dict[str, Any], audio: Sequence[bytearray]) -> Response:
        """Analyse one recording off the event loop.

        Raises ApiError 503 when too many wait already, 422 when the recording cannot be analysed.
        """
        self.admit()
        self._pending += 1
        try:
            started = time.monotonic()
            reply = await self._in_thread(lambda process: process.run(job, audio))
            seconds = time.monotonic() - started
            self._recent_seconds += 0.3 * (seconds - self._recent_seconds)
            return reply
        finally:
            self._pending -= 1

    async def hear(self, job: Mapping[str, Any], samples: bytes = b"") -> list[dict[str, Any]]:
        """Do one step of a live stream off the event loop; see `worker.hear`.

        Raises ApiError 500 when the stream is lost, with all others, because its process came to
        harm.
        """
        loop = asyncio.get_running_loop()
        task = loop.run_in_executor(self._stream_thread, self._hear, dict(job), samples)
        return await asyncio.shield(task)

    def _hear(self, job: dict[str, Any], samples: bytes) -> list[dict[str, Any]]:
        reply = self._stream_worker.step({"kind": "stream", **job}, [samples] if samples else [])
        messages: list[dict[str, Any]] = json.loads(reply.body)
        return messages

    def _with_worker(self, work: Callable[[WorkerProcess], Result]) -> Result:
        process = self._idle.get()
        try:
            return work(process)
        finally:
            self._idle.put(process)

    async def _in_thread(self, work: Callable[[WorkerProcess], Result]) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._with_worker, work)

    def close(self) -> None:
        """End every worker."""
        for threads in (self._threads, self._stream_thread):
            threads.shutdown(wait=False, cancel_futures=True)
        for process in (*self._workers, self._stream_worker):
            process.close()
