"""A WebSocket client for tests: blocking, and free to break every rule."""

from __future__ import annotations

import json
import socket
import ssl
from typing import Any

import numpy as np
import wsproto
from wsproto import events


class WebSocketClient:
    """One connection.

    Parameters
    ----------
    address
        Host and port of the server.
    path
        With its query.
    headers
        Extra ones, such as an Origin.
    host
        What the Host header says.
    context
        For TLS.

    Attributes
    ----------
    status
        101 when it was accepted.
    refusal
        The JSON that came instead.
    """

    def __init__(
        self,
        address: tuple[str, int],
        path: str,
        headers: dict[str, str] | None = None,
        host: str = "localhost",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._socket = socket.create_connection(address, 60)
        if context is not None:
            self._socket = context.wrap_socket(self._socket)
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        self.send(events.Request(host=host, target=path, extra_headers=extra))
        self.status = 0
        self.refusal: Any = None
        self.close_code: int | None = None
        self.close_reason = ""
        self.messages: list[dict[str, Any]] = []
        self._text = ""
        body = b""
        while not self.status or (self.status != 101 and self.refusal is None):
            for event in self._receive():
                if isinstance(event, events.AcceptConnection):
                    self.status = 101
                elif isinstance(event, events.RejectConnection):
                    self.status = event.status_code
                    if not event.has_body:
                        self.refusal = {}
                elif isinstance(event, events.RejectData):
                    body += bytes(event.data)
                    if event.body_finished:
                        self.refusal = json.loads(body) if body else {}
                else:
                    self._take(event)

    def __enter__(self) -> WebSocketClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, event: Any) -> None:
        """Send an event of wsproto."""
        self.send_raw(self._connection.send(event))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def send_samples(self, samples: np.ndarray, size: int = 2048) -> None:
        """Send float32 samples in messages of `size`."""
        for start in range(0, len(samples), size):
            block = samples[start : start + size].astype("<f4").tobytes()
            self.send(events.BytesMessage(data=block))

    def send_text(self, text: str) -> None:
        """Send one text message."""
        self.send(events.TextMessage(data=text))

    def receive_all(self) -> list[dict[str, Any]]:
        """Return all messages until the server closes the stream."""
        while self.close_code is None:
            received = self._receive()
            for event in received:
                self._take(event)
            if not received and self._ended:
                self.close_code = 1006
        return self.messages

    def _receive(self) -> list[Any]:
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        self._ended = not data
        self._connection.receive_data(data or None)
        found = []
        try:
            for event in self._connection.events():
                found.append(event)
        except wsproto.utilities.RemoteProtocolError:
            self._ended = True
        return found

    def _take(self, event: Any) -> None:
        if isinstance(event, events.TextMessage):
            self._text += event.data
            if event.message_finished:
                self.messages.append(json.loads(self._text))
                self._text = ""
        elif isinstance(event, events.CloseConnection):
            self.close_code = event.code
            self.close_reason = event.reason or ""
        elif isinstance(event, events.Ping):
            self.send(event.response())
