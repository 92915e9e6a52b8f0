"""The HTTP API of a real server: the command line's results, and nothing gets past its limits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from server_support import running, sound_file, twist

from audio_pipeline.app.cli import app as command_line
from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings
from audio_pipeline.app.server.pool import WorkerProcess
from audio_pipeline.app.server.schemas import ApiError

CLEAR = {
    "trauma": "none",
    "chest_or_abdomen": "no",
    "leg_weakness": "no",
    "both_legs": "no",
    "bladder_bowel": "no",
    "saddle_numbness": "no",
}

SETTINGS = ServerSettings(
    upload_bytes=3_000_000,
    window_seconds=1.0,
    upload_seconds=3.0,
    idle_seconds=1.0,
    recording_seconds=30.0,
    analysis_seconds=20.0,
    workers=1,
    queue=2,
)


@pytest.fixture(scope="module")
def empty_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(port=0, settings=SETTINGS)


@pytest.fixture(scope="module")
def client(service: Service, empty_folder: Path) -> Iterator[httpx.Client]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(empty_folder))
        with running(service) as client:
            yield client


@pytest.fixture(scope="module")
def recording() -> bytes:
    return sound_file(twist())


def send(
    client: httpx.Client, audio: bytes, name: str = "twist.wav", **fields: object
) -> httpx.Response:
    data = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in fields.items()
    }
    return client.post("/api/v1/analyses", files={"audio": (name, audio)}, data=data)


def error_of(response: httpx.Response, status: int) -> str:
    """Check that an error is one line of JSON that leaks nothing, and return it."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "code"}
    assert re.fullmatch(r"[a-z_]+", body["code"])
    line = str(body["error"])
    assert line
    assert "\n" not in line
    for leak in ("Traceback", ".py", "site-packages", "/tmp", "/home", "0x"):
        assert leak not in response.text
    assert "server" not in response.headers
    return line


