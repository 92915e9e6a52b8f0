"""What is done with one recording where it is worked on: in a worker process or on a cluster.

Only the cheap half of an analysis runs here (`segment_recording` and `extract_features` of
:mod:`audio_pipeline.analysis.pipeline`); predictions and the store belong to the process that
started the batch.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from audio_pipeline.analysis.pipeline import (
    Extraction,
    SegmentedRecording,
    extract_features,
    segment_recording,
)
from audio_pipeline.app.batch.store import Pending
from audio_pipeline.audio.discovery import is_url
from audio_pipeline.exceptions import CrepitusError, one_line
from audio_pipeline.features.table import FEATURES

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig


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


def examine_all(
    portion: Sequence[Pending],
    settings: AnalysisConfig,
    verify: bool,
    before: Callable[[Pending], None] = lambda pending: None,
) -> list[Outcome]:
    """Look at some recordings; what is wrong with one ends up in its outcome, not as an exception.

    Parameters
    ----------
    portion
        The recordings.
    settings
        Those of the model.
    verify
        Hash the content; with the same content as before the earlier result stands.
    before
        Told about each recording before it is opened.
    """
    heard = []
    for pending in portion:
        before(pending)
        heard.append(_guarded(pending, lambda one: _hear(one, settings, verify=verify)))
    known = [one.hearing for one in heard if one.hearing is not None]
    try:
        described = iter(extract_features(known, settings))
    except Exception:
        # Something is wrong with one of them: with which one shows when they are alone.
        return [_alone(one, settings) for one in heard]
    return [
        Outcome(one.pending, one.digest, None if one.hearing is None else next(described))
        for one in heard
    ]


def examine(pending: Pending, settings: AnalysisConfig, *, verify: bool = False) -> Outcome:
    """Look at one recording, as :func:`examine_all`."""
    return examine_all([pending], settings, verify)[0]


@dataclass(frozen=True, slots=True)
class _Heard:
    """An outcome under way; no hearing where the earlier result stands."""

    pending: Pending
    digest: str | None
    hearing: SegmentedRecording | None


def _guarded(pending: Pending, hear_one: Callable[[Pending], _Heard]) -> _Heard:
    """Turn whatever goes wrong with a recording into a failed one."""
    try:
        return hear_one(pending)
    except MemoryError:
        reason = "there is not enough memory for it"
    except CrepitusError as error:
        reason = str(error)
    except Exception as error:  # one bad file never harms another, whatever it does to a decoder
        reason = f"unexpected {type(error).__name__}: {error}"
    return _Heard(pending, None, SegmentedRecording(_failed(reason)))


def _alone(heard: _Heard, settings: AnalysisConfig) -> Outcome:
    """Describe one recording."""
    if heard.hearing is None:
        return Outcome(heard.pending, heard.digest, None)
    try:
        return Outcome(heard.pending, heard.digest, extract_features([heard.hearing], settings)[0])
    except Exception as error:
        return failure(heard.pending, f"unexpected {type(error).__name__}: {error}")


def _hear(pending: Pending, settings: AnalysisConfig, *, verify: bool) -> _Heard:
    """Open and hear a recording."""
    if is_url(pending.path):
        from audio_pipeline.app.batch.remote import fetched

        with fetched(pending.path) as copy:
            return _hear_file(pending, copy, settings, verify=verify)
    with _opened(pending.path) as file:
        if file is None:
            return _Heard(pending, None, segment_recording(pending.path, settings))
        state = os.fstat(file.fileno())
        now = replace(pending, size=state.st_size, mtime_ns=str(state.st_mtime_ns))
        return _hear_file(now, file, settings, verify=verify)


def _hear_file(
    pending: Pending, file: BinaryIO, settings: AnalysisConfig, *, verify: bool
) -> _Heard:
    """Hear an open recording."""
    digest = None
    if verify:
        digest = _sha256(file)
        if digest == pending.digest:
            return _Heard(pending, digest, None)
    return _Heard(pending, digest, segment_recording(file, settings))


def _sha256(file: BinaryIO) -> str:
    """Return the hash of a file's content, in hexadecimal."""
    hashed = hashlib.sha256()
    while block := file.read(2**20):
        hashed.update(block)
    return hashed.hexdigest()


@contextmanager
def _opened(path: bytes) -> Iterator[BinaryIO | None]:
    """Open an ordinary file; give None for anything else, for which an error is made later."""
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


def failure(pending: Pending, reason: str) -> Outcome:
    """Return the outcome of a recording that cannot be analysed."""
    return Outcome(pending, None, _failed(reason))


def _failed(reason: str) -> Extraction:
    nothing = np.empty((0, len(FEATURES)), np.float32)
    return Extraction("", "failed", one_line(reason), None, None, None, (), nothing)
