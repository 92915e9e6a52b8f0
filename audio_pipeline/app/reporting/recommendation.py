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

from audio_pipeline.triage.recommendation import Reason, Recommendation
from audio_pipeline.triage.rules import LEVELS, load_tables

PLAIN_WIDTH = 80
_COLOURS = {
    "emergency": "\x1b[1;97;41m",
    "same_day": "\x1b[1;31m",
    "soon": "\x1b[1;33m",
    "routine": "\x1b[1;36m",
    "self_care": "\x1b[1;32m",
}
_RESET = "\x1b[0m"
# Advice that says where to go stands right under the headline; the rest comes later.
_FIRST_ADVICE = ("A-EMERG", "A-MATERNITY", "A-TODAY", "A-SOON", "A-ROUTINE", "A-SELF")
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
    words = recommendation.catalogue
    page = words.messages["page"]
    emergency = recommendation.level == LEVELS[-1]
    lines = _headline(recommendation, width, colour)
    for key, text in recommendation.advice:
        if key in _FIRST_ADVICE:
            lines += _paragraph(text, width)
    lines += _section(page["why"], _reasons(recommendation), width)
    if not emergency:
        lines += _unknown(recommendation, width)
    lines += _section(page["check"], recommendation.disagreements, width)
    if not emergency:
        lines += _section(page["sound"], [recommendation.sound_note], width)
    rest = [text for key, text in recommendation.advice if key not in _FIRST_ADVICE]
    lines += _section(page["advice"], rest, width)
    opening, *watched = (text for _, text in recommendation.safety_net)
    *watched, limits = watched
    lines += _section(page["watch"], watched, width, opening)
    lines += _paragraph(limits, width)
    if highest_reached and LEVELS.index(highest_reached) > LEVELS.index(recommendation.level):
        title = words.level(highest_reached, "title")
        lines += _paragraph(words.text("page", "highest", title=title), width)
    footer = words.text("page", "rules", version=recommendation.rules_version)
    if answered_at:
        footer += " " + words.text("page", "time", time=answered_at)
    lines += _paragraph(footer, width)
    # The headline scrolls out of a small window, so it is said once more where reading ends.
    title = words.level(recommendation.level, "title")
    lines += _paragraph(words.text("page", "again", title=title), width)
    return "\n".join(lines).rstrip() + "\n"


def _headline(recommendation: Recommendation, width: int, colour: bool) -> list[str]:
    words, level = recommendation.catalogue, recommendation.level
    title = f"{words.level(level, 'symbol')} {words.level(level, 'title')}"
    painted = f"{_COLOURS[level]}{title}{_RESET}" if colour else title
    lines = [painted, "=" * min(len(title), width)]
    lines += _paragraph(words.text("page", "see", who=words.level(level, "who")), width)[:-1]
    lines += _paragraph(words.text("page", "by", when=words.level(level, "when")), width)
    return lines


def _reasons(recommendation: Recommendation) -> list[str]:
    """Return the reasons of what is known, highest first, each point once.

    A reason that partly rests on open answers is listed where it decides the level. One that rests
    only on answers that higher reasons have already named adds nothing and is left out here.
    """
    words = recommendation.catalogue
    shown: list[Reason] = []
    named: frozenset[str] = frozenset()
    for reason in recommendation.reasons:
        open_but_deciding = reason.told == "part" and reason.level == recommendation.level
        if (reason.told == "all" or open_but_deciding) and not reason.questions <= named:
            shown.append(reason)
            named |= reason.questions
    if shown:
        return [reason.text for reason in shown[:MOST_REASONS]]
    return [words.text("page", "only_unknown" if recommendation.reasons else "no_reason")]


def _unknown(recommendation: Recommendation, width: int) -> list[str]:
    """List the open gate questions; those of an emergency with what to do if they are true."""
    words = recommendation.catalogue
    questions = [load_tables().questions[name] for name in recommendation.answers.unknown()]
    urgent = [words.urgent(question.id) for question in questions if question.emergency]
    others = [words.topic(question.id) for question in questions if not question.emergency]
    lines: list[str] = []
    if urgent:
        opening = words.text("page", "urgent")
        lines += _section(words.text("page", "unknown"), urgent, width, opening)
    if others:
        title = "" if urgent else words.text("page", "unknown")
        lines += _section(title, others, width, words.text("page", "open"))
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
