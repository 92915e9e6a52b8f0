"""Every word a person reads from triage: banned words, reading age, completeness."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyphen
import pytest
from wording_rules import BANNED

import audio_pipeline.triage
from audio_pipeline.triage.messages import (
    CALL_ADVICE,
    MESSAGES,
    REGIONS,
    languages,
    load_catalogue,
    read_messages,
)
from audio_pipeline.triage.rules import LEVELS, load_tables, questionnaire

SYLLABLES = pyphen.Pyphen(lang="en_US")
HIGHEST_GRADE = 7.0
"""Flesch-Kincaid grade of the hardest message; 7 is read at about age 12."""
HIGHEST_MEAN_GRADE = 4.5


def texts(entry: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(entry, str):
        yield path, entry
    elif isinstance(entry, dict):
        for key, value in entry.items():
            yield from texts(value, f"{path}.{key}" if path else key)
    else:
        for number, value in enumerate(entry if isinstance(entry, list) else ()):
            yield from texts(value, f"{path}.{number}")


def messages(language: str) -> list[tuple[str, str]]:
    catalogue = load_catalogue("GB", language)
    found = texts(read_messages(MESSAGES / f"{language}.toml"))
    blanks = {name: "this" for name in ("topics", "title", "version", "time", "sources", "choices")}
    blanks |= {"first": "this", "last": "that", "who": "your GP", "when": "today", "pops": "2 pops"}
    blanks |= {name: "this" for name in ("sound", "sounds", "why", "names", "name", "none")}
    numbers = {
        "number": 1,
        "total": 9,
        "minimum": 0,
        "maximum": 10,
        "count": 2,
        "minutes": 5,
        "turn": 1,
        "turns": 5,
    }
    return [
        (path, catalogue.fill(text, **blanks, **numbers))
        for path, text in found
        if not path.startswith(("language.", "regions."))
    ]


ALL = [entry for language in languages() for entry in messages(language)]


def grade(text: str) -> float:
    """Flesch-Kincaid grade, with syllables counted by hyphenation."""
    sentences = max(1, len(re.findall(r"[.!?:]+(?=\s|$)", text)))
    words = re.findall(r"[A-Za-z]+(?:['&][A-Za-z]+)*", text)
    syllables = sum(len(SYLLABLES.positions(word)) + 1 for word in words)
    return 0.39 * len(words) / sentences + 11.8 * syllables / max(1, len(words)) - 15.59


def test_no_banned_words() -> None:
    found = {}
    for path, text in ALL:
        if path == "explanation.X-COMMON":  # said once, in this sense only
            assert text.count("arthritis") == 1
            text = text.replace("have not found that it causes arthritis", "")
        if banned := BANNED.search(text):
            found[path] = banned.group()
    assert not found


@pytest.mark.parametrize(
    "text",
    ["Your back is safe.", "This is normal.", "bone-on-bone", "a 5 % risk", "wear and tear"],
)
def test_the_check_for_banned_words_can_fail(text: str) -> None:
    assert BANNED.search(text)


def long_enough(text: str) -> bool:
    """A grade means little for a few words."""
    return len(re.findall(r"[A-Za-z]+", text)) >= 8


def test_every_message_reads_at_eleven() -> None:
    grades = {path: grade(text) for path, text in ALL if long_enough(text)}
    assert not {path: grade for path, grade in grades.items() if grade > HIGHEST_GRADE}


def test_all_messages_together_read_easily() -> None:
    together = [grade(text) for _, text in ALL if long_enough(text)]
    assert sum(together) / len(together) <= HIGHEST_MEAN_GRADE


def test_the_grade_can_tell_hard_from_easy() -> None:
    easy = "Get up and move for a moment now and then."
    hard = "Neurological deterioration necessitates immediate specialist evaluation."
    assert grade(easy) < 4 < 12 < grade(hard)


def test_every_level_rule_and_gate_has_its_message() -> None:
    for language in languages():
        catalogue = load_catalogue("GB", language)
        for level in LEVELS:
            for field in ("symbol", "title", "who", "when"):
                assert catalogue.level(level, field)
        for rule in load_tables().rules:
            assert (
                catalogue.text("reasons", rule.id, topics="this") if rule.question is None else True
            )
        for question in load_tables().questions.values():
            assert catalogue.question(question.id).endswith("?")
            assert catalogue.topic(question.id)
            assert all(catalogue.option(question.id, option) for option in question.answers)


def test_reasons_are_sentences_about_the_person() -> None:
    for path, text in ALL:
        if path.startswith(("reasons.", "advice.", "safety_net.")):
            assert text[0].isupper(), path
            assert text.endswith((".", ":")), path


def test_the_same_day_headline_is_the_agreed_one() -> None:
    assert load_catalogue().level("same_day", "title") == "Get medical advice today"


def test_every_region_names_its_own_number() -> None:
    numbers = {load_catalogue(region).fill("{emergency_number}") for region in REGIONS}
    assert numbers == {"999", "911", "112", "000"}


def test_no_unused_message() -> None:
    """A text nobody shows is a text nobody reviews."""
    tables = load_tables()
    catalogue = read_messages(MESSAGES / "en.toml")
    assert set(catalogue["reasons"]) == {rule.id for rule in tables.rules if not rule.question}
    assert set(catalogue["advice"]) == {advice.id for advice in tables.advice} | {CALL_ADVICE}
    assert set(catalogue["explanation"]) == {item.id for item in tables.explanation}
    assert set(catalogue["groups"]) == {each.group for each in questionnaire() if each.group}
    assert set(catalogue["safety_net"]) == set(tables.safety_net)
    assert set(catalogue["questions"]) == set(tables.questions)
    package = Path(audio_pipeline.triage.__file__).parents[1]
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("triage", "app/reporting")
        for path in (package / folder).glob("*.py")
    )
    for section in ("page", "interview", "unknown", "sound", "why"):
        for key in catalogue[section]:
            assert f'"{key.removeprefix("gate_")}"' in code, f"{section}.{key}"


def test_the_page_uses_every_word_and_has_every_word() -> None:
    static = Path(audio_pipeline.triage.__file__).parents[1] / "app" / "server" / "static"
    files = {path.name: path.read_text(encoding="utf-8") for path in static.glob("*.*s")}
    code, page = "".join(files.values()), (static / "index.html").read_text(encoding="utf-8")
    used = set(re.findall(r"words\.(\w+\.\w+)", page))
    web = read_messages(MESSAGES / "en.toml")["web"]
    used |= set(re.findall(rf'"((?:{"|".join(web)})\.[a-z_]+)"', code))
    known = {f"{section}.{key}" for section, entries in web.items() for key in entries}
    built = {f"sound.{label}" for label in ("pop", "grating", "other")}
    built |= {
        f"history.{key}" for key in ("week_from", "recordings", "pops", "gratings", "from", "to")
    }
    by_server = {
        key for key in known if key.startswith(("errors.", "record.still", "record.turn_"))
    }
    assert used - known == set()
    assert known - used - built - by_server == set()


def test_advice_on_cracking_is_worded_with_may() -> None:
    for key in ("A-HABIT", "A-MOVE", "A-SITTING", "A-HIPS", "A-UPPER", "A-STRENGTH"):
        assert " may " in load_catalogue().text("advice", key)
