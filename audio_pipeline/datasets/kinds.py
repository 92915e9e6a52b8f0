"""What the rows of a manifest say about their sounds: their kind, near or far, in doubt or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KIND: Final = "kind"
"""The column that says what a recording is of; the kinds of a label weigh alike in figures."""

NEAR_KINDS: Final = frozenset(
    {
        *("speech", "breath", "cough", "baby", "cloth", "chair", "footstep", "thud", "door"),
        *("drawer", "knock", "clap", "key", "mouse", "tap", "click", "switch", "clock", "paper"),
        *("plastic_rustle", "zip", "fan", "wind", "mechanical", "misc_household"),
    }
)
FAR_KINDS: Final = frozenset(
    {"coin", "dice", "cutlery", "glass", "fire", "water", "rain", "machine_saw"}
)
"""Everyday sounds near a person who records, and those that hardly ever are; a column `near`
(``yes`` or ``no``) says otherwise. Kinds in neither count in no figure of the two."""


def is_near(columns: Mapping[str, str]) -> bool | None:
    """Tell whether a sound is one of those near a person who records; None where nobody knows."""
    said = columns.get("near", "").lower()
    if said in {"yes", "true", "no", "false"}:
        return said in {"yes", "true"}
    kind = columns.get(KIND, "")
    return True if kind in NEAR_KINDS else False if kind in FAR_KINDS else None


def in_doubt(columns: Mapping[str, str]) -> bool:
    """Tell whether a row's label is in doubt: such rows are in no headline figure."""
    return columns.get("doubt", "").lower() not in {"", "no", "false"}
