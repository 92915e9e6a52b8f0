"""``crepitus check``: what it says is tried, and a machine that is not ready is named."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from virtual_sound_card import VirtualSoundCard, sound_card  # noqa: F401

from audio_pipeline.app import readiness
from audio_pipeline.app.cli.record import check_command as command
from audio_pipeline.app.readiness import check_codecs, check_versions, judge_test_take
from audio_pipeline.exceptions import CrepitusError

RATE = 48_000


def room(seconds: float = 3.0, level: float = 1e-3) -> np.ndarray:
    return np.random.default_rng(1).normal(0, level, round(seconds * RATE)).astype(np.float32)


def test_every_format_is_decoded_for_real() -> None:
    check = check_codecs()
    formats = check.details["formats"]
    assert set(formats.values()) <= {"ok", "not tried"}
    for always in ("WAV", "FLAC", "OGG Vorbis", "MP3", "AMR"):
        assert formats[always] == "ok"
    assert check.status == "ok"


def test_a_format_that_cannot_be_decoded_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = {"WAV": lambda tone: b"RIFF....", "FLAC": readiness._codecs()["FLAC"]}
    monkeypatch.setattr(readiness, "_codecs", lambda: broken)
    check = check_codecs()
    assert check.details["formats"] == {"WAV": "failed", "FLAC": "ok"}
    assert check.status == "problem"
    assert "WAV" in check.text.split("NOT")[1]


def test_versions_name_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "PACKAGES", ("numpy", "no-such-package"))
    check = check_versions()
    assert check.details["versions"]["numpy"] == np.__version__
    assert "no-such-package not installed" in check.text


def test_a_plain_room_shows_no_processing() -> None:
    check = judge_test_take(room(), RATE, "USB microphone", 0)
    assert check.status == "ok"
    assert "No sign of noise suppression" in check.text
    assert check.details["noise_floor_dbfs"] == pytest.approx(-60, abs=1.5)


@pytest.mark.parametrize(
    ("samples", "name", "overflows", "said"),
    [
        (room() * np.linspace(0.1, 1.0, 3 * RATE).astype(np.float32), "mic", 0, "automatic gain"),
        (np.zeros(3 * RATE, np.float32), "mic", 0, "no sound at all"),
        (room(), "Noise Suppression Source", 0, "suppresses noise"),
        (room(), "AirPods Hands-Free", 0, "telephone"),
        (room(), "mic", 3, "lost 3 times"),
    ],
)
def test_each_fault_of_a_microphone_is_named(
    samples: np.ndarray, name: str, overflows: int, said: str
) -> None:
    check = judge_test_take(samples, RATE, name, overflows)
    assert check.status == "note"
    assert said in check.text


def test_gated_silence_is_named() -> None:
    samples = room()
    samples[RATE : 2 * RATE] = 0
    assert "Noise suppression" in judge_test_take(samples, RATE, "mic", 0).text


def test_a_knock_during_the_test_take_is_no_gain_control() -> None:
    samples = room()
    samples[-RATE // 2 :][:4800] += 0.5
    assert "automatic gain:" not in judge_test_take(samples, RATE, "mic", 0).text
    assert "grew louder" not in judge_test_take(samples, RATE, "mic", 0).text


def test_without_portaudio_files_can_still_be_analysed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    ended = CliRunner().invoke(command, ["--json"])
    assert ended.exit_code == 0, ended.output
    document = json.loads(ended.stdout)
    assert document["ready"] is True
    by_name = {check["name"]: check for check in document["checks"]}
    assert by_name["sound card"]["status"] == "note"
    assert "pip install" in by_name["sound card"]["text"]
    assert "microphone" not in by_name


def test_a_model_that_is_not_there_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    ended = CliRunner().invoke(command, ["--json", "--model", str(tmp_path)])
    assert json.loads(ended.stdout)["ready"] is False
    assert isinstance(ended.exception, CrepitusError)
    assert "model" in str(ended.exception)


@pytest.mark.slow
def test_with_a_microphone_it_records_a_take(sound_card: VirtualSoundCard) -> None:  # noqa: F811
    sound_card.play(room(12.0, 1e-4))
    ended = CliRunner().invoke(command, ["--device", "pulse"])
    assert ended.exit_code == 0, ended.output
    assert "pulse at 48000 Hz. Noise floor -80 dB" in " ".join(ended.stdout.split())
    assert ended.stdout.rstrip().endswith("Ready.")


def test_the_codecs_fail_on_nonsense() -> None:
    assert readiness._try_codec(lambda tone: b"not a sound") == "failed"
    assert readiness._try_codec(lambda tone: io.BytesIO(b"").getvalue()) == "failed"
