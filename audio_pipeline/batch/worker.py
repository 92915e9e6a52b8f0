"""What is done with one recording where it is worked on: in a worker process or on a cluster.

Only the cheap half of an analysis runs here (:func:`audio_pipeline.analysis.extract`); predictions
and the store belong to the process that started the batch.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from audio_pipeline.analysis import Extraction, extract
from audio_pipeline.batch.names import is_url, one_line
from audio_pipeline.batch.store import Pending
from audio_pipeline.errors import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.settings import AnalysisSettings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one recording.

    Parameters
    ----------
    pending
        The recording, with the identity it had when it was read.
    digest
        SHA-256 of its content in hexadecimal, where that was asked for.
    extraction
        Segments and features, or the reason of the failure; None where the content is that of the
        earlier result.
    """

    pending: Pending
    digest: str | None
    extraction: Extraction | None


def examine(pending: Pending, settings: AnalysisSettings, *, verify: bool = False) -> Outcome:
    """Look at one recording; what is wrong with it ends up in the outcome, never as an exception.

    Parameters
    ----------
    pending
        The recording.
    settings
        Those of the model.
    verify
        Hash the content; with the same content as before the earlier result stands.
    """
    try:
        if is_url(pending.path):
            from audio_pipeline.batch.remote import fetched

            with fetched(pending.path) as copy:
                return _examine(pending, copy, settings, verify=verify)
        with _opened(pending.path) as file:
            if file is None:
                return Outcome(pending, None, extract(pending.path, settings))
            state = os.fstat(file.fileno())
            now = replace(pending, size=state.st_size, stamp=str(state.st_mtime_ns))
            return _examine(now, file, settings, verify=verify)
    except MemoryError:
        return failure(pending, "there is not enough memory for it")
    except CrepitusError as error:
        return failure(pending, str(error))
    except Exception as error:  # one bad file never harms another, whatever it does to a decoder
        return failure(pending, f"unexpected {type(error).__name__}: {error}")


def _examine(
    pending: Pending, file: BinaryIO, settings: AnalysisSettings, *, verify: bool
) -> Outcome:
    """Look at an open recording."""
    digest = None
    if verify:
        digest = _sha256(file)
        if digest == pending.digest:
            return Outcome(pending, digest, None)
    return Outcome(pending, digest, extract(file, settings))


def _sha256(file: BinaryIO) -> str:
    """Return the hash of a file's content, in hexadecimal."""
    hashed = hashlib.sha256()
    while block := file.read(2**20):
        hashed.update(block)
    return hashed.hexdigest()


@contextmanager
def _opened(path: bytes) -> Iterator[BinaryIO | None]:
    """Open an ordinary file; give None for anything else, which `extract` then finds words for."""
    try:
        # Opening a pipe would wait for somebody to write into it.
        ordinary = stat.S_ISREG(os.stat(path).st_mode)
        file = open(path, "rb", buffering=0) if ordinary else None  # noqa: SIM115
    except OSError:
        file = None
    try:
        yield file
    finally:
        if file is not None:
            file.close()


def examine_all(
    portion: Sequence[Pending], settings: AnalysisSettings, verify: bool
) -> list[Outcome]:
    """Look at some recordings, one after the other."""
    return [examine(pending, settings, verify=verify) for pending in portion]


def failure(pending: Pending, reason: str) -> Outcome:
    """Return the outcome of a recording that cannot be analysed."""
    nothing = np.empty((0, 0), np.float32)
    return Outcome(
        pending,
        None,
        Extraction("", "failed", one_line(reason), None, None, None, (), nothing),
    )
