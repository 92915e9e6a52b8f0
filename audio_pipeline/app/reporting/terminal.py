"""What was heard in a recording, as a page of plain text.

Every sign is doubled in words, so that it reads well without colour and aloud.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from audio_pipeline.app.text import visible

if TYPE_CHECKING:
    from audio_pipeline.analysis.events import Event
    from audio_pipeline.analysis.pipeline import Analysis

WIDTH: Final = 78
MOST_EVENTS: Final = 12

SENTENCES: Final = {
    "single_pop": "We heard {pops}.",
    "repeated_pops": "We heard {pops}.",
    "grating": "We heard a grinding sound.",
    "mixed": "We heard {pops} and a grinding sound.",
    "nothing_recognised": "We heard no pop and no grinding sound.",
    "uncertain": "We heard something, but we cannot tell what it was.",
    "unusable": "We cannot use this recording.",
}
MEANINGS: Final = {
    "single_pop": "A sound alone cannot show what is happening inside your back.",
    "repeated_pops": "A sound alone cannot show what is happening inside your back.",
    "grating": "A sound alone cannot show what is happening inside your back.",
    "mixed": "A sound alone cannot show what is happening inside your back.",
    "nothing_recognised": "This tells you nothing good or bad about your back.",
    "uncertain": "A tap, a key or clothes can sound the same. You can record again.",
    "unusable": "Please record again; the notes below say what to change.",
}
NAMES: Final = {"pop": "pop", "grating": "grinding sound", "other": "other sound"}
_MARKS: Final = {"pop": "P", "grating": "G", "other": "o"}
_STRENGTH: Final = ((0.8, "likely"), (0.6, "possible"))


def finding_sentence(analysis: Analysis) -> str:
    """Return the finding of an analysis that has one in one sentence for people."""
    assert analysis.finding is not None
    count = sum(event.label == "pop" and not event.uncertain for event in analysis.events)
    pops = "1 pop" if count == 1 else f"{count} pops"
    label = analysis.finding.label
    return (
        SENTENCES[label].format(pops=pops)
        if label in SENTENCES
        else f"Likeliest sound: {visible(label)}."
    )


def strength(confidence: float) -> str:
    """Return a confidence in a word; percentages promise more than was measured."""
    return next((word for least, word in _STRENGTH if confidence >= least), "unsure")


def event_line(event: Event) -> str:
    """Return one event in one line."""
    name = NAMES.get(event.label) or visible(event.label)
    sure = "unsure" if event.uncertain else strength(event.probabilities[event.label])
    return f"{event.start:7.2f} s  {name} ({sure}): {visible(' '.join(event.reasons))}"


def analysis_page(analysis: Analysis, width: int = WIDTH) -> str:
    """Write what was heard in one recording, ending with a newline.

    A recording that failed is one line.
    """
    name = visible(analysis.source)
    if analysis.finding is None or analysis.duration is None:
        return f"{name}: failed: {visible(analysis.error or '')}\n"
    title = f"{name} ({analysis.duration:.1f} s)"
    lines = [title, "=" * min(len(title), width), ""]
    lines += timeline(analysis.events, analysis.duration, width)
    lines += _wrapped(finding_sentence(analysis), width)
    for reason in analysis.finding.reasons[1:]:  # the first counts what the sentence has said
        lines += _wrapped(visible(reason), width)
    lines += _wrapped(MEANINGS.get(analysis.finding.label, ""), width)
    shown = sorted(analysis.events, key=_interest)[:MOST_EVENTS]
    if shown:
        lines.append("")
        for event in sorted(shown, key=lambda one: one.start):
            lines += _wrapped(event_line(event), width, " " * 11)
        left = len(analysis.events) - len(shown)
        if left:
            lines.append(f"         and {left} more; --json lists them all.")
    quality = analysis.quality
    if quality is not None and quality.warnings:
        lines += ["", "About the recording"]
        for warning in quality.warnings:
            lines += _wrapped(f"- {visible(warning.text)}", width, "  ")
    return "\n".join(lines) + "\n"


def _interest(event: Event) -> tuple[bool, bool, float]:
    """Order sure joint sounds first, then unsure ones, then the rest."""
    return event.label == "other", event.uncertain, -max(event.probabilities.values())


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)


def timeline(events: Sequence[Event], duration: float, width: int = WIDTH) -> list[str]:
    """Draw the events over time: P a pop, G grinding, o other, ? unsure. Empty for no event."""
    if not events or duration <= 0:
        return []
    places = width - 2
    cells = ["."] * places
    for event in sorted(events, key=_interest, reverse=True):
        first = min(places - 1, int(event.start / duration * places))
        last = min(places - 1, int(event.end / duration * places))
        mark = "?" if event.uncertain else _MARKS.get(event.label) or visible(event.label)[:1]
        cells[first : last + 1] = [mark] * (last + 1 - first)
    end = f"{duration:.1f} s"
    used = [(mark, word) for mark, word in _legend(events) if mark in cells]
    return [
        f"|{''.join(cells)}|",
        f"0 s{end:>{width - 3}}",
        "   ".join(f"{mark} {word}" for mark, word in used),
        "",
    ]


def _legend(events: Sequence[Event]) -> list[tuple[str, str]]:
    labels = dict.fromkeys(event.label for event in events)
    known = [
        (_MARKS.get(label) or visible(label)[:1], NAMES.get(label) or visible(label))
        for label in labels
    ]
    return [*known, ("?", "unsure")]
