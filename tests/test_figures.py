"""One set of figures: every document quotes the one evaluation, with its date and command."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from audio_pipeline.model.classifier import load_classifier

ROOT = Path(__file__).resolve().parents[1]


def test_every_document_quotes_the_one_evaluation(
    figures: ModuleType, measured: dict[str, object]
) -> None:
    texts = figures.documents(measured)
    differing = [str(path) for path, (old, new) in texts.items() if old != new]
    assert not differing, f"run python docs/figures.py: {differing}"
    blocks = {path.name: len(re.findall("<!-- figures:", old)) for path, (old, _) in texts.items()}
    assert blocks["README.md"] >= 1
    assert blocks["recognition.md"] >= 4
    assert len(blocks) == 4


def test_a_changed_figure_is_noticed(figures: ModuleType, measured: dict[str, object]) -> None:
    changed = json.loads(json.dumps(measured))
    changed["metrics"]["balanced_accuracy"] = 0.123
    assert any(old != new for old, new in figures.documents(changed).values())
    text = "a\n<!-- figures: source -->\nold\n<!-- end of figures -->\nb"
    once = figures.refreshed(text, changed)
    assert "\nold\n" not in once
    assert once.startswith("a\n")
    assert once.endswith("\nb")
    assert figures.refreshed(once, changed) == once


def test_the_evaluation_says_when_how_and_of_which_model(measured: dict[str, object]) -> None:
    assert date.fromisoformat(str(measured["date"])) <= date.today()
    assert str(measured["command"]).startswith("crepitus ")
    model = measured["model"]
    assert isinstance(model, dict)
    assert model["name"] == load_classifier().name


def test_the_model_and_its_card_say_the_same(measured: dict[str, object]) -> None:
    folder = ROOT / "models" / "default"
    described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    if "evaluation.json" not in described["files"]:
        pytest.skip("this model was not measured by the training that made it")
    own = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert measured["metrics"] == described["metrics"]
    for name in set(own) & set(measured):
        assert own[name] == measured[name], name
    model = measured["model"]
    assert isinstance(model, dict)
    assert model["sha256"] == load_classifier().sha256
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    for name in ("balanced_accuracy", "coverage", "auc", "pops_found", "gratings_found"):
        assert re.search(rf"\|[^|]*\| {own['metrics'][name]:.3f} ", card), name


def test_what_was_never_measured_is_said() -> None:
    for name in ("README.md", "docs/recognition.md"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert re.search(r"lower back", text), name
        assert not re.search(r"\.90 at 83 %(?!, 1\.4)", text) or name != "README.md"
