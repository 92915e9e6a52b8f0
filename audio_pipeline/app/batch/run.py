"""A whole batch: list, look at what is pending, predict, keep, export."""

from __future__ import annotations

import csv
import os
import platform
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from joblib import cpu_count

from audio_pipeline._version import __version__
from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import Extraction, classify_segments
from audio_pipeline.app.batch.export import (
    FORMATS,
    RECOMMENDATION_COLUMNS,
    SCHEMA_VERSION,
    check_exports,
    parse_formats,
    write_tables,
)
from audio_pipeline.app.batch.store import Pending, Result, Row, RunStore, StoreReader
from audio_pipeline.app.batch.store_file import STORE_NAME, Recovery, shown
from audio_pipeline.app.batch.workers import (
    Chunks,
    InProcess,
    LocalWorkers,
    Outcome,
    examine_all,
    failure,
)
from audio_pipeline.app.outputs import remove_leftovers, write_json, write_rows
from audio_pipeline.app.text import BatchProgress
from audio_pipeline.audio.discovery import discover, readable
from audio_pipeline.exceptions import CrepitusError, InvalidInputError, one_line
from audio_pipeline.files import csv_text
from audio_pipeline.model.classifier import Classifier
from audio_pipeline.triage.answers import Answers, parse_row
from audio_pipeline.triage.recommendation import Recommendation, Sound, recommend

_SEGMENTS_AT_ONCE = 1000
_RECORDINGS_AT_ONCE = 100
_SECONDS_AT_ONCE = 5.0
"""Finished work is predicted and kept when there is this much of it, or after this time: enough for
cheap predictions and few commits, and so little that workers go on meanwhile."""


_RECORDINGS_A_WORKER = 32
_BYTES_A_WORKER = 4 * 2**20
"""Less work than this for each is done before another worker has started."""


class Executor(Protocol):
    """Whatever looks at recordings: this process, worker processes, a cluster."""

    def outcomes(
        self, pending: Iterator[Pending], settings: AnalysisConfig, *, verify: bool
    ) -> Iterator[Outcome]:
        """Yield an outcome for every recording, in any order."""

    def close(self) -> None:
        """End it."""


@dataclass(frozen=True)
class BatchRequest:
    """What a batch is asked to do.

    Parameters
    ----------
    inputs : sequence of str, bytes or path
        Files, folders, globs and URLs; a single one may stand alone.
    out : path or str
        The folder for the store and the exports; made when it is not there.
    listed : sequence of bytes
        Further names from a list; a missing one is a failed recording, never a refusal.
    jobs : int or None
        Worker processes, >= 1; 1 for everything in this process, None for one a processor.
    cluster : str or None
        Address of a Dask scheduler to work there, like ``tcp://host:8786``.
    formats : sequence of str
        Exports besides the tables: names of :data:`audio_pipeline.app.batch.export.FORMATS`, or a
        text like ``"parquet,raven"``.
    answers : AnswersTable or None
        Answers by recording, for recommendations; :func:`read_answers` reads them.
    verify : bool
        Trust the content of files, not their time stamps.
    restart : bool
        Forget what an earlier run left in `out`.
    overwrite : bool
        Replace what is in `out` by name, whoever made it.

    Raises
    ------
    InvalidInputError
        For an unknown format or one whose package is not installed, and for fewer than one job.
    """

    inputs: Sequence[str | bytes | os.PathLike[str]]
    out: Path | str
    listed: Sequence[bytes] = ()
    jobs: int | None = None
    cluster: str | None = None
    formats: Sequence[str] = ()
    answers: AnswersTable | None = None
    verify: bool = False
    restart: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        given: Any = self.inputs
        inputs = (given,) if isinstance(given, str | bytes | os.PathLike) else tuple(given)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "formats", parse_formats(self.formats))
        if self.jobs is not None and self.jobs < 1:
            raise InvalidInputError(f"jobs must be 1 or more, not {self.jobs}; None for all")


