"""The guided recording: its phases, and what they tell about the sounds in it.

A joint that has just cracked stays silent for about 20 minutes (Unsworth, Dowson and Wright
1971; Chandran Suja and Barakat 2018), while a tendon that snaps over a ridge, or a surface that
grates, sounds again at the same point of every turn. So the recording is a few equal, slow turns
between two stretches of stillness, and each sound is placed in it: it comes back at the same
point, it came in one turn only, or it fell outside the movement, as a tap or a cough may.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar, get_args

from audio_pipeline.analysis.events import JOINT_LABELS, Event

T = TypeVar("T")

PhaseKind = Literal["quiet", "turn", "still"]
PHASE_KINDS: tuple[PhaseKind, ...] = get_args(PhaseKind)
LONGEST_COMMENT = 65_536
LONGEST_CUE = 10.0  # s: a spoken sentence


@dataclass(frozen=True)
class ProtocolConfig:
    """How the guided recording runs and how its sounds are compared; times in s."""

    quiet_seconds: float = 3.0  # measures the room; the middle of "2-3 s" is short for a floor
    turns: int = 5
    turn_seconds: float = 4.0  # slow enough to move without a jerk, about one breath
    still_seconds: float = 2.0
    same_point_seconds: float = 0.4  # how exactly people repeat a turn paced on a screen
    chance: float = 0.05  # a return is named only when coincidence is rarer than this
    early_seconds: float = 0.25  # movement begins a little before its cue
    late_seconds: float = 0.75  # and ends a little after it


@dataclass(frozen=True)
class Phase:
    """One stretch of the guided recording, ``[start, end)`` s on the recording's clock.

    ``turn`` counts from 1 and is 0 for the still phases.
    """

    kind: PhaseKind
    start: float
    end: float
    turn: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, for a file's metadata."""
        return {"kind": self.kind, "start": self.start, "end": self.end, "turn": self.turn}


@dataclass(frozen=True)
class Evidence:
    """What the protocol says about a recording's events."""

    outside: tuple[bool, ...]  #: One per event: it fell outside the movement
    #: One per event: a grating, and gratings came in one turn only, of three or more. On made takes
    #: 21 of 25 such had another cause, and 15 of 16 that came back were gratings
    once: tuple[bool, ...]
    #: One tuple per event: sentences about that event, often none
    event_reasons: tuple[tuple[str, ...], ...]
    reasons: tuple[str, ...]  #: Sentences about the recording


def planned_phases(settings: ProtocolConfig | None = None) -> tuple[Phase, ...]:
    """Return the phases of a whole guided recording, from 0 s, without gaps."""
    plan = settings or ProtocolConfig()
    phases = [Phase("quiet", 0.0, plan.quiet_seconds)]
    for turn in range(1, plan.turns + 1):
        start = phases[-1].end
        phases.append(Phase("turn", start, start + plan.turn_seconds, turn))
    phases.append(Phase("still", phases[-1].end, phases[-1].end + plan.still_seconds))
    return tuple(phases)


def performed_phases(planned: Sequence[Phase], duration: float) -> tuple[Phase, ...]:
    """Cut a plan down to what was recorded: a recording stopped early ends inside a phase.

    Parameters
    ----------
    planned : sequence of Phase
        In order.
    duration : float
        Length of the recording, s.
    """
    return tuple(
        Phase(phase.kind, phase.start, min(phase.end, duration), phase.turn)
        for phase in planned
        if phase.start < duration
    )


def phase_at(phases: Iterable[Phase], time: float) -> Phase | None:
    """Return the phase that holds ``time`` (s), or None outside them all."""
    return next((phase for phase in phases if phase.start <= time < phase.end), None)


def phases_in_comment(comment: str, duration: float) -> tuple[Phase, ...]:
    """Read the phases that `record` wrote into a file's comment.

    Parameters
    ----------
    comment : str
        Anything.
    duration : float
        Length of the recording, s. Another program may have cut it and kept the comment, whose
        times are then wrong: the phases must fill the recording.

    Returns
    -------
    tuple of Phase
        Empty for any comment that is not ours: it then is a recording like any other.
    """
    phases = _in_comment(
        comment,
        "protocol",
        lambda one: Phase(one["kind"], float(one["start"]), float(one["end"]), int(one["turn"])),
    )
    in_order = all(a.end <= b.start for a, b in pairwise(phases))
    sound = all(p.kind in PHASE_KINDS and 0 <= p.start <= p.end < math.inf for p in phases)
    fills = bool(phases) and phases[0].start == 0 and abs(phases[-1].end - duration) < 0.01
    return phases if in_order and sound and fills else ()


def cues_in_comment(comment: str) -> tuple[tuple[float, float], ...]:
    """Read when the recorder itself made a sound: tones and words that say what to do.

    Parameters
    ----------
    comment : str
        Anything.

    Returns
    -------
    tuple of (float, float)
        (start, end) in s on the recording's clock; empty for any comment that is not ours.
    """
    cues = _in_comment(comment, "cues", lambda one: (float(one["start"]), float(one["end"])))
    sound = all(0 <= start <= end <= start + LONGEST_CUE for start, end in cues)
    return cues if sound else ()


