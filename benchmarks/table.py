"""The rows of the table, each with what must and what should be reached."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from audio_pipeline.model.classifier import load_classifier
from benchmarks.measure import alternate, batch_seconds, command, machine, product
from benchmarks.references import REFERENCES, decode_media
from benchmarks.sounds import FILE_FORMATS, PHONE_FORMATS, write_long, write_some


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Parameters
    ----------
    files, slow_files
        Recordings for the product, and for pipelines that take half a second each.
    rounds
        Turns each takes.
    lengths
        Seconds of the recordings for cost and memory by length.
    parallel_files
        Recordings for one against two processes.
    parallel_rounds
        Turns each of these takes: whatever else the machine does makes wall time uneven.
    commands
        Runs of each short command.
    """

    files: int = 96
    slow_files: int = 3
    rounds: int = 12
    lengths: tuple[float, ...] = (1.0, 5.0, 60.0, 300.0, 3600.0)
    parallel_files: int = 2000
    parallel_rounds: int = 3
    commands: int = 4


QUICK = Scale(2, 1, 1, (1.0, 5.0), 8, 1, 1)
TEN_HOURS = 36_000.0


@dataclass(frozen=True)
class Row:
    """One line: a number, its unit, and the bounds it is held to (None: none)."""

    what: str
    value: float
    unit: str
    must: float | None = None
    goal: float | None = None
    more_is_better: bool = True

    def reaches(self, bound: float | None) -> bool | None:
        """Tell whether a bound is reached; None without a bound."""
        if bound is None:
            return None
        return self.value >= bound if self.more_is_better else self.value <= bound


