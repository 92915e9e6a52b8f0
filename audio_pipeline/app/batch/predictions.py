"""From extractions to documents: one prediction for many recordings at once.

A classifier answers for each segment whatever others it is asked about, and documents hold rounded
numbers, so nothing here depends on how recordings were gathered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_pipeline.analysis.pipeline import classify_segments

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import Extraction
    from audio_pipeline.model.classifier import Classifier


def documents(
    extractions: Sequence[Extraction], classifier: Classifier
) -> Iterator[dict[str, Any]]:
    """Yield the document of every recording, in order.

    Parameters
    ----------
    extractions
        Of any recordings, failed ones too.
    classifier
        The model; asked once for all of them.
    """
    tables = [one.table for one in extractions if one.segments]
    nothing = np.empty((0, len(classifier.feature_names)), np.float32)
    probabilities = classifier.predict_proba(np.concatenate([nothing, *tables]))
    start = 0
    for extraction in extractions:
        stop = start + len(extraction.segments)
        yield classify_segments(extraction, probabilities[start:stop], classifier).to_dict()
        start = stop
