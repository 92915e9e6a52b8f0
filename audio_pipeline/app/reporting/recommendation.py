"""A recommendation for people: what is shown of it, in order, and its page at a terminal.

The page on the phone, the saved report and the terminal are drawn from one value, so they cannot
differ. The terminal's page reads well at 80 columns, without colour, and from a screen reader: no
boxes, no tables, one idea a line, headings in words, and every list item starts with a dash. The
level is said in words, with a symbol, and with colour where there is one.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO

from audio_pipeline.triage.messages import Catalogue
from audio_pipeline.triage.recommendation import Explanation, Reason, Recommendation
from audio_pipeline.triage.rules import LEVELS, Source, load_tables

# Advice that says where to go stands right under the headline; the rest comes later.
FIRST_ADVICE = ("A-EMERG", "A-MATERNITY", "A-TODAY", "A-SOON", "A-ROUTINE", "A-SELF")


@dataclass(frozen=True)
class Listing:
    """A list with the sentence that opens it; both empty when there is nothing to list."""

    opening: str = ""
    items: tuple[str, ...] = ()


@dataclass(frozen=True)
class ShownReason:
    """A reason in words, with the keys of its sources."""

    text: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class ShownSource:
    """A publication; `url` is empty where it is a page of our own documentation."""

    key: str
    title: str
    url: str


@dataclass(frozen=True)
class ShownAdvice:
    """A recommendation, ready to be drawn."""

    level: str  # the verdict
    title: str
    who: str
    when: str
    where_to_go: tuple[str, ...]  # what to do first, in sentences
    # reasons of what is known, highest first, each point once; empty when `no_reason` is not
    why: tuple[ShownReason, ...]
    no_reason: str  # said instead, where nothing that was told is a reason
    also: tuple[ShownReason, ...]  # other reasons, for whoever wants to read on
    # safety questions without a clear answer: those of an emergency, and the others
    urgent: Listing
    unknown: Listing
    check: tuple[str, ...]  # answers that cannot all be right
    sound: str  # what the recording means for the result
    explanation: tuple[str, ...]  # why a back cracks, the part that fits what was heard first
    advice: tuple[str, ...]  # what may help
    # what to watch out for: what to call for, what to ask about the same day, and later
    watch: Listing
    watch_today: Listing
    watch_later: Listing
    limits: str  # what this could not check
    unanswered: tuple[str, ...]  # what the questions without an answer are about
    sources: tuple[ShownSource, ...]  # where the reasons come from
    rules: str  # version of the rules, in words


def shown_advice(recommendation: Recommendation) -> ShownAdvice:
    """Put a recommendation into words.

    On an emergency: what it is, its reasons, whom to call and what this could not check; every
    other part is empty.
    """
    words, level = recommendation.catalogue, recommendation.level
    why, also = _split_reasons(recommendation)
    emergency = level == LEVELS[-1]
    if emergency:
        why, also = [reason for reason in why if reason.level == level], []
    urgent, unknown = (Listing(), Listing()) if emergency else _unknowns(recommendation)
    watch = [Listing()] * 3 if emergency else _watch(words)
    nothing = "only_unknown" if recommendation.reasons else "no_reason"
    if all(reason.level == LEVELS[0] for reason in recommendation.reasons):
        nothing = "no_reason"
    advice = recommendation.advice
    return ShownAdvice(
        level=level,
        title=words.level(level, "title"),
        who=recommendation.who,
        when=words.level(level, "when"),
        where_to_go=tuple(text for key, text in advice if key in FIRST_ADVICE),
        why=tuple(map(_shown, why)),
        no_reason="" if why else words.text("page", nothing),
        also=tuple(map(_shown, also)),
        urgent=urgent,
        unknown=unknown,
        check=() if emergency else recommendation.disagreements,
        sound="" if emergency else recommendation.sound_note,
        explanation=tuple(item.text for item in recommendation.explanation),
        advice=() if emergency else tuple(text for key, text in advice if key not in FIRST_ADVICE),
        watch=watch[0],
        watch_today=watch[1],
        watch_later=watch[2],
        limits=words.text("safety_net", load_tables().limits),
        unanswered=()
        if emergency
        else tuple(words.topic(name) for name in recommendation.answers.unanswered()),
        sources=() if emergency else _sources([*why, *also]),
        rules=words.text("page", "rules", version=recommendation.rules_version),
    )


def _watch(words: Catalogue) -> list[Listing]:
    """Return the parts of the safety net, each with what to do."""
    return [
        Listing(
            words.text("safety_net", part.opening),
            tuple(words.text("safety_net", item) for item in part.items),
        )
        for part in load_tables().watch
    ]


def _split_reasons(recommendation: Recommendation) -> tuple[list[Reason], list[Reason]]:
    """Return the main reasons and the others, highest first.

    A reason that partly rests on open answers is a main one where it decides the level. One that
    rests only on answers which a higher reason has named adds nothing to the main ones.
    """
    main: list[Reason] = []
    others: list[Reason] = []
    for reason in recommendation.reasons:
        decides = reason.told == "part" and reason.level == recommendation.level
        named = any(reason.questions <= other.questions for other in main)
        if (reason.told == "all" or decides) and not named:
            main.append(reason)
        elif reason.gate is None and reason.told != "none":
            others.append(reason)
    return main, others


def _unknowns(recommendation: Recommendation) -> tuple[Listing, Listing]:
    """List the gate questions without a clear answer: those of an emergency, and the others."""
    words = recommendation.catalogue
    questions = [load_tables().questions[name] for name in recommendation.answers.unknown()]
    urgent = tuple(words.urgent(each.id) for each in questions if each.emergency)
    others = tuple(words.topic(each.id) for each in questions if not each.emergency)
    return (
        Listing(words.text("page", "urgent"), urgent) if urgent else Listing(),
        Listing(words.text("page", "open"), others) if others else Listing(),
    )


def _shown(reason: Reason) -> ShownReason:
    return ShownReason(reason.text, tuple(source.key for source in reason.sources))


def _sources(reasons: list[Reason]) -> tuple[ShownSource, ...]:
    unique: dict[str, Source] = {
        source.key: source for reason in reasons for source in reason.sources
    }
    return tuple(
        ShownSource(source.key, source.title, source.url if "://" in source.url else "")
        for source in unique.values()
    )


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

    ``width``: columns to wrap at, at least 40.
    ``colour``: whether to add ANSI colour to the headline. It never carries anything the words do
        not.
    ``highest_reached``: the highest level while the person answered, where it was above the result.
    ``answered_at``: when the answers were given, in words; left out when empty.
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


def explanation_page(explanation: Iterable[Explanation], words: Catalogue) -> str:
    """Write why a back cracks, with its sources; lines joined by newlines, one at the end."""
    width = PLAIN_WIDTH
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
