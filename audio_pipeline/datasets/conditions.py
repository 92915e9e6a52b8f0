"""One look at each recording besides its sounds: how it was recorded, and of what it is a copy.

A copy in the test part of a split makes a model look better than it is: exact, shifted in time,
rescaled, or cut from the other. Candidates are pairs whose loudest moments have nearly the same
spectrum; a candidate counts as a copy when, after the best shift, the quiet stretches between the
sounds agree too. Two knocks on one table may look alike, but the noise around them never does.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.audio.quality import clipped_samples
from audio_pipeline.audio.recording import Recording, Resampler, read_stretch
from audio_pipeline.exceptions import RecordingError

Floats = NDArray[np.float64]

CONDITIONS: Final = (
    "duration",
    "sample_rate",
    "level",
    "floor",
    "floor_below_200",
    "floor_200_1000",
    "floor_1000_4000",
    "floor_4000_8000",
    "floor_above_8000",
    "hum",
    "dc",
    "bandwidth",
)
"""Recording conditions, in the order of :attr:`RecordingConditions.conditions`.

Seconds; Hz; dB of full scale: the lower quartile of the frames, and the quietest tenth of them in
all and by band; dB of the strongest mains harmonic over its surroundings in the quietest half
second; dB of the median sample; Hz below which 99 % of the quiet frames' power lies.
"""

MOST_SECONDS: Final = 60.0
"""Recordings are looked at no further than this."""

FINGERPRINT_RATE: Final = 8000
_MOMENTS: Final = 6
_MOMENT_SECONDS: Final = 0.064
_FRAME_SECONDS: Final = 0.032
_BAND_EDGES: Final = (0.0, 200.0, 1000.0, 4000.0, 8000.0, np.inf)
_MAINS: Final = (50.0, 60.0, 100.0, 120.0, 150.0, 180.0)
_LEAST_DC: Final = -80.0
_SILENCE: Final = 1e-12


@dataclass(frozen=True, eq=False)
class RecordingConditions:
    """What one look at a recording gave."""

    #: SHA-256 of the decoded samples, first 32 hexadecimal digits; empty when it cannot be read
    digest: str
    sample_rate: int  #: Hz; 0 when it cannot be read
    conditions: Floats  #: float64 array, shape (len(CONDITIONS),): NaN when it cannot be read
    #: float32 array, shape (n, m): Unit-length magnitude spectra around its loudest moments, which
    #: do not change when the recording is shifted or rescaled; n is 0 for a silent one
    moments: NDArray[np.float32]
    flat_share: float  #: Share of samples in tops that are cut off flat, at whatever level


def measure_conditions(path: Path) -> RecordingConditions:
    """Look at one recording; one that cannot be read gives an empty survey, not an error."""
    recording = read_start(path)
    if recording is None or not len(recording.samples):
        return RecordingConditions(
            "", 0, np.full(len(CONDITIONS), np.nan), _moments(np.zeros(0, np.float32)), 0.0
        )
    digest = hashlib.sha256(np.int32(recording.sample_rate).tobytes())
    digest.update(recording.samples.tobytes())
    return RecordingConditions(
        digest.hexdigest()[:32],
        recording.sample_rate,
        recording_conditions(recording),
        _moments(at_rate(recording, FINGERPRINT_RATE)),
        _flat_share(recording.samples),
    )


def _flat_share(samples: NDArray[np.float32]) -> float:
    peak = np.abs(samples).max()
    return clipped_samples((samples / peak)[np.newaxis]) / samples.size if peak else 0.0


def read_start(path: Path) -> Recording | None:
    """Read the first minute of a recording; None when it cannot be read."""
    try:
        start = read_stretch(path, 0.0, MOST_SECONDS)
    except RecordingError:
        return None
    return replace(start, samples=np.nan_to_num(start.samples, nan=0.0, posinf=1.0, neginf=-1.0))


def at_rate(recording: Recording, sample_rate: int) -> NDArray[np.float32]:
    """Return the samples at `sample_rate`; a lower rate of the recording is interpolated up."""
    return Resampler(recording.sample_rate, sample_rate).finish(recording.samples)


def recording_conditions(recording: Recording) -> Floats:
    """Measure how a recording was made, leaving out as far as possible what it is of.

    Parameters
    ----------
    recording : Recording
        At least one sample.

    Returns
    -------
    float64 array, shape (len(CONDITIONS),)
        In the order and units of :data:`CONDITIONS`; finite.
    """
    samples = recording.samples.astype(np.float64)
    rate = recording.sample_rate
    size = max(16, round(_FRAME_SECONDS * rate))
    padded = np.pad(samples, (0, max(0, size - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[:: max(1, size // 2)]
    window = np.hanning(size + 1)[:-1]
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 / (window**2).sum() / size
    loudness = power.sum(axis=1)
    quietest = np.argsort(loudness, kind="stable")[: max(1, len(loudness) // 10)]
    spectrum = power[quietest].mean(axis=0)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    bands = [
        spectrum[(frequency >= low) & (frequency < high)].sum()
        for low, high in itertools.pairwise(_BAND_EDGES)
    ]
    cumulated = np.cumsum(spectrum)
    reached = np.searchsorted(cumulated, 0.99 * cumulated[-1])
    return np.array(
        [
            recording.duration,
            rate,
            _decibel(np.quantile(loudness, 0.25)),
            _decibel(spectrum.sum()),
            *(_decibel(band) for band in bands),
            _hum(samples, rate),
            max(_LEAST_DC, _decibel(np.median(samples) ** 2)),
            frequency[min(int(reached), frequency.size - 1)],
        ]
    )


def _hum(samples: Floats, rate: int) -> float:
    """Return how far the strongest mains harmonic stands above its surroundings, in dB.

    Measured where it is quietest, so that no sound of interest counts; 0 below half a second.
    """
    width, step = rate // 2, max(1, rate // 8)
    if samples.size < width:
        return 0.0
    energy = np.concatenate([[0.0], np.cumsum(samples**2)])
    starts = np.arange(0, samples.size - width + 1, step)
    quietest = int(starts[(energy[starts + width] - energy[starts]).argmin()])
    part = samples[quietest : quietest + width]
    power = np.abs(np.fft.rfft((part - part.mean()) * np.hanning(width), 2 * width)) ** 2
    frequency = np.fft.rfftfreq(2 * width, 1 / rate)
    excess = [0.0]
    for mains in _MAINS:
        near = np.abs(frequency - mains) <= 3.0
        around = (np.abs(frequency - mains) <= 20.0) & (np.abs(frequency - mains) > 8.0)
        if near.any() and around.any():
            excess.append(_decibel(power[near].max()) - _decibel(np.median(power[around])))
    return max(excess)


def _decibel(power: float | np.floating) -> float:
    """Return a level in whole dB: finer steps say more about chance than about a microphone."""
    return float(np.round(10.0 * np.log10(power + _SILENCE)))


def _moments(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe the loudest moments of samples at :data:`FINGERPRINT_RATE`."""
    size = round(_MOMENT_SECONDS * FINGERPRINT_RATE)
    described = []
    level = np.abs(np.diff(samples, prepend=samples[:1])) if samples.size else samples
    padded = np.pad(samples, size // 2)
    window = np.hanning(size).astype(np.float32)
    for _ in range(_MOMENTS):
        if not level.size or level.max() <= 1e-6:
            break
        peak = int(level.argmax())
        magnitude = np.abs(np.fft.rfft(padded[peak : peak + size] * window)).astype(np.float32)
        length = float(np.sqrt((magnitude**2).sum()))
        if length > 0:
            described.append(magnitude / length)
        level[max(0, peak - size) : peak + size] = 0.0
    return np.array(described, np.float32).reshape(-1, size // 2 + 1)


def in_parallel(
    work: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]],
    jobs: int = 2,
    worth: int = 200,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Any]:
    """Yield the results of calls, in order, as they come.

    Parameters
    ----------
    work : sequence of (function, arguments)
        Picklable; none may depend on another.
    jobs : int
        Processes; with one, everything happens in this one.
    worth : int
        Fewer calls are done sooner than other processes have imported what they need.
    progress : callable or None
        Called with (done, total).
    """
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=1 if len(work) < worth else jobs, return_as="generator")
    results = parallel(delayed(function)(*arguments) for function, arguments in work)
    for done, result in enumerate(results, start=1):
        if progress:
            progress(done, len(work))
        yield result