def _in_comment(comment: str, key: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    """Read a list that stands in a file's comment; empty for any comment that is not ours."""
    if len(comment) > LONGEST_COMMENT or f'"{key}"' not in comment:
        return ()
    try:
        return tuple(read(entry) for entry in json.loads(comment)[key])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return ()


def is_cue(start: float, cues: Iterable[tuple[float, float]]) -> bool:
    """Whether a sound that starts at ``start`` (s) is the recorder's own.

    A sound that began before the cue is not: it is heard as ever.
    """
    return any(begin <= start < end for begin, end in cues)


def weigh_evidence(
    phases: Sequence[Phase], events: Sequence[Event], settings: ProtocolConfig | None = None
) -> Evidence:
    """Place every event in the protocol and say what that means.

    Parameters
    ----------
    phases : sequence of Phase
        What was performed. Without any turn nothing is concluded.
    events : sequence of Event
        In any order. Only ``pop`` and ``grating`` are compared between turns.
    settings : ProtocolConfig, optional
        The tolerances.
    """
    plan = settings or ProtocolConfig()
    turns = [phase for phase in phases if phase.kind == "turn"]
    if not turns:
        nothing = (False,) * len(events)
        return Evidence(nothing, nothing, ((),) * len(events), ())
    first = turns[0].start - plan.early_seconds
    last = turns[-1].end + plan.late_seconds
    outside = tuple(not first <= event.start < last for event in events)
    whole = [turn for turn in turns if turn.end - turn.start >= plan.turn_seconds - 1e-6]
    notes: list[list[str]] = [
        ["It came while you were asked to keep still, so it is not counted."] if out else []
        for out in outside
    ]
    once = [False] * len(events)
    reasons = []
    for label in JOINT_LABELS:
        moving = [
            index
            for index, event in enumerate(events)
            if event.label == label and not outside[index]
        ]
        comparison = _compare_turns(whole, [events[index].start for index in moving], plan)
        if comparison is None:
            continue
        returning, heard_in = comparison
        if returning:
            reasons.append(_RETURNS[label].format(count=len(heard_in), turns=len(whole)))
            for place in returning:
                notes[moving[place]].append(
                    f"It came back at the same point in {len(heard_in)} of {len(whole)} turns."
                )
        elif len(heard_in) == 1:
            reasons.append(_ONCE[label].format(turns=len(whole)))
            for index in moving:
                once[index] = label == "grating"
    joint_outside = sum(
        out and event.label in JOINT_LABELS for out, event in zip(outside, events, strict=True)
    )
    if joint_outside:
        what = "1 sound" if joint_outside == 1 else f"{joint_outside} sounds"
        reasons.append(
            f"{what} came while you were asked to keep still. A tap or a cough can sound like "
            "that, so it does not count."
        )
    return Evidence(outside, tuple(once), tuple(tuple(note) for note in notes), tuple(reasons))


_CAME_BACK = "came back at the same point"


def came_back(reasons: Sequence[str]) -> bool:
    """Return whether the reasons of a finding say that a sound returned in each turn."""
    return any(_CAME_BACK in reason for reason in reasons)


_RETURNS = {
    "pop": (
        f"The pop {_CAME_BACK} in {{count}} of {{turns}} turns. A joint that has just "
        "cracked stays quiet for about 20 minutes, so this is more likely a tendon or another "
        "soft part that flicks over a ridge each time."
    ),
    "grating": (
        f"The grinding sound {_CAME_BACK} in {{count}} of {{turns}} turns, so it goes "
        "with the movement."
    ),
}
_ONCE = {
    "pop": (
        "Pops came in only one of {turns} turns. That fits a joint that cracks: it then stays "
        "quiet for about 20 minutes."
    ),
    "grating": (
        "The grinding sound came in only one of {turns} turns. It may have another cause, such "
        "as clothes; a second recording will tell."
    ),
}


def _compare_turns(
    turns: Sequence[Phase], starts: Sequence[float], plan: ProtocolConfig
) -> tuple[list[int], set[int]] | None:
    """Find the point of the turn at which sounds return.

    The positions in ``starts`` of the sounds that return at one same point (empty when none does)
    and the turns heard in: those with a returning sound, else those with any. None when fewer than
    three whole turns or no sound are there to compare.
    """
    if len(turns) < 3 or not starts:
        return None
    placed = [
        (turn.turn, start - turn.start, index)
        for index, start in enumerate(starts)
        for turn in turns
        if turn.start <= start < turn.end
    ]
    if not placed:
        return None
    counts = {turn.turn: sum(other == turn.turn for other, _, _ in placed) for turn in turns}
    share = min(1.0, 2 * plan.same_point_seconds / plan.turn_seconds)
    best: tuple[float, list[int], set[int]] = (1.0, [], set())
    for own, point, _ in placed:
        near = [
            (turn, index)
            for turn, other, index in placed
            if abs(other - point) <= plan.same_point_seconds
        ]
        heard_in = {turn for turn, _ in near}
        by_chance = [1 - (1 - share) ** count for turn, count in counts.items() if turn != own]
        # Every different point of a turn is one more try at a coincidence.
        tries = max(1.0, len(placed) / len(turns))
        probability = min(1.0, tries * _at_least(len(heard_in) - 1, by_chance))
        if probability < best[0]:
            best = (probability, [index for _, index in near], heard_in)
    probability, returning, heard_in = best
    if probability <= plan.chance and len(heard_in) >= 3:
        return returning, heard_in
    return [], {turn for turn, _, _ in placed}


def _at_least(hits: int, chances: Sequence[float]) -> float:
    """Probability of ``hits`` or more successes in independent tries with these chances."""
    distribution = [1.0]
    for chance in chances:
        distribution = [
            (distribution[count] if count < len(distribution) else 0.0) * (1 - chance)
            + (distribution[count - 1] if count else 0.0) * chance
            for count in range(len(distribution) + 1)
        ]
    return sum(distribution[hits:])
