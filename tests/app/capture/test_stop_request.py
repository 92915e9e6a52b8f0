"""Asking a take to stop, and the one thing that is remembered."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from audio_pipeline.app.capture.recorder import StopRequest
from audio_pipeline.audio import microphone
from audio_pipeline.audio.microphone import Device, memory_path, pick_device, remember_device
from audio_pipeline.exceptions import CrepitusError, InvalidInputError


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_asks_to_stop_and_raises_nothing(name: str) -> None:
    number = getattr(signal, name)
    # The suite itself may run under nohup.
    usual = signal.signal(number, signal.default_int_handler)
    try:
        with StopRequest() as stop:
            assert not stop.asked()
            os.kill(os.getpid(), number)
            assert stop.asked()
            assert stop.asked()
        assert signal.getsignal(number) == signal.default_int_handler
    finally:
        signal.signal(number, usual)


def test_under_nohup_a_closed_terminal_stops_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def called(name: str, default: bool = False) -> Device:
    return Device(0, name, "ALSA", 1, 48_000, default)


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Device]:
    found = [called("Built-in", default=True), called("USB Mic")]
    monkeypatch.setattr(microphone, "devices", lambda: found)
    monkeypatch.setattr(microphone, "memory_path", lambda: tmp_path / "a" / "mic.json")
    return found


def test_the_chosen_microphone_is_remembered(shelf: list[Device]) -> None:
    assert pick_device(None) == shelf[0]
    remember_device(shelf[1])
    assert pick_device(None) == shelf[1]
    assert pick_device("built") == shelf[0]


def test_a_remembered_one_is_found_again_under_another_card_number(shelf: list[Device]) -> None:
    remember_device(called("Snowball: USB Audio (hw:1,0)"))
    shelf.append(called("Snowball: USB Audio (hw:3,0)"))
    assert pick_device(None) == shelf[-1]


def test_a_remembered_one_that_is_gone_is_said_and_replaced_by_the_default(
    shelf: list[Device], capsys: pytest.CaptureFixture[str]
) -> None:
    remember_device(shelf.pop())
    assert pick_device(None) == shelf[0]
    assert "'USB Mic' is not there" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"name": 3}', "\x00", '"x"'])
def test_a_broken_memory_is_no_memory(
    shelf: list[Device], content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = microphone.memory_path()
    path.parent.mkdir()
    path.write_text(content)
    assert pick_device(None) == shelf[0]


def test_a_wrong_name_is_refused_and_no_microphone_is_an_error(shelf: list[Device]) -> None:
    with pytest.raises(InvalidInputError, match="Built-in"):
        pick_device("nope")
    remember_device(shelf[0])
    shelf.clear()
    with pytest.raises(CrepitusError, match="plug one in"):
        pick_device(None)


def test_a_read_only_home_is_no_reason_not_to_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(microphone, "memory_path", lambda: tmp_path / "file" / "mic.json")
    remember_device(called("x"))


def test_it_is_remembered_in_the_users_configuration() -> None:
    assert memory_path().parts[-2:] == ("crepitus", "microphone.json")
