"""Is this recording usable? Level, clipping, noise, bandwidth and gaps, measured as it streams.

Every measure is taken on fixed units of the stream, so the size of the blocks it arrives in changes
nothing, and costs a few passes over the samples in numpy.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

import numpy as np

from audio_pipeline.audio.quality_measures import (
    LEAST_CLIPPED_PEAK,
    SILENT_LEVEL,
    SILENT_RANGE,
    Decibels,
    Durations,
    Levels,
    Samples,
    bandwidth,
    clipped_samples,
    frame_levels,
    silent_gaps,
    spectra,
    spectrum_window,
)

FRAME_SECONDS = 0.01
"""Levels are measured in frames of this length: about one pop."""

UNIT_FRAMES = 50
"""Frames in a unit; one spectrum and one search for flat tops a unit."""

SPECTRUM_SECONDS = 0.02

LARGEST_SAMPLE = 2.0**31
"""A float file scaled like 32-bit integers reaches this; anything beyond is no sound."""

FULL_SCALE = 1.01
"""Codecs swing a little beyond +-1 where the original did not."""


@dataclass(frozen=True)
class QualityConfig:
    """When to warn and when to refuse.

    Parameters
    ----------
    minimum_rate : int
        Hz. Below it the model has no use for the sound, and the recording is unusable.
    minimum_seconds : float
        A shorter recording is unusable.
    short_seconds : float
        A shorter recording gets a warning: noise cannot be measured in it.
    nonfinite_fraction : float
        In [0, 1]. More samples than this that are no number make it unusable.
    quiet_dbfs : float
        A lower peak gets a warning. Android's unprocessed microphone is at -36 dBFS for 94 dB SPL
        (CDD 5.11), so a pop of 70 dB at the microphone lies just below -60.
    noisy_dbfs : float
        A higher noise floor gets a warning.
    least_snr_db : float
        Events that stand out less get a warning.
    clipped_fraction : float
        In [0, 1]. More samples than this cut flat at the top get a warning.
    narrow_bandwidth_hz : float
        Less bandwidth gets a warning: a telephone has 3400 Hz, a Bluetooth headset 7000 Hz at most.
    dc_offset : float
        A larger mean, in [0, 1] of full scale, gets a warning.
    gate_seconds : float
        Digital silence between sounds is a dropout up to this length, and beyond it the mark of
        noise suppression.
    """

    minimum_rate: int = 8000
    minimum_seconds: float = 0.03
    short_seconds: float = 0.25
    nonfinite_fraction: float = 0.01
    quiet_dbfs: float = -60.0
    noisy_dbfs: float = -30.0
    least_snr_db: float = 6.0
    clipped_fraction: float = 1e-4
    narrow_bandwidth_hz: float = 7500.0
    dc_offset: float = 0.02
    gate_seconds: float = 0.1

    def __post_init__(self) -> None:
        for names, low, high in (
            (("minimum_rate",), 1, 192_000),
            (("minimum_seconds", "gate_seconds"), 0.001, 10.0),
            (("short_seconds",), 0.0, 60.0),
            (("nonfinite_fraction", "clipped_fraction", "dc_offset"), 0.0, 1.0),
            (("quiet_dbfs", "noisy_dbfs"), -200.0, 0.0),
            (("least_snr_db",), 0.0, 200.0),
            (("narrow_bandwidth_hz",), 0.0, 100_000.0),
        ):
            for name in names:
                if not low <= getattr(self, name) <= high:
                    raise ValueError(f"{name} must be from {low:g} to {high:g}")


@dataclass(frozen=True)
class QualityWarning:
    """One thing that is the matter, and what to do about it.

    Parameters
    ----------
    code : str
        Fixed, for programs.
    text : str
        One or two sentences for people.
    """

    code: str
    text: str


@dataclass(frozen=True)
class Quality:
    """What was measured in a recording; None where it cannot be known.

    Parameters
    ----------
    usable : bool
        False only for the reasons in `QualityMeter.result`.
    warnings : tuple of QualityWarning
        Those that make it unusable first.
    peak_dbfs : float or None
        Largest sample in dB of full scale; above 0 in float files that go beyond it.
    noise_floor_dbfs : float or None
        Level that nine frames in ten exceed (RMS of 10 ms, without its mean).
    event_snr_db : float or None
        Median over the events of their loudest frame against the noise floor.
    clipped_fraction : float
        In [0, 1]: samples in flat tops of three or more equal ones.
    bandwidth_hz : float or None
        Where the sound ends abruptly, or half the sample rate where it does not.
    dc_offset : float
        Mean of the samples, in full scale.
    nonfinite_fraction : float
        In [0, 1]: samples that were no number and were set to zero.
    silent_gaps : int
        Stretches of digital silence between sounds.
    silent_gap_seconds : float
        Their length together.
    """

    usable: bool
    warnings: tuple[QualityWarning, ...]
    peak_dbfs: float | None
    noise_floor_dbfs: float | None
    event_snr_db: float | None
    clipped_fraction: float
    bandwidth_hz: float | None
    dc_offset: float
    nonfinite_fraction: float
    silent_gaps: int
    silent_gap_seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: `usable`, `warnings`, then the measures."""
        page: dict[str, Any] = {
            "usable": self.usable,
            "warnings": [{"code": item.code, "text": item.text} for item in self.warnings],
        }
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            page[field.name] = round(value, 6) if isinstance(value, float) else value
        return page


