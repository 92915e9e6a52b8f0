"""The reference and the guide as a web site: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import shutil
from pathlib import Path

import audio_pipeline

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "audio_pipeline"

project = "Crepitus"
author = "The Crepitus maintainers"
copyright = author
release = version = audio_pipeline.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
]
exclude_patterns = ["_build", "api/names.rst", "api/modules/modules.rst"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"navigation_with_keys": False, "show_prev_next": False}
html_title = f"Crepitus {release}"

# The library, not the shell around it: what people use of `app` is the command line and the server.
apidoc_modules = [
    {
        "path": str(PACKAGE),
        "destination": "api/modules",
        "exclude_patterns": [str(PACKAGE / "app*"), str(PACKAGE / "**" / "_[!_]*.py")],
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
autodoc_typehints = "none"  # numpydoc's Parameters say the types, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autosummary_generate = False

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4
# CI runs the notebooks as tests (tests/test_notebooks.py); the gallery shows their text and code.
nb_execution_mode = "off"


def gather(app: object) -> None:
    """Write what Sphinx reads but nobody should have to keep: the gallery and the public names."""
    for notebook in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copyfile(notebook, HERE / "gallery" / notebook.name)
    names = [name for name in audio_pipeline.__all__ if not name.startswith("_")]
    homes = {name: getattr(audio_pipeline, name).__module__ for name in names}
    rows = "".join(f"   ~{homes[name]}.{name}\n" for name in names)
    (HERE / "api" / "names.rst").write_text(f".. autosummary::\n\n{rows}", encoding="utf-8")


def skip(app: object, what: str, name: str, item: object, skipped: bool, options: object) -> bool:
    """Leave out what scikit-learn adds to every estimator: its text refers to its own pages."""
    return skipped or (name.startswith("set_") and name.endswith("_request"))


def setup(app: object) -> None:
    """Register what is done before and while the pages are read."""
    app.connect("builder-inited", gather)  # type: ignore[attr-defined]
    app.connect("autodoc-skip-member", skip)  # type: ignore[attr-defined]
