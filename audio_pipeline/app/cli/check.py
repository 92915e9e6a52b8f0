"""``crepitus check``: what works on this machine."""

from __future__ import annotations

import click

from audio_pipeline.app.text import show, show_json

MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(epilog="Example: crepitus check")
@click.option("--device", metavar="NAME", help="Microphone: its name, part of it, or its number.")
@click.option("--model", metavar="DIR", help="Model folder; the shipped one by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(device: str | None, model: str | None, as_json: bool) -> None:
    """Say whether this machine is ready: sound card, microphone, codecs, model.

    Tries each for real: decodes a tiny file of every format, analyses a test sound, records
    three seconds. The exit code is 1 when recordings could not be analysed here; a missing
    microphone is only a note.
    """
    import shutil
    import textwrap

    from audio_pipeline.app.readiness import TAKE_SECONDS, check_machine
    from audio_pipeline.exceptions import CrepitusError

    width = shutil.get_terminal_size().columns - 1
    show(
        f"This takes some seconds. Near its end it records {TAKE_SECONDS:.0f} seconds: "
        "please keep quiet.",
        err=True,
    )
    checks = []
    for check in check_machine(device, model):
        checks.append(check)
        if not as_json:
            text = f"{MARKS[check.status]}  {check.name}: {check.text}"
            show(textwrap.fill(text, width, subsequent_indent=" " * 9))
    problems = [check.name for check in checks if check.status == "problem"]
    if as_json:
        document = {"ready": not problems, "checks": [check.to_dict() for check in checks]}
        show_json(document, 2)
    if problems:
        raise CrepitusError(f"this machine is not ready: see {', '.join(problems)} above")
    if not as_json:
        notes = [check.name for check in checks if check.status == "note"]
        show(f"Ready, with notes on: {', '.join(notes)}." if notes else "Ready.")
