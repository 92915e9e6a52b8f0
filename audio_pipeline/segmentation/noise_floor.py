"""The noise floor of each band: what a sound has to stand out from.

The floor is learnt only from the past, on a fixed grid of blocks of about 0.19 s, and only from
*stationary* moments where there are any: the level of quiet, of hiss or of a fan hardly moves
within a block, the level of a pop, of grinding or of speech does. A clip cut around its event has
no quiet at all; its floor is the quietest moment of the sound itself. Digitally silent frames carry
no information and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class NoiseFloorConfig:
    """How the floor is learnt; times in seconds, levels in dB.

    Raises
    ------
    ValueError
        If a value lies outside its range.
    """

    block_duration: float = 0.186
    #: The floor is learnt from this much of the past.
    window: float = 6.0
    #: The first floor is learnt from this much of the first sound: the one place that looks ahead.
    warm_up: float = 0.5
    #: A block is stationary when its broadband level spans less than this (60th minus 10th
    #: percentile).
    stationarity_threshold_db: float = 4.5
    #: The floor is never further below the loudest moment of its window than this: clips cut to
    #: digital silence would otherwise make the last bits of a codec stand out.
    max_range_db: float = 60.0
    #: Without a stationary block, the floor is at least this far below the loudest moment of its
    #: band.
    min_range_db: float = 20.0
    #: Number of bands, counted from the one that stands out most, whose mean is the SNR.
    top_bands: int = 5

    def __post_init__(self) -> None:
        for name, low, high in (
            ("block_duration", 0.01, 5.0),
            ("window", 0.01, 60.0),
            ("warm_up", 0.01, 0.5),
            ("stationarity_threshold_db", 0.0, 200.0),
            ("max_range_db", 0.0, 200.0),
            ("min_range_db", 0.0, 200.0),
            ("top_bands", 1, 64),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} must be from {low:g} to {high:g}, not {value:g}")


class _Blocks(NamedTuple):
    """What is remembered of n blocks.

    ``low, lowest, highest``: in dB: the level that a fifth and a twentieth of the frames stay
        below, and the highest.
    """

    stationary: NDArray[np.bool_]
    low: Float32
    lowest: Float32
    highest: Float32

    @classmethod
    def blank(cls, count: int, bands: int) -> _Blocks:
        """Return blocks that bear on no floor."""
        high = np.full((bands, count), np.inf, np.float32)
        return cls(np.zeros(count, bool), high, high, -high)

    def then(self, later: _Blocks) -> _Blocks:
        """Return these blocks and later ones."""
        return _Blocks(
            np.concatenate([self.stationary, later.stationary]),
            np.concatenate([self.low, later.low], axis=1),
            np.concatenate([self.lowest, later.lowest], axis=1),
            np.concatenate([self.highest, later.highest], axis=1),
        )

    def last(self, count: int) -> _Blocks:
        """Return the last blocks, at least one."""
        last = slice(-count, None)
        return _Blocks(
            self.stationary[last], self.low[:, last], self.lowest[:, last], self.highest[:, last]
        )


class NoiseFloor:
    """Turns levels into SNR over a running noise floor.

    Parameters
    ----------
    config : NoiseFloorConfig
        How the floor is learnt.
    bands : int
        Number of bands.
    frame_rate : float
        Frames a second.
    """

    def __init__(self, config: NoiseFloorConfig, bands: int, frame_rate: float) -> None:
        self.config = config
        self._block = max(4, round(config.block_duration * frame_rate))
        self.warm_up_frames = max(1, int(config.warm_up * frame_rate / self._block)) * self._block
        self._window = max(1, round(config.window * frame_rate / self._block))
        self._past = _Blocks.blank(self._window, bands)
        self._learnt = 0
        self._blocks_passed = 0
        self._waiting = np.empty((bands, 0), np.float32)  # frames of the block under way
        # Nothing stands out of a floor that is not known yet.
        self._first: Float32 = np.full((bands, 1), np.inf, np.float32)

    def snr(self, levels: Float32) -> Float32:
        """Return how far the next frames stand out over the floor.

        Parameters
        ----------
        levels : ndarray of float32, shape (bands, n)
            dB, ``-inf`` where digitally silent. The first call brings `warm_up_frames` frames, the
            first not silent, or all there are.

        Returns
        -------
        ndarray of float32, shape (n,)
            dB, never below zero: the mean of the bands that stand out most. The mean of a few bands
            finds a sound whatever its spectrum, which differs tenfold with the channel.
        """
        bands, count = levels.shape
        if not count:
            return np.empty(0, np.float32)
        known = self._waiting.shape[1]
        if self._blocks_passed == 0 and not known:
            self._begin(levels[:, : self.warm_up_frames])
        frames = np.concatenate([self._waiting, levels], axis=1) if known else levels
        whole = frames.shape[1] // self._block
        blocks = frames[:, : whole * self._block].reshape(bands, whole, self._block)
        floors = self._floors(blocks, -(-frames.shape[1] // self._block))
        self._waiting = frames[:, whole * self._block :].copy()
        floor = np.repeat(floors, self._block, axis=1)[:, known : frames.shape[1]]
        excess = np.maximum(levels - floor, 0.0)
        top = min(self.config.top_bands, bands)
        excess.sort(axis=0)
        # Row by row: the order in which numpy adds within a column depends on how many there are.
        total: Float32 = excess[-top]
        for row in excess[bands - top + 1 :]:
            total += row
        total /= np.float32(top)
        return total

    def _begin(self, levels: Float32) -> None:
        """Take the first floor from the first sound."""
        heard = levels[:, np.isfinite(levels[0])]
        if heard.shape[1] >= 2:
            first = self._past.then(self._measure(heard[:, None]))
            self._first = self._floors_over(first, np.array([1]))

    def _floors(self, blocks: Float32, count: int) -> Float32:
        """Return the floors of the next blocks, float32 (bands, count) in dB, and learn from them.

        ``blocks``: those of them that are whole, n <= count.
        ``count``: number of blocks that have begun.
        """
        heard = np.isfinite(blocks[0])
        if heard.all():
            enough = np.ones(blocks.shape[1], bool)
            new = self._measure(blocks)
        else:
            enough = np.count_nonzero(heard, axis=1) >= self._block // 4
            new = _Blocks.blank(0, len(blocks))
            for index in np.flatnonzero(enough):
                new = new.then(self._measure(blocks[:, index, heard[index]][:, None]))
        known = self._past.then(new)
        before = np.zeros(count, np.intp)  # new blocks that each block has behind it
        before[1:] = np.cumsum(enough)[: count - 1]
        floors = self._floors_over(known, before)
        early = (self._blocks_passed + np.arange(count)) * self._block < self.warm_up_frames
        floors[:, early | (self._learnt + before == 0)] = self._first
        self._past = known.last(self._window)
        self._learnt += len(new.stationary)
        self._blocks_passed += blocks.shape[1]
        return floors

    def _measure(self, blocks: Float32) -> _Blocks:
        """Measure levels without silence, float32 (bands, n, frames)."""
        frames = blocks.shape[2]
        lowest, quiet, low, middle = (int(share * (frames - 1)) for share in (0.05, 0.1, 0.2, 0.6))
        broad = np.sort(blocks.mean(axis=0), axis=1)
        span = broad[:, middle] - broad[:, quiet]
        stationary = span < self.config.stationarity_threshold_db
        stationary &= frames >= self._block // 2
        # To sort whole rows takes a sixth of the time of picking a few ranks.
        ranked = np.sort(blocks, axis=2)
        return _Blocks(stationary, ranked[:, :, low], ranked[:, :, lowest], ranked[:, :, -1])

    def _floors_over(self, blocks: _Blocks, before: NDArray[np.intp]) -> Float32:
        """Return floors, float32 (bands, m), each over the window of blocks from `before` on."""
        windows = before[:, None] + np.arange(self._window)
        stationary = blocks.stationary[windows].sum(axis=1)
        quiet = np.where(blocks.stationary, blocks.low, np.float32(np.inf))
        ranked = np.sort(quiet[:, windows], axis=2)
        floors: Float32 = ranked[:, np.arange(len(before)), np.maximum(0, stationary - 1) // 4]
        for index in np.flatnonzero(stationary == 0):
            window = windows[index]
            most = blocks.highest[:, window].max(axis=1) - np.float32(self.config.min_range_db)
            floors[:, index] = np.minimum(blocks.lowest[:, window].min(axis=1), most)
        loudest = blocks.highest.max(axis=0)[windows].max(axis=1)
        np.maximum(floors, loudest - np.float32(self.config.max_range_db), out=floors)
        return floors
