"""Asking the questions, one screen at a time.

:class:`Interview` holds what has been asked and decides what comes next; it never prints. It asks
nothing that the answers so far have settled, and it stops as soon as an answer is an emergency.
:func:`ask` runs one in a terminal. ``record`` asks only the emergency questions first
(``ask(interview, emergency_only=True)``), and the rest after the take (``ask(interview)``).
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from audio_pipeline.triage.answers import Answers, parse_answers
from audio_pipeline.triage.messages import Catalogue, load_catalogue
from audio_pipeline.triage.recommendation import (
    Recommendation,
    Sound,
    fired_rules,
    given_advice,
    highest,
    recommend,
    stand,
)
from audio_pipeline.triage.rules import LEVELS, UNSURE, Question, Ranks, depends_on, load_tables

WIDTH = 78
"""Columns to wrap at."""

TICKED = "yes"
"""What a ticked line of a list is given as."""

Given = Mapping[str, str | int | None]
"""Answers to the questions of one screen; None is a question the person skipped."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What is asked at once: one question, or a list of questions to tick.

    ``offered`` are the answers to choose from; empty for a number and for a list.
    """

    questions: tuple[Question, ...]
    offered: tuple[str, ...] = ()
    detail: bool = False

    @property
    def ticked(self) -> bool:
        """Whether it is a list to tick."""
        return len(self.questions) > 1


class Interview:
    """The state of an interview.

    Parameters
    ----------
    answers
        Answers that are already there; those questions are not asked.
    sound
        The finding of a recording, where there is one.
    """

    def __init__(self, answers: Answers | None = None, sound: Sound | None = None) -> None:
        self.sound = sound
        self.highest_reached = LEVELS[0]
        self._values: dict[str, str | int | None] = dict((answers or Answers()).values)
        self._details: set[str] = set()
        self._trail: list[tuple[Screen, dict[str, str | int | None], set[str]]] = []
        self._note_level()

    @property
    def answers(self) -> Answers:
        """The answers so far, with those that logic has settled."""
        return parse_answers({**self._settled(), **self._values})

    @property
    def declined(self) -> tuple[str, ...]:
        """Questions the person was asked and skipped."""
        return tuple(name for name, value in self._values.items() if value is None)

    @property
    def asked(self) -> int:
        """Number of screens answered or skipped."""
        return len(self._trail)

    @property
    def level(self) -> str:
        """The level reached so far, where a question not asked yet counts for nothing."""
        return highest(rule.level for rule in fired_rules(self._so_far()))

    @property
    def emergency(self) -> bool:
        """Whether the answers so far are an emergency: nothing more is asked."""
        return self.level == LEVELS[-1]

    @property
    def may_twist(self) -> bool:
        """Whether the answers so far allow inviting the person to twist for a recording."""
        advice = given_advice(self.level, self._so_far())
        return not any(entry.no_self_manipulation for entry in advice)

    def recommendation(self, *, region: str, language: str = "en") -> Recommendation:
        """Return the recommendation of the answers so far; what was not asked is unanswered."""
        return recommend(self.answers, self.sound, region=region, language=language)

    def next_screen(self, *, emergency_only: bool = False) -> Screen | None:
        """Return what to ask next, or None when there is nothing more to ask."""
        if self.emergency:
            return None
        screens = self._open_screens(emergency_only)
        return screens[0] if screens else None

    def remaining(self, *, emergency_only: bool = False) -> int:
        """Return how many screens are still to come where nothing more is found.

        Who says yes to something may be asked a few more.
        """
        ahead = Interview(sound=self.sound)
        ahead._values, ahead._details = dict(self._values), set(self._details)
        count = 0
        while screen := ahead.next_screen(emergency_only=emergency_only):
            ahead.give(screen, {each.id: _nothing_found(each) for each in screen.questions})
            count += 1
        return count

    def give(self, screen: Screen, given: Given) -> None:
        """Take the answers of a screen.

        In a list to tick, :data:`TICKED` and "no" stand for any question, whatever its options; a
        ticked item whose options need a closer look is asked about next.

        Raises
        ------
        InvalidInputError
            A value is not an answer to its question.
        """
        ticks = given
        if screen.ticked:
            given = {each.id: _tick(each, ticks.get(each.id)) for each in screen.questions}
        parse_answers({name: value for name, value in given.items() if value is not None})
        self._trail.append((screen, dict(self._values), set(self._details)))
        # A ticked item stays ticked when its detail is skipped.
        self._values |= {
            name: value for name, value in given.items() if not (screen.detail and value is None)
        }
        self._details -= {question.id for question in screen.questions}
        if screen.ticked:
            self._details |= {
                question.id
                for question in screen.questions
                if ticks.get(question.id) == TICKED and question.details
            }
        self._note_level()

    def back(self) -> bool:
        """Undo the last screen; return False when there is none."""
        if not self._trail:
            return False
        _, self._values, self._details = self._trail.pop()
        return True

    def _note_level(self) -> None:
        self.highest_reached = highest((self.highest_reached, self.level))

    def _so_far(self) -> Ranks:
        standing = stand(self.answers, self.sound)
        return {
            scale: standing.told[scale] if self._open(scale) else rank
            for scale, rank in standing.ranks.items()
        }

    def _open(self, scale: str) -> bool:
        return not all(map(self._done, load_tables().questions_of(scale)))

    def _done(self, question: str) -> bool:
        """Whether a question was answered or skipped, or is settled."""
        return question in self._values or question in self._settled()

    def _settled(self) -> dict[str, str | int | None]:
        """Return the answers that follow from others."""
        questions = load_tables().questions.values()
        settled: dict[str, str | int | None] = {
            question.id: question.settled_as
            for question in questions
            if question.settled_after is not None
            and question.settled_after.items() <= self._values.items()
        }
        age = self._values.get("age")
        for question in questions:
            from_age = question.settled_from_age
            if from_age is not None and isinstance(age, int) and age >= from_age:
                settled[question.id] = question.lowest
        return settled

    def _open_screens(self, emergency_only: bool) -> list[Screen]:
        tables = load_tables()
        live = self._live_questions()
        screens: list[Screen] = []
        groups: set[str] = set()
        for question in tables.questions.values():
            if emergency_only and not question.emergency:
                continue
            if question.id in self._details:
                screens.append(Screen((question,), question.details, detail=True))
            elif self._done(question.id) or question.id not in live:
                continue
            elif question.group is None:
                screens.append(Screen((question,), question.answers))
            elif question.group not in groups:
                groups.add(question.group)
                members = tuple(
                    other
                    for other in tables.questions.values()
                    if other.group == question.group
                    and other.id in live
                    and not self._done(other.id)
                )
                offered = () if len(members) > 1 else question.answers
                screens.append(Screen(members, offered))
        return screens

    def _live_questions(self) -> set[str]:
        """Return the questions whose answer can still change a reason or a piece of advice."""
        tables = load_tables()
        standing = stand(self.answers, self.sound)
        low, high = dict(standing.ranks), dict(standing.ranks)
        for scale in standing.ranks:
            if self._open(scale):
                # What is told of a combined scale can only rise.
                low[scale] = standing.told[scale] if scale in tables.combined else 0
                # An open flag may already be settled, as by an age below 60.
                top = len(tables.scales[scale]) - 1
                high[scale] = top if scale not in tables.flags else standing.ranks[scale] and top
        so_far = self._so_far()
        conditions = [rule.condition for rule in tables.rules]
        conditions += [entry.condition for entry in tables.advice if entry.condition is not None]
        scales = set().union(*(depends_on(each, low, high) for each in conditions))
        live = {name for scale in scales for name in tables.questions_of(scale)}
        return live | {
            question.id
            for question in tables.questions.values()
            if question.asked_when is not None and question.asked_when.holds(so_far)
        }


def _nothing_found(question: Question) -> str | int | None:
    """Return the answer of somebody in whom nothing is found."""
    if question.numeric:
        return {"age": 40}.get(question.id, question.minimum)
    return question.lowest or question.answers[0]


def _tick(question: Question, value: str | int | None) -> str | int | None:
    """Return the answer that a line of a list gives; None where a closer look must follow."""
    if value in ("no", question.lowest):
        return question.lowest
    if value == TICKED and TICKED not in question.options:
        return None
    return None if value == UNSURE and UNSURE not in question.options else value


@dataclass(frozen=True)
class Terminal:
    """A person at a terminal: how to read a line and how to write one."""

    read: Callable[[str], str]
    write: Callable[[str], None]
    words: Catalogue

    def say(self, key: str, **values: object) -> None:
        """Write one message of the interview."""
        self.line(self.words.text("interview", key, **values))

    def line(self, text: str, lead: str = "") -> None:
        """Write a text, wrapped, its later lines indented to stand under the first."""
        for line in textwrap.wrap(
            text, WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead)
        ):
            self.write(line)


def ask(
    interview: Interview,
    *,
    region: str,
    language: str = "en",
    emergency_only: bool = False,
    read: Callable[[str], str] = input,
    write: Callable[[str], None] = print,
) -> bool:
    """Ask in a terminal until nothing is open, an answer is an emergency, or the person stops.

    Parameters
    ----------
    interview
        Its state is changed; call again with the same one to go on.
    region, language
        Whose words to use.
    emergency_only
        Ask only the questions that must come before anyone is invited to twist.
    read, write
        Read one line after a prompt, and write one line.

    Returns
    -------
    bool
        Whether to say what to do: False when the person stopped before the end (or the input
        ended) and did not ask for what can be said so far.
    """
    terminal = Terminal(read, write, load_catalogue(region, language))
    if interview.asked == 0 and interview.next_screen(emergency_only=emergency_only):
        terminal.say("before_recording" if emergency_only else "welcome")
        terminal.say("keys")
    while screen := interview.next_screen(emergency_only=emergency_only):
        number = interview.asked + 1
        total = interview.asked + interview.remaining(emergency_only=emergency_only)
        _show(screen, number, total, terminal)
        given = _answer(screen, terminal)
        if given == "stop":
            return _stopped(terminal)
        if given == "back":
            if not interview.back():
                terminal.say("no_back")
            continue
        assert not isinstance(given, str)
        interview.give(screen, given)
    if interview.emergency:
        terminal.write("")
        terminal.say("emergency")
    terminal.write("")
    return True


def _stopped(terminal: Terminal) -> bool:
    """Ask whether somebody who stopped wants to know what can be said so far."""
    terminal.write("")
    terminal.say("stopped")
    try:
        wanted = terminal.read(terminal.words.text("interview", "prompt")).strip().lower()
    except EOFError:
        wanted = ""
    terminal.write("")
    return wanted in ("r", "result")


def _show(screen: Screen, number: int, total: int, terminal: Terminal) -> None:
    words, question = terminal.words, screen.questions[0]
    terminal.write("")
    terminal.say("progress", number=number, total=total)
    if screen.ticked:
        assert question.group is not None
        terminal.line(words.group(question.group, "text"))
        lines = [words.tick(each) for each in screen.questions]
        terminal.line(words.text("interview", "none"), "  0  ")
    elif screen.detail:
        terminal.line(words.detail(question.id))
        lines = [words.detail_option(question.id, option) for option in screen.offered]
    else:
        if lead := words.lead(question.id):
            terminal.line(lead)
        terminal.line(words.question(question.id))
        lines = [words.option(question.id, option) for option in screen.offered]
    for position, line in enumerate(lines, start=1):
        terminal.line(line, f" {position:2}  ")
    if screen.ticked:
        terminal.say("list_hint")
    elif question.numeric:
        terminal.say("number", minimum=question.minimum, maximum=question.maximum)


def _answer(screen: Screen, terminal: Terminal) -> Given | str:
    """Read until the line makes sense; "back" and "stop" are returned as such."""
    while True:
        try:
            line = terminal.read(terminal.words.text("interview", "prompt")).strip().lower()
        except EOFError:
            return "stop"
        if line in ("?", "why"):
            _explain(screen, terminal)
            continue
        if line in ("s", "skip"):
            gated = any(question.gate for question in screen.questions)
            terminal.say("skipped_gate" if gated else "skipped")
            return dict.fromkeys((question.id for question in screen.questions), None)
        if line in ("b", "back"):
            return "back"
        if line in ("q", "quit", "stop"):
            return "stop"
        given = read_list(screen, line) if screen.ticked else read_choice(screen, line)
        if given is not None:
            return given
        _help(screen, terminal)


def _explain(screen: Screen, terminal: Terminal) -> None:
    """Say why a screen is asked."""
    words, first = terminal.words, screen.questions[0]
    if not screen.ticked:
        terminal.line(words.why(first.id))
        return
    assert first.group is not None
    terminal.line(words.group(first.group, "why"))
    for position, question in enumerate(screen.questions, start=1):
        terminal.line(words.why(question.id), f" {position:2}  ")


def _help(screen: Screen, terminal: Terminal) -> None:
    question = screen.questions[0]
    if screen.ticked:
        terminal.say("which_list", maximum=len(screen.questions))
    elif question.numeric:
        terminal.say("which_number", minimum=question.minimum, maximum=question.maximum)
    else:
        numbers = [str(number) for number in range(1, len(screen.offered) + 1)]
        terminal.say("which", choices=", ".join([*numbers, "?", "s", "b", "q"]))


def read_choice(screen: Screen, line: str) -> Given | None:
    """Return the answer a line gives to one question, or None when it gives none.

    A choice is given by its number, or by its id: "yes" and "no" (or "y" and "n") work as typed,
    and so does "7/10" for a number up to ten.
    """
    question = screen.questions[0]
    line = {"y": "yes", "n": "no"}.get(line, line)
    if question.numeric:
        assert question.minimum is not None
        assert question.maximum is not None
        number = line.removesuffix(f"/{question.maximum}").rstrip()
        if re.fullmatch(r"[0-9]{1,3}", number):
            value = int(number)
            if question.minimum <= value <= question.maximum:
                return {question.id: value}
        return None
    if line in screen.offered:
        return {question.id: line}
    if re.fullmatch(r"[0-9]{1,2}", line) and 1 <= int(line) <= len(screen.offered):
        return {question.id: screen.offered[int(line) - 1]}
    return None


def read_list(screen: Screen, line: str) -> Given | None:
    """Return the answers a line such as "1 4 2?" gives to a list, or None when it gives none.

    Everything not named is a no; a number with a question mark is "not sure"; 0 is none of these.
    """
    given: dict[str, str | int | None] = {question.id: "no" for question in screen.questions}
    marks = re.findall(r"[^\s,;]+", re.sub(r"\s+\?", "?", line))
    if marks in (["0"], ["none"], ["no"]):
        return given
    if not marks:
        return None
    for mark in marks:
        match = re.fullmatch(r"([0-9]{1,2})(\??)", mark)
        if match is None or not 1 <= int(match[1]) <= len(screen.questions):
            return None
        given[screen.questions[int(match[1]) - 1].id] = UNSURE if match[2] else "yes"
    return given
