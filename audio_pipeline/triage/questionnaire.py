"""The questionnaire as a page of text, as JSON, and as an answers file to fill in or to keep."""

from __future__ import annotations

import textwrap
from typing import Any

from audio_pipeline.triage.answers import Answers
from audio_pipeline.triage.messages import Catalogue
from audio_pipeline.triage.rules import Question, load_tables

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
