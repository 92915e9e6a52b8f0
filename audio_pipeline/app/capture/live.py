"""Live sound: its analysis in a thread of its own, and clips of its events."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import Event
from audio_pipeline.app.outputs import writing
from audio_pipeline.app.text import file_name
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import Analysis
    from audio_pipeline.analysis.streaming import LiveEvent
    from audio_pipeline.audio.capture_file import CaptureFile
    from audio_pipeline.model.classifier import Classifier

BEHIND_SECONDS = 120.0
"""A machine this far behind gives up on hearing live; the take is analysed when it is whole."""


class LiveAnalysis:
    """Hears a take as it grows, so that sounds show at once and the result is there at its end.

    Loading the analysis code takes seconds on some machines; that happens here too, while the
    sound is already being recorded.

    Parameters
    ----------
    sample_rate : int
        Hz.
    classifier : Classifier
        The model.
    """

    def __init__(self, sample_rate: int, classifier: Classifier) -> None:
        self._sample_rate = sample_rate
        self._classifier = classifier
        self._waiting: queue.SimpleQueue[NDArray[np.float32] | None] = queue.SimpleQueue()
        self._heard: queue.SimpleQueue[LiveEvent] = queue.SimpleQueue()
        self._waiting_frames = 0
        self._lock = threading.Lock()
        self._gave_up = False
        self._failure: Exception | None = None
        self._analysis: Analysis | None = None
        self._thread = threading.Thread(target=self._run, name="live analysis", daemon=True)
        self._thread.start()

    def push(self, block: NDArray[np.float32]) -> None:
        """Hand over the next samples, shape (n,); returns at once."""
        if self._gave_up:
            return
        with self._lock:
            self._waiting_frames += len(block)
            self._gave_up = self._waiting_frames > BEHIND_SECONDS * self._sample_rate
        self._waiting.put(None if self._gave_up else block)

    def events(self) -> list[LiveEvent]:
        """Return what was heard since the last call, in order; often nothing."""
        heard = []
        while not self._heard.empty():
            heard.append(self._heard.get())
        return heard

    def finish(self, take: CaptureFile, source: str) -> Analysis:
        """Wait for the rest and return the analysis of the whole take.

        Parameters
        ----------
        take : CaptureFile
            What was pushed; analysed afresh if this machine could not keep up.
        source : str
            The recording's name in the result.
        """
        if not self._gave_up:
            self._waiting.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        if self._gave_up or self._analysis is None:
            from audio_pipeline.analysis.pipeline import analyze_recording

            return analyze_recording(
                Recording(take.samples(), take.sample_rate, source), self._classifier
            )
        from dataclasses import replace

        return replace(self._analysis, source=source)

    def _run(self) -> None:
        try:
            from audio_pipeline.analysis.streaming import StreamAnalyzer

            analyzer = StreamAnalyzer(self._sample_rate, self._classifier)
            while (block := self._waiting.get()) is not None:
                for event in analyzer.push(block):
                    self._heard.put(event)
                with self._lock:
                    self._waiting_frames -= len(block)
            if not self._gave_up:
                for event in analyzer.finish():
                    self._heard.put(event)
                self._analysis = analyzer.analysis("")
        except Exception as error:  # raised again where the take is safe: in finish()
            self._failure = error


def warm_up(classifier: Classifier) -> None:
    """Run the whole analysis once on a made-up click, so that nothing loads when it matters."""
    from audio_pipeline.analysis.streaming import StreamAnalyzer

    rate = 48_000
    samples = np.random.default_rng(0).normal(0, 1e-4, rate).astype(np.float32)
    samples[rate // 2 : rate // 2 + 100] += 0.5
    analyzer = StreamAnalyzer(rate, classifier, remember=False)
    analyzer.push(samples)
    analyzer.finish()


def load_in_background(
    folder: Path | str | None = None, *, trusted: bool = False
) -> Future[Classifier]:
    """Load a model, and then what an analysis needs, while a person reads or answers.

    Parameters
    ----------
    folder, trusted
        As of :func:`audio_pipeline.model.classifier.load_classifier`, whose errors the result
        raises.
    """
    loading: Future[Classifier] = Future()

    def load() -> None:
        try:
            from audio_pipeline.model.classifier import load_classifier

            loading.set_result(load_classifier(folder, trusted=trusted))
        except Exception as error:
            loading.set_exception(error)
        else:
            with suppress(Exception):  # it comes again where it matters
                warm_up(loading.result())

    threading.Thread(target=load, name="loading the model", daemon=True).start()
    return loading


AROUND_SECONDS = 1.0
KEPT_SECONDS = 15.0
"""Sound held in memory: the longest event (10 s), the second before it and the delay until it is
final, with room to spare."""


class ClipKeeper:
    """Writes a FLAC file for each event, with 1 s of sound on both sides where there is any.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    sample_rate : int
        Hz.

    Raises
    ------
    CrepitusError
        When the folder cannot be made.
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self._folder = folder
        self._sample_rate = sample_rate
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._end = 0  # frames seen
        self._held = 0
        self._waiting: list[Event] = []
        self._began = time.time()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CrepitusError(f"cannot make the folder {folder}: {error.strerror}") from None

    def add(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, shape (n,), and write the clips that are now complete."""
        self._blocks.append(block)
        self._end += len(block)
        self._held += len(block)
        while self._held - len(self._blocks[0]) >= KEPT_SECONDS * self._sample_rate:
            self._held -= len(self._blocks.popleft())
        now = self._end / self._sample_rate
        ready = [event for event in self._waiting if event.end + AROUND_SECONDS <= now]
        for event in ready:
            self._waiting.remove(event)
            self._write(event)

    def keep(self, event: Event) -> None:
        """Ask for a clip of an event; it is written once the second after it has come."""
        self._waiting.append(event)

    def finish(self) -> None:
        """Write what still waits, with as much sound after it as there is."""
        for event in self._waiting:
            self._write(event)
        self._waiting.clear()

    def _write(self, event: Event) -> None:
        held = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        first = self._end - len(held)
        start = max(first, round((event.start - AROUND_SECONDS) * self._sample_rate))
        end = round((event.end + AROUND_SECONDS) * self._sample_rate)
        samples = held[start - first : max(0, end - first)]
        clock = time.strftime("%Y%m%d-%H%M%S", time.localtime(self._began + event.start))
        label = file_name(event.label)
        path = self._folder / f"{clock}-{event.start:.2f}s-{label}.flac"
        comment = f"{event.start:.4f} s to {event.end:.4f} s of the stream"
        with writing(path):
            write_recording(
                path,
                Recording(samples, self._sample_rate),
                metadata={"comment": comment},
                replace=False,
            )
