"""Listening: this machine alone, or the local network over HTTPS for a paired phone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn

from audio_pipeline.app.history import History
from audio_pipeline.app.server.app import create_app
from audio_pipeline.app.server.certificate import Certificate, make_certificate
from audio_pipeline.app.server.connections import (
    host_names,
    listen,
    local_addresses,
    make_server,
    run_server,
)
from audio_pipeline.app.server.guards import LOOPBACK_NAMES, Pairing, is_loopback
from audio_pipeline.app.server.settings import ServerSettings

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
    history
        Where results that a person wants kept go; None to keep nothing.
    on_paired
        Called with the address of the page for the next device when one has been paired.
    """

    host: str = LOOPBACK
    port: int = 8000
    https: bool = False
    region: str = "GB"
    model: Path | None = None
    settings: ServerSettings = field(default_factory=ServerSettings)
    history: History | None = None
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
            history=self.history,
        )
        self.listener = listen(self.host, self.port)
        self.port = self.listener.getsockname()[1]
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
        run_server(self.server(), self.listener)

    def server(self) -> uvicorn.Server:
        """Return the server, to be run with ``sockets=[service.listener]``."""
        knows = self.pairing.knows if self.pairing else is_loopback
        return make_server(self.app, self.settings, self.listener, self.certificate, knows)
