"""Small charts as SVG text: shares against shares, and figures with their intervals.

Made by hand like the other pictures of a page, so that a report opens anywhere, a model card needs
no plotting library, and the same figures give the same bytes.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from audio_pipeline.app.text import visible_lines

_COLOURS = ("#1b6ca8", "#c8553d", "#2e7d32", "#7b4fa3", "#8a6d00", "#00796b")
_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 30, 44
_ROW = 22
_NAME_WIDTH = 230
_BAR_WIDTH = 300

Series = tuple[str, Sequence[tuple[float, float]]]


def share_chart(
    title: str, across: str, up: str, series: Sequence[Series], diagonal: bool = False
) -> str:
    """Draw lines between shares.

    Parameters
    ----------
    title, across, up : str
        What is shown, and the names of the axes.
    series : sequence of (name, points)
        Points (x, y), both in [0, 1].
    diagonal : bool
        Draw where x equals y, for calibration.

    Returns
    -------
    str
        An SVG document that names what it shows for screen readers.
    """
    parts = [_opening(_WIDTH, _HEIGHT, title)]
    for tick in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
        x, y = _x(tick), _y(tick)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{tick:.1f}", "end"))
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, f"{tick:.1f}", "middle"))
    if diagonal:
        ends = f"M{_x(0):.1f} {_y(0):.1f}L{_x(1):.1f} {_y(1):.1f}"
        parts.append(f'<path d="{ends}" stroke="#999" stroke-dasharray="4 4"/>')
    for number, (name, points) in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [f"{_x(x):.1f} {_y(y):.1f}" for x, y in points]
        if places:
            parts.append(
                f'<path d="M{"L".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts += [
                f'<circle cx="{place.split()[0]}" cy="{place.split()[1]}" r="2.5" fill="{colour}"/>'
                for place in places
            ]
        if len(series) > 1:
            parts.append(_text(_LEFT + 8, _TOP + 14 + 15 * number, name, "start", colour))
    parts.append(_text(_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2, _HEIGHT - 8, across, "middle"))
    parts.append(_text(_LEFT, _TOP - 12, up, "start"))
    return "".join([*parts, "</svg>\n"])


def interval_chart(
    title: str, rows: Sequence[tuple[str, float | None, float | None, float | None]]
) -> str:
    """Draw one bar a row, with its interval.

    Parameters
    ----------
    title : str
    rows : sequence of (name, value, low, high)
        In [0, 1]; None is left out.

    Returns
    -------
    str
        An SVG document.
    """
    height = _TOP + _ROW * len(rows) + 10
    parts = [_opening(_NAME_WIDTH + _BAR_WIDTH + 60, height, title)]
    for number, (name, value, low, high) in enumerate(rows):
        top = _TOP + _ROW * number
        shown = name if len(name) <= 34 else f"{name[:33]}…"
        parts.append(_text(_NAME_WIDTH - 8, top + 14, shown, "end"))
        if value is None:
            continue
        parts.append(
            f'<rect x="{_NAME_WIDTH}" y="{top + 3}" width="{_BAR_WIDTH * value:.1f}" height="14" '
            f'fill="{_COLOURS[0]}"/>'
        )
        if low is not None and high is not None:
            left, right = (_NAME_WIDTH + _BAR_WIDTH * share for share in (low, high))
            line = f"M{left:.1f} {top + 10}H{right:.1f}"
            parts.append(f'<path d="{line}" stroke="#111" stroke-width="2"/>')
        end = max(value, high or 0.0)
        parts.append(_text(_NAME_WIDTH + _BAR_WIDTH * end + 6, top + 14, f"{value:.2f}", "start"))
    return "".join([*parts, "</svg>\n"])


def _opening(width: int, height: int, title: str) -> str:
    shown = html.escape(visible_lines(title))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{shown}" font-family="sans-serif" '
        f'font-size="11"><title>{shown}</title><rect width="100%" height="100%" fill="#fff"/>'
    )


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#222") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
        f"{html.escape(visible_lines(text))}</text>"
    )


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)
