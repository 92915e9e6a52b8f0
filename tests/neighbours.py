"""Many slow connections at once, as a hostile neighbour on the network would hold them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Iterator

Address = tuple[str, int]

REFUSED = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY = (
    b"POST /api/v1/triage HTTP/1.1\r\nHost: localhost\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
)
OPENINGS = {
    "first": b"",  # a request that never gets complete
    "later": REFUSED,  # one that is refused, and then another that never gets complete
    "body": BODY,  # a body that never gets complete
    "idle": REFUSED,  # one that is refused, and then nothing
    "silent": None,  # not even a TLS handshake
}


def trusting() -> ssl.SSLContext:
    """Return the client side of TLS that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Neighbour:
    """Slow connections of one kind, opened again when the server closes them.

    Parameters
    ----------
    address
        Of the server.
    kind
        A key of `OPENINGS`.
    count
        How many connections it holds.
    tls
        Whether it speaks TLS.
    pause
        Seconds between two bytes on each connection.
    """

    def __init__(self, address: Address, kind: str, count: int, tls: bool, pause: float) -> None:
        self._address = address
        self._kind = kind
        self._context = trusting() if tls and kind != "silent" else None
        self._pause = pause
        self._count = count
        self._open: list[socket.socket] = []
        self.opened = 0
        self.most_open = 0

    def run(self, stop: threading.Event) -> None:
        """Attack until told to stop."""
        while not stop.is_set():
            started = time.monotonic()
            self._open = [each for each in self._open if self._drip(each)]
            while len(self._open) < self._count and not stop.is_set():
                with contextlib.suppress(OSError):
                    self._open.append(self._connect())
            self.most_open = max(self.most_open, len(self._open))
            stop.wait(max(0.01, self._pause - (time.monotonic() - started)))
        for each in self._open:
            each.close()

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(self._address, 5)
        self.opened += 1
        if self._context is not None:
            try:
                connection = self._context.wrap_socket(connection)
            except OSError:
                connection.close()
                raise
        try:
            if opening := OPENINGS[self._kind]:
                connection.sendall(opening)
            connection.settimeout(0)
        except OSError:
            connection.close()
            raise
        return connection

    def _drip(self, connection: socket.socket) -> bool:
        """Send one byte; tell whether the connection is still open."""
        try:
            if self._kind not in ("idle", "silent"):
                connection.send(b"G")
            if connection.recv(65536):
                return True
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return True
        except OSError:
            pass
        connection.close()
        return False


@contextlib.contextmanager
def attacked(
    address: Address, kinds: tuple[str, ...], count: int, tls: bool, pause: float
) -> Iterator[list[Neighbour]]:
    """Hold `count` slow connections, of the kinds in turn, while the block lasts."""
    stop = threading.Event()
    shares = [len(range(number, count, len(kinds))) for number in range(len(kinds))]
    neighbours = [
        Neighbour(address, kind, share, tls, pause)
        for kind, share in zip(kinds, itertools.cycle(shares), strict=False)
    ]
    threads = [threading.Thread(target=each.run, args=(stop,)) for each in neighbours]
    for thread in threads:
        thread.start()
    try:
        yield neighbours
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
