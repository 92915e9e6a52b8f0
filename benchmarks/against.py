"""Compare with another revision, in turn in one run: ``python -m benchmarks --against REV``.

Each version is a process of its own, from its own checkout with its own default model, and warm
before it is measured: it does whole batches (listing, analysis, store, tables) when told to, and
says how much CPU time each took. Start-up is measured by import.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import machine, one_thread
from benchmarks.references import tutorial
from benchmarks.sounds import write_some

ROOT = Path(__file__).parent.parent

MUST, GOAL = 1.5, 1.2
"""What the batch of WAV files may cost relative to revision cf6f0c4."""

FORMATS = ("wav", "m4a", "opus")

# Only what the package exports, so that it runs with any revision.
_SERVER = """
import sys, tempfile, time
from pathlib import Path
from audio_pipeline import BatchRequest, load_classifier, run_batch
classifier = load_classifier()
print("ready", flush=True)
for folder in map(str.rstrip, sys.stdin):
    with tempfile.TemporaryDirectory() as out:
        began = time.process_time()
        run_batch(BatchRequest((folder,), Path(out), jobs=1), classifier)
        print(time.process_time() - began, flush=True)
"""

_PACKAGES_SHOWN = 10


@contextmanager
def checkout(revision: str) -> Iterator[Path]:
    """Give a temporary work tree of a revision.

    Raises
    ------
    SystemExit
        When git does not know it.
    """
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        made = subprocess.run(
            [*git, "add", "--detach", str(tree), revision], capture_output=True, text=True
        )
        if made.returncode:
            sys.exit(f"no such revision {revision!r}: {made.stderr.strip()}")
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True, capture_output=True)


class Version:
    """A checkout of the package, and a process that does batches with it."""

    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._environment = {**one_thread(), "PYTHONPATH": str(tree)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=tree,
        )
        self._read()

    def __enter__(self) -> Version:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a version ended; what it said stands above")
        return line

    def batch(self, folder: Path) -> float:
        """Do a batch and return its CPU seconds."""
        assert self._process.stdin is not None
        print(folder, file=self._process.stdin, flush=True)
        return float(self._read())

    def start(self, *arguments: str | Path) -> dict[str, Any]:
        """Run a command twice: for its wall and CPU seconds, and for those of each import."""
        used, began = _children_cpu(), time.perf_counter()
        self._run([], arguments)
        wall, cpu = time.perf_counter() - began, _children_cpu() - used
        said = self._run(["-X", "importtime"], arguments)
        return {"wall": wall, "cpu": cpu, "imports": by_package(said)}

    def _run(self, options: list[str], arguments: Sequence[str | Path]) -> str:
        """Run a command of this version; return what it says on standard error."""
        ended = subprocess.run(
            [sys.executable, *options, "-m", "audio_pipeline", *map(str, arguments)],
            env=self._environment,
            cwd=self._tree,
            capture_output=True,
            text=True,
            check=True,
        )
        return ended.stderr


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def by_package(said: str) -> dict[str, float]:
    """Return the seconds of import by package from what ``-X importtime`` printed."""
    seconds: dict[str, float] = {}
    for line in said.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and len(parts) == 3 and parts[0].strip().isdigit():
            package = parts[2].strip().partition(".")[0]
            if package in sys.stdlib_module_names:
                package = "Python's own"
            seconds[package] = seconds.get(package, 0.0) + int(parts[0]) / 1e6
    return seconds


def measure(revision: str, scratch: Path, files: int, rounds: int) -> dict[str, Any]:
    """Measure both versions and return plain values for JSON.

    Parameters
    ----------
    revision
        What to compare with, as git names it.
    scratch
        A folder for the sounds.
    files
        Recordings of 5 s for each format.
    rounds
        Turns of each version, after one that is not counted.
    """
    found: dict[str, Any] = {
        "revision": revision, "machine": machine(), "files": files, "rounds": rounds
    }  # fmt: skip
    for kind in FORMATS:
        write_some(scratch / kind, files, 5.0, kind)
    some = sorted((scratch / "wav").iterdir())[:2]
    with ExitStack() as opened:
        trees = {"before": opened.enter_context(checkout(revision)), "now": ROOT}
        versions = {name: opened.enter_context(Version(tree)) for name, tree in trees.items()}
        found["batch"] = {}
        for kind in FORMATS:
            seconds: dict[str, list[float]] = {name: [] for name in (*versions, "tutorial")}
            for turn in range(rounds + 1):
                for name, version in versions.items():
                    seconds[name].append(version.batch(scratch / kind) / files)
                if kind == "wav" and turn <= 3:
                    began = time.process_time()
                    tutorial(some)
                    seconds["tutorial"].append((time.process_time() - began) / len(some))
            found["batch"][kind] = {name: one[1:] for name, one in seconds.items()}
        starts: dict[str, list[dict[str, Any]]] = {name: [] for name in versions}
        for _ in range(max(1, rounds // 2)):
            for name, version in versions.items():
                starts[name].append(version.start("analyze", some[0], "--json"))
        found["start"] = {
            name: {
                "wall": min(one["wall"] for one in tries),
                "cpu": min(one["cpu"] for one in tries),
                "imports": min(
                    (one["imports"] for one in tries), key=lambda one: sum(one.values())
                ),
            }
            for name, tries in starts.items()
        }
    return found


def _total(seconds: dict[str, float]) -> float:
    return sum(seconds.values())


def text(found: dict[str, Any]) -> str:
    """Return what was measured as Markdown."""
    machine, load = found["machine"], found["machine"]["load"]
    lines = [
        f"Against revision {found['revision']}, in turn in one run: {found['files']} files of 5 s "
        f"for each format, {found['rounds']} turns, CPU time, everything included. "
        f"{machine['processors']} processors, Python {machine['python']}, librosa "
        f"{machine['librosa']}; load before the run {load:.1f}.",
        "",
        "| | before, ms a file | now, ms a file | ratio of the least | ratio of the medians |",
        "|---|---|---|---|---|",
    ]
    for kind, seconds in found["batch"].items():
        before, now = seconds["before"], seconds["now"]
        lines.append(
            f"| {kind} | {1000 * min(before):.2f} | {1000 * min(now):.2f} "
            f"| {min(now) / min(before):.2f} "
            f"| {statistics.median(now) / statistics.median(before):.2f} |"
        )
    wav = found["batch"]["wav"]
    ratio, times = min(wav["now"]) / min(wav["before"]), min(wav["tutorial"]) / min(wav["now"])
    lines += [
        "",
        f"WAV may cost {MUST} x revision cf6f0c4 (goal {GOAL} x): {_verdict(ratio <= MUST)}, "
        f"{_verdict(ratio <= GOAL)}. The tutorial, in the same run, takes {times:.0f} x as long as "
        f"now (must: 35 x: {_verdict(times >= 35)}).",
        "",
        *_imports(found["start"]),
    ]
    return "\n".join(lines)


def _verdict(reached: bool) -> str:
    return "yes" if reached else "**no**"


def _imports(start: dict[str, Any]) -> Sequence[str]:
    """Return a table of what the start of ``analyze`` is spent on."""
    before, now = start["before"]["imports"], start["now"]["imports"]
    most = sorted(now.keys() | before.keys(), key=lambda name: -now.get(name, before.get(name, 0)))
    lines = ["| start of `crepitus analyze`, ms of import | before | now |", "|---|---|---|"]
    lines += [
        f"| {name} | {1000 * before.get(name, 0):.0f} | {1000 * now.get(name, 0):.0f} |"
        for name in most[:_PACKAGES_SHOWN]
    ]
    sums = [1000 * sum(one.values()) for one in (before, now)]
    lines.append(f"| all imports | {sums[0]:.0f} | {sums[1]:.0f} |")
    for what, name in (("CPU", "cpu"), ("wall", "wall")):
        times = [1000 * start[version][name] for version in ("before", "now")]
        lines.append(f"| the whole command, ms of {what} time | {times[0]:.0f} | {times[1]:.0f} |")
    return lines
