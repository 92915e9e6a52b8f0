"""The terminal page of a recommendation: plain text first, colour only as an extra.

It reads well at 80 columns, without colour, and from a screen reader: no boxes, no tables, one idea
a line, headings in words, and every list item starts with a dash. The level is said in words, with
a symbol, and with colour where there is one.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from typing import TextIO

from audio_pipeline.app.reporting.wording import ShownAdvice, shown_advice
from audio_pipeline.triage.explanation import Explanation
from audio_pipeline.triage.messages import Catalogue
from audio_pipeline.triage.recommendation import Recommendation
from audio_pipeline.triage.rules import LEVELS, Source, load_tables

PLAIN_WIDTH = 80
_COLOURS = {
    "emergency": "\x1b[1;97;41m",
    "same_day": "\x1b[1;31m",
    "soon": "\x1b[1;33m",
    "routine": "\x1b[1;36m",
    "self_care": "\x1b[1;32m",
}
_RESET = "\x1b[0m"
MOST_REASONS = 6
"""Reasons printed; all of them are in the JSON document."""


def wants_colour(stream: TextIO) -> bool:
    """Return whether a stream is a terminal whose person has not asked for plain text."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def recommendation_page(
    recommendation: Recommendation,
    *,
    width: int = PLAIN_WIDTH,
    colour: bool = False,
    highest_reached: str | None = None,
    answered_at: str = "",
) -> str:
    """Write the page of a recommendation.

    Parameters
    ----------
    recommendation
        What to say.
    width
        Columns to wrap at, at least 40.
    colour
        Whether to add ANSI colour to the headline. It never carries anything the words do not.
    highest_reached
        The highest level while the person answered, where it was above the result.
    answered_at
        When the answers were given, in words; left out when empty.

    Returns
    -------
    str
        Lines joined by newlines, with one at the end.
    """
    width = max(width, 40)
    shown = shown_advice(recommendation)
    words = recommendation.catalogue
    page = words.messages["page"]
    lines = _headline(shown, words, width, colour)
    for text in shown.where_to_go:
        lines += _paragraph(text, width)
    why = [reason.text for reason in shown.why[:MOST_REASONS]] or [shown.no_reason]
    lines += _section(page["why"], why, width)
    if shown.level == LEVELS[-1]:
        return "\n".join([*lines, *_paragraph(shown.limits, width)]).rstrip() + "\n"
    lines += _section(page["unknown"], shown.urgent.items, width, shown.urgent.opening)
    title = "" if shown.urgent.items else page["unknown"]
    lines += _section(title, shown.unknown.items, width, shown.unknown.opening)
    lines += _section(page["check"], shown.check, width)
    lines += _section(page["sound"], [shown.sound], width)
    lines += _section(page["advice"], shown.advice, width)
    if shown.explanation:
        lines += [page["explanation"], "-" * len(page["explanation"])]
        lines += _paragraph(shown.explanation[0], width)[:-1]
        lines += _paragraph(page["more"], width)
    title = page["watch"]
    for part in (shown.watch, shown.watch_today, shown.watch_later):
        lines += _section(title, part.items, width, part.opening)
        title = ""
    lines += _paragraph(shown.limits, width)
    if highest_reached and LEVELS.index(highest_reached) > LEVELS.index(recommendation.level):
        title = words.level(highest_reached, "title")
        lines += _paragraph(words.text("page", "highest", title=title), width)
    footer = shown.rules
    if answered_at:
        footer += " " + words.text("page", "time", time=answered_at)
    lines += _paragraph(footer, width)
    # The headline scrolls out of a small window, so it is said once more where reading ends.
    lines += _paragraph(words.text("page", "again", title=shown.title), width)
    return "\n".join(lines).rstrip() + "\n"


def explanation_page(
    explanation: Iterable[Explanation], words: Catalogue, *, width: int = PLAIN_WIDTH
) -> str:
    """Write why a back cracks, with its sources; lines joined by newlines, one at the end."""
    width = max(width, 40)
    title = words.text("why", "title")
    lines = [title, "=" * min(len(title), width), ""]
    sources: dict[str, Source] = {}
    for item in explanation:
        sources |= {source.key: source for source in item.sources}
        keys = ", ".join(source.key for source in item.sources)
        lines += _paragraph(f"{item.text} [{keys}]", width)
    lines += _paragraph(words.text("why", "symptoms"), width)
    listed = [
        f"{source.key}: {source.title}" + (f" {source.url}" if "://" in source.url else "")
        for source in sources.values()
    ]
    lines += _section(words.text("why", "sources"), listed, width)
    lines += _paragraph(words.text("safety_net", load_tables().limits), width)
    return "\n".join(lines).rstrip() + "\n"


def _headline(shown: ShownAdvice, words: Catalogue, width: int, colour: bool) -> list[str]:
    title = f"{words.level(shown.level, 'symbol')} {shown.title}"
    painted = f"{_COLOURS[shown.level]}{title}{_RESET}" if colour else title
    lines = [painted, "=" * min(len(title), width)]
    lines += _paragraph(words.text("page", "see", who=shown.who), width)[:-1]
    lines += _paragraph(words.text("page", "by", when=shown.when), width)
    return lines


def _paragraph(text: str, width: int) -> list[str]:
    return [*textwrap.wrap(text, width, break_on_hyphens=False), ""]


def _section(title: str, items: Iterable[str], width: int, opening: str = "") -> list[str]:
    lines: list[str] = []
    for item in items:
        lines += textwrap.wrap(
            item, width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False
        )
    if not lines:
        return []
    intro = textwrap.wrap(opening, width, break_on_hyphens=False)
    heading = [title, "-" * len(title)] if title else []
    return [*heading, *intro, *lines, ""]
