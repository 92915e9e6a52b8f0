"""The measured part of ``docs/performance.md``: a table and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.table import Row, rows

MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"


def text(found: dict[str, Any], plot: str) -> str:
    """Return what was measured as Markdown."""
    machine = found["machine"]
    spread = max(cost["spread"] for cost in found["one core, WAV"].values())
    lines = [
        f"Measured on {machine['processors']} processors, {machine['system']}, "
        f"Python {machine['python']}, numpy {machine['numpy']}, librosa {machine['librosa']}, "
        f"soundfile {machine['soundfile']}, PyAV {machine['av']}. Load before the run "
        f"{machine['load']:.1f}; the slowest round took up to {100 * spread:.0f} % longer than the "
        "fastest, which counts.",
        "",
        "| what | measured | must | goal |",
        "|---|---|---|---|",
        *(_line(row) for row in rows(found)),
        "",
        "| format | CPU ms for 5 s | x real time | decoding alone, ms |",
        "|---|---|---|---|",
    ]
    formats = found["formats"]
    for name, cost in formats.items():
        if "alone" not in name:
            alone = formats.get(f"{name}, PyAV decode alone")
            decode = f"{1000 * alone['least']:.1f}" if alone else ""
            least = cost["least"]
            lines.append(f"| {name} | {1000 * least:.1f} | {5 / least:.0f} | {decode} |")
    lines += ["", "| length of a WAV file, s | CPU ms a second of sound | peak memory, MB |"]
    lines += ["|---|---|---|"]
    for seconds, cost in found["lengths"].items():
        lines.append(f"| {seconds} | {cost['cpu_ms_per_second']:.2f} | {cost['memory_mb']:.0f} |")
    return "\n".join([*lines, "", f"![Ratios against their bounds]({plot})"])


def _line(row: Row) -> str:
    comparison = ">=" if row.more_is_better else "<="
    bounds = []
    for bound in (row.must, row.goal):
        reached = row.reaches(bound)
        mark = "" if reached is None else " yes" if reached else " **no**"
        bounds.append("" if bound is None else f"{comparison} {bound:g}:{mark}")
    return f"| {row.what} | {row.value:.3g} {row.unit} | {bounds[0]} | {bounds[1]} |"


def insert(page: Path, measured: str, part: str = "measured") -> None:
    """Put a measured part between its marks."""
    begin, end = (mark.format(part) for mark in MARKS)
    before, rest = page.read_text().split(begin)
    _, after = rest.split(end)
    page.write_text(f"{before}{begin}\n{measured}\n{end}{after}")


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw how far each bounded number is from its bounds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "crepitus"
    bounded = [row for row in rows(found) if row.must is not None]
    figure = Figure(figsize=(8, 0.42 * len(bounded) + 1), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(bounded)):
        assert row.must is not None
        better = row.value / row.must if row.more_is_better else row.must / row.value
        axes.barh(place, better, color="#2a6f97" if better >= 1 else "#c1121f")
        if row.goal is not None:
            goal = row.goal / row.must if row.more_is_better else row.must / row.goal
            axes.plot([goal, goal], [place - 0.4, place + 0.4], color="black")
    axes.axvline(1.0, color="grey", linestyle="--")
    axes.set_yticks(range(len(bounded)), [row.what for row in reversed(bounded)], fontsize=8)
    axes.set_xlabel("times better than it must be (line: the goal)")
    figure.savefig(path, metadata={"Date": None})
