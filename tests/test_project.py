"""What the project says about itself in several places is the same everywhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from audio_pipeline import __version__

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked() -> dict[str, set[str]]:
    """Return every version of each package in the lock file, by its normalised name."""
    found: dict[str, set[str]] = {}
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", line)
        if match:
            found.setdefault(normal(match[1]), set()).add(match[2])
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[Requirement]:
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    every = [Requirement(line) for line in [*PROJECT["dependencies"], *extras]]
    return [requirement for requirement in every if normal(requirement.name) != "crepitus"]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_the_lock_file_satisfies_what_the_project_needs(requirement: Requirement) -> None:
    versions = locked().get(normal(requirement.name), set())
    assert versions, "missing: make requirements.lock anew (its first lines say how)"
    assert any(requirement.specifier.contains(version) for version in versions)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
