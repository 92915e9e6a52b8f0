"""Pairing, certificate and host names: who is let in from the local network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import socket
import ssl
import stat
import threading
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.app.server.app import Service, create_app
from audio_pipeline.app.server.connections import (
    host_names,
    kept_certificate,
    lasting_name,
    listen,
    local_addresses,
    make_certificate,
)
from audio_pipeline.app.server.guards import Pairing, host_name
from audio_pipeline.app.server.uploads import base_name
from audio_pipeline.exceptions import CrepitusError

PHONE, OTHER = "192.168.1.30", "192.168.1.31"
HEALTH = "api/v1/health"


class Network:
    """An app behind a pairing secret, asked from different addresses."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.pairing = Pairing(["192.168.1.2"], self.codes.append)
        self.app = create_app(hosts=frozenset({"192.168.1.2"}), pairing=self.pairing)

    def get(self, path: str, address: str = PHONE, **headers: str) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(address, 5000))
            async with httpx.AsyncClient(
                transport=transport, base_url="https://192.168.1.2:8000"
            ) as client:
                return await client.get(path, headers=headers)

        return asyncio.run(ask())


@pytest.fixture
def network() -> Network:
    return Network()


class TestPairing:
    @pytest.mark.parametrize(
        "path", ["/", "/docs", "/openapi.json", f"/{HEALTH}", "/static/page.js"]
    )
    def test_without_the_secret_nothing_answers(self, network: Network, path: str) -> None:
        for address in (PHONE, "127.0.0.1", "192.168.1.2"):
            refused = network.get(path, address)
            assert refused.status_code == 403
            assert refused.json()["code"] == "not_paired"
        assert network.get(f"/wrong/{HEALTH}").status_code == 403
        assert network.get(path, authorization="Bearer wrong").status_code == 403

    def test_the_first_device_owns_the_secret(self, network: Network) -> None:
        secret = network.pairing.secret
        assert network.get(f"/{secret}/{HEALTH}").status_code == 200
        assert network.get(f"/{secret}/").headers["content-type"].startswith("text/html")
        assert network.get(f"/{secret}/{HEALTH}", OTHER).status_code == 403
        assert network.get(f"/{HEALTH}", authorization=f"Bearer {secret}").status_code == 200
        assert network.get(f"/{HEALTH}", OTHER, authorization=f"Bearer {secret}").status_code == 403

    def test_each_device_gets_its_own_secret(self, network: Network) -> None:
        first = network.pairing.secret
        network.get(f"/{first}/{HEALTH}")
        assert network.codes == [network.pairing.secret]
        second = network.pairing.secret
        assert second != first
        assert network.get(f"/{second}/{HEALTH}", OTHER).status_code == 200
        assert network.get(f"/{second}/{HEALTH}", PHONE).status_code == 403

    def test_trying_it_at_the_computer_does_not_use_it_up(self, network: Network) -> None:
        secret = network.pairing.secret
        assert network.get(f"/{secret}/{HEALTH}", "192.168.1.2").status_code == 200
        assert network.get(f"/{secret}/{HEALTH}").status_code == 200

    def test_links_on_the_page_carry_the_secret(self, network: Network) -> None:
        secret = network.pairing.secret
        without_slash = network.get(f"/{secret}")
        assert without_slash.status_code == 307
        assert without_slash.headers["location"] == f"/{secret}/"
        page = network.get(f"/{secret}/").text
        assert 'src="/' not in page
        assert 'href="/' not in page

    def test_a_browser_is_told_in_a_page_what_to_do(self, network: Network) -> None:
        page = network.get("/old-code/", accept="text/html,*/*;q=0.8")
        assert page.status_code == 403
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "Scan the newest code" in page.text
        style = page.text.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in page.headers["content-security-policy"]
        assert "<script" not in page.text

    @pytest.mark.parametrize(("path", "up"), [("nowhere", "./"), ("api/v1/a/b", "../../../")])
    def test_it_leads_back_to_the_start_with_its_secret(
        self, network: Network, path: str, up: str
    ) -> None:
        page = network.get(f"/{network.pairing.secret}/{path}", accept="text/html")
        assert page.status_code == 404
        assert f'href="{up}"' in page.text

    def test_the_host_is_checked_first(self, network: Network) -> None:
        secret = network.pairing.secret
        refused = network.get(f"/{secret}/{HEALTH}", host="rebound.example")
        assert refused.status_code == 400
        assert network.pairing.secret == secret


