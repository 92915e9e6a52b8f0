"""Forged requests to every address, grown from the API's own description: never a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server_support import running, sound_file, twist

from audio_pipeline.app.server.app import Service
from audio_pipeline.app.server.guards import ServerSettings

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=True)
    | st.text(max_size=30)
    | st.sampled_from(["yes", "no", "unsure", "none", "brief", "grating", "GB", "\x1b[31m"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner),
    max_leaves=12,
)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    limits = ServerSettings(workers=1, recording_seconds=30.0, idle_seconds=5.0)
    with running(Service(port=0, settings=limits)) as client:
        yield client


@pytest.fixture(scope="module")
def paths(client: httpx.Client) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = client.get("/openapi.json").json()["paths"]
    return found


@pytest.fixture(scope="module")
def ids(client: httpx.Client) -> list[str]:
    return [question["id"] for question in client.get("/api/v1/questions").json()["questions"]]


def bodies(ids: list[str]) -> st.SearchStrategy[bytes]:
    """Return bodies from nearly right to anything."""
    answers = st.dictionaries(st.sampled_from(ids) | st.text(max_size=20), JSON, max_size=6)
    sound = st.fixed_dictionaries({}, optional={"finding": JSON, "confidence": JSON, "x": JSON})
    request = st.fixed_dictionaries(
        {}, optional={"answers": answers | JSON, "sound": sound | JSON, "declined": JSON}
    )
    return (request | JSON).map(lambda value: json.dumps(value).encode()) | st.binary(max_size=200)


@st.composite
def multiparts(draw: st.DrawFn) -> bytes:
    """Return multipart bodies with the boundary ``x``."""
    parts = []
    small = sound_file(twist((0.2,), 0.5))
    for _ in range(draw(st.integers(0, 4))):
        name = draw(
            st.sampled_from(["audio", "answers", "capture", "region", "embed"])
            | st.text(max_size=9)
        )
        file = draw(st.none() | st.text(max_size=20))
        content = draw(
            st.binary(max_size=200)
            | JSON.map(lambda value: json.dumps(value).encode())
            | st.integers(0, len(small)).map(lambda end: small[:end])
        )
        disposition = f'form-data; name="{name}"' + ("" if file is None else f'; filename="{file}"')
        parts.append(
            b"--x\r\nContent-Disposition: "
            + disposition.encode("utf-8", "surrogatepass")
            + b"\r\n\r\n"
            + content
            + b"\r\n"
        )
    return b"".join(parts) + draw(st.sampled_from([b"--x--\r\n", b"--x", b""]))


def check(response: httpx.Response) -> None:
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.status_code >= 400:
        assert set(response.json()) == {"error", "code"}
    assert "Traceback" not in response.text


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_forged_requests_are_never_a_crash(
    client: httpx.Client, paths: dict[str, dict[str, Any]], ids: list[str], data: st.DataObject
) -> None:
    path = data.draw(st.sampled_from(sorted(paths)))
    method = data.draw(
        st.sampled_from([*(name.upper() for name in paths[path]), "POST", "GET", "HEAD", "PUT"])
    )
    uploads = path.endswith(("/analyses", "/reports"))
    body = data.draw(multiparts() if uploads else bodies(ids))
    kind = data.draw(
        st.sampled_from(
            ["multipart/form-data; boundary=x"] * 4 if uploads else ["application/json"] * 4
        )
        | HEADER
    )
    query = data.draw(
        st.dictionaries(st.sampled_from(["region", "x"]), st.text(max_size=20), max_size=2)
    )
    headers = {"content-type": kind}
    response = client.request(method, path, content=body, headers=headers, params=query)
    if method != "HEAD":
        check(response)
