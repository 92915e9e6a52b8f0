"""One worker process: loads the model once, then turns recordings into documents or reports."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.app.text import show
from audio_pipeline.exceptions import CrepitusError, RecordingError

CAPTURE_WORDS = {
    "echoCancellation": "echo cancellation",
    "noiseSuppression": "noise suppression",
    "autoGainControl": "automatic gain control",
}


HINTS = {
    "good": "",
    "silent": "Nothing comes in. Is the microphone switched on?",
    "quiet": "It is very quiet. Move the microphone closer.",
    "loud": "It is too loud. Move the microphone a little away.",
    "noisy": "It is loud here. Switch off fans, music or the radio.",
    "speech": "We hear somebody speak. Stay quiet while you record.",
}
"""What to mend, in words; the terminal's are in `reporting.live`."""


@dataclass(frozen=True)
class Refusal(Exception):
    """Why one recording gets no document: HTTP status, code and one line."""

    status: int
    code: str
    message: str


class NamedBytes(io.BytesIO):
    """An upload in memory that carries the name its sender gave it."""

    name = ""


def serve(
    connection: Connection, model: str | None, trusted: bool, extra_memory_bytes: int
) -> None:
    """Answer jobs until the server hangs up.

    A job is JSON, the recording's bytes in some messages, and an empty one; its answer is two, JSON
    ``{"status", "media_type"}`` or ``{"status", "code"}``, and the body or the one line.

    ``connection``: the worker's end of the pipe.
    ``model, trusted``: model folder, None for the default one; whether any estimator in it is
        loaded.
    ``extra_memory_bytes``: memory the worker may take on top of what it has when ready (Linux
        only).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's business
    try:
        classifier = _load(model, trusted)
    except (CrepitusError, OSError) as error:
        connection.send_bytes(json.dumps({"error": str(error)}).encode())
        return
    _limit_memory(extra_memory_bytes)
    connection.send_bytes(
        json.dumps(
            {
                "name": classifier.name,
                "sha256": classifier.sha256,
                "labels": list(classifier.labels),
            }
        ).encode()
    )
    streams: dict[str, Stream] = {}
    while True:
        try:
            job = json.loads(connection.recv_bytes())
            audio = NamedBytes()
            audio.name = job.get("name", "")
            while piece := connection.recv_bytes():
                audio.write(piece)
            audio.seek(0)
        except (EOFError, OSError):
            return
        head, body = answer(job, audio, classifier, streams)
        connection.send_bytes(json.dumps(head).encode())
        connection.send_bytes(body)
        if job["kind"] != "stream":
            del audio, body
            release_free_memory()


def _load(model: str | None, trusted: bool) -> Any:
    """Load the model and make one analysis, so that the first person does not wait."""
    from threadpoolctl import threadpool_limits

    from audio_pipeline.app.capture.live import warm_up
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(model, trusted=trusted)
    warm_up(classifier)
    threadpool_limits(1)  # one core a worker
    return classifier


def release_free_memory() -> None:
    """Give memory that is free back to the system, which glibc does not do by itself."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _limit_memory(extra_bytes: int) -> None:
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def answer(
    job: Mapping[str, Any], audio: NamedBytes, classifier: Any, streams: dict[str, Stream]
) -> tuple[dict[str, Any], bytes]:
    """Do one job.

    ``job``: ``kind``: "stream", see `hear`; or "analysis" or "report", with ``name``, ``answers``
        (None when not asked), ``capture`` (what the browser did to the sound), ``region``,
        ``language``, ``recording_seconds`` (the longest).
    ``streams``: the live streams under way.
    """
    try:
        if job["kind"] == "stream":
            return hear(job, audio, classifier, streams)
        return _answer(job, audio, classifier)
    except Refusal as refusal:
        return {"status": refusal.status, "code": refusal.code}, refusal.message.encode()
    except MemoryError:
        message = "The recording needs too much memory. Send a shorter one."
        return {"status": 422, "code": "too_long"}, message.encode()
    except Exception as error:
        # Nothing of a hostile file's making may reach the sender; the server's screen gets it.
        show(f"crepitus: an analysis failed: {type(error).__name__}: {error}", err=True)
        return {"status": 500, "code": "internal"}, b"The analysis failed. Try another recording."


def _answer(
    job: Mapping[str, Any], source: NamedBytes, classifier: Any
) -> tuple[dict[str, Any], bytes]:
    from audio_pipeline.analysis.assessment import analyses_to_dict, assess
    from audio_pipeline.analysis.pipeline import analyze_file
    from audio_pipeline.triage.answers import parse_answers

    check_length(source, job["recording_seconds"])
    analysis = analyze_file(source, classifier)
    if analysis.status != "ok":
        raise Refusal(422, "undecodable_audio", one_line(analysis.error))
    analysis = with_capture(analysis, job["capture"] or {})
    answers = None if job["answers"] is None else parse_answers(job["answers"])
    assessment = assess(analysis, answers, region=job["region"], language=job["language"])
    if job["kind"] == "report":
        from audio_pipeline.app.reporting.report import report_page

        page = report_page(
            [assessment],
            classifier,
            sources={analysis.source: source},
            embed_audio=job["embed"],
        )
        return {"status": 200, "media_type": "text/html; charset=utf-8"}, page.encode()
    body = json.dumps(analyses_to_dict([assessment], classifier), ensure_ascii=False).encode()
    return {"status": 200, "media_type": "application/json"}, body


