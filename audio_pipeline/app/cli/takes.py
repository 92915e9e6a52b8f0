"""``crepitus takes``: put labelled clips into recordings as a person makes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from audio_pipeline.app.cli.options import allow_outside_option, where_option
from audio_pipeline.app.outputs import check_new_folder
from audio_pipeline.app.text import show, show_json, visible


@click.command(epilog="Example: crepitus takes my_clips -o my_takes --count 240 --seed 1")
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the takes; new or empty.",
)
@click.option("--count", default=240, show_default=True, help="How many takes.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same takes.")
@click.option("--guided/--free", default=None, help="All guided, or none; half of them otherwise.")
@click.option(
    "--folds",
    default=10,
    show_default=True,
    type=click.IntRange(min=2),
    help="A take is made of clips of one of so many folds of whole groups.",
)
@where_option
@allow_outside_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    dataset: Path,
    folder: Path,
    count: int,
    seed: int,
    guided: bool | None,
    folds: int,
    where: dict[str, str],
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Put labelled clips into recordings of twenty seconds, with their truth.

    Each has a room, noise, the phone being laid down and picked up, everyday sounds, and none, one
    or two joint sounds; half are guided, as `record` makes them. `evaluate` then says how often the
    finding is right, uncertain or wrong.
    """
    from audio_pipeline.app.progress import steps
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.datasets.takes import TakeSettings, write_takes

    check_new_folder(folder)
    given = read_dataset(dataset, allow_outside=allow_outside)
    given = given.where(where) if where else given
    settings = TakeSettings()
    if guided is not None:
        settings = replace(settings, guided=float(guided))
    with steps() as progress:
        summary = write_takes(
            given,
            folder,
            count,
            seed,
            settings,
            folds,
            lambda done: progress("Making takes", done, count),
        )
    if as_json:
        show_json(summary)
        return
    found = ", ".join(f"{number} {name}" for name, number in summary["findings"].items())
    name = visible(str(folder))
    show(f"{count} takes ({summary['seconds']:.0f} s) in {name}; to be found: {found}")
    show(f"Next: crepitus evaluate {name}")
