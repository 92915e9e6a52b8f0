"""The sound card: which microphones there are, a stream of blocks from one, and which was chosen.

The name of the chosen microphone is the one thing that Crepitus remembers.

PortAudio (through sounddevice) is imported here only, and only when it is used: everything but
recording works without it.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.exceptions import CrepitusError, InvalidInputError

WANTED_RATE = 48_000
"""Hz; what phones and laptops record at, and more than the analysis needs."""

MIXING_CHANNELS = 8
"""Above this a "device" is a sound server that mixes for us (ALSA's `pulse` claims 32)."""

FULL_SCALE_24_BIT = 1 << 23


@dataclass(frozen=True)
class CaptureConfig:
    """How a microphone is opened and how much is held between the sound card and the rest."""

    block_seconds: float = 0.02
    host_latency_seconds: float = 0.2  # room for an interpreter that stalls while it imports
    queue_seconds: float = 30.0  # how far the reader may fall behind before sound is lost
    lost_after_seconds: float = 5.0  # no sound for this long: the device is gone


PROMPT_CAPTURE = CaptureConfig(host_latency_seconds=0.1)
"""For listening live, where all code is loaded before the microphone opens and nothing stalls."""


class MicrophoneLostError(CrepitusError):
    """The microphone went away while it was in use; what came before is intact."""


@dataclass(frozen=True)
class Device:
    """One microphone as PortAudio sees it."""

    #: PortAudio's own number, for opening it. People choose by the place in :func:`devices`
    index: int
    name: str  #: For example ``"USB PnP Sound Device: Audio (hw:1,0)"`` and ``"ALSA"``
    host_api: str
    channels: int  #: Greatest number of input channels, at least 1
    default_sample_rate: int  #: Hz
    default: bool  #: True for the one the system uses when nothing is chosen

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of ``devices --json``."""
        return {name: value for name, value in vars(self).items() if name != "index"}


def portaudio() -> Any:
    """Return the sounddevice module.

    Raises
    ------
    CrepitusError
        When sounddevice or the PortAudio library is missing, with the line that installs it.
    """
    with suppress_native_stderr():
        try:
            import sounddevice
        except ImportError:
            raise CrepitusError(
                "recording needs the sounddevice package: pip install 'crepitus[record]'"
            ) from None
        except OSError:
            raise CrepitusError(
                f"recording needs the PortAudio library: {portaudio_install_line(sys.platform)}"
            ) from None
    return sounddevice


def portaudio_install_line(platform: str) -> str:
    """Return the command that installs PortAudio on a platform (a ``sys.platform`` value)."""
    if platform == "darwin":
        return "brew install portaudio"
    if platform == "win32":
        return "pip install --force-reinstall sounddevice"  # its Windows wheel holds PortAudio
    return "sudo apt install libportaudio2 (Fedora: sudo dnf install portaudio)"


def devices() -> list[Device]:
    """List the microphones, in PortAudio's order; an empty list when there is none.

    Raises
    ------
    CrepitusError
        When PortAudio is missing or does not start.
    """
    sounddevice = portaudio()
    try:
        found = sounddevice.query_devices()
        apis = sounddevice.query_hostapis()
        default = sounddevice.default.device[0]
    except sounddevice.PortAudioError as error:
        raise CrepitusError(f"the sound system does not answer: {_one_line(error)}") from None
    if default < 0:
        default = next((api["default_input_device"] for api in apis if api["devices"]), -1)
    return [
        Device(
            index=index,
            name=str(entry["name"]).replace("\n", " ").strip(),
            host_api=str(apis[entry["hostapi"]]["name"]),
            channels=int(entry["max_input_channels"]),
            default_sample_rate=round(entry["default_samplerate"]),
            default=index == default,
        )
        for index, entry in enumerate(found)
        if entry["max_input_channels"] > 0
    ]


def choose_device(wanted: str | None, available: list[Device]) -> Device:
    """Pick a microphone by name, part of a name, or its number in the list.

    Parameters
    ----------
    wanted : str or None
        ``None`` takes the system's default, or the first. Case does not matter; the host API may
        follow the name after a comma (``"USB, ALSA"``).
    available : list of Device
        What :func:`devices` returned.

    Raises
    ------
    CrepitusError
        There is no microphone at all.
    InvalidInputError
        None fits ``wanted``, or several do and none exactly.
    """
    if not available:
        raise CrepitusError("no microphone found: plug one in, then try `crepitus devices`")
    if wanted is None:
        return next((device for device in available if device.default), available[0])
    if wanted.strip().isdecimal() and int(wanted) < len(available):
        return available[int(wanted)]
    name, comma, host_api = (part.strip().casefold() for part in wanted.rpartition(","))
    fitting = _fitting(wanted.strip().casefold(), available)
    if not fitting and comma:
        on_api = [device for device in available if host_api in device.host_api.casefold()]
        fitting = _fitting(name, on_api)
    if len(fitting) == 1:
        return fitting[0]
    listed = "; ".join(device.name for device in (fitting or available)[:6])
    if fitting:
        raise InvalidInputError(
            f"{wanted!r} fits several microphones, give more of the name: {listed}"
        )
    raise InvalidInputError(f"no microphone is called {wanted!r}; there are: {listed}")


def _fitting(name: str, available: list[Device]) -> list[Device]:
    """Devices whose name is ``name`` (the first of equals), else those that contain it."""
    exact = [device for device in available if device.name.casefold() == name]
    if exact:
        return exact[:1]
    return [device for device in available if name in device.name.casefold()]


def to_24_bit(samples: NDArray[np.float32]) -> NDArray[np.int32]:
    """Round samples in [-1, 1] to 24-bit integers, shape unchanged; beyond the range they clip.

    Everything downstream works on these values, so a take heard live and the same take read
    back from a 24-bit file are equal to the last bit.
    """
    scaled = np.rint(np.nan_to_num(samples).astype(np.float64) * FULL_SCALE_24_BIT)
    limited: NDArray[np.int32] = np.clip(scaled, -FULL_SCALE_24_BIT, FULL_SCALE_24_BIT - 1).astype(
        np.int32
    )
    return limited


class Microphone(AbstractContextManager["Microphone"]):
    """An open microphone: mono float32 blocks in [-1, 1] that fit 24 bits, in order.

    Use it in a ``with`` statement; capture starts on entry. Between PortAudio's callback and
    the reader stands a bounded queue: a reader that falls further behind than that loses sound,
    which is counted in :attr:`lost_seconds` and :attr:`overflows`, never hidden.

    Parameters
    ----------
    device : Device
        From :func:`choose_device`.
    settings : CaptureConfig
        Block length, latency and bounds.

    Attributes
    ----------
    sample_rate : int
        Hz: 48,000 where the device takes it, else the device's own rate. 0 before entry.
    overflows : int
        How often sound was lost, before or behind the callback.
    lost_seconds : float
        Sound dropped because the queue was full, s. What the sound card itself lost has no
        known length and is only in ``overflows``.
    """

    def __init__(self, device: Device, settings: CaptureConfig | None = None) -> None:
        self.device = device
        self.settings = settings or CaptureConfig()
        self.sample_rate = 0
        self.channels = 0
        self.overflows = 0
        self.lost_seconds = 0.0
        self._stream: Any = None
        self._blocks: queue.Queue[NDArray[np.float32]] = queue.Queue(
            max(1, round(self.settings.queue_seconds / self.settings.block_seconds))
        )
        self._ended = threading.Event()
        self._muted = suppress_native_stderr()
        self._waiting_since = 0.0

    def __enter__(self) -> Microphone:
        """Open the device and start capturing.

        Raises
        ------
        CrepitusError
            In one line: busy, not permitted, gone, or refusing every sample rate.
        """
        sounddevice = portaudio()
        self._muted.__enter__()
        try:
            self._stream = self._open(sounddevice)
            self._stream.start()
        except sounddevice.PortAudioError as error:
            self._close()
            raise CrepitusError(open_failure(self.device.name, _one_line(error))) from None
        except BaseException:
            self._close()
            raise
        self._waiting_since = time.monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop capturing and give the device back."""
        self._close()

    def read(self, timeout: float = 0.1) -> NDArray[np.float32] | None:
        """Return the next block, shape (n,), or None when none came within ``timeout`` seconds.

        Raises
        ------
        MicrophoneLostError
            The device stopped delivering and everything it delivered has been read.
        """
        try:
            block = self._blocks.get(timeout=timeout)
        except queue.Empty:
            silent_for = time.monotonic() - self._waiting_since
            if self._ended.is_set() or silent_for > self.settings.lost_after_seconds:
                raise MicrophoneLostError(
                    f"the microphone {self.device.name!r} stopped: "
                    "check that it is plugged in, then record again"
                ) from None
            return None
        self._waiting_since = time.monotonic()
        return to_24_bit(block).astype(np.float32) / np.float32(FULL_SCALE_24_BIT)

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield blocks of shape (n,) until the device is lost, which raises as in :meth:`read`."""
        while True:
            block = self.read()
            if block is not None:
                yield block

    def _open(self, sounddevice: Any) -> Any:
        """Try 48 kHz, then the device's own rate; all channels, then one."""
        few = self.device.channels <= MIXING_CHANNELS
        channel_counts = (self.device.channels, 1) if few else (1,)
        failure: Exception | None = None
        for rate in dict.fromkeys((WANTED_RATE, self.device.default_sample_rate)):
            for channels in dict.fromkeys(channel_counts):
                try:
                    stream = sounddevice.RawInputStream(
                        device=self.device.index,
                        samplerate=rate,
                        channels=channels,
                        dtype="float32",
                        blocksize=round(rate * self.settings.block_seconds),
                        latency=self.settings.host_latency_seconds,
                        callback=self._take_block,
                        finished_callback=self._ended.set,
                    )
                except sounddevice.PortAudioError as error:
                    failure = failure or error
                    continue
                self.sample_rate, self.channels = rate, channels
                return stream
        assert failure is not None
        raise failure

    def _take_block(self, interleaved: Any, frames: int, _: Any, status: Any) -> None:
        """PortAudio's callback: mix to mono, queue, return at once."""
        if status.input_overflow:
            self.overflows += 1
        block = np.frombuffer(interleaved, dtype=np.float32).reshape(frames, -1)
        try:
            self._blocks.put_nowait(block.mean(axis=1, dtype=np.float32))
        except queue.Full:
            self.overflows += 1
            self.lost_seconds += frames / self.sample_rate

    def _close(self) -> None:
        try:
            if self._stream is not None:
                self._stream.close(ignore_errors=True)
                self._stream = None
        finally:
            self._muted.__exit__(None, None, None)


def open_failure(name: str, reason: str) -> str:
    """Say in one line why a microphone did not open and what to do.

    Parameters
    ----------
    name : str
        The device.
    reason : str
        PortAudio's text, with the host's own words in it.
    """
    lower = reason.casefold()
    remedies = (
        (("busy", "unavailable"), "is in use by another program: close that program"),
        (
            ("permission", "not permitted", "access denied"),
            "may not be used: allow microphone access for this terminal in the privacy settings "
            "(Linux: add yourself to the group `audio`)",
        ),
        (("sample rate",), "takes no sample rate we can record at"),
        (
            ("no such", "input/output error", "invalid device", "disconnected"),
            "is not there any more: plug it in, then try `crepitus devices`",
        ),
    )
    for words, remedy in remedies:
        if any(word in lower for word in words):
            return f"the microphone {name!r} {remedy} ({reason})"
    return f"the microphone {name!r} cannot be opened ({reason})"


def _one_line(error: Exception) -> str:
    """PortAudioError's text with the host's words, on one line."""
    parts: list[str] = []
    for argument in error.args:
        parts.extend(argument if isinstance(argument, tuple) else (argument,))
    texts = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    return " ".join(": ".join(texts).split()) or type(error).__name__


@contextmanager
def suppress_native_stderr() -> Iterator[None]:
    """Silence what PortAudio and ALSA print themselves, while Python's own stderr goes on.

    They write their trace straight to file descriptor 2, from threads of their own, for example
    when a device is pulled out. What matters of it reaches us as an exception.
    """
    try:
        saved = os.dup(2)
    except OSError:  # there is no standard error, hence no chatter
        yield
        return
    python_stderr = sys.stderr
    moved = None
    try:
        python_stderr.flush()
        if python_stderr.fileno() == 2:
            moved = os.fdopen(
                os.dup(2),
                "w",
                buffering=1,
                encoding=python_stderr.encoding,
                errors="backslashreplace",
            )
            sys.stderr = moved
    except (AttributeError, OSError, ValueError):  # replaced by something without a descriptor
        pass
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        if moved is not None:
            if sys.stderr is moved:
                sys.stderr = python_stderr
            moved.close()


def memory_path() -> Path:
    """Return the file it is remembered in."""
    import platformdirs

    return Path(platformdirs.user_config_dir("crepitus", appauthor=False)) / "microphone.json"


def pick_device(wanted: str | None) -> Device:
    """Return the microphone asked for, else the remembered one, else the system's default.

    Parameters
    ----------
    wanted : str or None
        As in :func:`choose_device`.

    Raises
    ------
    CrepitusError
        There is no microphone or no PortAudio.
    InvalidInputError
        None is called ``wanted``. A remembered one that is not there is no error: one line on
        standard error says so and the default is taken.
    """
    available = devices()
    remembered = _recall() if wanted is None and available else None
    if remembered is None:
        return choose_device(wanted, available)
    name, host_api = remembered
    # ALSA ends a name with a card number, which changes when the device is plugged in anew.
    for known in (name, name.partition(" (hw:")[0]):
        with suppress(InvalidInputError):
            return choose_device(f"{known}, {host_api}", available)
    print(f"The microphone {name!r} is not there; taking the default.", file=sys.stderr)
    return choose_device(None, available)


def remember_device(device: Device) -> None:
    """Remember a microphone that was asked for and did open."""
    path = memory_path()
    with suppress(OSError):  # a read-only home is no reason not to record
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            json.dumps({"name": device.name, "host_api": device.host_api}), encoding="utf-8"
        )


def _recall() -> tuple[str, str] | None:
    """Return name and host API of the remembered microphone."""
    try:
        entry = json.loads(memory_path().read_text(encoding="utf-8"))
        return str(entry["name"]), str(entry["host_api"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
