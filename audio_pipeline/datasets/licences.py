"""Which recordings a model that is given away may be trained on, by what their licence says."""

from __future__ import annotations

import re
from dataclasses import replace

from audio_pipeline.datasets.manifest import Dataset
from audio_pipeline.exceptions import InvalidInputError

_PERMISSIVE = re.compile(
    r"\bCC0\b|\bCC[ -]BY\b|\bMIT\b|\bApache\b|\bBSD\b|\bPD\b|public domain", re.IGNORECASE
)
_RESTRICTIVE = re.compile(r"\bSA\b|\bNC\b|\bND\b|\bGPL|share.?alike|non.?commercial", re.IGNORECASE)


def is_permissive(licence: str) -> bool:
    """Tell whether a licence asks for no more than to be named.

    CC0, CC BY, MIT, Apache-2.0, BSD and the public domain do; share-alike, non-commercial and
    no-derivatives do not, nor does an unknown licence. Of several, the strictest counts.
    """
    return bool(_PERMISSIVE.search(licence)) and not _RESTRICTIVE.search(licence)


def permissive_only(dataset: Dataset) -> Dataset:
    """Return the clips whose ``licence`` column is permissive.

    Raises
    ------
    InvalidInputError
        When none is left.
    """
    clips = tuple(clip for clip in dataset.clips if is_permissive(clip.columns.get("licence", "")))
    if not clips:
        raise InvalidInputError(f"no row of {dataset.source} has a permissive licence")
    return replace(dataset, clips=clips)
