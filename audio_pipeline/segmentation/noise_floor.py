"""The noise floor of each band: what a sound has to stand out from.

The floor is learnt only from the past, on a fixed grid of cells of about 0.19 s, and only from
*steady* moments where there are any: the level of quiet, of hiss or of a fan hardly moves within a
cell, the level of a pop, of grinding or of speech does. A clip cut around its event has no quiet at
all; its floor is the quietest moment of the sound itself. Digitally silent frames carry no
information and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


@dataclass(frozen=True)
class FloorSettings:
    """How the floor is learnt; times in seconds, levels in dB."""

    cell: float = 0.186
    memory: float = 6.0
    #: The first floor is learnt from this much of the first sound: the one place that looks ahead.
    start: float = 0.5
    #: A cell is steady when its broadband level spans less than this (60th minus 10th percentile).
    steady_range: float = 4.5
    #: The floor is never further below the loudest moment in memory than this: clips cut to digital
    #: silence would otherwise make the last bits of a codec stand out.
    range: float = 60.0
    #: Without a steady moment, the floor is at least this far below the loudest moment of its band.
    least_range: float = 20.0
    #: Number of bands, counted from the one that stands out most, that make the elevation.
    top_bands: int = 5


class _Cells(NamedTuple):
    """What is remembered of n cells: their steadiness and, in dB, the levels of their bands.

    Attributes
    ----------
    steady
        bool (n,).
    low, lowest, highest
        float32 (n, bands): the level that a fifth and a twentieth of the frames stay below, and the
        highest.
    """

    steady: NDArray[np.bool_]
    low: Float32
    lowest: Float32
    highest: Float32

    @classmethod
    def blank(cls, count: int, bands: int) -> _Cells:
        """Return cells that bear on no floor."""
        high = np.full((count, bands), np.inf, np.float32)
        return cls(np.zeros(count, bool), high, high, -high)

    def then(self, later: _Cells) -> _Cells:
        """Return these cells and later ones."""
        return _Cells(
            np.concatenate([self.steady, later.steady]),
            np.concatenate([self.low, later.low]),
            np.concatenate([self.lowest, later.lowest]),
            np.concatenate([self.highest, later.highest]),
        )

    def last(self, count: int) -> _Cells:
        """Return the last cells, at least one."""
        last = slice(-count, None)
        return _Cells(self.steady[last], self.low[last], self.lowest[last], self.highest[last])


class NoiseFloor:
    """Turns band levels into elevation over a trailing floor.

    Parameters
    ----------
    settings
        How the floor is learnt.
    bands
        Number of bands.
    frame_rate
        Frames a second.
    """

    def __init__(self, settings: FloorSettings, bands: int, frame_rate: float) -> None:
        self.settings = settings
        self.cell = max(4, round(settings.cell * frame_rate))
        self.start_frames = max(1, int(settings.start * frame_rate / self.cell)) * self.cell
        self._memory = max(1, round(settings.memory * frame_rate / self.cell))
        self._past = _Cells.blank(self._memory, bands)
        self._learnt = 0
        self._cells_passed = 0
        self._waiting = np.empty((0, bands), np.float32)  # frames of the cell under way
        # Nothing stands out of a floor that is not known yet.
        self._start: Float32 = np.full(bands, np.inf, np.float32)

    def elevation(self, levels: Float32) -> Float32:
        """Return how far the next frames stand out over the floor.

        Parameters
        ----------
        levels
            float32 (n, bands) in dB, ``-inf`` where digitally silent. The first call brings
            `start_frames` frames, the first not silent, or all there are.

        Returns
        -------
        float32 (n,) in dB, never below zero: the mean of the bands that stand out most. The mean of
        a few bands finds a sound whatever its spectrum, which differs tenfold with the channel.
        """
        if not len(levels):
            return np.empty(0, np.float32)
        if self._cells_passed == 0 and not len(self._waiting):
            self._begin(levels[: self.start_frames])
        known = len(self._waiting)
        frames = np.concatenate([self._waiting, levels]) if known else levels
        whole = len(frames) // self.cell
        cells = frames[: whole * self.cell].reshape(whole, self.cell, levels.shape[1])
        floors = self._floors(cells, -(-len(frames) // self.cell))
        self._waiting = frames[whole * self.cell :].copy()
        # Band by band: numpy adds up long rows many times faster than short ones.
        floor = np.repeat(floors.T, self.cell, axis=1)[:, known : len(frames)]
        excess = np.subtract(levels.T, floor, order="C")
        np.maximum(excess, 0.0, out=excess)
        top = min(self.settings.top_bands, len(excess))
        excess.sort(axis=0)
        # Row by row: the order in which numpy adds within a column depends on how many there are.
        total: Float32 = excess[-top]
        for row in excess[len(excess) - top + 1 :]:
            total += row
        total /= np.float32(top)
        return total

    def _begin(self, levels: Float32) -> None:
        """Take the first floor from the first sound."""
        heard = levels[np.isfinite(levels[:, 0])]
        if len(heard) >= 2:
            first = self._past.then(self._measured(heard[None]))
            self._start = self._floors_over(first, np.array([1]))[0]

    def _floors(self, cells: Float32, count: int) -> Float32:
        """Return the floors of the next cells, float32 (count, bands) in dB, and learn from them.

        Parameters
        ----------
        cells
            float32 (n, frames, bands): those of them that are whole, n <= count.
        count
            Number of cells that have begun.
        """
        heard = np.isfinite(cells[:, :, 0])
        if heard.all():
            enough = np.ones(len(cells), bool)
            new = self._measured(cells)
        else:
            enough = np.count_nonzero(heard, axis=1) >= self.cell // 4
            new = _Cells.blank(0, cells.shape[2])
            for index in np.flatnonzero(enough):
                new = new.then(self._measured(cells[index, heard[index]][None]))
        known = self._past.then(new)
        before = np.zeros(count, np.intp)  # new cells that each cell has behind it
        before[1:] = np.cumsum(enough)[: count - 1]
        floors = self._floors_over(known, before)
        early = (self._cells_passed + np.arange(count)) * self.cell < self.start_frames
        floors[early | (self._learnt + before == 0)] = self._start
        self._past = known.last(self._memory)
        self._learnt += len(new.steady)
        self._cells_passed += len(cells)
        return floors

    def _measured(self, cells: Float32) -> _Cells:
        """Measure (n, frames, bands) levels without silence."""
        frames = cells.shape[1]
        lowest, quiet, low, middle = (int(share * (frames - 1)) for share in (0.05, 0.1, 0.2, 0.6))
        by_band = np.ascontiguousarray(cells.swapaxes(1, 2))
        broad = np.sort(by_band.mean(axis=1), axis=1)
        span = broad[:, middle] - broad[:, quiet]
        steady = (span < self.settings.steady_range) & (frames >= self.cell // 2)
        # To sort whole rows takes a sixth of the time of picking a few ranks.
        by_band.sort(axis=2)
        return _Cells(steady, by_band[:, :, low], by_band[:, :, lowest], by_band[:, :, -1])

    def _floors_over(self, cells: _Cells, before: NDArray[np.intp]) -> Float32:
        """Return floors, float32 (m, bands), each over the `memory` cells from `before` on."""
        windows = before[:, None] + np.arange(self._memory)
        steady = cells.steady[windows].sum(axis=1)
        quiet = np.where(cells.steady, cells.low.T, np.float32(np.inf))
        ranked = np.sort(quiet[:, windows], axis=2)
        floors: Float32 = ranked[:, np.arange(len(before)), np.maximum(0, steady - 1) // 4].T
        loudest = cells.highest.max(axis=1)[windows].max(axis=1, keepdims=True)
        for index in np.flatnonzero(steady == 0):
            most = cells.highest[windows[index]].max(axis=0) - np.float32(self.settings.least_range)
            floors[index] = np.minimum(cells.lowest[windows[index]].min(axis=0), most)
        np.maximum(floors, loudest - np.float32(self.settings.range), out=floors)
        return floors
