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
    """True once somebody asked to stop, so that a take ends between two blocks and is kept.

    While it is in force Ctrl-C raises nothing. Use it from the main thread.

    Parameters
    ----------
    watch_enter : bool
        Enter on standard input asks to stop too. What is typed meanwhile is not echoed, so that
        it cannot tear the meter, and is thrown away.
    """

    def __init__(self, watch_enter: bool = False) -> None:
        self._watch_enter = watch_enter
        self._asked = threading.Event()
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
        if self._watch_enter and os.name == "posix":
            self._undo.callback(_silence_typing(sys.stdin.fileno()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put everything back as it was."""
        self._undo.close()

    def __bool__(self) -> bool:
        """Return whether to stop."""
        if self._watch_enter and not self._asked.is_set() and _enter_pressed():
            self._asked.set()
        return self._asked.is_set()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._asked.set()


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
    termios.tcsetattr(descriptor, termios.TCSADRAIN, silent)
    return lambda: termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
