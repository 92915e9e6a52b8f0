"""``crepitus triage``: questions about symptoms in, a recommendation out."""

from __future__ import annotations

import json
import sys

import click

from audio_pipeline.triage import (
    FINDINGS,
    REGIONS,
    Answers,
    Sound,
    default_region,
    load_answers,
    recommend,
)


@click.command(epilog="Example: crepitus triage --answers answers.yaml --sound grating --json")
@click.option("--answers", "answers_file", metavar="FILE", help="Answers file, YAML or JSON.")
@click.option("--sound", type=click.Choice(FINDINGS), help="What a recording held.")
@click.option("--confidence", type=float, metavar="P", help="How sure the sound is, 0 to 1.")
@click.option(
    "--region",
    type=click.Choice(REGIONS),
    help="Whose emergency numbers to show; by default that of this computer's language setting.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; ask nothing.")
def command(
    answers_file: str | None,
    sound: str | None,
    confidence: float | None,
    region: str | None,
    as_json: bool,
) -> None:
    """Recommend what to do from answers about symptoms; no recording needed.

    Asks one question at a time when a person sits at the terminal and no answers file is given.
    `crepitus questions --format yaml` prints an answers file to fill in.
    """
    if confidence is not None and sound is None:
        raise click.UsageError("--confidence needs --sound.")
    heard = Sound(sound, confidence) if sound else None
    region = region or default_region()
    answers = load_answers(answers_file) if answers_file else Answers()
    recommendation = recommend(answers, heard, region=region)
    if as_json:
        click.echo(json.dumps(recommendation.document(), ensure_ascii=False, indent=2))
        return
    from audio_pipeline.reporting.recommendation import recommendation_page

    click.echo(recommendation_page(recommendation, colour=sys.stdout.isatty()), nl=False)
