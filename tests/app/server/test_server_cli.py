"""``crepitus serve`` and ``crepitus review`` as a person starts and stops them."""

from __future__ import annotations

import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import segno
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from server_support import sound_file, twist

from audio_pipeline.app.cli import app as command_line
from audio_pipeline.app.cli.study import qr_code


@contextmanager
def started(*arguments: str) -> Iterator[tuple[str, list[str]]]:
    """Start a command; yield its page's address and what it printed until then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "audio_pipeline", *arguments, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CONFIG_HOME": tempfile.mkdtemp()},
    )
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if address := re.search(r'(?: is at |"address": ")(https?://[^\s"]+)', line):
                yield address[1], lines
                break
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


@pytest.mark.slow
def test_serve_answers_on_this_machine_and_stops_well() -> None:
    with started("serve") as (address, _):
        assert address.startswith("http://127.0.0.1:")
        assert httpx.get(address).status_code == 200
        assert httpx.get(f"{address}api/v1/health").json()["status"] == "ok"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["serve", "review"])
def test_a_page_is_told_of_in_one_document(tmp_path: Path, name: str) -> None:
    (tmp_path / "pop").mkdir()
    (tmp_path / "pop" / "a.wav").write_bytes(sound_file(twist()))
    given = [str(tmp_path)] if name == "review" else []
    with started(name, *given, "--json") as (address, lines):
        assert json.loads("".join(lines))["address"] == address
        assert httpx.get(address).status_code == 200


@pytest.mark.slow
def test_phone_prints_a_code_and_lets_nothing_else_in() -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_mode = ssl.CERT_NONE
    with started("serve", "--phone") as (address, lines):
        assert address.startswith("https://")
        assert any("▀" in line for line in lines)
        with httpx.Client(verify=trusting) as client:
            assert client.get(f"{address}api/v1/health").status_code == 200
            origin = "/".join(address.split("/")[:3])
            assert client.get(f"{origin}/api/v1/health").status_code == 403


@pytest.mark.slow
def test_review_opens_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "pop").mkdir()
    (tmp_path / "pop" / "a.wav").write_bytes(sound_file(twist()))
    with started("review", str(tmp_path)) as (address, _):
        assert httpx.get(f"{address}api/review").json()["total"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--region", "XX"], "region"),
        (["serve", "--model", "/nowhere"], "nowhere"),
        (["review", "/nowhere"], "nowhere"),
    ],
)
def test_what_is_refused_before_any_work(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(command_line, arguments)
    assert result.exit_code != 0
    assert said in str(result.exception) + result.output


@pytest.mark.parametrize("name", ["serve", "review"])
def test_help_ends_with_an_example(name: str) -> None:
    printed = CliRunner().invoke(command_line, [name, "--help"]).stdout
    assert "Example: crepitus" in printed.strip().splitlines()[-1]


@settings(max_examples=20, deadline=None)
@given(st.text("abcdefgh/:.0123456789", min_size=1, max_size=80))
def test_the_printed_code_is_the_code(text: str) -> None:
    rows = [list(row) for row in segno.make(text, error="l").matrix_iter(border=2)]
    printed = qr_code(text, colour=False).split("\n")
    halves = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}
    read = [[halves[block][half] for block in line] for line in printed for half in (0, 1)]
    assert read[: len(rows)] == [[int(bool(module)) for module in row] for row in rows]


def test_help_starts_quickly() -> None:
    started_at = time.process_time()
    CliRunner().invoke(command_line, ["serve", "--help"])
    assert time.process_time() - started_at < 1
