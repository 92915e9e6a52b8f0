"""The recordings a person names on the command line: files, folders, patterns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from audio_pipeline.audio.discovery import discover
from audio_pipeline.exceptions import InvalidInputError


def named_recordings(names: Sequence[str]) -> list[Path]:
    """Return the recordings behind names, by the same rules as ``crepitus batch``.

    Raises
    ------
    InvalidInputError
        When a name is not there, or no recording is found.
    """
    found = sorted({os.fsdecode(one.name) for one in discover(os.fsencode(name) for name in names)})
    if not found:
        raise InvalidInputError(f"no recording in {', '.join(names)}")
    return [Path(name) for name in found]