def raw(client: httpx.Client, head: str, *pieces: bytes, pause: float = 0) -> tuple[bytes, float]:
    """Send bytes as they are, piece by piece; return the answer and after how long it came."""
    started = time.monotonic()
    address = (client.base_url.host, client.base_url.port)
    answer = b""
    with socket.create_connection(address, 20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                if select.select([connection], [], [], pause)[0]:
                    break
                connection.sendall(piece)
            while received := connection.recv(65536):
                answer += received
                if b"\r\n\r\n" in answer and answer.endswith(b"}"):
                    break
    return answer, time.monotonic() - started


class TestAnswers:
    @pytest.mark.slow
    def test_analysis_equals_the_command_line(
        self,
        client: httpx.Client,
        recording: bytes,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        answers = CLEAR | {"pain": "sharp_or_burning", "severity": 8, "age": 40}
        monkeypatch.chdir(tmp_path)
        Path("twist.wav").write_bytes(recording)
        Path("answers.json").write_text(json.dumps(answers))
        arguments = ["analyze", "twist.wav", "--answers", "answers.json", "--json"]
        printed = CliRunner().invoke(command_line, [*arguments, "--region", "GB"]).stdout
        response = send(client, recording, answers=answers)
        assert response.status_code == 200
        assert response.json() == json.loads(printed)
        heard = response.json()["recordings"][0]
        assert [round(event["start"], 1) for event in heard["events"]] == [1.0, 2.5]
        assert heard["recommendation"]["level"] == "soon"

    def test_without_answers_there_is_no_recommendation(
        self, client: httpx.Client, recording: bytes
    ) -> None:
        assert send(client, recording).json()["recordings"][0]["recommendation"] is None

    def test_empty_answers_are_careful(self, client: httpx.Client, recording: bytes) -> None:
        advice = send(client, recording, answers={}).json()["recordings"][0]["recommendation"]
        assert advice["level"] == "soon"
        assert advice["incomplete"]

    def test_triage_equals_the_command_line(self, client: httpx.Client, tmp_path: Path) -> None:
        answers = CLEAR | {"pain": "none"}
        file = tmp_path / "answers.json"
        file.write_text(json.dumps(answers))
        arguments = ["triage", "--answers", str(file), "--sound", "grating", "--confidence", "0.9"]
        printed = CliRunner().invoke(command_line, [*arguments, "--region", "GB", "--json"]).stdout
        sound = {"finding": "grating", "confidence": 0.9}
        response = client.post("/api/v1/triage", json={"answers": answers, "sound": sound})
        assert response.json() == json.loads(printed)

    def test_emergency_options_are_emergencies(self, client: httpx.Client) -> None:
        questions = client.get("/api/v1/questions").json()["questions"]
        alone = [question for question in questions if question.get("emergency_options")]
        assert {question["id"] for question in alone} >= set(CLEAR)
        for question in alone:
            for option in question["options"]:
                answers = {question["id"]: option["value"]}
                advice = client.post("/api/v1/advice", json={"answers": answers}).json()
                reason = question["emergency_options"].get(option["value"])
                assert bool(reason) == (advice["level_so_far"] == "emergency"), answers
                assert reason is None or reason in [shown["text"] for shown in advice["why"]]

    def test_clear_options_rule_the_safety_questions_out(self, client: httpx.Client) -> None:
        questions = client.get("/api/v1/questions").json()["questions"]
        first = [question for question in questions if question["section"] == "emergency"]
        assert [question["id"] for question in first] == list(CLEAR)
        assert all(CLEAR[question["id"]] in question["clear_options"] for question in first)
        assert not any(
            "unsure" in question["clear_options"]
            for question in questions
            if "clear_options" in question
        )

    def test_the_page_is_led_through_the_same_questions_as_the_terminal(
        self, client: httpx.Client
    ) -> None:
        from triage_cases import BASE

        from audio_pipeline.triage.interview import Interview
        from audio_pipeline.triage.rules import load_tables

        values = {**BASE, "age": 66, "back_pain": "yes", "severity": 3, "pregnancy": None}
        served: list[list[str]] = []
        answers: dict[str, Any] = {}
        while (
            screen := client.post("/api/v1/interview", json={"answers": answers}).json()["screen"]
        ) is not None:
            served.append([question["id"] for question in screen["questions"]])
            answers |= {name: values[name] for name in served[-1]}
        asked: list[list[str]] = []
        interview = Interview()
        while screen := interview.next_screen():
            asked.append([question.id for question in screen.questions])
            lowest = {question.id: question.lowest for question in screen.questions}
            interview.give(
                screen,
                {
                    name: "no" if screen.ticked and values[name] == lowest[name] else values[name]
                    for name in asked[-1]
                },
            )
        assert served == asked
        words = client.get("/api/v1/questions").json()
        assert [each["id"] for each in words["questions"]] == list(load_tables().questions)
        assert all(each["why"] for each in words["questions"])
        assert words["explanation"][0]["id"] == "X-BUBBLE"
        error_of(client.post("/api/v1/advice", json={"answers": {}, "skipped": ["shoe_size"]}), 422)

    def test_who_may_twist(self, client: httpx.Client) -> None:
        def advice(answers: dict[str, str]) -> Any:
            return client.post("/api/v1/advice", json={"answers": answers}).json()

        assert advice(CLEAR)["may_twist"]
        assert advice(CLEAR)["level_so_far"] == "self_care"
        assert advice(CLEAR)["level"] == "soon"
        assert not advice(CLEAR | {"trauma": "minor"})["may_twist"]
        assert not advice(CLEAR | {"bleeding_risk": "yes"})["may_twist"]

    def test_fhir_holds_the_answers(self, client: httpx.Client) -> None:
        response = client.post("/api/v1/fhir", json={"answers": CLEAR})
        assert response.headers["content-type"] == "application/fhir+json"
        resource = response.json()
        assert resource["resourceType"] == "QuestionnaireResponse"
        assert [item["linkId"] for item in resource["item"]] == list(CLEAR)

    def test_region_changes_the_number(self, client: httpx.Client) -> None:
        def number(region: str) -> str:
            document = client.get("/api/v1/questions", params={"region": region}).json()
            return str(document["emergency"]["number"])

        assert list(map(number, ("GB", "US", "EU", "AU"))) == ["999", "911", "112", "000"]
        error_of(client.get("/api/v1/questions", params={"region": "XX"}), 422)
        error_of(client.get("/api/v1/questions", params={"language": "../en"}), 422)

    def test_health_and_version(self, client: httpx.Client, recording: bytes) -> None:
        send(client, recording)
        assert client.get("/api/v1/health").json() == {"status": "ok", "ready": True, "pending": 0}
        version = client.get("/api/v1/version").json()
        heard = send(client, recording).json()
        assert version["model"] == heard["model"]

    def test_report_holds_the_result_and_the_sound(
        self, client: httpx.Client, recording: bytes
    ) -> None:
        files = {"audio": ("twist.wav", recording)}
        data = {"answers": json.dumps({"bladder_bowel": "yes"}), "embed": "yes", "region": "US"}
        page = client.post("/api/v1/reports", files=files, data=data)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "Get emergency help now" in page.text
        assert "911" in page.text
        assert "data:audio" not in page.text  # an emergency stands alone
        data |= {"answers": "{}"}
        page = client.post("/api/v1/reports", files=files, data=data)
        assert "data:audio/flac;base64," in page.text
        quiet = client.post("/api/v1/reports", files=files, data={"answers": "{}"})
        assert "data:audio" not in quiet.text

    def test_what_the_browser_did_becomes_a_warning(
        self, client: httpx.Client, recording: bytes
    ) -> None:
        def codes(capture: object) -> set[str]:
            heard = send(client, recording, capture=capture).json()["recordings"][0]
            return {warning["code"] for warning in heard["quality"]["warnings"]}

        off = dict.fromkeys(("echoCancellation", "noiseSuppression", "autoGainControl"), False)
        assert codes(off) == codes({})
        assert codes(off | {"noiseSuppression": True}) - codes(off) == {"processed_capture"}
        assert codes(off | {"autoGainControl": None}) - codes(off) == {"capture_unknown"}

    def test_openapi_describes_every_address(self, client: httpx.Client) -> None:
        document = client.get("/openapi.json").json()
        assert set(document["paths"]) == {
            f"/api/v1/{name}"
            for name in (
                *("health", "version", "questions", "interview", "triage", "advice", "fhir"),
                *("analyses", "reports"),
            )
        }
        known = set(document["components"]["schemas"])
        used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(document)))
        assert used <= known
        example = document["components"]["schemas"]["TriageInput"]["examples"][0]
        assert client.post("/api/v1/triage", json=example).status_code == 200


