"""The questionnaire and a set of answers as HL7 FHIR R4 (export only).

Question and option ids are local codes (:data:`SYSTEM`): no public code was confirmed for most of
them. Pain from 0 to 10 carries its LOINC code. "Not sure" is the standard ``asked-unknown``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from audio_pipeline.triage.answers import Answers
from audio_pipeline.triage.messages import (
    DEFAULT_LANGUAGE,
    DEFAULT_REGION,
    Catalogue,
    load_catalogue,
)
from audio_pipeline.triage.rules import UNSURE, Question, load_tables

SYSTEM = "urn:crepitus:triage"
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
        "url": _canonical(),
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
        "questionnaire": f"{_canonical()}|{tables.version}",
        "status": "in-progress" if answers.unanswered() else "completed",
        "authored": authored,
    }
    return {**resource, "item": items} if items else resource


def _canonical() -> str:
    return f"{SYSTEM}:questionnaire"


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
