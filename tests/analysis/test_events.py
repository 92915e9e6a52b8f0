"""The finding: the rule of the design, over every mixture of events."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.analysis.events import LABELS, Event, derive_finding


def event(label: str, chance: float = 0.9, *, unsure: bool = False) -> Event:
    rest = (1 - chance) / 2
    shares = dict.fromkeys(LABELS, rest) | {label: chance}
    return Event(1.0, 1.1, label, shares, uncertain=unsure, impacts=1)


POP, GRATING, OTHER = (event(label) for label in LABELS)
UNSURE_POP, UNSURE_GRATING, UNSURE_OTHER = (event(label, 0.5, unsure=True) for label in LABELS)

events = st.lists(
    st.builds(
        lambda label, chance, unsure: event(label, chance, unsure=unsure),
        st.sampled_from(LABELS),
        st.floats(0.34, 1.0),
        st.booleans(),
    ),
    max_size=8,
)


@pytest.mark.parametrize(
    ("heard", "label"),
    [
        ([], "nothing_recognised"),
        ([OTHER], "nothing_recognised"),
        ([OTHER, UNSURE_OTHER], "nothing_recognised"),
        ([UNSURE_OTHER], "nothing_recognised"),
        ([UNSURE_POP], "uncertain"),
        ([UNSURE_GRATING], "uncertain"),
        ([OTHER, UNSURE_POP], "uncertain"),
        ([POP], "single_pop"),
        ([POP, OTHER, UNSURE_GRATING], "single_pop"),
        ([POP, UNSURE_POP], "single_pop"),
        ([POP, POP], "repeated_pops"),
        ([GRATING], "grating"),
        ([GRATING, GRATING, OTHER], "grating"),
        ([GRATING, UNSURE_POP], "grating"),
        ([GRATING, POP], "mixed"),
        ([GRATING, POP, POP], "mixed"),
    ],
)
def test_the_rule(heard: list[Event], label: str) -> None:
    assert derive_finding(heard, usable=True).label == label


@given(events)
def test_an_unusable_recording_has_no_other_finding(heard: list[Event]) -> None:
    finding = derive_finding(heard, usable=False)
    assert (finding.label, finding.confidence) == ("unusable", 0.0)


@given(events, st.randoms(use_true_random=False))
def test_order_does_not_matter(heard: list[Event], random: object) -> None:
    shuffled = list(heard)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert derive_finding(shuffled, usable=True) == derive_finding(heard, usable=True)


@given(events)
def test_confidence_is_that_of_the_deciding_events(heard: list[Event]) -> None:
    finding = derive_finding(heard, usable=True)
    assert 0.0 <= finding.confidence <= 1.0
    assert finding.reasons
    chances = {
        label: [
            one.probabilities[label] for one in heard if one.label == label and not one.uncertain
        ]
        for label in LABELS
    }
    if finding.label in ("grating", "mixed"):
        assert finding.confidence == max(chances["grating"])
    elif finding.label in ("single_pop", "repeated_pops"):
        assert finding.confidence == max(chances["pop"])
    elif finding.label == "uncertain":
        unsure = [one for one in heard if one.uncertain and one.label != "other"]
        assert finding.confidence == max(one.probabilities[one.label] for one in unsure)


@given(events)
def test_only_sure_joint_sounds_and_doubtful_ones_matter(heard: list[Event]) -> None:
    """Everyday sounds between them never change what was found of the joint."""
    joint = [one for one in heard if one.label != "other"]
    finding = derive_finding(heard, usable=True)
    if joint:
        assert finding == derive_finding(joint, usable=True)
    else:
        assert finding.label == "nothing_recognised"


@given(events)
def test_a_sure_sound_is_never_taken_back_by_an_unsure_one(heard: list[Event]) -> None:
    sure = [one for one in heard if not one.uncertain]
    joint = {"single_pop", "repeated_pops", "grating", "mixed"}
    before = derive_finding(sure, usable=True)
    if before.label in joint:
        assert derive_finding(heard, usable=True) == before


def test_a_model_of_other_labels_finds_the_likeliest() -> None:
    labels = ("snap", "clunk")

    def heard(snap: float, *, unsure: bool) -> Event:
        shares = {"snap": snap, "clunk": 1 - snap}
        return Event(0, 1, max(shares, key=lambda name: shares[name]), shares, unsure, 1)

    assert (
        derive_finding([heard(0.9, unsure=False), heard(0.4, unsure=True)], True, labels).label
        == "snap"
    )
    assert derive_finding([heard(0.6, unsure=True)], True, labels).label == "uncertain"
    assert derive_finding([], True, labels).label == "nothing_recognised"
    assert derive_finding([heard(0.9, unsure=False)], False, labels).label == "unusable"


def test_documents_are_plain_and_rounded() -> None:
    document = event("pop", 2 / 3).to_dict()
    assert document["probabilities"] == {"pop": 0.6667, "grating": 0.1667, "other": 0.1667}
    assert derive_finding([event("pop", 2 / 3)], usable=True).to_dict()["confidence"] == 0.6667
