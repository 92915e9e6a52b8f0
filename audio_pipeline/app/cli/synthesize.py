"""``crepitus synthesize``: make a labelled synthetic dataset."""

from __future__ import annotations

from pathlib import Path

import click

from audio_pipeline.app.outputs import check_new_folder
from audio_pipeline.app.text import show, show_json, visible


@click.command(epilog="Example: crepitus synthesize -o synthetic --count 300 --seed 1")
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the dataset; new or empty.",
)
@click.option("--count", default=300, show_default=True, help="How many scenes.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same sounds.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(folder: Path, count: int, seed: int, as_json: bool) -> None:
    """Make sounds with exact labels: pops, grinding sounds and everyday sounds.

    Scenes of about 7 seconds and short clips, in WAV's lossless sibling FLAC, with a manifest
    that `train` and `evaluate` read. Figures on made sounds say nothing about real recordings.
    """
    from rich.console import Console
    from rich.progress import Progress

    from audio_pipeline.datasets.synthesis.dataset import write_dataset

    check_new_folder(folder)
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("Making sounds", total=count)
        summary = write_dataset(
            folder, count, seed, progress=lambda done: bar.update(task, completed=done)
        )
    if as_json:
        show_json(summary)
        return
    events = summary["events"]
    assert isinstance(events, dict)
    heard = ", ".join(f"{number} {label}" for label, number in events.items())
    show(f"{count} recordings ({summary['seconds']} s) with {heard} in {visible(str(folder))}")
    show(f"Next: crepitus train {visible(str(folder))} -o my_model")
