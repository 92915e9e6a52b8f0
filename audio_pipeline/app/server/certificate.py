"""The server's certificate: a phone allows its microphone, and warns once as it is kept."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from audio_pipeline.exceptions import CrepitusError
from audio_pipeline.files import whole_file

VALID_DAYS = 397
"""Some browsers refuse more than 398."""
RENEWED_DAYS = 30
"""One that ends sooner is made anew."""
LARGEST_FILE = 65_536
MOST_NAMES = 64


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate and its key.

    Parameters
    ----------
    certificate, key
        PEM text.
    fingerprint
        SHA-256 of the certificate as pairs of capital hexadecimal digits, as browsers show it.
    """

    certificate: bytes
    key: bytes
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

    Parameters
    ----------
    names
        Host names and IP addresses the server goes by. A name that the kept certificate lacks is
        added to it, which a browser takes for another certificate; the name of this machine on
        the network (``.local``) stays the same where its address changes.
    path
        A file of the user, readable by nobody else; one that others could read is not trusted
        any more, and made anew.

    Raises
    ------
    CrepitusError
        When it cannot be written.
    """
    names = list(dict.fromkeys(names))
    key = None
    with contextlib.suppress(OSError, ValueError, TypeError, x509.ExtensionNotFound):
        kept, key, known = _read(path)
        if set(names) <= set(known) and kept.not_valid_after_utc > _now() + timedelta(
            days=RENEWED_DAYS
        ):
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

    Parameters
    ----------
    names
        Host names and IP addresses the server goes by.
    key
        A fresh one when None.

    Returns
    -------
    Certificate
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
