"""The summary page of a batch: counts, timelines, and what is worth listening to first."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from audio_pipeline.app.outputs import write_page
from audio_pipeline.app.reporting.report import LABEL_WORDS, render_page

FINDING_WORDS = {
    "single_pop": "One pop",
    "repeated_pops": "Several pops",
    "grating": "Grinding sound",
    "mixed": "Pops and a grinding sound",
    "nothing_recognised": "Nothing recognised",
    "uncertain": "Not sure",
    "unusable": "Not usable",
}

SHOWN = 25
"""Recordings shown in each list; the tables beside the page hold them all."""


@dataclass
class BatchSummary:
    """What the page shows of any number of recordings; its size does not grow with them.

    Attributes
    ----------
    findings, warnings, levels
        How often each came.
    failed
        Recordings that could not be read, and why; the first `SHOWN`.
    listen
        (worth, recording, document) of the recordings worth listening to first.
    """

    recordings: int = 0
    failures: int = 0
    seconds: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)
    listen: list[tuple[float, str, Mapping[str, Any]]] = field(default_factory=list)

    def add(self, recording: str, document: Mapping[str, Any]) -> None:
        """Count one recording.

        Parameters
        ----------
        recording
            Its name in the tables.
        document
            Its entry in the ``analyze --json`` document.
        """
        self.recordings += 1
        if document["status"] != "ok":
            self.failures += 1
            if len(self.failed) < SHOWN:
                self.failed.append((recording, str(document["error"])))
            return
        self.seconds += document["duration"] or 0.0
        self.findings[document["finding"]["label"]] += 1
        self.warnings.update({w["code"] for w in document["quality"]["warnings"]})
        self.labels.update(e["label"] for e in document["events"] if not e["uncertain"])
        if document.get("recommendation"):
            self.levels[document["recommendation"]["level"]] += 1
        self._consider(recording, document)

    def _consider(self, recording: str, document: Mapping[str, Any]) -> None:
        worth = worth_listening(document)
        if worth <= 0:
            return
        entry = (worth, recording, document)
        if len(self.listen) < SHOWN:
            heapq.heappush(self.listen, entry)
        elif entry[:2] > self.listen[0][:2]:
            heapq.heapreplace(self.listen, entry)


def worth_listening(document: Mapping[str, Any]) -> float:
    """Return how much a person's ear would add, in [0, 1].

    Highest for the event that the model can tell least (its two likeliest labels are equal), where
    one of the two is grating, because a wrong grating frightens people most.
    """
    most = 0.0
    for event in document["events"]:
        chances = sorted(event["probabilities"].values(), reverse=True)
        doubt = 1 - (chances[0] - (chances[1] if len(chances) > 1 else 0.0))
        grating = event["probabilities"].get("grating", 0.0)
        most = max(most, 0.6 * doubt + 0.4 * min(1.0, 2 * grating))
    return most


def write_batch_report(
    path: str | os.PathLike[str],
    recordings: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    title: str = "Crepitus: a batch of recordings",
    inputs: Iterable[str | bytes | os.PathLike[str] | None] = (),
    overwrite: bool = False,
) -> None:
    """Write the summary page of a batch.

    Parameters
    ----------
    path
        File to write; it appears whole or not at all.
    recordings
        Name in the tables and entry of the ``analyze --json`` document, in any order; read once.
    title
        Heading of the page.
    inputs
        Files that the batch read; the page is none of them.
    overwrite
        Replace what is there, whoever made it; else only a page of ours.

    Raises
    ------
    InvalidInputError
        When something is there that Crepitus did not write.
    CrepitusError
        When the file cannot be written.
    """
    summary = BatchSummary()
    for recording, document in recordings:
        summary.add(recording, document)
    write_page(path, batch_page(summary, title), inputs, overwrite=overwrite)


def batch_page(summary: BatchSummary, title: str) -> str:
    """Return the page of a summary; self-contained, like every report."""
    facts = [
        f"{summary.recordings} recordings, {hours(summary.seconds)} of sound",
        f"{summary.failures} could not be read",
        f"{summary.findings['unusable']} could be read but not used",
    ]
    listen = sorted(summary.listen, key=lambda entry: entry[:2], reverse=True)
    return render_page(
        "batch.html",
        title,
        facts=facts,
        counts=[
            ("What was found", _bars(summary.findings, FINDING_WORDS)),
            ("Sounds, the sure ones", _bars(summary.labels, LABEL_WORDS)),
            ("What to do", _bars(summary.levels, {})),
            ("Warnings about recordings", _bars(summary.warnings, {})),
        ],
        listen=[
            {"recording": recording, "heard": _heard(document), "marks": _marks(document)}
            for _, recording, document in listen
        ],
        failed=summary.failed,
        more_failed=summary.failures - len(summary.failed),
    )


def hours(seconds: float) -> str:
    """Return a length of time in words."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _bars(counts: Counter[str], words: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """Return name, number and width of a bar per row; the numbers are its text equivalent."""
    largest = max(counts.values(), default=0)
    return [
        (words.get(key, key.replace("_", " ")), count, f"{100 * count / largest:.1f}")
        for key, count in counts.most_common()
    ]


def _heard(document: Mapping[str, Any]) -> str:
    finding = document["finding"]
    words = FINDING_WORDS.get(finding["label"], finding["label"])
    sounds = [
        f"{LABEL_WORDS.get(event['label'], event['label']).lower()}"
        f"{', not sure,' if event['uncertain'] else ''} at {event['start']:.2f} s"
        for event in document["events"][:8]
    ]
    more = len(document["events"]) - len(sounds)
    if more > 0:
        sounds.append(f"and {more} more")
    return f"{words}: {'; '.join(sounds)}." if sounds else f"{words}."


def _marks(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the places of a recording's events on a bar; the words beside it say them."""
    duration = document["duration"] or 1.0
    return [
        {
            "label": event["label"],
            "uncertain": event["uncertain"],
            "left": f"{100 * event['start'] / duration:.2f}",
            "width": f"{max(0.4, 100 * (event['end'] - event['start']) / duration):.2f}",
        }
        for event in document["events"]
    ]
