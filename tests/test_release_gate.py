"""The release gate: what the default model reaches on real clips and takes, and on made sounds.

On real ones the figures are those of ``docs/evaluation.json``, measured out of fold. On made
sounds: how often the default model hears a joint where there is none. A false grinding sound
frightens people, a false pop does not, so the budgets differ: a sure grating in at most 1 % of the
recordings of each kind, and at most one an hour of steady sound; a sure joint sound in at most 5 %
of recordings other than single clicks. The budgets are those of the product and are never loosened:
what the present model fails is named with what was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from everyday_recordings import (
    CLICKS,
    KINDS,
    STEADY,
    TALKER,
    everyday_alarms,
    steady_alarms,
    talking_alarms,
)

from audio_pipeline.analysis.pipeline import analyze_file
from audio_pipeline.model.classifier import Classifier, load_classifier

ROOT = Path(__file__).resolve().parents[1]
FAILS_GOAL: Mapping[str, str] = {
    "macro AUC over all clips": "below the goal and the least",
    "balanced accuracy of what is answered": "below the goal and the least",
    "share answered": "below the goal and the least",
    "sure gratings found": "below the goal and the least",
    "takes: surely right": "below the goal and the least",
}
FAILS_LEAST = frozenset(FAILS_GOAL)

GRATING_BUDGET = 0.01
JOINT_BUDGET = 0.05
GRATINGS_AN_HOUR = 1.0
SAMPLES = Path(__file__).parent.parent / "datasets" / "samples"

QUICK, LONG = 10, 100
"""Recordings of each kind in CI and by hand: more than half an hour and nearly six hours."""

# What the default model exceeds a budget in, as measured: named, not excused.
FAILS_QUICK: Mapping[str, str] = {}
FAILS_LONG: Mapping[str, str] = {
    "drop": "a sure joint sound in 6 of 100",
    "paper": "a sure grating in 2 of 100",
}


def test_what_fails_on_real_clips_and_takes_is_named(
    figures: ModuleType, measured: dict[str, Any]
) -> None:
    rows = figures.reached(measured)
    assert len(rows) == len(figures.GOALS), "every goal was measured"
    assert {row[0] for row in rows if not row[4]} == set(FAILS_GOAL)
    assert {row[0] for row in rows if not row[5]} == FAILS_LEAST


def test_kinds_that_fail_are_named_in_the_words_of_the_readme(
    figures: ModuleType, measured: dict[str, Any]
) -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    over_gratings, over_pops = figures.failing(measured)
    for name, over in (("a grinding sound", over_gratings), ("a pop", over_pops)):
        _, _, rest = readme.partition(f"Over the limit for {name}: ")
        sentence = rest.split(". ")[0].removesuffix(".") if over else ""
        assert sentence.count("%") == len(over), name
        for kind in over:
            assert figures.word(kind) in sentence, kind


@pytest.fixture(scope="module")
def model() -> Classifier:
    return load_classifier()


def kinds(measured: Mapping[str, str]) -> list[Any]:
    """Return all kinds; those that the model is known to fail must fail."""
    marks = {kind: pytest.mark.xfail(strict=True, reason=why) for kind, why in measured.items()}
    return [pytest.param(kind, marks=marks.get(kind, ()), id=kind) for kind in KINDS]


def check(kind: str, count: int, model: Classifier) -> None:
    alarms = everyday_alarms(kind, count, model)
    print(f"{kind}: {alarms}")
    assert alarms.with_grating <= GRATING_BUDGET * count, alarms
    if kind not in CLICKS:
        assert alarms.with_joint <= JOINT_BUDGET * count, alarms


@pytest.mark.slow
@pytest.mark.parametrize("kind", kinds(FAILS_QUICK))
def test_everyday_sounds_are_no_joint(kind: str, model: Classifier) -> None:
    check(kind, QUICK, model)


@pytest.mark.soak
@pytest.mark.parametrize("kind", kinds(FAILS_LONG))
def test_hours_of_everyday_sounds_are_no_joint(kind: str, model: Classifier) -> None:
    check(kind, LONG, model)


@pytest.mark.slow
@pytest.mark.parametrize("kind", STEADY)
def test_steady_sounds_hold_no_grating(kind: str, model: Classifier) -> None:
    alarms = steady_alarms(kind, 120.0, model)
    assert (alarms.gratings, alarms.with_joint) == (0, 0), alarms


@pytest.mark.soak
@pytest.mark.parametrize("kind", STEADY)
def test_hours_of_steady_sounds_hold_no_grating(kind: str, model: Classifier) -> None:
    alarms = steady_alarms(kind, 3600.0, model)
    print(f"{kind}: {alarms}")
    assert alarms.gratings <= GRATINGS_AN_HOUR * alarms.seconds / 3600, alarms


@pytest.mark.soak
@pytest.mark.skipif(TALKER is None, reason="needs espeak-ng")
def test_two_hours_of_talking_hold_hardly_a_grating(model: Classifier) -> None:
    text = (Path(__file__).parent.parent / "docs" / "triage.md").read_text()
    alarms = talking_alarms(text.replace("|", " "), 7200.0, model)
    print(f"talking: {alarms}, {alarms.gratings} gratings in all")
    assert alarms.gratings <= GRATINGS_AN_HOUR * alarms.seconds / 3600, alarms


@pytest.mark.parametrize("name", ["quiet_room", "talking", "key_clicks"])
def test_the_shipped_recordings_of_other_sounds(name: str, model: Classifier) -> None:
    analysis = analyze_file(SAMPLES / f"{name}.flac", model)
    sure = {event.label for event in analysis.events if not event.uncertain}
    assert "grating" not in sure
    assert name == "key_clicks" or "pop" not in sure
