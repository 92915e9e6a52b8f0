"""The reviewed tables: questions, scales, rules, gates, advice and sources, read from data files.

The loader is the schema. It refuses unknown keys, a rule without a source, an unknown id or option,
and a rule that can never fire.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent / "data"
TABLE_FILES = ("questions.toml", "rules.toml", "advice.toml", "explanation.toml", "sources.toml")
LEVELS = ("self_care", "routine", "soon", "same_day", "emergency")
"""Levels of a recommendation, low to high."""

AUDIO_SCALE = "audio_grating"
AUDIO_OPTIONS = ("none", "lo", "hi")
SKIP, UNSURE = "skip", "unsure"
HEARD = ("pop", "grinding", "same_place", "nothing", "unknown")
"""What an explanation can depend on."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question. ``options`` is its scale, low to high, ``skip`` included."""

    id: str
    section: str
    options: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    gate: str | None = None
    stop: str | None = None
    group: str | None = None
    asked_when: Condition | None = None
    settled_after: Mapping[str, str] | None = None
    settled_as: int | None = None
    settled_from_age: int | None = None

    @property
    def numeric(self) -> bool:
        """Whether the answer is a whole number."""
        return self.maximum is not None

    @property
    def answers(self) -> tuple[str, ...]:
        """What a person may answer, in the order offered; empty for a number."""
        if self.numeric:
            return ()
        if self.choices:
            return self.choices
        offered = tuple(option for option in self.options if option not in (SKIP, UNSURE))
        return (*offered, UNSURE) if UNSURE in self.options else offered

    @property
    def details(self) -> tuple[str, ...]:
        """What can be said of it beyond yes, where it is a line of a list to tick."""
        offered = tuple(option for option in self.answers if option not in (self.lowest, UNSURE))
        return offered if len(offered) > 1 else ()

    @property
    def lowest(self) -> str:
        """The answer that rules it out: "no", "none" or its like; empty for a number."""
        return self.options[0] if self.options else ""

    @property
    def emergency(self) -> bool:
        """Whether it is one of the six asked before anything else."""
        return self.section == "emergency"


@dataclass(frozen=True, slots=True)
class Flag:
    """A scale computed from an answer: an age band or a duration."""

    id: str
    question: str
    values: tuple[str, ...] = ()
    below: int | None = None
    at_least: int | None = None
    unless_no: str | None = None


@dataclass(frozen=True, slots=True)
class Combined:
    """A scale that takes the highest of several answers.

    It has the options of ``question``. ``raised_by`` says to which of them another answer lifts it:
    an option of that question or, for a number, the number from which on. What is missing there
    adds nothing.
    """

    id: str
    question: str
    raised_by: Mapping[str, Mapping[str, str]]

    @property
    def questions(self) -> tuple[str, ...]:
        """Ids of the questions it rests on."""
        return (self.question, *self.raised_by)


@dataclass(frozen=True, slots=True)
class Source:
    """A publication a rule rests on."""

    key: str
    title: str
    url: str
    read: str

    def to_dict(self) -> dict[str, str]:
        """Return the source as it stands in ``triage --json``."""
        return {"key": self.key, "title": self.title, "url": self.url}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, or a gate (``question`` is then the gated question)."""

    id: str
    level: str
    text: str
    condition: Condition
    sources: tuple[Source, ...]
    added: str = ""
    question: str | None = None
    call: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """When a piece of advice is given."""

    id: str
    levels: frozenset[str]
    text: str
    condition: Condition | None
    no_self_manipulation: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """A part of the safety net: the text that says what to do, and those that say when."""

    opening: str
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Item:
    """A part of why a back cracks; ``heard`` is empty where it is always given."""

    id: str
    heard: frozenset[str]
    reassures: bool
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Answers that cannot all be right."""

    id: str
    answers: Mapping[str, str]


