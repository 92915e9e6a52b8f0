"""A model for people: its card, its plots, and what a training or an evaluation found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from audio_pipeline.app.reporting.plots import interval_chart, share_chart
from audio_pipeline.model import metrics as figures
from audio_pipeline.model.breakdown import OUTCOMES
from audio_pipeline.model.classifier import CARD
from audio_pipeline.model.scoring import FIGURE_NAMES, PredictionTable

if TYPE_CHECKING:
    from audio_pipeline.datasets.examples import Example
    from audio_pipeline.model.breakdown import FindingScores
    from audio_pipeline.model.evaluation import Evaluation
    from audio_pipeline.model.training import Training

_NEVER_MEASURED = (
    "how well any of this holds for a microphone, a room or a person that is not in the data",
    "whether a sound says anything about health: a model hears sounds, it cannot examine anyone",
)
_JOINTS_NEVER_MEASURED = (
    "accuracy on microphone recordings of a lumbar spine: no labelled collection exists",
)


def model_plots(training: Training) -> dict[str, bytes]:
    """Return the plots of a model folder by file name.

    Empty without honest figures, and where matplotlib is not installed.
    """
    validation = training.cross_validation
    if validation is None:
        return {}
    given = validation.table
    known = given.y_pred != figures.ABSTAINED
    curve = figures.risk_coverage(
        given.y_true[known], given.y_pred[known], given.mean[known].max(axis=1), len(given.labels)
    )
    highest = given.event_probabilities.max(axis=1)
    right = given.event_probabilities.argmax(axis=1) == given.event_true
    bins = figures.reliability(highest, right)
    plots = {
        "risk_coverage.svg": share_chart(
            "Balanced accuracy when only the most confident answers are given",
            "share answered",
            "balanced accuracy",
            [(point.coverage, point.balanced_accuracy) for point in curve],
        ),
        "reliability.svg": share_chart(
            "How often an event is right against how sure the model was",
            "probability given",
            "share right",
            [(one.confidence, one.accuracy) for one in bins],
            diagonal=True,
        ),
        "groups.svg": interval_chart("Share right by group", group_rows(given)),
    }
    return {name: text.encode() for name, text in plots.items() if text}


def group_rows(
    given: PredictionTable,
) -> list[tuple[str, float | None, float | None, float | None]]:
    """Return (group, share right, low, high) by group, every recording answered.

    The interval is Wilson's 95 % interval; groups in order of name.
    """
    rows: list[tuple[str, float | None, float | None, float | None]] = []
    for group in np.unique(given.groups):
        chosen = (given.groups == group) & (given.y_pred != figures.ABSTAINED)
        count = int(chosen.sum())
        if not count:
            rows.append((f"{group} (0)", None, None, None))
            continue
        share = float((given.y_pred[chosen] == given.y_true[chosen]).mean())
        low, high = figures.wilson(share, count)
        rows.append((f"{group} ({count})", share, low, high))
    return rows


_JUDGE_ONLY = (
    "- the estimator has not learnt from the recordings: they choose its parameters, set the "
    "temperature of the calibration and judge; it learns from the made events alone"
)


def card_and_plots(training: Training) -> dict[str, bytes]:
    """Return the card and the plots of a model folder, by file name."""
    files = model_plots(training)
    files[CARD] = model_card(training, sorted(files)).encode()
    return files


def model_card(training: Training, plots: Sequence[str]) -> str:
    """Write the card of a model in Markdown."""
    classifier, metrics, material = training.classifier, training.metrics, training.material
    labels = classifier.labels
    usable = [material.cases[index] for index in material.usable]
    counts = Counter(case.label for case in usable)
    provenance = classifier.description["training"]
    never = list(_NEVER_MEASURED)
    if {"pop", "grating"} <= set(labels):
        never = [*_JOINTS_NEVER_MEASURED, *never]
    base = provenance["base"]
    started = [f"- started from the model {base['name']} ({base['sha256'][:16]})"] if base else []
    made = provenance["made_events"]
    learnt = set(provenance["recordings"])
    teachers = [case for case in usable if material.surveys[case.name].digest in learnt]
    lines = [
        f"# Model card: {classifier.name}",
        "",
        f"Tells apart {', '.join(labels)}. Listens at {classifier.settings.sample_rate} Hz.",
        "",
        f"Estimator: {provenance['kind']}"
        + "".join(f", {name} {value}" for name, value in sorted(provenance["params"].items())),
        "",
        "## Intended use",
        "",
        "Sorting sounds in recordings made under conditions like those of the training data, by "
        "people who look at what it could not decide. Not for finding or ruling out any illness.",
        "",
        "## Data",
        "",
        f"- {metrics['n_recordings']} recordings, {metrics['n_events']} events, "
        f"{metrics['n_groups']} groups; digest {provenance['digest']}",
        *started,
        *(
            [f"- {len(usable) - len(teachers)} of them only judge and are not listed below"]
            if len(teachers) < len(usable)
            else []
        ),
        *(
            [f"- {made} further events made for training only; none of them is judged"]
            if made
            else []
        ),
        *([_JUDGE_ONLY] if provenance["judge_only"] else []),
        "",
        "| label | recordings or stretches |",
        "|---|---|",
        *(f"| {label} | {counts[label]} |" for label in labels),
        "",
        "| licence | recordings or stretches |",
        "|---|---|",
        *(f"| {licence} | {count} |" for licence, count in provenance["licences"].items()),
        "",
        *recording_rows(teachers),
        "## Figures",
        "",
        f"Scheme: {metrics['scheme']}.",
        "",
        *_figure_lines(training),
        *_control_lines(training),
        "## Sure or uncertain",
        "",
        *(f"- {label}: sure from {p:.2f}" for label, p in sorted(classifier.thresholds.items())),
        "",
        "## Warnings",
        "",
        *([f"- `{one.code}`: {one.text}" for one in training.data_warnings] or ["None."]),
        "",
        "## Never measured",
        "",
        *(f"- {text}" for text in never),
        "",
        *(f"![{name.removesuffix('.svg').replace('_', ' ')}]({name})" for name in plots),
    ]
    return "\n".join(lines).rstrip() + "\n"


def recording_rows(cases: Sequence[Example]) -> list[str]:
    """List the recordings that state a licence: whoever made them wants to be named."""
    stated = [case for case in cases if case.columns.get("licence")]
    if not stated:
        return []
    rows = [
        (case.name, case.label, case.group, case.columns["licence"], case.columns.get("source", ""))
        for case in stated
    ]
    return [
        "## Recordings",
        "",
        "| file | label | group | licence | source |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(map(_cell, row))} |" for row in dict.fromkeys(rows)),
        "",
    ]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _figure_lines(training: Training) -> list[str]:
    validation = training.cross_validation
    if validation is None:
        return ["No figure is given: no honest split of the data exists.", ""]
    metrics, given = training.metrics, validation.table
    lines = ["| figure | value | 95 % interval |", "|---|---|---|"]
    for name, text in FIGURE_NAMES:
        value = metrics.get(name)
        if value is None:
            continue
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = f"{low:.2f} to {high:.2f}" if low is not None and high is not None else ""
        lines.append(f"| {text} | {value:.3f} | {interval} |")
    if metrics["weighed_by"]:
        lines += ["", f"Every {metrics['weighed_by']} of a label weighs alike."]
    lines += _taken_for(training) + _takes(training)
    lines += ["", "Every recording answered, by label and by group (Wilson intervals):", ""]
    lines += ["| label | recall | precision |", "|---|---|---|"]
    table = figures.confusion(given.y_true, given.y_pred, len(given.labels))
    for label, recall, precision in zip(
        given.labels, figures.recalls(table), figures.precisions(table), strict=True
    ):
        lines.append(f"| {label} | {_share(recall)} | {_share(precision)} |")
    lines += ["", "| group (recordings) | right | 95 % interval |", "|---|---|---|"]
    for group, value, low, high in group_rows(given):
        interval = f"{low:.2f} to {high:.2f}" if low is not None and high is not None else ""
        lines.append(f"| {group} | {_share(value)} | {interval} |")
    if training.curve:
        lines += ["", "Would more recordings help? Balanced accuracy with part of the groups:", ""]
        lines += ["| groups trained on | balanced accuracy |", "|---|---|"]
        lines += [
            f"| {point.groups:.0f} | {point.recording_balanced_accuracy:.2f} |"
            for point in training.curve
        ]
        lines += ["", curve_sentence([p.recording_balanced_accuracy for p in training.curve])]
    return [*lines, ""]


def _control_lines(training: Training) -> list[str]:
    """Return what holds no such sound, asked for the labels."""
    controls = training.evaluation.controls if training.evaluation else ()
    if not controls:
        return []
    return ["## Negative controls", "", *(f"- {one.verdict}" for one in controls), ""]


def _taken_for(training: Training) -> list[str]:
    """Return a table of kinds, with what each is taken for."""
    kinds = training.evaluation.kinds if training.evaluation else []
    if not kinds:
        return []
    names = list(kinds[0]["taken_for"])
    rows = [
        f"| {_cell(row['label'])}: {_cell(row['kind'])} | {row['count']} | {row['groups']} | "
        + " | ".join(_share(row["taken_for"][name]) for name in names)
        + " |"
        for row in kinds
    ]
    header = ["kind", "number", "groups", *names]
    return ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|", *rows]


def _takes(training: Training) -> list[str]:
    """Return how often findings on recordings put together from the clips are right."""
    scores = training.evaluation.findings if training.evaluation else None
    if scores is None:
        return []
    rows = [scores.total, *(row for rows in scores.by.values() for row in rows)]
    header = ["whole recordings", "number", *OUTCOMES, "false grating, where there is none"]
    lines = ["", f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    for row in rows:
        cells = [_share(row.shares[name]) for name in OUTCOMES] + [_share(row.false_grating)]
        lines.append(f"| {row.name} | {row.count} | {' | '.join(cells)} |")
    return lines


def curve_sentence(accuracies: Sequence[float]) -> str:
    """Say in words what a learning curve means."""
    gain = accuracies[-1] - accuracies[-2]
    if gain > 0.02:
        return "The curve still rises: more groups would probably help."
    return "The curve is flat at its end: more of the same would probably not help much."


def _share(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.2f}"


def training_page(training: Training, folder: str) -> str:
    """Return what a person should know about a new model."""
    metrics = training.metrics
    lines = [
        f"Model with the labels {', '.join(training.classifier.labels)} in {folder}",
        f"{metrics['n_recordings']} recordings, {metrics['n_groups']} groups",
    ]
    accuracy = metrics["recording_balanced_accuracy"]
    if accuracy is not None:
        low, high = (metrics[f"recording_balanced_accuracy_{end}"] for end in ("low", "high"))
        interval = f", 95 % interval {low:.2f} to {high:.2f}" if low is not None else ""
        lines.append(f"Balanced accuracy on groups it had not seen: {accuracy:.2f}{interval}")
        if metrics["balanced_accuracy"] is not None:
            lines.append(
                f"It answers {metrics['coverage']:.0%} of the recordings, "
                f"with balanced accuracy {metrics['balanced_accuracy']:.2f}"
            )
        lines.append(
            f"Recording conditions alone reach {metrics['shortcut_balanced_accuracy']:.2f}"
        )
    if training.curve:
        lines.append(curve_sentence([p.recording_balanced_accuracy for p in training.curve]))
    lines += [f"Warning ({one.code}): {one.text}" for one in training.data_warnings]
    lines.append(f"More in {folder}/CARD.md. Next: crepitus analyze FILE --model {folder}")
    return "\n".join(lines)


def evaluation_text(evaluation: Evaluation) -> str:
    """Return what an evaluation found."""
    metrics = evaluation.figures
    lines = [
        f"{metrics['scheme'][0].upper()}{metrics['scheme'][1:]}: {metrics['n_recordings']} "
        f"recordings, {metrics['n_groups']} groups"
        + (", every kind of a label weighs alike" if metrics["weighed_by"] else ""),
        "",
    ]
    if not metrics["n_recordings"]:
        lines.append("Nothing is left to measure on: see the warnings.")
    for name, text in FIGURE_NAMES:
        if metrics.get(name) is None:
            continue
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = f"  ({low:.2f} to {high:.2f})" if low is not None and high is not None else ""
        lines.append(f"{text:62}{metrics[name]:7.3f}{interval}")
    lines += [f"Control: {one.verdict}" for one in evaluation.controls]
    if evaluation.findings is not None:
        lines += ["", *_finding_lines(evaluation.findings)]
    if evaluation.doubtful["n_cases"]:
        lines += ["", _doubt_line(evaluation.doubtful)]
    header = f"{'label':20}{'number':>8}{'answered':>10}{'found':>8}{'recall':>8}{'precision':>11}"
    lines += ["", header]
    for row in evaluation.by_label:
        shares = [row[name] for name in ("coverage", "found", "recall", "precision")]
        cells = ["" if share is None else f"{share:.2f}" for share in shares]
        label, number = row["label"][:19], row["count"]
        lines.append(f"{label:20}{number:8}{cells[0]:>10}{cells[1]:>8}{cells[2]:>8}{cells[3]:>11}")
    lines += _kind_lines(evaluation)
    for title, rows in {"group": evaluation.groups, **evaluation.by}.items():
        lines += ["", f"{title.replace('_', ' '):40}{'number':>8}{'answered':>10}{'right':>8}"]
        lines += [
            f"{row.name[:39]:40}{row.count:8}{row.coverage:10.2f}{row.right_of_all:8.2f}"
            for row in rows
        ]
    lines += ["", *(f"Warning ({one.code}): {one.text}" for one in evaluation.data_warnings)]
    return "\n".join(lines).rstrip()


def _finding_lines(scores: FindingScores) -> list[str]:
    rows = [scores.total, *(row for rows in scores.by.values() for row in rows)]
    if scores.without_protocol is not None:
        rows.append(replace(scores.without_protocol, name="guided, had nobody known"))
    names = [*OUTCOMES, "false grating"]
    lines = [f"{'whole recordings':32}{'number':>8}" + "".join(f"{one:>15}" for one in names)]
    for row in rows:
        cells = [f"{share:15.2f}" for share in (*row.shares.values(), row.false_grating)]
        lines.append(f"{row.name[:31]:32}{row.count:8}{''.join(cells)}")
    return lines


def _doubt_line(doubtful: Mapping[str, Any]) -> str:
    shares = [doubtful.get("balanced_accuracy"), doubtful.get("coverage")]
    cells = ["none" if share is None else f"{share:.2f}" for share in shares]
    return (
        f"Not counted, because their label is in doubt: {doubtful['n_cases']} recordings "
        f"(balanced accuracy {cells[0]}, answered {cells[1]})"
    )


def _kind_lines(evaluation: Evaluation) -> list[str]:
    if not evaluation.kinds:
        return []
    names = [*evaluation.table.labels, "unsure"]
    lines = ["", f"{'kind':32}{'number':>8}" + "".join(f"{name[:11]:>12}" for name in names)]
    for row in evaluation.kinds:
        cells = "".join(f"{row['taken_for'][name]:12.2f}" for name in names)
        lines.append(f"{row['label'] + ': ' + row['kind']:32.31}{row['count']:8}{cells}")
    return lines
