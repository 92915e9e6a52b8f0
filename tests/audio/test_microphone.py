"""The sound card: choosing a device, and blocks that are what was played."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_sound_card import RATE, VirtualSoundCard, sound_card  # noqa: F401

from audio_pipeline.audio.microphone import (
    CaptureConfig,
    Device,
    Microphone,
    MicrophoneLostError,
    choose_device,
    devices,
    open_failure,
    portaudio_install_line,
    suppress_native_stderr,
    to_24_bit,
)
from audio_pipeline.exceptions import CrepitusError, InvalidInputError


def device(name: str, host_api: str = "ALSA", default: bool = False, index: int = 0) -> Device:
    return Device(index, name, host_api, 1, 48_000, default)


SHELF = [
    device("USB Mic", "ALSA", index=4),
    device("USB Mic", "JACK", index=5),
    device("Built-in Audio", default=True, index=7),
    device("USB Microphone Deluxe", index=9),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (None, 7),
        ("built", 7),
        ("Built-in Audio", 7),
        ("2", 7),
        ("usb mic", 4),  # an exact name wins over a part of another
        ("USB Mic, jack", 5),
        ("deluxe", 9),
    ],
)
def test_choose_by_name_part_or_number(wanted: str | None, index: int) -> None:
    assert choose_device(wanted, SHELF).index == index


def test_an_unknown_or_ambiguous_name_lists_what_there_is() -> None:
    with pytest.raises(InvalidInputError, match=r"'headset'.*Built-in Audio"):
        choose_device("headset", SHELF)
    with pytest.raises(InvalidInputError, match="several"):
        choose_device("usb", SHELF)


def test_without_any_microphone_nothing_can_be_chosen() -> None:
    with pytest.raises(CrepitusError, match="plug one in"):
        choose_device(None, [])


def test_without_a_default_the_first_is_taken() -> None:
    assert choose_device(None, SHELF[:2]).index == 4


@given(st.lists(st.floats(-1.5, 1.5, width=32), max_size=50))
def test_24_bit_keeps_order_range_and_half_a_step(values: list[float]) -> None:
    samples = np.array(values, dtype=np.float32)
    whole = to_24_bit(samples)
    limit = 1 << 23
    assert np.all((whole >= -limit) & (whole < limit))
    inside = np.abs(samples) < 1
    assert np.all(np.abs(whole[inside] / limit - samples[inside].astype(float)) <= 0.5 / limit)
    again = to_24_bit((whole / limit).astype(np.float32))
    assert np.array_equal(again, whole)


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_every_platform_has_an_install_line(platform: str) -> None:
    assert "\n" not in portaudio_install_line(platform)


def test_without_portaudio_the_line_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(CrepitusError, match=r"pip install 'crepitus\[record\]'"):
        devices()


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Device unavailable", "close that program"),
        ("Unanticipated host error: Device or resource busy", "close that program"),
        ("Unanticipated host error: Permission denied", "privacy settings"),
        ("Invalid sample rate", "no sample rate"),
        ("Unanticipated host error: Input/output error", "plug it in"),
        ("Out of cheese", "Out of cheese"),
    ],
)
def test_each_failure_to_open_has_its_remedy(reason: str, remedy: str) -> None:
    line = open_failure("USB Mic", reason)
    assert remedy in line
    assert "USB Mic" in line
    assert "\n" not in line


def noise_with_taps(seconds: float, taps: tuple[float, ...], seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.002, round(seconds * RATE))
    decay = np.exp(-np.arange(480) / 60) * np.sin(np.arange(480) * 0.4)
    for at in taps:
        samples[round(at * RATE) :][:480] += 0.5 * decay
    return samples.astype(np.float32)


def collect(source: Microphone, seconds: float) -> np.ndarray:
    blocks: list[np.ndarray] = []
    while sum(map(len, blocks)) < seconds * source.sample_rate:
        block = source.read()
        if block is not None:
            blocks.append(block)
    return np.concatenate(blocks)


def test_the_virtual_card_is_listed(sound_card: VirtualSoundCard) -> None:  # noqa: F811
    found = devices()
    assert found
    assert sum(entry.default for entry in found) == 1
    assert set(found[0].to_dict()) == {
        "name",
        "host_api",
        "channels",
        "default_sample_rate",
        "default",
    }


@pytest.mark.slow
def test_what_is_played_is_what_is_read(sound_card: VirtualSoundCard) -> None:  # noqa: F811
    lead = np.zeros(RATE // 4, np.float32)  # the player's first milliseconds may be skipped
    played = noise_with_taps(1.5, (0.3, 0.8, 1.1))
    with Microphone(choose_device("pulse", devices())) as source:
        assert source.sample_rate == RATE
        collect(source, 0.1)  # it delivers, so nothing played from now on is missed
        sound_card.play(np.concatenate([lead, played]))
        heard = collect(source, 2.4)
        assert source.overflows == 0
        assert source.lost_seconds == 0
    size = 1 << (len(heard) + len(played)).bit_length()
    match = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)))
    start = int(np.argmax(match[: len(heard) - len(played)]))
    window = heard[start : start + len(played)]
    assert np.corrcoef(window, played)[0, 1] > 0.99
    assert np.array_equal(to_24_bit(window), to_24_bit(played))


@pytest.mark.slow
def test_a_slow_reader_is_told_what_was_lost(sound_card: VirtualSoundCard) -> None:  # noqa: F811
    settings = CaptureConfig(queue_seconds=0.2)
    with Microphone(choose_device("pulse", devices()), settings) as source:
        collect(source, 0.1)
        before = time.monotonic()
        time.sleep(0.8)
        asleep = time.monotonic() - before
        collect(source, 0.1)
        assert source.overflows > 0
        assert 0.2 < source.lost_seconds < asleep + 0.2


def test_a_microphone_pulled_out_says_so_after_its_last_block(
    sound_card: VirtualSoundCard,  # noqa: F811
    capfd: pytest.CaptureFixture[str],
) -> None:
    with Microphone(choose_device("pulse", devices())) as source:
        collect(source, 0.3)
        sound_card.pull_out()
        pulled = time.monotonic()
        with pytest.raises(MicrophoneLostError, match="plugged in"):
            list(source.blocks())
        assert time.monotonic() < pulled + 3
    assert capfd.readouterr().err == ""  # PortAudio's own trace is not for people


def test_a_vanished_microphone_does_not_open(sound_card: VirtualSoundCard) -> None:  # noqa: F811
    chosen = choose_device("pulse", devices())
    sound_card.pull_out()
    with pytest.raises(CrepitusError, match="plug it in"), Microphone(chosen):
        pass


def test_python_may_still_write_to_stderr_while_the_library_may_not(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with suppress_native_stderr():
        os.write(2, b"ALSA lib pcm.c: chatter\n")
        print("ours", file=sys.stderr)
    os.write(2, b"after\n")
    assert capfd.readouterr().err.split() == ["ours", "after"]
