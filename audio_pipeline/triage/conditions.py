"""Conditions of rules: answers at or above an option, joined by AND and OR. There is no NOT.

Because every leaf asks "at or above" and nothing negates, a condition that holds keeps holding when
any answer rises. Rules made of such conditions are monotone by construction.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

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
class Every:
    """All parts hold."""

    parts: tuple[Condition, ...]

    def holds(self, ranks: Ranks) -> bool:
        """Return whether all parts hold."""
        return all(part.holds(ranks) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """At least one part holds."""

    parts: tuple[Condition, ...]

    def holds(self, ranks: Ranks) -> bool:
        """Return whether one part holds."""
        return any(part.holds(ranks) for part in self.parts)


Condition = AtLeast | Every | AnyOf

_TOKEN = re.compile(r"\s*(?:(>=)|(\()|(\))|([A-Za-z0-9_-]+))")


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
    tokens: list[str] = []
    position = 0
    while position < len(text.rstrip()):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"cannot read {text[position:].strip()!r} in {text!r}")
        tokens.append(match.group().strip())
        position = match.end()
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
    if len(parts) == 1:
        return parts[0], position
    return (Every(tuple(parts)) if joint == "AND" else AnyOf(tuple(parts))), position


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
    if isinstance(condition, AnyOf):
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