@dataclass(frozen=True)
class BatchReport:
    """How a batch ended.

    Attributes
    ----------
    document : dict
        What ``run.json`` holds.
    failures : tuple of (str, str)
        Name and reason of every failed recording, by name; empty when none failed.
    unreadable : tuple of (str, str)
        Name and reason of every folder that could not be read.
    """

    document: dict[str, Any]
    failures: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]

    @property
    def counts(self) -> dict[str, int]:
        """Found, done, resumed, failed, unusable."""
        counts: dict[str, int] = self.document["counts"]
        return counts

    @property
    def all_well(self) -> bool:
        """Whether nothing failed."""
        return not self.failures and not self.unreadable


def run_batch(
    request: BatchRequest, classifier: Classifier, progress: BatchProgress | None = None
) -> BatchReport:
    """Classify many recordings; what is finished is never done again, see :class:`RunStore`.

    Parameters
    ----------
    request : BatchRequest
        What is asked.
    classifier : Classifier
        The model.
    progress : BatchProgress, optional
        Is told what is finished; by default nothing is shown.

    Returns
    -------
    BatchReport
        A recording that failed is among its `failures` and raises nothing. The results are in the
        tables of ``request.out``, which are there, with a header alone, also when no sound was
        found.

    Raises
    ------
    InvalidInputError
        Before any work: nothing to do, a folder that cannot be read, a folder `out` in use, of
        other settings or another model, or with a file of a person's in it, a cluster that does
        not fit.
    CrepitusError
        When the work cannot go on, for a full disk for instance; what is finished is kept.
    """
    return _Batch(request, classifier, progress or BatchProgress()).run()


class _Batch:
    def __init__(
        self, request: BatchRequest, classifier: Classifier, progress: BatchProgress
    ) -> None:
        self._request = request
        self._out = Path(request.out)
        self._classifier = classifier
        self._progress = progress
        self._unreadable: list[tuple[str, str]] = []
        self._started = datetime.now(UTC)
        self._clock = time.monotonic()

    def run(self) -> BatchReport:
        request = self._request
        key = {
            "settings": self._classifier.settings.to_dict(),
            "model": self._classifier.sha256,
            "labels": list(self._classifier.labels),
        }
        check_exports(
            self._out,
            request.formats,
            map(os.fsdecode, request.inputs),
            batch=True,
            answers=request.answers is not None,
            overwrite=request.overwrite,
        )
        with RunStore(self._out, key, restart=request.restart) as store:
            remove_leftovers(self._out)
            if store.recovery is not None:
                self._progress.tell(_what_was_lost(self._out, store.recovery))
            try:
                self._list(store)
            except InvalidInputError:
                # Whoever reads the tables finds them, but never fewer rows than there were.
                if not (self._out / "recordings.csv").exists():
                    self._export(store, resumed=0)
                raise
            resumed = self._work(store)
            with self._progress:
                return self._export(store, resumed=resumed)

    def _list(self, store: RunStore) -> None:
        """Put everything that is found into the store, and refuse to find nothing."""
        request = self._request
        found = store.replace_listing(
            discover(
                map(os.fsencode, request.inputs),
                request.listed,
                skip=os.fsencode(self._out),
                unreadable=lambda name, reason: self._unreadable.append((name, reason)),
            )
        )
        if not found:
            names = ", ".join(repr(readable(os.fsencode(name))) for name in request.inputs)
            raise InvalidInputError(
                f"no recording in {names or 'the list'}: name files or a folder"
            )

    def _work(self, store: RunStore) -> int:
        """Look at everything pending; return how many results from before stood."""
        request = self._request
        found = store.totals().found
        pending, size = store.extent(verify=request.verify)
        resumed = found - pending
        if not pending:
            return resumed
        self._progress.begin(found, pending, size)
        gathered = _Gathered(store, self._classifier, self._progress)
        # The workers first: the display has a thread, and a process with threads is not forked.
        with closing(_executor(request, pending, size)) as executor, self._progress:
            outcomes = executor.outcomes(
                store.pending(verify=request.verify),
                self._classifier.settings,
                verify=request.verify,
            )
            try:
                for outcome in outcomes:
                    gathered.add(outcome)
            finally:
                # Also after Ctrl-C: what has been looked at need not be looked at again.
                gathered.keep()
        return resumed + gathered.unchanged

    def _export(self, store: RunStore, *, resumed: int) -> BatchReport:
        request, out = self._request, self._out
        write_tables(store, out)
        for name in request.formats:
            if name != "csv":
                FORMATS[name](store, out, request.overwrite)
        if request.answers is not None:
            request.answers.write_recommendations(store, out)
        totals = store.totals()
        finished = datetime.now(UTC)
        document = {
            "schema_version": SCHEMA_VERSION,
            "software": f"crepitus {__version__}",
            "model": {"name": self._classifier.name, "sha256": self._classifier.sha256},
            "settings": self._classifier.settings.to_dict(),
            "inputs": [readable(os.fsencode(name)) for name in request.inputs],
            "jobs": request.jobs,
            "cluster": request.cluster,
            "formats": list(request.formats),
            "versions": versions(),
            "started": self._started.isoformat(timespec="seconds"),
            "finished": finished.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 3),
            "audio_seconds": round(self._progress.audio_seconds, 3),
            "counts": {
                "found": totals.found,
                "done": totals.good - resumed,
                "resumed": resumed,
                "failed": totals.failed,
                "unusable": totals.unusable,
            },
            "recovered": store.recovery and asdict(store.recovery),
            "unreadable_folders": [name for name, _ in self._unreadable],
            "answers_without_recording": list(
                request.answers.without_recording(store) if request.answers else ()
            ),
        }
        write_json(out / "run.json", document)
        failures = tuple(
            (row.recording, row.document["error"] or "") for row in store.rows(status="failed")
        )
        return BatchReport(document, failures, tuple(self._unreadable))


