"""``crepitus features``: write the feature table of recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from audio_pipeline.app.cli.options import overwrite_option, trust_option
from audio_pipeline.app.text import show, show_failures, show_json, visible

if TYPE_CHECKING:
    from audio_pipeline.analysis.config import AnalysisConfig


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
@trust_option
@click.option("--model", metavar="DIR", help="Use the settings of this model; else the defaults.")
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.option("--labels", is_flag=True, help="FILE is a labelled dataset, as for `train`.")
@click.option("--list", "list_columns", is_flag=True, help="Say what each column means.")
def command(
    files: tuple[str, ...],
    table: Path | None,
    model: str | None,
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
        _list_columns()
        return
    if not files or table is None:
        raise click.UsageError("give recordings and -o TABLE, or --list")
    from audio_pipeline.analysis.config import AnalysisConfig
    from audio_pipeline.app.feature_table import check_table, write_features
    from audio_pipeline.app.progress import steps
    from audio_pipeline.app.sources import named_recordings

    check_table(table, files, overwrite=overwrite)
    settings = AnalysisConfig()
    if model is not None:
        from audio_pipeline.model.classifier import load_classifier

        settings = load_classifier(model, trusted=trusted).settings
    if labels or _is_dataset(files):
        if len(files) != 1:
            raise click.UsageError("--labels takes one dataset")
        listening = None if model is None else settings
        _write_labelled(Path(files[0]), table, listening, overwrite, as_json)
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
    if as_json:
        problems = [{"source": one.source, "error": one.error} for one in failed]
        document = {"table": str(table), "rows": rows, "recordings": len(sources)}
        show_json({**document, "failed": problems})
    else:
        show(f"{rows} sounds of {len(sources)} recordings in {visible(str(table))}")
    show_failures(
        [(one.source, one.error or "") for one in failed], len(sources), "--json", brief=as_json
    )


def _is_dataset(files: tuple[str, ...]) -> bool:
    only = Path(files[0])
    return len(files) == 1 and (only.suffix.lower() == ".csv" or (only / "manifest.csv").is_file())


def _write_labelled(
    source: Path, table: Path, settings: AnalysisConfig | None, overwrite: bool, as_json: bool
) -> None:
    from audio_pipeline.app.feature_table import write_labelled_features
    from audio_pipeline.app.progress import steps
    from audio_pipeline.datasets.loading import examples_of, fail_for_unreadable, gather
    from audio_pipeline.datasets.manifest import read_dataset

    dataset = read_dataset(source)
    inputs = [source, *(clips[0].path for clips in dataset.recordings.values())]
    with steps() as progress:
        material = gather(dataset, settings, progress=progress)
    rows = write_labelled_features(examples_of(material), table, inputs, overwrite=overwrite)
    failed = [one for one in material.heard if one.problem is not None]
    if as_json:
        problems = [{"source": one.name, "error": one.problem} for one in failed]
        document = {"table": str(table), "rows": rows, "recordings": len(material.heard)}
        show_json({**document, "failed": problems})
    else:
        show(f"{rows} sounds of {len(material.heard)} recordings in {visible(str(table))}")
    fail_for_unreadable(material.data_warnings)


def _list_columns() -> None:
    from audio_pipeline.features.table import FEATURES

    for feature in FEATURES:
        show(f"{feature.name} [{feature.unit}]: {feature.meaning} ({feature.source})")
