"""``crepitus train``: train a model on labelled recordings."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(epilog="Example: crepitus train my_recordings -o my_model")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for the model; new or empty.",
)
@click.option(
    "--start-from",
    "base",
    type=click.Path(path_type=Path),
    metavar="MODEL_DIR|default",
    help="Add these recordings to what a model knows; for few recordings.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model.")
@click.option("--folds", default=5, show_default=True, help="Folds of the cross-validation.")
@click.option("--trees", default=250, show_default=True, help="Trees of each of the two kinds.")
@click.option("--name", default="", help="Name of the model.")
@click.option(
    "--ignore-groups",
    is_flag=True,
    help="Report figures although people sit on both sides of a split; they are too good.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    dataset: Path,
    folder: Path,
    base: Path | None,
    seed: int,
    folds: int,
    trees: int,
    name: str,
    ignore_groups: bool,
    as_json: bool,
) -> None:
    """Train a model on labelled recordings, and say honestly how good it is.

    DATASET is a CSV file or a folder: with manifest.csv (file,label,group), with one sub-folder a
    label, or with label tracks beside the recordings. Any labels will do.
    """
    from audio_pipeline.classifier import load_classifier
    from audio_pipeline.cli.progress import steps
    from audio_pipeline.training.dataset import read_dataset
    from audio_pipeline.training.fit import FitSettings
    from audio_pipeline.training.train import TrainSettings, train
    from audio_pipeline.training.tuning import TuningSettings

    if trees < 1 or folds < 2:
        raise click.UsageError("--trees must be at least 1 and --folds at least 2")
    fit = FitSettings(trees=trees)
    settings = TrainSettings(
        TuningSettings(fit=fit, trees=min(60, trees), seed=seed), folds, ignore_groups, name
    )
    start = None
    if base is not None:
        start = load_classifier(None if str(base) == "default" else base)
    with steps() as progress:
        result = train(read_dataset(dataset), folder, settings, start, progress=progress)
    document = {"model": str(folder), **result.document()}
    if as_json:
        click.echo(json.dumps(document, allow_nan=False))
        return
    from audio_pipeline.training.summary import training_page

    click.echo(training_page(result, str(folder)))
