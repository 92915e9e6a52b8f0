"""Why a back cracks: by what was heard, with sources, and never as reassurance beside a sign."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from triage_cases import ANSWERS, CASES, FEW_ANSWERS, SOUNDS, given

from audio_pipeline.app.cli import app
from audio_pipeline.app.reporting.recommendation import recommendation_page
from audio_pipeline.triage.answers import Answers, parse_answers
from audio_pipeline.triage.recommendation import FINDINGS, Sound, recommend, stand

COMMON = "X-COMMON"


def items(answers: Answers, sound: Sound | None = None) -> list[str]:
    return [item["id"] for item in recommend(answers, sound).to_dict()["explanation"]]


@over(st.one_of(ANSWERS, FEW_ANSWERS), SOUNDS)
@settings(max_examples=80, deadline=None)
def test_it_is_on_every_result_but_an_emergency_and_never_reassures_beside_a_sign(
    values: dict[str, Any], sound: Sound | None
) -> None:
    answers = parse_answers(values)
    result = recommend(answers, sound)
    explanation = result.to_dict()["explanation"]
    assert bool(explanation) == (result.level != "emergency")
    assert all(item["sources"] for item in explanation)
    reassured = COMMON in [item["id"] for item in explanation]
    signs = [each for each in result.reasons if each.told != "none" and each.level != "self_care"]
    grinds = answers.get("heard") == "grinding"
    grinds |= sound is not None and sound.finding in ("grating", "mixed")
    if signs or grinds or stand(answers).told["any_pain"]:
        assert not reassured


def test_unanswered_gates_are_no_sign() -> None:
    assert COMMON in items(parse_answers({}))
    assert COMMON in items(given())
    assert COMMON not in items(given(pain="brief"))
    assert COMMON not in items(given(trauma="minor"))


@pytest.mark.parametrize(
    ("sound", "first"),
    [
        (Sound("single_pop", 0.9, 1), "X-BUBBLE"),
        (Sound("repeated_pops", 0.9, 3), "X-BUBBLE"),
        (Sound("grating", 0.9), "X-GRINDING"),
        (Sound("mixed", 0.9, 1), "X-GRINDING"),
        (Sound("nothing_recognised", 0.9), "X-NOTHING"),
        (Sound("uncertain", 0.4), "X-BUBBLE"),
        (None, "X-BUBBLE"),
    ],
)
def test_it_begins_with_what_was_heard(sound: Sound | None, first: str) -> None:
    answers = given(heard=None)
    assert items(answers, sound)[0] == first
    text = recommend(answers, sound).explanation[0].text
    assert text in " ".join(recommendation_page(recommend(answers, sound)).split())


def test_the_same_place_in_each_turn_has_its_own_words() -> None:
    again = Sound("repeated_pops", 0.9, 3, same_place=True)
    assert items(given(), again)[:2] == ["X-SAME-PLACE", "X-BUBBLE"]
    assert "X-SAME-PLACE" not in items(given(), Sound("repeated_pops", 0.9, 3))


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (Sound("single_pop", 0.9, 1), "We heard 1 pop."),
        (Sound("repeated_pops", 0.9, 2), "We heard 2 pops."),
        (Sound("repeated_pops", 0.9), "We heard several pops."),
        (Sound("mixed", 0.9, 1), "We heard 1 pop and a grinding sound."),
    ],
)
def test_what_was_heard_is_said_in_numbers_that_agree(sound: Sound, words: str) -> None:
    assert words in recommend(given(), sound).sound_note


def test_grinding_with_pain_is_not_called_common() -> None:
    for case in CASES:
        for sound in (case.sound, Sound("grating", 0.9)):
            page = recommendation_page(recommend(case.answers, sound))
            assert "healthy backs" not in page


@pytest.mark.parametrize("finding", [None, *FINDINGS])
def test_why_is_a_page_of_its_own(finding: str | None) -> None:
    wanted = ["--sound", finding] if finding else []
    page = CliRunner().invoke(app, ["why", *wanted], catch_exceptions=False).stdout
    document = json.loads(CliRunner().invoke(app, ["why", *wanted, "--json"]).stdout)
    flat = " ".join(page.split())
    for item in document["explanation"]:
        assert item["text"] in flat
        for source in item["sources"]:
            assert source["key"] in page
    assert "cannot examine you" in flat
    assert max(map(len, page.splitlines())) <= 80
    everything = " ".join(item["text"] for item in document["explanation"])
    for word in ("tendon", "urge", "looked at"):
        assert word in everything


def test_why_names_the_joints_the_gas_and_the_bubble() -> None:
    text = CliRunner().invoke(app, ["why"]).stdout
    assert all(word in text for word in ("facet joints", "fluid", "gas", "pressure", "bubble"))
