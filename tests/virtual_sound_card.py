"""A sound card made of software: a PulseAudio server of our own whose null sink is the microphone.

What is played into the sink is what PortAudio records, sample for sample. `sound_card` is the
fixture; it skips only where PulseAudio is not installed (Debian: pulseaudio pulseaudio-utils
libasound2-plugins libportaudio2).
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

RATE = 48_000
SINK = "crepitus_test"
PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")


class VirtualSoundCard:
    """One running server; :attr:`environment` makes any process use its microphone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        socket = folder / "native"
        self.environment = {
            "PULSE_SERVER": f"unix:{socket}",
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_COOKIE": str(folder / "cookie"),
            "PULSE_SOURCE": f"{SINK}.monitor",
        }
        self._server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1"),
                *("--use-pid-file=no", "--disable-shm=yes"),
                *("-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket}"),
            ],
            env=os.environ | {"PULSE_RUNTIME_PATH": str(folder), "HOME": str(folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._module: str | None = None
        self._players: list[subprocess.Popen[bytes]] = []
        self._waker: subprocess.Popen[bytes] | None = None
        deadline = time.monotonic() + 10
        while not socket.exists():
            assert self._server.poll() is None, "pulseaudio did not start"
            assert time.monotonic() < deadline, "pulseaudio made no socket within 10 s"
            time.sleep(0.02)

    def enter(self) -> None:
        """Use it in this very process, for good."""
        os.environ.update(self.environment)
        _restart_portaudio()

    def plug_in(self) -> None:
        """Make the microphone exist."""
        if self._module is None:
            self._module = self._pactl(
                "load-module",
                "module-null-sink",
                f"sink_name={SINK}",
                "format=float32le",
                f"rate={RATE}",
                "channels=1",
                "channel_map=mono",
            )
            # An idle null sink sleeps for up to 2 s before a new listener hears anything; a
            # listener of our own keeps it awake.
            self._waker = subprocess.Popen(
                ["parec", f"--device={SINK}.monitor", "--latency-msec=20"],
                env=os.environ | self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    def pull_out(self) -> None:
        """Make the microphone vanish, in the middle of whatever is going on."""
        if self._module is not None:
            self._pactl("unload-module", self._module)
            self._module = None
        if self._waker is not None:
            self._waker.wait(10)  # its source is gone, so it ends
            self._waker = None

    def play(self, samples: np.ndarray) -> None:
        """Start playing mono float samples at 48 kHz into the microphone; returns at once."""
        self.play_file(self.write(samples))

    def write(self, samples: np.ndarray) -> str:
        """Write samples for :meth:`play_file`."""
        handle, name = tempfile.mkstemp(".wav", dir=self.folder)
        os.close(handle)
        soundfile.write(name, samples, RATE, subtype="FLOAT")
        return name

    def play_file(self, name: str) -> None:
        """Start playing a file; returns at once."""
        self._players.append(
            subprocess.Popen(
                ["paplay", f"--device={SINK}", name],
                env=os.environ | self.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    def hush(self) -> None:
        """Stop everything that still plays."""
        for player in self._players:
            player.terminate()
            player.wait(10)
        self._players.clear()

    def stop(self) -> None:
        self.hush()
        self.pull_out()
        self._server.terminate()
        self._server.wait(10)

    def _pactl(self, *words: str) -> str:
        return subprocess.run(
            ["pactl", *words],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()


@functools.cache
def running_card() -> VirtualSoundCard:
    folder = Path(tempfile.mkdtemp(prefix="crepitus-card-"))
    card = VirtualSoundCard(folder)

    def clean_up() -> None:
        card.stop()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(clean_up)
    return card


def _restart_portaudio() -> None:
    """PortAudio looks for devices once, when it starts: make it look again."""
    import sounddevice

    sounddevice._terminate()
    sounddevice._initialize()


@pytest.fixture
def sound_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[VirtualSoundCard]:
    """Return a machine whose one microphone is virtual, plugged in, and remembered by nobody."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"no virtual sound card: {', '.join(missing)} not installed")
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError) as error:
        pytest.skip(f"no virtual sound card: {error}")
    card = running_card()
    for name, value in card.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    card.plug_in()
    _restart_portaudio()
    yield card
    card.hush()
