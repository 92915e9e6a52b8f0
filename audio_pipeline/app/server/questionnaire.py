"""The questionnaire as the page and other programs read it, straight from the triage tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

from audio_pipeline.analysis.guided import Phase, ProtocolConfig, planned_phases
from audio_pipeline.triage.answers import parse_answers
from audio_pipeline.triage.interview import TICKED, Interview, Screen
from audio_pipeline.triage.messages import CALL_ADVICE, load_catalogue
from audio_pipeline.triage.questionnaire import form_document
from audio_pipeline.triage.recommendation import explain, recommend
from audio_pipeline.triage.rules import LEVELS, SKIP, UNSURE, Question, load_tables

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
        ``explanation`` (why a back cracks) and ``protocol``. Which screen comes next is
        :func:`interview_document`'s.
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
        "none": words.text("interview", "none"),
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


def interview_document(
    answers: Mapping[str, Any], details: Collection[str], region: str
) -> dict[str, Any]:
    """Return where the interview stands after some answers, and what it asks next.

    It is walked anew each time by the same :class:`Interview` that asks in a terminal, so the page
    can go back, change an answer and reload without a state on the server.

    Parameters
    ----------
    answers
        Question to answer, None where the person left it out. What is not asked any more, since
        other answers have settled it, is left aside.
    details
        Ticked items whose detail the person left out.
    region
        One of ``audio_pipeline.triage.messages.REGIONS``.

    Returns
    -------
    dict
        ``trail`` (screens answered or left out, in order), ``screen`` (the next one, None at the
        end), ``answers`` (as the rest of the API takes them), ``remaining`` (screens still to
        come, as far as can be known), ``first_part_done`` (nothing that must come before an
        invitation to twist is open), ``level_so_far``,
        ``may_twist``.

    Raises
    ------
    InvalidInputError
        A value is not an answer to its question.
    """
    interview = Interview()
    trail: list[dict[str, Any]] = []
    screen = interview.next_screen()
    while screen is not None:
        given = _known(screen, answers, details)
        if given is None:
            break
        interview.give(screen, given)
        trail.append(_screen(screen, region))
        screen = interview.next_screen()
    return {
        "trail": trail,
        "screen": screen and _screen(screen, region),
        "remaining": interview.remaining(),
        "answers": dict(interview.answers.values),
        "first_part_done": interview.next_screen(emergency_only=True) is None,
        "level_so_far": interview.level,
        "may_twist": interview.may_twist,
    }


def _known(
    screen: Screen, answers: Mapping[str, Any], details: Collection[str]
) -> dict[str, Any] | None:
    """Return what is known of a screen's questions, None when one was not asked yet."""
    ids = [question.id for question in screen.questions]
    if not all(name in answers for name in ids):
        return None
    if screen.ticked:
        return {question.id: _mark(question, answers[question.id]) for question in screen.questions}
    if not screen.detail or answers[ids[0]] in screen.offered:
        return {ids[0]: answers[ids[0]]}
    return {ids[0]: None} if ids[0] in details else None


def _mark(question: Question, value: Any) -> Any:
    """Return what a line of a list was given, when its question has this answer."""
    if value in (None, UNSURE):
        return value
    return "no" if value in ("no", question.lowest) else TICKED


def _screen(screen: Screen, region: str) -> dict[str, Any]:
    """Return one screen with its words, from the entries of the questionnaire."""
    form = questionnaire_document(region)
    known = {entry["id"]: entry for entry in form["questions"]}
    entries = [known[question.id] for question in screen.questions]
    first = entries[0]
    title, lead, why = first["text"], first["lead"], first["why"]
    if screen.ticked:
        group = form["groups"][first["group"]]
        title, lead, why = group["text"], "", group["why"]
        entries = [
            {**entry, "text": entry["tick"], "lowest": question.lowest}
            for entry, question in zip(entries, screen.questions, strict=True)
        ]
    elif screen.detail:
        title, lead = first["detail"]["text"], ""
        entries = [{**first, "options": first["detail"]["options"]}]
    return {
        "title": title,
        "lead": lead,
        "why": why,
        "ticked": screen.ticked,
        "detail": screen.detail,
        "none": form["none"],
        "questions": entries,
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
            "cues": _cues(phase, settings),
        }
        for phase in planned_phases(settings)
    ]


def _cues(phase: Phase, settings: ProtocolConfig) -> list[dict[str, Any]]:
    """Return what to tell in a phase: when, s after its start, with which sign and words."""

    def cue(after: float, kind: str, words: str, spoken: str) -> dict[str, Any]:
        return {"after": after, "kind": kind, "words": words, "spoken": spoken}

    if phase.kind != "turn":
        return [cue(0.0, phase.kind, "Stay still and quiet", "Stay still")]
    number = f"Turn {phase.turn} of {settings.turns}"
    return [
        cue(0.0, "turn", f"{number}: slowly to one side", f"Turn {phase.turn}"),
        cue(settings.turn_seconds / 2, "back", f"{number}: slowly back", "Back"),
    ]
