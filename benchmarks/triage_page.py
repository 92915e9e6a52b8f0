"""``docs/triage.md``: the tables as a page a clinician can review on paper.

Run ``python -m benchmarks.triage_page > docs/triage.md`` after any change of the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from audio_pipeline.triage.messages import Catalogue, load_catalogue
from audio_pipeline.triage.rules import (
    DATA,
    LEVELS,
    Combined,
    Flag,
    Question,
    Rule,
    Source,
    Tables,
    load_tables,
)


def review_page() -> str:
    """Return the page in Markdown, with the words of the default region and language."""
    tables, words = load_tables(), load_catalogue()
    template = (DATA / "review.md").read_text(encoding="utf-8")
    parts = {
        "version": tables.version,
        "levels": _levels(words),
        "questions": "\n\n".join(_question(each, words) for each in tables.questions.values()),
        "flags": _table(["flag", "from", "yes when"], map(_flag, tables.flags.values())),
        "combined": _table(
            ["scale", "like", "raised by"],
            [
                [each.id, each.question, "; ".join(_lifts(each))]
                for each in tables.combined.values()
            ],
        ),
        "rules": _rules(tables, words),
        "gates": _table(
            ["gate", "floor"],
            [[rule.id, rule.level] for rule in tables.rules if rule.question is not None],
        ),
        "advice": _advice(tables, words),
        "safety_net": _table(
            ["id", "text"], [[key, words.text("safety_net", key)] for key in tables.safety_net]
        ),
        "explanation": _table(
            ["id", "when heard", "text", "sources"],
            [
                [
                    each.id,
                    ", ".join(sorted(each.heard)) or "always",
                    words.text("explanation", each.id),
                    ", ".join(source.key for source in each.sources),
                ]
                for each in tables.explanation
            ],
        ),
        "disagreements": _table(
            ["answers", "text"],
            [
                [
                    ", ".join(f"`{key} = {value}`" for key, value in each.answers.items()),
                    words.text("disagreements", each.id),
                ]
                for each in tables.disagreements
            ],
        ),
        "sources": _table(["key", "title", "read"], map(_source, tables.sources.values())),
    }
    for name, text in parts.items():
        template = template.replace(f"{{{name}}}", text)
    return template


def _source(source: Source) -> list[str]:
    """Return a row; a link to this page becomes a link within it."""
    link = source.url.removeprefix("docs/triage.md")
    return [source.key, f"[{source.title}]({link})", source.read]


def _levels(words: Catalogue) -> str:
    rows = [
        [level, *(words.level(level, field) for field in ("symbol", "title", "who", "when"))]
        for level in reversed(LEVELS)
    ]
    return _table(["level", "symbol", "headline", "who to see", "by when"], rows)


def _question(question: Question, words: Catalogue) -> str:
    lines = [f"**`{question.id}`** {words.question(question.id)}"]
    if question.gate:
        lines.append(f"*gate: {question.gate}*")
    if question.numeric:
        lines.append(f"A whole number from {question.minimum} to {question.maximum}.")
    if question.options:
        lines.append("Scale: " + " < ".join(f"`{option}`" for option in question.options))
    worded = [f"`{option}` {words.option(question.id, option)}" for option in question.answers]
    if worded:
        lines.append("Answers: " + "; ".join(worded))
    return "  \n".join(lines)


def _flag(flag: Flag) -> list[str]:
    if flag.values:
        return [flag.id, flag.question, " or ".join(flag.values)]
    band = f"below {flag.below}" if flag.below is not None else f"{flag.at_least} or over"
    other = f", and `{flag.unless_no}` is not no" if flag.unless_no else ""
    return [flag.id, flag.question, f"{band}, or missing{other}"]


def _lifts(scale: Combined) -> Iterable[str]:
    for name, lifts in scale.raised_by.items():
        for option, lifted in lifts.items():
            yield f"{name} {option} to {lifted}"


def _rules(tables: Tables, words: Catalogue) -> str:
    sections = []
    for level in reversed(LEVELS[1:]):
        rows = [
            [rule.id, f"`{rule.text}`", _reason(rule, words), ", ".join(_keys(rule))]
            for rule in tables.rules
            if rule.level == level and rule.question is None
        ]
        heading = f"### {words.level(level, 'title')} (`{level}`)"
        table = _table(["rule", "fires when", "reason shown; why added", "sources"], rows)
        sections.append(f"{heading}\n\n{table}")
    return "\n\n".join(sections)


def _reason(rule: Rule, words: Catalogue) -> str:
    shown = words.text("reasons", rule.id, topics="...")
    return f"{shown} *Added: {rule.added}*" if rule.added else shown


def _keys(rule: Rule) -> list[str]:
    return [source.key for source in rule.sources]


def _advice(tables: Tables, words: Catalogue) -> str:
    rows = [
        [
            each.id,
            ", ".join(level for level in LEVELS if level in each.levels),
            f"`{each.text}`" if each.text else "always",
            words.text("advice", each.id),
        ]
        for each in tables.advice
    ]
    return _table(["id", "levels", "when", "text"], rows)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    print(review_page(), end="")
