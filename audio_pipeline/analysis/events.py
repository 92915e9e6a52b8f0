"""Events, what their surroundings say about them, and the finding: a recording in one word.

The rule (``docs/architecture.md``): only *sure* events decide. An event is sure when the
certainty of its likeliest label reaches the threshold that the model keeps for that label; a
false grating frightens people, so its threshold is the strictest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.segmentation.segment import Segment

Float64 = NDArray[np.float64]

JOINT_LABELS: Final = ("pop", "grating")
BACKGROUND: Final = "other"
LABELS: Final = ("pop", "grating", "other")
SOUNDS: Final[Mapping[str, frozenset[str]]] = {
    "nothing_recognised": frozenset(),
    "single_pop": frozenset({"pop"}),
    "repeated_pops": frozenset({"pop"}),
    "grating": frozenset({"grating"}),
    "mixed": frozenset({"pop", "grating"}),
}
"""The joint sounds that a finding names. One pop and several count alike: a cascade is one by
definition and three by ear."""


@dataclass(frozen=True)
class Event:
    """One sound in a recording.

    Attributes
    ----------
    start, end
        Seconds from the start of the recording.
    label
        The likeliest label, also when `uncertain`.
    probabilities
        Calibrated probability of each label; they sum to 1.
    uncertain
        The likeliest label is not likely enough to say so.
    impacts
        Number of resolvable impacts.
    reasons
        Sentences: what made it so.
    """

    start: float
    end: float
    label: str
    probabilities: Mapping[str, float]
    uncertain: bool
    impacts: int
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "start": round(self.start, 4),
            "end": round(self.end, 4),
            "label": self.label,
            "probabilities": {label: round(p, 4) for label, p in self.probabilities.items()},
            "uncertain": self.uncertain,
            "impacts": self.impacts,
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Finding:
    """The summary of a recording.

    Attributes
    ----------
    label
        `single_pop`, `repeated_pops`, `grating`, `mixed`, `nothing_recognised`, `uncertain` or
        `unusable`; with a model of other labels also one of these.
    confidence
        In [0, 1].
    reasons
        Sentences: how it came about.
    """

    label: str
    confidence: float
    reasons: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "label": self.label,
            "confidence": round(self.confidence, 4),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class ContextConfig:
    """How much the surroundings weigh."""

    gap: float = 1.0  #: Seconds; events closer than this belong to one bout
    #: Seconds; a bout is cut where it gets longer, so that a stream can be judged as it comes
    longest: float = 10.0
    share: float = 0.5  #: In [0, 1]: weight of the bout against the event itself

    def __post_init__(self) -> None:
        for name, low, high in (("gap", 0.0, 60.0), ("longest", 0.1, 60.0), ("share", 0.0, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must be from {low:g} to {high:g}")


def bouts(spans: Sequence[tuple[float, float]], settings: ContextConfig) -> list[slice]:
    """Return the bouts of events given as (start, end) in seconds, in order of time."""
    found: list[slice] = []
    first = 0
    for index in range(1, len(spans) + 1):
        if index < len(spans):
            apart = spans[index][0] - spans[index - 1][1]
            if apart <= settings.gap and spans[index][0] - spans[first][0] <= settings.longest:
                continue
        if first < index:
            found.append(slice(first, index))
        first = index
    return found


def smooth_probabilities(
    probabilities: Float64, spans: Sequence[tuple[float, float]], settings: ContextConfig
) -> Float64:
    """Draw the probabilities of events towards those of their bouts.

    Sounds that follow each other closely mostly come from one source: the clicks of a word, of a
    key press, of a hand on cloth. So the probabilities of an event are drawn towards the mean of
    its *bout*, the events with less than a second between them, longer ones counting more. An event
    that stands alone keeps its own. On recordings from sources that the model had not seen this
    answered more of them and more of these right (``docs/recognition.md``).

    Parameters
    ----------
    probabilities
        float64 (n, n_labels), rows sum to 1.
    spans
        (start, end) of the n events in seconds, in order of time.
    settings
        How much the surroundings weigh.

    Returns
    -------
    float64 (n, n_labels); rows sum to 1.
    """
    result = probabilities.copy()
    for bout in bouts(spans, settings):
        if bout.stop - bout.start > 1:
            weights = np.sqrt([max(0.003, end - start) for start, end in spans[bout]])
            mean = (probabilities[bout] * weights[:, None]).sum(axis=0) / weights.sum()
            result[bout] = (1 - settings.share) * probabilities[bout] + settings.share * mean
    return result


def with_background_odds(probabilities: Float64, labels: Sequence[str], odds: float) -> Float64:
    """Return probabilities, (n, n_labels), with the odds of the background multiplied."""
    if odds == 1.0 or BACKGROUND not in labels:
        return probabilities
    weighed = probabilities * [odds if label == BACKGROUND else 1.0 for label in labels]
    return np.asarray(weighed / weighed.sum(axis=1, keepdims=True))


def certainties(probabilities: Float64, labels: Sequence[str]) -> Float64:
    """Return how certain the likeliest label of each event is.

    What a person must be spared is a joint sound where there is none. So a joint sound is as
    certain as it is likely *beside the background*: p / (p + p of the background). Whether it is a
    pop or a grating is another question, and asked by the likeliest label. On clips and takes of
    sources not learnt from this finds more gratings at the same number of false ones than the
    probability itself (``docs/recognition.md``). The background, and labels of a model without
    one, are as certain as they are likely.

    Parameters
    ----------
    probabilities
        float64 (n, n_labels), rows sum to 1.
    labels
        Of the columns.

    Returns
    -------
    float64 (n,), in [0, 1], never below the probability.
    """
    highest: Float64 = probabilities.max(axis=1, initial=0.0)
    if BACKGROUND not in labels:
        return highest
    background = probabilities[:, list(labels).index(BACKGROUND)]
    other = probabilities.argmax(axis=1) != list(labels).index(BACKGROUND)
    beside = highest + np.where(other, background, 1 - highest)
    return np.asarray(highest / np.maximum(beside, 1e-12))


def derive_finding(
    events: Sequence[Event], usable: bool, labels: Sequence[str] = LABELS
) -> Finding:
    """Sum up the events of a recording.

    Parameters
    ----------
    events
        All events of the recording, in any order.
    usable
        Whether the recording can be judged at all.
    labels
        Labels of the model. A model of other labels has the recording's likeliest label as its
        finding.

    Returns
    -------
    Finding
        For no event at all `nothing_recognised` with confidence 1: nothing stood out of the
        background.
    """
    if not usable:
        return Finding("unusable", 0.0, ("This recording cannot be judged; see the warnings.",))
    if not events:
        return Finding("nothing_recognised", 1.0, ("Nothing stood out from the background.",))
    if set(labels) != set(LABELS):
        return _likeliest(events, labels)
    sure = [event for event in events if not event.uncertain]
    pops = [event for event in sure if event.label == "pop"]
    gratings = [event for event in sure if event.label == "grating"]
    if gratings:
        confidence = max(event.probabilities["grating"] for event in gratings)
        heard = _count(len(gratings), "grinding sound")
        if pops:
            return Finding("mixed", confidence, (f"{heard} and {_count(len(pops), 'pop')}.",))
        return Finding("grating", confidence, (f"{heard}.",))
    if pops:
        confidence = max(event.probabilities["pop"] for event in pops)
        label = "single_pop" if len(pops) == 1 else "repeated_pops"
        return Finding(label, confidence, (f"{_count(len(pops), 'pop')}.",))
    unsure = [event for event in events if event.uncertain and event.label in JOINT_LABELS]
    if unsure:
        confidence = max(event.probabilities[event.label] for event in unsure)
        reason = f"{_count(len(unsure), 'sound')} could be a joint or something else."
        return Finding("uncertain", confidence, (reason,))
    confidence = min(event.probabilities["other"] for event in events)
    reason = f"{_count(len(events), 'sound')}, none like a pop or a grinding sound."
    return Finding("nothing_recognised", confidence, (reason,))


def _likeliest(events: Sequence[Event], labels: Sequence[str]) -> Finding:
    mean = {
        label: sum(event.probabilities[label] for event in events) / len(events) for label in labels
    }
    label = max(mean, key=lambda name: mean[name])
    if all(event.uncertain for event in events):
        return Finding("uncertain", mean[label], ("No sound is likely enough to name.",))
    return Finding(label, mean[label], (f"Likeliest over {_count(len(events), 'sound')}.",))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


_COLUMN = {name: column for column, name in enumerate(FEATURE_NAMES)}


def reasons(
    segment: Segment,
    row: NDArray[np.float32],
    label: str,
    uncertain: bool,
    labels: Sequence[str] = LABELS,
) -> tuple[str, ...]:
    """Return sentences that say what made an event so.

    Parameters
    ----------
    segment
        Where it is.
    row
        float32 (n_features,), its line of the feature table.
    label
        Its likeliest label.
    uncertain
        Whether that label is unlikely enough to be doubted.
    labels
        All that the model tells apart; a model that knows no pops says nothing about them.
    """
    count = len(segment.impacts)
    length = segment.end - segment.start
    said = [_impacts(count, length)]
    if count >= 6 and _get(row, "regularity") > 0.5:
        rate = math.exp(_get(row, "regular_rate"))
        said.append(f"The impacts come evenly, about {rate:.0f} a second.")
    elif length >= 0.15 and _get(row, "duty_cycle") > 0.5 and label == "grating":
        said.append("The sound between the impacts is rough and hardly stops.")
    quiet_before = _get(row, "before_far") < -15 and _get(row, "before_near") < -15
    if count <= 3 and quiet_before and _get(row, "after_150") < -15:
        said.append("Nothing else sounds just before or after it.")
    ring = math.exp(_get(row, "decay_20"))
    if count <= 3 and ring > 40:
        compared = ", longer than most pops" if "pop" in labels else ""
        said.append(f"It rings on for {ring:.0f} ms{compared}.")
    if label == "pop" and uncertain and count <= 2:
        said.append("One short click: a tap or a key would sound the same.")
    elif uncertain:
        said.append("The signs do not all point the same way, so this is not sure.")
    return tuple(said)


def _get(row: NDArray[np.float32], name: str) -> float:
    return float(row[_COLUMN[name]])


def _impacts(count: int, length: float) -> str:
    lasting = f"{length * 1000:.0f} ms" if length < 0.5 else f"{length:.1f} s"
    if count == 0:
        return f"No single impact stands out in {lasting}."
    if count == 1:
        return f"One impact, {lasting} long."
    return f"{count} impacts in {lasting}."
