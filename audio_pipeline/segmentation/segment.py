"""A segment, and a passage: the segment with the sound around it that features are taken from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class Segment:
    """A stretch [start, end) of a recording that holds one sound.

    Attributes
    ----------
    start, end
        Seconds from the start of the recording.
    impacts
        Times of the resolvable transients in it, in seconds, rising. Empty only where a person gave
        the borders of the segment.
    """

    start: float
    end: float
    impacts: tuple[float, ...]


@dataclass(frozen=True)
class Passage:
    """A segment with the sound around it: what its features are computed from.

    Attributes
    ----------
    segment
        The segment.
    samples
        float32 (n,) at the rate of the settings, the first at time `offset` (seconds); up to
        `before` and `after` seconds more than the segment, less at the ends of a recording.
    elevation
        float32 (m,) in dB over the floor, for the frames of the segment; the first frame is centred
        on time `frame_offset` (seconds).
    peaks
        float32, the elevation of each impact in dB.
    """

    segment: Segment
    samples: Float32
    offset: float
    elevation: Float32
    frame_offset: float
    peaks: Float32
