"""Answers for the triage tests: the written cases, and strategies over the whole answer space."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from audio_pipeline.triage.answers import Answers, parse_answers
from audio_pipeline.triage.recommendation import FINDINGS, Sound
from audio_pipeline.triage.rules import SKIP, questionnaire

_FILE = Path(__file__).parent / "data" / "triage" / "vignettes.toml"
_DATA = tomllib.loads(_FILE.read_text(encoding="utf-8"))

BASE: dict[str, Any] = _DATA["base"]
"""A complete set of answers without pain or any sign."""


@dataclass(frozen=True)
class Case:
    id: str
    answers: Answers
    sound: Sound | None
    range: tuple[str, str]
    because: frozenset[str]
    sources: tuple[str, ...]


def _case(entry: dict[str, Any]) -> Case:
    omitted = entry.get("omit", [])
    values = {} if omitted == ["*"] else {**BASE, **entry["answers"]}
    return Case(
        entry["id"],
        parse_answers({key: value for key, value in values.items() if key not in omitted}),
        Sound(**entry["sound"]) if "sound" in entry else None,
        (entry["range"][0], entry["range"][1]),
        frozenset(entry.get("because", [])),
        tuple(entry["sources"]),
    )


def _person(line: str) -> Case:
    """One line of people.txt."""
    name, levels, changes, _, sources = (part.strip() for part in line.split("|"))
    low, high = levels.split("..")
    answers = given(**_changes(changes))
    return Case(name, answers, None, (low, high), frozenset(), tuple(sources.split()))


def _changes(text: str) -> dict[str, str | int | None]:
    values: dict[str, str | int | None] = {}
    for change in text.split():
        name, value = change.split("=")
        values[name] = None if value == "-" else int(value) if value.isdigit() else value
    return values


def given(**changes: str | int | None) -> Answers:
    """The base answers with some changed, or left out where None."""
    return parse_answers({**BASE, **changes})


def _lines(name: str) -> list[str]:
    text = _FILE.with_name(name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


PEOPLE = tuple(map(_person, _lines("people.txt")))
"""Cases written before the rules they test."""

CASES = (*(_case(entry) for entry in _DATA["case"]), *PEOPLE)


@dataclass(frozen=True)
class Boundary:
    changes: str
    answers: Answers
    fires: frozenset[str]
    silent: frozenset[str]


def _boundary(line: str) -> Boundary:
    changes, fires, silent = (part.split() for part in line.split("|"))
    answers = given(**_changes(" ".join(changes)))
    return Boundary(" ".join(changes), answers, frozenset(fires), frozenset(silent))


BOUNDARIES = tuple(map(_boundary, _lines("boundaries.txt")))


def values_of(name: str) -> list[str | int | None]:
    """All answers to a question, lowest first, with None where leaving it out ranks.

    A pain number left out is no pain by that way, but never better than 0 (test_pain_present.py).
    """
    question = next(each for each in questionnaire() if each.id == name)
    if name == "severity":
        return [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    return [None if option == SKIP else option for option in question.options]


def _values(name: str) -> st.SearchStrategy[str | int | None]:
    question = next(each for each in questionnaire() if each.id == name)
    if question.numeric:
        number = st.integers(question.minimum, question.maximum)
        return st.one_of(st.none(), number)
    return st.sampled_from([None, *question.answers])


ANSWERS = st.fixed_dictionaries({each.id: _values(each.id) for each in questionnaire()})
"""Every question answered or left out, as a mapping."""

FEW_ANSWERS = st.lists(
    st.sampled_from(questionnaire()).flatmap(
        lambda each: st.tuples(st.just(each.id), _values(each.id))
    ),
    max_size=6,
).map(lambda changes: {**BASE, **dict(changes)})
"""The base answers with up to six changed, so that single rules decide."""

SOUNDS = st.one_of(
    st.none(),
    st.builds(
        Sound,
        st.sampled_from([*FINDINGS, "another_label"]),
        st.one_of(st.none(), st.floats(0, 1)),
    ),
)
