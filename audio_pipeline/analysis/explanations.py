"""Reasons: why an event was heard as it was, in words, from its features."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.analysis.events import LABELS
from audio_pipeline.features.table import FEATURE_NAMES
from audio_pipeline.segmentation.segment import Segment

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
