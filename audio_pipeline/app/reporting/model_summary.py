"""What a training or an evaluation found, as a page of a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from audio_pipeline.app.reporting.model_card import curve_sentence
from audio_pipeline.model.findings import OUTCOMES
from audio_pipeline.model.scoring import FIGURE_NAMES

if TYPE_CHECKING:
    from audio_pipeline.model.evaluation import Evaluation
    from audio_pipeline.model.findings import FindingScores
    from audio_pipeline.model.training import Training


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
    lines += [f"Warning ({one.code}): {one.text}" for one in training.cautions]
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
    lines += ["", *(f"Warning ({one.code}): {one.text}" for one in evaluation.cautions)]
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
