"""Size and time limits on every request body, enforced while the body arrives."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from audio_pipeline.app.server.errors import ApiError, busy, refuse_body
from audio_pipeline.app.server.settings import ServerSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

RECORDING_PATHS = ("/api/v1/analyses", "/api/v1/reports")

LINGER_SECONDS = 1.0
LINGER_BYTES = 8_000_000
"""How much of the rest of a refused body is read and thrown away, so that its sender reads why."""


def header(scope: Scope, name: bytes) -> str | None:
    """Return one request header, or None; `name` is in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value.decode("latin-1"))
    return None


def megabytes(size: int) -> str:
    """Return a size in words for an error message."""
    return f"{size / 1e6:g} MB" if size >= 1_000_000 else f"{size / 1e3:g} kB"


class MeteredBody:
    """A request body that counts itself as it arrives.

    Parameters
    ----------
    receive
        The server's own way to get the next piece.
    limit
        Most bytes in all.
    settings
        Time limits.
    """

    def __init__(self, receive: Receive, limit: int, settings: ServerSettings) -> None:
        self._receive = receive
        self._limit = limit
        self._settings = settings
        self._bytes = 0
        self._window_bytes = 0
        self._waited = 0.0
        self._window_start = 0.0
        self._complete = False

    async def __call__(self) -> Message:
        """Return the next message.

        Raises
        ------
        ApiError
            413 when the body is too large, 408 when it comes too slowly or takes too long.
        """
        if self._complete:
            return await self._receive()
        message = await self._next_in_time()
        if message["type"] != "http.request":
            return message
        size = len(message.get("body", b""))
        self._bytes += size
        self._window_bytes += size
        if self._bytes > self._limit:
            raise too_large(self._limit)
        self._complete = not message.get("more_body", False)
        if not self._complete:
            self._check_speed()
        return message

    async def drain(self) -> None:
        """Throw the rest of the body away for a moment.

        A connection that is closed while its sender still writes is reset, and the answer is lost
        with it.
        """
        drained = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._complete and drained < LINGER_BYTES:
                    message = await self._receive()
                    drained += len(message.get("body", b""))
                    self._complete = not message.get("more_body", False)

    async def _next_in_time(self) -> Message:
        # Only the time spent waiting for the sender counts, not the time we take to read.
        started = time.monotonic()
        window_end = self._window_start + self._settings.window_seconds
        patience = min(window_end, self._settings.upload_seconds) - self._waited
        try:
            return await asyncio.wait_for(self._receive(), max(patience, 0.01))
        except TimeoutError:
            raise too_slow() from None
        finally:
            self._waited += time.monotonic() - started

    def _check_speed(self) -> None:
        if self._waited > self._settings.upload_seconds:
            raise too_slow()
        if self._window_bytes >= self._settings.window_bytes:
            self._window_start = self._waited
            self._window_bytes = 0


def too_large(limit: int) -> ApiError:
    """Return the refusal of a body of more than `limit` bytes."""
    return refuse_body(
        413,
        "too_large",
        f"The request is larger than {megabytes(limit)}. Send a shorter recording.",
    )


def too_slow() -> ApiError:
    """Return the refusal of a body that trickles."""
    return refuse_body(
        408, "too_slow", "The upload came too slowly. Move closer to the router and try again."
    )


class BodyLimits:
    """ASGI middleware: no request body passes unmetered."""

    def __init__(self, app: Application, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a declared length that is too large at once, and meter the rest."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        settings = self._settings
        # Room for the multipart headers and the answers beside the recording.
        limit = (
            settings.upload_bytes + settings.body_bytes
            if scope["path"].endswith(RECORDING_PATHS)
            else settings.body_bytes
        )
        body = MeteredBody(receive, limit, settings)

        async def send_and_drain(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        declared = header(scope, b"content-length")
        too_long = declared is not None and (not declared.isdigit() or float(declared) > limit)
        app = too_large(limit).response() if too_long else self._app
        await app(scope, body, send_and_drain)


class MemoryBudget:
    """The memory that all recordings in flight may take together.

    Parameters
    ----------
    total
        Bytes.
    """

    def __init__(self, total: int) -> None:
        self._free = total

    def take(self, size: int) -> None:
        """Reserve `size` bytes or raise the 503 of a busy server."""
        if size > self._free:
            raise busy(10)
        self._free -= size

    def give_back(self, size: int) -> None:
        """Return bytes that were reserved."""
        self._free += size

    @property
    def free(self) -> int:
        """Bytes not reserved."""
        return self._free
