"""Listening: this machine alone, or the local network over HTTPS for a paired phone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from audio_pipeline.app.server.app import create_app
from audio_pipeline.app.server.certificate import Certificate, make_certificate
from audio_pipeline.app.server.network import host_names, local_addresses
from audio_pipeline.app.server.security import LOOPBACK_NAMES, Pairing, is_loopback
from audio_pipeline.app.server.settings import ServerSettings
from audio_pipeline.exceptions import CrepitusError

LOOPBACK = "127.0.0.1"
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  only with --phone or by the person's own choice


@dataclass
class Service:
    """A server that is set up but does not listen yet.

    Parameters
    ----------
    host, port
        Where it listens; port 0 takes a free one.
    https
        Whether to speak TLS with a certificate made for this run.
    region
        Country whose emergency number is shown.
    model
        Model folder, None for the default one.
    settings
        Limits.
    on_paired
        Called with the address of the page for the next device when one has been paired.
    """

    host: str = LOOPBACK
    port: int = 8000
    https: bool = False
    region: str = "GB"
    model: Path | None = None
    settings: ServerSettings = field(default_factory=ServerSettings)
    on_paired: Callable[[str], None] | None = None

    def __post_init__(self) -> None:
        own = local_addresses()
        names = [*LOOPBACK_NAMES, *own, *host_names()]
        if self.host not in EVERYWHERE:
            names.append(self.host.lower())
        # Whoever reaches the server from another machine must have seen this one's screen.
        self.pairing = None if is_loopback(self.host) else Pairing(own, self._paired)
        self.certificate: Certificate | None = make_certificate(names) if self.https else None
        self.app = create_app(
            self.model,
            settings=self.settings,
            region=self.region,
            hosts=frozenset(names),
            pairing=self.pairing,
        )
        self.sockets = [listen(self.host, self.port)]
        self.port = self.sockets[0].getsockname()[1]
        self._shown_host = self.host if self.host not in EVERYWHERE else (own or [LOOPBACK])[0]

    @property
    def address(self) -> str:
        """The page's address for a person, with the pairing secret where one is needed."""
        host = f"[{self._shown_host}]" if ":" in self._shown_host else self._shown_host
        scheme = "https" if self.https else "http"
        secret = f"{self.pairing.secret}/" if self.pairing else ""
        return f"{scheme}://{host}:{self.port}/{secret}"

    def _paired(self, _: str) -> None:
        if self.on_paired is not None:
            self.on_paired(self.address)

    def run(self) -> None:
        """Serve until Ctrl-C."""
        run_server(self.server(), self.sockets)

    def server(self) -> uvicorn.Server:
        """Return the server, to be run with ``sockets=service.sockets``."""
        return make_server(self.app, self.settings, self.certificate)


def make_server(
    app: Any, settings: ServerSettings, certificate: Certificate | None = None
) -> uvicorn.Server:
    """Return a server of an application that says nothing of itself and logs nothing.

    Parameters
    ----------
    app
        ASGI application.
    settings
        Limits of connections.
    certificate
        For TLS; None for plain HTTP.
    """
    config = uvicorn.Config(
        app,
        http=patient_protocol(settings.header_seconds),
        ws="none",
        lifespan="on",
        log_level=logging.CRITICAL,  # no log of who asked what
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        limit_concurrency=settings.connections,
        h11_max_incomplete_event_size=32_768,
    )
    config.load()
    if certificate is not None:
        config.ssl = certificate.context()
    return uvicorn.Server(config)


def run_server(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
    """Serve until Ctrl-C, which is the way to stop it and so no error."""
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises
    ------
    CrepitusError
        When the address is another machine's, or the port is taken or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise CrepitusError(f"cannot listen on {host}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(256)
    except OSError as error:
        listener.close()
        raise CrepitusError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from None
    return listener


def patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a time limit on the request line and headers.

    Parameters
    ----------
    seconds
        How long a new connection may take before its first request is complete.
    """

    class PatientProtocol(H11Protocol):  # type: ignore[misc]
        """Closes a connection that never comes to the point."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._patience = self.loop.call_later(seconds, self._lose_patience)

        def connection_lost(self, exc: Exception | None) -> None:
            self._patience.cancel()
            super().connection_lost(exc)

        def _lose_patience(self) -> None:
            if self.cycle is None and not self.transport.is_closing():
                self.transport.abort()

    return PatientProtocol
