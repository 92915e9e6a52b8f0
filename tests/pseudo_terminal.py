"""A person at a terminal: starts a program on a pseudo-terminal, reads its screen, types."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

COLUMNS, LINES = 80, 40
_NEW_LINE = re.compile(r"\r+\n|\r|\x1b\[[0-9]*A")
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")


class Person:
    """Runs ``crepitus`` on a terminal of 80 columns.

    Parameters
    ----------
    *words : str
        Its arguments.
    cwd : Path
        Where.
    extra : dict
        Environment variables to set.
    """

    def __init__(self, *words: str, cwd: Path, extra: dict[str, str] | None = None) -> None:
        pty = pytest.importorskip("pty", reason="no pseudo-terminals on this system")
        import fcntl
        import struct
        import termios

        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

        def take_terminal() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, "-m", "audio_pipeline", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
            env=os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)} | (extra or {}),
            preexec_fn=take_terminal,
            close_fds=True,
        )
        os.close(theirs)
        os.set_blocking(self._ours, False)
        self.raw = ""
        self._read_to = 0

    @property
    def screen(self) -> str:
        """Everything written so far, without colours and cursor movements."""
        self._pump()
        return _CONTROL.sub("", _NEW_LINE.sub("\n", self.raw))

    def wait_for(self, *texts: str, seconds: float = 30.0) -> None:
        """Wait until one of the texts appears after the last text waited for."""
        pattern = re.compile("|".join(map(re.escape, texts)))
        deadline = time.monotonic() + seconds
        while (found := pattern.search(self.screen, self._read_to)) is None:
            ended = self.process.poll() is not None
            assert time.monotonic() < deadline, f"no {texts} on the screen:\n{self.screen}"
            assert not ended or pattern.search(self.screen), f"ended before:\n{self.screen}"
            time.sleep(0.02)
        self._read_to = found.end()

    def type(self, text: str) -> None:
        """Type something; a line ends with a newline, Ctrl-C is ``\\x03``."""
        os.write(self._ours, text.encode())

    def leave(self, seconds: float = 30.0) -> int:
        """Wait for the program to end; returns its exit code."""
        deadline = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"does not end:\n{self.screen}"
            self._pump()
            time.sleep(0.02)
        self._pump()
        os.close(self._ours)
        return self.process.returncode

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(10)

    def _pump(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 65536)
            except (BlockingIOError, OSError):
                return
            if not piece:
                return
            self.raw += piece.decode("utf-8", "replace")
