"""A model for people: its card, its plots, and what a training or an evaluation found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from audio_pipeline.app.reporting.pages import (
    Table,
    evaluation_tables,
    figure_table,
    finding_table,
    kind_table,
    label_table,
    part_table,
    reliability_chart,
    risk_chart,
    table,
)
from audio_pipeline.app.reporting.report import environment
from audio_pipeline.app.text import visible_lines
from audio_pipeline.datasets.manifest import in_doubt
from audio_pipeline.model.classifier import CARD

if TYPE_CHECKING:
    from audio_pipeline.datasets.examples import Example
    from audio_pipeline.model.evaluation import Evaluation
    from audio_pipeline.model.training import Training


def card_and_plots(training: Training) -> dict[str, bytes]:
    """Return the card and the plots of a model folder, by file name.

    No plots without honest figures, nor where matplotlib is not installed.
    """
    plots = {}
    if (found := training.evaluation) is not None:
        plots["risk_coverage.svg"] = risk_chart(found)
        plots["reliability.svg"] = reliability_chart(found)
        plots["groups.svg"] = part_table("group", found.groups).chart
    files = {name: text.encode() for name, text in plots.items() if text}
    files[CARD] = model_card(training, sorted(files)).encode()
    return files


def model_card(training: Training, plots: Sequence[str]) -> str:
    """Write the card of a model in Markdown."""
    classifier, material, found = training.classifier, training.material, training.evaluation
    usable = [material.cases[index] for index in material.usable]
    usable = [case for case in usable if not in_doubt(case.columns)]
    about = classifier.description["training"]
    learnt = set(about["recordings"])
    teachers = [case for case in usable if material.surveys[case.name].digest in learnt]
    counts = Counter(case.label for case in usable)
    number = "recordings or stretches"
    figures: list[Table] = []
    if found is not None:
        some = (kind_table(found), finding_table(found), label_table(found))
        figures = [one for one in (*some, part_table("group", found.groups, False)) if one.rows]
    curve = [(f"{point.groups:.0f}", point.recording_balanced_accuracy) for point in training.curve]
    # Markdown may hold HTML, so that names must not; hidden characters are made visible.
    markdown = environment().overlay(autoescape=False, finalize=_markdown)
    page = markdown.get_template("model-card.md")
    return page.render(
        classifier=classifier,
        about=about,
        metrics=training.metrics,
        judging=len(usable) - len(teachers),
        labels=table("", ("label", number), [(one, counts[one]) for one in classifier.labels]),
        share_alike=any(re.search(r"\bSA\b", one) for one in about["licences"]),
        non_commercial=any(re.search(r"\bNC\b", one) for one in about["licences"]),
        licences=table("", ("licence", number), about["licences"].items()),
        recordings=recordings_table(teachers),
        found=found,
        figures=figure_table(training.metrics),
        tables=figures,
        curve=table("", ("groups trained on", "balanced accuracy"), curve),
        curve_sentence=curve_sentence([accuracy for _, accuracy in curve]) if curve else "",
        data_warnings=training.data_warnings,
        joints={"pop", "grating"} <= set(classifier.labels),
        plots=plots,
    )


def _markdown(value: object) -> object:
    if not isinstance(value, str):
        return value
    return visible_lines(value).replace("&", "&amp;").replace("<", "&lt;")


def recordings_table(cases: Sequence[Example]) -> Table:
    """List the recordings that state a licence: whoever made them wants to be named."""
    rows = [
        (case.name, case.label, case.group, case.columns["licence"], case.columns.get("source", ""))
        for case in cases
        if case.columns.get("licence")
    ]
    header = ("file", "label", "group", "licence", "source")
    return table("Recordings", header, dict.fromkeys(rows))


def curve_sentence(accuracies: Sequence[float]) -> str:
    """Say in words what a learning curve means."""
    if accuracies[-1] - accuracies[-2] > 0.02:
        return "The curve still rises: more groups would probably help."
    return "The curve is flat at its end: more of the same would probably not help much."


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
    metrics, doubtful = evaluation.figures, evaluation.doubtful
    scheme = metrics["scheme"]
    lines = [
        f"{scheme[0].upper()}{scheme[1:]}: {metrics['n_recordings']} recordings, "
        f"{metrics['n_groups']} groups"
        + (", every kind of a label weighs alike" if metrics["weighed_by"] else "")
    ]
    warnings = [f"Warning ({one.code}): {one.text}" for one in evaluation.data_warnings]
    if not metrics["n_recordings"]:
        warnings.sort(key=lambda text: not text.startswith("Warning (overlap)"))
        lines += ["Nothing is left to measure on:", *warnings]
    lines += [f"Control: {one.verdict}" for one in evaluation.controls]
    if doubtful["n_cases"]:
        shares = [doubtful.get("balanced_accuracy"), doubtful.get("coverage")]
        accuracy, answered = ("none" if share is None else f"{share:.2f}" for share in shares)
        lines.append(
            f"Not counted, because their label is in doubt: {doubtful['n_cases']} recordings "
            f"(balanced accuracy {accuracy}, answered {answered})"
        )
    if not metrics["n_recordings"]:
        return "\n".join(lines)  # nothing would be in the tables
    for one in evaluation_tables(evaluation, charts=False):
        lines += ["", one.title, *one.text()] if one.rows else []
    lines += ["", *warnings]
    return "\n".join(lines).rstrip()
