"""Live sound: its analysis in a thread of its own, and clips of its events."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import Event
from audio_pipeline.app.outputs import writing
from audio_pipeline.app.text import file_name
from audio_pipeline.audio.quality import QualityConfig
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import Analysis, LiveEvent
    from audio_pipeline.audio.capture_file import CaptureFile
    from audio_pipeline.model.classifier import Classifier


BEHIND_SECONDS = 120.0
"""A machine this far behind gives up on hearing live; the take is analysed when it is whole."""


_FIRST_ANALYSIS = threading.Lock()
"""Held until everything is loaded: two threads that let numba compile the same at the same time
have ended the process."""


class LiveAnalysis:
    """Hears a take as it grows, so that sounds show at once and the result is there at its end.

    Loading the analysis code takes seconds on some machines; that happens here too, while the
    sound is already being recorded.
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

        ``take``: what was pushed; analysed afresh if this machine could not keep up.
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
        return replace(self._analysis, source=source)

    def _run(self) -> None:
        try:
            from audio_pipeline.analysis.pipeline import StreamAnalyzer

            with _FIRST_ANALYSIS:
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
    from audio_pipeline.analysis.pipeline import StreamAnalyzer

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

    ``folder, trusted``: as of :func:`audio_pipeline.model.classifier.load_classifier`, whose errors
        the result raises.
    """
    loading: Future[Classifier] = Future()

    def load() -> None:
        with _FIRST_ANALYSIS:
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

    ``folder``: made if it is not there.
    Raises CrepitusError when the folder cannot be made.
    """

    def __init__(self, folder: Path, sample_rate: int) -> None:
        self._folder = folder
        self._sample_rate = sample_rate
        self._blocks: deque[NDArray[np.float32]] = deque()
        self._end = 0  # frames seen
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
        held = sum(map(len, self._blocks))
        while held - len(self._blocks[0]) >= KEPT_SECONDS * self._sample_rate:
            held -= len(self._blocks.popleft())
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


Advice = Literal["good", "silent", "quiet", "loud", "noisy"]

FLOOR_DBFS = -90.0
"""The bottom of the meter."""

_VOICE_RATE = 8000
"""Hz, about: enough for the pitch of a voice, and cheap."""


@dataclass(frozen=True)
class LevelConfig:
    """When the meter warns; levels in dBFS, times in s. The verdict on a take is quality.py's."""

    loud_dbfs: float = -0.5  # converters flatten just below full scale
    loud_shown_seconds: float = 3.0  # a clipped click is over before anyone can read of it
    quiet_after_seconds: float = 5.0  # a quiet room is no fault until something should sound
    silent_after_seconds: float = 1.0
    fall_db_per_second: float = 20.0  # of the bar, as peak programme meters fall


class LevelMeter:
    """Follows the level of a stream of blocks.

    ``bar_dbfs``: the meter's bar: jumps to a peak, falls slowly; from -90 to 0.
    ``advice``: what is the matter now.
    """

    def __init__(self, sample_rate: int) -> None:
        self.bar_dbfs = FLOOR_DBFS
        self.advice: Advice = "good"
        self._settings = LevelConfig()
        # The verdict on the whole take draws its lines here, so that both say the same.
        self._quality = QualityConfig()
        self._sample_rate = sample_rate
        self._time = 0.0
        self._last_loud = -math.inf
        self._last_audible = 0.0
        self._last_signal = 0.0
        self._floor_dbfs: float | None = None

    def update(self, block: NDArray[np.float32]) -> None:
        """Take the next samples in [-1, 1], shape (n,)."""
        if not len(block):
            return
        seconds = len(block) / self._sample_rate
        self._time += seconds
        peak = to_dbfs(float(np.abs(block).max()))
        self.bar_dbfs = max(peak, self.bar_dbfs - self._settings.fall_db_per_second * seconds)
        self.bar_dbfs = min(0.0, max(FLOOR_DBFS, self.bar_dbfs))
        if float(np.ptp(block)) > 0:
            self._last_signal = self._time
        if peak >= self._quality.quiet_dbfs:
            self._last_audible = self._time
        if peak >= self._settings.loud_dbfs:
            self._last_loud = self._time
        level = to_dbfs(float(np.sqrt(np.mean(np.square(block - block.mean(), dtype=np.float64)))))
        # Falls at once and rises slowly: the stillest of the last seconds, not the sounds in it.
        risen = level if self._floor_dbfs is None else self._floor_dbfs + 3.0 * seconds
        self._floor_dbfs = min(level, risen)
        self.advice = self._judge()

    def _judge(self) -> Advice:
        if self._time - self._last_loud < self._settings.loud_shown_seconds:
            return "loud"
        if self._time - self._last_signal > self._settings.silent_after_seconds:
            return "silent"
        if self._floor_dbfs is not None and self._floor_dbfs > self._quality.noisy_dbfs:
            return "noisy"
        if self._time - self._last_audible > self._settings.quiet_after_seconds:
            return "quiet"
        return "good"


