"""A segment, the clip around it that features are taken from, and how segments are found."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.segmentation.noise_floor import NoiseFloorConfig

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class SegmentationConfig:
    """How impacts are found and joined.

    Times in seconds, levels in dB, frequencies in Hz, frame sizes in samples at `sample_rate`.

    Raises
    ------
    ValueError
        If a value lies outside its range.
    """

    sample_rate: int = 22_050
    n_fft: int = 256
    hop_length: int = 64
    n_mels: int = 16
    fmin: float = 150.0
    fmax: float = 10_000.0
    noise_floor: NoiseFloorConfig = field(default_factory=NoiseFloorConfig)
    #: An impact is a peak at least this high over the noise floor...
    peak_height: float = 12.0
    #: ...the highest this far on each side...
    peak_distance: float = 0.0087
    #: ...and so much above the mean this far on each side.
    peak_context: float = 0.1
    peak_delta: float = 4.0
    #: A sound lasts while the envelope is above `quiet` and within `decay` of its impact.
    decay: float = 15.0
    quiet: float = 6.0
    #: Impacts closer than this belong together (the definition of a cascade).
    cascade_gap: float = 0.045
    #: Impacts closer than this do where `dense_count` of them fall within `dense_window`.
    dense_gap: float = 0.25
    dense_count: int = 5
    dense_window: float = 0.5
    #: Two impacts with no valley as deep as this between them belong together.
    valley: float = 10.0
    #: Segments are cut where they get longer than this.
    max_duration: float = 10.0
    #: Sound kept before and after a segment for its features.
    pre_roll: float = 0.3
    post_roll: float = 0.2

    def __post_init__(self) -> None:
        ranges = {
            "sample_rate": (1000, 192_000),
            "n_fft": (4, 8192),
            "hop_length": (1, self.n_fft),
            "n_mels": (1, 64),
            "fmax": (1.0, self.sample_rate / 2),
            "fmin": (0.0, self.fmax - 1.0),
            "dense_count": (2, 1000),
            **dict.fromkeys(("peak_height", "peak_delta", "decay", "quiet"), (0.0, 200.0)),
            "valley": (0.0, 200.0),
            **dict.fromkeys(("peak_context", "peak_distance"), (1e-4, 0.5)),
            **dict.fromkeys(("cascade_gap", "dense_gap", "dense_window"), (1e-4, 0.5)),
            "max_duration": (0.5, 60.0),
            **dict.fromkeys(("pre_roll", "post_roll"), (0.0, 5.0)),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low:g} to {high:g}, not {value:g}")

    def at_rate(self, sample_rate: int) -> SegmentationConfig:
        """Return this configuration for another `sample_rate`.

        Frames keep their duration, bands their place relative to the rate, so that a model for skin
        accelerometers at 2 kHz needs no other code.
        """
        scale = sample_rate / self.sample_rate
        n_fft = max(32, 2 * round(self.n_fft * scale / 2))
        return replace(
            self,
            sample_rate=sample_rate,
            n_fft=n_fft,
            hop_length=max(4, round(self.hop_length * scale)),
            n_mels=min(self.n_mels, n_fft // 4),
            fmin=self.fmin * scale,
            fmax=self.fmax * scale,
        )

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop_length

    def frames(self, seconds: float) -> int:
        """Return the number of frames nearest to `seconds`, at least one."""
        return max(1, round(seconds * self.frame_rate))


@dataclass(frozen=True)
class Segment:
    """A stretch [start, end) of a recording that holds one sound.

    Attributes
    ----------
    start, end : float
        Seconds from the start of the recording.
    impacts : tuple of float
        Times of the resolvable transients in it, in seconds, rising. Empty only where a person gave
        the borders of the segment.
    """

    start: float
    end: float
    impacts: tuple[float, ...]


@dataclass(frozen=True)
class SegmentClip:
    """A segment as sound, with pre- and post-roll: what its features are computed from.

    Attributes
    ----------
    segment : Segment
        Where it is.
    samples : ndarray of float32, shape (n,)
        At `sample_rate`; the first lies at `offset`. Up to `pre_roll` and `post_roll` seconds more
        than the segment, less at the ends of a recording.
    sample_rate : int
        Hz.
    offset : float
        Seconds from the start of the recording.
    envelope : ndarray of float32, shape (m,)
        Onset envelope, in dB over the noise floor, of the frames of the segment; the first is
        centred on `frame_offset`.
    frame_offset : float
        Seconds from the start of the recording.
    peaks : ndarray of float32, shape (len(segment.impacts),)
        Envelope of each impact, in dB.
    """

    segment: Segment
    samples: Float32
    sample_rate: int
    offset: float
    envelope: Float32
    frame_offset: float
    peaks: Float32
