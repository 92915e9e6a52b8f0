"""Waveform and spectrogram of a recording, made block by block by hand, and charts of figures.

A recording is drawn without a plotting library: its page must be made also where only the core is
installed, and an hour of sound must not need an hour's memory. Charts are matplotlib's.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.app.text import visible
from audio_pipeline.audio.recording import Recording, Source, open_recording

Float32 = NDArray[np.float32]

COLUMNS = 1000
ROWS = 128
FRAME = 512
HIGHEST_HZ = 16_000.0
"""Top of the picture; pops and grating on the skin of the back have little above it."""
FLOOR_DB = 70.0
QUIETEST_TOP_DB = -40.0
"""The loudest point is drawn bright, but not that of digital silence."""
FRAMES_PER_COLUMN = 12


@dataclass(frozen=True)
class Picture:
    """What is drawn of a recording."""

    lows: Float32  # float32 (columns,): smallest and largest sample of each column
    highs: Float32
    # float32 (rows, columns): loudest power of each column and frequency band in dB, row 0 at 0 Hz
    levels: Float32
    top_hz: float  # frequency of the upper edge


def draw(source: Source | Recording, duration: float) -> Picture:
    """Read a recording once and keep what a picture needs.

    With fewer than `COLUMNS` columns for very short recordings.
    Raises RecordingError when the recording can no longer be read.
    """
    with open_recording(source) as reader:
        rate = reader.sample_rate
        total = max(1, round(duration * rate))
        brush = _Brush(rate, total)
        for block in reader.blocks():
            brush.add(block)
    return brush.picture()


class _Brush:
    def __init__(self, rate: int, total: int) -> None:
        self._columns = min(COLUMNS, max(1, total // 16))
        self._total = total
        self._lows = np.zeros(self._columns, np.float32)
        self._highs = np.zeros(self._columns, np.float32)
        step = total / self._columns
        self._hop = max(FRAME // 4, int(step / FRAMES_PER_COLUMN))
        self._top_hz = min(HIGHEST_HZ, rate / 2)
        bins = max(1, int(self._top_hz / rate * FRAME))
        self._band = np.arange(bins) * min(ROWS, bins) // bins
        self._power = np.full((min(ROWS, bins), self._columns), 1e-12, np.float32)
        self._window = np.hanning(FRAME).astype(np.float32)
        self._position = 0
        self._next_frame = 0
        self._tail = np.zeros(0, np.float32)

    def add(self, block: Float32) -> None:
        """Take the next samples, float32 (n,); NaN and infinity are drawn as silence."""
        block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        columns = self._column(np.arange(self._position, self._position + len(block)))
        starts = np.flatnonzero(np.diff(columns, prepend=-1))
        at = columns[starts]
        self._lows[at] = np.minimum(self._lows[at], np.minimum.reduceat(block, starts))
        self._highs[at] = np.maximum(self._highs[at], np.maximum.reduceat(block, starts))
        self._add_frames(np.concatenate((self._tail, block)), self._position - len(self._tail))
        self._position += len(block)

    def _add_frames(self, samples: Float32, offset: int) -> None:
        first = self._next_frame - offset
        if len(samples) - first >= FRAME:
            frames = np.lib.stride_tricks.sliding_window_view(samples[first:], FRAME)[:: self._hop]
            spectrum = np.fft.rfft(frames * self._window, axis=1)[:, : len(self._band)]
            power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
            edges = np.flatnonzero(np.diff(self._band, prepend=-1))
            bands = np.maximum.reduceat(power, edges, axis=1)
            middles = self._next_frame + self._hop * np.arange(len(frames)) + FRAME // 2
            np.maximum.at(self._power.T, self._column(middles), bands)
            self._next_frame += self._hop * len(frames)
        keep = min(len(samples), max(0, len(samples) - (self._next_frame - offset)))
        self._tail = samples[len(samples) - keep :]

    def _column(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        column: NDArray[np.int64] = np.minimum(
            samples * self._columns // self._total, self._columns - 1
        )
        return column

    def picture(self) -> Picture:
        """Return what has been drawn so far."""
        levels = 10 * np.log10(self._power)
        return Picture(self._lows, self._highs, levels, self._top_hz)


def waveform_svg(picture: Picture, height: int = 90) -> str:
    """Return the waveform as an SVG that stretches to any width; the loudest sample fills it."""
    largest = max(float(np.abs(picture.lows).max()), float(picture.highs.max()), 1e-6)
    middle = height / 2
    scale = (middle - 1) / largest
    tops = middle - picture.highs * scale
    bottoms = np.maximum(middle - picture.lows * scale, tops + 0.6)
    lines = "".join(
        f"M{column + 0.5} {top:.1f}V{bottom:.1f}"
        for column, (top, bottom) in enumerate(zip(tops, bottoms, strict=True))
    )
    return (
        f'<svg class="waveform" viewBox="0 0 {len(tops)} {height}" preserveAspectRatio="none"'
        f' aria-hidden="true"><path d="{lines}" fill="none" stroke="currentColor"'
        ' stroke-width="1"/></svg>'
    )


def spectrogram_png(picture: Picture) -> bytes:
    """Return the spectrogram as a PNG, low frequencies at the bottom, the loudest point bright."""
    levels = picture.levels[::-1]
    shares = np.clip(1 + (levels - max(float(levels.max()), QUIETEST_TOP_DB)) / FLOOR_DB, 0, 1)
    return indexed_png((255 * shares).astype(np.uint8), heat_palette())


def heat_palette() -> NDArray[np.uint8]:
    """Return 256 colours, (256, 3), dark blue to yellow: told apart also without red and green."""
    share = np.linspace(0, 1, 256)
    red = 255 * np.minimum(1, 1.6 * share)
    green = 230 * share**1.3
    blue = 90 + 70 * np.sin(np.pi * share)
    return np.stack((red, green, blue), axis=1).astype(np.uint8)


def indexed_png(pixels: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """Return a PNG of 8-bit palette indices.

    ``pixels``: uint8 (height, width).
    ``palette``: uint8 (256, 3), red, green, blue.
    """
    import av

    opaque = np.insert(palette, 0, 255, axis=1)
    frame = av.VideoFrame.from_ndarray((pixels, opaque), "pal8")
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, "pal8"
    codec.time_base = codec.sample_aspect_ratio = Fraction(1)  # of a film of one picture
    return b"".join(map(bytes, codec.encode(frame) + codec.encode(None)))


def share_chart(
    title: str,
    across: str,
    up: str,
    points: Sequence[tuple[float, float]],
    *,
    diagonal: bool = False,
) -> str:
    """Draw a line between shares.

    ``title, across, up``: what is shown, and the names of the axes.
    ``points``: both in [0, 1].
    ``diagonal``: draw where x equals y, for calibration.
    An SVG element that says what it shows; empty where matplotlib is not installed.
    """

    def draw_line(axes: Any) -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color="#999", linestyle="--", linewidth=1)
        axes.plot(*zip(*points, strict=True) if points else ([], []), marker="o", markersize=3)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=across, ylabel=up)
        axes.grid(color="#ddd")

    return _chart(title, (5.0, 3.6), draw_line)


def interval_chart(
    title: str, rows: Sequence[tuple[str, float | None, float | None, float | None]]
) -> str:
    """Draw one bar per row, with its interval.

    ``rows``: in [0, 1]; None is left out.
    """

    def draw_bars(axes: Any) -> None:
        values = [0.0 if value is None else value for _, value, _, _ in rows]
        axes.barh(range(len(rows)), values, height=0.7)
        for number, (_, _, low, high) in enumerate(rows):
            if low is not None and high is not None:
                axes.plot([low, high], [number, number], color="#111")
        names = [visible(name if len(name) <= 34 else f"{name[:33]}…") for name, *_ in rows]
        axes.set_yticks(range(len(rows)), [name.replace("$", r"\$") for name in names])
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))

    return _chart(title, (7.0, 0.9 + 0.24 * len(rows)), draw_bars)


def plan_chart(
    what: str, wanted: float, curve: Sequence[tuple[int, float, float, float]], kind: str
) -> bytes:
    """Draw how wide an interval is by the number of people, and where the wanted width lies.

    ``what``: the share that is planned for.
    ``curve``: people, width expected, and its lowest and highest value over other pilots.
    ``kind``: "svg" or "png". Nothing comes back where matplotlib is not installed.
    """
    people, expected, low, high = zip(*curve, strict=True)

    def draw_curve(axes: Any) -> None:
        axes.fill_between(people, low, high, alpha=0.25, label="80 % of pilots like this one")
        axes.plot(people, expected, marker="o", markersize=3, label="expected")
        axes.axhline(wanted, color="#999", linestyle="--", linewidth=1, label="wanted")
        axes.set(xscale="log", ylim=(0, None), xlabel="people", ylabel="width of the 95 % interval")
        axes.set_xticks(people, [str(one) for one in people], minor=False)
        axes.minorticks_off()
        axes.grid(color="#ddd")
        axes.legend()

    return _figure(what, (6.4, 4.0), draw_curve, kind)


def _chart(title: str, inches: tuple[float, float], draw_on: Callable[[Any], None]) -> str:
    """Return a figure of matplotlib as an SVG element, the same bytes for the same figures."""
    element = _figure(title, inches, draw_on, "svg").decode().partition("<svg")[2]
    return f'<svg role="img" aria-label="{html.escape(title)}"{element}' if element else ""


def _figure(
    title: str, inches: tuple[float, float], draw_on: Callable[[Any], None], kind: str
) -> bytes:
    """Return a figure of matplotlib as an SVG or PNG file; nothing without matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:  # the extra `report`
        return b""
    file = io.BytesIO()
    style = {"svg.hashsalt": "crepitus", "svg.fonttype": "none", "font.size": 9}
    told = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with mpl.rc_context(style), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a name may have letters that no font has
        figure = Figure(figsize=inches, layout="constrained")
        axes = figure.subplots()
        axes.set_title(visible(title).replace("$", r"\$"), loc="left")
        draw_on(axes)
        figure.savefig(file, format=kind, metadata=told)
    return file.getvalue()
