"""``crepitus segments``: cut out every sound found, with label tracks to correct."""

from __future__ import annotations

from pathlib import Path

import click

from audio_pipeline.app.cli.options import FiniteRange, overwrite_option, trust_option
from audio_pipeline.app.text import show, show_failures, show_json, visible


@click.command(epilog="Example: crepitus segments recordings/ -o to_label")
@click.argument("recordings", metavar="RECORDINGS...", nargs=-1, required=True, type=click.Path())
@click.option(
    "-o",
    "--output",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the clips; new or empty.",
)
@trust_option
@click.option("--model", metavar="DIR", help="The model that suggests labels.")
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    recordings: tuple[str, ...],
    folder: Path,
    model: str | None,
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
    from audio_pipeline.app.export_segments import CutSettings, check_folder, cut_segments
    from audio_pipeline.app.progress import steps
    from audio_pipeline.app.sources import named_recordings
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
    failed = [one for one in done if one.error is not None]
    if as_json:
        document = {
            "folder": str(folder),
            "clips": clips,
            "recordings": [
                {"source": one.source, "clips": one.clips, "error": one.error} for one in done
            ],
        }
        show_json(document)
    else:
        show(f"{clips} sounds of {len(done)} recordings in {visible(str(folder))}")
        show(f"Correct the label tracks, then: crepitus train {visible(str(folder))} -o my_model")
    show_failures(
        [(one.source, one.error or "") for one in failed], len(done), "--json", brief=as_json
    )
