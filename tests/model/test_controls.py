"""Negative controls: a planted confound is caught, a clean set raises no alarm."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from audio_pipeline.app.cli import main
from audio_pipeline.model.controls import _control
from benchmarks.controls import PLANTS, caught, write_planted

EXPECTED = {
    "device": {"quiet", "format", "background"},
    "room": {"quiet", "background"},
    "hum": {"quiet", "background"},
    "clipping": {"level"},
    "codec": {"quiet", "format", "background"},
    "loudness": {"level"},
    "order": {"order"},
}


@pytest.mark.parametrize(("accuracy", "expected"), [(0.9, False), (0.6, False), (0.45, True)])
def test_what_tells_labels_as_well_as_the_model_is_caught(accuracy: float, expected: bool) -> None:
    rng = np.random.default_rng(0)
    y_true = np.tile(np.arange(3), 200)
    told = rng.random(600) < 0.2  # little more than guessing
    answer = np.where(told, y_true, rng.integers(0, 3, 600))
    groups = np.repeat(np.arange(60).astype(str), 10)
    assert _control("length", y_true, answer, groups, accuracy, 0).caught == expected
    part = _control("length", y_true, answer, groups, 0.9, 0)
    assert "may come from it" in part.verdict, "above guessing is not 'no sign'"
    nothing = _control("length", y_true, rng.integers(0, 3, 600), groups, 0.34, 0)
    assert nothing.low is not None
    assert nothing.caught == (nothing.low > 1 / 3 and nothing.balanced_accuracy >= 0.34)


@pytest.mark.slow
def test_a_clean_set_raises_no_alarm(tmp_path: Path) -> None:
    assert caught(write_planted(tmp_path / "data", "clean", 0), 0) == []


@pytest.mark.slow
def test_a_planted_confound_is_caught(tmp_path: Path) -> None:
    names = caught(write_planted(tmp_path / "data", "device", 0, people=5), 0)
    assert EXPECTED["device"] & set(names)
    assert "permuted" not in names


@pytest.mark.slow
@pytest.mark.parametrize("plant", ["hum", "loudness", "order"])
def test_some_planted_confounds_are_caught(plant: str, tmp_path: Path) -> None:
    assert EXPECTED[plant] & set(caught(write_planted(tmp_path / "data", plant, 1), 1, "logistic"))


@pytest.mark.soak
@pytest.mark.parametrize("plant", [one for one in PLANTS if one != "clean"])
@pytest.mark.parametrize("seed", [1, 2])
def test_every_planted_confound_is_caught(plant: str, seed: int, tmp_path: Path) -> None:
    assert EXPECTED[plant] & set(caught(write_planted(tmp_path / "data", plant, seed), seed))


@pytest.mark.slow
def test_training_and_evaluation_say_it_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_planted(tmp_path / "data", "device", 3, people=6)
    quick = ["--param", "n_estimators=8", "--folds", "2"]
    with pytest.raises(SystemExit) as done:
        main(["train", str(data), "-o", str(tmp_path / "model"), "--json", *quick])
    assert done.value.code == 0
    told = {one["code"]: one["text"] for one in json.loads(capsys.readouterr().out)["warnings"]}
    assert "cannot show that the model hears joints" in told["control_background"]
    card = (tmp_path / "model" / "CARD.md").read_text()
    assert "## Negative controls" in card
    others = write_planted(tmp_path / "others", "clean", 4, people=4)
    table = (others / "manifest.csv").read_text().replace("person", "stranger")
    (others / "manifest.csv").write_text(table)
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(others), "--model", str(tmp_path / "model"), "--controls", "--json"])
    assert done.value.code == 0
    controls = {one["name"]: one for one in json.loads(capsys.readouterr().out)["controls"]}
    assert {"quiet", "length", "level", "background", "permuted", "swapped"} <= set(controls)
    assert not controls["permuted"]["caught"]
    assert all(0 <= one["balanced_accuracy"] <= 1 and one["verdict"] for one in controls.values())
