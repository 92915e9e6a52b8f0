"""Firefox without a driver program: WebDriver BiDi over its own port.

Debian's Firefox cannot be driven by Playwright, which wants a build of its own; the protocol's few
commands that the tests need are plain JSON over a WebSocket.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

PREFERENCES = {
    # A made microphone that plays tones, and no question about it.
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    # No network but ours.
    "app.update.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
    "remote.active-protocols": 1,
}


class Tab:
    """One tab: scripts are run in its page and return plain values."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._command(
            "session.new", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}}
        )
        tree = self._command("browsingContext.getTree", {})
        self._context = tree["contexts"][0]["context"]

    def _command(self, method: str, params: dict[str, Any]) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            reply = json.loads(self._socket.recv(timeout=60))
            if reply.get("id") != number:
                continue
            assert reply["type"] == "success", reply
            return reply["result"]

    def goto(self, url: str) -> None:
        """Open a page and wait until it is loaded."""
        self._command(
            "browsingContext.navigate", {"context": self._context, "url": url, "wait": "complete"}
        )

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        result = self._command(
            "script.evaluate",
            {
                "expression": f"(async () => JSON.stringify((await ({script})) ?? null))()",
                "target": {"context": self._context},
                "awaitPromise": True,
                "userActivation": True,
            },
        )
        assert result["type"] == "success", result
        return json.loads(result["result"]["value"])

    def wait_for(self, script: str, seconds: float = 60) -> None:
        """Wait until an expression is true in the page."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({script})"):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.1)

    def click(self, selector: str) -> None:
        """Click what a selector finds, as soon as it can be seen."""
        self.wait_for(f"document.querySelector({selector!r})?.checkVisibility()")
        self.evaluate(f"document.querySelector({selector!r}).click()")


@contextmanager
def firefox(folder: Path, environment: dict[str, str]) -> Iterator[Tab]:
    """Run a headless Firefox with a new profile in ``folder`` and more in its environment."""
    assert FIREFOX is not None
    lines = [f"user_pref({name!r}, {json.dumps(value)});" for name, value in PREFERENCES.items()]
    (folder / "user.js").write_text("\n".join(lines).replace("'", '"'))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        FIREFOX,
        "--headless",
        "--profile",
        str(folder),
        "--remote-debugging-port",
        str(port),
    ]
    process = subprocess.Popen(
        command,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with _connected(port) as bidi:
            yield Tab(bidi)
    finally:
        process.terminate()
        process.wait(20)


def _connected(port: int) -> Any:
    end = time.monotonic() + 60
    while True:
        try:
            return connect(f"ws://127.0.0.1:{port}/session", max_size=None)
        except OSError:
            assert time.monotonic() < end, "Firefox did not start"
            time.sleep(0.2)
