"""Copies of one sound among the recordings: exact, shifted in time, rescaled, or cut from it.

A copy in the test part of a split makes a model look better than it is. Candidates are pairs whose
loudest moments have nearly the same spectrum; a candidate counts as a copy when, after the best
shift, the quiet stretches between the sounds agree too. Two knocks on one table may look alike, but
the noise around them never does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.datasets.conditions import RecordingConditions, at_rate, read_start

_ALIKE: Final = 0.99
"""Cosine of two moments' spectra; an exact copy has 1, rounding to 16 bits takes about 0.001."""

_CHECKS_EACH: Final = 12
_SAME: Final = 0.9
_FRAME_SECONDS: Final = 0.02
_FEWEST_FRAMES: Final = 8
"""A clip of 40 ms is cut into this many."""

_LEAST_SHARED_FRAMES: Final = 3
_LEAST_SHARE: Final = 0.25
_ROWS_AT_ONCE: Final = 2048


@dataclass(frozen=True)
class Copy:
    """Two recordings that hold the same sound.

    Attributes
    ----------
    first, second : int
        Their indices, first < second.
    shift : float
        Seconds by which the sound comes later in the second.
    """

    first: int
    second: int
    shift: float


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
    root = {str(name): str(name) for name in np.unique(groups)}

    def find(name: str) -> str:
        while root[name] != name:
            root[name] = root[root[name]]
            name = root[name]
        return name

    for left, right in pairs:
        first, second = sorted((find(str(groups[left])), find(str(groups[right]))))
        root[second] = first
    return np.array([find(str(name)) for name in groups], dtype=np.str_)


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
    frame = max(8, min(round(_FRAME_SECONDS * rate), min(x.size, y.size) // _FEWEST_FRAMES))
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
