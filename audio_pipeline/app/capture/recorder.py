"""One take from the microphone to its analysis: capture, keep, judge."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Any

from audio_pipeline.analysis.guided import Phase, performed_phases
from audio_pipeline.app.capture.live import LevelMeter, LiveAnalysis
from audio_pipeline.audio.capture_file import CaptureFile
from audio_pipeline.audio.microphone import Microphone
from audio_pipeline.audio.quality import QualityWarning
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import Analysis, LiveEvent
    from audio_pipeline.model.classifier import Classifier


LONGEST_SECONDS = 3600.0
LONGEST_IN_MEMORY_SECONDS = 600.0


Show = Callable[[float, LevelMeter, "Sequence[LiveEvent]"], None]
"""Shows a take in progress: its seconds, its level, and what was heard since the last call."""


@dataclass(frozen=True)
class Capture:
    """How a capture went."""

    phases: tuple[Phase, ...]  # what was performed of the protocol; empty for a free recording
    # why it ended early: the microphone was pulled out, the disk is full
    failure: CrepitusError | None
    overflows: int  # how often sound was lost
    lost_seconds: float  # how much of it is known, s
    kept: bool = False  # the file that was asked for is there


def count_in(
    microphone: Microphone, seconds: int, stop: Callable[[], bool], show: Callable[[int], None]
) -> bool:
    """Count down while the microphone is already open; what it hears meanwhile is dropped.

    False when somebody asked to stop.
    """
    for left in range(seconds, 0, -1):
        show(left)
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            microphone.read()
            if stop():
                return False
    return True


def capture(
    microphone: Microphone,
    take: CaptureFile,
    live: LiveAnalysis,
    *,
    seconds: float,
    planned: Sequence[Phase],
    stop: Callable[[], bool],
    show: Show,
) -> Capture:
    """Record until the time is over, somebody asks to stop, or the microphone is gone.

    Never raises for what can happen to a microphone or a disk: the take counts.

    ``seconds``: length of sound after which the take is whole.
    ``planned``: the protocol, empty for none.
    """
    meter = LevelMeter(microphone.sample_rate)
    wanted = round(seconds * microphone.sample_rate)
    failure: CrepitusError | None = None
    try:
        while take.frames < wanted and not stop():
            block = microphone.read()
            if block is None:
                continue
            block = block[: wanted - take.frames]
            take.add(block)
            live.push(block)
            meter.update(block)
            show(take.duration, meter, live.events())
    except CrepitusError as error:
        failure = error
    except OSError as error:  # the terminal was closed: there is nothing to draw on
        failure = CrepitusError(f"the screen is gone: {error.strerror or error}")
    return Capture(
        performed_phases(planned, take.duration),
        failure,
        microphone.overflows,
        microphone.lost_seconds,
    )


def keep_take(capture: Capture, take: CaptureFile, metadata: Mapping[str, str]) -> Capture:
    """Write the file of a finished take; a failure to do so is the capture's failure.

    A take without any sound leaves no file.
    """
    if not take.frames:
        take.discard()
        return capture
    try:
        take.save(metadata)
    except CrepitusError as error:
        return replace(capture, failure=capture.failure or error)
    failure = capture.failure
    if failure is not None:
        failure = type(failure)(f"{failure} ({take.duration:.1f} s are kept in {take.path})")
    return replace(capture, failure=failure, kept=True)


def conclude_take(
    capture: Capture, take: CaptureFile, live: LiveAnalysis, classifier: Classifier, source: str
) -> Analysis:
    """Return the analysis of a finished take, with what its protocol and its losses tell."""
    analysis = live.finish(take, source)
    if capture.overflows and analysis.quality is not None:
        warning = QualityWarning("sound_lost", lost_sound_line(capture))
        quality = replace(analysis.quality, warnings=(*analysis.quality.warnings, warning))
        analysis = replace(analysis, quality=quality)
    if not capture.phases:
        return analysis
    from audio_pipeline.analysis.pipeline import apply_protocol

    return apply_protocol(analysis, capture.phases, classifier.labels)


def lost_sound_line(capture: Capture) -> str:
    """Say in one line that sound was lost and what to do."""
    times = "once" if capture.overflows == 1 else f"{capture.overflows} times"
    known = f" ({capture.lost_seconds:.1f} s)" if capture.lost_seconds else ""
    return f"This machine was too busy and lost sound {times}{known}. Close other programs."


def take_metadata(microphone: Microphone, capture: Capture, software: str) -> Mapping[str, str]:
    """Return what the file says about itself: when, with what, how, and the protocol's times."""
    comment = {
        "device": microphone.device.name,
        "host_api": microphone.device.host_api,
        "channels": microphone.channels,
        "sample_rate": microphone.sample_rate,
        "block_seconds": microphone.settings.block_seconds,
        "host_latency_seconds": microphone.settings.host_latency_seconds,
        "overflows": capture.overflows,
        "lost_seconds": round(capture.lost_seconds, 3),
        "protocol": [phase.to_dict() for phase in capture.phases],
    }
    return {
        "title": "Twist recorded with Crepitus",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "software": software,
        "comment": json.dumps(comment),
    }


class StopRequest(ExitStack):
    """Knows whether somebody asked to stop, so that a take ends between two blocks and is kept.

    While it is in force Ctrl-C raises nothing; at its end everything is put back as it was. Use it
    from the main thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._watches_enter = False
        self._event = threading.Event()

    def __enter__(self) -> StopRequest:
        """Start to watch."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is None:
                continue  # Windows has no hang-up
            if name == "SIGHUP" and signal.getsignal(number) is signal.SIG_IGN:
                continue  # nohup
            self.callback(signal.signal, number, signal.signal(number, self._ask))
        return self

    def watch_enter(self) -> None:
        """From now on Enter on standard input asks to stop, too.

        What was typed before is thrown away: a second, impatient Enter ends nothing. What is
        typed from now on is not echoed, so that it cannot tear the meter.
        """
        self._watches_enter = True
        if os.name == "posix":
            self.callback(_silence_typing(sys.stdin.fileno()))
        _enter_pressed()

    def asked(self) -> bool:
        """Return whether anybody asked to stop."""
        if self._watches_enter and not self._event.is_set() and _enter_pressed():
            self._event.set()
        return self._event.is_set()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self._event.set()


def _enter_pressed() -> bool:
    """Return whether a line, or the end of the input, is waiting; takes it away."""
    if sys.platform == "win32":
        import msvcrt

        pressed = False
        while msvcrt.kbhit():
            pressed |= msvcrt.getwch() in "\r\n"
        return pressed
    with suppress(OSError, ValueError):
        descriptor = sys.stdin.fileno()
        if select.select([descriptor], [], [], 0)[0]:
            os.read(descriptor, 4096)
            return True
    return False


def _silence_typing(descriptor: int) -> Any:
    """Turn the terminal's echo off; returns the function that restores it."""
    import termios

    try:
        before = termios.tcgetattr(descriptor)
    except termios.error:
        return lambda: None
    silent = [*before]
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSAFLUSH, silent)
    return lambda: termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)
