"""Commands for results that were kept: history and compare."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import click

from audio_pipeline.app.cli.options import json_option, model_options, overwrite_option
from audio_pipeline.app.history import History, counts_by_week, history_page, read_export
from audio_pipeline.app.outputs import check_output, check_page, write_page
from audio_pipeline.app.text import show, show_json, visible
from audio_pipeline.exceptions import CrepitusError


@click.group(
    invoke_without_command=True,
    epilog="Example: crepitus history --from 2026-11-01 page doctor.html",
)
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First day.")
@click.option("--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last day.")
@json_option
@click.pass_context
def history_command(
    context: click.Context,
    first: datetime.datetime | None,
    last: datetime.datetime | None,
    as_json: bool,
) -> None:
    """List the results kept on this machine, with counts by week.

    Nothing is kept unless you ask: record --keep, or serve --history. The counts say what was
    heard. They never say better or worse, because recordings of different days cannot be
    compared.
    """
    context.obj = (first and first.date(), last and last.date())
    if context.invoked_subcommand is not None:
        return
    entries = History().entries(*context.obj)
    weeks = counts_by_week(entries)
    if as_json:
        show_json({"entries": [entry.to_dict() for entry in entries], "weeks": weeks})
        return
    if not entries:
        show("Nothing was kept. To keep a result: crepitus record --keep")
    for entry in entries:
        take = f", with its recording ({entry.take_bytes / 1e6:.1f} MB)" if entry.take_name else ""
        show(
            f"{entry.id:4}  {entry.made:%Y-%m-%d %H:%M}  {entry.finding.replace('_', ' ')}"
            f" ({_count(entry.count('pop'), 'pop')},"
            f" {_count(entry.count('grating'), 'grinding sound')}){take}"
        )
    for week in weeks:
        show(
            f"Week from {week['monday']}: {_count(week['takes'], 'recording')},"
            f" {_count(week['pops'], 'pop')}, {_count(week['gratings'], 'grinding sound')}"
        )


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


@history_command.command()
@click.argument("numbers", metavar="NUMBER...", type=click.IntRange(1), nargs=-1, required=True)
def delete(numbers: tuple[int, ...]) -> None:
    """Delete entries by their numbers. They cannot be brought back."""
    history = History()
    for number in numbers:
        history.entry(number)  # before anything is deleted
    for number in numbers:
        history.delete(number)
    show(f"Deleted: {_count(len(numbers), 'result')}.")


@history_command.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(yes: bool) -> None:
    """Delete everything that was kept, and the file it was kept in."""
    history = History()
    count = len(history.entries())
    if not yes:
        click.confirm(f"Delete {_count(count, 'result')} for good?", abort=True, err=True)
    history.delete_all()
    show(f"Deleted: {_count(count, 'result')}.")


def _passphrase(file: Path | None, *, confirm: bool) -> str:
    """Read a passphrase from the first line of a file, or ask for it."""
    if file is not None:
        lines = file.read_text(encoding="utf-8").splitlines()
        return lines[0] if lines else ""
    asked = click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
    return str(asked)


passphrase_option = click.option(
    "--passphrase-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Its first line is the passphrase; asked for when not given.",
)


@history_command.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--no-takes", is_flag=True, help="Leave the recordings out.")
@passphrase_option
@overwrite_option
def export(file: Path, no_takes: bool, passphrase_file: Path | None, overwrite: bool) -> None:
    """Write everything into one encrypted FILE, to keep or to take to another machine."""
    check_output(file, inputs=[passphrase_file], overwrite=overwrite)
    passphrase = _passphrase(passphrase_file, confirm=True)
    count = History().export(file, passphrase, takes=not no_takes)
    show(f"Exported: {_count(count, 'result')}. Without the passphrase nobody can read them.")


@history_command.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@passphrase_option
def import_(file: Path, passphrase_file: Path | None) -> None:
    """Add the results of an exported FILE to those on this machine."""
    documents = read_export(file, _passphrase(passphrase_file, confirm=False))
    count = History().merge(documents)
    show(f"Added: {_count(count, 'result')} ({len(documents) - count} were there already).")


@history_command.command()
@click.argument("file", metavar="FILE.html", type=click.Path(path_type=Path))
@overwrite_option
@click.pass_obj
def page(
    days: tuple[datetime.date | None, datetime.date | None], file: Path, overwrite: bool
) -> None:
    """Write a page for a doctor; with --from and --to before the word page, for those days."""
    check_page(file, overwrite=overwrite)
    write_page(file, history_page(History().entries(*days), *days), overwrite=overwrite)
    show(f"Written: {file}")


@click.command(epilog="Example: crepitus compare before.wav after.wav")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--same-session",
    is_flag=True,
    help="They are of one session, within 20 minutes, whatever the times of the files say.",
)
@model_options
@json_option
def compare_command(
    first: str, second: str, model: Path | None, same_session: bool, trusted: bool, as_json: bool
) -> None:
    """Compare two takes of one session: recordings, or numbers of crepitus history.

    Says how many sounds each holds, and how large a difference must be to mean anything. Takes
    that are more than 20 minutes apart are not compared, because recordings of free movement
    repeat badly. It never says better or worse.
    """
    from audio_pipeline.app.comparison import NOTES, compare, counted

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
    for note in NOTES:
        show(note)