def _executor(request: BatchRequest, pending: int, size: int) -> Executor:
    """Return what is going to do the work on so many recordings and bytes."""
    if request.cluster:
        return Cluster(request.cluster)
    worth_while = 1 + pending // _RECORDINGS_A_WORKER + size // _BYTES_A_WORKER
    jobs = min(request.jobs or cpu_count(), pending, worth_while)
    return InProcess(Path(request.out)) if jobs == 1 else LocalWorkers(jobs)


def _what_was_lost(out: Path, recovery: Recovery) -> str:
    """Say what became of a damaged store."""
    lost = "others may be" if recovery.lost is None else f"{recovery.lost} are"
    kept = f" (the damaged file is now {recovery.damaged})" if recovery.damaged else ""
    return (
        f"{shown(out / STORE_NAME)!r} was damaged{kept}: {recovery.kept} results are whole and "
        f"kept, {lost} lost; what is lost is done again"
    )


@dataclass
class _Gathered:
    """Outcomes on their way into the store."""

    store: RunStore
    classifier: Classifier
    progress: BatchProgress
    unchanged: int = 0
    _outcomes: list[Outcome] = field(default_factory=list)
    _segments: int = 0
    _since: float = field(default_factory=time.monotonic)

    def add(self, outcome: Outcome) -> None:
        """Take one; keep all when there is enough of them."""
        self._outcomes.append(outcome)
        if outcome.extraction is not None:
            self._segments += len(outcome.extraction.segments)
        if (
            self._segments >= _SEGMENTS_AT_ONCE
            or len(self._outcomes) >= _RECORDINGS_AT_ONCE
            or time.monotonic() - self._since >= _SECONDS_AT_ONCE
        ):
            self.keep()

    def keep(self) -> None:
        """Predict and put into the store what has been gathered."""
        results = list(_results(self._outcomes, self.classifier))
        if results:
            self.store.save(results)
        # Only now: Ctrl-C in the middle keeps them for another try.
        self._outcomes, self._segments = [], 0
        self._since = time.monotonic()
        new = [one.document for one in results if one.document is not None]
        self.unchanged += len(results) - len(new)
        self.progress.advance(
            recordings=len(results),
            size=sum(one.size or 0 for one in results),
            audio_seconds=sum(document["duration"] or 0.0 for document in new),
            failed=sum(document["status"] == "failed" for document in new),
        )


def _results(outcomes: Iterable[Outcome], classifier: Classifier) -> Iterator[Result]:
    """Turn outcomes into results, predicting for all of them at once."""
    outcomes = list(outcomes)
    made = documents([one.extraction for one in outcomes if one.extraction], classifier)
    for one in outcomes:
        document = None if one.extraction is None else next(made)
        pending = one.pending
        yield Result(pending.path, pending.size, pending.mtime_ns, one.digest, document)


