"""Answers files: what is taken, and what is refused in one line that says what is allowed."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st
from triage_cases import ANSWERS

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.answers import MAX_BYTES, load_answers, parse_answers, parse_row
from audio_pipeline.triage.messages import load_catalogue
from audio_pipeline.triage.questionnaire import answers_file
from audio_pipeline.triage.rules import questionnaire

BOMB = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nsaddle_numbness: *c\n"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("{}", {}),
        ("", {}),
        ("# only a comment\n", {}),
        ("---\nfever: no\n", {"fever": "no"}),
        ("saddle_numbness: yes\nfever: No\n", {"saddle_numbness": "yes", "fever": "no"}),
        ('saddle_numbness: "yes"\n', {"saddle_numbness": "yes"}),
        ("pain: none\nseverity: 7\nage: 41\n", {"pain": "none", "severity": 7, "age": 41}),
        ("fever:\nage: ~\nseverity: null\n", {}),
        ('{"fever": true, "both_legs": false}', {"fever": "yes", "both_legs": "no"}),
        ('{"fever": null, "age": 30}', {"age": 30}),
        ("{fever: yes, age: 30}", {"fever": "yes", "age": 30}),
        ("\ufefffever: unsure\r\n", {"fever": "unsure"}),
        ("duration: 6_to_12_weeks\n", {"duration": "6_to_12_weeks"}),
        ("vascular_risk: unsure\n", {"vascular_risk": "unsure"}),
    ],
)
def test_what_a_file_may_hold(text: str, values: dict[str, Any]) -> None:
    assert parse_answers(text).values == values
    assert parse_answers(text.encode()).values == values


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("fevr: yes\n", ["fevr", "saddle_numbness", "fever"]),
        ("fever: maybe\n", ["fever", "maybe", "no, yes, very_unwell, unsure"]),
        ("trauma: no\n", ["trauma", "none, old_injury, minor, serious"]),
        ("fever: skip\n", ["fever", "skip", "unsure"]),
        ("severity: 4-6\n", ["severity", "4-6", "0 to 10"]),
        ("severity: 11\n", ["severity", "11", "0 to 10"]),
        ("severity: -1\n", ["severity", "-1", "0 to 10"]),
        ("severity: 5.5\n", ["severity", "5.5", "0 to 10"]),
        ("severity: yes\n", ["severity", "0 to 10"]),
        ('severity: "5"\n', ["severity", "'5'", "whole number"]),
        ("age: 121\n", ["age", "121", "0 to 120"]),
        ("age: forty\n", ["age", "forty"]),
        ("under_6_weeks: yes\n", ["under_6_weeks", "duration"]),
        ("age_under_16: yes\n", ["age_under_16"]),
        ("audio_grating: hi\n", ["audio_grating"]),
        ("fever: [yes]\n", ["fever", "flat"]),
        ("fever: {a: b}\n", ["fever", "flat"]),
        ("- fever\n", ["flat"]),
        ("fever\n", ["fever", "flat"]),
        ("fever: yes\nfever: no\n", ["fever", "twice"]),
        ("fever: yes\n---\nage: 3\n", ["several documents"]),
        (BOMB, ["flat"]),
        ("fever: &a yes\nboth_legs: *a\n", ["anchors or aliases"]),
        ("fever: !!python/object/apply:os.system [ls]\n", ["tag"]),
        ("!!map {fever: yes}\n", ["tag"]),
        ("<<: {fever: yes}\n", ["flat"]),
        ("? [a]\n: b\n", ["flat"]),
        ("fever: 'yes\n", ["not valid YAML", "line"]),
        ("\tfever: yes\n", ["not valid YAML"]),
        ('{"fever": "yes", "fever": "no"}', ["fever", "twice"]),
        ('{"fever": ["yes"]}', ["fever"]),
        ('{"severity": 5.0}', ["severity", "5.0"]),
        ('{"severity": true}', ["severity", "True"]),
        ('{"age": NaN}', ["age"]),
        ('{"age": 1e400}', ["age"]),
        ('{"age": ' + "9" * 5000 + "}", ["too long"]),
        ('{"fever": "yes"', ["not valid YAML or JSON", "line"]),
        ('{"fever": ' + "[" * 20000, ["nested"]),
        ("[" * 20000, ["flat"]),
        ("{" * 20000, ["flat"]),
        ("fever: " + "x" * 500, ["fever", "..."]),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(text: str, names: list[str]) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parse_answers(text, "answers.yaml")
    message = str(refused.value)
    assert message.startswith("answers.yaml: ")
    assert "\n" not in message
    assert len(message) < 700
    for name in names:
        assert name in message


def test_a_large_file_is_refused_without_being_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "big.yaml"
    file.write_bytes(b"fever: no\n" * 1_000_000)
    with pytest.raises(InvalidInputError, match="larger than 64 KB"):
        load_answers(file)
    with pytest.raises(InvalidInputError, match="larger than 64 KB"):
        parse_answers(" " * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"fever: \xff\xfe\n", "not UTF-8"), (b"fever: \x00\n", "not valid YAML")],
)
def test_bytes_that_are_no_text_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "answers.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        load_answers(file)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"missing\.yaml: cannot be read"):
        load_answers(tmp_path / "missing.yaml")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_answers(tmp_path)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_answers("a\0b")


def test_a_name_with_a_newline_stays_on_one_line(tmp_path: Path) -> None:
    file = tmp_path / "two\nlines.yaml"
    file.write_text("fever: maybe\n", encoding="utf-8")
    with pytest.raises(InvalidInputError) as refused:
        load_answers(file)
    assert "\n" not in str(refused.value)


@over(ANSWERS)
@settings(max_examples=25, deadline=None)
def test_json_yaml_rows_and_the_saved_form_agree(values: dict[str, Any]) -> None:
    answers = parse_answers(values)
    told = dict(answers.values)
    yaml_text = "".join(f"{name}: {value}\n" for name, value in told.items())
    row = {name: "" if value is None else f" {value} " for name, value in values.items()}
    assert parse_answers(json.dumps(told)) == answers
    assert parse_answers(yaml_text) == answers
    assert parse_row(row) == answers
    assert parse_answers(answers_file(load_catalogue(), answers)) == answers


@over(st.one_of(st.binary(max_size=80), st.text(string.printable, max_size=80)))
@settings(max_examples=120, deadline=None)
def test_any_text_is_taken_or_refused(text: str | bytes) -> None:
    line = ""
    try:
        assert set(parse_answers(text).values) <= {question.id for question in questionnaire()}
    except InvalidInputError as refused:
        line = str(refused)
    assert "\n" not in line


@over(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=3),
            lambda inner: st.lists(inner, max_size=2),
            max_leaves=3,
        ),
        min_size=1,
    )
)
@settings(max_examples=20, deadline=None)
def test_an_unknown_question_is_always_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="unknown question"):
        parse_answers(values)


def test_an_empty_form_is_a_valid_file_with_every_question() -> None:
    text = answers_file(load_catalogue())
    assert parse_answers(text).values == {}
    for question in questionnaire():
        assert f"\n{question.id}:\n" in text
        assert all(f"[{option}]" in text for option in question.answers)
    assert max(len(line) for line in text.splitlines()) <= 80
