"""Pages from templates: one HTML file with everything inside, which needs no network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from audio_pipeline._version import __version__
from audio_pipeline.app.outputs import GENERATOR
from audio_pipeline.app.text import visible_lines

LABEL_WORDS = {"pop": "Pop", "grating": "Grinding sound", "other": "Other sound"}


def render_page(template: str, title: str, **values: Any) -> str:
    """Return a whole page from a template that extends ``page.html``.

    Parameters
    ----------
    template
        Its file name in ``templates/``.
    title
        Title of the page.
    **values
        What the template shows. Text is escaped and hidden characters are made visible; only a
        :class:`markupsafe.Markup` is HTML already.
    """
    script = _read("audio_pipeline.app.reporting", "report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page may be opened from anywhere: it must not be able to fetch or run anything else.
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:;"
        f" script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return (
        environment()
        .get_template(template)
        .render(
            title=title,
            generator=f"{GENERATOR} {__version__}",
            policy=policy,
            style=Markup(_read("audio_pipeline.app.server", "static/page.css")),  # noqa: S704
            script=Markup(script),  # noqa: S704
            **values,
        )
    )


@cache
def environment() -> Environment:
    """Return what finds and fills the templates."""
    return Environment(
        loader=PackageLoader("audio_pipeline.app.reporting"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _shown(value: Any) -> Any:
    """Make hidden characters of text visible; what is HTML already stays."""
    return visible_lines(value) if type(value) is str else value


@cache
def _read(package: str, name: str) -> str:
    return (resources.files(package) / name).read_text(encoding="utf-8")
