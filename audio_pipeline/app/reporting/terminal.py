"""Talking with a person at a terminal: what to do, what was heard, and asking for a line.

Every sign is doubled in words, so that it reads well without colour and aloud. The conversation is
on standard error, since standard output is the result.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import click

from audio_pipeline.app.text import show, visible

if TYPE_CHECKING:
    from audio_pipeline.analysis.assessment import Assessment
    from audio_pipeline.analysis.events import Event
    from audio_pipeline.analysis.pipeline import Analysis
    from audio_pipeline.audio.quality import Quality
    from audio_pipeline.triage.recommendation import Recommendation

HOW_TO_RECORD: Final = (
    "Before you record",
    "- Sit on a chair that does not creak. Choose a quiet room; switch off fans and music.",
    "- Put the microphone 2 to 5 cm from your back, beside the place that cracks. Do not press it "
    "on. A stand or another person can hold it.",
    "- Bare skin or one thin, tight layer is best: loose clothes rustle.",
    "- Switch off noise suppression and automatic gain in the sound settings. They take away just "
    "the clicks we listen for.",
    "- Move as you usually do. Do not force a crack. Stop if it hurts.",
)

GUIDED_PLAN: Final = (
    "First keep still for {quiet:.0f} seconds, then turn slowly {turns} times with the mark on "
    "the screen, then keep still for {still:.0f} seconds. It takes {total:.0f} seconds."
)
FREE_PLAN: Final = "Record as long as you like. Enter stops."
TIMED_PLAN: Final = "It records for {seconds:g} seconds. Enter stops earlier."

ONLY_THE_SOUND: Final = """
This is only about the sound. Your symptoms decide what to do: run crepitus triage,
or give --answers. Crepitus cannot examine you; it is a demonstration and not a
medical device."""
OFFER_QUESTIONS: Final = (
    "This is only about the sound. Your symptoms decide what to do. A few questions, about 15 "
    "short screens, can say what that is. Press Enter to begin, or type n to leave."
)
NO_TWIST: Final = (
    "Because of your answers we do not ask you to twist for a recording. The questions alone can "
    "say what to do next."
)

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
    **dict.fromkeys(
        ("single_pop", "repeated_pops", "grating", "mixed"),
        "A sound alone cannot show what is happening inside your back.",
    ),
    "nothing_recognised": "This tells you nothing good or bad about your back.",
    "uncertain": "A tap, a key or clothes can sound the same. You can record again.",
    "unusable": "Please record again; the notes below say what to change.",
}
NAMES: Final = {"pop": "pop", "grating": "grinding sound", "other": "other sound"}
_MARKS: Final = {"pop": "P", "grating": "G", "other": "o"}
_LIKELY: Final = 0.8


def say(text: str) -> None:
    """Write lines, wrapped between words at the width of the terminal."""
    width = shutil.get_terminal_size().columns - 1
    for line in text.splitlines() or [""]:
        # What follows a dash or a number is indented under its first word.
        indent = " " * (len(line) - len(line.lstrip(" -0123456789")))
        show("\n".join(textwrap.wrap(line, width, subsequent_indent=indent)), err=True)


def read(prompt: str) -> str:
    """Ask for a line; the end of the input (Ctrl-D) is an empty one."""
    try:
        return read_line(prompt)
    except EOFError:
        return ""


def read_line(prompt: str) -> str:
    """Ask for a line.

    Raises EOFError: the input has ended.
    """
    click.echo(prompt, nl=False, err=True)
    return input()


def quality_verdict(analysis: Analysis) -> str:
    """Return in one line whether the recording can be used, with the first thing to mend."""
    quality: Quality | None = analysis.quality
    if quality is None:
        return f"The recording cannot be used: {analysis.error}"
    if not quality.usable:
        return "The recording cannot be used."
    if quality.warnings:
        count = len(quality.warnings)
        notes = "one note" if count == 1 else f"{count} notes"
        return f"The recording can be used, with {notes} (below)."
    return "The recording is good."


def finding_words(label: str, pops: int) -> str:
    """Return a finding in one sentence for people; ``pops``: how many sure ones there are."""
    sentence = SENTENCES.get(label, f"Likeliest sound: {visible(label)}.")
    return sentence.replace("{pops}", "1 pop" if pops == 1 else f"{pops} pops")


def strength(confidence: float) -> str:
    """Return how likely a sure event is in a word; percentages promise more than was measured."""
    return "likely" if confidence >= _LIKELY else "possible"


def event_line(event: Event) -> str:
    """Return one event in one line."""
    name = label_words(event.label)
    sure = "unsure" if event.uncertain else strength(event.probabilities[event.label])
    return f"{event.start:7.2f} s  {name} ({sure}): {visible(' '.join(event.reasons))}"


def analysis_page(analysis: Analysis) -> str:
    """Write what was heard in one recording, ending with a newline.

    A recording that failed is one line.
    """
    name = visible(analysis.source)
    if analysis.finding is None or analysis.duration is None:
        return f"{name}: failed: {visible(analysis.error or '')}\n"
    title = f"{name} ({analysis.duration:.1f} s)"
    lines = [title, "=" * min(len(title), WIDTH), ""]
    lines += timeline(analysis.events, analysis.duration)
    pops = sum(event.label == "pop" and not event.uncertain for event in analysis.events)
    lines += _wrapped(finding_words(analysis.finding.label, pops))
    for reason in analysis.finding.reasons[1:]:  # the first counts what the sentence has said
        lines += _wrapped(visible(reason))
    lines += _wrapped(MEANINGS.get(analysis.finding.label, ""))
    shown = sorted(analysis.events, key=_interest)[:MOST_EVENTS]
    if shown:
        lines.append("")
        for event in sorted(shown, key=lambda one: one.start):
            lines += _wrapped(event_line(event), " " * 11)
        left = len(analysis.events) - len(shown)
        if left:
            lines.append(f"         and {left} more; --json lists them all.")
    quality = analysis.quality
    if quality is not None and quality.warnings:
        lines += ["", "About the recording"]
        for warning in quality.warnings:
            lines += _wrapped(f"- {visible(warning.text)}", "  ")
    return "\n".join(lines) + "\n"


def _interest(event: Event) -> tuple[bool, bool, float]:
    """Order sure joint sounds first, then unsure ones, then the rest."""
    return event.label == "other", event.uncertain, -max(event.probabilities.values())


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def timeline(events: Sequence[Event], duration: float) -> list[str]:
    """Draw the events over time: P a pop, G grinding, o other, ? unsure. Empty for no event."""
    if not events or duration <= 0:
        return []
    places = WIDTH - 2
    cells = ["."] * places
    for event in sorted(events, key=_interest, reverse=True):
        first = min(places - 1, int(event.start / duration * places))
        last = min(places - 1, int(event.end / duration * places))
        mark = "?" if event.uncertain else _mark(event.label)
        cells[first : last + 1] = [mark] * (last + 1 - first)
    end = f"{duration:.1f} s"
    labels = dict.fromkeys(event.label for event in events)
    legend = [*((_mark(label), label_words(label)) for label in labels), ("?", "unsure")]
    return [
        f"|{''.join(cells)}|",
        f"0 s{end:>{WIDTH - 3}}",
        "   ".join(f"{mark} {words}" for mark, words in legend if mark in cells),
        "",
    ]


def _mark(label: str) -> str:
    """Return the letter that stands for a label on the timeline."""
    return _MARKS.get(label) or visible(label)[:1]


def label_words(label: str) -> str:
    """Return a label in words; any text may be the label of another model."""
    return NAMES.get(label) or visible(label)


def show_recommendation(
    recommendation: Recommendation, highest_reached: str | None = None, answered_at: str = ""
) -> None:
    """Print the page of a recommendation."""
    from audio_pipeline.app.reporting.recommendation import recommendation_page, wants_colour

    page = recommendation_page(
        recommendation,
        colour=wants_colour(sys.stdout),
        highest_reached=highest_reached,
        answered_at=answered_at,
    )
    click.echo(page, nl=False)


def show_assessment(assessment: Assessment, highest_reached: str | None = None) -> None:
    """Print what to do, and what was heard; an emergency stands alone."""
    recommendation = assessment.recommendation
    if recommendation is not None:
        show_recommendation(recommendation, highest_reached)
        if recommendation.level == "emergency":
            return
        click.echo()
    show(analysis_page(assessment.analysis))
