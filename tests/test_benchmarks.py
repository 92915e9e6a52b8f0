"""The benchmarks run, and their table says whether a bound is reached."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audio_pipeline.audio.recording import read_recording

sys.path.insert(0, str(Path(__file__).parent.parent))
against = importlib.import_module("benchmarks.against")
page = importlib.import_module("benchmarks.page")
review = importlib.import_module("benchmarks.review")
sounds = importlib.import_module("benchmarks.sounds")
table = importlib.import_module("benchmarks.table")


@pytest.mark.parametrize("kind", [*sounds.FILE_FORMATS, *sounds.PHONE_FORMATS])
def test_the_same_sound_in_every_format(tmp_path: Path, kind: str) -> None:
    samples = sounds.scene(1.0, seed=3)
    recording = read_recording(sounds.write(tmp_path / f"a.{kind}", samples))
    assert recording.duration == pytest.approx(1.0, abs=0.05)
    near = min(len(samples), len(recording.samples))
    assert np.corrcoef(samples[:near], recording.samples[:near])[0, 1] > 0.6


def test_a_bound_is_reached_from_its_own_side() -> None:
    more = table.Row("speed", 40.0, "x", 35.0, 60.0)
    less = table.Row("cost", 1.7, "x", 1.8, 1.3, more_is_better=False)
    for row in (more, less):
        assert row.reaches(row.must)
        assert not row.reaches(row.goal)
        assert row.reaches(None) is None


def test_the_page_keeps_what_stands_around_the_measured_part(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    begin, end = (mark.format("one") for mark in page.MARKS)
    path.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    page.insert(path, "new", "one")
    assert path.read_text() == f"before\n{begin}\nnew\n{end}\nafter\n"


def test_labels_needed_are_read_off_a_curve() -> None:
    curve = [0.3, 0.5, 0.4, 0.7]
    assert [review.labels_for(curve, x, 20) for x in (0.2, 0.3, 0.4, 0.5)] == [20, 20, 30, 40]
    assert review.labels_for(curve, 0.6, 20) == pytest.approx(70)
    assert review.labels_for(curve, 0.8, 20) == float("inf")


def test_a_review_compared_with_itself_gains_nothing() -> None:
    rising = [[0.3 + 0.02 * n + 0.01 * seed for n in range(10)] for seed in range(4)]
    found = review.summary({"random": rising, "learned": rising}, 20)
    assert found["learned"]["gain"] == {100: [0, 0, 0], 200: [0, 0, 0]}
    assert found["learned"]["labels needed for what random reaches at"][100] == [100, 100, 100]


def test_imports_are_added_up_by_package() -> None:
    said = """import time: self [us] | cumulative | imported package
import time:      1000 |       1000 |   numpy.core
import time:      2000 |       3000 | numpy
import time:       500 |        500 | json.decoder
a line of the program"""
    assert against.by_package(said) == pytest.approx({"numpy": 0.003, "Python's own": 0.0005})


@pytest.mark.filterwarnings("ignore:.*slated for removal:DeprecationWarning")
@pytest.mark.soak
def test_a_revision_is_compared_with_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A repository of its own: a checkout need not be one.
    root = tmp_path / "repository"
    for folder in ("audio_pipeline", "models"):
        shutil.copytree(
            against.ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    git = ["git", "-C", str(root), "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "A revision"]):
        subprocess.run([*git, *words], check=True)
    monkeypatch.setattr(against, "ROOT", root)

    found = against.measure("HEAD", tmp_path / "sounds", files=2, rounds=1)
    told = against.text(found)
    for kind, seconds in found["batch"].items():
        assert f"| {kind} |" in told
        assert 1 / 4 < min(seconds["now"]) / min(seconds["before"]) < 4
    assert found["start"]["now"]["imports"]["numpy"] > 0
    worktrees = subprocess.run(
        [*git, "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(worktrees.stdout.splitlines()) == 1


# The tutorial calls librosa.load, which on librosa 0.11 loads modules that Python will drop.
@pytest.mark.filterwarnings("ignore:.*slated for removal:DeprecationWarning")
@pytest.mark.slow
def test_everything_can_be_measured(tmp_path: Path) -> None:
    found = table.measure(tmp_path, table.QUICK, lambda text: None)
    rows = table.rows(found)
    assert len(rows) >= 12
    assert all(np.isfinite(row.value) and row.value > 0 for row in rows)
    text = page.text(found, "plot.svg")
    assert all(row.what in text for row in rows)
    page.draw(found, tmp_path / "plot.svg")
    assert (tmp_path / "plot.svg").read_text().count("<svg") == 1
