"""What has to happen once before librosa can work, said to the person who waits for it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path


def announce_compilation() -> None:
    """Say on standard error that librosa compiles, when it will, and find a place for its cache.

    librosa before 1.0 compiles numba functions for about half a minute at its first use, and keeps
    the result beside its own files. Where these cannot be written, every run would compile again:
    the cache then goes to the user's cache folder.
    """
    if importlib.metadata.version("librosa").split(".")[0] != "0" or "numba" in sys.modules:
        return
    found = importlib.util.find_spec("librosa")
    if found is None or found.origin is None:
        return
    beside = Path(found.origin).parent / "util" / "__pycache__"
    folder = beside
    if "NUMBA_CACHE_DIR" in os.environ:
        folder = Path(os.environ["NUMBA_CACHE_DIR"])
    elif not os.access(beside if beside.is_dir() else beside.parent, os.W_OK):
        import platformdirs

        folder = platformdirs.user_cache_path("crepitus") / "numba"
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["NUMBA_CACHE_DIR"] = str(folder)
    if not any(folder.rglob("*.nbi")):
        print(
            "First run: librosa compiles its code, once. This takes up to half a minute.",
            file=sys.stderr,
            flush=True,
        )
