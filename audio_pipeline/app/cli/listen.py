"""``crepitus listen``: sounds reported live, as they happen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audio_pipeline.app.cli.options import trust_option
from audio_pipeline.app.text import show, show_json, visible

if TYPE_CHECKING:
    from audio_pipeline.analysis.streaming import LiveEvent
    from audio_pipeline.app.capture.live import ClipKeeper
    from audio_pipeline.audio.microphone import Microphone


@click.command(epilog="Example: crepitus listen --json > events.jsonl")
@click.option("--device", metavar="NAME", help="Microphone: its name, part of it, or its number.")
@trust_option
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Model folder; the default model if not given.",
)
@click.option(
    "--save-events",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep a clip of each sound here, with 1 s around it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def command(
    device: str | None, model: Path | None, trusted: bool, save_events: Path | None, as_json: bool
) -> None:
    """Report sounds live, as they happen, for as long as you like. Stop with Ctrl-C.

    A sound is reported as soon as it has ended, with "final": false, and again with
    "final": true when nothing that follows can change it. Ctrl-C is how this command ends, so
    the exit code is then 0.
    """
    from audio_pipeline.analysis.streaming import StreamAnalyzer
    from audio_pipeline.app.capture.live import ClipKeeper, warm_up
    from audio_pipeline.app.capture.stop_request import StopRequest
    from audio_pipeline.audio.microphone import (
        PROMPT_CAPTURE,
        Microphone,
        MicrophoneLostError,
        pick_device,
        remember_device,
    )
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(model, trusted=trusted)
    chosen = pick_device(device)
    show("Getting ready ...", err=True)
    warm_up(classifier)
    with StopRequest() as stop, Microphone(chosen, PROMPT_CAPTURE) as microphone:
        if device is not None:
            remember_device(chosen)
        analyzer = StreamAnalyzer(microphone.sample_rate, classifier, remember=False)
        keeper = ClipKeeper(save_events, microphone.sample_rate) if save_events else None
        show(f"Listening to {visible(chosen.name)}. Ctrl-C stops.", err=True)
        reporter = Reporter(as_json, keeper)
        lost: MicrophoneLostError | None = None
        reported_overflows = 0
        try:
            while not stop.asked():
                block = microphone.read()
                if block is None:
                    continue
                reporter.report(analyzer.push(block))
                if keeper is not None:
                    keeper.add(block)
                if microphone.overflows > reported_overflows:
                    reported_overflows = microphone.overflows
                    show(_overflow_line(microphone), err=True)
            reporter.report(analyzer.finish())
        except MicrophoneLostError as error:
            lost = error
            reporter.report(analyzer.finish())
        except BrokenPipeError:  # as `| head` does when it has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if keeper is not None:
            keeper.finish()
        if lost is not None:
            raise lost
        summary = _overflow_line(microphone) if microphone.overflows else "No sound was lost."
        show(f"Stopped. {summary}", err=True)


class Reporter:
    """Prints events, and asks for their clips once they are final."""

    def __init__(self, as_json: bool, keeper: ClipKeeper | None) -> None:
        self._as_json = as_json
        self._keeper = keeper
        self._printed: dict[float, str] = {}  # of events that are not final yet

    def report(self, events: Iterable[LiveEvent]) -> None:
        """Print events in the order they come."""
        for event in events:
            if self._as_json:
                show_json({**event.event.to_dict(), "final": event.final})
            else:
                self._print(event)
            if self._keeper is not None and event.final:
                self._keeper.keep(event.event)

    def _print(self, event: LiveEvent) -> None:
        """Print a line at once, and another one only where the final word differs."""
        from audio_pipeline.app.reporting.live import describe

        start, line = event.event.start, describe(event)
        before = self._printed.pop(start, None)
        if line != before:
            show(line if before is None else f"  now heard as: {line}")
        if not event.final:
            self._printed[start] = line
        else:
            self._printed = {s: text for s, text in self._printed.items() if s > start}


def _overflow_line(microphone: Microphone) -> str:
    times = "once" if microphone.overflows == 1 else f"{microphone.overflows} times"
    return f"Sound was lost {times} ({microphone.lost_seconds:.1f} s known): this machine is busy."
