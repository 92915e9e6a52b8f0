"""The engine: answers, and perhaps a sound, go in; a level with its reasons and advice comes out.

Every rule asks for answers at or above an option, and the result is the highest level that fired.
So a worse answer never lowers the level, and the order of the answers does not matter. A question
left out ranks above "no". The sound is read by two rules, neither above ``soon``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.answers import Answers
from audio_pipeline.triage.messages import (
    CALL_ADVICE,
    DEFAULT_LANGUAGE,
    DEFAULT_REGION,
    EMERGENCY_ADVICE,
    Catalogue,
    load_catalogue,
)
from audio_pipeline.triage.rules import (
    AUDIO_OPTIONS,
    AUDIO_SCALE,
    LEVELS,
    SKIP,
    UNSURE,
    Advice,
    AtLeast,
    Combined,
    Flag,
    Question,
    Ranks,
    Rule,
    Source,
    deciding,
    in_band,
    load_tables,
)

HIGH_CONFIDENCE = 0.80
"""From here on a grinding sound counts: with 5 % true grinding it still is wrong about half the
time (docs/triage.md), so nothing below may raise a level."""
LOW_CONFIDENCE = 0.50
GRATING_FINDINGS = ("grating", "mixed")
FINDINGS = (
    "single_pop",
    "repeated_pops",
    "grating",
    "mixed",
    "nothing_recognised",
    "uncertain",
    "unusable",
)


@dataclass(frozen=True, slots=True)
class Sound:
    """What was heard: a finding's label and its confidence in [0, 1] (None: not known).

    ``pops`` is the number of sure pops, None where it is not known; ``same_place`` whether the
    sound came back at the same point of each turn. Labels other than :data:`FINDINGS` come from
    models with other labels; they change nothing.
    """

    finding: str
    confidence: float | None = None
    pops: int | None = None
    same_place: bool = False

    def __post_init__(self) -> None:
        """Refuse a confidence outside [0, 1]."""
        if self.confidence is not None and not 0 <= self.confidence <= 1:
            raise InvalidInputError(f"confidence is {self.confidence}; give a number from 0 to 1")

    @property
    def grating(self) -> str:
        """How sure a grinding sound is: ``hi``, ``lo`` or ``none``."""
        if self.finding not in GRATING_FINDINGS:
            return "none"
        if self.confidence is None:
            return "lo"
        if self.confidence >= HIGH_CONFIDENCE:
            return "hi"
        return "lo" if self.confidence >= LOW_CONFIDENCE else "none"


@dataclass(frozen=True, slots=True)
class Standing:
    """The answers as ranks on every scale.

    ``ranks`` has unanswered questions at ``skip``; ``told`` has everything not known at its lowest.
    """

    ranks: Ranks
    told: Ranks


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a level was reached.

    ``gate`` names the question of a gate. ``told`` says how much of what made the rule fire was
    told: "all", "part" (something was left out or unsure) or "none". ``call``: an
    ambulance is called. ``questions`` are those it rests on.
    """

    rule: str
    level: str
    text: str
    sources: tuple[Source, ...]
    gate: str | None = None
    told: str = "all"
    call: bool = False
    questions: frozenset[str] = frozenset()

    def to_dict(self) -> dict[str, Any]:
        """Return the reason as it stands in ``triage --json``."""
        return {
            "rule": self.rule,
            "level": self.level,
            "text": self.text,
            "sources": [source.to_dict() for source in self.sources],
        }


