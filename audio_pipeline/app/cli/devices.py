"""``crepitus devices``: the microphones of this machine."""

from __future__ import annotations

import click

from audio_pipeline.app.text import show, show_json, visible


@click.command(epilog="Example: crepitus devices")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(as_json: bool) -> None:
    """List the microphones.

    Give the number, the name or part of the name to `record` or `listen` with --device.
    """
    from audio_pipeline.audio.microphone import devices
    from audio_pipeline.exceptions import CrepitusError

    try:
        found = devices()
    except CrepitusError as error:  # no PortAudio: this machine has no microphone we can use
        show(f"crepitus: {visible(str(error))}", err=True)
        found = []
    if as_json:
        show_json({"devices": [device.to_dict() for device in found]})
        return
    if not found:
        show("No microphone found.")
    for number, device in enumerate(found):
        mark = "   (used when none is chosen)" if device.default else ""
        channels = "1 channel" if device.channels == 1 else f"{device.channels} channels"
        show(f"{number:3}  {visible(device.name)}{mark}")
        show(f"     {visible(device.host_api)}, {channels}, {device.default_sample_rate} Hz")
