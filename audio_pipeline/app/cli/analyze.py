"""``crepitus analyze``: hear what is in recordings; with answers, recommend what to do."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from audio_pipeline.app.cli.options import overwrite_option, trust_option
from audio_pipeline.app.outputs import check_page
from audio_pipeline.app.text import show, show_failures, show_json

if TYPE_CHECKING:
    from audio_pipeline.analysis.assessment import Assessment
    from audio_pipeline.triage.recommendation import Recommendation

REGIONS = ("GB", "US", "EU", "AU")


@click.command(epilog="Example: crepitus analyze twist.m4a --answers answers.yaml")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option("--answers", "answers_file", metavar="FILE", help="Answers file, YAML or JSON.")
@trust_option
@click.option("--model", "model_folder", metavar="DIR", help="Model folder; else the shipped one.")
@click.option("--report", metavar="FILE.html", help="Also write the result as one HTML file.")
@click.option("--embed-audio", is_flag=True, help="Put the sound itself into the report.")
@overwrite_option
@click.option("--region", type=click.Choice(REGIONS), help="Whose emergency numbers to show.")
@click.option("--no-questions", is_flag=True, help="Say what was heard; ask nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; ask nothing.")
def command(
    files: tuple[str, ...],
    answers_file: str | None,
    model_folder: str | None,
    trusted: bool,
    report: str | None,
    embed_audio: bool,
    overwrite: bool,
    region: str | None,
    no_questions: bool,
    as_json: bool,
) -> None:
    """Hear what is in recordings; with answers, recommend what to do.

    Any sound or video file that a phone, recorder or browser makes will do. When a single file is
    given at a terminal, it says what it heard and then offers the symptom questions; without
    answers only the sounds are listed.
    """
    from audio_pipeline.triage.answers import load_answers
    from audio_pipeline.triage.messages import default_region

    check_page(report, [*files, answers_file], overwrite=overwrite)
    region = region or default_region()
    answers = load_answers(answers_file) if answers_file else None
    from audio_pipeline.model.classifier import load_classifier

    classifier = load_classifier(model_folder, trusted=trusted)
    asks = len(files) == 1 and not (answers_file or as_json or no_questions)
    asks = asks and sys.stdin.isatty()
    from audio_pipeline.analysis.assessment import analyses_to_dict, assess
    from audio_pipeline.analysis.pipeline import analyze_file

    assessments = []
    failures = []
    shown = 0
    try:
        for file in files:
            assessment = assess(analyze_file(file, classifier), answers, region=region)
            assessments.append(assessment)
            analysis = assessment.analysis
            if analysis.status == "failed":
                failures.append((analysis.source, analysis.error or ""))
            elif not as_json:
                _show(assessment, first=shown == 0, offer=asks)
                shown += 1
    finally:  # whatever ended it, what is done is told
        if as_json:
            show_json(analyses_to_dict(assessments, classifier), 2)
    if asks and assessments[0].analysis.finding is not None:
        assessments = [_with_answers(assessments[0], region)]
    if report:
        from audio_pipeline.app.reporting.report import write_report

        write_report(report, assessments, classifier, embed_audio=embed_audio, overwrite=overwrite)
    show_failures(failures, len(files), "--json", brief=as_json)


def _show(assessment: Assessment, first: bool, offer: bool) -> None:
    """Print what to do, and what was heard; an emergency stands alone."""
    from audio_pipeline.app.reporting.terminal import analysis_page

    if not first:
        click.echo()
    recommendation = assessment.recommendation
    if recommendation is not None:
        _show_recommendation(recommendation)
        if recommendation.level == "emergency":
            return
        click.echo()
    show(analysis_page(assessment.analysis))
    if recommendation is None and not offer and assessment.analysis.finding is not None:
        click.echo(
            "\nThis is only about the sound. Your symptoms decide what to do: run crepitus triage,"
            "\nor give --answers. Crepitus cannot examine you; it is a demonstration and not a"
            "\nmedical device."
        )


def _with_answers(assessment: Assessment, region: str) -> Assessment:
    """Offer the questions to the person at the terminal, and say what to do where they answer."""
    from audio_pipeline.analysis.assessment import Assessment, heard
    from audio_pipeline.app.reporting.terminal import OFFER_QUESTIONS, read, read_line, say
    from audio_pipeline.triage.interview import Interview, ask

    say("")
    say(OFFER_QUESTIONS)
    if read("Enter, or n: ").strip().lower() in ("n", "no", "q"):
        return assessment
    interview = Interview(sound=heard(assessment.analysis))
    if not ask(interview, region=region, read=read_line, write=say):
        return assessment
    recommendation = interview.recommendation(region=region)
    _show_recommendation(recommendation, interview.highest_reached)
    return Assessment(assessment.analysis, recommendation)


def _show_recommendation(
    recommendation: Recommendation, highest_reached: str | None = None
) -> None:
    from audio_pipeline.app.reporting.recommendation import recommendation_page, wants_colour

    page = recommendation_page(
        recommendation, colour=wants_colour(sys.stdout), highest_reached=highest_reached
    )
    click.echo(page, nl=False)
