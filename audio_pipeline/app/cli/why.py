"""``crepitus why``: why a back cracks, in plain words with sources."""

from __future__ import annotations

import click

from audio_pipeline.app.text import show, show_json
from audio_pipeline.triage.explanation import explain, sounds_heard
from audio_pipeline.triage.messages import REGIONS, default_region, load_catalogue
from audio_pipeline.triage.recommendation import FINDINGS, Sound


@click.command(epilog="Example: crepitus why --sound single_pop")
@click.option(
    "--sound",
    type=click.Choice(FINDINGS),
    metavar="FINDING",
    help=f"What a recording held: {', '.join(FINDINGS)}.",
)
@click.option("--region", type=click.Choice(REGIONS), help="Whose words to use.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(sound: str | None, region: str | None, as_json: bool) -> None:
    """Say why a back cracks when it twists: where the sound comes from, and what brings it.

    It is about the sound only; what to do depends on symptoms, and `crepitus triage` asks for
    them.
    """
    words = load_catalogue(region or default_region())
    explanation = explain(sounds_heard(None, Sound(sound) if sound else None), words)
    if as_json:
        show_json({"explanation": [item.to_dict() for item in explanation]})
        return
    from audio_pipeline.app.reporting.recommendation import explanation_page

    show(explanation_page(explanation, words))