def documents(
    extractions: Sequence[Extraction], classifier: Classifier
) -> Iterator[dict[str, Any]]:
    """Yield the document of every recording, in order, from one prediction for all of them.

    A classifier answers for each segment whatever others it is asked about, and documents hold
    rounded numbers, so nothing depends on how recordings were gathered.

    ``classifier``: the model; asked once for all of them.
    """
    tables = [one.table for one in extractions if one.segments]
    nothing = np.empty((0, len(classifier.feature_names)), np.float32)
    probabilities = classifier.predict_proba(np.concatenate([nothing, *tables]))
    start = 0
    for extraction in extractions:
        stop = start + len(extraction.segments)
        yield classify_segments(extraction, probabilities[start:stop], classifier).to_dict()
        start = stop


_LARGEST = 2**30
"""Bytes of a table; a million recordings with every question answered have about half of it."""


@dataclass(frozen=True)
class AnswersTable:
    """Checked answers by the name of their recording."""

    answers: dict[str, Answers]

    def write_recommendations(self, store: StoreReader, out: Path) -> None:
        """Write ``recommendations.csv``, a row for every recording, failed ones too."""
        write_rows(
            out / "recommendations.csv", RECOMMENDATION_COLUMNS, map(self._values, store.rows())
        )

    def _values(self, row: Row) -> tuple[Any, ...]:
        """Return a recording's values for :data:`RECOMMENDATION_COLUMNS`."""
        told = self.recommend(row)
        rules = ";".join(dict.fromkeys(reason.rule for reason in told.reasons))
        return row.recording, told.level, told.incomplete, told.no_self_manipulation, rules

    def recommend(self, row: Row) -> Recommendation:
        """Return the recommendation for one recording."""
        finding = row.document["finding"]
        sound = Sound(finding["label"], finding["confidence"]) if finding else None
        return recommend(self.answers.get(row.recording, Answers()), sound)

    def without_recording(self, store: StoreReader) -> tuple[str, ...]:
        """Return the names in the table that the batch does not know."""
        return tuple(sorted(self.answers.keys() - {row.recording for row in store.rows()}))


def read_answers(path: Path) -> AnswersTable:
    """Read and check a whole table.

    Raises InvalidInputError when it cannot be read, has an unknown column or answer, or two rows
    for one recording.
    """
    name = readable(os.fsencode(path))
    answers: dict[str, Answers] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if os.fstat(file.fileno()).st_size > _LARGEST:
                raise InvalidInputError(f"{name!r} is too large for a table of answers")
            table = csv.reader(file, strict=True)
            header = [column.strip() for column in next(table, [])]
            _check_header(header, name)
            for values in table:
                if not values:
                    continue
                where = f"{name}, line {table.line_num}"
                if len(values) != len(header):
                    raise InvalidInputError(
                        f"{where}: {len(values)} values for {len(header)} columns; "
                        "an unanswered question is an empty cell"
                    )
                row = dict(zip(header, values, strict=True))
                recording = csv_text(row.pop("recording"))
                if recording in answers:
                    raise InvalidInputError(f"{where}: a second row for {recording!r}; keep one")
                answers[recording] = parse_row(row, where)
    except OSError as error:
        raise InvalidInputError(f"cannot read the answers {name!r}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(f"{name!r} is no CSV table in UTF-8: {error}") from None
    return AnswersTable(answers)


def _check_header(header: list[str], name: str) -> None:
    """Refuse a header without recordings, with unknown questions or with one twice."""
    if "recording" not in header:
        raise InvalidInputError(
            f"{name!r} has no column 'recording'; its first line names the columns"
        )
    for column in header:
        if header.count(column) > 1:
            raise InvalidInputError(f"{name!r} has two columns {column!r}; keep one")
    parse_row({column: "" for column in header if column != "recording"}, name)


# The same work on a Dask cluster: the scheduler's workers extract, this process does the rest. A
# worker that is killed takes nothing with it: its recordings are given to others. One that brings
# worker after worker down is called failed.

_PACKAGES = ("numpy", "scipy", "librosa", "soxr", "soundfile", "av", "scikit-learn", "skops")
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
                if theirs.get(name) != ours:
                    raise InvalidInputError(
                        f"worker {worker} has {name} {theirs.get(name)}, here it is {ours}: "
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