@dataclass(frozen=True)
class VoiceSettings:
    """What counts as a voice; levels in dB, times in s, pitches in Hz.

    A voice is periodic like a hum, but its pitch and its loudness change from syllable to
    syllable (Scheirer and Slaney, 1997). It is only a hint: on the project's clips of 0.8 s and
    more, 68 of 111 of speech or of a child counted (most are shorter than `window_seconds`), 2 of
    114 pops and grating sounds, and 21 of 630 household sounds.
    """

    window_seconds: float = 2.0
    frame_seconds: float = 0.04
    lowest_pitch: float = 80.0
    highest_pitch: float = 350.0
    periodicity: float = 0.75
    quietest_dbfs: float = -60.0
    range_db: float = 30.0
    voiced_fraction: float = 0.25
    pitch_spread_semitones: float = 0.7
    level_spread_db: float = 3.0


class VoiceMeter:
    """Follows a stream of blocks.

    ``speaking``: whether the last `window_seconds` hold a voice.
    """

    def __init__(self, sample_rate: int) -> None:
        self.speaking = False
        self._settings = VoiceSettings()
        self._step = max(1, sample_rate // _VOICE_RATE)
        self._rate = sample_rate / self._step
        self._size = round(self._settings.frame_seconds * self._rate)
        self._rest = np.zeros(0, np.float32)
        self._most = round(self._settings.window_seconds / self._settings.frame_seconds)
        self._frames: deque[tuple[float, float, float]] = deque(maxlen=self._most)

    def update(self, block: NDArray[np.float32]) -> None:
        """Take the next samples, finite, in [-1, 1], shape (n,)."""
        samples = np.concatenate([self._rest, block])
        length = self._size * self._step
        count = len(samples) // length
        self._rest = samples[count * length :]
        if not count:
            return
        frames = samples[: count * length].reshape(count, self._size, self._step).mean(axis=2)
        self._frames.extend(self._describe(frames))
        self.speaking = self._judge(np.array(self._frames))

    def _describe(self, frames: NDArray[np.float32]) -> list[tuple[float, float, float]]:
        """Return the periodicity in [0, 1], pitch in Hz and level in dBFS of each frame."""
        frames = frames - frames.mean(axis=1, keepdims=True)
        length = 1 << (2 * self._size - 1).bit_length()
        power = np.square(np.abs(np.fft.rfft(frames, length, axis=1)))
        correlation = np.fft.irfft(power, axis=1)
        shortest = int(self._rate / self._settings.highest_pitch)
        longest = int(self._rate / self._settings.lowest_pitch)
        lags = np.arange(shortest, min(longest, self._size - 1))
        full = correlation[:, :1] * (1 - lags / self._size)  # what a perfect repetition gives
        likeness = correlation[:, lags] / np.maximum(full, 1e-12)
        best = likeness.argmax(axis=1)
        levels = 10 * np.log10(np.square(frames, dtype=np.float64).mean(axis=1) + 1e-12)
        pitches = self._rate / lags[best]
        return list(zip(likeness.max(axis=1), pitches, levels, strict=True))

    def _judge(self, frames: NDArray[np.float64]) -> bool:
        settings = self._settings
        periodicity, pitches, levels = frames.T
        floor = max(settings.quietest_dbfs, levels.max() - settings.range_db)
        voiced = (periodicity > settings.periodicity) & (levels > floor)
        if voiced.sum() < settings.voiced_fraction * self._most:
            return False
        pitch_spread = 12 * np.log2(pitches[voiced]).std()
        level_spread = np.maximum(levels, levels.max() - 40).std()
        return bool(
            pitch_spread > settings.pitch_spread_semitones
            and level_spread > settings.level_spread_db
        )


def to_dbfs(amplitude: float) -> float:
    """Return an amplitude in [0, 1] as dB of full scale, not below -90."""
    return max(FLOOR_DBFS, 20.0 * math.log10(amplitude)) if amplitude > 0 else FLOOR_DBFS
