"""The screen while a take is recorded: what to do now, the level, and what was heard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from audio_pipeline.analysis.guided import Phase, phase_at
from audio_pipeline.app.capture.live import FLOOR_DBFS, Advice, LevelMeter
from audio_pipeline.app.reporting.terminal import label_words, strength

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import LiveEvent

REDRAW_SECONDS = 0.1
_SHOWN_EVENTS = 3
_LABEL_WIDTH = 13
STOP_LINE = "  Enter stops and keeps the recording. Stop if it hurts."

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

    ``moment``: s on the recording's clock, within the phase.
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
    name = label_words(heard.label)
    sure = "unsure" if heard.uncertain else strength(heard.probabilities[heard.label])
    return f"{heard.start:.1f} s {name} ({sure})"


class TakeScreen:
    """Draws a take in progress, in place on a terminal, else as one line a phase.

    ``console``: usually on standard error; standard output is for the result.
    ``phases``: the guided protocol; empty for a free recording.
    ``seconds``: when the take ends by itself.
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

    def __exit__(self, *exception: object) -> None:
        """Take the meter off the screen again."""
        if self._moves:
            self._live.stop()

    def show(self, seconds: float, level: LevelMeter, events: Sequence[LiveEvent]) -> None:
        """Take what happened since the last call and draw it."""
        self.hear(events)
        self.draw(seconds, level.bar_dbfs, level.advice)

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
        verdict = Text(" " * (_LABEL_WIDTH + 2)).append(*ADVICE[advice])
        lines += [self._level(level_dbfs), verdict, self._heard(), Text(STOP_LINE)]
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
