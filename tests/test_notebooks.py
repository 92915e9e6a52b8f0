"""The notebooks run from a fresh installation, without real recordings, and hold no outputs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_there_is_a_tutorial_for_each_job_and_the_study() -> None:
    assert [path.stem for path in NOTEBOOKS] == [
        "1_record_and_understand",
        "2_classify_a_folder",
        "3_retrain_on_your_labels",
        "why_recognition_fails",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs_and_can_be_parsed(path: Path) -> None:
    for cell in cells(path, "code"):
        assert cell["outputs"] == []
        assert cell["execution_count"] is None
        ast.parse(source(cell))
    assert source(cells(path, "markdown")[0]).startswith("# ")


@pytest.mark.slow
# Libraries of Jupyter warn of their own loops and sockets.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_draws(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.delenv("CREPITUS_RECORDINGS", raising=False)
    monkeypatch.setenv("CREPITUS_SCENES", "24")
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=900, kernel_name="python3", resources=where).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert pictures
    # Where some other package brought tqdm, pooch (of librosa) makes it look for ipywidgets.
    warned = [one["text"] for one in outputs if one.get("name") == "stderr"]
    assert not [text for text in warned if "TqdmWarning" not in text]
