"""An evaluation as one page that needs nothing else: figures, tables, charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from audio_pipeline.app.reporting.charts import interval_chart, share_chart
from audio_pipeline.app.reporting.markup import Markup, join, tag
from audio_pipeline.app.reporting.report import html_page
from audio_pipeline.model.findings import OUTCOMES
from audio_pipeline.model.scoring import FIGURE_NAMES

if TYPE_CHECKING:
    from audio_pipeline.model.breakdown import Breakdown
    from audio_pipeline.model.evaluation import Evaluation
    from audio_pipeline.model.findings import FindingScores


def evaluation_page(evaluation: Evaluation) -> str:
    """Return an evaluation as HTML with everything inside."""
    given = evaluation.to_dict()
    metrics = given["metrics"]
    counts = (
        f"{metrics['n_recordings']} recordings, {metrics['n_events']} sounds, "
        f"{metrics['n_groups']} groups"
        + (", every kind of a label weighing alike. " if metrics["weighed_by"] else ". ")
        + f"Model {evaluation.name} ({evaluation.sha256[:12]})."
    )
    labels = [
        [
            row["label"],
            str(row["count"]),
            *(
                _share(row[key])
                for key in ("coverage", "found", "recall", "precision", "recall_of_all")
            ),
        ]
        for row in given["labels"]
    ]
    confusion = [
        [label, *(str(count) for count in row)]
        for label, row in zip(evaluation.table.labels, given["confusion"]["rows"], strict=True)
    ]
    events = [
        [
            row["label"],
            str(row["wanted"]),
            str(row["found"]),
            *(_share(row[f"{kind}_f1"]) for kind in ("onset_20ms", "onset_50ms", "overlap")),
        ]
        for row in given["events"]
    ]
    body = join(
        tag("h1", "How well does the model hear?"),
        tag("p", counts),
        tag("p", f"Dataset: {given['dataset']['source']}. Scheme: {metrics['scheme']}."),
        _section("Read this first", _warnings(evaluation)) if evaluation.cautions else None,
        _section("Figures", _figures(evaluation)),
        _section(
            "By label",
            _table(
                ("Label", "Number", "Answered", "Found", "Recall", "Precision", "Recall of all"),
                labels,
            ),
        ),
        _section(
            "What was taken for what",
            _table(("Truth", *given["confusion"]["labels"]), confusion),
        ),
        _section("What each kind is taken for", _kinds(evaluation)) if evaluation.kinds else None,
        _section("Whole recordings", _findings(evaluation.findings))
        if evaluation.findings is not None
        else None,
        _section("Answering less, erring less", Markup(_risk_coverage(evaluation))),
        _section("Does it know how sure it is?", Markup(_reliability(evaluation))),
        _section(
            "Events in time",
            _table(
                ("Label", "There", "Found", "F1, start within 20 ms", "within 50 ms", "overlap"),
                events,
            ),
        )
        if events
        else None,
        _breakdown("By group", evaluation.groups),
        *(_breakdown(f"By {name.replace('_', ' ')}", rows) for name, rows in evaluation.by.items()),
    )
    return html_page("Crepitus: evaluation", body)


def _section(title: str, *content: Markup | None) -> Markup:
    return tag("section", tag("h2", title), *content)


def _warnings(evaluation: Evaluation) -> Markup:
    return tag("ul", *(tag("li", one.text) for one in evaluation.cautions))


def _figures(evaluation: Evaluation) -> Markup:
    metrics = evaluation.figures
    rows = []
    for name, text in FIGURE_NAMES:
        if metrics.get(name) is None:
            continue
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        rows.append([text, f"{metrics[name]:.3f}", interval])
    return _table(("Figure", "Value", "95 % interval"), rows)


def _kinds(evaluation: Evaluation) -> Markup:
    names = [*evaluation.table.labels, "unsure"]
    rows = [
        [
            f"{row['label']}: {row['kind']}",
            str(row["count"]),
            str(row["groups"]),
            *(_share(row["taken_for"][name]) for name in names),
        ]
        for row in evaluation.kinds
    ]
    return _table(("Kind", "Number", "Groups", *names), rows)


def _findings(scores: FindingScores) -> Markup:
    parts = [scores.total, *(row for rows in scores.by.values() for row in rows)]
    rows = [
        [
            part.name,
            str(part.count),
            *(_share(part.shares[name]) for name in OUTCOMES),
            _share(part.false_grating),
        ]
        for part in parts
    ]
    return _table(("", "Number", *(name.title() for name in OUTCOMES), "False grating"), rows)


def _risk_coverage(evaluation: Evaluation) -> str:
    points = [(point.coverage, point.balanced_accuracy) for point in evaluation.curve]
    return share_chart(
        "Balanced accuracy when only the most confident answers are given",
        "share answered",
        "balanced accuracy",
        [("", points)],
    )


def _reliability(evaluation: Evaluation) -> str:
    points = [(one.confidence, one.accuracy) for one in evaluation.bins]
    return share_chart(
        "How often a sound is named rightly against how sure the model was",
        "probability given",
        "share right",
        [("", points)],
        diagonal=True,
    )


def _breakdown(title: str, rows: Sequence[Breakdown]) -> Markup:
    table = _table(
        ("", "Number", "Answered", "Right of answered", "Right, all answered"),
        [
            [
                row.name,
                str(row.count),
                _share(row.coverage),
                _share(row.right_of_answered),
                _share(row.right_of_all),
            ]
            for row in rows
        ],
    )
    bars = [(f"{row.name} ({row.count})", row.right_of_all, row.low, row.high) for row in rows]
    return _section(title, table, Markup(interval_chart(f"Share right, {title.lower()}", bars)))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    return tag(
        "table",
        tag("thead", tag("tr", *(tag("th", name, scope="col") for name in header))),
        tag(
            "tbody",
            *(
                tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:]))
                for row in rows
            ),
        ),
    )


def _share(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.2f}"
