"""Asking: order, what is settled, stopping at an emergency, skipping and going back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from triage_cases import BASE

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.answers import Answers, parse_answers
from audio_pipeline.triage.interview import Interview, Screen, ask, read_choice, read_list
from audio_pipeline.triage.recommendation import Sound, recommend
from audio_pipeline.triage.rules import questionnaire

QUESTIONS = {question.id: question for question in questionnaire()}
EMERGENCY = [question.id for question in questionnaire() if question.emergency]


def walk(interview: Interview, values: dict[str, Any], *, emergency_only: bool = False) -> None:
    """Answer every screen that comes from a set of answers; None skips."""
    while screen := interview.next_screen(emergency_only=emergency_only):
        interview.give(screen, answers_for(screen, values))


def answers_for(screen: Screen, values: dict[str, Any]) -> dict[str, Any]:
    given = {question.id: values[question.id] for question in screen.questions}
    if screen.ticked:
        lowest = {question.id: question.lowest for question in screen.questions}
        return {
            name: "no" if value == lowest[name] else value if value in ("unsure", None) else "yes"
            for name, value in given.items()
        }
    return given


def asked(interview: Interview, values: dict[str, Any]) -> list[str]:
    names = []
    while screen := interview.next_screen():
        names += [question.id for question in screen.questions]
        interview.give(screen, answers_for(screen, values))
    return names


def test_the_six_emergency_questions_come_first() -> None:
    names = asked(Interview(), BASE)
    assert names[:6] == EMERGENCY
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", EMERGENCY)
def test_it_stops_at_once_when_an_answer_is_an_emergency(name: str) -> None:
    stop = QUESTIONS[name].stop
    interview = Interview()
    names = asked(interview, {**BASE, name: stop})
    assert interview.emergency
    assert names == EMERGENCY[: EMERGENCY.index(name) + 1]
    assert interview.recommendation(region="GB").level == "emergency"
    assert not interview.may_twist


def test_it_stops_at_an_emergency_that_two_answers_make() -> None:
    interview = Interview()
    names = asked(interview, {**BASE, "fever": "yes", "infection_risk": "yes"})
    assert interview.emergency
    assert "heard" not in names


def test_a_question_not_asked_yet_is_no_emergency() -> None:
    interview = Interview()
    while (screen := interview.next_screen()) and screen.questions[0].group != "history":
        interview.give(screen, answers_for(screen, {**BASE, "fever": "yes"}))
    assert interview.level == "same_day"


def test_record_asks_only_six_questions_first_and_goes_on_later() -> None:
    interview = Interview()
    walk(interview, BASE, emergency_only=True)
    assert interview.asked == 6
    assert interview.may_twist
    interview.sound = Sound("grating", 0.9)
    walk(interview, BASE)
    assert interview.recommendation(region="GB").level == "routine"


@pytest.mark.parametrize(
    "changes",
    [{"saddle_numbness": "unsure"}, {"trauma": "minor"}, {"both_legs": None}],
)
def test_nobody_is_invited_to_twist_after_a_warning(changes: dict[str, Any]) -> None:
    interview = Interview()
    walk(interview, {**BASE, **changes}, emergency_only=True)
    assert not interview.may_twist


def test_nothing_is_asked_that_is_settled() -> None:
    names = asked(Interview(), BASE)
    assert "severity" not in names, "no pain with the crack and none at rest"
    assert "duration" not in names, "no rule can fire on it any more"
    assert "trend" not in names
    older = asked(
        Interview(), {**BASE, "age": 64, "pain": "constant_severe", "vascular_risk": "yes"}
    )
    assert {"severity", "duration", "trend", "sudden_onset"} <= set(older)


def _values(name: str) -> st.SearchStrategy[Any]:
    question = QUESTIONS[name]
    if question.numeric:
        return st.integers(question.minimum, question.maximum)
    return st.sampled_from([None, *question.answers])


COMPLETE = st.lists(
    st.sampled_from(list(QUESTIONS)).flatmap(lambda name: st.tuples(st.just(name), _values(name))),
    max_size=8,
).map(lambda changes: {**BASE, **dict(changes)})


@over(COMPLETE)
@settings(max_examples=30, deadline=None)
def test_what_was_not_asked_could_not_have_changed_the_result(values: dict[str, Any]) -> None:
    interview = Interview()
    names = asked(interview, values)
    result = interview.recommendation(region="GB")
    if interview.emergency:
        assert result.level == "emergency"
        return
    reasons = [reason.rule for reason in result.reasons]
    given = dict(interview.answers.values)
    assert given.get("severity", 0) == 0 or "severity" in names
    for name in set(QUESTIONS) - set(names) - set(given):
        options = [0, 7, 10] if name == "severity" else QUESTIONS[name].answers
        for option in options or range(0, 121, 15):
            other = recommend(parse_answers({**given, name: option}))
            assert [reason.rule for reason in other.reasons] == reasons
            assert [key for key, _ in other.advice] == [key for key, _ in result.advice]


@over(COMPLETE)
@settings(max_examples=20, deadline=None)
def test_going_back_undoes_exactly_the_last_screen(values: dict[str, Any]) -> None:
    interview = Interview()
    states: list[Answers] = []
    while screen := interview.next_screen():
        states.append(interview.answers)
        interview.give(screen, answers_for(screen, values))
    while states:
        assert interview.back()
        assert interview.answers == states.pop()
    assert not interview.back()


def test_the_highest_level_reached_is_remembered() -> None:
    interview = Interview()
    screen = interview.next_screen()
    assert screen is not None
    interview.give(screen, {"saddle_numbness": "unsure"})
    interview.back()
    walk(interview, BASE)
    assert interview.level == "self_care"
    assert interview.highest_reached == "same_day"


def test_answers_already_there_are_not_asked_again() -> None:
    complete = parse_answers({**BASE, "severity": 0})
    assert Interview(complete).next_screen() is None
    assert Interview(parse_answers({"saddle_numbness": "yes"})).next_screen() is None
    first = Interview(parse_answers({EMERGENCY[0]: "none"})).next_screen()
    assert first is not None
    assert first.questions[0].id == EMERGENCY[1]


def test_a_wrong_answer_is_refused() -> None:
    interview = Interview()
    screen = interview.next_screen()
    assert screen is not None
    with pytest.raises(InvalidInputError, match="allowed"):
        interview.give(screen, {"saddle_numbness": "perhaps"})


def _screen(name: str) -> Screen:
    return Screen((QUESTIONS[name],), QUESTIONS[name].answers)


@pytest.mark.parametrize(
    ("name", "line", "value"),
    [
        ("fever", "1", "no"),
        ("fever", "y", "yes"),
        ("fever", "no", "no"),
        ("fever", "unsure", "unsure"),
        ("fever", "very_unwell", "very_unwell"),
        ("age", "42", 42),
        ("severity", "0", 0),
        ("severity", "7/10", 7),
    ],
)
def test_what_a_line_means(name: str, line: str, value: object) -> None:
    assert read_choice(_screen(name), line) == {name: value}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("fever", "0"),
        ("fever", "9"),
        ("fever", ""),
        ("fever", "?"),
        ("age", "200"),
        ("age", "-1"),
        ("pain", "y"),
        ("age", "7/10"),
    ],
)
def test_a_line_that_means_nothing(name: str, line: str) -> None:
    assert read_choice(_screen(name), line) is None


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("0", ["no", "no"]),
        ("none", ["no", "no"]),
        ("1", ["yes", "no"]),
        ("2?", ["no", "unsure"]),
        ("1, 2 ?", ["yes", "unsure"]),
        ("1 2", ["yes", "yes"]),
        ("3", None),
        ("0 1", None),
        ("", None),
        ("?", None),
        ("x", None),
    ],
)
def test_what_a_line_means_for_a_list(line: str, values: list[str] | None) -> None:
    screen = Screen((QUESTIONS["fragile_bones"], QUESTIONS["bleeding_risk"]))
    expected = (
        dict(zip(["fragile_bones", "bleeding_risk"], values, strict=True)) if values else None
    )
    assert read_list(screen, line) == expected


class Person:
    """Types the given lines, then nothing more, and keeps what was printed."""

    def __init__(self, *lines: str) -> None:
        self.lines: Iterator[str] = iter(lines)
        self.seen: list[str] = []

    def read(self, prompt: str) -> str:
        self.seen.append(prompt)
        try:
            return next(self.lines)
        except StopIteration:
            raise EOFError from None

    def ask(self, interview: Interview, *, emergency_only: bool = False) -> bool:
        return ask(
            interview,
            region="GB",
            emergency_only=emergency_only,
            read=self.read,
            write=self.seen.append,
        )

    @property
    def text(self) -> str:
        return "\n".join(self.seen)


def test_a_conversation_to_an_emergency() -> None:
    interview, person = Interview(), Person("1", "x", "y")
    assert person.ask(interview)
    assert interview.answers.values == {"trauma": "none", "chest_or_abdomen": "yes"}
    assert "Question 1 of about" in person.text
    assert "Please type one of these: 1, 2, 3, ?, s, b, q." in person.text
    assert "We stop asking here" in person.text


def test_skip_back_and_stop() -> None:
    interview, person = Interview(), Person("b", "s", "1", "b", "1", "q", "")
    assert not person.ask(interview)
    assert interview.declined == (EMERGENCY[0],)
    assert EMERGENCY[1] in interview.answers.values
    assert "This is the first question." in person.text
    assert "Skipped. We do not take that as a no." in person.text


def test_the_end_of_input_stops() -> None:
    interview, person = Interview(), Person("1")
    assert not person.ask(interview)
    assert interview.answers.values == {EMERGENCY[0]: "none"}


def type_until(group: str, picks: str, *after: str) -> tuple[Interview, Person]:
    """Answer "1" and lists with "0" up to one list; tick it by ids, and type what comes after."""
    interview, person = Interview(), Person()
    lines: list[str] = []
    probe = Interview()
    while (screen := probe.next_screen()) and screen.questions[0].group != group:
        ticked = screen.ticked
        numeric = screen.questions[0].numeric
        lines.append("0" if ticked else "40" if numeric else "1")
        line = lines[-1]
        given = read_list(screen, line) if ticked else read_choice(screen, line)
        assert given is not None
        probe.give(screen, given)
    assert screen is not None
    ids = [question.id for question in screen.questions]
    for name in ids:
        picks = re.sub(rf"\b{name}\b", str(ids.index(name) + 1), picks)
    person.lines = iter([*lines, picks, *after])
    person.ask(interview)
    return interview, person


def test_a_ticked_item_is_asked_in_detail_and_stays_ticked_when_skipped() -> None:
    picks = "cancer_history spinal_procedure pregnancy vascular_risk?"
    interview, person = type_until("history", picks, "2", "s", "b", "q", "")
    values = interview.answers.values
    assert values["cancer_history"] == "active"
    assert values["spinal_procedure"] == "yes"
    assert values["pregnancy"] == "yes"
    assert values["vascular_risk"] == "unsure"
    assert values["fragile_bones"] == "no"
    assert "Is the cancer in the past" in person.text
    assert "It is in the past" in person.text


def test_a_ticked_item_without_a_plain_yes_is_open_until_it_is_looked_at() -> None:
    interview, _ = type_until("signs", "leg_symptoms", "s", "q", "")
    assert interview.answers.get("leg_symptoms") is None
    assert interview.level == "soon"
    interview, _ = type_until("signs", "leg_symptoms", "4", "q", "")
    assert interview.answers.get("leg_symptoms") == "tingling_or_numbness"


def test_a_question_mark_explains_and_is_no_answer() -> None:
    interview, person = Interview(), Person("?", "why", "1", "q", "")
    assert not person.ask(interview)
    assert person.text.count("A fall or a blow can break a bone in the back.") == 2
    assert interview.asked == 1
    _, listed = type_until("signs", "?", "q", "")
    assert "The kidneys lie beside the spine" in " ".join(listed.text.split())


def test_who_stops_is_told_nothing_unless_they_ask() -> None:
    assert not Person("1", "q", "").ask(Interview())
    assert not Person("1", "q").ask(Interview())
    assert Person("1", "q", "r").ask(Interview())


def test_at_most_fifteen_screens_for_somebody_with_nothing_wrong() -> None:
    for age in (20, 35, 64, 80):
        interview = Interview()
        walk(interview, {**BASE, "age": age})
        assert interview.asked <= 15
        assert not interview.recommendation(region="GB").incomplete


def test_pain_of_any_kind_is_asked_about() -> None:
    about = {"severity", "duration", "sudden_onset", "trend"}
    assert about <= set(asked(Interview(), {**BASE, "back_pain": "yes", "severity": 2}))
    assert about <= set(asked(Interview(), {**BASE, "pain": "brief", "severity": 2}))
    assert not about & set(asked(Interview(), BASE))


def test_nobody_is_asked_about_a_pregnancy_at_seventy() -> None:
    interview = Interview()
    names = asked(interview, {**BASE, "age": 70})
    assert not {"pregnancy", "early_pregnancy_signs", "recent_birth"} & set(names)
    assert interview.answers.get("pregnancy") == "no"


def test_everything_skipped_ends_with_an_incomplete_result() -> None:
    interview, person = Interview(), Person(*["s"] * 40)
    assert person.ask(interview)
    result = interview.recommendation(region="GB")
    assert result.level == "soon"
    assert result.incomplete
    assert interview.next_screen() is None


def test_every_line_fits_a_terminal() -> None:
    person = Person(*["s"] * 40)
    person.ask(Interview())
    assert max(len(line) for line in person.text.splitlines()) <= 80