class TestRefusals:
    @pytest.mark.parametrize(
        ("audio", "why"),
        [
            (b"", "read"),
            (b"not a recording", "read"),
            (sound_file(twist())[:40], "read"),
            (b"\0" * 5000, "read"),
            (b"RIFF\xff\xff\xff\xffWAVEfmt ", "read"),
        ],
        ids=["empty", "text", "header", "zeros", "broken header"],
    )
    def test_what_is_no_recording(self, client: httpx.Client, audio: bytes, why: str) -> None:
        assert why in error_of(send(client, audio, "../../etc/passwd"), 422)

    @pytest.mark.parametrize(
        ("answers", "named"),
        [
            ('{"pian": "none"}', "pian"),
            ('{"pain": "purple"}', "purple"),
            ('{"pain": "none", "pain": "brief"}', "pain"),
            ('{"age": NaN}', "JSON"),
            ('{"severity": 11}', "severity"),
            ('{"over_3_months": "yes"}', "over_3_months"),
            ("[]", "object"),
            ("{", "JSON"),
            ("[" * 20_000, "JSON"),
            ('{"pain": {"a": 1}}', "pain"),
        ],
    )
    def test_bad_answers_are_named(
        self, client: httpx.Client, recording: bytes, answers: str, named: str
    ) -> None:
        assert named in error_of(send(client, recording, answers=answers), 422)
        wrapped = f'{{"answers": {answers}}}'
        response = client.post(
            "/api/v1/triage", content=wrapped, headers={"content-type": "application/json"}
        )
        error_of(response, 422)

    def test_other_shapes_of_body(self, client: httpx.Client, recording: bytes) -> None:
        error_of(client.post("/api/v1/triage", content=b"{}"), 415)
        error_of(client.post("/api/v1/triage", json={}), 422)
        error_of(client.post("/api/v1/triage", json={"answers": {}, "more": 1}), 422)
        wrong_sound = {"finding": "grating", "confidence": 1.5}
        error_of(client.post("/api/v1/triage", json={"answers": {}, "sound": wrong_sound}), 422)
        error_of(client.post("/api/v1/analyses", content=recording), 415)
        error_of(client.post("/api/v1/analyses", data={"answers": "{}"}, files={"x": b"1"}), 422)
        assert "audio" in error_of(
            client.post("/api/v1/analyses", files={"answers": (None, "{}")}), 422
        )
        twice = [("audio", ("a", recording)), ("audio", ("b", recording))]
        error_of(client.post("/api/v1/analyses", files=twice), 422)
        error_of(client.get("/api/v1/nothing"), 404)
        error_of(client.put("/api/v1/health"), 405)
        error_of(client.get("/static/..%2f..%2fapp.py"), 404)
        error_of(client.get("/static/%2e%2e/app.py"), 404)

    def test_a_cut_off_upload(self, client: httpx.Client, recording: bytes) -> None:
        request = client.build_request("POST", "/api/v1/analyses", files={"audio": recording})
        body = request.read()
        for length in (0, 10, len(body) // 2, len(body) - 5):
            response = client.post(
                "/api/v1/analyses",
                content=body[:length],
                headers={"content-type": request.headers["content-type"]},
            )
            error_of(response, 422)

    def test_a_compressed_body_is_not_unpacked(self, client: httpx.Client) -> None:
        bomb = zlib.compress(b"\0" * 10_000_000)
        headers = {"content-type": "application/json", "content-encoding": "deflate"}
        error_of(client.post("/api/v1/triage", content=bomb, headers=headers), 422)


class TestHttp:
    """What is no request at all, or only half of one."""

    UPLOAD = "POST /api/v1/analyses HTTP/1.1\nHost: localhost\n"

    @pytest.mark.parametrize(
        "head",
        [
            "nonsense\n\n",
            "GET / HTTP/99\n\n",
            "GET /a b HTTP/1.1\nHost: localhost\n\n",
            "GET / HTTP/1.1\nHost: localhost\nContent-Length: minus\n\n",
            "GET / HTTP/1.1\nHost: localhost\nContent-Length: 1\nContent-Length: 2\n\n",
            "GET / HTTP/1.1\nHost: localhost\n broken: header\nx\x01: y\n\n",
            UPLOAD + "Transfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n",
            UPLOAD.replace("1.1", "1.0") + "Transfer-Encoding: chunked\n\n0\n\n",
        ],
    )
    def test_broken_requests_are_refused_like_any_other(
        self, client: httpx.Client, head: str
    ) -> None:
        answer, _ = raw(client, head)
        fields, _, body = answer.partition(b"\r\n\r\n")
        assert fields.startswith(b"HTTP/1.1 400 ")
        assert b"content-security-policy" in fields.lower()
        assert b"connection: close" in fields.lower()
        assert set(json.loads(body)) == {"error", "code"}

    @pytest.mark.parametrize("length", [71, 5000])
    def test_a_boundary_longer_than_the_standard_allows(
        self, client: httpx.Client, length: int
    ) -> None:
        headers = {"content-type": f"multipart/form-data; boundary={'b' * length}"}
        error_of(client.post("/api/v1/analyses", content=b"", headers=headers), 422)

    @pytest.mark.parametrize("length", [5_000, 200_000])
    def test_long_headers_of_a_part(
        self, client: httpx.Client, length: int, capfd: pytest.CaptureFixture[str]
    ) -> None:
        part = b"--x\r\nX: " + b"a" * length + b"\r\n"
        capfd.readouterr()
        headers = {"content-type": "multipart/form-data; boundary=x"}
        error_of(client.post("/api/v1/analyses", content=part, headers=headers), 422)
        error_of(client.post("/api/v1/analyses", content=b"--x\r\n\xff: \r", headers=headers), 422)
        assert "".join(capfd.readouterr()) == ""

    def test_uploads_that_are_broken_off_print_nothing(
        self, client: httpx.Client, recording: bytes, capfd: pytest.CaptureFixture[str]
    ) -> None:
        capfd.readouterr()
        request = client.build_request("POST", "/api/v1/analyses", files={"audio": recording})
        body = request.read()
        head = self.UPLOAD + "".join(
            f"{name}: {request.headers[name]}\n" for name in ("content-type", "content-length")
        )
        for length in (0, 100, len(body) // 2, len(body) - 1):
            with socket.create_connection((client.base_url.host, client.base_url.port)) as sender:
                sender.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body[:length])
        with socket.create_connection((client.base_url.host, client.base_url.port)) as sender:
            sender.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body[:1000])
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert send(client, recording).status_code == 200
        assert client.get("/api/v1/health").json()["pending"] == 0
        assert "".join(capfd.readouterr()) == ""


