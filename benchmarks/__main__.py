"""Measure everything: ``python -m benchmarks`` (some minutes; ``--quick`` for a look)."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.measure import one_thread

DOCS = Path(__file__).parent.parent / "docs"


@click.command(epilog="Example: python -m benchmarks --against cf6f0c4")
@click.option("--quick", is_flag=True, help="A few files only: is everything there?")
@click.option("--ten-hours", is_flag=True, help="Also a recording of ten hours.")
@click.option("--write", is_flag=True, help="Put the result into docs/performance.md.")
@click.option("--against", metavar="REVISION", help="Only compare with this revision, in turn.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Keep the sounds here.")
def command(
    quick: bool, ten_hours: bool, write: bool, against: str | None, scratch: Path | None
) -> None:
    """Measure speed and memory as ratios in one run."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        # Numeric libraries read this when they are loaded: begin again with it set.
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], one_thread())
    from dataclasses import replace

    from benchmarks import page, table

    scale = table.QUICK if quick else table.Scale()
    if ten_hours:
        scale = replace(scale, lengths=(*scale.lengths, table.TEN_HOURS))
    with tempfile.TemporaryDirectory() as own:
        folder = (scratch or Path(own)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        if against:
            compare(against, folder, quick, write)
            return
        found = table.measure(folder, scale, lambda text: click.echo(text, err=True))
    measured = page.text(found, "performance.svg")
    click.echo(measured)
    if write:
        page.draw(found, DOCS / "performance.svg")
        page.insert(DOCS / "performance.md", measured)
        (DOCS / "performance.json").write_text(json.dumps(found, indent=1) + "\n")


def compare(revision: str, scratch: Path, quick: bool, write: bool) -> None:
    """Compare with a revision."""
    from benchmarks import against, page

    files, rounds = (2, 1) if quick else (32, 10)
    measured = against.text(against.measure(revision, scratch, files, rounds))
    click.echo(measured)
    if write:
        page.insert(DOCS / "performance.md", measured, "compared")


command()
