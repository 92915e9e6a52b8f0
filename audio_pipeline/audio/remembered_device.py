"""The one thing Crepitus remembers: the name of the microphone that was chosen."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from audio_pipeline.audio.microphone import Device, choose_device, devices
from audio_pipeline.exceptions import InvalidInputError


def memory_path() -> Path:
    """Return the file it is remembered in."""
    import platformdirs

    return Path(platformdirs.user_config_dir("crepitus", appauthor=False)) / "microphone.json"


def pick_device(wanted: str | None) -> Device:
    """Return the microphone asked for, else the remembered one, else the system's default.

    Parameters
    ----------
    wanted : str or None
        As in :func:`audio_pipeline.audio.microphone.choose_device`.

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