class TestLimits:
    def test_two_gigabytes_are_refused_before_they_are_sent(self, client: httpx.Client) -> None:
        head = (
            "POST /api/v1/analyses HTTP/1.1\nHost: localhost\n"
            "Content-Type: multipart/form-data; boundary=x\nContent-Length: 2000000000\n\n"
        )
        answer, seconds = raw(client, head)
        assert answer.startswith(b"HTTP/1.1 413")
        assert seconds < 1

    def test_a_body_without_length_is_cut_off(self, client: httpx.Client) -> None:
        sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal sent
            yield b'--x\r\nContent-Disposition: form-data; name="audio"\r\n\r\n'
            while sent < 200_000_000:
                sent += 1_000_000
                yield b"\0" * 1_000_000

        headers = {"content-type": "multipart/form-data; boundary=x"}
        # The server may hang up while we are still sending, which is as good.
        with contextlib.suppress(httpx.WriteError, httpx.ReadError):
            error_of(client.post("/api/v1/analyses", content=pieces(), headers=headers), 413)
        assert sent < 50_000_000

    def test_large_json_is_refused(self, client: httpx.Client) -> None:
        error_of(client.post("/api/v1/triage", json={"answers": {"pain": "x" * 100_000}}), 413)

    @pytest.mark.slow
    @pytest.mark.parametrize("path", ["analyses", "triage"])
    def test_a_byte_a_second_is_refused_early(self, client: httpx.Client, path: str) -> None:
        kind = "application/json" if path == "triage" else "multipart/form-data; boundary=x"
        head = (
            f"POST /api/v1/{path} HTTP/1.1\nHost: localhost\n"
            f"Content-Type: {kind}\nContent-Length: 1000\n\n"
        )
        start = b'--x\r\nContent-Disposition: form-data; name="audio"\r\n\r\n'
        answer, seconds = raw(client, head, start, *(b"-" for _ in range(100)), pause=0.2)
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"too_slow" in answer
        assert seconds < 3

    @pytest.mark.slow
    def test_slow_headers_are_cut_off(self, client: httpx.Client) -> None:
        answer, seconds = raw(client, "GET / HTTP/1.1\n", *(b"A" for _ in range(100)), pause=0.2)
        assert answer == b""
        assert seconds < 3

    def test_days_of_silence_in_a_small_file(self, client: httpx.Client) -> None:
        bomb = sound_file(np.zeros(8_000 * 3_600 * 2, np.float32), 8_000, "FLAC")
        assert len(bomb) < 1_000_000
        started = time.monotonic()
        assert "minutes" in error_of(send(client, bomb), 422)
        assert time.monotonic() - started < 5

    def test_a_header_that_lies_about_its_length(self, client: httpx.Client) -> None:
        honest = sound_file(twist())
        lying = honest[:40] + struct.pack("<I", 0x7FFFFFF0) + honest[44:]
        assert send(client, lying).status_code in (200, 422)

    def test_many_at_once_are_answered_or_told_when_to_come_back(
        self, client: httpx.Client, recording: bytes
    ) -> None:
        alone = send(client, recording).json()
        with ThreadPoolExecutor(16) as threads:
            waiting = [threads.submit(send, client, recording) for _ in range(16)]
            beats = [client.get("/api/v1/health").status_code for _ in range(5)]
            responses = [future.result() for future in waiting]
        assert beats == [200] * 5
        served = [response for response in responses if response.status_code == 200]
        turned_away = [response for response in responses if response.status_code == 503]
        assert len(served) + len(turned_away) == 16
        assert served
        assert all(response.json() == alone for response in served)
        for response in turned_away:
            error_of(response, 503)
            assert int(response.headers["retry-after"]) >= 1
        assert client.get("/api/v1/health").json()["pending"] == 0


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(
    client: httpx.Client, service: Service, recording: bytes
) -> None:
    before = send(client, recording).json()
    [worker] = service.app.state.pool.processes()
    os.kill(worker, signal.SIGKILL)
    assert send(client, recording).json() == before
    assert service.app.state.pool.processes() != [worker]


