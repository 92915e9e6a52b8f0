"""One process at a time in an output folder; the system lets go of the lock when a process dies."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from audio_pipeline.audio.discovery import readable
from audio_pipeline.exceptions import InvalidInputError

LOCK_NAME = ".lock"


class FolderLock:
    """Hold a folder until :meth:`release` or the end of the process, however it ends.

    Raises
    ------
    InvalidInputError
        When another process holds the folder, or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        name = readable(os.fsencode(folder))
        try:
            # Descriptors are not inherited by the workers, so these cannot keep the lock alive.
            self._file = os.open(
                folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o644
            )
        except OSError as error:
            raise InvalidInputError(
                f"cannot write in the folder {name!r}: {error.strerror}"
            ) from None
        try:
            _lock(self._file)
        except OSError:
            self.release()
            raise InvalidInputError(
                f"another batch works in {name!r}: wait for it, or use another folder"
            ) from None

    def release(self) -> None:
        """Let the next process in."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _lock(file: int) -> None:
    """Lock an open file or raise OSError when it is locked."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
