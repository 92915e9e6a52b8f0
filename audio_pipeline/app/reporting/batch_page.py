"""The summary page of a batch: counts, timelines, and what is worth listening to first."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audio_pipeline.app.outputs import write_page
from audio_pipeline.app.reporting.markup import Markup, bullets, join, tag
from audio_pipeline.app.reporting.report import LABEL_WORDS, html_page

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
    listen = sorted(summary.listen, key=lambda entry: entry[:2], reverse=True)
    facts = [
        f"{summary.recordings} recordings, {hours(summary.seconds)} of sound",
        f"{summary.failures} could not be read",
        f"{summary.findings['unusable']} could be read but not used",
    ]
    body = join(
        tag("h1", title),
        bullets(facts),
        _bars("What was found", summary.findings, FINDING_WORDS),
        _bars("Sounds, the sure ones", summary.labels, LABEL_WORDS),
        _bars("What to do", summary.levels, {}),
        _bars("Warnings about recordings", summary.warnings, {}),
        _listen_first(listen),
        _failures(summary),
        tag(
            "p",
            "A sound alone cannot show what is happening inside a back. The tables beside this page"
            " hold every recording.",
            class_="note",
        ),
    )
    return html_page(title, body)


def hours(seconds: float) -> str:
    """Return a length of time in words."""
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"


def _bars(title: str, counts: Counter[str], words: Mapping[str, str]) -> Markup | None:
    """Return a table with a bar a row; the numbers are its text equivalent."""
    if not counts:
        return None
    largest = max(counts.values())
    rows = [
        tag(
            "tr",
            tag("th", words.get(key, key.replace("_", " ")), scope="row"),
            tag("td", str(count), class_="count"),
            tag("td", tag("div", class_="bar", style=f"width:{100 * count / largest:.1f}%")),
        )
        for key, count in counts.most_common()
    ]
    return join(tag("h2", title), tag("table", tag("tbody", *rows), class_="bars"))


def _listen_first(entries: Sequence[tuple[float, str, Mapping[str, Any]]]) -> Markup | None:
    if not entries:
        return None
    items = [
        tag(
            "li",
            tag("strong", recording),
            tag("p", _heard(document), class_="note"),
            timeline(document),
        )
        for _, recording, document in entries
    ]
    return join(
        tag("h2", "Worth listening to first"),
        tag("p", "Here the model is least sure, and a person's ear would help most."),
        tag("ol", *items, class_="events"),
    )


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


def timeline(document: Mapping[str, Any]) -> Markup:
    """Return a bar with the events of a recording at their places; the words beside it say them."""
    duration = document["duration"] or 1.0
    marks = []
    for event in document["events"]:
        left = 100 * event["start"] / duration
        width = max(0.4, 100 * (event["end"] - event["start"]) / duration)
        shade = " unsure" if event["uncertain"] else ""
        marks.append(
            tag(
                "span",
                class_=f"event-{event['label']}{shade}",
                style=f"left:{left:.2f}%;width:{width:.2f}%",
            )
        )
    return tag("div", *marks, class_="timeline", aria_hidden="true")


def _failures(summary: BatchSummary) -> Markup | None:
    if not summary.failures:
        return None
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", error)) for name, error in summary.failed
    ]
    more = summary.failures - len(summary.failed)
    return join(
        tag("h2", "Could not be read"),
        tag("table", tag("tbody", *rows)),
        tag("p", f"And {more} more, in recordings.csv.") if more else None,
    )