def test_certificate_serves_a_client_that_trusts_only_it() -> None:
    certificate = make_certificate(["localhost", "192.168.1.2", "fe80::1"])
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with certificate.context().wrap_socket(ours, server_side=True) as connection:
            connection.sendall(b"hello")

    server = threading.Thread(target=serve)
    server.start()
    trust = ssl.create_default_context(cadata=certificate.certificate.decode())
    with trust.wrap_socket(theirs, server_hostname="192.168.1.2") as connection:
        assert connection.recv(10) == b"hello"
        shown = connection.getpeercert(binary_form=True)
    server.join()
    assert shown is not None
    assert len(certificate.fingerprint) == 3 * 32 - 1


def test_certificates_are_never_the_same() -> None:
    assert (
        make_certificate(["localhost"]).fingerprint != make_certificate(["localhost"]).fingerprint
    )


class TestKeptCertificate:
    def test_it_is_the_same_in_the_next_run(self, tmp_path: Path) -> None:
        path = tmp_path / "config" / "certificate.pem"
        first = kept_certificate(["localhost", "192.168.1.2"], path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert kept_certificate(["localhost", "192.168.1.2"], path) == first
        assert kept_certificate(["localhost"], path) == first, "fewer names are no reason"
        other = kept_certificate(["localhost", "10.0.0.7"], path)
        assert other.fingerprint != first.fingerprint
        assert other.key == first.key
        assert kept_certificate(["localhost", "192.168.1.2"], path) == other, "back home"

    @pytest.mark.parametrize("harm", ["readable", "cut", "empty", "text", "link", "ending"])
    def test_one_that_is_not_as_we_left_it_is_made_anew(
        self, tmp_path: Path, harm: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "certificate.pem"
        before = kept_certificate(["localhost"], path)
        if harm == "readable":
            path.chmod(0o644)
        elif harm == "link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        elif harm == "ending":
            monkeypatch.setattr("audio_pipeline.app.server.connections.RENEWED_DAYS", 398)
        else:
            content = {"cut": path.read_bytes()[:300], "empty": b"", "text": b"x" * 10_000}[harm]
            path.write_bytes(content)
        after = kept_certificate(["localhost"], path)
        assert after.fingerprint != before.fingerprint
        assert (after.key == before.key) == (harm == "ending")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert not path.is_symlink()

    def test_a_folder_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(CrepitusError, match="cannot be written"):
            kept_certificate(["localhost"], tmp_path / "file" / "certificate.pem")


def test_only_loopback_needs_no_secret() -> None:
    alone = Service(port=0)
    open_to_all = Service(host="0.0.0.0", port=0, https=True)
    try:
        assert alone.pairing is None
        assert alone.address == f"http://127.0.0.1:{alone.port}/"
        assert open_to_all.pairing is not None
        assert open_to_all.address.startswith("https://")
        assert open_to_all.pairing.secret in open_to_all.address
    finally:
        for service in (alone, open_to_all):
            service.listener.close()


def test_a_taken_port_is_one_line() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(CrepitusError, match="--port"):
        listen("127.0.0.1", taken.getsockname()[1])


def test_addresses_of_this_machine() -> None:
    for address in local_addresses():
        assert not ipaddress.ip_address(address).is_loopback
    assert socket.gethostname().lower() in host_names()
    name = lasting_name()
    assert name is None or name in host_names()


@given(st.text())
def test_host_header_never_breaks_the_check(value: str) -> None:
    name = host_name(value)
    assert name is None or name in value.lower()


@given(st.text())
def test_file_names_keep_no_folder_and_no_control_character(name: str) -> None:
    shown = base_name(name)
    assert "/" not in shown
    assert "\\" not in shown
    assert shown.isprintable()
    assert len(shown) <= 200