class QualityMeter:
    """Measures a recording block by block, in memory that grows by 0.7 MB an hour.

    Parameters
    ----------
    sample_rate : int
        Hz.
    settings : QualityConfig
    """

    def __init__(self, sample_rate: int, settings: QualityConfig | None = None) -> None:
        self.sample_rate = sample_rate
        self.settings = settings or QualityConfig()
        self._frame = max(1, round(sample_rate * FRAME_SECONDS))
        self._unit = self._frame * UNIT_FRAMES
        self._window = spectrum_window(max(4, round(sample_rate * SPECTRUM_SECONDS)))
        self._carry: Samples = np.zeros(0, dtype=np.float32)
        self._levels = array("h")
        self._spectrum = np.zeros(len(self._window) // 2 + 1)
        self._spectra = 0
        self._clipped = 0
        self._sum = 0.0
        self._count = 0
        self._nonfinite = 0
        self._low = math.inf
        self._high = -math.inf

    def update(self, block: Samples) -> Samples:
        """Take the next samples and return them fit for analysis.

        Parameters
        ----------
        block : float32, (n,)
            In [-1, 1] as a rule.

        Returns
        -------
        float32, (n,)
            `block` itself, or a copy in which what is no number is zero.
        """
        if not len(block):
            return block
        low, high = float(block.min()), float(block.max())
        if not (low >= -LARGEST_SAMPLE and high <= LARGEST_SAMPLE):
            with np.errstate(invalid="ignore"):
                bad = ~(np.abs(block) <= LARGEST_SAMPLE)
            self._nonfinite += int(np.count_nonzero(bad))
            block = np.where(bad, np.float32(0.0), block)
            low, high = float(block.min()), float(block.max())
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._count += len(block)
        self._measure(block)
        return block

    def _measure(self, block: Samples) -> None:
        """Measure whole units; the rest waits for the next block."""
        if len(self._carry):
            wanted = self._unit - len(self._carry)
            self._carry = np.concatenate([self._carry, block[:wanted]])
            block = block[wanted:]
            if len(self._carry) < self._unit:
                return
            self._measure_units(self._carry.reshape(1, -1))
        whole = len(block) // self._unit * self._unit
        if whole:
            self._measure_units(block[:whole].reshape(-1, self._unit))
        self._carry = block[whole:].copy()

    def _measure_units(self, units: Samples) -> None:
        sums, levels = frame_levels(units.reshape(-1, self._frame))
        self._levels.frombytes(levels.tobytes())
        for value in sums.tolist():
            self._sum += value
        if max(self._high, -self._low) >= LEAST_CLIPPED_PEAK:
            self._clipped += clipped_samples(units)
        rows = spectra(units[:, : len(self._window)], self._window)
        # Row by row, so that the last digits do not depend on the blocks either.
        self._spectrum = np.add.reduce(np.vstack([self._spectrum[None], rows]), axis=0)
        self._spectra += len(rows)

    def result(
        self, event_times: Sequence[tuple[float, float]] = (), *, truncated: bool = False
    ) -> Quality:
        """Sum up what was measured so far; more blocks may follow.

        Parameters
        ----------
        event_times : sequence of (float, float)
            Start and end of each event in seconds, for `Quality.event_snr_db`.
        truncated : bool
            Whether the reader found that the recording is cut off or has holes.

        Returns
        -------
        Quality
            Unusable only when shorter than `minimum_seconds`, all digital silence or one constant
            value, more than `nonfinite_fraction` of it no number, or sampled below `minimum_rate`.
        """
        levels, total, clipped, spectrum = self._whole()
        seconds = self._count / self.sample_rate
        peak = max(self._high, -self._low)
        floor = self._noise_floor(levels) if seconds >= self.settings.short_seconds else None
        gaps = np.asarray(silent_gaps(levels) * self._frame / self.sample_rate, np.float64)
        quality = Quality(
            usable=True,
            warnings=(),
            peak_dbfs=20 * math.log10(peak) if peak > 0 else None,
            noise_floor_dbfs=floor,
            event_snr_db=self._event_snr(levels, floor, event_times),
            clipped_fraction=clipped / max(1, self._count),
            bandwidth_hz=None if spectrum is None else bandwidth(spectrum, self.sample_rate),
            dc_offset=total / max(1, self._count),
            nonfinite_fraction=self._nonfinite / max(1, self._count),
            silent_gaps=len(gaps),
            silent_gap_seconds=float(gaps.sum()),
        )
        refusals = tuple(self._refusals(quality, seconds))
        cautions = () if refusals else tuple(self._cautions(quality, seconds, gaps))
        if truncated:
            cautions += (_TRUNCATED,)
        return replace(quality, usable=not refusals, warnings=refusals + cautions)

    def _whole(self) -> tuple[Levels, float, int, Decibels | None]:
        """Levels, sum, clipped samples and mean spectrum with the unfinished unit counted in."""
        levels = np.frombuffer(self._levels, dtype=np.int16)
        total, clipped = self._sum, self._clipped
        spectrum, count = self._spectrum, self._spectra
        rest = self._carry[None]
        if rest.size:
            whole = rest.size // self._frame * self._frame
            parts = [levels]
            for part in (rest[:, :whole].reshape(-1, self._frame), rest[:, whole:]):
                if part.size:
                    sums, more = frame_levels(part)
                    parts.append(more)
                    total += float(sums.sum())
            levels = np.concatenate(parts)
            clipped += clipped_samples(rest)
            rows = spectra(rest[:, : len(self._window)], self._window)
            spectrum, count = spectrum + rows.sum(axis=0), count + len(rows)
        return levels, total, clipped, spectrum / count if count else None

    @staticmethod
    def _noise_floor(levels: Levels) -> float | None:
        """Return the level that nine frames in ten exceed, digital silence apart."""
        sound = levels[levels > SILENT_LEVEL]
        if not len(sound):
            return None
        tenth = len(sound) // 10
        sound.partition(tenth)  # in place: ten hours are 7 MB
        return float(sound[tenth]) / 100

    def _event_snr(
        self, levels: Levels, floor: float | None, event_times: Sequence[tuple[float, float]]
    ) -> float | None:
        if floor is None or not event_times:
            return None
        rate = self.sample_rate / self._frame
        heights = []
        for start, end in event_times:
            first = min(max(0, int(start * rate)), len(levels) - 1)
            last = max(first + 1, math.ceil(end * rate))
            heights.append(float(levels[first:last].max()) / 100 - floor)
        return median(heights)

    def _refusals(self, quality: Quality, seconds: float) -> Iterator[QualityWarning]:
        settings = self.settings
        if seconds < settings.minimum_seconds:
            yield QualityWarning(
                "too_short",
                f"The recording is only {seconds * 1000:.0f} ms long. "
                f"Record at least {settings.minimum_seconds * 1000:.0f} ms.",
            )
        if self.sample_rate < settings.minimum_rate:
            yield QualityWarning(
                "low_rate",
                f"The recording has {self.sample_rate} samples a second, which is too few to hear "
                f"joint sounds. Record with at least {settings.minimum_rate}, better 44100.",
            )
        if quality.nonfinite_fraction > settings.nonfinite_fraction:
            yield QualityWarning(
                "nonfinite",
                f"In this recording {quality.nonfinite_fraction:.0%} is not sound but broken "
                "numbers. Save it again from where it came.",
            )
        elif self._count and self._high - self._low <= SILENT_RANGE:
            yield QualityWarning(
                "silent",
                "The recording holds no sound at all. Check that the microphone is switched on "
                "and allowed, then record again.",
            )

    def _cautions(
        self, quality: Quality, seconds: float, gaps: Durations
    ) -> Iterator[QualityWarning]:
        settings = self.settings
        if seconds < settings.short_seconds:
            yield QualityWarning(
                "short",
                "The recording is so short that its background noise cannot be measured. "
                "Where you can, keep a second before and after the sound.",
            )
        if quality.peak_dbfs is not None and quality.peak_dbfs < settings.quiet_dbfs:
            yield QualityWarning(
                "too_quiet",
                f"The recording is very quiet (its peak is {quality.peak_dbfs:.0f} dB). "
                "Hold the microphone 2 to 5 cm from the skin.",
            )
        if quality.clipped_fraction > settings.clipped_fraction:
            yield QualityWarning(
                "clipped",
                "The loudest parts are cut off flat, so their shape is lost. "
                "Move the microphone a little away or turn its level down.",
            )
        if max(self._high, -self._low) > FULL_SCALE:
            yield QualityWarning(
                "over_full_scale",
                "The recording goes beyond full scale. It was heard as it is, but other programs "
                "may cut it off: save it at a lower level.",
            )
        # Float files may have another full scale than 1.
        scale = max(1.0, self._high, -self._low)
        floor = quality.noise_floor_dbfs
        if floor is not None and floor - 20 * math.log10(scale) > settings.noisy_dbfs:
            yield QualityWarning(
                "noisy",
                f"The background is loud ({floor:.0f} dB). "
                "Record in a quiet room, and keep still before the twist.",
            )
        if quality.event_snr_db is not None and quality.event_snr_db < settings.least_snr_db:
            yield QualityWarning(
                "faint",
                f"What was heard stands out from the background by only "
                f"{quality.event_snr_db:.0f} dB. Move the microphone closer, in a quiet room.",
            )
        bandwidth = quality.bandwidth_hz
        if bandwidth is not None and bandwidth < settings.narrow_bandwidth_hz:
            yield QualityWarning(
                "narrow_bandwidth",
                f"Sound above {bandwidth / 1000:.1f} kHz is missing, as in a telephone call or "
                "with a Bluetooth headset. Use the phone's own microphone and a recorder app.",
            )
        dropouts = gaps[gaps <= settings.gate_seconds]
        gates = gaps[gaps > settings.gate_seconds]
        if len(dropouts):
            yield QualityWarning(
                "dropouts",
                f"The sound drops out {_times(len(dropouts))} for a moment. "
                "Close other apps and record again.",
            )
        if len(gates):
            yield QualityWarning(
                "noise_suppression",
                f"The recording falls completely silent {_times(len(gates))} "
                f"({gates.sum():.1f} s in all). Noise suppression does this, and it can swallow "
                "the very sounds we listen for: switch it off.",
            )
        if abs(quality.dc_offset) > settings.dc_offset * scale:
            yield QualityWarning(
                "dc_offset",
                "The recording does not swing around zero, which points to a faulty microphone "
                "or cable. Try another one.",
            )
        if quality.nonfinite_fraction > 0:
            yield QualityWarning(
                "nonfinite",
                f"A few samples ({self._nonfinite}) were broken numbers and were taken as "
                "silence. Save the recording again from where it came.",
            )


_TRUNCATED = QualityWarning(
    "truncated",
    "Part of the recording is missing or broken; the rest was heard. "
    "Copy the file again, or record again.",
)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
