"""Commands for recordings: analyze, batch, export, features and segments."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from audio_pipeline.app.cli.options import (
    FiniteRange,
    answers_option,
    formats_option,
    json_option,
    model_options,
    named_recordings,
    output_folder,
    overwrite_option,
    region_option,
)
from audio_pipeline.app.outputs import check_page
from audio_pipeline.app.reporting.terminal import (
    OFFER_QUESTIONS,
    ONLY_THE_SOUND,
    read,
    read_line,
    say,
    show_assessment,
    show_recommendation,
)
from audio_pipeline.app.text import (
    BatchProgress,
    show,
    show_failures,
    show_json,
    steps,
    visible,
)

if TYPE_CHECKING:
    from audio_pipeline.analysis.assessment import Assessment
    from audio_pipeline.analysis.config import AnalysisConfig
    from audio_pipeline.app.batch.run import BatchRequest


@click.command(epilog="Example: crepitus analyze twist.m4a --answers answers.yaml")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@answers_option
@model_options
@click.option("--report", metavar="FILE.html", help="Also write the result as one HTML file.")
@click.option("--embed-audio", is_flag=True, help="Put the sound itself into the report.")
@overwrite_option
@region_option
@click.option("--no-questions", is_flag=True, help="Say what was heard; ask nothing.")
@json_option
def analyze_command(
    files: tuple[str, ...],
    answers_file: str | None,
    model: Path | None,
    trusted: bool,
    report: str | None,
    embed_audio: bool,
    overwrite: bool,
    region: str | None,
    no_questions: bool,
    as_json: bool,
) -> None:
    """Hear what is in recordings; with answers, recommend what to do.

    Any sound or video file that a phone, recorder or browser makes will do. When a single file is
    given at a terminal, it says what it heard and then offers the symptom questions; without
    answers only the sounds are listed.
    """
    from audio_pipeline.triage.answers import load_answers
    from audio_pipeline.triage.messages import default_region

    check_page(report, [*files, answers_file], overwrite=overwrite)
    region = region or default_region()
    answers = load_answers(answers_file) if answers_file else None
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(model, trusted=trusted)
    asks = len(files) == 1 and not (answers_file or as_json or no_questions)
    asks = asks and sys.stdin.isatty()
    from audio_pipeline.analysis.assessment import analyses_to_dict, assess
    from audio_pipeline.analysis.pipeline import analyze_file

    assessments = []
    failures = []
    shown = 0
    try:
        for file in files:
            assessment = assess(analyze_file(file, classifier), answers, region=region)
            assessments.append(assessment)
            analysis = assessment.analysis
            if analysis.status == "failed":
                failures.append((analysis.source, analysis.error or ""))
            elif not as_json:
                if shown:
                    click.echo()
                show_assessment(assessment)
                if assessment.recommendation is None and not asks:
                    click.echo(ONLY_THE_SOUND)
                shown += 1
    finally:  # whatever ended it, what is done is told
        if as_json:
            show_json(analyses_to_dict(assessments, classifier), 2)
    if asks and assessments[0].analysis.finding is not None:
        assessments = [_with_answers(assessments[0], region)]
    if report:
        from audio_pipeline.app.reporting.report import write_report

        write_report(report, assessments, classifier, embed_audio=embed_audio, overwrite=overwrite)
    show_failures(failures, len(files), "--json", brief=as_json)


def _with_answers(assessment: Assessment, region: str) -> Assessment:
    """Offer the questions to the person at the terminal, and say what to do where they answer."""
    from audio_pipeline.analysis.assessment import Assessment, heard
    from audio_pipeline.triage.interview import Interview, ask

    say("")
    say(OFFER_QUESTIONS)
    if read("Enter, or n: ").strip().lower() in ("n", "no", "q"):
        return assessment
    interview = Interview(sound=heard(assessment.analysis))
    if not ask(interview, region=region, read=read_line, write=say):
        return assessment
    recommendation = interview.recommendation(region=region)
    show_recommendation(recommendation, interview.highest_reached)
    return Assessment(assessment.analysis, recommendation)


@click.command(epilog="Example: crepitus batch recordings/ -o results --format csv,raven")
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
@formats_option(default="csv", show_default=True)
@model_options
@click.option("--answers", metavar="TABLE.csv", help="A row of answers a recording.")
@click.option("--report", metavar="FILE.html", help="Also write a summary page.")
@overwrite_option
@click.option("--verify", is_flag=True, help="Trust what files hold, not their time stamps.")
@click.option("--restart", is_flag=True, help="Forget what an earlier run left in OUT.")
@json_option
def batch_command(
    inputs: tuple[str, ...],
    out: str,
    list_file: BinaryIO | None,
    formats: str,
    model: Path | None,
    trusted: bool,
    answers: str | None,
    report: str | None,
    overwrite: bool,
    as_json: bool,
    **simple: Any,
) -> None:
    """Classify every recording in folders, files, globs, lists and URLs.

    OUT gets events.csv, recordings.csv and run.json. A run that was stopped goes on from there with
    the same command: what is finished is never done again. The exit code is 1 when any recording
    failed; recordings.csv says why.
    """
    from audio_pipeline.app.batch.export import check_exports, parse_formats
    from audio_pipeline.app.batch.run import BatchRequest, read_answers, run_batch
    from audio_pipeline.audio.discovery import read_list
    from audio_pipeline.model.classifier import load_classifier

    if not inputs and list_file is None:
        raise click.UsageError("name files, a folder or --list")
    given = [*inputs, answers, list_file.name if list_file else None]
    check_page(report, given, overwrite=overwrite)
    chosen = parse_formats(formats)
    check_exports(
        Path(out), chosen, given, batch=True, answers=answers is not None, overwrite=overwrite
    )
    request = BatchRequest(
        inputs=inputs,
        out=Path(out),
        listed=tuple(read_list(list_file)) if list_file else (),
        formats=chosen,
        answers=read_answers(Path(answers)) if answers else None,
        overwrite=overwrite,
        **simple,
    )
    classifier = load_classifier(model, trusted=trusted)
    with _signals_stop():
        ended = run_batch(request, classifier, BatchProgress(sys.stderr))
    if report:
        _write_report(report, request, given, overwrite)
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
    names = ("SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    # Under nohup a closed terminal stops nothing.
    numbers = [one for one in numbers if signal.getsignal(one) is not signal.SIG_IGN]

    def stop(number: int, frame: object) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_IGN)
        raise _Stopped(number)

    with ExitStack() as undo:
        for one in numbers:
            undo.callback(signal.signal, one, signal.signal(one, stop))
        try:
            yield
        except _Stopped as stopped:
            click.echo("Stopped.", err=True)
            raise click.exceptions.Exit(128 + stopped.args[0]) from None


def _write_report(
    file: str, request: BatchRequest, inputs: list[str | None], overwrite: bool
) -> None:
    """Write the summary page of a finished batch."""
    from audio_pipeline.app.batch.store import StoreReader
    from audio_pipeline.app.reporting.pages import write_batch_report

    def documents(store: StoreReader) -> Iterator[tuple[str, dict[str, Any]]]:
        for row in store.rows():
            told = request.answers and {"recommendation": request.answers.recommend(row).to_dict()}
            yield row.recording, {**row.document, **(told or {})}

    with StoreReader(Path(request.out)) as store:
        write_batch_report(file, documents(store), inputs=inputs, overwrite=overwrite)


@click.command(epilog="Example: crepitus export results --format parquet,audacity")
@click.argument("out", metavar="OUT")
@formats_option(required=True)
@click.option(
    "--beside",
    is_flag=True,
    help="Put label files beside the recordings, not into a mirror of their folders in OUT.",
)
@overwrite_option
@json_option
def export_command(out: str, formats: str, beside: bool, overwrite: bool, as_json: bool) -> None:
    """Write what a batch found, again or in other formats, without looking at recordings.

    OUT is the folder of the batch. Label files for Audacity and Raven are named after their
    recording, like twist.wav.txt; a file that is already there is never replaced by another.
    """
    from audio_pipeline.app.batch.export import (
        FORMATS,
        KINDS,
        check_exports,
        parse_formats,
        write_labels_beside,
    )
    from audio_pipeline.app.batch.store import StoreReader
    from audio_pipeline.app.batch.store_file import GOES_ON, STORE_NAME, shown
    from audio_pipeline.exceptions import CrepitusError

    names = parse_formats(formats)
    folder = Path(out)
    in_folder = [name for name in names if not (beside and name in KINDS)]
    check_exports(folder, in_folder, overwrite=overwrite)
    with StoreReader(folder, accept_damage=True) as store:
        for name in names:
            if beside and name in KINDS:
                write_labels_beside(store, name, overwrite=overwrite)
            else:
                FORMATS[name](store, folder, overwrite)
        totals, recovery = store.totals(), store.recovery
    finished = totals.good + totals.failed
    if as_json:
        show_json(
            {
                "schema_version": 1,
                "out": out,
                "formats": list(names),
                "recordings": finished,
                "unfinished": totals.found - finished,
                "damaged": recovery is not None,
            }
        )
    else:
        show(f"{finished} recordings written as {', '.join(names)}")
    if recovery is not None:
        listed = "" if recovery.listed is None else f" of {recovery.listed}"
        raise CrepitusError(
            f"{shown(folder / STORE_NAME)!r} is damaged: {finished}{listed} recordings are whole "
            f"and written; {GOES_ON}"
        )
    if totals.found > finished:
        show(f"{totals.found - finished} are not finished: run the batch again", err=True)


@click.command(epilog="Example: crepitus features twist.m4a recordings/ -o features.csv")
@click.argument("files", metavar="FILE...", nargs=-1, type=click.Path())
@click.option(
    "-o",
    "--output",
    "table",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="TABLE",
    help="A .csv or .parquet file.",
)
@model_options
@overwrite_option
@json_option
@click.option("--labels", is_flag=True, help="FILE is a labelled dataset, as for `train`.")
@click.option("--list", "list_columns", is_flag=True, help="Say what each column means.")
def features_command(
    files: tuple[str, ...],
    table: Path | None,
    model: Path | None,
    trusted: bool,
    overwrite: bool,
    as_json: bool,
    labels: bool,
    list_columns: bool,
) -> None:
    """Write a row of numbers for every sound found, for those who model elsewhere.

    A labelled dataset, given alone (a CSV file, a folder with manifest.csv, or any other with
    --labels), also gives the columns label and group, as training sees them.

    Segments take their place in seconds; `crepitus features --list` says what the rest means.
    """
    if list_columns:
        from audio_pipeline.features.transformer import FEATURES

        for feature in FEATURES:
            show(f"{feature.name} [{feature.unit}]: {feature.meaning} ({feature.source})")
        return
    if not files or table is None:
        raise click.UsageError("give recordings and -o TABLE, or --list")
    from audio_pipeline.analysis.config import AnalysisConfig
    from audio_pipeline.app.exports import check_table, write_features

    check_table(table, files, overwrite=overwrite)
    settings = AnalysisConfig()
    if model is not None:
        from audio_pipeline.model.classifier import load_classifier

        settings = load_classifier(model, trusted=trusted).settings
    only = Path(files[0])
    if labels and len(files) != 1:
        raise click.UsageError("--labels takes one dataset")
    dataset = only.suffix.lower() == ".csv" or (only / "manifest.csv").is_file()
    if labels or (len(files) == 1 and dataset):
        listening = None if model is None else settings
        _write_labelled(only, table, listening, overwrite, as_json)
        return
    sources = named_recordings(files)
    with steps() as progress:
        rows, failed = write_features(
            sources,
            table,
            settings,
            lambda done, total: progress("Listening", done, total),
            overwrite=overwrite,
        )
    failures = [(one.source, one.error or "") for one in failed]
    _tell_table(table, rows, len(sources), failures, as_json)
    if only.is_dir() and len(files) == 1:
        show("With --labels the folder is a labelled dataset: label and group too", err=True)
    show_failures(failures, len(sources), "--json", brief=as_json)


def _tell_table(
    table: Path, rows: int, recordings: int, failures: list[tuple[str, str]], as_json: bool
) -> None:
    """Say what was written; nothing was where no recording could be read."""
    written = len(failures) < recordings
    if as_json:
        failed = [{"source": source, "error": error} for source, error in failures]
        name = str(table) if written else None
        show_json({"table": name, "rows": rows, "recordings": recordings, "failed": failed})
    elif written:
        show(f"{rows} sounds of {recordings} recordings in {visible(str(table))}")


def _write_labelled(
    source: Path, table: Path, settings: AnalysisConfig | None, overwrite: bool, as_json: bool
) -> None:
    from audio_pipeline.app.exports import check_table, write_labelled_features
    from audio_pipeline.datasets.loading import examples_of, fail_for_unreadable, load_training_data
    from audio_pipeline.datasets.manifest import MANIFEST, SEGMENTS_INDEX, read_dataset

    dataset = read_dataset(source)
    inputs = [source, *(clips[0].path for clips in dataset.recordings.values())]
    inputs += [source / name for name in (MANIFEST, SEGMENTS_INDEX)]  # where it is a folder
    check_table(table, inputs, overwrite=overwrite)
    with steps() as progress:
        material = load_training_data(dataset, settings, progress=progress)
    rows = write_labelled_features(examples_of(material), table, inputs, overwrite=overwrite)
    failures = [(one.name, one.problem) for one in material.heard if one.problem is not None]
    _tell_table(table, rows, len(material.heard), failures, as_json)
    fail_for_unreadable(material.data_warnings)


@click.command(epilog="Example: crepitus segments recordings/ -o to_label")
@click.argument("recordings", metavar="RECORDINGS...", nargs=-1, required=True, type=click.Path())
@output_folder("Folder for the clips")
@model_options
@click.option(
    "--format",
    "tracks",
    type=click.Choice(["audacity", "raven"]),
    default="audacity",
    show_default=True,
    help="Which program will open the label tracks.",
)
@click.option(
    "--around",
    type=FiniteRange(0, 10),
    default=0.5,
    show_default=True,
    help="Seconds kept before and after each sound.",
)
@overwrite_option
@json_option
def segments_command(
    recordings: tuple[str, ...],
    folder: Path,
    model: Path | None,
    trusted: bool,
    tracks: str,
    around: float,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cut out every sound found, each with a label track to correct in Audacity or Raven.

    A label that ends in ? is a guess: remove the ? or change the label, or training leaves it out.
    Then: crepitus train DIR -o MODEL_DIR. The clips of one recording stay together in every split;
    put the folders of one person into one folder to keep that person together.
    """
    from audio_pipeline.app.exports import CutSettings, check_folder, cut_segments
    from audio_pipeline.model.classifier import load_classifier

    check_folder(folder, overwrite=overwrite)
    classifier = load_classifier(model, trusted=trusted)
    sources = named_recordings(recordings)
    with steps() as progress:
        done = cut_segments(
            sources,
            folder,
            classifier,
            CutSettings(around, tracks),
            lambda count, total: progress("Cutting", count, total),
            overwrite=overwrite,
        )
    clips = sum(one.clips for one in done)
    failed = [(one.source, one.error) for one in done if one.error is not None]
    if as_json:
        cut = [vars(one) for one in done]
        show_json({"folder": str(folder), "clips": clips, "recordings": cut})
    else:
        name = visible(str(folder))
        show(f"{clips} sounds of {len(done)} recordings in {name}")
        if clips:
            show(f"Correct the label tracks, then: crepitus train {name} -o my_model")
        elif len(failed) < len(done):
            show("No sound stood out from the background, so there is nothing to label.")
    show_failures(failed, len(done), "--json", brief=as_json)
