"""FHIR export: valid R4, and the item types that the validating library does not check."""

from __future__ import annotations

import json
from typing import Any

import pytest
from triage_cases import BASE, CASES, given

from audio_pipeline.triage.answers import parse_answers
from audio_pipeline.triage.questionnaire import (
    ABSENT,
    LOINC,
    questionnaire_resource,
    response_resource,
)
from audio_pipeline.triage.rules import questionnaire

# http://hl7.org/fhir/R4/valueset-item-type.html
R4_ITEM_TYPES = {
    *("group", "display", "boolean", "decimal", "integer", "date", "dateTime", "time", "string"),
    *("text", "url", "choice", "open-choice", "attachment", "reference", "quantity"),
}
NOW = "2026-11-22T10:00:00+00:00"


@pytest.fixture(scope="module")
def models() -> tuple[Any, Any]:
    from fhir.resources.R4B.questionnaire import Questionnaire
    from fhir.resources.R4B.questionnaireresponse import QuestionnaireResponse

    return Questionnaire, QuestionnaireResponse


def test_the_questionnaire_is_valid_and_complete(models: tuple[Any, Any]) -> None:
    resource = questionnaire_resource()
    models[0].model_validate_json(json.dumps(resource))
    items = {item["linkId"]: item for item in resource["item"]}
    assert list(items) == [question.id for question in questionnaire()]
    assert {item["type"] for item in items.values()} <= R4_ITEM_TYPES
    for question in questionnaire():
        options = items[question.id].get("answerOption", [])
        assert len(options) == len(question.answers)
        assert not items[question.id]["required"]


def test_pain_carries_its_loinc_code_and_unsure_the_standard_one() -> None:
    items = {item["linkId"]: item for item in questionnaire_resource()["item"]}
    assert {"system": LOINC, "code": "72514-3"}.items() <= items["severity"]["code"][1].items()
    codings = [option["valueCoding"] for option in items["fever"]["answerOption"]]
    assert (ABSENT, "asked-unknown") in {(each["system"], each["code"]) for each in codings}


def test_every_case_exports_to_a_valid_response(models: tuple[Any, Any]) -> None:
    for case in CASES[::5]:
        resource = response_resource(case.answers, authored=NOW)
        models[1].model_validate_json(json.dumps(resource))
        assert {item["linkId"] for item in resource.get("item", [])} == set(case.answers.values)


def test_answers_are_among_the_options_of_the_questionnaire() -> None:
    offered = {
        item["linkId"]: [option["valueCoding"] for option in item.get("answerOption", [])]
        for item in questionnaire_resource()["item"]
    }
    for value in ("yes", "unsure"):
        resource = response_resource(given(fever=value, trauma="minor"), authored=NOW)
        for item in resource["item"]:
            answer = item["answer"][0]
            if "valueCoding" in answer:
                assert answer["valueCoding"] in offered[item["linkId"]]
            else:
                assert answer["valueInteger"] == BASE[item["linkId"]]


def test_a_skipped_question_is_declined_and_an_empty_response_is_valid(
    models: tuple[Any, Any],
) -> None:
    resource = response_resource(parse_answers({"age": 40}), authored=NOW, declined=["fever"])
    models[1].model_validate_json(json.dumps(resource))
    declined = next(item for item in resource["item"] if item["linkId"] == "fever")
    assert declined["extension"][0]["valueCode"] == "asked-declined"
    assert resource["status"] == "in-progress"
    empty = response_resource(parse_answers({}), authored=NOW)
    assert "item" not in empty
    models[1].model_validate_json(json.dumps(empty))
    complete = response_resource(parse_answers(BASE), authored=NOW)
    assert complete["status"] == "completed"
