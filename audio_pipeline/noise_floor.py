"""The noise floor of each band: what a sound has to stand out from.

The floor is learnt only from the past, on a fixed grid of cells of about 0.19 s, and only from
*steady* moments where there are any: the level of quiet, of hiss or of a fan hardly moves within a
cell, the level of a pop, of grinding or of speech does. A clip cut around its event has no quiet at
all; its floor is the quietest moment of the sound itself. Digitally silent frames carry no
information and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

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
        memory = max(1, round(settings.memory * frame_rate / self.cell))
        self._steady = np.zeros(memory, bool)
        self._low, self._lowest, self._highest = np.zeros((3, memory, bands), np.float32)
        self._learnt = 0
        self._cells_passed = 0
        self._waiting = np.empty((0, bands), np.float32)  # frames of the cell under way
        self._start: Float32 | None = None

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
        heard = bool(np.isfinite(cells[:, :, 0]).all())
        statistics = self._statistics(cells) if heard and whole else None
        excess = np.zeros_like(levels)
        for index in range(-(-len(frames) // self.cell)):
            floor = self._floor()
            rows = slice(max(0, index * self.cell - known), (index + 1) * self.cell - known)
            if floor is not None:
                np.subtract(levels[rows], floor, out=excess[rows])
            if index < whole:
                self._learn(cells[index], statistics, index)
        self._waiting = frames[whole * self.cell :].copy()
        np.maximum(excess, 0.0, out=excess)
        top = self.settings.top_bands
        if excess.shape[1] > top:
            excess = np.partition(excess, excess.shape[1] - top, axis=1)[:, -top:]
        mean: Float32 = excess.mean(axis=1)
        return mean

    def _statistics(self, cells: Float32) -> tuple[NDArray[np.bool_], Float32, Float32, Float32]:
        """Return (steady, low, lowest, highest) of (n, frames, bands) levels without silence."""
        frames = cells.shape[1]
        lowest, quiet, low, middle = (int(share * (frames - 1)) for share in (0.05, 0.1, 0.2, 0.6))
        broad = np.partition(cells.mean(axis=2), [quiet, middle], axis=1)
        span = broad[:, middle] - broad[:, quiet]
        steady = (span < self.settings.steady_range) & (frames >= self.cell // 2)
        ordered = np.partition(cells, [lowest, low], axis=1)
        return steady, ordered[:, low], ordered[:, lowest], cells.max(axis=1)

    def _begin(self, levels: Float32) -> None:
        heard = levels[np.isfinite(levels[:, 0])]
        if len(heard) >= 2:
            self._start = self._combined(*self._statistics(heard[None]))

    def _learn(
        self,
        cell: Float32,
        statistics: tuple[NDArray[np.bool_], Float32, Float32, Float32] | None,
        index: int,
    ) -> None:
        self._cells_passed += 1
        if statistics is None:
            heard = cell[np.isfinite(cell[:, 0])]
            if len(heard) < self.cell // 4:
                return
            statistics, index = self._statistics(heard[None]), 0
        place = self._learnt % len(self._steady)
        steady, low, lowest, highest = statistics
        self._steady[place] = steady[index]
        self._low[place] = low[index]
        self._lowest[place] = lowest[index]
        self._highest[place] = highest[index]
        self._learnt += 1

    def _floor(self) -> Float32 | None:
        """Return the floor of the next cell, float32 (bands,) in dB; None while all was silent."""
        known = min(self._learnt, len(self._steady))
        if known == 0 or self._cells_passed * self.cell < self.start_frames:
            return self._start
        return self._combined(
            self._steady[:known], self._low[:known], self._lowest[:known], self._highest[:known]
        )

    def _combined(
        self, steady: NDArray[np.bool_], low: Float32, lowest: Float32, highest: Float32
    ) -> Float32:
        loudest = float(highest.max())
        if steady.any():
            quiet = low[steady]
            rank = (len(quiet) - 1) // 4
            floor: Float32 = np.partition(quiet, rank, axis=0)[rank]
        else:
            most = highest.max(axis=0) - np.float32(self.settings.least_range)
            floor = np.minimum(lowest.min(axis=0), most)
        return np.maximum(floor, np.float32(loudest - self.settings.range))
