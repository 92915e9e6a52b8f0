"""The same work on a Dask cluster: the scheduler's workers extract, this process does the rest.

A worker that is killed takes nothing with it: its recordings are given to others. One that brings
worker after worker down is called failed.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from audio_pipeline._version import __version__
from audio_pipeline.app.batch.store import Pending
from audio_pipeline.app.batch.workers import Chunks, Outcome, examine_all, failure
from audio_pipeline.exceptions import CrepitusError, InvalidInputError, one_line

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig

_PACKAGES = ("numpy", "scipy", "librosa", "soxr", "soundfile", "av")
_CHUNK = 16
_CHUNK_BYTES = 16 * 2**20
"""A task ends with this many recordings or bytes: some tenths of a second of work."""

_AHEAD = 3
"""Tasks in flight for every thread of the cluster."""

_REACH_SECONDS = 10


@cache  # asking takes milliseconds, and every chunk asks
def _package_versions() -> dict[str, str]:
    return {one: version(one) for one in _PACKAGES}


def versions() -> dict[str, str]:
    """Return the versions that decide what comes out of an extraction."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"crepitus": __version__, "python": python} | _package_versions()


class Cluster:
    """The workers of a Dask scheduler.

    ``address``: of the scheduler, like ``tcp://host:8786``.
    Raises InvalidInputError when Dask is not installed here, or the workers have other versions
    than this process; CrepitusError when the scheduler cannot be reached or has no workers.
    """

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise InvalidInputError(
                "--cluster needs Dask: pip install 'crepitus[cluster]'"
            ) from None
        try:
            self._client = Client(address, timeout=_REACH_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise CrepitusError(
                f"no cluster at {address!r}: {one_line(str(error))}; is the scheduler running?"
            ) from None
        try:
            self._check(address)
        except BaseException:
            self.close()
            raise

    def _check(self, address: str) -> None:
        """Compare the versions of all workers with ours."""
        try:
            there: dict[str, Any] = self._client.run(versions)
        except Exception as error:
            raise InvalidInputError(
                f"the workers of {address!r} cannot run Crepitus {__version__}: "
                f"{one_line(str(error))}; install it on all of them"
            ) from None
        if not there:
            raise CrepitusError(f"the cluster at {address!r} has no workers: start some")
        here = versions()
        for worker, theirs in sorted(there.items()):
            for name, ours in here.items():
                if theirs[name] != ours:
                    raise InvalidInputError(
                        f"worker {worker} has {name} {theirs[name]}, here it is {ours}: "
                        "results would differ; install the same on all"
                    )

    def outcomes(
        self, pending: Iterator[Pending], settings: AnalysisConfig, *, verify: bool
    ) -> Iterator[Outcome]:
        """Yield an outcome for every recording, in no particular order."""
        from distributed import as_completed

        chunks: dict[Any, list[Pending]] = {}
        finished = as_completed(loop=self._client.loop)

        def submit(chunk: list[Pending]) -> None:
            future = self._client.submit(examine_all, chunk, settings, verify, pure=False)
            chunks[future] = chunk
            finished.add(future)

        waiting = Chunks(pending, count=_CHUNK, size=_CHUNK_BYTES)

        def submit_next() -> None:
            if chunk := waiting.next():
                submit(chunk)

        for _ in range(_AHEAD * max(1, sum(self._client.nthreads().values()))):
            submit_next()
        while chunks:
            future = next(finished)
            chunk = chunks.pop(future)
            if future.status == "finished":
                yield from future.result()
                submit_next()
            elif future.status != "error":
                raise CrepitusError(
                    "the cluster is gone; what is finished is kept, the same command goes on"
                )
            elif len(chunk) > 1:
                for one in chunk:
                    submit([one])
            else:
                yield failure(chunk[0], _reason(future.exception()))
                submit_next()
            future.release()

    def close(self) -> None:
        """Leave the cluster; its workers stay."""
        self._client.close()


def _reason(error: BaseException | None) -> str:
    """Say why a task with a single recording failed."""
    if type(error).__name__ == "KilledWorker":
        return "its decoder crashed on every worker that tried"
    return one_line(f"unexpected {type(error).__name__}: {error}")