@dataclass(frozen=True)
class Tables:
    """Everything the engine reads. ``rules`` holds rules and gates, highest level first."""

    version: str
    questions: Mapping[str, Question]
    flags: Mapping[str, Flag]
    combined: Mapping[str, Combined]
    scales: Scales
    rules: tuple[Rule, ...]
    advice: tuple[Advice, ...]
    watch: tuple[Watch, ...]
    limits: str
    explanation: tuple[Item, ...]
    disagreements: tuple[Disagreement, ...]
    sources: Mapping[str, Source]

    @property
    def safety_net(self) -> tuple[str, ...]:
        """Ids of all its texts, in order."""
        parts = [name for each in self.watch for name in (each.opening, *each.items)]
        return (*parts, self.limits)

    @property
    def gates(self) -> tuple[str, ...]:
        """Ids of the gate questions, in the order asked."""
        return tuple(question.id for question in self.questions.values() if question.gate)

    def questions_of(self, scale: str) -> tuple[str, ...]:
        """Return the ids of the questions a scale rests on; empty for the sound."""
        if scale in self.combined:
            return self.combined[scale].questions
        if scale in self.flags:
            return tuple(filter(None, (self.flags[scale].question, self.flags[scale].unless_no)))
        return (scale,) if scale in self.questions else ()


def questionnaire() -> tuple[Question, ...]:
    """Return the questions in the order they are asked."""
    return tuple(load_tables().questions.values())


@cache
def load_tables(folder: Path = DATA) -> Tables:
    """Read and check the tables.

    Parameters
    ----------
    folder
        Folder with :data:`TABLE_FILES`; the one that ships with the package by default.

    Raises
    ------
    ValueError
        Names the file, the entry and what is wrong with it.
    """
    contents = {name: (folder / name).read_bytes() for name in TABLE_FILES}
    digest = hashlib.sha256(b"".join(contents[name] for name in TABLE_FILES)).hexdigest()
    documents = {name: tomllib.loads(data.decode()) for name, data in contents.items()}
    return build_tables(documents, digest)


def build_tables(documents: Mapping[str, Mapping[str, Any]], digest: str = "") -> Tables:
    """Check parsed data files and build the tables; raises as :func:`load_tables` does."""
    asked, ruled = documents["questions.toml"], documents["rules.toml"]
    _only(asked, "questions.toml", {"question", "derived", "combined"})
    _only(ruled, "rules.toml", {"version", "rule", "disagreement"})
    questions = {entry["id"]: _question(entry) for entry in _unique(asked["question"], "question")}
    combined = {
        entry["id"]: _combined(entry, questions) for entry in _unique(asked["combined"], "combined")
    }
    flags = {entry["id"]: _flag(entry, questions) for entry in _unique(asked["derived"], "derived")}
    scales = {question.id: question.options for question in questions.values() if question.options}
    for flag in flags.values():
        scales[flag.id] = ("no", SKIP, "yes") if flag.values else ("no", "yes")
    scales |= {each.id: questions[each.question].options for each in combined.values()}
    scales[AUDIO_SCALE] = AUDIO_OPTIONS
    for entry in asked["question"]:
        if text := entry.get("asked_when"):
            condition = _condition(text, scales, f"question {entry['id']}")
            questions[entry["id"]] = replace(questions[entry["id"]], asked_when=condition)
    sources = {key: _source(key, entry) for key, entry in documents["sources.toml"].items()}
    rules = [_rule(entry, scales, sources) for entry in _unique(ruled["rule"], "rule")]
    rules += [_gate(question, sources) for question in questions.values() if question.gate]
    for rule in rules:
        _refuse_dead(rule, flags, scales)
    rules.sort(key=lambda rule: -LEVELS.index(rule.level))
    advised = documents["advice.toml"]
    _only(advised, "advice.toml", {"advice", "watch", "limits"})
    explained = documents["explanation.toml"]
    _only(explained, "explanation.toml", {"item"})
    return Tables(
        version=f"{ruled['version']}+{digest[:12]}",
        questions=questions,
        flags=flags,
        combined=combined,
        scales=scales,
        rules=tuple(rules),
        advice=tuple(_advice(entry, scales) for entry in advised["advice"]),
        watch=tuple(Watch(each["opening"], tuple(each["items"])) for each in advised["watch"]),
        limits=advised["limits"],
        explanation=tuple(_item(each, sources) for each in _unique(explained["item"], "item")),
        disagreements=tuple(
            _disagreement(entry, questions)
            for entry in _unique(ruled["disagreement"], "disagreement")
        ),
        sources=sources,
    )


