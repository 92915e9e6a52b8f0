"""``crepitus evaluate``: measure a model on labelled recordings."""

from __future__ import annotations

from pathlib import Path

import click

from audio_pipeline.app.cli.options import (
    allow_outside_option,
    overwrite_option,
    trust_option,
    where_option,
)
from audio_pipeline.app.outputs import check_page
from audio_pipeline.app.text import show, show_json, visible


@click.command(epilog="Example: crepitus evaluate my_recordings --report evaluation.html")
@click.argument("dataset", type=click.Path(path_type=Path))
@trust_option
@click.option("--model", type=click.Path(path_type=Path), metavar="MODEL_DIR", help="The model.")
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html", help="A page."
)
@overwrite_option
@allow_outside_option
@where_option
@click.option("--by", multiple=True, metavar="COLUMN", help="Also report by a manifest's column.")
@click.option(
    "--group-by",
    default="group",
    help="Manifest column that keeps recordings together.",
)
@click.option(
    "--allow-overlap",
    is_flag=True,
    help="Count what the model was trained on; the figures are then too good.",
)
@click.option(
    "--controls",
    is_flag=True,
    help="Ask whether the labels can be told from what holds no such sound.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    dataset: Path,
    model: Path | None,
    trusted: bool,
    report: Path | None,
    overwrite: bool,
    allow_outside: bool,
    where: dict[str, str],
    by: tuple[str, ...],
    group_by: str,
    allow_overlap: bool,
    controls: bool,
    as_json: bool,
) -> None:
    """Measure a model on labelled recordings it was not trained on.

    DATASET is a CSV file or a folder as for `train`. One answer a recording: recall, precision and
    coverage by label, group and condition, false alarms, calibration, and how well recording
    conditions alone would do. With a column `kind` every kind of a label weighs alike, rows whose
    column `doubt` says yes are shown apart, and recordings whose column `finding` says what should
    be found in them (see `takes`) are judged as wholes.
    """
    from audio_pipeline.app.progress import steps
    from audio_pipeline.datasets.loading import fail_for_unreadable
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.model.classifier import load_classifier
    from audio_pipeline.model.evaluation import evaluate

    check_page(report, [dataset], overwrite=overwrite)
    classifier = load_classifier(model, trusted=trusted)
    given = read_dataset(dataset, group_by, allow_outside=allow_outside)
    read = [dataset, *(clip.path for clips in given.recordings.values() for clip in clips)]
    check_page(report, read, overwrite=overwrite)
    given = given.where(where) if where else given
    with steps() as progress:
        evaluation = evaluate(
            given, classifier, by=by, allow_overlap=allow_overlap, progress=progress
        )
        if controls:
            from audio_pipeline.model.controls import with_controls

            progress("Asking what holds no sound", 0, 1)
            evaluation = with_controls(evaluation, classifier=classifier)
    if report is not None:
        from audio_pipeline.app.outputs import write_page
        from audio_pipeline.app.reporting.evaluation_page import evaluation_page

        write_page(report, evaluation_page(evaluation), read, overwrite=overwrite)
    if as_json:
        show_json(evaluation.to_dict())
    else:
        from audio_pipeline.app.reporting.model_card import evaluation_text

        show(evaluation_text(evaluation))
        if report is not None:
            show(f"Report: {visible(str(report))}")
    fail_for_unreadable(evaluation.data_warnings)
