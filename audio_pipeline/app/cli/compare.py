"""``crepitus compare``: two takes of one session side by side."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from audio_pipeline.app.cli.options import trust_option
from audio_pipeline.app.text import show, show_json, visible


@click.command(epilog="Example: crepitus compare before.wav after.wav")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--model", metavar="DIR", type=click.Path(path_type=Path), help="Model folder.")
@click.option(
    "--same-session",
    is_flag=True,
    help="They are of one session, within 20 minutes, whatever the times of the files say.",
)
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    first: str, second: str, model: Path | None, same_session: bool, trusted: bool, as_json: bool
) -> None:
    """Compare two takes of one session: recordings, or numbers of crepitus history.

    Says how many sounds each holds, and how large a difference must be to mean anything. Takes
    that are more than 20 minutes apart are not compared, because recordings of free movement
    repeat badly. It never says better or worse.
    """
    from audio_pipeline.app.comparison import compare, counted
    from audio_pipeline.app.history import History
    from audio_pipeline.exceptions import CrepitusError

    classifier: Any = None
    takes = []
    for given in (first, second):
        path = Path(given)
        if given.isdigit() and not path.exists():
            entry = History().entry(int(given))
            takes.append(counted(given, dict(entry.recording), entry.model, entry.made))
            continue
        from audio_pipeline.analysis.pipeline import analyze_file
        from audio_pipeline.model.classifier import load_classifier

        classifier = classifier or load_classifier(model, trusted=trusted)
        analysis = analyze_file(path, classifier)
        if analysis.status != "ok":
            raise CrepitusError(f"{given}: {analysis.error}")
        made = datetime.datetime.fromtimestamp(path.stat().st_mtime).astimezone()
        takes.append(counted(given, analysis.to_dict(), classifier.sha256, made))
    result = compare(*takes, same_session=same_session)
    if as_json:
        show_json(result.to_dict())
        return
    show(f"First: {visible(first)}. Second: {visible(second)}.")
    for each in result.differences:
        show(each.text())
    for note in result.to_dict()["notes"]:
        show(note)
