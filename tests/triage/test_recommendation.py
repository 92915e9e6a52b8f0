"""The engine: the written cases, and what holds over the whole answer space."""

from __future__ import annotations

from itertools import combinations, product
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from triage_cases import (
    ANSWERS,
    BASE,
    BOUNDARIES,
    CASES,
    FEW_ANSWERS,
    PEOPLE,
    SOUNDS,
    given,
    values_of,
)

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.answers import parse_answers
from audio_pipeline.triage.messages import REGIONS
from audio_pipeline.triage.recommendation import Sound, fired_rules, highest, recommend, stand
from audio_pipeline.triage.rules import LEVELS, load_tables, questionnaire

EMERGENCY_QUESTIONS = [question.id for question in questionnaire() if question.emergency]
ORDERED = [question.id for question in questionnaire() if question.options]


def level_of(values: dict[str, Any], sound: Sound | None = None) -> str:
    ranks = stand(parse_answers(values), sound).ranks
    return highest(rule.level for rule in fired_rules(ranks))


def height(level: str) -> int:
    return LEVELS.index(level)


# ------------------------------------------------------------------ cases


def test_every_case_is_within_its_range_and_for_its_reasons() -> None:
    wrong = {}
    for case in CASES:
        result = recommend(case.answers, case.sound)
        low, high = case.range
        missing = case.because - {reason.rule for reason in result.reasons}
        if missing or not height(low) <= height(result.level) <= height(high):
            wrong[case.id] = (result.level, case.range, missing)
    assert not wrong


def test_cases_are_many_and_name_every_rule_and_known_sources() -> None:
    tables = load_tables()
    assert len(CASES) >= 120
    named = set().union(*(case.because for case in CASES), *(edge.fires for edge in BOUNDARIES))
    assert {rule.id for rule in tables.rules} == named
    assert len(PEOPLE) >= 120
    assert all(case.sources and set(case.sources) <= set(tables.sources) for case in CASES)


def test_reference_figures_hold_on_our_own_cases() -> None:
    results = [(case, height(recommend(case.answers, case.sound).level)) for case in CASES]
    emergencies = [(c, got) for c, got in results if c.range[0] == "emergency"]
    self_care = [(c, got) for c, got in results if c.range[1] == "self_care"]
    assert len(emergencies) >= 20
    assert all(got == height("emergency") for _, got in emergencies)
    assert len(self_care) >= 20
    assert all(got == 0 for _, got in self_care)


# ------------------------------------------------------------ answer space


@over(st.one_of(ANSWERS, FEW_ANSWERS), st.sampled_from(ORDERED), SOUNDS)
@settings(max_examples=80, deadline=None)
def test_a_worse_answer_never_lowers_the_level(
    values: dict[str, Any], name: str, sound: Sound | None
) -> None:
    levels = [height(level_of({**values, name: value}, sound)) for value in values_of(name)]
    assert levels == sorted(levels)


@pytest.mark.slow
def test_no_pair_of_answers_lets_a_worse_one_lower_the_level() -> None:
    """Every pair of questions, every pair of values, laid over the base answers."""
    for first, second in combinations(ORDERED, 2):
        for value in values_of(first):
            values = {**BASE, first: value}
            levels = [height(level_of({**values, second: each})) for each in values_of(second)]
            assert levels == sorted(levels), (first, value, second)


@over(FEW_ANSWERS, st.sampled_from(ORDERED))
@settings(max_examples=50, deadline=None)
def test_a_worse_answer_never_takes_a_reason_away(values: dict[str, Any], name: str) -> None:
    before: set[str] = set()
    for value in values_of(name):
        ranks = stand(parse_answers({**values, name: value})).ranks
        fired = {rule.id for rule in fired_rules(ranks)}
        assert before <= fired
        before = fired


@over(ANSWERS, st.integers(0, 120))
@settings(max_examples=60, deadline=None)
def test_telling_the_age_never_raises_the_level(values: dict[str, Any], age: int) -> None:
    assert height(level_of({**values, "age": age})) <= height(level_of({**values, "age": None}))


