"""How a person ends a take: Enter, Ctrl-C, or the system asking the program to end."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from contextlib import AbstractContextManager, ExitStack, suppress
from types import FrameType, TracebackType
from typing import Any


class StopRequest(AbstractContextManager["StopRequest"]):
    """Knows whether somebody asked to stop, so that a take ends between two blocks and is kept.

    While it is in force Ctrl-C raises nothing. Use it from the main thread.
    """

    def __init__(self) -> None:
        self._watches_enter = False
        self._event = threading.Event()
        self._undo = ExitStack()

    def __enter__(self) -> StopRequest:
        """Start to watch."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None:
                continue  # Windows has no hang-up
            if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            self._undo.callback(signal.signal, number, signal.signal(number, self._ask))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put everything back as it was."""
        self._undo.close()

    def watch_enter(self) -> None:
        """From now on Enter on standard input asks to stop, too.

        What was typed before is thrown away: a second, impatient Enter ends nothing. What is
        typed from now on is not echoed, so that it cannot tear the meter.
        """
        self._watches_enter = True
        if os.name == "posix":
            self._undo.callback(_silence_typing(sys.stdin.fileno()))
        _enter_pressed()

    def asked(self) -> bool:
        """Return whether anybody asked to stop."""
        if self._watches_enter and not self._event.is_set() and _enter_pressed():
            self._event.set()
        return self._event.is_set()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._event.set()


def _enter_pressed() -> bool:
    """Return whether a line, or the end of the input, is waiting; takes it away."""
    if sys.platform == "win32":
        import msvcrt

        pressed = False
        while msvcrt.kbhit():
            pressed |= msvcrt.getwch() in "\r\n"
        return pressed
    with suppress(OSError, ValueError):
        descriptor = sys.stdin.fileno()
        if select.select([descriptor], [], [], 0)[0]:
            os.read(descriptor, 4096)
            return True
    return False


def _silence_typing(descriptor: int) -> Any:
    """Turn the terminal's echo off; returns the function that restores it."""
    import termios

    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        return lambda: None
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    return lambda: termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
