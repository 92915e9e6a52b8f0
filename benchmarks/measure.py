"""CPU seconds, wall seconds and peak memory of the product and of what it is compared with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_pipeline.app.batch.run import BatchRequest, run_batch
from audio_pipeline.model.classifier import Classifier


@dataclass(frozen=True)
class Cost:
    """CPU seconds a file: the least of all rounds, and how far the worst was above it."""

    least: float
    spread: float


def product(paths: Sequence[Path], classifier: Classifier) -> None:
    """Run a whole batch in this process: listing, analysis, store, tables."""
    with tempfile.TemporaryDirectory() as out:
        run_batch(BatchRequest(tuple(paths), Path(out), jobs=1), classifier)


def alternate(
    work: dict[str, tuple[Callable[[Sequence[Path]], None], Sequence[Path]]], rounds: int
) -> dict[str, Cost]:
    """Return the cost a file of each piece of work, all taking turns.

    Parameters
    ----------
    work
        Name to (function, files); fewer files for what is slow.
    rounds
        How often each gets its turn, after one that is not counted.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, (function, paths) in work.items():
            began = time.process_time()
            function(paths)
            if turn:
                seconds[name].append((time.process_time() - began) / len(paths))
    return {name: Cost(min(one), max(one) / min(one) - 1) for name, one in seconds.items()}


def command(*arguments: str | Path, cwd: Path | None = None) -> dict[str, float]:
    """Run ``crepitus`` and return its wall seconds, CPU seconds and peak memory in MB."""
    script = (
        "import json, resource, subprocess, sys, time\n"
        "began = time.monotonic()\n"
        "ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL,"
        " stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)\n"
        "wall = time.monotonic() - began\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "assert ended.returncode == 0, ended.stderr.decode()\n"
        "print(json.dumps({'wall': wall, 'cpu': used.ru_utime + used.ru_stime,"
        " 'memory': used.ru_maxrss / 1024}))\n"
    )
    crepitus = [sys.executable, "-m", "audio_pipeline", *map(str, arguments)]
    ended = subprocess.run(
        [sys.executable, "-c", script, *crepitus],
        check=True,
        capture_output=True,
        cwd=cwd,
        env=one_thread(),
    )
    found: dict[str, float] = json.loads(ended.stdout)
    return found


def batch_seconds(folder: Path, jobs: int) -> float:
    """Return the wall seconds of ``crepitus batch`` on a folder, start-up included."""
    with tempfile.TemporaryDirectory() as out:
        return command("batch", folder, "-o", Path(out) / "out", "--jobs", str(jobs))["wall"]


def one_thread() -> dict[str, str]:
    """Return an environment in which numeric libraries use one thread and nothing special.

    Python may keep what it compiles, as it does where the product is installed.
    """
    special = ("OPENBLAS_", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(special)}
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def machine() -> dict[str, Any]:
    """Say where and on what this was measured."""
    import platform

    from audio_pipeline.app.batch.run import versions

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {"processors": os.cpu_count(), "load": load, "system": platform.system(), **versions()}
