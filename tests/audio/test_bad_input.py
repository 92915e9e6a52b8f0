"""Damaged, empty, odd and hostile files: one clear line, no hang, neighbours unharmed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from audio_files import FORMATS, clicks, encode, film_without_sound

from audio_pipeline.analysis.pipeline import Analysis, analyze_file
from audio_pipeline.audio.quality import QualityMeter
from audio_pipeline.audio.recording import open_recording, read_recording
from audio_pipeline.exceptions import RecordingError
from audio_pipeline.model.classifier import Classifier, load_classifier

RATE = 48000
TIMES = (0.5, 1.4)
SOUND = clicks(TIMES, 2.0, RATE)
WAV = encode(SOUND, RATE, "wav")


@pytest.fixture(scope="module")
def model() -> Classifier:
    """Return the default model, sure of what is likelier than not: no click is at a threshold."""
    shipped = load_classifier()
    return replace(shipped, thresholds=dict.fromkeys(shipped.labels, 0.5))


def floats(samples: np.ndarray, rate: int = RATE) -> bytes:
    return encode(samples.astype(np.float32), rate, "wav-float")


def random_bytes(count: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(count)


# ---- failed ------------------------------------------------------------------------------------

FAILED: dict[str, Callable[[], bytes]] = {
    "0 bytes": lambda: b"",
    "1 byte": lambda: b"R",
    "text": lambda: b"These are not the sounds you are looking for.\n" * 50,
    "page": lambda: b"<html><body>404</body></html>",
    "picture": lambda: b"\x89PNG\r\n\x1a\n" + random_bytes(3000),
    "random": lambda: random_bytes(50_000),
    "random behind an MP3 header": lambda: b"\xff\xfb\x90\x00" + random_bytes(50_000),
    "random behind a WAV header": lambda: WAV[:20] + random_bytes(5000),
    "zeros": lambda: bytes(50_000),
    "ones": lambda: b"\xff" * 50_000,
    "WAV header only": lambda: WAV[:44],
    "half a WAV header": lambda: WAV[:30],
    "no samples": lambda: encode(SOUND[:0], RATE, "wav"),
    "no samples in AIFF": lambda: encode(SOUND[:0], RATE, "aiff"),
    "no samples in CAF": lambda: encode(SOUND[:0], RATE, "caf"),
    "FLAC header only": lambda: encode(SOUND, RATE, "flac")[:60],
    "MP4 without its index": lambda: encode(SOUND, RATE, "m4a")[:6000],
    "Opus header only": lambda: encode(SOUND, RATE, "ogg-opus")[:150],
    "WebM header only": lambda: encode(SOUND, RATE, "webm")[:200],
    "film without sound": film_without_sound,
    "impossible rate": lambda: WAV[:24] + (2**32 - 5).to_bytes(4, "little") + WAV[28:],
    "no channels": lambda: WAV[:22] + bytes(2) + WAV[24:],
    "playlist": lambda: b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
}


@pytest.mark.parametrize("name", FAILED)
def test_what_holds_no_sound_fails_in_one_line(
    name: str, model: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "bad.wav"
    path.write_bytes(FAILED[name]())
    with pytest.raises(RecordingError) as caught:
        read_recording(path)
    line = str(caught.value)
    assert line
    assert "\n" not in line
    assert str(tmp_path) not in line
    assert_failed(analyze_file(path, model), line)


def assert_failed(analysis: Analysis, line: str) -> None:
    assert (analysis.status, analysis.error) == ("failed", line)
    assert (analysis.events, analysis.finding, analysis.duration) == ((), None, None)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_what_is_no_file_fails_in_one_line(tmp_path: Path, model: Classifier) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "folder.wav").mkdir()
    reasons = {}
    for name in ("pipe.wav", "loop.wav", "folder.wav", "missing.wav", "x" * 5000, "nul\0.wav"):
        with pytest.raises(RecordingError) as caught:
            read_recording(tmp_path / name)
        reasons[name] = str(caught.value)
        assert_failed(analyze_file(tmp_path / name, model), reasons[name])
    assert "pipe" in reasons["pipe.wav"]
    assert "folder" in reasons["folder.wav"]
    assert "no such file" in reasons["missing.wav"]
    assert not any("\n" in reason for reason in reasons.values())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_file_that_may_not_be_read_fails(tmp_path: Path) -> None:
    path = tmp_path / "secret.wav"
    path.write_bytes(WAV)
    path.chmod(0)
    with pytest.raises(RecordingError, match="may not be read"):
        read_recording(path)


def test_a_device_that_breaks_while_it_is_read_ends_the_sound(tmp_path: Path) -> None:
    class Pulled(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 60_000:
                raise OSError(5, "Input/output error")
            return super().read(min(size or 0, 10_000) if (size or 0) > 0 else 10_000)

    for kind in ("wav", "flac", "mp3"):
        with open_recording(Pulled(encode(clicks(TIMES, 9.0, RATE), RATE, kind))) as reader:
            samples = np.concatenate(list(reader.blocks(0.5)))
        assert reader.truncated, kind
        assert 0.5 < len(samples) / RATE < 9.0, kind


def test_a_playlist_never_opens_another_file(tmp_path: Path) -> None:
    (tmp_path / "target.wav").write_bytes(WAV)
    target = tmp_path / "target.wav"
    for number, text in enumerate(
        (
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{target}\n#EXT-X-ENDLIST\n",
            f"ffconcat version 1.0\nfile '{target}'\n",
            f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
            f"v=0\nm=audio 5004 RTP/AVP 0\nc=IN IP4 127.0.0.1\na=x:{target}\n",
        )
    ):
        path = tmp_path / f"list{number}.wav"
        path.write_text(text)
        with pytest.raises(RecordingError):
            read_recording(path)


# ---- unusable ----------------------------------------------------------------------------------

UNUSABLE: dict[str, tuple[Callable[[], bytes], str]] = {
    "10 ms": (lambda: floats(SOUND[24000:24480]), "too_short"),
    "1 sample": (lambda: floats(SOUND[:1]), "too_short"),
    "silence": (lambda: floats(SOUND * 0), "silent"),
    "silence in AAC": (lambda: encode(SOUND * 0, RATE, "m4a"), "silent"),
    "a constant": (lambda: encode(SOUND * 0 + 0.4, RATE, "wav"), "silent"),
    "2 % no numbers": (
        lambda: floats(np.where(np.arange(len(SOUND)) % 50 == 0, np.nan, SOUND)),
        "nonfinite",
    ),
    "all infinite": (lambda: floats(SOUND + np.inf), "nonfinite"),
    "7999 Hz": (lambda: floats(clicks((0.5,), 1.0, 7999), 7999), "low_rate"),
    "1 Hz": (lambda: floats(SOUND[:500], 1), "low_rate"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_cannot_be_used_says_why(name: str, model: Classifier) -> None:
    make, code = UNUSABLE[name]
    analysis = analyze_file(io.BytesIO(make()), model)
    assert (analysis.status, analysis.error) == ("ok", None)
    assert analysis.finding is not None
    assert analysis.finding.label == "unusable"
    assert analysis.finding.confidence == 0
    assert analysis.events == ()
    assert analysis.quality is not None
    assert code in [warning.code for warning in analysis.quality.warnings]


# ---- fine --------------------------------------------------------------------------------------

FINE: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "few no numbers": (
        lambda: floats(np.where(np.arange(len(SOUND)) == 9, np.nan, SOUND)),
        {"nonfinite"},
    ),
    "beyond full scale": (lambda: floats(SOUND * 20), {"over_full_scale"}),
    "another full scale": (lambda: floats(SOUND * 32768), {"over_full_scale"}),
    "quiet": (lambda: floats(SOUND * 0.05), set()),
    "double": (lambda: encode(SOUND, RATE, "wav-double"), set()),
    "8 bits": (lambda: encode(SOUND, RATE, "wav-8-bit"), set()),
    "8 channels": (lambda: encode(np.stack([SOUND] * 8, 1), RATE, "wav"), set()),
    "384 kHz": (lambda: encode(clicks(TIMES, 2.0, 384000), 384000, "wav"), set()),
    "8 kHz": (lambda: encode(clicks(TIMES, 2.0, 8000), 8000, "wav"), {"narrow_bandwidth"}),
    "cut off at its end": (lambda: WAV[: len(WAV) * 9 // 10], {"truncated"}),
    "FLAC cut off": (lambda: encode(SOUND, RATE, "flac")[:-20000], {"truncated"}),
    "MP3 cut off": (lambda: encode(SOUND, RATE, "mp3")[:-4000], {"truncated"}),
    "length never written": (lambda: WAV[:40] + bytes(4) + WAV[44:], set()),
    "length unknown": (lambda: WAV[:40] + b"\xff" * 4 + WAV[44:], set()),
    "bytes behind the sound": (lambda: WAV + b"LIST\x04\0\0\0abcd", set()),
}


@pytest.mark.parametrize("name", FINE)
def test_what_is_odd_but_whole_is_analysed(name: str, model: Classifier) -> None:
    make, expected = FINE[name]
    analysis = analyze_file(io.BytesIO(make()), model)
    assert analysis.status == "ok"
    assert analysis.quality is not None
    assert analysis.quality.usable
    assert {warning.code for warning in analysis.quality.warnings} == expected
    sure = [event.start for event in analysis.events if not event.uncertain]
    assert sure[: len(TIMES)] == pytest.approx(TIMES, abs=0.01)


@pytest.mark.parametrize("milliseconds", [30, 40, 50])
def test_a_clip_that_is_all_event_is_fine(milliseconds: int, model: Classifier) -> None:
    clip = SOUND[24000:][: 48 * milliseconds]
    analysis = analyze_file(io.BytesIO(encode(clip, RATE, "wav")), model)
    assert analysis.quality is not None
    assert [warning.code for warning in analysis.quality.warnings] == ["short"]
    assert len(analysis.events) == 1


# ---- the same sound in every format ------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_finding_and_times(kind: str, model: Classifier) -> None:
    reference = analyze_file(io.BytesIO(WAV), model)
    analysis = analyze_file(io.BytesIO(encode(SOUND, RATE, kind)), model)
    assert reference.finding is not None
    assert analysis.finding is not None
    assert analysis.finding.label == reference.finding.label == "repeated_pops"
    assert len(analysis.events) == len(reference.events)
    for event, expected in zip(analysis.events, reference.events, strict=True):
        assert event.label == expected.label
        assert event.start == pytest.approx(expected.start, abs=FORMATS[kind].clock)
        assert event.end == pytest.approx(expected.end, abs=FORMATS[kind].clock)


# ---- from the command line ---------------------------------------------------------------------


@pytest.mark.slow
def test_one_bad_file_never_harms_another(tmp_path: Path) -> None:
    good = ["a.wav", "b\nc.flac", "Knöchel 🦴.m4a"]
    for name in good:
        kind = name.rpartition(".")[2]
        (tmp_path / name).write_bytes(encode(SOUND, RATE, kind))
    bad = ["empty.wav", "random.mp3", "film.mp4", "missing.wav"]
    (tmp_path / "empty.wav").touch()
    (tmp_path / "random.mp3").write_bytes(random_bytes(9000))
    (tmp_path / "film.mp4").write_bytes(film_without_sound())
    names = [bad[0], good[0], bad[1], good[1], bad[2], good[2], bad[3]]
    done = subprocess.run(
        [sys.executable, "-m", "audio_pipeline", "analyze", "--json", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    page = json.loads(done.stdout)
    status = {item["source"]: item["status"] for item in page["recordings"]}
    assert status == {name: "failed" if name in bad else "ok" for name in names}
    for item in page["recordings"]:
        if item["source"] in good:
            assert item["error"] is None
            assert [event["start"] for event in item["events"]] == pytest.approx(TIMES, abs=0.01)
        else:
            assert item["error"]
            assert "\n" not in item["error"]
            assert (item["events"], item["finding"], item["duration"]) == ([], None, None)


# ---- damage by chance --------------------------------------------------------------------------


def damaged(data: bytes, generator: np.random.Generator) -> bytes:
    """Return a copy with one kind of harm: cut, flipped, wiped, lost or foreign bytes."""
    harm = bytearray(data)
    place = int(generator.integers(len(data)))
    count = int(generator.integers(1, 3000))
    match generator.integers(6):
        case 0:
            return data[:place]
        case 1:
            for spot in generator.integers(0, len(data), 20):
                harm[spot] = generator.integers(256)
        case 2:
            for spot in generator.integers(0, min(len(data), 120), 6):
                harm[spot] = generator.integers(256)
        case 3:
            harm[place : place + count] = bytes(count)
        case 4:
            del harm[place : place + count]
        case 5:
            harm[place:place] = generator.bytes(count)
    return bytes(harm)


def read_damaged(rounds: int, seed: int) -> tuple[int, int]:
    """Read damaged files of every format; return how many gave sound, and how many none."""
    generator = np.random.default_rng(seed)
    sound = clicks((0.2,), 0.5, 16000)
    whole = [encode(sound, 16000, kind) for kind in FORMATS]
    heard = failed = 0
    for number in range(rounds):
        data = damaged(whole[number % len(whole)], generator)
        try:
            with open_recording(io.BytesIO(data)) as reader:
                for block in reader.blocks():
                    assert block.dtype == np.float32
                    assert block.ndim == 1
                    assert len(block)
            heard += 1
        except RecordingError as error:
            failed += "\n" not in str(error)
    assert heard + failed == rounds
    return heard, failed


def test_damaged_files_give_sound_or_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    heard, failed = read_damaged(rounds=360, seed=1)
    assert heard > 100
    assert failed > 50
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_many_damaged_files_give_sound_or_one_line() -> None:
    assert min(read_damaged(rounds=7200, seed=2)) > 1000


@pytest.mark.parametrize("kind", ["flac", "mp3", "aac", "m4a", "webm", "ogg-opus", "ogg-vorbis"])
def test_damage_in_the_middle_spares_the_rest(kind: str) -> None:
    sound = clicks((0.5, 3.5), 4.0, RATE)
    data = bytearray(encode(sound, RATE, kind))
    data[len(data) // 2 : len(data) // 2 + 60] = random_bytes(60, seed=3)
    samples = read_recording(io.BytesIO(bytes(data))).samples
    first, last = samples[: 2 * RATE], samples[round(2.9 * RATE) :]
    assert np.argmax(np.abs(first) > 0.2) / RATE == pytest.approx(0.5, abs=0.01)
    # A lost frame or two may shift what follows where the file has no time stamps.
    assert 2.9 + np.argmax(np.abs(last) > 0.2) / RATE == pytest.approx(3.5, abs=0.1)


# ---- memory ------------------------------------------------------------------------------------


def peak_bytes(work: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_hours_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    size = 1200 * RATE * 2
    path.write_bytes(WAV[:40] + size.to_bytes(4, "little"))
    with open(path, "r+b") as file:
        file.truncate(44 + size)

    def listen() -> None:
        with open_recording(path) as reader:
            meter = QualityMeter(reader.sample_rate)
            seconds = sum(len(meter.update(block)) for block in reader.blocks()) / RATE
        assert seconds == 1200
        assert not meter.result().usable

    assert peak_bytes(listen) < 40e6


@pytest.mark.parametrize("channels", [1, 8, 256])
def test_a_header_that_promises_the_world_costs_no_memory(channels: int) -> None:
    data = bytearray(WAV)
    data[22:24] = channels.to_bytes(2, "little")
    data[24:28] = (1_000_000).to_bytes(4, "little")
    data[32:34] = (2 * channels).to_bytes(2, "little")
    data[40:44] = (2**31 - 2).to_bytes(4, "little")

    def read() -> None:
        with open_recording(io.BytesIO(bytes(data))) as reader:
            assert sum(len(block) for block in reader.blocks()) * channels <= len(SOUND)

    assert peak_bytes(read) < 40e6
