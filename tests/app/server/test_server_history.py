"""The history over HTTP: off by default, and every address of it as strict as the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from server_support import running, sound_file, twist

from audio_pipeline.app.history import History, read_export
from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings

BASE = "/api/v1/history"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    return History(tmp_path_factory.mktemp("data") / "history.sqlite")


@pytest.fixture(scope="module")
def client(history: History) -> Iterator[httpx.Client]:
    service = Service(port=0, settings=ServerSettings(workers=1), history=history)
    with running(service) as client:
        yield client


@pytest.fixture(autouse=True)
def _empty(history: History) -> Iterator[None]:
    yield
    history.delete_all()


def keep(client: httpx.Client, pops: tuple[float, ...] = (1.0, 2.5), **fields: str) -> dict:
    files = {"audio": ("twist.wav", sound_file(twist(pops)))}
    response = client.post(BASE, files=files, data=fields)
    assert response.status_code == 201, response.text
    return response.json()


def test_a_result_is_kept_seen_and_deleted(client: httpx.Client, history: History) -> None:
    entry = keep(client, answers='{"pain": "brief"}', keep_take="yes")
    assert (entry["pops"], entry["answers"], entry["take"]) == (2, {"pain": "brief"}, "twist.wav")
    overview = client.get(BASE).json()
    assert overview["enabled"]
    assert overview["entries"] == [entry]
    assert overview["weeks"][0]["pops"] == 2
    number = entry["id"]
    files = {"audio": ("twist.wav", sound_file(twist()))}
    analysis = client.post("/api/v1/analyses", files=files).json()
    whole = client.get(f"{BASE}/{number}").json()["recording"]
    assert whole["events"] == analysis["recordings"][0]["events"]
    assert client.get(f"{BASE}/{number}/take").content == files["audio"][1]
    assert client.delete(f"{BASE}/{number}").status_code == 204
    assert client.get(f"{BASE}/{number}").status_code == 404
    assert history.entries() == []


def test_all_can_be_deleted_and_exported(client: httpx.Client, tmp_path: Path) -> None:
    keep(client)
    keep(client, ())
    response = client.post(f"{BASE}/export", json={"passphrase": "a long passphrase"})
    (tmp_path / "export").write_bytes(response.content)
    assert len(read_export(tmp_path / "export", "a long passphrase")) == 2
    assert client.request("DELETE", BASE).json() == {"deleted": 2}
    assert client.get(BASE).json()["entries"] == []


def test_two_takes_of_now_are_compared(client: httpx.Client) -> None:
    first, second = keep(client)["id"], keep(client, ())["id"]
    response = client.get(f"{BASE}/compare", params={"first": first, "second": second})
    [pops, _] = response.json()["differences"]
    assert (pops["first"], pops["second"], pops["means_something"]) == (2, 0, False)


def test_the_page_for_a_doctor(client: httpx.Client) -> None:
    keep(client)
    page = client.get(f"{BASE}/page")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count("<h3>") == 1
    assert client.get(f"{BASE}/page", params={"to": "1999-01-01"}).text.count("<h3>") == 0


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/7", 404, None),
        ("GET", "/" + "9" * 40, 404, None),
        ("GET", "/-1", 404, None),
        ("GET", "/x", 404, None),
        ("DELETE", "/7", 404, None),
        ("DELETE", "/" + "9" * 40, 404, None),
        ("GET", "/7/take", 404, None),
        ("GET", "/page?from=yesterday", 422, None),
        ("GET", "?to=2026-02-30", 422, None),
        ("GET", "/compare", 422, None),
        ("GET", "/compare?first=1&second=2", 404, None),
        ("GET", "/compare?first=" + "9" * 50, 422, None),
        ("POST", "/export", 415, None),
        ("POST", "/export", 422, {}),
        ("POST", "/export", 422, {"passphrase": "short"}),
        ("POST", "/export", 422, {"passphrase": "\ud800" * 20}),
        ("POST", "/export", 422, {"passphrase": 1, "takes": "no"}),
        ("POST", "", 415, None),
        ("PUT", "", 405, None),
    ],
)
def test_refusals(client: httpx.Client, method: str, path: str, status: int, body: object) -> None:
    content = None if body is None else json.dumps(body)
    headers = {} if body is None else {"content-type": "application/json"}
    response = client.request(method, BASE + path, content=content, headers=headers)
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error", "code"}


def test_it_is_off_unless_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with running(Service(port=0, settings=ServerSettings(workers=1))) as client:
        assert client.get(BASE).json() == {"enabled": False, "entries": [], "weeks": []}
        files = {"audio": ("twist.wav", sound_file(twist()))}
        for response in (
            client.post(BASE, files=files, data={"keep_take": "yes"}),
            client.get(f"{BASE}/1"),
            client.get(f"{BASE}/page"),
            client.request("DELETE", BASE),
        ):
            assert response.status_code == 409
            assert response.json()["code"] == "history_off"
    assert list(tmp_path.rglob("*")) == []