def measure(scratch: Path, scale: Scale, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure everything and return plain values for JSON."""
    found: dict[str, Any] = {"machine": machine(), "scale": asdict(scale)}
    parts: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("one core, WAV", partial(against_references, scratch, scale)),
        ("formats", partial(by_format, scratch, scale)),
        ("lengths", partial(by_length, scratch, scale)),
        ("processes", partial(by_jobs, scratch, scale)),
        ("commands", partial(commands, scratch, scale)),
    )
    for name, part in parts:
        say(f"measuring: {name}")
        found[name] = part()
    return found


def against_references(scratch: Path, scale: Scale) -> dict[str, Any]:
    """Compare on 5 s WAV files, everything included."""
    paths = write_some(scratch / "wav", max(scale.files, scale.slow_files), 5.0)
    few = paths[: scale.slow_files]
    ours = partial(product, classifier=load_classifier())
    work = {"crepitus batch": (ours, paths)}
    for name, reference in REFERENCES.items():
        work[name] = (reference, paths if reference.__name__.startswith("decode") else few)
    return {name: asdict(cost) for name, cost in alternate(work, scale.rounds).items()}


def by_format(scratch: Path, scale: Scale) -> dict[str, Any]:
    """Cost of a 5 s file in each format; for phone formats decoding alone as well."""
    ours = partial(product, classifier=load_classifier())
    work = {}
    for kind in (*FILE_FORMATS, *PHONE_FORMATS):
        # Enough that the fixed cost of a batch, 6 ms, is no part of what a file costs.
        paths = write_some(scratch / kind, max(1, scale.files // 2), 5.0, kind)
        work[kind] = (ours, paths)
        if kind in PHONE_FORMATS:
            work[f"{kind}, PyAV decode alone"] = (decode_media, paths)
    return {name: asdict(cost) for name, cost in alternate(work, scale.rounds).items()}


def by_length(scratch: Path, scale: Scale) -> dict[str, Any]:
    """CPU time for a second of sound and peak memory, by length of the file."""
    ours = partial(product, classifier=load_classifier())
    found = {}
    for seconds in scale.lengths:
        if seconds <= 60:
            count = max(1, min(scale.files, round(120 / seconds)))
            paths = write_some(scratch / f"length{seconds:g}", count, seconds)
        else:
            paths = [write_long(scratch / f"length{seconds:g}.wav", seconds)]
        rounds = scale.rounds if seconds <= 300 else 1
        cost = alternate({"": (ours, paths)}, rounds)[""]
        out = scratch / f"out{seconds:g}"
        memory = command("batch", paths[0], "-o", out, "--jobs", "1", "--restart")
        found[f"{seconds:g}"] = {
            "cpu_ms_per_second": 1000 * cost.least / seconds,
            "memory_mb": memory["memory"],
        }
        if seconds > 300:
            paths[0].unlink()
    return found


def by_jobs(scratch: Path, scale: Scale) -> dict[str, Any]:
    """Wall seconds of the command with one and two processes, start-up included."""
    some = write_some(scratch / "some", min(scale.parallel_files, 200), 5.0)
    many = scratch / "many"
    many.mkdir(exist_ok=True)
    for number in range(scale.parallel_files):
        path = many / f"{number:05}.wav"
        if not path.exists():
            path.hardlink_to(some[number % len(some)])
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(scale.parallel_rounds):
        for jobs, found in seconds.items():
            found.append(batch_seconds(many, jobs))
    return {str(jobs): min(found) for jobs, found in seconds.items()}


def commands(scratch: Path, scale: Scale) -> dict[str, Any]:
    """Wall seconds of short commands, warm."""
    (path,) = write_some(scratch / "one", 1, 5.0)
    answers = scratch / "answers.json"
    answers.write_text("{}")
    tried = {
        "crepitus --help": ("--help",),
        "crepitus --version": ("--version",),
        "crepitus triage": ("triage", "--answers", answers, "--json"),
        "crepitus questions": ("questions",),
        "crepitus devices": ("devices",),
        "crepitus analyze, 5 s file": ("analyze", path, "--json"),
    }
    return {
        name: min(command(*arguments)["wall"] for _ in range(scale.commands))
        for name, arguments in tried.items()
    }


def rows(found: dict[str, Any]) -> list[Row]:
    """Return the lines of the table from what was measured."""
    core = {name: cost["least"] for name, cost in found["one core, WAV"].items()}
    ours = core["crepitus batch"]
    lengths = found["lengths"]
    table = [
        Row("one core, 5 s WAV, against the tutorial", core["tutorial"] / ours, "x", 35, 45),
        Row("... against per-segment librosa", core["per segment"] / ours, "x", 20, 35),
        Row(
            "... cost relative to decode + soxr + one STFT",
            ours / core["decode + soxr + one STFT"],
            "x",
            2.5,
            1.7,
            more_is_better=False,
        ),
        Row("... CPU time a file", 1000 * ours, "ms"),
        Row("... speed", 5.0 / ours, "x real time"),
    ]
    formats = {name: cost["least"] for name, cost in found["formats"].items()}
    for kind in PHONE_FORMATS:
        ratio = formats[kind] / formats[f"{kind}, PyAV decode alone"]
        what = f"{kind}, cost relative to PyAV decode alone"
        table.append(Row(what, ratio, "x", 3.0, 2.0, more_is_better=False))
    if {"300", "3600"} <= lengths.keys():
        hour = lengths["3600"]["memory_mb"]
        ratio = hour / lengths["300"]["memory_mb"]
        table.append(Row("one hour, peak memory", hour, "MB", 450, more_is_better=False))
        what = "... relative to five minutes"
        table.append(Row(what, ratio, "x", 1.15, more_is_better=False))
    jobs = found["processes"]
    table.append(Row("two processes against one", jobs["1"] / jobs["2"], "x", 1.6, 1.9))
    old = found["machine"]["librosa"].startswith("0.")
    for name, wall in found["commands"].items():
        must, goal = (3.2 if old else 2.3, 1.5) if "analyze" in name else (0.4, 0.2)
        table.append(Row(name, wall, "s", must, goal, more_is_better=False))
    return table
