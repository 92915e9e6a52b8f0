"""The page for a doctor: what was kept in a range of dates, printable, in one file."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from audio_pipeline.app.history import Entry, counts_by_week
from audio_pipeline.app.reporting.report import render_page
from audio_pipeline.app.reporting.terminal import NAMES, SENTENCES, strength
from audio_pipeline.app.text import visible
from audio_pipeline.triage.messages import Catalogue, load_catalogue


def history_page(
    entries: Sequence[Entry], first: datetime.date | None = None, last: datetime.date | None = None
) -> str:
    """Return the page.

    Parameters
    ----------
    entries
        Oldest first.
    first, last
        The range of dates; that of the entries, or today, when None.

    Returns
    -------
    str
        HTML that needs nothing else. It never says better or worse: recordings of different days
        cannot be compared.
    """
    today = datetime.datetime.now().astimezone().date()
    words = load_catalogue("GB")
    shown = []
    before: Mapping[str, Any] = {}
    for entry in entries:
        shown.append(_shown(entry, before, words))
        before = entry.answers or before
    first = first or (entries[0].made.date() if entries else today)
    last = last or (entries[-1].made.date() if entries else today)
    return render_page(
        "history.html",
        f"Sounds of a back, {first} to {last}",
        first=first,
        last=last,
        entries=shown,
        weeks=counts_by_week(entries),
    )


def _shown(entry: Entry, before: Mapping[str, Any], words: Catalogue) -> dict[str, Any]:
    """Return an entry in words, with the answers that differ from those of the one before."""
    answers = entry.answers or {}
    changed = {name: value for name, value in answers.items() if before.get(name) != value}
    events = [event for event in entry.recording.get("events", ()) if not event["uncertain"]]
    return {
        "made": entry.made.strftime("%A %d %B %Y, %H:%M"),
        "finding": _finding(entry),
        "level": words.level(entry.level, "title") if entry.level else None,
        "events": [
            {
                "time": f"{event['start']:.1f}",
                "label": NAMES.get(event["label"], visible(event["label"])),
                "sure": strength(event["probabilities"][event["label"]]),
            }
            for event in events
        ],
        "answered": bool(answers),
        "answers": [_answer(name, value, words) for name, value in changed.items()],
    }


def _finding(entry: Entry) -> str:
    count = entry.count("pop")
    known = SENTENCES.get(entry.finding, f"Likeliest sound: {visible(entry.finding)}.")
    return known.replace("{pops}", "1 pop" if count == 1 else f"{count} pops")


def _answer(name: str, value: Any, words: Catalogue) -> dict[str, str]:
    try:
        option = str(value) if isinstance(value, int) else words.option(name, str(value))
        return {"question": words.question(name), "option": option}
    except KeyError:  # of a questionnaire that was, or will be
        return {"question": visible(name), "option": visible(str(value))}
