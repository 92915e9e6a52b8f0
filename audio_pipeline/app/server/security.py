"""Who may ask: Host check, same-origin check, pairing secret, and the headers of every answer."""

from __future__ import annotations

import hmac
import ipaddress
import re
import secrets
from collections.abc import Callable, Iterable

from starlette.responses import RedirectResponse

from audio_pipeline.app.server.errors import ApiError
from audio_pipeline.app.server.limits import Application, Message, Receive, Scope, Send, header

CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "worker-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)

SECURITY_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(), geolocation=()"),
    (b"cache-control", b"no-store"),
)

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>\d{1,5}))?"
)


def host_name(value: str) -> str | None:
    """Return the name in a ``Host`` header without its port, or None when it is malformed."""
    match = _HOST.fullmatch(value)
    if match is None:
        return None
    return (match["v6"] or match["name"]).lower()


def is_loopback(address: str) -> bool:
    """Tell whether an address is this machine's own and reached from nowhere else."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class Pairing:
    """A one-time secret: the first device that uses it owns it, any other is refused.

    Parameters
    ----------
    own_addresses
        This machine's addresses; a person who sits at it may look at its screen anyway, so they
        use any secret without owning it.
    on_paired
        Called with the new secret when one has found its device, to show the next code.
    """

    def __init__(
        self,
        own_addresses: Iterable[str] = (),
        on_paired: Callable[[str], None] | None = None,
    ) -> None:
        self.secret = secrets.token_urlsafe(16)
        self._own = frozenset(own_addresses)
        self._on_paired = on_paired
        self._owners: dict[str, str] = {}

    def admits(self, secret: str, address: str) -> bool:
        """Tell whether a device at `address` may use `secret`; an unused one becomes its own."""
        given = secret.encode()
        for known, owner in self._owners.items():
            if hmac.compare_digest(known.encode(), given):
                return address == owner or self._is_own(address)
        if not hmac.compare_digest(self.secret.encode(), given):
            return False
        if not self._is_own(address):
            self._owners[self.secret] = address
            self.secret = secrets.token_urlsafe(16)
            if self._on_paired is not None:
                self._on_paired(self.secret)
        return True

    def _is_own(self, address: str) -> bool:
        return is_loopback(address) or address in self._own


class GuardHeaders:
    """ASGI middleware: puts the security headers on every answer."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *SECURITY_HEADERS]
            await send(message)

        await self._app(scope, receive, send_guarded)


class Gate:
    """ASGI middleware: only the right host, the right origin and a paired device pass.

    Parameters
    ----------
    app
        What is behind the gate.
    hosts
        Names this server goes by; any other ``Host`` is a rebinding attack or a mistake (400).
    pairing
        None when nothing but this machine can reach the server.
    """

    def __init__(self, app: Application, hosts: frozenset[str], pairing: Pairing | None) -> None:
        self._app = app
        self._hosts = hosts
        self._pairing = pairing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        try:
            self._check_host(scope)
            self._check_origin(scope)
            answer = self._app if self._pairing is None else self._pair(self._pairing, scope)
        except ApiError as error:
            answer = error.response()
        await answer(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        values = [value for key, value in scope["headers"] if key == b"host"]
        name = host_name(values[0].decode("latin-1")) if len(values) == 1 else None
        if name not in self._hosts:
            raise ApiError(400, "foreign_host", "This server does not go by that name.")

    def _check_origin(self, scope: Scope) -> None:
        """Refuse what another site makes a browser send (there is no cookie to steal either)."""
        origin = header(scope, b"origin")
        if origin is not None:
            own = header(scope, b"host")
            if origin not in (f"http://{own}", f"https://{own}"):
                raise ApiError(403, "foreign_origin", "Another site may not use this server.")
            return
        elsewhere = header(scope, b"sec-fetch-site") in ("cross-site", "same-site")
        # A link from elsewhere may open the page itself, nothing more.
        opens_page = header(scope, b"sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if elsewhere and not opens_page:
            raise ApiError(403, "foreign_origin", "Another site may not use this server.")

    def _pair(self, pairing: Pairing, scope: Scope) -> Application:
        """Return what answers this request: the app for a paired device, else a refusal.

        The secret is the first part of the path (so that the page's own links carry it, with no
        cookie) or, for programs, a bearer token.
        """
        address = scope["client"][0] if scope.get("client") else ""
        token = header(scope, b"authorization") or ""
        if token.startswith("Bearer ") and pairing.admits(token.removeprefix("Bearer "), address):
            return self._app
        first, slash, rest = scope["path"].removeprefix("/").partition("/")
        if not pairing.admits(first, address):
            raise ApiError(
                403, "not_paired", "Scan the code that the computer shows to use this page."
            )
        if not slash:
            redirect: Application = RedirectResponse(f"/{first}/", status_code=307)
            return redirect
        scope["path"] = "/" + rest
        scope["raw_path"] = scope["path"].encode()
        return self._app
