"""Connections: the listening socket, room for newcomers, and a time limit on every wait."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import json
import logging
import os
import socket
import ssl
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import h11
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from uvicorn.protocols.http.h11_impl import H11Protocol

from audio_pipeline.app.server.guards import SECURITY_HEADERS, ServerSettings, is_loopback
from audio_pipeline.exceptions import CrepitusError
from audio_pipeline.files import whole_file

# In one turn of the event loop; the rest wait in the system's queue. Few, because a newcomer needs
# some turns until its request is read, and must not lose its place to a flood before that.
ACCEPTED_AT_ONCE = 4
QUEUED_BY_THE_SYSTEM = 512

# A UDP "connection" only asks the system which way it would go; no packet leaves. The addresses
# are reserved for documentation (RFC 5737, RFC 3849).
_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


class Connection:
    """One accepted connection, as it is weighed when another one needs its place.

    ``address``: where it comes from, as ``accept`` gave it.
    ``since``: when it came, in seconds of the event loop.
    ``paired``: whether a request on it has shown the pairing secret.
    ``since``: when it came or was last answered.
    ``streams``: whether it has become a WebSocket.
    """

    def __init__(self, accepted: socket.socket, address: Any, since: float) -> None:
        self._socket = accepted
        self.address = address
        self.since = since
        self.paired = False
        self.streams = False
        self.protocol: TimedProtocol | None = None

    @property
    def closed(self) -> bool:
        """Whether the event loop is done with it."""
        return self._socket.fileno() < 0

    @property
    def stage(self) -> int:
        """Return 0 while it waits for a request, 1 for the body of one, 2 for the answer."""
        if self.streams:
            return 2
        cycle = None if self.protocol is None else self.protocol.cycle
        if cycle is None or cycle.response_complete:
            return 0
        return 1 if cycle.more_body else 2

    def end(self) -> None:
        """Hang up, whatever it is in the middle of: TLS handshake, request or answer."""
        # The event loop sees the end of the stream, or an error when it writes, and closes it.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Listener(socket.socket):
    """A listening socket that always takes a newcomer in.

    When all places are taken, the connection that has waited longest loses its own: one that
    shows no sign of the paired device before one that does, one of an address that holds many
    before one of few, an idle one before one at work. A limit further in (as uvicorn has one)
    would turn away whoever comes last, which is how a neighbour with many slow connections shuts
    a server.
    """

    def __init__(self, family: socket.AddressFamily) -> None:
        # asyncio sets TCP_NODELAY only on sockets that say that they are TCP; without it every
        # answer in two pieces waits 40 ms for the other side's delayed acknowledgement.
        super().__init__(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self.places = 200
        self.knows: Callable[[str], bool] = is_loopback
        self._connections: dict[Any, Connection] = {}

    def listen(self, _: int = 0) -> None:
        """Begin to listen; the event loop's own idea of a backlog is how many it takes at once."""
        super().listen(QUEUED_BY_THE_SYSTEM)

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection and end another one where there is no place for both."""
        accepted, address = super().accept()
        now = asyncio.get_running_loop().time()
        if len(self._connections) >= self.places:
            self._connections = {
                key: each for key, each in self._connections.items() if not each.closed
            }
        if len(self._connections) >= self.places:
            loser = self._least_entitled()
            del self._connections[loser.address]
            loser.end()
        self._connections[address] = Connection(accepted, address, now)
        return accepted, address

    def connection(self, address: Any) -> Connection | None:
        """Return the open connection from an address, None when it has lost its place."""
        return self._connections.get(address)

    def forget(self, connection: Connection) -> None:
        """Give the place of a connection that has ended back."""
        if self._connections.get(connection.address) is connection:
            del self._connections[connection.address]

    def _least_entitled(self) -> Connection:
        held = Counter(each.address[0] for each in self._connections.values())

        def claim(connection: Connection) -> tuple[bool, bool, int, int, float]:
            host = connection.address[0]
            return (
                connection.paired,
                self.knows(host),
                -held[host],
                connection.stage,
                connection.since,
            )

        return min(self._connections.values(), key=claim)


class TimedProtocol(H11Protocol):  # type: ignore[misc]
    """HTTP with a time limit on every wait for the other side.

    A request line and its headers must be complete within `idle_seconds` of the connection's
    start or of the answer before; an answer must be taken at a phone's speed. (Bodies are timed
    where they are read, `guards.MeteredBody`; analyses by the pool.)
    """

    def __init__(
        self,
        settings: ServerSettings,
        listener: Listener,
        *,
        app_state: dict[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(app_state=app_state, **options)
        self._app_state = app_state
        self._settings = settings
        self._listener = listener
        self._connection: Connection | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._unsent = 0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._connection = self._listener.connection(transport.get_extra_info("peername"))
        if self._connection is not None:
            self._connection.protocol = self
        self.app_state = {**self._app_state, "connection": self._connection}
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_waiting()
        if self._connection is not None:
            self._listener.forget(self._connection)
            self._connection.protocol = None  # no circle keeps what was received
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came; once a request is complete its own limits hold."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._stop_waiting_while_at_work()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over; the stream has limits of its own."""
        try:  # wsproto decodes these, and trips over what is not so
            for name, value in self.headers:
                if name == b"host":
                    value.decode("idna")
                elif name.startswith((b"sec-websocket-", b"connection")):
                    value.decode("ascii")
        except UnicodeError:
            self.send_400_response("")
            return
        self._stop_waiting()
        if self._connection is not None:
            self._connection.protocol = None
            self._connection.streams = True
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, which may have come already."""
        if self._connection is not None:
            self._connection.since = self.loop.time()
        self._wait()
        super().on_response_complete()
        self._stop_waiting_while_at_work()

    def pause_writing(self) -> None:
        """Begin to wait for the other side to take the answer."""
        super().pause_writing()
        self._wait()

    def resume_writing(self) -> None:
        """Go on; the other side has taken most of it."""
        super().resume_writing()
        self._stop_waiting_while_at_work()

    def _wait(self) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        self._unsent = self.transport.get_write_buffer_size()
        self._deadline = self.loop.call_later(self._settings.idle_seconds, self._lose_patience)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    def _stop_waiting_while_at_work(self) -> None:
        at_work = self.cycle is not None and not self.cycle.response_complete
        if at_work and not self.flow.write_paused:
            self._stop_waiting()

    def _lose_patience(self) -> None:
        if self.transport.is_closing():
            self.transport.abort()
            return
        unsent = self.transport.get_write_buffer_size()
        settings = self._settings
        least = settings.window_bytes * settings.idle_seconds / settings.window_seconds
        if 0 < unsent <= self._unsent - least:
            self._wait()  # a large answer is on its way
        else:
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the shape of every other error, and hang up."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()  # an answer to the request has begun
            return
        body = json.dumps({"error": "This is not a proper HTTP request.", "code": "bad_request"})
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *SECURITY_HEADERS,
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body.encode()),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event))
        self.transport.close()


def make_server(
    app: Any,
    settings: ServerSettings,
    listener: Listener,
    certificate: Certificate | None = None,
    knows: Callable[[str], bool] = is_loopback,
) -> uvicorn.Server:
    """Return a server of an application that says nothing of itself and logs nothing.

    ``app``: ASGI application. It finds the `Connection` of a request in ``scope["state"]``.
    ``settings``: limits of connections.
    ``listener``: where it will listen.
    ``certificate``: for TLS; None for plain HTTP.
    ``knows``: tells whether an address is one of a paired device.
    To be run with ``sockets=[listener]``.
    """
    listener.places = settings.connections
    listener.knows = knows

    config = uvicorn.Config(
        app,
        http=partial(TimedProtocol, settings, listener),
        ws="wsproto",
        ws_max_size=settings.message_bytes,
        ws_per_message_deflate=False,  # sound does not shrink, and what unpacks can be a bomb
        loop="asyncio",  # uvloop would accept connections behind the listener's back
        lifespan="on",
        log_level=logging.CRITICAL,  # no log of who asked what
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=settings.idle_seconds,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=32_768,
    )
    config.load()
    if certificate is not None:
        config.ssl = certificate.context()
    return uvicorn.Server(config)


def run_server(server: uvicorn.Server, listener: Listener) -> None:
    """Serve until Ctrl-C, which is the way to stop it and so no error."""
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def listen(host: str, port: int) -> Listener:
    """Return a listening socket.

    Raises CrepitusError when the address is another machine's, or the port is taken or not allowed.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = Listener(family)
    except OSError as error:
        raise CrepitusError(f"cannot listen on {host}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise CrepitusError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from None
    return listener


def local_addresses() -> list[str]:
    """Return this machine's own addresses, the one a phone would use first.

    IPv4 before IPv6; empty when the machine is on no network.
    """
    addresses: list[str] = []
    for family, probe in _PROBES:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probing:
            probing.connect((probe, 9))
            addresses.append(str(probing.getsockname()[0]))
    addresses += [one.partition("%")[0] for one in _resolved(socket.gethostname())]
    unique = dict.fromkeys(address for address in addresses if not address.startswith("127."))
    unique.pop("::1", None)
    return list(unique)


def host_names() -> list[str]:
    """Return the names this machine goes by, in lower case."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return list(dict.fromkeys(n for n in (name, short, f"{short}.local") if n))


def lasting_name() -> str | None:
    """Return this machine's name on the local network, which outlasts its address.

    ``NAME.local`` where the system itself answers for it (Bonjour, Avahi) with an address that a
    phone can reach; else None. We do not answer for a name of our own: two programs that do on one
    machine get in each other's way.
    """
    name = f"{socket.gethostname().lower().partition('.')[0]}.local"
    found = _resolved(name, socket.AF_INET)
    return name if set(found) & set(local_addresses()) else None


def _resolved(name: str, family: int = socket.AF_UNSPEC) -> list[str]:
    """Return the addresses of a name; none where nobody knows it."""
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]


VALID_DAYS = 397
"""Some browsers refuse more than 398."""
RENEWED_DAYS = 30
"""One that ends sooner is made anew."""
LARGEST_FILE = 65_536
MOST_NAMES = 64


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key."""

    certificate: bytes  # PEM text
    key: bytes
    # SHA-256 of the certificate as pairs of capital hexadecimal digits, as browsers show it
    fingerprint: str

    def context(self) -> ssl.SSLContext:
        """Return the server side of TLS 1.2 or later with this certificate.

        The ssl module reads keys from files only: they live for an instant in a folder that
        nobody else can open.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with tempfile.TemporaryDirectory() as folder:
            chain = Path(folder, "chain.pem")
            chain.touch(mode=0o600)
            chain.write_bytes(self.key + self.certificate)
            context.load_cert_chain(chain)
        return context


def kept_certificate(names: Iterable[str], path: Path) -> Certificate:
    """Return the certificate of the runs before, or make one and keep it.

    ``names``: host names and IP addresses the server goes by. A name that the kept certificate
        lacks is added to it, which a browser takes for another certificate; the name of this
        machine on the network (``.local``) stays the same where its address changes.
    ``path``: a file of the user, readable by nobody else; one that others could read is not trusted
        any more, and made anew.
    """
    names = list(dict.fromkeys(names))
    key = None
    with contextlib.suppress(OSError, ValueError, TypeError, x509.ExtensionNotFound):
        kept, key, known = _read(path)
        lasts = kept.not_valid_after_utc - _now()
        if set(names) <= set(known) and lasts > timedelta(days=RENEWED_DAYS):
            return _certificate(kept, key)
        names = list(dict.fromkeys([*names, *known]))[:MOST_NAMES]
    certificate = make_certificate(names, key)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with whole_file(path, private=True) as file:
            file.write(certificate.key + certificate.certificate)
    except OSError as error:
        raise CrepitusError(f"{path}: cannot be written: {error.strerror or error}") from None
    return certificate


def default_path() -> Path:
    """Return where the certificate of this user is kept."""
    import platformdirs

    return Path(platformdirs.user_config_dir("crepitus", appauthor=False)) / "certificate.pem"


def _read(path: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey, list[str]]:
    """Read a kept certificate, its key and its names; ValueError where it is not as we left it."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077:
            raise ValueError("others can read the key")
        content = file.read(LARGEST_FILE)
    certificate = x509.load_pem_x509_certificate(content)
    key = serialization.load_pem_private_key(content, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or (
        key.public_key() != certificate.public_key()
    ):
        raise ValueError("the key is another one's")
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return certificate, key, [str(name.value) for name in names]


def make_certificate(
    names: Iterable[str], key: ec.EllipticCurvePrivateKey | None = None
) -> Certificate:
    """Make a certificate for these host names and addresses.

    ``names``: host names and IP addresses the server goes by.
    ``key``: a fresh one when None.
    Nothing is written to disk.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Crepitus on this network")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A phone's clock may lag behind.
        .not_valid_before(_now() - timedelta(days=1))
        .not_valid_after(_now() + timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general_name(n) for n in names]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    return _certificate(certificate, key)


def _certificate(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Certificate:
    return Certificate(
        certificate=certificate.public_bytes(serialization.Encoding.PEM),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(":").upper(),
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
