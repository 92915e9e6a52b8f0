"""Recordings behind URLs, through fsspec; nothing is fetched that was not named."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from audio_pipeline.audio.discovery import file_system
from audio_pipeline.exceptions import RecordingError

_IN_MEMORY = 32 * 2**20
"""Bytes of a download kept in memory; longer ones go through a temporary file."""


@contextmanager
def fetched(url: bytes) -> Iterator[BinaryIO]:
    """Give the content of a URL as a file that can be sought in; it is gone afterwards.

    Raises
    ------
    RecordingError
        When the server does not give it.
    """
    system, path = file_system(url)
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as copy:
        try:
            with system.open(path, "rb", block_size=0) as source:
                shutil.copyfileobj(source, copy, 2**20)
        except FileNotFoundError:
            raise RecordingError("there is no such file") from None
        except Exception as error:  # every protocol has exceptions of its own
            reason = f"{type(error).__name__} {error}".strip()
            raise RecordingError(f"it cannot be fetched: {reason}") from None
        copy.seek(0)
        yield cast(BinaryIO, copy)
