"""One thread for every numeric library: many on small arrays only hinder each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def one_thread() -> dict[str, str]:
    """Return the environment for it; it works for libraries that are not loaded yet."""
    return dict.fromkeys(VARIABLES, "1")


@contextmanager
def one_thread_in_children() -> Iterator[None]:
    """Let processes that start meanwhile use one thread."""
    before = {name: os.environ.get(name) for name in VARIABLES}
    os.environ.update(one_thread())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
