"""``crepitus export``: the results of a batch in other formats."""

from __future__ import annotations

from pathlib import Path

import click

from audio_pipeline.app.cli.options import overwrite_option
from audio_pipeline.app.text import show, show_json


@click.command(
    "export",
    epilog="Example: crepitus export results --format parquet,audacity",
    short_help="Write the results of a batch in other formats.",
)
@click.argument("out", metavar="OUT")
@click.option(
    "--format",
    "formats",
    required=True,
    metavar="NAMES",
    help="Of csv, parquet, jsonl, audacity, raven; separated by commas.",
)
@click.option(
    "--beside",
    is_flag=True,
    help="Put label files beside the recordings, not into a mirror of their folders in OUT.",
)
@overwrite_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(out: str, formats: str, beside: bool, overwrite: bool, as_json: bool) -> None:
    """Write what a batch found, again or in other formats, without looking at recordings.

    OUT is the folder of the batch. Label files for Audacity and Raven are named after their
    recording, like twist.wav.txt; a file that is already there is never replaced by another.
    """
    from audio_pipeline.app.batch.export import FORMATS, check_exports, parse_formats
    from audio_pipeline.app.batch.label_files import KINDS, write_labels_beside
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
        document = {
            "schema_version": 1,
            "out": out,
            "formats": list(names),
            "recordings": finished,
            "unfinished": totals.found - finished,
            "damaged": recovery is not None,
        }
        show_json(document)
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
