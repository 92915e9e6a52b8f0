"""The machine's own addresses on the local network, found without sending anything."""

from __future__ import annotations

import socket

# A UDP "connection" only asks the system which way it would go; no packet leaves. The addresses
# are reserved for documentation (RFC 5737, RFC 3849).
_PROBES = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


def local_addresses() -> list[str]:
    """Return this machine's own addresses, the one a phone would use first.

    Returns
    -------
    list of str
        IPv4 before IPv6; empty when the machine is on no network.
    """
    addresses: list[str] = []
    for family, probe in _PROBES:
        with socket.socket(family, socket.SOCK_DGRAM) as probing:
            try:
                probing.connect((probe, 9))
                addresses.append(str(probing.getsockname()[0]))
            except OSError:
                continue
    try:
        found = socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)
    except OSError:
        found = []
    addresses += [str(entry[4][0]).partition("%")[0] for entry in found]
    unique = dict.fromkeys(address for address in addresses if not address.startswith("127."))
    unique.pop("::1", None)
    return list(unique)


def host_names() -> list[str]:
    """Return the names this machine goes by, in lower case."""
    name = socket.gethostname().lower().rstrip(".")
    short = name.partition(".")[0]
    return list(dict.fromkeys(n for n in (name, short, f"{short}.local") if n))