class Stream:
    """One live stream: what is heard in it, and what to mend while it can still be mended."""

    def __init__(self, sample_rate: int, classifier: Any) -> None:
        from audio_pipeline.analysis.pipeline import StreamAnalyzer
        from audio_pipeline.app.capture.live import LevelMeter, VoiceMeter

        self._analyzer = StreamAnalyzer(sample_rate, classifier, remember=False)
        self._level = LevelMeter(sample_rate)
        self._voice = VoiceMeter(sample_rate)
        self._hint = "good"

    def push(self, samples: NDArray[np.float32]) -> list[dict[str, Any]]:
        """Take the next samples, whatever they are; return the messages for the page."""
        finite = np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0).clip(-1, 1)
        self._level.update(finite)
        self._voice.update(finite)
        hint = "speech" if self._voice.speaking else self._level.advice
        messages = _events(self._analyzer.push(samples))
        if hint != self._hint:
            self._hint = hint
            messages.append({"type": "hint", "code": hint, "text": HINTS[hint]})
        return messages

    def finish(self) -> list[dict[str, Any]]:
        """Return the last events."""
        return _events(self._analyzer.finish())


def _events(heard: list[Any]) -> list[dict[str, Any]]:
    return [{"type": "event", **each.event.to_dict(), "final": each.final} for each in heard]


def hear(
    job: Mapping[str, Any], audio: NamedBytes, classifier: Any, streams: dict[str, Stream]
) -> tuple[dict[str, Any], bytes]:
    """Do one step of a live stream.

    ``job``: ``stream`` (its name), ``step`` ("open", "push", "finish" or "drop") and, to open one,
        ``sample_rate``.
    ``audio``: samples, little-endian float32.
    As in `serve`; the body is a JSON list of messages for the page.
    """
    name, messages = job["stream"], []
    if job["step"] == "open":
        streams[name] = Stream(job["sample_rate"], classifier)
    elif job["step"] == "drop":
        streams.pop(name, None)
    elif name not in streams:
        raise Refusal(500, "stream_lost", "The live stream was lost.")
    elif job["step"] == "push":
        messages = streams[name].push(np.frombuffer(audio.getvalue(), "<f4").astype(np.float32))
    else:
        messages = streams.pop(name).finish()
    body = json.dumps(messages, ensure_ascii=False).encode()
    return {"status": 200, "media_type": "application/json"}, body


def one_line(error: str | None) -> str:
    """Return the reason of a failed recording as a sentence."""
    return f"This file cannot be read as a recording: {' '.join((error or 'unknown').split())}"


def check_length(source: io.BytesIO, longest: float) -> None:
    """Decode once to count, because headers lie; a small file can hold days of silence.

    Raises Refusal when the recording is longer than `longest` seconds, or cannot be decoded.
    """
    from audio_pipeline.audio.recording import open_recording

    too_long = Refusal(
        422,
        "too_long",
        f"The recording is longer than {longest / 60:g} minutes. Send a shorter one,"
        " or use crepitus analyze.",
    )
    try:
        with open_recording(source) as reader:
            if reader.duration is not None and reader.duration > longest:
                raise too_long
            count = 0
            for block in reader.blocks():
                count += len(block)
                if count > longest * reader.sample_rate:
                    raise too_long
    except RecordingError as error:
        raise Refusal(422, "undecodable_audio", one_line(str(error))) from None
    source.seek(0)


def with_capture(analysis: Any, capture: Mapping[str, Any]) -> Any:
    """Carry what the browser did to the sound into the quality verdict.

    With a warning ``processed_capture`` when the browser kept changing the sound although it was
    asked not to, or would not say; unknown is not "off".
    """
    from audio_pipeline.audio.quality import QualityWarning

    if analysis.quality is None or not capture:
        return analysis
    on = [words for name, words in CAPTURE_WORDS.items() if capture.get(name) is True]
    unknown = [words for name, words in CAPTURE_WORDS.items() if capture.get(name) is None]
    if on:
        text = (
            f"The browser changed the sound ({', '.join(on)}). This can remove short sounds such"
            " as pops. Try another browser, or record with the phone's own recorder."
        )
    elif unknown:
        text = f"The browser does not say whether it changed the sound ({', '.join(unknown)})."
    else:
        return analysis
    code = "processed_capture" if on else "capture_unknown"
    warnings = (*analysis.quality.warnings, QualityWarning(code, text))
    return replace(analysis, quality=replace(analysis.quality, warnings=warnings))