def test_an_analysis_that_takes_too_long_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def hang(self: WorkerProcess, *job: object) -> None:
        tried.append(job)
        raise TimeoutError

    monkeypatch.setattr(WorkerProcess, "_exchange", hang)
    monkeypatch.setattr(WorkerProcess, "_replace", lambda self: None)
    with pytest.raises(ApiError, match="took too long") as refused:
        WorkerProcess(None, ServerSettings()).run({}, [])
    assert refused.value.code == "too_long"
    assert len(tried) == 1


class TestWhoMayAsk:
    @pytest.mark.parametrize(
        "host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", "", "localhost:80:80"]
    )
    @pytest.mark.parametrize("path", ["/", "/api/v1/health", "/api/v1/analyses", "/openapi.json"])
    def test_foreign_host(self, client: httpx.Client, host: str, path: str) -> None:
        error_of(client.get(path, headers={"host": host}), 400)

    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80"])
    def test_own_host(self, client: httpx.Client, host: str) -> None:
        assert client.get("/api/v1/health", headers={"host": host}).status_code == 200

    def test_foreign_origin(self, client: httpx.Client) -> None:
        for headers in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        ):
            response = client.post("/api/v1/triage", json={"answers": {}}, headers=headers)
            error_of(response, 403)
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert client.get("/", headers=link).status_code == 200

    @pytest.mark.parametrize(
        "path", ["/", "/docs", "/static/page.js", "/api/v1/health", "/nothing"]
    )
    def test_every_answer_carries_the_guards(self, client: httpx.Client, path: str) -> None:
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers


def test_files_of_the_installed_page_come_from_the_top_or_not_at_all(client: httpx.Client) -> None:
    for name, kind in (
        ("manifest.webmanifest", "application/manifest+json"),
        ("service-worker.js", "text/javascript; charset=utf-8"),
    ):
        response = client.get(f"/{name}")
        assert response.status_code in (200, 404)
        assert response.status_code == client.get(f"/static/{name}").status_code
        assert response.status_code == 404 or response.headers["content-type"] == kind
    assert "manifest-src 'self'" in client.get("/").headers["content-security-policy"]


def test_the_page_names_no_other_place(client: httpx.Client) -> None:
    """No page, script or sheet points anywhere but to this server."""
    names = {"/", "/docs"}
    for page in ("/", "/docs"):
        names |= {
            f"/{name}"
            for name in re.findall(r'(?:src|href)="(static/[^"]+)"', client.get(page).text)
        }
    assert len(names) > 4
    for name in names:
        text = client.get(name).text.replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://(?!$)[a-z]", text), name


def test_nothing_is_left_on_disk(
    client: httpx.Client, recording: bytes, empty_folder: Path
) -> None:
    assert send(client, recording, answers=CLEAR).status_code == 200
    assert list(empty_folder.rglob("*")) == []
