"""Commands about symptoms: triage, questions and why."""

from __future__ import annotations

import sys
from collections.abc import Collection
from datetime import datetime
from pathlib import Path

import click

from audio_pipeline.app.cli.options import (
    FiniteRange,
    answers_option,
    json_option,
    overwrite_option,
    region_option,
)
from audio_pipeline.app.outputs import check_output, write_json, write_text
from audio_pipeline.app.text import show, show_json
from audio_pipeline.triage import questionnaire
from audio_pipeline.triage.answers import Answers, load_answers
from audio_pipeline.triage.messages import default_region, load_catalogue
from audio_pipeline.triage.recommendation import FINDINGS, Sound, explain, recommend, sounds_heard

sound_option = click.option(
    "--sound",
    type=click.Choice(FINDINGS),
    metavar="FINDING",
    help=f"What a recording held: {', '.join(FINDINGS)}.",
)


@click.command(epilog="Example: crepitus triage --answers answers.yaml --sound grating --json")
@answers_option
@sound_option
@click.option(
    "--confidence", type=FiniteRange(0, 1), metavar="P", help="How sure the sound is, 0 to 1."
)
@region_option
@click.option("--save", metavar="FILE", help="Keep the answers in a new answers file.")
@click.option("--fhir", metavar="FILE", help="Keep the answers as a FHIR QuestionnaireResponse.")
@overwrite_option
@json_option
def triage_command(
    answers_file: str | None,
    sound: str | None,
    confidence: float | None,
    region: str | None,
    save: str | None,
    fhir: str | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Recommend what to do from answers about symptoms; no recording needed.

    Asks one question at a time when a person sits at the terminal and no answers file is given.
    `crepitus questions --format yaml` prints an answers file to fill in. Answers are kept only when
    you ask for it.
    """
    if confidence is not None and sound is None:
        raise click.UsageError("--confidence needs --sound.")
    for output, other in ((save, None), (fhir, save)):
        if output is not None:
            check_output(output, inputs=[answers_file, other], overwrite=overwrite)
    heard = Sound(sound, confidence) if sound else None
    region = region or default_region()
    answers = load_answers(answers_file) if answers_file is not None else Answers()
    declined: Collection[str] = ()
    reached, wanted = None, True
    if answers_file is None and not as_json and sys.stdin.isatty():
        from audio_pipeline.triage.interview import Interview, ask

        interview = Interview(sound=heard)
        wanted = ask(interview, region=region)
        answers, declined = interview.answers, interview.declined
        reached = interview.highest_reached
    now = datetime.now().astimezone()
    # Only their owner may read these files: answers are health data.
    if save is not None:
        text = questionnaire.answers_file(load_catalogue(region), answers)
        write_text(Path(save), text, replace=overwrite, private=True)
    if fhir is not None:
        authored = now.isoformat(timespec="seconds")
        resource = questionnaire.response_resource(
            answers, authored=authored, declined=declined, region=region
        )
        write_json(Path(fhir), resource, replace=overwrite, private=True)
    if not wanted:
        return
    recommendation = recommend(answers, heard, region=region)
    if as_json:
        show_json(recommendation.to_dict(), 2)
        return
    from audio_pipeline.app.reporting.terminal import show_recommendation

    show_recommendation(recommendation, reached, now.strftime("%Y-%m-%d %H:%M"))


@click.command(epilog="Example: crepitus questions --format yaml > answers.yaml")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "yaml", "fhir"]),
    default="text",
    show_default=True,
    help="A page to read, an answers file to fill in, or a FHIR R4 Questionnaire.",
)
@region_option
@json_option
def questions_command(form: str, region: str | None, as_json: bool) -> None:
    """Print every question that triage can ask, with its answers.

    Nothing is mandatory, and a question left out is never taken as a no.
    """
    region = region or default_region()
    words = load_catalogue(region)
    if form == "fhir":
        show_json(questionnaire.questionnaire_resource(region), 2)
    elif as_json:
        show_json(questionnaire.form_document(words), 2)
    elif form == "yaml":
        click.echo(questionnaire.answers_file(words), nl=False)
    else:
        click.echo(questionnaire.form_text(words), nl=False)


@click.command(epilog="Example: crepitus why --sound single_pop")
@sound_option
@region_option
@json_option
def why_command(sound: str | None, region: str | None, as_json: bool) -> None:
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
