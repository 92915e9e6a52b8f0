"""From extractions to documents: one prediction for many recordings at once.

A classifier answers for each segment whatever others it is asked about, so nothing here depends on
how recordings were gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_pipeline.analysis import conclude

if TYPE_CHECKING:
    from audio_pipeline.analysis import Extraction
    from audio_pipeline.classifier import Classifier

DECIMALS = 4
"""Decimals of every time, level and probability that is kept."""


def documents(
    extractions: Sequence[Extraction], classifier: Classifier
) -> Iterator[dict[str, Any]]:
    """Yield the document of every recording, in order, with rounded numbers.

    Parameters
    ----------
    extractions
        Of any recordings, failed ones too.
    classifier
        The model; asked once for all of them.
    """
    sizes = [len(one.segments) for one in extractions]
    tables = [one.table for one, size in zip(extractions, sizes, strict=True) if size]
    together = (
        classifier.predict_proba(np.concatenate(tables))
        if tables
        else np.zeros((0, len(classifier.labels)))
    )
    parts = np.split(together, np.cumsum(sizes)[:-1]) if sizes else []
    for extraction, part in zip(extractions, parts, strict=True):
        yield rounded(conclude(extraction, part, classifier).document())


def rounded(value: Any) -> Any:
    """Return a JSON value with every number of its inside rounded to :data:`DECIMALS`."""
    if isinstance(value, float):
        # Adding 0.0 turns -0.0 into 0.0.
        return round(value, DECIMALS) + 0.0
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(inner) for inner in value]
    return value
