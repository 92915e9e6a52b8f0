"""The files of the page, read once from the package; nothing else on disk can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources

MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}


@dataclass(frozen=True)
class Asset:
    """One file of the page."""

    body: bytes
    media_type: str


def load_assets() -> dict[str, Asset]:
    """Return the page's files by name.

    Returns
    -------
    dict
        Name without folder to content; files of other kinds are left out.
    """
    folder = resources.files("audio_pipeline.app.server") / "static"
    assets = {}
    for entry in folder.iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if suffix in MEDIA_TYPES:
            assets[entry.name] = Asset(entry.read_bytes(), MEDIA_TYPES[suffix])
    return assets