_ALIKE: Final = 0.99
"""Cosine of two moments' spectra; an exact copy has 1, rounding to 16 bits takes about 0.001."""

_CHECKS_EACH: Final = 12
_SAME: Final = 0.9
_ENVELOPE_SECONDS: Final = 0.02
_FEWEST_FRAMES: Final = 8
"""A clip of 40 ms is cut into this many."""

_LEAST_SHARED_FRAMES: Final = 3
_LEAST_SHARE: Final = 0.25
_ROWS_AT_ONCE: Final = 2048


@dataclass(frozen=True)
class Copy:
    """Two recordings that hold the same sound."""

    first: int  #: Their indices, first < second
    second: int
    shift: float  #: Seconds by which the sound comes later in the second


def linked_groups(groups: NDArray[np.str_], pairs: Iterable[tuple[int, int]]) -> NDArray[np.str_]:
    """Join the groups of recordings that are copies of each other.

    Parameters
    ----------
    groups : str array, shape (n,)
    pairs : iterable of (int, int)
        Indices of recordings that hold the same sound.

    Returns
    -------
    str array, shape (n,)
        Joined groups carry the name that sorts first among them.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, member = np.unique(groups, return_inverse=True)
    left, right = member[np.array(list(pairs), np.intp).reshape(-1, 2)].T
    links = coo_array((np.ones(left.size), (left, right)), shape=(names.size, names.size))
    _, joined = connected_components(links, directed=False)
    _, first = np.unique(joined, return_index=True)
    linked: NDArray[np.str_] = names[first][joined[member]]
    return linked


def find_copies(surveys: Sequence[RecordingConditions], paths: Sequence[Path]) -> list[Copy]:
    """Find the recordings that are copies of each other.

    Parameters
    ----------
    surveys : sequence of RecordingConditions
    paths : sequence of Path
        The recordings surveyed; candidates are read again.

    Returns
    -------
    list of Copy
        In order of first, second. Of several exact copies each is paired with the first of them.
    """
    copies: dict[tuple[int, int], Copy] = {}
    first_of: dict[str, int] = {}
    for index, one in enumerate(surveys):
        original = first_of.setdefault(one.digest, index)
        if one.digest and original != index:
            copies[original, index] = Copy(original, index, 0.0)
    originals = [index for digest, index in first_of.items() if digest]
    for first, second in _candidates(surveys, originals):
        shift = common_shift(paths[first], paths[second])
        if shift is not None:
            copies[first, second] = Copy(first, second, shift)
    return [copies[pair] for pair in sorted(copies)]


def _candidates(
    surveys: Sequence[RecordingConditions], indices: Sequence[int]
) -> list[tuple[int, int]]:
    """Return pairs with an almost equal moment, the best few of each recording."""
    counts = [len(surveys[index].moments) for index in indices]
    if not sum(counts):
        return []
    owner = np.repeat(np.asarray(indices, np.int64), counts)
    moments = np.concatenate([surveys[index].moments for index in indices])
    likeness: dict[int, dict[int, float]] = defaultdict(dict)
    for begin in range(0, len(moments), _ROWS_AT_ONCE):
        alike = moments[begin : begin + _ROWS_AT_ONCE] @ moments.T
        for row, column in zip(*np.nonzero(alike >= _ALIKE), strict=True):
            first, second = int(owner[begin + row]), int(owner[column])
            if first < second:
                best = likeness[first].get(second, 0.0)
                likeness[first][second] = max(best, float(alike[row, column]))
    pairs = []
    for first, others in likeness.items():
        ranked = sorted(others, key=lambda second: (-others[second], second))
        pairs += [(first, second) for second in ranked[:_CHECKS_EACH]]
    return sorted(pairs)


def common_shift(first: Path, second: Path) -> float | None:
    """Return by how many seconds the sound of `first` comes later in `second`; None for no copy.

    Recordings of different rates are compared at the lower one. Loudness and polarity do not
    matter. A stretch cut from the other counts when at least a quarter of the shorter is shared.
    """
    left, right = read_start(first), read_start(second)
    if left is None or right is None or not len(left.samples) or not len(right.samples):
        return None
    rate = min(left.sample_rate, right.sample_rate)
    x, y = _whitened(at_rate(left, rate)), _whitened(at_rate(right, rate))
    size = 1 << (x.size + y.size).bit_length()
    spectrum = np.conj(np.fft.rfft(x, size)) * np.fft.rfft(y, size)
    correlation = np.fft.irfft(spectrum, size)
    lag = int(np.abs(correlation).argmax())
    lag = lag - size if lag >= size // 2 else lag
    begin, end = max(0, -lag), min(x.size, y.size - lag)
    frame = max(8, min(round(_ENVELOPE_SECONDS * rate), min(x.size, y.size) // _FEWEST_FRAMES))
    n_frames = (end - begin) // frame
    shortest = min(x.size, y.size) // frame
    if n_frames < max(_LEAST_SHARED_FRAMES, _LEAST_SHARE * shortest):
        return None
    a = x[begin : begin + n_frames * frame].reshape(n_frames, frame)
    b = y[begin + lag : begin + lag + n_frames * frame].reshape(n_frames, frame)
    return lag / rate if _agreement(a, b) >= _SAME else None


def _whitened(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Take the first difference: noise weighs as much as the boom of a table."""
    return np.diff(samples.astype(np.float64), prepend=float(samples[0]))


