"""``crepitus questions``: the questionnaire, or an empty answers file."""

from __future__ import annotations

import click

from audio_pipeline.app.text import show_json
from audio_pipeline.triage.fhir import questionnaire_resource
from audio_pipeline.triage.messages import REGIONS, default_region, load_catalogue
from audio_pipeline.triage.questionnaire import answers_file, form_document, form_text


@click.command(epilog="Example: crepitus questions --format yaml > answers.yaml")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "yaml", "fhir"]),
    default="text",
    show_default=True,
    help="A page to read, an answers file to fill in, or a FHIR R4 Questionnaire.",
)
@click.option(
    "--region",
    type=click.Choice(REGIONS),
    help="Whose words to use; by default those of this computer's language setting.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(form: str, region: str | None, as_json: bool) -> None:
    """Print every question that triage can ask, with its answers.

    Nothing is mandatory, and a question left out is never taken as a no.
    """
    region = region or default_region()
    words = load_catalogue(region)
    if form == "fhir":
        show_json(questionnaire_resource(region), 2)
    elif as_json:
        show_json(form_document(words), 2)
    elif form == "yaml":
        click.echo(answers_file(words), nl=False)
    else:
        click.echo(form_text(words), nl=False)
