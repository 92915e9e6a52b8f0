"""Pages about many recordings: the summary of a batch and the figures of an evaluation."""

from __future__ import annotations

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from audio_pipeline.app.outputs import write_page
from audio_pipeline.app.reporting.plots import interval_chart, share_chart
from audio_pipeline.app.reporting.report import LABEL_WORDS, render_page
from audio_pipeline.model.breakdown import OUTCOMES
from audio_pipeline.model.scoring import FIGURE_NAMES, HEADLINE

if TYPE_CHECKING:
    from audio_pipeline.model.benchmark import Place, Result
    from audio_pipeline.model.breakdown import Breakdown
    from audio_pipeline.model.evaluation import Evaluation


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
    """What the page shows of any number of recordings; its size does not grow with them."""

    recordings: int = 0
    failures: int = 0
    seconds: float = 0.0
    findings: Counter[str] = field(default_factory=Counter)  # how often each came
    warnings: Counter[str] = field(default_factory=Counter)
    labels: Counter[str] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    # recordings that could not be read, and why; the first `SHOWN`
    failed: list[tuple[str, str]] = field(default_factory=list)
    # (worth, recording, document) of the recordings worth listening to first
    listen: list[tuple[float, str, Mapping[str, Any]]] = field(default_factory=list)

    def add(self, recording: str, document: Mapping[str, Any]) -> None:
        """Count one recording.

        ``document``: its entry in the ``analyze --json`` document.
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
        worth = worth_listening(document)
        entry = (worth, recording, document)
        if worth > 0 and len(self.listen) < SHOWN:
            heapq.heappush(self.listen, entry)
        elif worth > 0 and entry[:2] > self.listen[0][:2]:
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
    inputs: Iterable[str | bytes | os.PathLike[str] | None] = (),
    overwrite: bool = False,
) -> None:
    """Write the summary page of a batch.

    ``path``: file to write; it appears whole or not at all.
    ``recordings``: name in the tables and entry of the ``analyze --json`` document, in any order;
        read once.
    ``overwrite``: replace what is there, whoever made it; else only a page of ours.
    Raises InvalidInputError when something is there that Crepitus did not write.
    """
    summary = BatchSummary()
    for recording, document in recordings:
        summary.add(recording, document)
    write_page(path, batch_page(summary), inputs, overwrite=overwrite)


def batch_page(summary: BatchSummary) -> str:
    """Return the page of a summary; self-contained, like every report."""
    facts = [
        f"{summary.recordings} recordings, {hours(summary.seconds)} of sound",
        f"{summary.failures} could not be read",
        f"{summary.findings['unusable']} could be read but not used",
    ]
    listen = sorted(summary.listen, key=lambda entry: entry[:2], reverse=True)
    return render_page(
        "batch.html",
        "Crepitus: a batch of recordings",
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


@dataclass(frozen=True)
class Table:
    """A table for people and a chart below it: in HTML, in Markdown or as plain text."""

    title: str
    header: tuple[str, ...] = ()
    rows: Sequence[Sequence[str]] = ()
    chart: str = ""  # SVG of our own drawing, whose texts are escaped

    def markdown(self) -> list[str]:
        """Return its lines, an empty one at the end."""
        flat = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in self.rows]
        header, *rows = (f"| {' | '.join(row)} |" for row in (self.header, *flat))
        return [header, "|---" * len(self.header) + "|", *rows, ""]

    def text(self) -> list[str]:
        """Return its lines, in columns."""
        rows = [[cell if len(cell) < 63 else f"{cell[:61]}…" for cell in row] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(self.header, *rows, strict=True)]
        return [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in (self.header, *rows)
        ]


def table(
    title: str, header: tuple[str, ...] = (), rows: Iterable[Sequence[Any]] = (), chart: str = ""
) -> Table:
    """Return a table of values: two decimals for a fraction, nothing for what is not known."""
    cells = [[_shown(value) for value in row] for row in rows]
    return Table(title, header, cells, Markup(chart))  # noqa: S704  our own drawing


def _shown(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def figure_table(metrics: Mapping[str, Any]) -> Table:
    """Return every figure that there is, with its interval."""
    rows = []
    for name, text in FIGURE_NAMES:
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f"{low:.2f} to {high:.2f}"
        if metrics.get(name) is not None:
            rows.append((text, f"{metrics[name]:.3f}", interval))
    return table("Figures", ("Figure", "Value", "95 % interval"), rows)


def label_table(evaluation: Evaluation) -> Table:
    """Return how each label is found."""
    header = ("Label", "Number", "Answered", "Found", "Recall", "Precision", "Recall of all")
    keys = ("label", "count", "coverage", "found", "recall", "precision", "recall_of_all")
    return table("By label", header, [[row[key] for key in keys] for row in evaluation.by_label])


def kind_table(evaluation: Evaluation) -> Table:
    """Return what each kind of sound is taken for."""
    rows = [
        [f"{row['label']}: {row['kind']}", row["count"], row["groups"], *row["taken_for"].values()]
        for row in evaluation.kinds
    ]
    header = ("Kind", "Number", "Groups", *evaluation.table.labels, "unsure")
    return table("What each kind is taken for", header, rows)


def finding_table(evaluation: Evaluation) -> Table:
    """Return how often findings about whole recordings are right."""
    scores = evaluation.findings
    rows = [] if scores is None else [scores.total, *chain.from_iterable(scores.by.values())]
    if scores is not None and scores.without_protocol is not None:
        rows.append(replace(scores.without_protocol, name="guided, had nobody known"))
    header = ("", "Number", *(name.title() for name in OUTCOMES), "False grating, where none is")
    cells = [(r.name, r.count, *(r.shares[n] for n in OUTCOMES), r.false_grating) for r in rows]
    return table("Whole recordings", header, cells)


def part_table(name: str, rows: Sequence[Breakdown], charts: bool = True) -> Table:
    """Return the figures of parts, such as groups."""
    header = ("", "Number", "Answered", "Right of answered", "Right, all answered", "95 % interval")
    cells = [
        (
            *(r.name, r.count, r.coverage, r.right_of_answered, r.right_of_all),
            f"{r.low:.2f} to {r.high:.2f}",
        )
        for r in rows
    ]
    title = f"By {name.replace('_', ' ')}"
    bars = [(f"{row.name} ({row.count})", row.right_of_all, row.low, row.high) for row in rows]
    chart = interval_chart(f"Share right, {title.lower()}", bars) if charts else ""
    return table(title, header, cells, chart)


def evaluation_tables(evaluation: Evaluation, charts: bool) -> list[Table]:
    """Return all that an evaluation found; with charts, those that have no rows too."""
    confusion = zip(evaluation.table.labels, evaluation.confusion.tolist(), strict=True)
    events = [
        (
            *(one.label, one.overlap.wanted, one.overlap.found),
            *(one.onset_20ms.f1, one.onset_50ms.f1, one.overlap.f1),
        )
        for one in evaluation.events
    ]
    starts = ("F1, start within 20 ms", "within 50 ms", "overlap")
    return [
        figure_table(evaluation.figures),
        label_table(evaluation),
        table(
            "What was taken for what",
            ("Truth", *evaluation.table.labels, "abstained"),
            [(label, *(f"{number:g}" for number in row)) for label, row in confusion],
        ),
        kind_table(evaluation),
        finding_table(evaluation),
        table("Answering less, erring less", chart=risk_chart(evaluation) if charts else ""),
        table(
            "Does it know how sure it is?", chart=reliability_chart(evaluation) if charts else ""
        ),
        table("Events in time", ("Label", "There", "Found", *starts), events),
        part_table("group", evaluation.groups, charts),
        *(part_table(name, rows, charts) for name, rows in evaluation.by.items()),
    ]


def risk_chart(evaluation: Evaluation) -> str:
    """Draw balanced accuracy over coverage."""
    points = [(point.coverage, point.balanced_accuracy) for point in evaluation.curve]
    title = "Balanced accuracy when only the most confident answers are given"
    return share_chart(title, "share answered", "balanced accuracy", points)


def reliability_chart(evaluation: Evaluation) -> str:
    """Draw how often events are right over how sure the model was."""
    points = [(one.confidence, one.accuracy) for one in evaluation.bins]
    title = "How often a sound is named rightly against how sure the model was"
    return share_chart(title, "probability given", "share right", points, diagonal=True)


def evaluation_page(evaluation: Evaluation) -> str:
    """Return an evaluation as HTML with everything inside."""
    metrics = evaluation.figures
    weighed = ", every kind of a label weighing alike" if metrics["weighed_by"] else ""
    counts = (
        f"{metrics['n_recordings']} recordings, {metrics['n_events']} sounds, "
        f"{metrics['n_groups']} groups{weighed}. Model {evaluation.name} "
        f"({evaluation.sha256[:12]})."
    )
    source = evaluation.material.dataset.source
    return render_page(
        "evaluation.html",
        "Crepitus: evaluation",
        heading="How well does the model hear?",
        lead=[counts, f"Dataset: {source}. Scheme: {metrics['scheme']}."],
        cautions=[one.text for one in evaluation.data_warnings],
        parts=evaluation_tables(evaluation, charts=True),
    )


def benchmark_page(ranking: Sequence[Sequence[Place]]) -> str:
    """Return the ranking of a benchmark's results as HTML with everything inside."""
    parts, cautions = [], []
    for places in ranking:
        task, first = places[0].result.task, places[0].result
        title = f"Task {task.sha256[:8]}: {len(first.cases)} recordings"
        header = ("Estimator", *(text for _, text in RANKED), "Behind the first", "Controls")
        rows = [
            (
                f"{place.rank}. {_estimator_words(place)}",
                *(_with_interval(place.result, name) for name, _ in RANKED),
                _behind_words(place),
                ", ".join(one.name for one in place.result.controls if one.caught) or "none caught",
            )
            for place in places
        ]
        bars = [
            (
                _estimator_words(place),
                place.result.figure(HEADLINE),
                place.result.figure(f"{HEADLINE}_low"),
                place.result.figure(f"{HEADLINE}_high"),
            )
            for place in places
        ]
        chart = interval_chart("Balanced accuracy, every recording answered", bars)
        parts.append(table(title, header, rows, chart))
        caught = {one.verdict for place in places for one in place.result.controls if one.caught}
        cautions += sorted(caught)
    lead = [
        "Each estimator was judged on recordings of groups it had not seen, with its parameters, "
        "calibration and thresholds chosen on the other groups. In brackets: 95 % intervals over "
        "groups.",
        "Ranked is what was judged on the same splits of the same data. Where the interval of "
        "what an estimator is behind the first holds 0, the two cannot be told apart.",
    ]
    return render_page(
        "evaluation.html",
        "Crepitus: benchmark",
        heading="Which estimator hears best?",
        lead=lead,
        cautions=cautions,
        parts=parts,
    )


RANKED = (
    (HEADLINE, "Balanced accuracy"),
    ("auc", "AUC"),
    ("balanced_accuracy", "of the answers"),
    ("coverage", "Answered"),
    ("false_grating_recordings", "False grinding"),
    ("ece", "Calibration error"),
)
"""The figures of a ranking and what they are called."""


def _estimator_words(place: Place) -> str:
    params = ", ".join(f"{name}={value}" for name, value in place.result.asked.items())
    return f"{place.result.estimator}{f' ({params})' if params else ''}"


def _with_interval(result: Result, name: str) -> str:
    value, low, high = (result.figure(f"{name}{end}") for end in ("", "_low", "_high"))
    interval = "" if low is None or high is None else f" [{low:.2f}, {high:.2f}]"
    return f"{_shown(value)}{interval}"


def _behind_words(place: Place) -> str:
    if place.rank == 1:
        return ""
    if place.low is None or place.high is None:
        return f"{place.behind:.3f}"
    apart = "" if place.told_apart else ", not told apart"
    return f"{place.behind:.3f} [{place.low:.3f}, {place.high:.3f}]{apart}"
