"""An evaluation as one page that needs nothing else: figures, tables, charts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from audio_pipeline.app.reporting.plots import interval_chart, share_chart
from audio_pipeline.app.reporting.report import render_page
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
    weighed = ", every kind of a label weighing alike" if metrics["weighed_by"] else ""
    counts = (
        f"{metrics['n_recordings']} recordings, {metrics['n_events']} sounds, "
        f"{metrics['n_groups']} groups{weighed}. Model {evaluation.name} "
        f"({evaluation.sha256[:12]})."
    )
    confusion = zip(evaluation.table.labels, given["confusion"]["rows"], strict=True)
    parts = [
        _part("Figures", ("Figure", "Value", "95 % interval"), _figures(evaluation)),
        _part(
            "By label",
            ("Label", "Number", "Answered", "Found", "Recall", "Precision", "Recall of all"),
            [_label(row) for row in given["labels"]],
        ),
        _part(
            "What was taken for what",
            ("Truth", *given["confusion"]["labels"]),
            [(label, *row) for label, row in confusion],
        ),
        _kinds(evaluation),
        *([] if evaluation.findings is None else [_findings(evaluation.findings)]),
        _part("Answering less, erring less", chart=_risk_coverage(evaluation)),
        _part("Does it know how sure it is?", chart=_reliability(evaluation)),
        _part(
            "Events in time",
            ("Label", "There", "Found", "F1, start within 20 ms", "within 50 ms", "overlap"),
            [_found(row) for row in given["events"]],
        ),
        _breakdown("By group", evaluation.groups),
        *(_breakdown(f"By {name.replace('_', ' ')}", rows) for name, rows in evaluation.by.items()),
    ]
    return render_page(
        "evaluation.html",
        "Crepitus: evaluation",
        counts=counts,
        dataset=given["dataset"]["source"],
        scheme=metrics["scheme"],
        cautions=[one.text for one in evaluation.data_warnings],
        parts=parts,
    )


def _part(
    title: str,
    header: Sequence[str] = (),
    rows: Iterable[Sequence[object]] = (),
    chart: str = "",
) -> dict[str, Any]:
    """Return a section: a table, which is left out when it has no rows, and a chart below it."""
    return {
        "title": title,
        "header": header,
        "rows": [[str(cell) for cell in row] for row in rows],
        "chart": Markup(chart),  # noqa: S704  our own drawing, its texts are escaped
    }


def _label(row: Mapping[str, Any]) -> list[object]:
    keys = ("coverage", "found", "recall", "precision", "recall_of_all")
    return [row["label"], row["count"], *(_share(row[key]) for key in keys)]


def _found(row: Mapping[str, Any]) -> list[object]:
    keys = ("onset_20ms_f1", "onset_50ms_f1", "overlap_f1")
    return [row["label"], row["wanted"], row["found"], *(_share(row[key]) for key in keys)]


def _figures(evaluation: Evaluation) -> list[list[str]]:
    metrics = evaluation.figures
    rows = []
    for name, text in FIGURE_NAMES:
        if metrics.get(name) is None:
            continue
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        rows.append([text, f"{metrics[name]:.3f}", interval])
    return rows


def _kinds(evaluation: Evaluation) -> dict[str, Any]:
    names = [*evaluation.table.labels, "unsure"]
    rows = [
        (
            f"{row['label']}: {row['kind']}",
            row["count"],
            row["groups"],
            *(_share(row["taken_for"][name]) for name in names),
        )
        for row in evaluation.kinds
    ]
    return _part("What each kind is taken for", ("Kind", "Number", "Groups", *names), rows)


def _findings(scores: FindingScores) -> dict[str, Any]:
    parts = [scores.total, *(row for rows in scores.by.values() for row in rows)]
    rows = [
        (
            part.name,
            part.count,
            *(_share(part.shares[name]) for name in OUTCOMES),
            _share(part.false_grating),
        )
        for part in parts
    ]
    header = ("", "Number", *(name.title() for name in OUTCOMES), "False grating")
    return _part("Whole recordings", header, rows)


def _risk_coverage(evaluation: Evaluation) -> str:
    points = [(point.coverage, point.balanced_accuracy) for point in evaluation.curve]
    return share_chart(
        "Balanced accuracy when only the most confident answers are given",
        "share answered",
        "balanced accuracy",
        points,
    )


def _reliability(evaluation: Evaluation) -> str:
    points = [(one.confidence, one.accuracy) for one in evaluation.bins]
    return share_chart(
        "How often a sound is named rightly against how sure the model was",
        "probability given",
        "share right",
        points,
        diagonal=True,
    )


def _breakdown(title: str, rows: Sequence[Breakdown]) -> dict[str, Any]:
    shares = [
        (
            row.name,
            row.count,
            _share(row.coverage),
            _share(row.right_of_answered),
            _share(row.right_of_all),
        )
        for row in rows
    ]
    bars = [(f"{row.name} ({row.count})", row.right_of_all, row.low, row.high) for row in rows]
    header = ("", "Number", "Answered", "Right of answered", "Right, all answered")
    return _part(title, header, shares, interval_chart(f"Share right, {title.lower()}", bars))


def _share(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.2f}"
