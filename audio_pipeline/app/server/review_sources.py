"""Where the sounds to label come from: the results of a batch, or a dataset."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from audio_pipeline.app.server.review_queue import ReviewItem, ReviewQueue, most_informative
from audio_pipeline.exceptions import InvalidInputError

if TYPE_CHECKING:
    from audio_pipeline.datasets.manifest import Dataset, LabelledClip
    from audio_pipeline.model.classifier import Classifier

REVIEW_FILE = "review.csv"


def open_queue(
    source: Path, model: Path | None = None, *, allow_outside: bool = False
) -> ReviewQueue:
    """Return what there is to label in a batch's output folder or in a dataset.

    Parameters
    ----------
    source
        OUT folder of ``crepitus batch``; or a folder or CSV as ``crepitus train`` reads it.
    model
        Model folder for a dataset, None for the default one. A batch was heard already.
    allow_outside
        Whether a dataset may name recordings outside its own folder.

    Returns
    -------
    ReviewQueue
        Labels go to ``review.csv`` in that folder, or beside that CSV.

    Raises
    ------
    InvalidInputError
        When there is nothing to label.
    """
    from audio_pipeline.app.batch.store_file import STORE_NAME

    source = Path(os.path.abspath(source))
    if (source / STORE_NAME).is_file():
        items, labels = _of_batch(source)
        manifest = source / REVIEW_FILE
    else:
        items, labels = _of_dataset(source, model, allow_outside)
        is_file = source.is_file()
        manifest = (
            source.with_name(f"{source.stem}-{REVIEW_FILE}") if is_file else source / REVIEW_FILE
        )
    if not items:
        raise InvalidInputError(f"{source} holds no sound to label")
    return ReviewQueue(items, labels, manifest)


def _of_batch(out: Path) -> tuple[list[ReviewItem], tuple[str, ...]]:
    from audio_pipeline.app.batch.store import StoreReader

    def items() -> Iterator[ReviewItem]:
        for row in store.rows(status="ok"):
            path = _path(row.path)
            for event in row.document["events"] if path else ():
                assert path is not None
                yield ReviewItem(
                    path, row.recording, event["start"], event["end"], event["probabilities"]
                )

    with StoreReader(out) as store:
        return most_informative(items()), store.labels


def _path(name: bytes) -> Path | None:
    """Return a path that a manifest can hold: bytes that are not UTF-8 cannot stand in one."""
    try:
        return Path(os.path.abspath(name.decode("utf-8")))
    except UnicodeDecodeError:
        return None


def _of_dataset(
    source: Path, model: Path | None, allow_outside: bool
) -> tuple[list[ReviewItem], tuple[str, ...]]:
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.model.classifier import load_classifier

    dataset = read_dataset(source, allow_outside=allow_outside)
    classifier = load_classifier(model)
    labels = dict.fromkeys((*classifier.labels, *dataset.labels))
    return most_informative(_heard_again(dataset, classifier)), tuple(labels)


def _heard_again(dataset: Dataset, classifier: Classifier) -> Iterator[ReviewItem]:
    """Yield every labelled stretch of a dataset with what the model thinks of it."""
    from audio_pipeline.analysis.pipeline import extract

    for name, clips in dataset.recordings.items():
        regions = [(c.start, c.end) for c in clips if c.start is not None and c.end is not None]
        extraction = extract(clips[0].path, classifier.settings, regions=regions or None)
        chances = classifier.predict_proba(extraction.table)
        for segment, row in zip(extraction.segments, chances, strict=True):
            clip = _labelled(clips, segment.start, segment.end)
            yield ReviewItem(
                Path(os.path.abspath(clip.path)),
                name,
                segment.start,
                segment.end,
                dict(zip(classifier.labels, map(float, row), strict=True)),
                clip.label,
                clip.group if dataset.has_groups else "",
            )


def _labelled(clips: tuple[LabelledClip, ...], start: float, end: float) -> LabelledClip:
    """Return the clip whose stretch lies closest to a segment's."""
    return min(
        clips,
        key=lambda clip: abs((clip.start or 0.0) - start) + abs((clip.end or 0.0) - end),
    )
