"""What all tests share: the same examples every time, unless asked to explore."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

DOCS = Path(__file__).resolve().parents[1] / "docs"

# A change is judged on the examples that the last one passed; new ones are looked for with
# `pytest --hypothesis-profile=explore`.
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=40)
settings.register_profile("explore", deadline=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Compile librosa's loops once before many workers would do it at the same time."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    code = (
        "import numpy as np, audio_pipeline.segmentation.onset_envelope as envelope;"
        "envelope._compile_peak_pick()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture(scope="session")
def figures() -> ModuleType:
    """Return the module that writes the published figures into the documents."""
    spec = importlib.util.spec_from_file_location("figures", DOCS / "figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def measured() -> dict[str, Any]:
    """Return the one evaluation that all documents quote."""
    given = json.loads((DOCS / "evaluation.json").read_text(encoding="utf-8"))
    assert isinstance(given, dict)
    return given