def _only(entry: Mapping[str, Any], where: str, allowed: set[str]) -> None:
    for key in entry:
        if key not in allowed:
            raise ValueError(f"{where}: unknown key {key!r}, allowed: {', '.join(sorted(allowed))}")


def _unique(entries: list[dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    for entry in entries:
        identity = entry.get("id")
        if not isinstance(identity, str) or identity in seen:
            raise ValueError(f"{kind} {identity!r}: its id is missing or used twice")
        seen.add(identity)
        yield entry


def _question(entry: dict[str, Any]) -> Question:
    where = f"question {entry['id']}"
    _only(entry, where, {field.name for field in fields(Question)})
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    given.pop("asked_when", None)  # it is parsed once all scales are known
    question = Question(**given)
    if not question.answers and not question.numeric:
        raise ValueError(f"{where}: it has neither options, choices nor a range")
    if question.gate and (question.gate not in LEVELS or SKIP not in question.options):
        raise ValueError(f"{where}: gate {question.gate!r} is no level, or there is no skip option")
    if question.stop and question.stop not in question.options:
        raise ValueError(f"{where}: stop {question.stop!r} is not one of its options")
    return question


def _flag(entry: dict[str, Any], questions: Mapping[str, Question]) -> Flag:
    where = f"derived {entry['id']}"
    _only(entry, where, {"id", "question", "values", "below", "from", "unless_no"})
    flag = Flag(
        **{key: value for key, value in entry.items() if key not in ("values", "from")},
        values=tuple(entry.get("values", ())),
        at_least=entry.get("from"),
    )
    for question in (flag.question, flag.unless_no):
        if question is not None and question not in questions:
            raise ValueError(f"{where}: unknown question {question!r}")
    for value in flag.values:
        if value not in questions[flag.question].choices:
            raise ValueError(f"{where}: unknown option {value!r} of {flag.question}")
    return flag


def _combined(entry: dict[str, Any], questions: Mapping[str, Question]) -> Combined:
    where = f"combined {entry['id']}"
    _only(entry, where, {"id", "question", "raised_by"})
    for name, lifts in entry["raised_by"].items():
        if name not in questions:
            raise ValueError(f"{where}: unknown question {name!r}")
        for option, lifted in lifts.items():
            known = (
                option.isdigit() if questions[name].numeric else option in questions[name].options
            )
            if not known or lifted not in questions[entry["question"]].options:
                raise ValueError(f"{where}: unknown option {name} = {option} or {lifted!r}")
    return Combined(entry["id"], entry["question"], entry["raised_by"])


def _source(key: str, entry: dict[str, Any]) -> Source:
    _only(entry, f"source {key}", {"title", "url", "read"})
    if not entry.get("title") or not entry.get("url"):
        raise ValueError(f"source {key}: a title and a link are needed")
    return Source(key, entry["title"], entry["url"], entry["read"])


def _sources_of(
    entry: dict[str, Any], sources: Mapping[str, Source], where: str
) -> tuple[Source, ...]:
    if not entry.get("sources"):
        raise ValueError(f"{where}: it names no source")
    for key in entry["sources"]:
        if key not in sources:
            raise ValueError(f"{where}: unknown source {key!r}")
    return tuple(sources[key] for key in entry["sources"])


def _rule(entry: dict[str, Any], scales: Scales, sources: Mapping[str, Source]) -> Rule:
    where = f"rule {entry['id']}"
    _only(entry, where, {"id", "level", "when", "sources", "added", "call"})
    if entry.get("level") not in LEVELS:
        raise ValueError(f"{where}: unknown level {entry.get('level')!r}")
    return Rule(
        entry["id"],
        entry["level"],
        entry["when"],
        _condition(entry["when"], scales, where),
        _sources_of(entry, sources, where),
        entry.get("added", ""),
        call=entry.get("call", False),
    )


def _gate(question: Question, sources: Mapping[str, Source]) -> Rule:
    assert question.gate is not None
    leaf = AtLeast(question.id, SKIP, question.options.index(SKIP))
    return Rule(
        f"G:{question.id}",
        question.gate,
        f"{question.id} >= {SKIP}",
        leaf,
        (sources["PRINCIPLE"],),
        question=question.id,
    )


def _advice(entry: dict[str, Any], scales: Scales) -> Advice:
    where = f"advice {entry.get('id')}"
    _only(entry, where, {"id", "levels", "when", "no_self_manipulation"})
    for level in entry["levels"]:
        if level not in LEVELS:
            raise ValueError(f"{where}: unknown level {level!r}")
    text = entry.get("when", "")
    return Advice(
        entry["id"],
        frozenset(entry["levels"]),
        text,
        _condition(text, scales, where) if text else None,
        entry.get("no_self_manipulation", False),
    )


def _item(entry: dict[str, Any], sources: Mapping[str, Source]) -> Item:
    where = f"item {entry['id']}"
    _only(entry, where, {"id", "heard", "reassures", "sources"})
    heard = frozenset(entry.get("heard", ()))
    if unknown := heard - set(HEARD):
        raise ValueError(f"{where}: unknown sound {min(unknown)!r}")
    return Item(
        entry["id"], heard, entry.get("reassures", False), _sources_of(entry, sources, where)
    )


def _disagreement(entry: dict[str, Any], questions: Mapping[str, Question]) -> Disagreement:
    _only(entry, f"disagreement {entry['id']}", {"id", "answers"})
    for question, option in entry["answers"].items():
        if question not in questions or option not in questions[question].options:
            raise ValueError(f"disagreement {entry['id']}: unknown answer {question} = {option}")
    return Disagreement(entry["id"], entry["answers"])


def _condition(text: str, scales: Scales, where: str) -> Condition:
    try:
        return parse_condition(text, scales)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _refuse_dead(rule: Rule, flags: Mapping[str, Flag], scales: Scales) -> None:
    """Refuse a rule that no set of answers fires.

    Only the flags of one question can exclude each other (no one is under 16 and over 65), so all
    other scales are put at their top and every band of age and duration is tried.
    """
    read = {leaf.scale for leaf in leaves(rule.condition)} & set(flags)
    top = {scale: len(options) - 1 for scale, options in scales.items()}
    if not read:
        return
    edges = {flag.below for flag in flags.values()} | {flag.at_least for flag in flags.values()}
    ages = sorted({edge - step for edge in edges if edge is not None for step in (0, 1)})
    durations = sorted({value for flag in flags.values() for value in flag.values})
    for age, duration in product(ages, durations):
        bands = {
            flag.id: 2 * (duration in flag.values) if flag.values else int(in_band(flag, age))
            for flag in flags.values()
            if flag.id in read
        }
        if rule.condition.holds(top | bands):
            return
    raise ValueError(f"rule {rule.id}: it can never fire: {rule.text}")


def in_band(flag: Flag, age: int) -> bool:
    """Return whether an age in years lies in the band of a flag."""
    return age < flag.below if flag.below is not None else age >= (flag.at_least or 0)


Ranks = Mapping[str, int]
"""Rank of every scale: 0 for its lowest option, one more for each option above."""

Scales = Mapping[str, tuple[str, ...]]
"""Options of every scale, low to high."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """The leaf: the answer on ``scale`` is at or above ``option``."""

    scale: str
    option: str
    rank: int

    def holds(self, ranks: Ranks) -> bool:
        """Return whether the rank reaches this one."""
        return ranks[self.scale] >= self.rank


@dataclass(frozen=True, slots=True)
class Joined:
    """Parts joined by ``AND``, which all hold, or by ``OR``, of which at least one does."""

    joint: str
    parts: tuple[Condition, ...]

    def holds(self, ranks: Ranks) -> bool:
        """Return whether the parts that must hold do."""
        held = (part.holds(ranks) for part in self.parts)
        return all(held) if self.joint == "AND" else any(held)


Condition = AtLeast | Joined

_TOKEN = re.compile(r">=|[()]|[A-Za-z0-9_-]+|(?P<rest>\S.*)", re.DOTALL)


def parse_condition(text: str, scales: Scales) -> Condition:
    """Parse ``"a >= x AND (b >= y OR c >= z)"``.

    Parameters
    ----------
    text
        The condition. AND and OR may not be mixed without brackets.
    scales
        Options of every scale, low to high.

    Raises
    ------
    ValueError
        Names the unknown scale, the unknown option, an option that always holds, or the place
        where the text cannot be read.
    """
    tokens = _tokens(text)
    condition, position = _parse_parts(tokens, 0, scales)
    if position != len(tokens):
        raise ValueError(f"unexpected {tokens[position]!r} in {text!r}")
    return condition


def _tokens(text: str) -> list[str]:
    tokens = []
    for match in _TOKEN.finditer(text):
        if match["rest"]:
            raise ValueError(f"cannot read {match['rest'].rstrip()!r} in {text!r}")
        tokens.append(match[0])
    return tokens


def _parse_parts(tokens: list[str], position: int, scales: Scales) -> tuple[Condition, int]:
    part, position = _parse_one(tokens, position, scales)
    parts = [part]
    joint = ""
    while position < len(tokens) and tokens[position] in ("AND", "OR"):
        if joint and tokens[position] != joint:
            raise ValueError("AND and OR need brackets between them")
        joint = tokens[position]
        part, position = _parse_one(tokens, position + 1, scales)
        parts.append(part)
    return (Joined(joint, tuple(parts)) if joint else part), position


def _parse_one(tokens: list[str], position: int, scales: Scales) -> tuple[Condition, int]:
    if position < len(tokens) and tokens[position] == "(":
        condition, position = _parse_parts(tokens, position + 1, scales)
        if position >= len(tokens) or tokens[position] != ")":
            raise ValueError("a bracket is not closed")
        return condition, position + 1
    if position + 3 > len(tokens) or tokens[position + 1] != ">=":
        raise ValueError(f"expected 'question >= option' at {' '.join(tokens[position:])!r}")
    scale, option = tokens[position], tokens[position + 2]
    if scale not in scales:
        raise ValueError(f"unknown question {scale!r}")
    if option not in scales[scale]:
        raise ValueError(f"unknown option {option!r} of {scale}: {', '.join(scales[scale])}")
    rank = scales[scale].index(option)
    if rank == 0:
        raise ValueError(f"{scale} >= {option} always holds")
    return AtLeast(scale, option, rank), position + 3


def leaves(condition: Condition) -> Iterator[AtLeast]:
    """Yield every leaf, left to right."""
    if isinstance(condition, AtLeast):
        yield condition
        return
    for part in condition.parts:
        yield from leaves(part)


def deciding(condition: Condition, ranks: Ranks, told: Ranks) -> list[AtLeast]:
    """Return the leaves that make a condition hold, preferring what the person told us.

    Parameters
    ----------
    condition
        A condition that holds for ``ranks``.
    ranks
        Ranks with unanswered questions at ``skip``.
    told
        Ranks with everything unknown at the lowest option.

    Returns
    -------
    list of AtLeast
        Of an OR, the parts that hold by what was told; where there is none, every part that holds.
    """
    if isinstance(condition, AtLeast):
        return [condition]
    parts = [part for part in condition.parts if part.holds(ranks)]
    if condition.joint == "OR":
        parts = [part for part in parts if part.holds(told)] or parts
    return [leaf for part in parts for leaf in deciding(part, ranks, told)]


def depends_on(condition: Condition, low: Ranks, high: Ranks) -> frozenset[str]:
    """Return the scales whose value can still decide a condition.

    Parameters
    ----------
    condition
        Any condition.
    low, high
        Lowest and highest rank each scale can still take; equal where it is known.

    Returns
    -------
    frozenset of str
        Empty when the condition is settled, whatever the open scales turn out to be.
    """
    if condition.holds(low) or not condition.holds(high):
        return frozenset()
    if isinstance(condition, AtLeast):
        return frozenset({condition.scale})
    return frozenset().union(*(depends_on(part, low, high) for part in condition.parts))
