"""The questionnaire as text, JSON, an answers file, HL7 FHIR R4 and a REDCap data dictionary.

FHIR is export only. Question and option ids are local codes (:data:`SYSTEM`): no public code was
confirmed for most of them. Pain from 0 to 10 carries its LOINC code. "Not sure" is the standard
``asked-unknown``.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from audio_pipeline.triage.answers import Answers
from audio_pipeline.triage.messages import (
    DEFAULT_LANGUAGE,
    DEFAULT_REGION,
    Catalogue,
    load_catalogue,
)
from audio_pipeline.triage.rules import UNSURE, Question, load_tables

_WIDTH = 78


def form_text(words: Catalogue) -> str:
    """Return every question with its answers, to read or to print."""
    lines: list[str] = []
    for number, question in enumerate(load_tables().questions.values(), start=1):
        lines += textwrap.wrap(f"{number}. {words.question(question.id)}", _WIDTH)
        lines.append(f"   ({question.id})")
        if question.numeric:
            lines.append(f"   - {_range(question, words)}")
        for option in question.answers:
            lines += textwrap.wrap(
                f"{words.option(question.id, option)} ({option})",
                _WIDTH,
                initial_indent="   - ",
                subsequent_indent="     ",
            )
        lines.append("")
    return "\n".join(lines)


def form_document(words: Catalogue) -> dict[str, Any]:
    """Return the questionnaire as plain data, for programs and for the page.

    Returns
    -------
    dict
        ``questions`` in the order asked. Each has ``id``, ``section``, ``group`` (of the list it is
        a line of, or null), ``text``, ``lead`` (said before it, or empty), ``why`` (why it is
        asked), ``topic``, ``type`` (``choice`` or ``integer``), ``gate``, ``emergency`` and
        ``options`` (``id`` and ``text``, as asked alone) or ``minimum`` and ``maximum``. A line of
        a list also has ``tick`` (its words there) and, where a tick needs a closer look,
        ``detail`` with its own ``options``; else ``detail`` is null. ``groups`` holds ``text`` and
        ``why`` of each list. Which screen comes next depends on the rules:
        :meth:`~audio_pipeline.triage.interview.Interview.next_screen`.
    """
    tables = load_tables()
    questions = tables.questions.values()
    groups = dict.fromkeys(each.group for each in questions if each.group)
    return {
        "schema_version": 1,
        "rules_version": tables.version,
        "questions": [_entry(question, words) for question in questions],
        "groups": {
            group: {"text": words.group(group, "text"), "why": words.group(group, "why")}
            for group in groups
        },
    }


def _entry(question: Question, words: Catalogue) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": question.id,
        "section": question.section,
        "group": question.group,
        "text": words.question(question.id),
        "lead": words.lead(question.id),
        "why": words.why(question.id),
        "topic": words.topic(question.id),
        "type": "integer" if question.numeric else "choice",
        "emergency": question.emergency,
        "gate": question.gate is not None,
    }
    if question.numeric:
        return entry | {"minimum": question.minimum, "maximum": question.maximum}
    entry["options"] = [
        {"id": option, "text": words.option(question.id, option)} for option in question.answers
    ]
    if question.group:
        entry["tick"] = words.tick(question)
        entry["detail"] = question.details and {
            "text": words.detail(question.id),
            "options": [
                {"id": option, "text": words.detail_option(question.id, option)}
                for option in question.details
            ],
        }
        entry["detail"] = entry["detail"] or None
    return entry


def answers_file(words: Catalogue, answers: Answers | None = None) -> str:
    """Return an answers file in YAML with every question and its options as comments.

    Parameters
    ----------
    words
        Whose words to use in the comments.
    answers
        Answers to fill in; a question without one is left empty, which means not answered.
    """
    given = (answers or Answers()).values
    lines = [
        "# Crepitus answers file. Write one of the words in brackets after each colon.",
        "# Leave a line empty to give no answer; that is never taken as a no.",
        f"# Rules {load_tables().version}",
        "",
    ]
    for question in load_tables().questions.values():
        lines += _comment(words.question(question.id))
        if question.numeric:
            lines += _comment(_range(question, words))
        for option in question.answers:
            lines += _comment(f"  [{option}] {words.option(question.id, option)}")
        lines += [f"{question.id}: {given.get(question.id, '')}".rstrip(), ""]
    return "\n".join(lines)


def _range(question: Question, words: Catalogue) -> str:
    return words.text("interview", "number", minimum=question.minimum, maximum=question.maximum)


def _comment(text: str) -> list[str]:
    indent = " " * (len(text) - len(text.lstrip()))
    return textwrap.wrap(
        text, _WIDTH, initial_indent="# ", subsequent_indent=f"# {indent}", drop_whitespace=True
    )


SYSTEM = "urn:crepitus:triage"
_CANONICAL = f"{SYSTEM}:questionnaire"
ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
LOINC = "http://loinc.org"
_LOINC_CODES = {"severity": ("72514-3", "Pain severity - 0-10 verbal numeric rating [Score]")}
_MINIMUM = "http://hl7.org/fhir/StructureDefinition/minValue"
_MAXIMUM = "http://hl7.org/fhir/StructureDefinition/maxValue"
_ABSENT_EXTENSION = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

Resource = dict[str, Any]


def questionnaire_resource(
    region: str = DEFAULT_REGION, language: str = DEFAULT_LANGUAGE
) -> Resource:
    """Return a FHIR R4 Questionnaire with every question, none of them required."""
    words = load_catalogue(region, language)
    tables = load_tables()
    return {
        "resourceType": "Questionnaire",
        "url": _CANONICAL,
        "version": tables.version,
        "name": "CrepitusTriage",
        "title": "Crepitus: questions about a cracking back",
        "status": "draft",
        "experimental": True,
        "subjectType": ["Patient"],
        "language": language,
        "purpose": words.text("safety_net", "N-LIMITS"),
        "item": [_item(question, words) for question in tables.questions.values()],
    }


def response_resource(
    answers: Answers,
    *,
    authored: str,
    declined: Collection[str] = (),
    region: str = DEFAULT_REGION,
    language: str = DEFAULT_LANGUAGE,
) -> Resource:
    """Return a FHIR R4 QuestionnaireResponse.

    Parameters
    ----------
    answers
        The answers; a question left out has no item.
    authored
        When they were given: an ISO 8601 time with its zone.
    declined
        Questions that were asked and skipped; they carry ``asked-declined``.
    region, language
        Whose words to use in the texts.
    """
    words = load_catalogue(region, language)
    tables = load_tables()
    items: list[Resource] = []
    for question in tables.questions.values():
        value = answers.get(question.id)
        item: Resource = {"linkId": question.id, "text": words.question(question.id)}
        if value is not None:
            items.append({**item, "answer": [_answer(question, value, words)]})
        elif question.id in declined:
            absent = {"url": _ABSENT_EXTENSION, "valueCode": "asked-declined"}
            items.append({**item, "extension": [absent]})
    resource: Resource = {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": f"{_CANONICAL}|{tables.version}",
        "status": "in-progress" if answers.unanswered() else "completed",
        "authored": authored,
    }
    return {**resource, "item": items} if items else resource


def _item(question: Question, words: Catalogue) -> Resource:
    code = [{"system": SYSTEM, "code": question.id}]
    if question.id in _LOINC_CODES:
        number, display = _LOINC_CODES[question.id]
        code.append({"system": LOINC, "code": number, "display": display})
    item: Resource = {
        "linkId": question.id,
        "code": code,
        "text": words.question(question.id),
        "type": "integer" if question.numeric else "choice",
        "required": False,
        "repeats": False,
    }
    if question.numeric:
        item["extension"] = [
            {"url": _MINIMUM, "valueInteger": question.minimum},
            {"url": _MAXIMUM, "valueInteger": question.maximum},
        ]
    else:
        item["answerOption"] = [
            {"valueCoding": _coding(question, option, words)} for option in question.answers
        ]
    return item


def _answer(question: Question, value: str | int, words: Catalogue) -> Resource:
    if isinstance(value, int):
        return {"valueInteger": value}
    return {"valueCoding": _coding(question, value, words)}


def _coding(question: Question, option: str, words: Catalogue) -> Resource:
    display = words.option(question.id, option)
    if option == UNSURE:
        return {"system": ABSENT, "code": "asked-unknown", "display": display}
    return {"system": f"{SYSTEM}:{question.id}", "code": option, "display": display}


REDCAP = (
    *("Variable / Field Name", "Form Name", "Section Header", "Field Type", "Field Label"),
    *("Choices, Calculations, OR Slider Labels", "Field Note"),
    *("Text Validation Type OR Show Slider Number", "Text Validation Min", "Text Validation Max"),
    *("Identifier?", "Branching Logic (Show field only if...)", "Required Field?"),
    *("Custom Alignment", "Question Number (surveys only)", "Matrix Group Name"),
    *("Matrix Ranking?", "Field Annotation"),
)
"""The 18 columns of a REDCap data dictionary."""


def age_band(age: str) -> str:
    """Return ten years that hold an age, "" where it is not known; from 90 on all are one."""
    if not age.isdigit():
        return ""
    low = min(90, int(age) // 10 * 10)
    return f"{low}-{low + 9}" if low < 90 else "90+"


def redcap_rows(
    questions: Iterable[str], numbers: Iterable[tuple[str, str, int, int]], words: Catalogue
) -> Iterator[dict[str, str]]:
    """Yield the fields of a REDCap data dictionary: a form of questions, and one of outcomes.

    Parameters
    ----------
    questions
        Ids. An age is asked as ten years.
    numbers
        Name, label, lowest and highest value of each outcome field.
    words
        Whose words to use.
    """
    known = load_tables().questions
    name, form, kind, label, choices = (REDCAP[index] for index in (0, 1, 3, 4, 5))
    validation, low, high = REDCAP[7:10]
    yield {name: "participant", form: "questions", kind: "text", label: "Code of the person"}
    yield {
        **{name: "session", form: "questions", kind: "text", label: "Session"},
        **{validation: "integer", low: "1"},
    }
    for question in (known[one] for one in questions):
        row = {name: question.id, form: "questions", label: words.question(question.id)}
        if question.id == "age":
            bands = [*(age_band(str(age)) for age in range(0, 100, 10))]
            choice = " | ".join(f"{band}, {band}" for band in bands)
            yield {**row, kind: "dropdown", choices: choice, label: f"{row[label]} (ten years)"}
        elif question.numeric:
            bounds = {low: str(question.minimum), high: str(question.maximum)}
            yield {**row, kind: "text", validation: "integer", **bounds}
        else:
            texts = ((one, words.option(question.id, one)) for one in question.answers)
            choice = " | ".join(f"{one}, {text.replace('|', '/')}" for one, text in texts)
            yield {**row, kind: "radio", choices: choice}
    for field, text, lowest, highest in numbers:
        bounds = {low: str(lowest), high: str(highest)}
        yield {
            **{name: field, form: "outcomes", kind: "text", label: text},
            **{validation: "integer", **bounds},
        }
