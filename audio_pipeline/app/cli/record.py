"""Commands at the microphone: record, listen, devices and check."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from audio_pipeline.app.cli.options import (
    FiniteRange,
    answers_option,
    device_option,
    json_option,
    model_options,
    overwrite_option,
    region_option,
)
from audio_pipeline.app.outputs import check_page
from audio_pipeline.app.reporting.terminal import (
    FREE_PLAN,
    GUIDED_PLAN,
    HOW_TO_RECORD,
    NO_TWIST,
    TIMED_PLAN,
    quality_verdict,
    read,
    read_line,
    say,
    show_assessment,
    show_recommendation,
)
from audio_pipeline.app.text import show, show_json, visible
from audio_pipeline.audio.capture_file import CaptureFile, check_target
from audio_pipeline.audio.microphone import (
    PROMPT_CAPTURE,
    Device,
    Microphone,
    MicrophoneLostError,
    devices,
    pick_device,
    remember_device,
)
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from audio_pipeline.analysis.assessment import Assessment
    from audio_pipeline.analysis.pipeline import Analysis, LiveEvent
    from audio_pipeline.app.capture.live import ClipKeeper, LevelMeter, LiveAnalysis
    from audio_pipeline.app.capture.recorder import Capture, Show
    from audio_pipeline.model.classifier import Classifier
    from audio_pipeline.triage.answers import Answers
    from audio_pipeline.triage.interview import Interview


COUNT_IN_SECONDS = 3


@click.command(epilog="Example: crepitus record -o twist.flac")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Keep the recording here, ending in .wav or .flac.",
)
@click.option(
    "--seconds",
    type=FiniteRange(min=0, min_open=True),
    metavar="N",
    help="Record this long, without the guided turns.",
)
@click.option("--free", is_flag=True, help="No guided turns: Enter or Ctrl-C ends the recording.")
@device_option
@answers_option
@model_options
@click.option("--report", metavar="FILE.html", help="Also write the result as one HTML file.")
@click.option("--keep", is_flag=True, help="Keep the result in your history on this machine.")
@click.option("--keep-take", is_flag=True, help="Keep the recording there too.")
@overwrite_option
@region_option
@json_option
def record_command(
    output: Path | None,
    seconds: float | None,
    free: bool,
    device: str | None,
    answers_file: str | None,
    model: Path | None,
    trusted: bool,
    report: str | None,
    keep: bool,
    keep_take: bool,
    overwrite: bool,
    region: str | None,
    as_json: bool,
) -> None:
    """Record a twist near a microphone and analyse it.

    At a terminal it asks the most urgent questions first, guides you through a few slow turns,
    shows the level while you record, and says what was heard and what to do. Enter or Ctrl-C
    ends the recording at any time and keeps it.

    Without a terminal, or with --json, it asks and says nothing: it records for --seconds, or
    until Ctrl-C, and prints the result.
    """
    from audio_pipeline.app.capture.live import load_in_background
    from audio_pipeline.app.capture.recorder import LONGEST_IN_MEMORY_SECONDS, LONGEST_SECONDS
    from audio_pipeline.triage.answers import load_answers

    longest = LONGEST_IN_MEMORY_SECONDS if output is None else LONGEST_SECONDS
    if seconds is not None and seconds > longest:
        hint = " (longer with -o FILE)" if output is None else ""
        raise click.UsageError(f"--seconds is {seconds:g}; at most {longest:g}{hint}.")
    answers = load_answers(answers_file) if answers_file else None
    if output is not None:
        check_target(output, overwrite=overwrite)
    check_page(report, [answers_file], overwrite=overwrite)
    at_terminal = sys.stdin.isatty() and not as_json
    loading = load_in_background(model, trusted=trusted)
    if model is not None or not at_terminal:
        loading.result()  # a model that is missing or altered is refused before any work
    session = _Session(
        device=pick_device(device),
        device_is_chosen=device is not None,
        loading=loading,
        output=output,
        seconds=seconds,
        longest=longest,
        guided=at_terminal and not free and seconds is None,
        at_terminal=at_terminal,
        asks=at_terminal and answers is None,
        wanted_region=region,
        overwrite=overwrite,
    )
    result = session.run(answers)
    if result is None:
        return
    assessment, recorded, highest_reached = result
    classifier = loading.result()
    if as_json:
        from audio_pipeline.analysis.assessment import analyses_to_dict

        show_json(analyses_to_dict([assessment], classifier), 2)
    else:
        show_assessment(assessment, highest_reached)
    if session.asks and output is None and recorded.take.frames:
        _offer_to_keep(recorded)
    if report:
        from audio_pipeline.app.reporting.report import write_report
        from audio_pipeline.audio.recording import Recording

        take = recorded.take
        sound = Recording(take.samples(), take.sample_rate, assessment.analysis.source)
        write_report(
            report, [assessment], classifier, sources={sound.source: sound}, overwrite=overwrite
        )
    if keep or keep_take:
        _keep_in_history(assessment, recorded, classifier.sha256, keep_take, output)
    if recorded.capture.failure is not None:
        raise recorded.capture.failure


def _keep_in_history(
    assessment: Assessment,
    recorded: _Recorded,
    model: str,
    keep_take: bool,
    output: Path | None,
) -> None:
    from audio_pipeline.app.history import History

    take = None
    if keep_take and recorded.take.frames:
        with TemporaryDirectory() as folder:
            file = output or Path(folder, "take.flac")
            if output is None:
                recorded.take.save(recorded.metadata, file)
            take = (file.name, file.read_bytes())
    told = assessment.recommendation
    answers = None if told is None else dict(told.answers.values)
    entry = History().add(assessment.to_dict(), model, answers=answers, take=take)
    say(f"Kept in your history as number {entry.id}. To see or delete it: crepitus history")


@dataclass(frozen=True)
class _Session:
    """One run of the command: settings that do not change while it runs."""

    device: Device
    device_is_chosen: bool
    loading: Future[Classifier]
    output: Path | None
    seconds: float | None
    longest: float
    guided: bool
    at_terminal: bool
    asks: bool
    wanted_region: str | None
    overwrite: bool

    @property
    def region(self) -> str:
        """Whose emergency numbers to show."""
        from audio_pipeline.triage.messages import default_region

        return self.wanted_region or default_region()

    def run(self, answers: Answers | None) -> tuple[Assessment, _Recorded, str | None] | None:
        """Ask, record, analyse, ask the rest; None when the person was not asked to twist.

        The last value is the highest level while the person answered, where they were asked.
        """
        if not self.at_terminal:  # capture starts before anything else is loaded
            recorded = self._record()
            from audio_pipeline.analysis.assessment import assess

            return assess(recorded.analysis, answers, region=self.region), recorded, None
        from audio_pipeline.analysis.assessment import Assessment, assess, heard
        from audio_pipeline.triage.interview import Interview

        interview = Interview(answers)
        if self.asks:
            wanted = self._ask(interview, emergency_only=True)
            if not wanted:
                return None
            if interview.next_screen(emergency_only=True):  # stopped, and wants to know so far
                show_recommendation(interview.recommendation(region=self.region))
                return None
        if not interview.may_twist:
            if self.asks and not interview.emergency:
                say(NO_TWIST)
                if not self._ask(interview):
                    return None
            show_recommendation(
                interview.recommendation(region=self.region), interview.highest_reached
            )
            return None
        recorded = self._record_until_usable()
        if not self.asks:
            assessment = assess(recorded.analysis, answers, region=self.region)
            return assessment, recorded, None
        interview.sound = heard(recorded.analysis)
        say("")
        wanted = self._ask(interview)
        recommendation = interview.recommendation(region=self.region) if wanted else None
        assessment = Assessment(recorded.analysis, recommendation)
        return assessment, recorded, interview.highest_reached

    def _ask(self, interview: Interview, emergency_only: bool = False) -> bool:
        from audio_pipeline.triage.interview import ask

        return ask(
            interview, region=self.region, emergency_only=emergency_only, read=read_line, write=say
        )

    def _record_until_usable(self) -> _Recorded:
        """Record; offer another go while the take cannot be used."""
        self._explain()
        while True:
            recorded = self._record()
            quality = recorded.analysis.quality
            say(quality_verdict(recorded.analysis))
            broken = quality is None or not quality.usable
            if not (broken and self.asks) or recorded.capture.failure is not None:
                return recorded
            for warning in quality.warnings if quality is not None else ():
                say(f"- {warning.text}")
            if not click.confirm("Record again?", default=True, err=True):
                return recorded

    def _explain(self) -> None:
        from audio_pipeline.analysis.guided import planned_phases

        for line in HOW_TO_RECORD:
            say(line)
        say("")
        if self.guided:
            phases = planned_phases()
            say(
                GUIDED_PLAN.format(
                    quiet=phases[0].end,
                    turns=len(phases) - 2,
                    still=phases[-1].end - phases[-1].start,
                    total=phases[-1].end,
                )
            )
        else:
            say(FREE_PLAN if self.seconds is None else TIMED_PLAN.format(seconds=self.seconds))
        say(f"Microphone: {visible(self.device.name)} (another one: --device NAME)")
        if self.asks:
            read("Press Enter when you are ready. ")

    def _record(self) -> _Recorded:
        """One take: open, count in, capture, save, analyse."""
        from audio_pipeline._version import __version__
        from audio_pipeline.app.capture.live import LiveAnalysis
        from audio_pipeline.app.capture.recorder import (
            StopRequest,
            conclude_take,
            count_in,
            keep_take,
            lost_sound_line,
            take_metadata,
        )

        with StopRequest() as stop:
            with Microphone(self.device) as microphone:
                if self.device_is_chosen:
                    remember_device(self.device)
                live = LiveAnalysis(microphone.sample_rate, self.loading.result())
                if self.at_terminal:
                    if not count_in(microphone, COUNT_IN_SECONDS, stop.asked, _say_number):
                        raise click.Abort
                    stop.watch_enter()
                take = CaptureFile(microphone.sample_rate, self.output, replace=self.overwrite)
                done = self._capture(microphone, take, live, stop.asked)
            metadata = take_metadata(microphone, done, f"crepitus {__version__}")
            if self.output is not None:
                done = keep_take(done, take, metadata)
        if self.at_terminal and done.kept:
            say(f"Kept: {visible(str(self.output))} ({take.duration:.1f} s)")
        if done.overflows:
            say(lost_sound_line(done))
        source = "microphone" if self.output is None else str(self.output)
        analysis = conclude_take(done, take, live, self.loading.result(), source)
        return _Recorded(analysis, done, take, metadata)

    def _capture(
        self,
        microphone: Microphone,
        take: CaptureFile,
        live: LiveAnalysis,
        stop: Callable[[], bool],
    ) -> Capture:
        """Record, with the meter on the screen when somebody sits there."""
        from audio_pipeline.analysis.guided import planned_phases
        from audio_pipeline.app.capture.recorder import capture

        planned = planned_phases() if self.guided else ()
        seconds = planned[-1].end if planned else self.seconds or self.longest
        with ExitStack() as screens:
            show: Show = _show_nothing
            if self.at_terminal:
                from rich.console import Console

                from audio_pipeline.app.reporting.live import TakeScreen

                console = Console(stderr=True, highlight=False)
                show = screens.enter_context(TakeScreen(console, planned, seconds)).show
            return capture(
                microphone, take, live, seconds=seconds, planned=planned, stop=stop, show=show
            )


@dataclass(frozen=True)
class _Recorded:
    """A take with its analysis; in memory only where no file name was given."""

    analysis: Analysis
    capture: Capture
    take: CaptureFile
    metadata: Mapping[str, str]


def _offer_to_keep(recorded: _Recorded) -> None:
    """Ask for a file name for a take that is only in memory; Enter lets it go."""
    say("")
    while name := read("Keep the recording? Type a file name, or press Enter to let it go: "):
        try:
            check_target(Path(name))
            recorded.take.save(recorded.metadata, Path(name))
        except CrepitusError as error:
            say(visible(str(error)))
            continue
        say(f"Kept: {visible(name)}")
        return


def _show_nothing(seconds: float, level: LevelMeter, events: Sequence[LiveEvent]) -> None:
    """Draw nothing: nobody sits there."""


def _say_number(left: int) -> None:
    say(f"  {left} ...")


@click.command(epilog="Example: crepitus listen --json > events.jsonl")
@device_option
@model_options
@click.option(
    "--save-events",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep a clip of each sound here, with 1 s around it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def listen_command(
    device: str | None, model: Path | None, trusted: bool, save_events: Path | None, as_json: bool
) -> None:
    """Report sounds live, as they happen, for as long as you like. Stop with Ctrl-C.

    A sound is reported as soon as it has ended, with "final": false, and again with
    "final": true when nothing that follows can change it. Ctrl-C is how this command ends, so
    the exit code is then 0.
    """
    from audio_pipeline.analysis.pipeline import StreamAnalyzer
    from audio_pipeline.app.capture.live import ClipKeeper, warm_up
    from audio_pipeline.app.capture.recorder import StopRequest
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


@click.command(epilog="Example: crepitus devices")
@json_option
def devices_command(as_json: bool) -> None:
    """List the microphones.

    Give the number, the name or part of the name to `record` or `listen` with --device.
    """
    try:
        found = devices()
    except CrepitusError as error:  # no PortAudio: this machine has no microphone we can use
        show(f"crepitus: {visible(str(error))}", err=True)
        found = []
    if as_json:
        show_json({"devices": [device.to_dict() for device in found]})
        return
    if not found:
        show("No microphone found.")
    for number, device in enumerate(found):
        mark = "   (used when none is chosen)" if device.default else ""
        channels = "1 channel" if device.channels == 1 else f"{device.channels} channels"
        show(f"{number:3}  {visible(device.name)}{mark}")
        show(f"     {visible(device.host_api)}, {channels}, {device.default_sample_rate} Hz")


MARKS = {"ok": "ok     ", "note": "note   ", "problem": "PROBLEM"}


@click.command(epilog="Example: crepitus check")
@device_option
@model_options
@json_option
def check_command(device: str | None, trusted: bool, model: Path | None, as_json: bool) -> None:
    """Say whether this machine is ready: sound card, microphone, codecs, model.

    Tries each for real: decodes a tiny file of every format, analyses a test sound, records
    three seconds. The exit code is 1 when recordings could not be analysed here; a missing
    microphone is only a note.
    """
    import shutil
    import textwrap

    from audio_pipeline.app.readiness import TAKE_SECONDS, check_machine

    width = shutil.get_terminal_size().columns - 1
    show(
        f"This takes some seconds. Near its end it records {TAKE_SECONDS:.0f} seconds: "
        "please keep quiet.",
        err=True,
    )
    checks = []
    for check in check_machine(device, model, trusted=trusted):
        checks.append(check)
        if not as_json:
            text = f"{MARKS[check.status]}  {check.name}: {check.text}"
            show(textwrap.fill(text, width, subsequent_indent=" " * 9))
    problems = [check.name for check in checks if check.status == "problem"]
    if as_json:
        show_json({"ready": not problems, "checks": list(map(vars, checks))}, 2)
    if problems:
        raise CrepitusError(f"this machine is not ready: see {', '.join(problems)} above")
    if not as_json:
        notes = [check.name for check in checks if check.status == "note"]
        show(f"Ready, with notes on: {', '.join(notes)}." if notes else "Ready.")