def _agreement(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Return the median over frames of the size of their correlation; digital silence left out."""
    energy = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    heard = energy > 1e-9 * a.shape[1]
    if heard.sum() < _LEAST_SHARED_FRAMES:
        return 0.0
    return float(np.median(np.abs((a * b).sum(axis=1)[heard]) / energy[heard]))


_VOICE_RATE: Final = 16_000
_VOICE_FRAME: Final = 640
"""40 ms: two periods of the lowest voice and more."""
_VOICE_HOP: Final = 160
_VOICE_PITCH: Final = (70.0, 400.0)  # Hz
_VOICE_PERIODICITY: Final = 0.6
_VOICE_STEP: Final = 0.12  # of the pitch, from one frame to the next
_VOICE_GLIDE: Final = 0.01  # mains hum and machines keep their pitch, a voice does not
_VOICE_FRAMES: Final = 8
_VOICE_LEVEL: Final = -70.0  # dB of full scale
_VOICE_PAUSE: Final = 0.5  # s: what lies between two syllables is speech as well


def voice_stretches(recording: Recording) -> tuple[tuple[float, float], ...]:
    """Return where somebody may be speaking: where a pitch of a voice is held, and moves.

    A frame of 40 ms is voiced when its normalised autocorrelation (bias of the window removed)
    reaches 0.6 at a lag of 70 to 400 Hz, most of its power lies between 100 and 4000 Hz, and its
    neighbours have nearly the same pitch. Eight such frames in a row, 80 ms, whose pitch moves by
    1 % or more, are a voice. Stretches less than half a second apart are one. Whispering and
    unvoiced sounds alone are not found.

    Returns
    -------
    tuple of (float, float)
        (start, end) in s, in order, widened by a quarter of a second; empty when nothing is heard.
    """
    samples = at_rate(recording, _VOICE_RATE)
    block = 1000 * _VOICE_HOP
    voiced: list[NDArray[np.bool_]] = []
    pitches: list[Floats] = []
    for start in range(0, max(1, len(samples) - _VOICE_FRAME + 1), block):
        piece = samples[start : start + block + _VOICE_FRAME - _VOICE_HOP]
        if len(piece) < _VOICE_FRAME:
            piece = np.pad(piece, (0, _VOICE_FRAME - len(piece)))
        one, pitch = _voiced_frames(piece)
        voiced.append(one)
        pitches.append(pitch)
    mask, pitch = np.concatenate(voiced), np.concatenate(pitches)
    near = np.abs(np.diff(np.log(pitch))) < _VOICE_STEP
    mask[1:] &= near
    found: list[tuple[float, float]] = []
    for is_voice, frames in itertools.groupby(range(len(mask)), mask.__getitem__):
        held = list(frames)
        heights = pitch[held]
        glides = heights.max() > (1 + _VOICE_GLIDE) * heights.min()
        if not (is_voice and len(held) >= _VOICE_FRAMES and glides):
            continue
        begin = max(0.0, (held[0] - 1) * _VOICE_HOP / _VOICE_RATE - _VOICE_PAUSE / 2)
        end = (held[-1] * _VOICE_HOP + _VOICE_FRAME) / _VOICE_RATE + _VOICE_PAUSE / 2
        end = min(recording.duration, end)
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], end)
        else:
            found.append((begin, end))
    return tuple(found)


def _voiced_frames(samples: NDArray[np.float32]) -> tuple[NDArray[np.bool_], Floats]:
    """Return which frames are voiced, and the likeliest pitch of each in Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, _VOICE_FRAME)[::_VOICE_HOP]
    frames = frames - frames.mean(axis=1, keepdims=True, dtype=np.float64)
    window = np.hanning(_VOICE_FRAME)
    size = 2048
    power = np.abs(np.fft.rfft(frames * window, size)) ** 2
    bias = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[:_VOICE_FRAME]
    lowest, highest = (round(_VOICE_RATE / pitch) for pitch in reversed(_VOICE_PITCH))
    lags = np.fft.irfft(power)[:, : highest + 1]
    ratio = lags / np.maximum(lags[:, :1], _SILENCE) / (bias[: highest + 1] / bias[0])
    ratio = ratio[:, lowest:]
    frequency = np.fft.rfftfreq(size, 1 / _VOICE_RATE)
    inside = power[:, (frequency >= 100) & (frequency < 4000)].sum(axis=1)
    level = 10 * np.log10(np.maximum((frames**2).mean(axis=1), _SILENCE))
    mask = (
        (ratio.max(axis=1) > _VOICE_PERIODICITY)
        & (inside > 0.5 * power.sum(axis=1))
        & (level > _VOICE_LEVEL)
    )
    # The shortest lag that is nearly as good: twice a period fits a voice as well as one.
    first = (ratio >= 0.9 * ratio.max(axis=1, keepdims=True)).argmax(axis=1)
    return mask, _VOICE_RATE / (lowest + first)
