"""``crepitus batch``: classify many recordings."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from audio_pipeline.app.cli.options import overwrite_option, trust_option
from audio_pipeline.app.outputs import check_page
from audio_pipeline.app.text import show, show_failures, show_json, visible

if TYPE_CHECKING:
    from audio_pipeline.app.batch.run import BatchRequest


@click.command(
    "batch",
    epilog="Example: crepitus batch recordings/ -o results --format csv,raven",
    short_help="Classify many recordings; resumable.",
)
@click.argument("inputs", nargs=-1, metavar="DIR|FILE|URL...")
@click.option("-o", "--out", required=True, metavar="OUT", help="Folder for the results.")
@click.option(
    "--list",
    "list_file",
    type=click.File("rb"),
    help="A file with names, one on a line or separated by NUL; - is standard input.",
)
@click.option("--jobs", type=click.IntRange(min=1), help="Worker processes; default: all cores.")
@click.option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster, like tcp://host:8786.")
@click.option(
    "--format",
    "formats",
    default="csv",
    show_default=True,
    metavar="NAMES",
    help="Of csv, parquet, jsonl, audacity, raven; separated by commas.",
)
@trust_option
@click.option("--model", type=click.Path(file_okay=False), help="Model folder.")
@click.option("--answers", metavar="TABLE.csv", help="A row of answers a recording.")
@click.option("--report", metavar="FILE.html", help="Also write a summary page.")
@overwrite_option
@click.option("--verify", is_flag=True, help="Trust what files hold, not their time stamps.")
@click.option("--restart", is_flag=True, help="Forget what an earlier run left in OUT.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    inputs: tuple[str, ...],
    out: str,
    list_file: BinaryIO | None,
    jobs: int | None,
    cluster: str | None,
    formats: str,
    model: str | None,
    trusted: bool,
    answers: str | None,
    report: str | None,
    overwrite: bool,
    verify: bool,
    restart: bool,
    as_json: bool,
) -> None:
    """Classify every recording in folders, files, globs, lists and URLs.

    OUT gets events.csv, recordings.csv and run.json. A run that was stopped goes on from there with
    the same command: what is finished is never done again. The exit code is 1 when any recording
    failed; recordings.csv says why.
    """
    from audio_pipeline.app.batch.answers import read_answers
    from audio_pipeline.app.batch.export import check_exports, parse_formats
    from audio_pipeline.app.batch.run import BatchRequest, run_batch
    from audio_pipeline.app.progress import BatchProgress
    from audio_pipeline.audio.discovery import read_list
    from audio_pipeline.model.classifier import load_classifier

    if not inputs and list_file is None:
        raise click.UsageError("name files, a folder or --list")
    read = [*inputs, answers, list_file.name if list_file else None]
    check_page(report, read, overwrite=overwrite)
    chosen = parse_formats(formats)
    check_exports(
        Path(out), chosen, read, batch=True, answers=answers is not None, overwrite=overwrite
    )
    request = BatchRequest(
        inputs=inputs,
        out=Path(out),
        listed=tuple(read_list(list_file)) if list_file else (),
        jobs=jobs,
        cluster=cluster,
        formats=chosen,
        answers=read_answers(Path(answers)) if answers else None,
        verify=verify,
        overwrite=overwrite,
        restart=restart,
    )
    classifier = load_classifier(model, trusted=trusted)
    with _signals_stop():
        ended = run_batch(request, classifier, BatchProgress(sys.stderr))
    if report:
        _write_report(report, request, read, overwrite)
    if as_json:
        failed = [{"recording": name, "error": reason} for name, reason in ended.failures]
        show_json({**ended.document, "failures": failed})
    else:
        counts = ended.counts
        show(
            f"{counts['found']} recordings: {counts['done']} done, {counts['resumed']} from "
            f"before, {counts['failed']} failed, {counts['unusable']} unusable. "
            f"Results in {visible(out)}"
        )
    failures = [*ended.unreadable, *ended.failures]
    total = ended.counts["found"] + len(ended.unreadable)
    show_failures(failures, total, f"{out}/recordings.csv", brief=as_json)


class _Stopped(KeyboardInterrupt):
    """A signal asked to stop: everything ends as after Ctrl-C, but for the exit code."""


@contextmanager
def _signals_stop() -> Iterator[None]:
    """Let SIGTERM and SIGHUP stop the work, which keeps what is finished and ends its workers."""

    def stop(number: int, frame: object) -> None:
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise _Stopped(number)

    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Under nohup a closed terminal stops nothing.
    numbers = [one for one in numbers if signal.getsignal(one) is not signal.SIG_IGN]
    before = {}
    for one in numbers:
        before[one] = signal.signal(one, stop)
    try:
        yield
    except _Stopped as stopped:
        click.echo("Stopped.", err=True)
        raise click.exceptions.Exit(128 + stopped.args[0]) from None
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _write_report(
    file: str, request: BatchRequest, read: list[str | None], overwrite: bool
) -> None:
    """Write the summary page of a finished batch."""
    from audio_pipeline.app.batch.store import StoreReader
    from audio_pipeline.app.reporting.batch_page import write_batch_report

    with StoreReader(request.out) as store:
        rows = ((row.recording, row.document) for row in store.rows())
        if request.answers is not None:
            table = request.answers
            rows = (
                (row.recording, {**row.document, "recommendation": table.recommend(row).to_dict()})
                for row in store.rows()
            )
        write_batch_report(file, rows, inputs=read, overwrite=overwrite)
