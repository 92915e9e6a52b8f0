"""Is this machine ready? Every part is tried for real, none is only looked up."""

from __future__ import annotations

import importlib.metadata
import io
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from audio_pipeline._version import __version__
from audio_pipeline.exceptions import CrepitusError

if TYPE_CHECKING:
    from audio_pipeline.audio.microphone import Microphone
    from audio_pipeline.audio.quality import Quality

Status = Literal["ok", "note", "problem"]

TEST_RATE = 48_000
TEST_SECONDS = 0.2
TAKE_SECONDS = 3.0
RISE_DB = 6.0
"""A quiet room does not grow louder by this much in 3 s; a gain control that opens up does."""

PACKAGES = ("librosa", "numpy", "scipy", "scikit-learn", "soundfile", "soxr", "av", "sounddevice")
PROCESSED_NAMES = ("echo-cancel", "echo cancel", "rnnoise", "noise suppression", "krisp")
TELEPHONE_NAMES = ("hands-free", "handsfree", "bluetooth", "airpods")


@dataclass(frozen=True)
class Check:
    """One part of the machine."""

    name: str  # ``versions``, ``model``, ``codecs``, ``analysis``, ``sound card`` or ``microphone``
    status: Status  # a note limits something; a problem keeps files from being analysed
    text: str  # sentences for people, fit to be read aloud
    details: dict[str, Any] = field(default_factory=dict)  # plain values for programs


def check_machine(
    device: str | None, model: Path | None, *, trusted: bool = False
) -> Iterator[Check]:
    """Try everything, one check after the other, so that each can be shown when it is done.

    ``device``: the microphone to try, as in ``record --device``.
    ``model, trusted``: the model folder, None for the default one; whether any estimator in it is
        loaded.
    """
    yield check_versions()
    yield _guarded("model", lambda: _check_model(model, trusted))
    yield check_codecs()
    yield _guarded("analysis", lambda: _check_analysis(model, trusted))
    sound_card = _guarded("sound card", _check_sound_card, worst="note")
    yield sound_card
    if sound_card.status == "ok":
        yield _guarded("microphone", lambda: _check_microphone(device), worst="note")


def _guarded(name: str, check: Callable[[], Check], worst: Status = "problem") -> Check:
    """Turn an error into a check that failed."""
    try:
        return check()
    except CrepitusError as error:
        text = f"{str(error)[:1].upper()}{str(error)[1:]}."
        return Check(name, worst, text)


def check_versions() -> Check:
    """Say which versions are installed."""
    versions = {"crepitus": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Check("versions", "ok", f"{listed}; {platform.platform()}.", {"versions": versions})


def _check_model(folder: Path | None, trusted: bool) -> Check:
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(folder, trusted=trusted)
    labels = ", ".join(classifier.labels)
    return Check(
        "model",
        "ok",
        f"The model {classifier.name} loads; it knows {labels}.",
        {"name": classifier.name, "sha256": classifier.sha256, "labels": list(classifier.labels)},
    )


def check_codecs() -> Check:
    """Make a tiny file of every format in memory and decode it.

    A format this machine cannot *make* (builds of FFmpeg differ in their encoders) says nothing
    about reading it and is listed as not tried.
    """
    results = {name: _try_codec(make) for name, make in _codecs().items()}
    failed = [name for name, result in results.items() if result == "failed"]
    untried = [name for name, result in results.items() if result == "not tried"]
    read = [name for name, result in results.items() if result == "ok"]
    text = f"These formats can be read: {', '.join(read)}."
    if untried:
        text += f" Not tried, since this machine cannot make them: {', '.join(untried)}."
    if failed:
        text += f" These can NOT be read: {', '.join(failed)}. Install Crepitus anew."
    return Check("codecs", "problem" if failed else "ok", text, {"formats": results})


def _try_codec(make: Callable[[NDArray[np.float32]], bytes]) -> str:
    """Return ``ok``, ``failed`` or ``not tried``."""
    from audio_pipeline.audio.recording import read_recording
    from audio_pipeline.exceptions import RecordingError

    times = np.arange(round(TEST_RATE * TEST_SECONDS)) / TEST_RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    try:
        data = make(tone)
    except Exception:  # whatever an encoder that is not there raises
        return "not tried"
    try:
        heard = read_recording(io.BytesIO(data))
    except RecordingError:
        return "failed"
    return "ok" if heard.duration > TEST_SECONDS / 2 else "failed"


def _codecs() -> dict[str, Callable[[NDArray[np.float32]], bytes]]:
    """Return a maker of file bytes for every format, by the name people know."""
    return {
        "WAV": lambda tone: _with_soundfile(tone, "WAV", "PCM_16"),
        "FLAC": lambda tone: _with_soundfile(tone, "FLAC", "PCM_24"),
        "AIFF": lambda tone: _with_soundfile(tone, "AIFF", "PCM_16"),
        "OGG Vorbis": lambda tone: _with_soundfile(tone, "OGG", "VORBIS"),
        "OGG Opus": lambda tone: _with_soundfile(tone, "OGG", "OPUS"),
        "MP3": lambda tone: _with_soundfile(tone, "MP3", "MPEG_LAYER_III"),
        "M4A (AAC)": lambda tone: _with_av(tone, "mp4", "aac"),
        "M4A (ALAC)": lambda tone: _with_av(tone, "mp4", "alac"),
        "MOV": lambda tone: _with_av(tone, "mov", "aac"),
        "3GP": lambda tone: _with_av(tone, "3gp", "aac"),
        "WebM (Opus)": lambda tone: _with_av(tone, "webm", "libopus"),
        "WMA": lambda tone: _with_av(tone, "asf", "wmav2"),
        # Ten 20 ms frames of silence at 12.2 kbit/s: a header octet, then 31 octets of speech.
        "AMR": lambda tone: b"#!AMR\n" + (b"\x3c" + bytes(31)) * 10,
    }


def _with_soundfile(tone: NDArray[np.float32], container: str, subtype: str) -> bytes:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, tone, TEST_RATE, subtype=subtype, format=container)
    return buffer.getvalue()


