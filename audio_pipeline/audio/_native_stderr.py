"""What C libraries print on their own, kept away from people."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Silence what PortAudio and ALSA print themselves, while Python's own stderr goes on.

    They write their trace straight to file descriptor 2, from threads of their own, for example
    when a device is pulled out. What matters of it reaches us as an exception.
    """
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error, hence no chatter
        yield
        return
    python_stderr = sys.stderr
    moved = None
    try:
        python_stderr.flush()
        if python_stderr.fileno() == 2:
            moved = os.fdopen(
                os.dup(2),
                "w",
                buffering=1,
                encoding=python_stderr.encoding,
                errors="backslashreplace",
            )
            sys.stderr = moved
    except (AttributeError, OSError, ValueError):  # replaced by something without a descriptor
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        if moved is not None:
            if sys.stderr is moved:
                sys.stderr = python_stderr
            moved.close()