@over(ANSWERS, SOUNDS, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_order_does_not_matter_and_twice_is_the_same(
    values: dict[str, Any], sound: Sound | None, random: Any
) -> None:
    shuffled = list(values.items())
    random.shuffle(shuffled)
    first = recommend(parse_answers(values), sound)
    again = recommend(parse_answers(dict(shuffled)), sound)
    assert first.to_dict() == again.to_dict()
    assert recommend(parse_answers(first.answers.values), sound).to_dict() == first.to_dict()


@over(st.one_of(ANSWERS, FEW_ANSWERS), SOUNDS)
@settings(max_examples=50, deadline=None)
def test_a_sound_never_lowers_and_lifts_one_step_to_soon_at_most(
    values: dict[str, Any], sound: Sound | None
) -> None:
    silent, heard = height(level_of(values)), height(level_of(values, sound))
    assert silent <= heard <= silent + 1
    assert heard == silent or heard <= height("soon")
    if sound is None or sound.grating != "hi":
        without = recommend(parse_answers(values)).to_dict()
        assert recommend(parse_answers(values), sound).to_dict() == without


@over(ANSWERS, st.sampled_from(EMERGENCY_QUESTIONS))
@settings(max_examples=60, deadline=None)
def test_an_unanswered_emergency_question_is_at_least_soon(
    values: dict[str, Any], name: str
) -> None:
    result = recommend(parse_answers({**values, name: None}))
    assert height(result.level) >= height("soon")
    assert result.incomplete


@over(st.one_of(ANSWERS, FEW_ANSWERS), SOUNDS, st.sampled_from(REGIONS))
@settings(max_examples=50, deadline=None)
def test_the_document_is_consistent(
    values: dict[str, Any], sound: Sound | None, region: str
) -> None:
    answers = parse_answers(values)
    result = recommend(answers, sound, region=region)
    document = result.to_dict()
    levels = [height(reason["level"]) for reason in document["reasons"]]
    assert levels == sorted(levels, reverse=True)
    assert document["level"] == (document["reasons"][0]["level"] if levels else "self_care")
    gates = [question.id for question in questionnaire() if question.gate]
    assert document["incomplete"] == any(answers.get(gate) in (None, "unsure") for gate in gates)
    unanswered = document["unanswered"]
    assert set(unanswered) == {name for name in values if values[name] is None}
    is_gate = [name in gates for name in unanswered]
    assert is_gate == sorted(is_gate, reverse=True)
    advised = [entry["id"] for entry in document["advice"]]
    assert len(advised) == len(set(advised))
    assert document["no_self_manipulation"] == ("A-STOP-CRACKING" in advised)
    assert document["safety_net"]
    assert all(reason["sources"] for reason in document["reasons"])


@over(st.one_of(ANSWERS, FEW_ANSWERS))
@settings(max_examples=50, deadline=None)
def test_a_reason_is_true_for_the_answers_it_is_given_on(values: dict[str, Any]) -> None:
    answers = parse_answers(values)
    told = stand(answers).told
    rules = {rule.id: rule for rule in load_tables().rules}
    for reason in recommend(answers).reasons:
        rule = rules[reason.rule]
        if reason.gate:
            assert answers.get(reason.gate) in (None, "unsure")
        elif rule.condition.holds(told):
            assert "You did not tell us" not in reason.text
            assert "You were not sure" not in reason.text
        elif reason.told == "none":
            assert reason.text.startswith(("You did not tell us about", "You were not sure about"))
        else:
            assert reason.text.startswith("You told us about")
            assert "You did not tell us about" in reason.text or "not sure" in reason.text


@over(ANSWERS)
@settings(max_examples=40, deadline=None)
def test_a_region_changes_words_only(values: dict[str, Any]) -> None:
    answers = parse_answers(values)
    documents = [recommend(answers, region=region).to_dict() for region in REGIONS]
    for document in documents:
        for part in ("reasons", "advice", "safety_net"):
            for entry in document[part]:
                del entry["text"]
    assert all(document == documents[0] for document in documents)


def test_every_combination_of_the_emergency_questions() -> None:
    stops = {question.id: question.stop for question in questionnaire() if question.emergency}
    today = {"unsure", "one_leg_stable", "minor"}
    for combination in product(*(values_of(name) for name in EMERGENCY_QUESTIONS)):
        values = dict(zip(EMERGENCY_QUESTIONS, combination, strict=True))
        if any(values[name] == stops[name] for name in values):
            expected = "emergency"
        elif today & set(combination):
            expected = "same_day"
        elif None in combination:
            expected = "soon"
        else:
            expected = "self_care"
        assert level_of({**BASE, **values}) == expected, values


def test_nothing_told_is_soon_and_incomplete() -> None:
    result = recommend(parse_answers({}))
    assert result.level == "soon"
    assert result.incomplete
    assert {reason.told for reason in result.reasons} == {"none"}
    assert set(result.answers.unanswered()) == {question.id for question in questionnaire()}


def test_skipping_alone_never_asks_for_more_than_soon() -> None:
    for name in BASE:
        assert height(level_of({**BASE, name: None})) <= height("soon")


@pytest.mark.parametrize("age", [18, 35, 64, 90])
def test_painless_and_complete_is_self_care(age: int) -> None:
    result = recommend(given(age=age))
    assert result.level == "self_care"
    assert not result.reasons
    assert not result.incomplete
    assert not result.no_self_manipulation


# --------------------------------------------------------- single promises


def test_some_rules_never_come_alone() -> None:
    weak = recommend(given(leg_weakness="one_leg_stable"))
    assert {"S01", "S02"} <= {reason.rule for reason in weak.reasons}
    skipped = recommend(given(pain=None, bleeding_risk=None))
    assert "G:pain" in {reason.rule for reason in skipped.reasons}


@pytest.mark.parametrize(
    ("values", "flag", "rank"),
    [
        ({"age": None, "vascular_risk": None}, "age_60_plus_with_vascular_risk", 1),
        ({"age": 59, "vascular_risk": "yes"}, "age_60_plus_with_vascular_risk", 0),
        ({"age": 60, "vascular_risk": "unsure"}, "age_60_plus_with_vascular_risk", 1),
        ({"age": 60, "vascular_risk": None}, "age_60_plus_with_vascular_risk", 1),
        ({"age": 90, "vascular_risk": "no"}, "age_60_plus_with_vascular_risk", 0),
        ({"age": None, "vascular_risk": "no"}, "age_60_plus_with_vascular_risk", 0),
        ({"age": 15}, "age_under_16", 1),
        ({"age": 16}, "age_under_16", 0),
        ({"age": 16}, "age_under_18", 1),
        ({"age": 44}, "age_under_45", 1),
        ({"age": 45}, "age_under_45", 0),
        ({"age": 49}, "age_50_plus", 0),
        ({"age": 50}, "age_50_plus", 1),
        ({"age": 65}, "age_65_plus", 1),
        ({"age": None}, "age_65_plus", 1),
        ({"duration": None}, "under_6_weeks", 1),
        ({"duration": "under_6_weeks"}, "under_6_weeks", 2),
        ({"duration": "6_to_12_weeks"}, "under_6_weeks", 0),
        ({"duration": "6_to_12_weeks"}, "over_6_weeks", 2),
        ({"duration": "6_to_12_weeks"}, "over_3_months", 0),
        ({"duration": "over_3_months"}, "over_3_months", 2),
    ],
)
def test_flags_follow_from_age_and_duration(values: dict[str, Any], flag: str, rank: int) -> None:
    assert stand(parse_answers(values)).ranks[flag] == rank


@pytest.mark.parametrize(
    ("finding", "confidence", "grating"),
    [
        ("grating", 0.80, "hi"),
        ("mixed", 1.0, "hi"),
        ("grating", 0.79, "lo"),
        ("grating", 0.5, "lo"),
        ("grating", None, "lo"),
        ("grating", 0.49, "none"),
        ("single_pop", 1.0, "none"),
        ("uncertain", 0.9, "none"),
        ("unusable", 0.0, "none"),
        ("another_label", 1.0, "none"),
    ],
)
def test_how_sure_a_grinding_sound_must_be(
    finding: str, confidence: float | None, grating: str
) -> None:
    assert Sound(finding, confidence).grating == grating


@pytest.mark.parametrize("confidence", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_confidence_outside_its_range_is_refused(confidence: float) -> None:
    with pytest.raises(InvalidInputError, match="from 0 to 1"):
        Sound("grating", confidence)


@pytest.mark.parametrize(
    ("region", "number"), [("GB", "999"), ("US", "911"), ("EU", "112"), ("AU", "000")]
)
def test_an_emergency_names_the_number_of_the_region(region: str, number: str) -> None:
    document = recommend(given(saddle_numbness="yes"), region=region).to_dict()
    assert document["advice"][0]["id"] == "A-EMERG"
    assert number in document["advice"][0]["text"]
    assert number in document["safety_net"][0]["text"]


def test_no_exercises_are_advised_in_an_emergency_or_today() -> None:
    for changes in ({"saddle_numbness": "yes"}, {"trauma": "minor"}):
        advised = {key for key, _ in recommend(given(**changes)).advice}
        assert not advised & {"A-MOVE", "A-SITTING", "A-STRENGTH", "A-SELF"}


@pytest.mark.parametrize(
    "name",
    [
        "cancer_history",
        "fragile_bones",
        "infection_risk",
        "spinal_procedure",
        "bleeding_risk",
        "pregnancy",
    ],
)
@pytest.mark.parametrize("value", ["yes", "unsure", None])
def test_any_open_history_item_tells_not_to_force_a_crack(name: str, value: str | None) -> None:
    assert recommend(given(**{name: value})).no_self_manipulation


def test_habit_changes_advice_and_never_the_level() -> None:
    plain = recommend(given(habit="never"))
    often = recommend(given(habit="many_or_forceful"))
    assert often.level == plain.level
    assert "A-HABIT" in {key for key, _ in often.advice} - {key for key, _ in plain.advice}


def test_disagreeing_answers_are_pointed_out() -> None:
    result = recommend(given(both_legs="no", leg_weakness="worsening_or_both"))
    assert len(result.disagreements) == 1
    assert not recommend(given()).disagreements


def test_the_id_of_a_rule_tells_its_level() -> None:
    letters = {"E": "emergency", "S": "same_day", "D": "soon", "R": "routine", "H": "self_care"}
    for rule in load_tables().rules:
        if rule.question is None:
            assert rule.level == letters[rule.id[0]]
