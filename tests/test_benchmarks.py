"""The benchmarks run, and their table says whether a bound is reached."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from audio_pipeline.audio.recording import read_recording

sys.path.insert(0, str(Path(__file__).parent.parent))
page = importlib.import_module("benchmarks.page")
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
    path.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    page.insert(path, "new")
    assert path.read_text() == f"before\n{page.BEGIN}\nnew\n{page.END}\nafter\n"


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
