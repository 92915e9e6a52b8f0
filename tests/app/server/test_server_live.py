"""Live streams of a real server: what `crepitus listen` hears, under limits as strict as any."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from neighbours import trusting
from server_support import RATE, running, sound_file, started, twist
from websocket_client import WebSocketClient
from wsproto import events

from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings

LIVE = "/api/v1/live"
SETTINGS = ServerSettings(workers=1, streams=8, idle_seconds=2.0, recording_seconds=20.0)


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(port=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[httpx.Client]:
    with running(service) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def _warm(client: httpx.Client, service: Service) -> None:
    with connect(service) as stream:
        stream.send_text("end")
        stream.receive_all()


def connect(service: Service, query: str = f"?sample_rate={RATE}", **more: Any) -> WebSocketClient:
    return WebSocketClient(("127.0.0.1", service.port), LIVE + query, **more)


def hear(service: Service, samples: np.ndarray, size: int = 2048) -> list[dict[str, Any]]:
    with connect(service) as stream:
        assert stream.status == 101
        stream.send_samples(samples, size)
        stream.send_text("end")
        messages = stream.receive_all()
        assert stream.close_code == 1000
    return messages


def of(messages: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == kind]


class TestEvents:
    @pytest.mark.parametrize("size", [777, 2048, 16_000])
    def test_the_stream_hears_what_the_file_holds(
        self, client: httpx.Client, service: Service, size: int
    ) -> None:
        samples = twist((1.0, 2.5, 3.4), 6.0)
        audio = sound_file(samples, subtype="FLOAT")
        heard = of(hear(service, samples, size), "event")
        response = client.post("/api/v1/analyses", files={"audio": ("x.wav", audio)})
        events_of_file = response.json()["recordings"][0]["events"]
        final = [event for event in heard if event["final"]]
        assert len(final) == len(events_of_file) > 0
        for live, filed in zip(final, events_of_file, strict=True):
            assert live["label"] == filed["label"]
            assert live["uncertain"] == filed["uncertain"]
            assert live["start"] == pytest.approx(filed["start"], abs=1e-3)
            assert live["end"] == pytest.approx(filed["end"], abs=1e-3)
            assert live["probabilities"] == pytest.approx(filed["probabilities"], abs=1e-4)
        first = {round(event["start"], 1) for event in heard if not event["final"]}
        assert first <= {round(event["start"], 1) for event in final}

    def test_it_is_heard_before_the_stream_ends(self, service: Service) -> None:
        with connect(service) as stream:
            stream.send_samples(twist((1.0,), 3.0))
            while not of(stream.messages, "event"):
                for event in stream._receive():
                    stream._take(event)
            assert of(stream.messages, "event")[0]["start"] == pytest.approx(1.0, abs=0.1)

    def test_two_streams_do_not_mix(self, service: Service) -> None:
        with connect(service) as one, connect(service) as two:
            pops, quiet = twist((1.0, 2.0), 4.0), twist((), 4.0)
            for start in range(0, len(pops), 4096):
                one.send_samples(pops[start : start + 4096])
                two.send_samples(quiet[start : start + 4096])
            for stream in (one, two):
                stream.send_text("end")
                stream.receive_all()
            assert len([e for e in of(one.messages, "event") if e["final"]]) == 2
            assert of(two.messages, "event") == []


class TestHints:
    def codes(self, service: Service, samples: np.ndarray) -> list[str]:
        hints = of(hear(service, samples), "hint")
        assert all(bool(hint["text"]) == (hint["code"] != "good") for hint in hints)
        return [hint["code"] for hint in hints]

    def test_a_dead_microphone_is_said_within_two_seconds(self, service: Service) -> None:
        assert self.codes(service, np.zeros(2 * RATE, np.float32)) == ["silent"]
        pause = np.concatenate([twist((), 2.0), np.zeros(2 * RATE), twist((), 1.0)])
        assert self.codes(service, pause) == ["silent", "good"]

    def test_loud_and_noisy(self, service: Service) -> None:
        noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
        assert "noisy" in self.codes(service, noise)
        assert "loud" in self.codes(service, noise.clip(-0.1, 0.1) * 10)

    def test_a_changing_voice(self, service: Service) -> None:
        time_s = np.arange(4 * RATE) / RATE
        pitch = 140 + 30 * np.sin(2 * np.pi * 0.7 * time_s)
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        syllables = np.clip(np.sin(2 * np.pi * 3 * time_s), 0, 1)
        voice = sum(np.sin(n * phase) / n for n in range(1, 15)) * syllables * 0.05
        room = np.random.default_rng(0).normal(0, 1e-4, len(voice))
        assert "speech" in self.codes(service, (voice + room).astype(np.float32))
        hum = 0.05 * np.sin(2 * np.pi * 100 * time_s) + room
        assert "speech" not in self.codes(service, hum.astype(np.float32))

    def test_an_ordinary_take_needs_no_hint(self, service: Service) -> None:
        assert self.codes(service, twist((1.0, 2.5), 4.0)) == []


class TestRefusals:
    @pytest.mark.parametrize(
        "query", ["", "?sample_rate=x", "?sample_rate=-1", "?sample_rate=1e4", "?sample_rate=7999",
                  "?sample_rate=192001", "?sample_rate=" + "9" * 5000, "?sample_rate=٤٨٠٠٠"]
    )  # fmt: skip
    def test_sample_rates(self, service: Service, query: str) -> None:
        from urllib.parse import quote

        with connect(service, quote(query, safe="?=")) as stream:
            assert stream.status == 422
            assert stream.refusal["code"] == "bad_sample_rate"

    def test_foreign_hosts_and_origins(self, service: Service) -> None:
        with connect(service, host="evil.example") as stream:
            assert (stream.status, stream.refusal["code"]) == (400, "foreign_host")
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
        ):
            with connect(service, headers=headers) as stream:
                assert (stream.status, stream.refusal["code"]) == (403, "foreign_origin")
        with connect(service, headers={"Origin": "http://localhost"}) as stream:
            assert stream.status == 101

    @pytest.mark.parametrize(
        "header",
        [
            b"Host: \xff.example",
            b"Host: xn--\xe9.example",
            b"Host: " + b"a" * 70 + b".example",
            b"Host: localhost\r\nSec-WebSocket-Protocol: \xe9",
            b"Host: localhost\r\nSec-WebSocket-Extensions: \xe9",
        ],
    )
    def test_handshakes_that_are_no_text(
        self, service: Service, header: bytes, capfd: pytest.CaptureFixture[str]
    ) -> None:
        request = (
            f"GET {LIVE}?sample_rate=8000 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        )
        with socket.create_connection(("127.0.0.1", service.port), 10) as connection:
            connection.sendall(request.encode() + header + b"\r\n\r\n")
            answer = b""
            while received := connection.recv(65536):
                answer += received
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'"code"' in answer
        assert "".join(capfd.readouterr()) == ""

    def test_other_addresses_are_no_streams(self, service: Service) -> None:
        for path in ("/", "/api/v1/health", "/api/v1/analyses", "/nothing"):
            with WebSocketClient(("127.0.0.1", service.port), path) as stream:
                assert stream.status in (403, 404)

    def test_more_streams_than_allowed_are_told_to_wait(self, service: Service) -> None:
        with contextlib.ExitStack() as stack:
            streams = [stack.enter_context(connect(service)) for _ in range(SETTINGS.streams + 1)]
            assert streams[0].status == 101
            assert streams[-1].status == 503
            assert streams[-1].refusal["code"] == "busy"
        deadline = time.monotonic() + 5
        status = 503
        while status != 101 and time.monotonic() < deadline:
            with connect(service) as again:
                status = again.status
        assert status == 101

    def test_wrong_messages(self, service: Service) -> None:
        for message in (
            events.TextMessage(data="stop"),
            events.BytesMessage(data=b"123"),
            events.TextMessage(data=""),
        ):
            with connect(service) as stream:
                stream.send(message)
                stream.receive_all()
                assert stream.close_code == 1003

    def test_a_message_that_is_too_large(self, service: Service) -> None:
        with connect(service) as stream:
            stream.send_samples(np.zeros(30_000, np.float32), 30_000)
            stream.receive_all()
            assert stream.close_code in (1009, 1006)
        # A frame that only says that it is: its end never comes, and neither does a 4 GB buffer.
        with connect(service) as stream:
            stream.send_raw(b"\x82\xff" + (2**40).to_bytes(8, "big") + b"\0\0\0\0" + b"x" * 70_000)
            stream.receive_all()
            assert stream.close_code in (1009, 1006)

    def test_a_stream_that_is_too_long(self, service: Service) -> None:
        with connect(service) as stream:
            with contextlib.suppress(ConnectionError):
                stream.send_samples(np.zeros(21 * RATE, np.float32), 16_000)
            stream.receive_all()
            assert stream.close_code in (1009, 1006)

    @pytest.mark.slow
    def test_a_stream_that_says_nothing(self, service: Service) -> None:
        began = time.monotonic()
        with connect(service) as stream:
            stream.receive_all()
            assert stream.close_code == 1008
        assert time.monotonic() - began < 6

    def test_samples_that_are_no_numbers(self, service: Service) -> None:
        bad = np.resize(np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38]), RATE)
        assert of(hear(service, np.concatenate([bad, twist((), 1.0)])), "event") is not None

    def test_the_server_goes_on_after_garbage(
        self, client: httpx.Client, service: Service, capfd: pytest.CaptureFixture[str]
    ) -> None:
        rng = np.random.default_rng(0)
        for _ in range(20):
            with connect(service) as stream:
                if stream.status != 101:
                    continue
                try:
                    stream.send_raw(rng.bytes(int(rng.integers(1, 4000))))
                except ConnectionError:
                    continue
        assert client.get("/api/v1/health").status_code == 200
        assert "".join(capfd.readouterr()) == ""


@pytest.mark.slow
def test_pairing_guards_streams_as_well() -> None:
    service = Service(host="0.0.0.0", port=0, https=True, settings=ServerSettings(workers=1))
    assert service.pairing is not None
    address = ("127.0.0.1", service.port)
    query = f"{LIVE}?sample_rate={RATE}"
    with started(service):
        for path in (query, f"/wrong{query}"):
            with WebSocketClient(address, path, context=trusting()) as stream:
                assert (stream.status, stream.refusal["code"]) == (403, "not_paired")
        for path, headers in (
            (f"/{service.pairing.secret}{query}", {}),
            (query, {"Authorization": f"Bearer {service.pairing.secret}"}),
        ):
            with WebSocketClient(address, path, headers, context=trusting()) as stream:
                assert stream.status == 101
                stream.send_samples(twist((1.0,), 2.0))
                stream.send_text("end")
                assert of(stream.receive_all(), "event")