def _with_av(tone: NDArray[np.float32], container: str, codec: str) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=TEST_RATE)
        stream.layout = "mono"
        stream.bit_rate = 96_000  # without a figure some encoders do not start
        resampler = av.AudioResampler(
            stream.format, stream.layout, TEST_RATE, frame_size=stream.frame_size or 1024
        )
        frame = av.AudioFrame.from_ndarray(tone.reshape(1, -1), "fltp", "mono")
        frame.sample_rate = TEST_RATE
        frame.time_base = Fraction(1, TEST_RATE)
        frame.pts = 0
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def _check_analysis(model: Path | None, trusted: bool) -> Check:
    from audio_pipeline.app.capture.live import warm_up
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(model, trusted=trusted)
    began = time.perf_counter()
    warm_up(classifier)
    seconds = time.perf_counter() - began
    text = f"A test sound was analysed; everything is loaded ({seconds:.1f} s)."
    return Check("analysis", "ok", text, {"seconds": round(seconds, 2)})


def _check_sound_card() -> Check:
    from audio_pipeline.audio.microphone import devices

    found = devices()
    if not found:
        text = "No microphone was found. Files can be analysed; to record, plug one in."
        return Check("sound card", "note", text, {"devices": []})
    names = "; ".join(device.name for device in found)
    default = next((device.name for device in found if device.default), found[0].name)
    return Check(
        "sound card",
        "ok",
        f"PortAudio works. Microphones: {names}. Used when none is chosen: {default}.",
        {"devices": [device.to_dict() for device in found]},
    )


def _check_microphone(wanted: str | None) -> Check:
    from audio_pipeline.audio.microphone import Microphone, pick_device

    chosen = pick_device(wanted)
    with Microphone(chosen) as microphone:
        samples = _test_take(microphone)
        rate, overflows = microphone.sample_rate, microphone.overflows
    return judge_test_take(samples, rate, chosen.name, overflows)


def _test_take(microphone: Microphone) -> NDArray[np.float32]:
    """Record a few seconds, without the first quarter: many devices click when they open."""
    parts: list[NDArray[np.float32]] = []
    wanted = round((TAKE_SECONDS + 0.25) * microphone.sample_rate)
    while sum(map(len, parts)) < wanted:
        block = microphone.read()
        if block is not None:
            parts.append(block)
    return np.concatenate(parts)[round(0.25 * microphone.sample_rate) : wanted]


def judge_test_take(
    samples: NDArray[np.float32], sample_rate: int, name: str, overflows: int
) -> Check:
    """Say what a few seconds of quiet tell about a microphone.

    ``samples``: a take of a quiet room.
    ``overflows``: how often sound was lost.
    """
    from audio_pipeline.audio.quality import QualityMeter

    meter = QualityMeter(sample_rate)
    meter.update(samples)
    quality = meter.result(())
    notes = [warning.text for warning in quality.warnings if warning.code not in _NOT_HERE]
    notes += _signs_of_processing(samples, sample_rate, name, quality)
    if overflows:
        notes.append(f"Sound was lost {overflows} times: close other programs.")
    facts = f"{name} at {sample_rate} Hz."
    if quality.noise_floor_dbfs is not None:
        facts += f" Noise floor {quality.noise_floor_dbfs:.0f} dB of full scale."
    if quality.bandwidth_hz is not None:
        facts += f" Sound up to {quality.bandwidth_hz / 1000:.1f} kHz."
    if not notes:
        facts += " No sign of noise suppression or automatic gain."
    return Check(
        "microphone",
        "note" if notes else "ok",
        " ".join([facts, *notes]),
        {"name": name, "sample_rate": sample_rate, "overflows": overflows, **quality.to_dict()},
    )


_NOT_HERE = ("too_quiet",)
"""What is a fault in a recording of a twist and none in a recording of a quiet room."""


def _signs_of_processing(
    samples: NDArray[np.float32], sample_rate: int, name: str, quality: Quality
) -> list[str]:
    """Say what looks like software that changes the sound on its way."""
    signs = []
    lower = name.casefold()
    if any(word in lower for word in PROCESSED_NAMES):
        signs.append("Its name says that it suppresses noise: choose the microphone itself.")
    if any(word in lower for word in TELEPHONE_NAMES):
        signs.append("Bluetooth carries a telephone's sound only: use another microphone.")
    if _rise_db(samples, sample_rate) > RISE_DB:
        signs.append("The quiet grew louder by itself: switch automatic gain off.")
    return signs


def _rise_db(samples: NDArray[np.float32], sample_rate: int) -> float:
    """Return by how many dB the quiet rose from the first to the last third, in steps of 50 ms.

    The quietest fifth of the steps counts, so that a voice or a knock is no rise. 0 when there is
    digital silence or less than 1 s.
    """
    step = round(sample_rate * 0.05)
    count = len(samples) // step
    if count < 20:
        return 0.0
    power = np.square(samples[: count * step].reshape(count, step), dtype=np.float64).mean(axis=1)
    first, _, last = (np.quantile(part, 0.2) for part in np.array_split(power, 3))
    return float(10 * np.log10(last / first)) if first > 0 and last > 0 else 0.0