@dataclass(frozen=True)
class Recommendation:
    """What to do next, and why."""

    answers: Answers
    sound: Sound | None
    level: str
    reasons: tuple[Reason, ...]
    advice: tuple[tuple[str, str], ...]
    no_self_manipulation: bool
    explanation: tuple[Explanation, ...]
    rules_version: str
    catalogue: Catalogue

    @property
    def incomplete(self) -> bool:
        """Whether a gate question is unanswered or unsure."""
        return bool(self.answers.unknown())

    @property
    def call(self) -> bool:
        """Whether an ambulance is to be called, and nobody sent to a hospital by themselves."""
        return any(reason.call for reason in self.reasons)

    @property
    def who(self) -> str:
        """Whom to see, in words."""
        return self.catalogue.level(self.level, "who_call" if self.call else "who")

    @cached_property
    def safety_net(self) -> tuple[tuple[str, str], ...]:
        """What to watch out for: id and text, always the whole list."""
        return tuple(
            (item, self.catalogue.text("safety_net", item)) for item in load_tables().safety_net
        )

    @property
    def disagreements(self) -> tuple[str, ...]:
        """Answers that cannot all be right, in words; the higher one was used."""
        given = {name: _option(name, value) for name, value in self.answers.values.items()}
        return tuple(
            self.catalogue.text("disagreements", entry.id)
            for entry in load_tables().disagreements
            if entry.answers.items() <= given.items()
        )

    @property
    def sound_note(self) -> str:
        """What the sound means for the result, in words."""
        if self.sound is None:
            return self.catalogue.text("sound", "none")
        key = self.sound.finding if self.sound.finding in FINDINGS else "other"
        if key in GRATING_FINDINGS and self.sound.grating != "hi":
            key = "unsure_grating"
        return self.catalogue.text(
            "sound", key, pops=pops_in_words(self.catalogue, self.sound.pops)
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the ``triage --json`` document."""
        return {
            "level": self.level,
            "reasons": [reason.to_dict() for reason in self.reasons],
            "advice": [{"id": key, "text": text} for key, text in self.advice],
            "safety_net": [{"id": key, "text": text} for key, text in self.safety_net],
            "incomplete": self.incomplete,
            "unanswered": list(self.answers.unanswered()),
            "no_self_manipulation": self.no_self_manipulation,
            "rules_version": self.rules_version,
            "explanation": [item.to_dict() for item in self.explanation],
        }


def recommend(
    answers: Answers,
    sound: Sound | None = None,
    *,
    region: str = DEFAULT_REGION,
    language: str = DEFAULT_LANGUAGE,
) -> Recommendation:
    """Recommend what to do next.

    Parameters
    ----------
    answers
        Checked answers; an empty set gives ``soon`` and an incomplete result.
    sound
        The finding of a recording, or None. It can raise a result by one step, never above
        ``soon``, and never lowers one.
    region, language
        Change numbers and words only, never the level.

    Raises
    ------
    InvalidInputError
        The region or the language is not available.
    """
    tables = load_tables()
    catalogue = load_catalogue(region, language)
    standing = stand(answers, sound)
    fired = fired_rules(standing.ranks)
    level = highest(rule.level for rule in fired)
    given = given_advice(level, standing.ranks)
    reasons = tuple(
        _reason(rule, answers, standing, catalogue)
        for rule in fired
        # A gate only says what is not known; once answered, the other rules speak.
        if rule.question is None or answers.values.get(rule.question, UNSURE) == UNSURE
    )
    ambulance = EMERGENCY_ADVICE if any(reason.call for reason in reasons) else None
    return Recommendation(
        answers=answers,
        sound=sound,
        level=level,
        reasons=reasons,
        advice=tuple(
            (each.id, catalogue.text("advice", CALL_ADVICE if each.id == ambulance else each.id))
            for each in given
        ),
        no_self_manipulation=any(advice.no_self_manipulation for advice in given),
        explanation=() if level == LEVELS[-1] else _explanation(answers, sound, reasons, catalogue),
        rules_version=tables.version,
        catalogue=catalogue,
    )


def _explanation(
    answers: Answers, sound: Sound | None, reasons: Iterable[Reason], words: Catalogue
) -> tuple[Explanation, ...]:
    """Explain the sound; reassure only where nothing told is a warning sign or hurts."""
    told = stand(answers, sound).told
    hurts = any(told[scale] > 0 for scale in load_tables().combined)
    warned = any(reason.told != "none" and reason.level != LEVELS[0] for reason in reasons)
    return explain(sounds_heard(answers, sound), words, reassure=not (hurts or warned))


def pops_in_words(words: Catalogue, count: int | None) -> str:
    """Return "1 pop", "3 pops" or, where the number is not known, "several pops"."""
    if count is None:
        return words.text("sound", "pops_unknown")
    return words.text("sound", "pops_one" if count == 1 else "pops_many", count=count)


def highest(levels: Iterable[str]) -> str:
    """Return the highest of some levels; ``self_care`` for none."""
    return max(levels, key=LEVELS.index, default=LEVELS[0])


def fired_rules(ranks: Ranks) -> list[Rule]:
    """Return the rules and gates that hold, highest level first."""
    return [rule for rule in load_tables().rules if rule.condition.holds(ranks)]


def given_advice(level: str, ranks: Ranks) -> list[Advice]:
    """Return the advice that goes with a level and these ranks, in the order to be read."""
    return [
        advice
        for advice in load_tables().advice
        if level in advice.levels and (advice.condition is None or advice.condition.holds(ranks))
    ]


def stand(answers: Answers, sound: Sound | None = None) -> Standing:
    """Place answers and sound on every scale."""
    tables = load_tables()
    ranks: dict[str, int] = {}
    told: dict[str, int] = {}
    for question in tables.questions.values():
        if not question.options:
            continue
        value = answers.get(question.id)
        option = SKIP if value is None else _option(question.id, value)
        ranks[question.id] = question.options.index(option)
        told[question.id] = 0 if option in (SKIP, UNSURE) else ranks[question.id]
    for flag in tables.flags.values():
        ranks[flag.id], told[flag.id] = _flag_ranks(flag, answers)
    for scale in tables.combined.values():
        lifted = combined_ranks(scale, answers)
        ranks[scale.id] = max(lifted.values())
        told[scale.id] = max(
            0 if answers.get(name) in (None, UNSURE) else rank for name, rank in lifted.items()
        )
    grating = AUDIO_OPTIONS.index(sound.grating if sound else "none")
    ranks[AUDIO_SCALE] = told[AUDIO_SCALE] = grating
    return Standing(ranks, told)


def combined_ranks(scale: Combined, answers: Answers) -> dict[str, int]:
    """Return how high each question alone puts a combined scale."""
    tables = load_tables()
    options = tables.scales[scale.id]
    value = answers.get(scale.question)
    ranks = {scale.question: options.index(SKIP if value is None else str(value))}
    for name, lifts in scale.raised_by.items():
        value = answers.get(name)
        if isinstance(value, int):
            reached = [options.index(lifts[least]) for least in lifts if value >= int(least)]
            ranks[name] = max(reached, default=0)
        else:
            ranks[name] = 0 if value is None else options.index(lifts.get(value, options[0]))
    return ranks


def _option(question: str, value: str | int) -> str:
    """Return the option of an answer; a number 0-10 falls in a band such as "4-6"."""
    options = load_tables().questions[question].options
    if isinstance(value, str) or not options:
        return str(value)
    bands = [option for option in options if option != SKIP]
    return next(band for band in bands if value <= int(band.partition("-")[2]))


def _flag_ranks(flag: Flag, answers: Answers) -> tuple[int, int]:
    """Return the rank of a flag, and its rank by what was told alone."""
    value = answers.get(flag.question)
    if flag.values:
        rank = 1 if value is None else 2 * (value in flag.values)
        return rank, (0 if value is None else rank)
    inside = value is None or in_band(flag, int(value))
    known = value is not None
    if flag.unless_no is not None:
        other = answers.get(flag.unless_no)
        inside = inside and other != "no"
        known = known and other not in (None, UNSURE)
    return int(inside), int(inside and known)


def _reason(rule: Rule, answers: Answers, standing: Standing, words: Catalogue) -> Reason:
    topics: dict[str, dict[str, str]] = {"told": {}, "not_told": {}, "unsure": {}}
    for leaf in deciding(rule.condition, standing.ranks, standing.told):
        if leaf.scale == AUDIO_SCALE:
            topics["told"][leaf.scale] = words.text("unknown", "recording")
            continue
        for question in _questions_of(leaf, answers):
            value = answers.get(question.id)
            state = "not_told" if value is None else "unsure" if value == UNSURE else "told"
            topics[state][question.id] = words.topic(question.id)
    if rule.question is None and rule.condition.holds(standing.told):
        named = [name for name in topics["told"] if name not in _pain_questions()]
        about = words.listing([topics["told"][name] for name in named])
        text, told = words.text("reasons", rule.id, topics=about), "all"
    else:
        text, told = _open_text(rule, topics, words), "part" if topics["told"] else "none"
    questions = frozenset().union(*topics.values())
    return Reason(
        rule.id, rule.level, text, rule.sources, rule.question, told, rule.call, questions
    )


def _pain_questions() -> set[str]:
    """Return the questions about pain as such, which a reason need not name."""
    return {name for scale in load_tables().combined.values() for name in scale.questions}


def _open_text(rule: Rule, topics: Mapping[str, Mapping[str, str]], words: Catalogue) -> str:
    """Say what is told and what is open, where a rule did not fire on what was told alone."""
    gate = "gate_" if rule.question is not None else ""
    sentences = [
        words.text(
            "unknown",
            state if state == "told" else f"{gate}{state}",
            topics=words.listing(list(named.values())),
        )
        for state, named in topics.items()
        if named
    ]
    if topics["told"]:
        sentences.append(words.text("unknown", "together"))
    return " ".join(sentences)


def _questions_of(leaf: AtLeast, answers: Answers) -> list[Question]:
    """Return the questions behind a leaf: of a flag, all; of a combined scale, what reaches it."""
    tables = load_tables()
    names: Iterable[str] = tables.questions_of(leaf.scale)
    if leaf.scale in tables.combined:
        lifted = combined_ranks(tables.combined[leaf.scale], answers)
        reaching = [name for name, rank in lifted.items() if rank >= leaf.rank]
        told = [name for name in reaching if answers.get(name) not in (None, UNSURE)]
        names = told or reaching
    return [tables.questions[name] for name in names]


_FINDINGS = {
    "single_pop": {"pop"},
    "repeated_pops": {"pop"},
    "grating": {"grinding"},
    "mixed": {"grinding", "pop"},
    "nothing_recognised": {"nothing"},
}
_ANSWERS = {
    "one_pop": {"pop"},
    "several_pops": {"pop"},
    "grinding": {"grinding"},
    "nothing": {"nothing"},
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One part of why a back cracks."""

    id: str
    text: str
    sources: tuple[Source, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in ``triage --json``."""
        sources = [source.to_dict() for source in self.sources]
        return {"id": self.id, "text": self.text, "sources": sources}


def sounds_heard(answers: Answers | None, sound: Sound | None) -> frozenset[str]:
    """Return what was heard, by the recording or by the person.

    Returns
    -------
    frozenset of str
        Of ``pop``, ``grinding``, ``same_place``; ``nothing`` only where neither heard anything;
        ``unknown`` where nobody said.
    """
    heard: set[str] = set()
    if sound is not None:
        heard |= _FINDINGS.get(sound.finding, set())
        heard |= {"same_place"} if sound.same_place and "pop" in heard else set()
    if answers is not None:
        heard |= _ANSWERS.get(str(answers.get("heard")), set())
    if heard - {"nothing"}:
        return frozenset(heard - {"nothing"})
    return frozenset(heard or {"unknown"})


def explain(
    heard: Iterable[str], words: Catalogue, *, reassure: bool = True
) -> tuple[Explanation, ...]:
    """Say why a back cracks.

    Parameters
    ----------
    heard
        What was heard, as :func:`sounds_heard` returns it.
    words
        Whose words to use.
    reassure
        Whether nothing that is known is a warning sign or hurts. Grinding is never reassured.
    """
    sounds = frozenset(heard)
    return tuple(
        Explanation(item.id, words.text("explanation", item.id), item.sources)
        for item in load_tables().explanation
        if (not item.heard or item.heard & sounds)
        and (not item.reassures or (reassure and "grinding" not in sounds))
    )
