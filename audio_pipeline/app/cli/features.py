"""``crepitus features``: write the feature table of recordings."""

from __future__ import annotations

from pathlib import Path

import click

from audio_pipeline.app.cli.options import overwrite_option, trust_option
from audio_pipeline.app.text import show, show_json, visible
from audio_pipeline.exceptions import CrepitusError


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
@click.option("--list", "list_columns", is_flag=True, help="Say what each column means.")
def command(
    files: tuple[str, ...],
    table: Path | None,
    model: str | None,
    trusted: bool,
    overwrite: bool,
    as_json: bool,
    list_columns: bool,
) -> None:
    """Write a row of numbers for every sound found, for those who model elsewhere.

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
    if failed:
        first = failed[0]
        raise CrepitusError(f"{len(failed)} recordings failed: {first.source}: {first.error}")


def _list_columns() -> None:
    from audio_pipeline.features.table import FEATURES

    for feature in FEATURES:
        show(f"{feature.name} [{feature.unit}]: {feature.meaning} ({feature.source})")
