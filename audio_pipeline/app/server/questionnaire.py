"""The questionnaire as the page and other programs read it, straight from the triage tables."""

from __future__ import annotations

from functools import cache
from typing import Any

from audio_pipeline.analysis.guided import Phase, ProtocolConfig, planned_phases
from audio_pipeline.triage.answers import parse_answers
from audio_pipeline.triage.explanation import explain
from audio_pipeline.triage.interview import Interview
from audio_pipeline.triage.messages import CALL_ADVICE, load_catalogue
from audio_pipeline.triage.questionnaire import form_document
from audio_pipeline.triage.recommendation import recommend
from audio_pipeline.triage.rules import LEVELS, SKIP, Question, load_tables

SECTION_TITLES = {
    "emergency": "Safety questions",
    "now": "How your back is now",
    "health": "Your health",
    "course": "How it started and how it goes",
    "crack": "The cracking",
}
"""Sections in the order of their questions."""


@cache
def questionnaire_document(region: str) -> dict[str, Any]:
    """Return the questionnaire for a region.

    Parameters
    ----------
    region
        One of ``audio_pipeline.triage.messages.REGIONS``.

    Returns
    -------
    dict
        ``questions`` and ``groups`` as :func:`~audio_pipeline.triage.questionnaire.form_document`
        describes them, with ``value`` for the id of an option; each question also has its
        ``emergency_options`` (option to reason), which are an emergency whatever the other answers
        are, and its ``clear_options``, which rule its worry out. Then what the page needs before it
        can ask the server: ``sections``, ``emergency``, ``level_titles``, ``limits``,
        ``explanation`` (why a back cracks) and ``protocol``. Which screen comes next is in the
        answer to ``/api/v1/advice``.
    """
    tables, words = load_tables(), load_catalogue(region)
    form = form_document(words)
    return {
        "rules_version": tables.version,
        "region": region,
        "sections": [{"id": key, "title": title} for key, title in SECTION_TITLES.items()],
        "questions": [
            _question(entry, tables.questions[entry["id"]], region) for entry in form["questions"]
        ],
        "groups": form["groups"],
        "emergency": {
            "title": words.level("emergency", "title"),
            "number": words.messages["regions"][region]["emergency_number"],
            "advice": words.text("advice", CALL_ADVICE),
        },
        "level_titles": {level: words.level(level, "title") for level in LEVELS},
        "limits": words.text("safety_net", tables.limits),
        "explanation": [item.to_dict() for item in explain({"unknown"}, words)],
        "protocol": _protocol(ProtocolConfig()),
    }


def _question(entry: dict[str, Any], question: Question, region: str) -> dict[str, Any]:
    if question.numeric:
        return entry
    document = {**entry, "options": _valued(entry["options"])}
    if entry.get("detail"):
        detail = entry["detail"]
        document["detail"] = {**detail, "options": _valued(detail["options"])}
    return document | {
        "emergency_options": _emergency_options(question, region),
        "clear_options": _clear_options(question),
    }


def _valued(options: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"value": option["id"], "text": option["text"]} for option in options]


def _emergency_options(question: Question, region: str) -> dict[str, str]:
    """Return the options that are an emergency whatever is said elsewhere, each with its reason."""
    found = {}
    for value in question.answers:
        answers = parse_answers({question.id: value})
        if Interview(answers).emergency:
            found[value] = recommend(answers, region=region).reasons[0].text
    return found


def _clear_options(question: Question) -> list[str]:
    """Return the options that rank below no answer: they rule the question's worry out."""
    if SKIP not in question.options:
        return list(question.answers)
    below = question.options[: question.options.index(SKIP)]
    return [value for value in question.answers if value in below]


def _protocol(settings: ProtocolConfig) -> list[dict[str, Any]]:
    return [
        {
            "kind": phase.kind,
            "turn": phase.turn,
            "seconds": phase.end - phase.start,
            "cues": [{"after": after, "words": words} for after, words in _cues(phase, settings)],
        }
        for phase in planned_phases(settings)
    ]


def _cues(phase: Phase, settings: ProtocolConfig) -> list[tuple[float, str]]:
    """Return what to say in a phase and when, in seconds after its start."""
    if phase.kind != "turn":
        return [(0.0, "Stay still and quiet")]
    return [
        (0.0, f"Turn {phase.turn} of {settings.turns}: slowly to one side"),
        (settings.turn_seconds / 2, f"Turn {phase.turn} of {settings.turns}: slowly back"),
    ]
