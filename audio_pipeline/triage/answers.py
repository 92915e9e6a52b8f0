"""A person's answers, and the strict reading of answers files.

An answers file is a flat mapping of question id to option, as YAML or JSON. It comes from outside,
so what a YAML or JSON library would let through is refused here: duplicate keys, aliases (the
"YAML bomb"), tags, nesting, several documents, and anything past :data:`MAX_BYTES`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.rules import UNSURE, Question, load_tables

MAX_BYTES = 64 * 1024
"""Largest answers file read, in bytes. A full one with all comments has about 6,000."""

_BOOLEANS = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_NULLS = {"", "~", "null"}
_INTEGER = re.compile(r"[-+]?[0-9]{1,9}")


@dataclass(frozen=True)
class Answers:
    """Checked answers: question id to an option, or to a whole number for ``age`` and ``severity``.

    A question left out was not answered. Build one with :func:`parse_answers`.
    """

    values: Mapping[str, str | int] = field(default_factory=dict)

    def get(self, question: str) -> str | int | None:
        """Return the answer to a question, or None where there is none."""
        return self.values.get(question)

    def unanswered(self) -> tuple[str, ...]:
        """Return the ids of all questions without an answer, gate questions first."""
        tables = load_tables()
        absent = [name for name in tables.questions if name not in self.values]
        return tuple(sorted(absent, key=lambda name: not tables.questions[name].gate))

    def unknown(self) -> tuple[str, ...]:
        """Return the gate questions that are unanswered or answered "not sure"."""
        return tuple(
            name for name in load_tables().gates if self.values.get(name, UNSURE) == UNSURE
        )


def parse_answers(source: Mapping[str, Any] | str | bytes, name: str = "answers") -> Answers:
    """Check answers given as a mapping, or as the text of an answers file.

    Parameters
    ----------
    source
        Question id to option. In a mapping True and False mean yes and no, and None means not
        answered. Text may be YAML or JSON, at most :data:`MAX_BYTES` long.
    name
        What to call the source in an error.

    Returns
    -------
    Answers
        Empty when nothing was answered.

    Raises
    ------
    InvalidInputError
        One line: what is wrong, which value, and what is allowed.
    """
    if isinstance(source, (str, bytes)):
        source = _read_text(source, name)
    questions = load_tables().questions
    values: dict[str, str | int] = {}
    for key, value in source.items():
        if key not in questions:
            allowed = ", ".join(questions)
            raise InvalidInputError(f"{name}: unknown question {_show(key)}; allowed: {allowed}")
        checked = _check(questions[key], value, name)
        if checked is not None:
            values[key] = checked
    return Answers({question: values[question] for question in questions if question in values})


def parse_row(row: Mapping[str, str], name: str = "answers") -> Answers:
    """Check one row of a table, where every value is text and an empty cell is no answer.

    Raises
    ------
    InvalidInputError
        As :func:`parse_answers`.
    """
    return parse_answers({key: _plain(value.strip()) for key, value in row.items()}, name)


def load_answers(path: str | os.PathLike[str]) -> Answers:
    """Read and check an answers file, YAML or JSON.

    Raises
    ------
    InvalidInputError
        The file cannot be read, is too large, or is not a valid answers file.
    """
    name = repr(os.fspath(path)).strip("'\"") or "the answers file"
    try:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"{name}: cannot be read: {reason}") from None
    return parse_answers(data, name)


def _check(question: Question, value: object, name: str) -> str | int | None:
    if value is None:
        return None
    if question.numeric:
        if isinstance(value, int) and not isinstance(value, bool):
            assert question.minimum is not None
            assert question.maximum is not None
            if question.minimum <= value <= question.maximum:
                return value
        raise InvalidInputError(
            f"{name}: {question.id} is {_show(value)}; allowed: a whole number from "
            f"{question.minimum} to {question.maximum}"
        )
    if isinstance(value, bool):
        value = "yes" if value else "no"
    if isinstance(value, str) and value in question.answers:
        return value
    raise InvalidInputError(
        f"{name}: {question.id} is {_show(value)}; allowed: {', '.join(question.answers)}"
    )


def _show(value: object) -> str:
    """Quote a value from outside on one short printable line."""
    text = ascii(value) if not isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_text(source: str | bytes, name: str) -> Mapping[str, Any]:
    data = source.encode("utf-8", "surrogatepass") if isinstance(source, str) else source
    if len(data) > MAX_BYTES:
        raise InvalidInputError(
            f"{name}: larger than {MAX_BYTES // 1024} KB; an answers file holds one line a question"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(
            f"{name}: not UTF-8 text at byte {error.start}; save as UTF-8"
        ) from None
    if text.lstrip().startswith("{"):
        # YAML in braces is not JSON, so what JSON cannot read may still be a YAML file.
        with suppress(json.JSONDecodeError):
            return _read_json(text, name)
    return _read_yaml(text, name)


def _read_json(text: str, name: str) -> Mapping[str, Any]:
    def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        for key, value in pairs:
            if key in mapping:
                raise InvalidInputError(f"{name}: {_show(key)} is given twice; give it once")
            mapping[key] = value
        return mapping

    try:
        document = json.loads(text, object_pairs_hook=refuse_duplicates)
    except RecursionError:
        raise InvalidInputError(f"{name}: nested too deeply; an answers file is flat") from None
    except json.JSONDecodeError:
        raise
    except ValueError:
        raise InvalidInputError(
            f"{name}: holds a number that is too long to be an answer"
        ) from None
    assert isinstance(document, dict)
    return document


def _read_yaml(text: str, name: str) -> Mapping[str, Any]:
    """Build the flat mapping from YAML events, so nothing is ever constructed or expanded."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    flat = "an answers file is flat, one 'question: answer' a line"
    mapping: dict[str, Any] = {}
    key: str | None = None
    depth = documents = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise InvalidInputError(f"{name}: holds several documents; {flat}")
            elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
                raise InvalidInputError(f"{name}: uses YAML anchors or aliases; {flat}")
            elif tag := getattr(event, "tag", None):
                raise InvalidInputError(f"{name}: uses the YAML tag {_show(tag)}; {flat}")
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                if depth or isinstance(event, yaml.SequenceStartEvent):
                    where = f"{key} holds a list or mapping" if key else "not a mapping"
                    raise InvalidInputError(f"{name}: {where}; {flat}")
                depth += 1
            elif isinstance(event, yaml.ScalarEvent):
                if not depth:
                    if event.value == "":
                        continue
                    raise InvalidInputError(f"{name}: {_show(event.value)} is no mapping; {flat}")
                if key is None:
                    key = event.value
                    if key in mapping:
                        raise InvalidInputError(
                            f"{name}: {_show(key)} is given twice; give it once"
                        )
                else:
                    quoted = event.style in ("'", '"', "|", ">")
                    mapping[key] = event.value if quoted else _plain(event.value)
                    key = None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise InvalidInputError(f"{name}: not valid YAML or JSON{place}; {flat}") from None
    return mapping


def _plain(text: str) -> str | int | bool | None:
    """Return what an unquoted YAML scalar or a table cell stands for."""
    lowered = text.lower()
    if lowered in _NULLS:
        return None
    if lowered in _BOOLEANS:
        return _BOOLEANS[lowered]
    return int(text) if _INTEGER.fullmatch(text) else text
