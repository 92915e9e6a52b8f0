"""Talking with a person at a terminal: what to do, what was heard, and asking for a line.

Every sign is doubled in words, so that it reads well without colour and aloud. The conversation is
on standard error, since standard output is the result.
"""

from __future__ import annotations

import shutil
import textwrap
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from audio_pipeline.analysis.guided import Phase, phase_at
from audio_pipeline.app.capture.level import FLOOR_DBFS, Advice
from audio_pipeline.app.text import show, visible

if TYPE_CHECKING:
    from audio_pipeline.analysis.events import Event
    from audio_pipeline.analysis.pipeline import Analysis
    from audio_pipeline.analysis.streaming import LiveEvent
    from audio_pipeline.app.capture.recorder import Moment
    from audio_pipeline.audio.quality import Quality


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

    Raises
    ------
    EOFError
        The input has ended.
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


REDRAW_SECONDS = 0.1
_SHOWN_EVENTS = 3
_LABEL_WIDTH = 13

ADVICE: dict[Advice, tuple[str, str]] = {
    "good": ("good", ""),
    # Own backgrounds: yellow or red letters alone are lost on a light or a dark screen.
    "silent": (" NO SOUND: is the microphone switched on? ", "bold white on red"),
    "quiet": (" VERY QUIET: move the microphone closer ", "black on yellow"),
    "loud": (" TOO LOUD: move the microphone a little away ", "bold white on red"),
    "noisy": (" NOISY: switch off fans, music or the radio ", "black on yellow"),
}


def cue(phase: Phase, moment: float) -> tuple[str, float]:
    """Return what to do at a moment of a phase, and how far the body has turned, in [0, 1].

    Parameters
    ----------
    phase : Phase
        The phase it is.
    moment : float
        s on the recording's clock, within the phase.
    """
    if phase.kind == "quiet":
        return "Keep still and quiet. We listen to the room.", 0.0
    if phase.kind == "still":
        return "Keep still once more. Nearly done.", 0.0
    done = (moment - phase.start) / (phase.end - phase.start)
    if done < 0.4:
        return "Turn slowly to one side, as you usually do.", done / 0.4
    if done < 0.5:
        return "Stay there a moment.", 1.0
    if done < 0.9:
        return "Slowly back to the middle.", (0.9 - done) / 0.4
    return "Rest.", 0.0


def describe(event: LiveEvent) -> str:
    """Return a heard event in a few words, such as ``7.1 s pop (likely)``."""
    heard = event.event
    name = NAMES.get(heard.label) or visible(heard.label)
    sure = "unsure" if heard.uncertain else strength(heard.probabilities[heard.label])
    return f"{heard.start:.1f} s {name} ({sure})"


class TakeScreen:
    """Draws a take in progress, in place on a terminal, else as one line a phase.

    Parameters
    ----------
    console : Console
        Usually on standard error; standard output is for the result.
    phases : sequence of Phase
        The guided protocol; empty for a free recording.
    seconds : float or None
        When the take ends by itself.
    """

    def __init__(self, console: Console, phases: Sequence[Phase], seconds: float | None) -> None:
        self._console = console
        self._phases = phases
        self._seconds = seconds
        self._events: dict[float, LiveEvent] = {}
        self._live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stderr=False
        )
        self._moves = console.is_terminal and not console.is_dumb_terminal
        self._drawn = 0.0
        self._said: Phase | None = None

    def __enter__(self) -> TakeScreen:
        """Begin to draw."""
        if self._moves:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the meter off the screen again."""
        if self._moves:
            self._live.stop()

    def show(self, moment: Moment) -> None:
        """Take what happened since the last call and draw it."""
        self.hear(moment.events)
        self.draw(moment.seconds, moment.level.bar_dbfs, moment.level.advice)

    def hear(self, events: Sequence[LiveEvent]) -> None:
        """Take events; a later report of the same event replaces the earlier."""
        for event in events:
            self._events[round(event.event.start, 3)] = event

    def draw(self, moment: float, level_dbfs: float, advice: Advice) -> None:
        """Show the take at ``moment`` (s); redraws ten times a second at most."""
        phase = phase_at(self._phases, moment)
        if not self._moves:
            if phase is not None and phase != self._said:
                self._said = phase
                self._console.print(self._heading(phase, moment))
            return
        now = time.monotonic()
        if now - self._drawn < REDRAW_SECONDS:
            return
        self._drawn = now
        lines = [self._heading(phase, moment)]
        if phase is not None:
            lines.append(self._pace(phase, moment))
        lines += [self._level(level_dbfs), self._verdict(advice), self._heard(), _stop_line()]
        self._live.update(Group(*lines), refresh=True)

    def _heading(self, phase: Phase | None, moment: float) -> Text:
        if phase is None:
            end = f" of {self._seconds:.0f}" if self._seconds else ""
            return Text(f"  Recording  {moment:5.1f}{end} s", style="bold")
        text, _ = cue(phase, moment)
        turns = sum(other.kind == "turn" for other in self._phases)
        place = f"Turn {phase.turn} of {turns}" if phase.kind == "turn" else "Quiet"
        return Text.assemble((f"  {place:<{_LABEL_WIDTH}}", "bold"), (text, "bold"))

    def _pace(self, phase: Phase, moment: float) -> Text:
        """Draw where the body should be: the mark walks to the side and back with the turn."""
        width = self._bar_width()
        _, turned = cue(phase, moment)
        left = max(0.0, phase.end - moment)
        track, mark = ("-", "O") if self._ascii else ("─", "●")
        if phase.kind == "turn":
            place = round(turned * (width - 1))
            track = track * place + mark + track * (width - 1 - place)
        else:
            done = round(width * (moment - phase.start) / (phase.end - phase.start))
            track = ("=" if self._ascii else "━") * done + track * (width - done)
        return Text(f"  {'':<{_LABEL_WIDTH}}{track} {left:4.1f} s")

    def _level(self, level_dbfs: float) -> Text:
        width = self._bar_width()
        filled = round(width * (level_dbfs - FLOOR_DBFS) / -FLOOR_DBFS)
        full, empty = ("#", ".") if self._ascii else ("█", "░")
        text = Text(f"  {'Level':<{_LABEL_WIDTH}}")
        for place in range(width):
            dbfs = FLOOR_DBFS * (1 - (place + 1) / width)
            style = "red" if dbfs > -3 else "yellow" if dbfs > -12 else "green"
            text.append(full if place < filled else empty, style if place < filled else "dim")
        shown = "none" if level_dbfs <= FLOOR_DBFS else f"{round(level_dbfs)} dB"
        return text.append(f" {shown:>6}")

    def _verdict(self, advice: Advice) -> Text:
        words, style = ADVICE[advice]
        return Text(" " * (_LABEL_WIDTH + 2)).append(words, style)

    def _heard(self) -> Text:
        latest = [self._events[start] for start in sorted(self._events)][-_SHOWN_EVENTS:]
        if not latest:
            return Text(f"  {'Heard':<{_LABEL_WIDTH}}").append("nothing yet", "dim")
        text = Text(f"  {'Heard':<{_LABEL_WIDTH}}", overflow="ellipsis", no_wrap=True)
        return text.append(" | ".join(describe(event) for event in reversed(latest)), "bold")

    def _bar_width(self) -> int:
        return max(10, min(56, self._console.width - _LABEL_WIDTH - 10))

    @property
    def _ascii(self) -> bool:
        return self._console.options.ascii_only


def _stop_line() -> Text:
    return Text("  Enter stops and keeps the recording. Stop if it hurts.")
