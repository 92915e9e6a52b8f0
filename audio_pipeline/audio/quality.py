"""Is this recording usable? Level, clipping, noise, bandwidth and gaps, measured as it streams.

Every measure is taken on fixed units of the stream, so the size of the blocks it arrives in changes
nothing, and costs a few passes over the samples in numpy.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
Levels = npt.NDArray[np.int16]
Decibels = npt.NDArray[np.float64]
Durations = npt.NDArray[np.float64]

SILENT_LEVEL = -14000
"""-140 dB in hundredths: below one changed bit of 24. No microphone is that quiet, so it is digital
silence."""

SILENT_RANGE = 1e-6
"""Samples that differ by no more (-120 dB) are one constant value, and no sound."""

_LEAST_POWER = 1e-15

LEAST_CLIPPED_PEAK = 0.3
"""Flat tops are looked for where a row reaches this."""

_LEAST_FLAT = 3
"""Equal samples in a row that make a flat top."""

_CORNER = 0.01
"""A flat top falls off by this part of the peak from one sample to the next."""

_BINS_A_BAND = 5
"""Bands of 250 Hz, from spectra of 20 ms."""

_EDGE_DB = 15.0
"""A fall over 1 kHz above `_LOWEST_EDGE_HZ` that a body, a room or a microphone hardly ever makes:
of 273 real recordings at 16 kHz and more, five had one below 7.5 kHz, and four of those were speech
from a narrow channel."""

_LOWEST_EDGE_HZ = 2500.0
"""No codec cuts lower, but dull sounds end there."""

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
    """When to warn and when to refuse."""

    #: Hz. Below it the model has no use for the sound, and the recording is unusable
    minimum_rate: int = 8000
    minimum_seconds: float = 0.03  #: A shorter recording is unusable
    #: A shorter recording gets a warning: noise cannot be measured in it
    short_seconds: float = 0.25
    #: In [0, 1]. More samples than this that are no number make it unusable
    nonfinite_fraction: float = 0.01
    #: A lower peak gets a warning. Android's unprocessed microphone is at -36 dBFS for 94 dB SPL
    #: (CDD 5.11), so a pop of 70 dB at the microphone lies just below -60
    quiet_dbfs: float = -60.0
    noisy_dbfs: float = -30.0  #: A higher noise floor gets a warning
    least_snr_db: float = 6.0  #: Events that stand out less get a warning
    #: In [0, 1]. More samples than this cut flat at the top get a warning
    clipped_fraction: float = 1e-4
    #: Less bandwidth gets a warning: a telephone has 3400 Hz, a Bluetooth headset 7000 Hz at most
    narrow_bandwidth_hz: float = 7500.0
    dc_offset: float = 0.02  #: A larger mean, in [0, 1] of full scale, gets a warning
    #: Digital silence between sounds is a dropout up to this length, and beyond it the mark of
    #: noise suppression
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
    """One thing that is the matter, and what to do about it."""

    code: str  #: Fixed, for programs
    text: str  #: One or two sentences for people


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


def frame_levels(frames: Samples) -> tuple[Samples, Levels]:
    """Measure how loud each frame is, its mean apart.

    Parameters
    ----------
    frames : float32, (n, size)

    Returns
    -------
    sums : float32, (n,)
        Of the samples.
    levels : int16, (n,)
        RMS without the mean, in hundredths of a dB of full scale; -15000 at the least.
    """
    size = frames.shape[1]
    sums = np.linalg.vecdot(frames, np.ones(size, dtype=np.float32))
    power = np.linalg.vecdot(frames, frames)
    power /= size
    power -= np.square(sums / size)
    levels = 1000 * np.log10(np.maximum(power, _LEAST_POWER))
    return sums, levels.astype(np.int16)


def clipped_samples(rows: Samples) -> int:
    """Count the samples in flat tops: three or more equal ones in a row, with a sharp corner.

    A loud hum in 16 bits has equal neighbours at its crest too, but it gets there smoothly.

    Parameters
    ----------
    rows : float32, (n, size)
        Each is judged by its own highest and lowest value.
    """
    count = 0
    for row, high, low in zip(rows, rows.max(axis=1), rows.min(axis=1), strict=True):
        for rail in (high, low):
            if abs(rail) >= LEAST_CLIPPED_PEAK:
                hits = row == rail
                if np.count_nonzero(hits) >= _LEAST_FLAT:
                    count += _flat_tops(row, np.flatnonzero(hits))
    return count


def _flat_tops(row: Samples, hits: npt.NDArray[np.intp]) -> int:
    """Count the hits of a rail that lie in flat tops with a sharp corner."""
    starts = np.flatnonzero(np.diff(hits, prepend=-2) != 1)
    lengths = np.diff(np.append(starts, len(hits)))
    rail = row[hits[0]]
    before = row[np.maximum(hits[starts] - 1, 0)]
    after = row[np.minimum(hits[starts] + lengths, len(row) - 1)]
    falls = np.maximum(np.abs(rail - before), np.abs(rail - after))
    flat = (lengths >= _LEAST_FLAT) & (falls >= _CORNER * abs(rail))
    return int(lengths[flat].sum())


@cache
def spectrum_window(length: int) -> Samples:
    """Return a Hann window, float32 (length,)."""
    return np.hanning(length).astype(np.float32)


def spectra(rows: Samples, window: Samples) -> Decibels:
    """Return the level of each frequency in dB, on no absolute scale.

    Parameters
    ----------
    rows : float32, (n, size)
        `size` at most that of the window. Rows of silence are left out.
    window : float32, (length,)

    Returns
    -------
    float64, (m, length // 2 + 1)
        m <= n. No lower than the noise of 16 bits, below which nothing means anything.
    """
    rows = rows[rows.max(axis=1) - rows.min(axis=1) > SILENT_RANGE]
    transform = np.fft.rfft(rows * window[: rows.shape[1]], n=len(window), axis=1)
    power = np.square(transform.real) + np.square(transform.imag)
    power += np.float32(2.0**-30 / 12 * float(np.square(window).sum()))
    decibels: Decibels = 10 * np.log10(power, dtype=np.float64)
    return decibels


def bandwidth(spectrum: Decibels, sample_rate: int) -> float:
    """Find where sound ends abruptly.

    A telephone (3.4 kHz), a Bluetooth headset (7 kHz) and a lossy codec cut like a wall; a body, a
    room and a microphone only slope.

    Parameters
    ----------
    spectrum : float64, (bins,)
        Mean level in dB from 0 Hz to half the sample rate, 50 Hz a bin.
    sample_rate : int
        Hz.

    Returns
    -------
    float
        Hz; half the sample rate where there is no wall.
    """
    bands = spectrum[: len(spectrum) // _BINS_A_BAND * _BINS_A_BAND]
    bands = bands.reshape(-1, _BINS_A_BAND).mean(axis=1)
    width = _BINS_A_BAND * sample_rate / 2 / (len(spectrum) - 1)
    first = max(2, math.ceil(_LOWEST_EDGE_HZ / width))
    if len(bands) < first + 4:
        return sample_rate / 2
    above = np.maximum.accumulate(bands[::-1])[::-1]
    below = np.minimum(np.minimum(bands[:-2], bands[1:-1]), bands[2:])
    falls = below[first - 2 : -2] - above[first + 2 :]
    edge = int(np.argmax(falls))
    return (first + edge + 1) * width if falls[edge] > _EDGE_DB else sample_rate / 2


def silent_gaps(levels: Levels) -> npt.NDArray[np.int64]:
    """Return the lengths, in frames, of digital silence that has sound on both sides."""
    silent = levels <= SILENT_LEVEL
    # By its edges: places of all the sound would take 8 bytes a frame, 29 MB in ten hours.
    turns = np.flatnonzero(silent[1:] != silent[:-1]) + 1
    if len(silent) and silent[0]:
        turns = turns[1:]
    whole = turns[: len(turns) // 2 * 2]
    return whole[1::2] - whole[::2]
