"""Very many and very long recordings: linear time, flat memory (run by hand, marked ``soak``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from batch_support import RATE, clicks, small_model, write_clicks

pytestmark = pytest.mark.soak

MEASURED = """
import json, resource, subprocess, sys
ended = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([ended.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


@dataclass(frozen=True)
class Use:
    """CPU seconds and peak memory in MB of a command."""

    cpu: float
    memory: float


def crepitus(*arguments: str | Path, cwd: Path) -> Use:
    command = [sys.executable, "-m", "audio_pipeline", *map(str, arguments)]
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], cwd=cwd, check=True, capture_output=True
    )
    code, cpu, memory = json.loads(ended.stdout)
    assert code == 0
    return Use(cpu, memory)


def test_a_hundred_thousand_tiny_recordings(tmp_path: Path) -> None:
    small_model(tmp_path / "model")
    for number in range(10):
        write_clicks(tmp_path / "seed" / f"{number}.wav", (0.02,), duration=0.05, seed=number)
    use: dict[int, list[Use]] = {}
    for count in (10_000, 100_000):
        rec = tmp_path / f"rec{count}"
        for number in range(count):
            folder = rec / f"{number // 1000:03}"
            if number % 1000 == 0:
                folder.mkdir(parents=True)
            os.link(tmp_path / "seed" / f"{number % 10}.wav", folder / f"{number:06}.wav")
        batch = ("batch", rec.name, "-o", f"out{count}", "--model", "model", "--jobs", "1")
        export = ("export", f"out{count}", "--format", "csv,jsonl")
        use[count] = [crepitus(*batch, cwd=tmp_path)]
        use[count] += [crepitus(*batch, cwd=tmp_path), crepitus(*export, cwd=tmp_path)]
        lines = (tmp_path / f"out{count}" / "recordings.csv").read_text().count("\n")
        assert lines == count + 1
    for name, few, many in zip(
        ("first run", "resumed", "export"), use[10_000], use[100_000], strict=True
    ):
        print(f"{name}: {few} for 10,000, {many} for 100,000")
        assert many.cpu < 12 * few.cpu
        assert many.memory < 1.2 * few.memory + 20


def test_a_recording_of_ten_hours(tmp_path: Path) -> None:
    small_model(tmp_path / "model")
    minute = clicks(np.arange(1, 59, 7.3), 60.0)
    for name, minutes in (("five minutes", 5), ("ten hours", 600)):
        with soundfile.SoundFile(tmp_path / f"{name}.wav", "w", RATE, 1, "PCM_16") as file:
            for _ in range(minutes):
                file.write(minute)
    use = {
        name: crepitus(
            "batch", f"{name}.wav", "-o", name, "--model", "model", "--jobs", "1", cwd=tmp_path
        )
        for name in ("five minutes", "ten hours")
    }
    print(use)
    events = (tmp_path / "ten hours" / "events.csv").read_text().count("\n") - 1
    assert events == 600 * len(np.arange(1, 59, 7.3))
    assert use["ten hours"].memory < 450
    assert use["ten hours"].memory < 1.15 * use["five minutes"].memory + 20
