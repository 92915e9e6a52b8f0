"""``crepitus devices``: the microphones of this machine."""

from __future__ import annotations

import json

import click


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
        click.echo(f"crepitus: {error}", err=True)
        found = []
    if as_json:
        click.echo(json.dumps({"devices": [device.to_dict() for device in found]}))
        return
    if not found:
        click.echo("No microphone found.")
    for number, device in enumerate(found):
        mark = "   (used when none is chosen)" if device.default else ""
        channels = "1 channel" if device.channels == 1 else f"{device.channels} channels"
        click.echo(f"{number:3}  {device.name}{mark}")
        click.echo(f"     {device.host_api}, {channels}, {device.default_sample_rate} Hz")
