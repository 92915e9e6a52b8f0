"""Live sound over a WebSocket: blocks of samples in, events and hints out, as they happen."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from audio_pipeline.app.server.errors import ApiError, busy
from audio_pipeline.app.server.pool import AnalysisPool
from audio_pipeline.app.server.settings import ServerSettings

RATES = (8_000, 192_000)
"""Lowest and highest sample rate in Hz."""

DONE, UNSUPPORTED, REFUSED, TOO_BIG, FAILED = 1000, 1003, 1008, 1009, 1011
"""Close codes of RFC 6455, 7.4.1."""


class LiveStreams:
    """The live streams of one server.

    Parameters
    ----------
    pool
        Where they are heard.
    settings
        How many at once, how long, how slow.
    """

    def __init__(self, pool: AnalysisPool, settings: ServerSettings) -> None:
        self._pool = pool
        self._settings = settings
        self._open = 0

    async def serve(self, socket: WebSocket) -> None:
        """Hear one stream.

        The page sends binary messages of little-endian float32 samples, mono, and the text
        ``end``. It gets JSON texts: ``{"type": "event", ...}``, the lines of ``crepitus listen
        --json``; and ``{"type": "hint", "code", "text"}`` when there is something to mend, or no
        longer (``good``). After the last event the stream is closed with code 1000.
        """
        try:
            rate = sample_rate(socket.query_params.get("sample_rate"))
            if self._open >= self._settings.streams:
                raise busy(10)
        except ApiError as error:
            await socket.send_denial_response(error.response())
            return
        self._open += 1
        name = secrets.token_hex(8)
        try:
            await socket.accept()
            code, reason = await self._hear(socket, name, rate)
            await socket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError, TimeoutError):
            pass  # the page has gone
        finally:
            self._open -= 1
            with contextlib.suppress(ApiError, RuntimeError):  # the server may be going down
                await self._step(name, "drop")

    async def _hear(self, socket: WebSocket, name: str, rate: int) -> tuple[int, str]:
        """Hear a stream to its end; return the code and the reason to close it with."""
        settings = self._settings
        left = round(settings.recording_seconds * rate)
        loop = asyncio.get_running_loop()
        latest = loop.time() + settings.recording_seconds + settings.upload_seconds
        try:
            await self._step(name, "open", sample_rate=rate)
            while True:
                try:
                    async with asyncio.timeout_at(min(latest, loop.time() + settings.idle_seconds)):
                        message = await socket.receive()
                except TimeoutError:
                    return REFUSED, "Nothing came for too long."
                if message["type"] == "websocket.disconnect":
                    raise WebSocketDisconnect(message.get("code", DONE))
                samples = message.get("bytes")
                if samples is None:
                    if message.get("text") != "end":
                        return UNSUPPORTED, "Send samples, or the text: end"
                    await self._tell(socket, await self._step(name, "finish"))
                    return DONE, ""
                if len(samples) % 4:
                    return UNSUPPORTED, "Send samples of four bytes."
                left -= len(samples) // 4
                if left < 0:
                    return TOO_BIG, "The recording is too long."
                if samples:
                    await self._tell(socket, await self._step(name, "push", samples))
        except ApiError as error:
            return FAILED, error.message[:100]

    async def _step(
        self, name: str, step: str, samples: bytes = b"", **more: Any
    ) -> list[dict[str, Any]]:
        return await self._pool.hear({"stream": name, "step": step, **more}, samples)

    async def _tell(self, socket: WebSocket, messages: list[dict[str, Any]]) -> None:
        async with asyncio.timeout(self._settings.idle_seconds):
            for message in messages:
                await socket.send_json(message)


def sample_rate(value: str | None) -> int:
    """Return the sample rate that a page asks for.

    Raises
    ------
    ApiError
        422 when it is no whole number of Hz between the `RATES`.
    """
    lowest, highest = RATES
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 6:
        raise ApiError(422, "bad_sample_rate", "Say sample_rate=N, in Hz.")
    if not lowest <= int(value) <= highest:
        raise ApiError(
            422, "bad_sample_rate", f"sample_rate is {value}: use {lowest} to {highest}."
        )
    return int(value)
