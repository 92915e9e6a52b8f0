"""The model card: what a model was trained on, how good it is, and what nobody measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from audio_pipeline.app.reporting.charts import interval_chart, share_chart
from audio_pipeline.model import metrics as figures
from audio_pipeline.model.classifier import CARD
from audio_pipeline.model.scoring import PredictionTable

if TYPE_CHECKING:
    from audio_pipeline.datasets.examples import Case
    from audio_pipeline.model.training import Training

_FIGURES = (
    ("recording_balanced_accuracy", "balanced accuracy, every recording answered"),
    ("balanced_accuracy", "balanced accuracy of the answers given"),
    ("coverage", "share of the recordings answered"),
    ("strict_balanced_accuracy", "balanced accuracy, no answer counted as an error"),
    ("auc", "area under the ROC curve, mean over labels"),
    ("ece", "calibration error (15 bins of equal count)"),
    ("brier", "Brier score"),
    ("pop_against_grating", "pop against grating, given an answer of these"),
    ("false_alarms_per_minute", "false sure pops and gratings a minute of other sound"),
    ("false_grating_recordings", "share of other recordings with a false sure grating"),
    ("shortcut_balanced_accuracy", "balanced accuracy of recording conditions alone"),
)
_NEVER_MEASURED = (
    "how well any of this holds for a microphone, a room or a person that is not in the data",
    "whether a sound says anything about health: a model hears sounds, it cannot examine anyone",
)
_JOINTS_NEVER_MEASURED = (
    "accuracy on microphone recordings of a lumbar spine: no labelled collection exists",
)


def model_plots(training: Training) -> dict[str, bytes]:
    """Return the plots of a model folder by file name; empty without honest figures."""
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
            [("", [(point.coverage, point.balanced_accuracy) for point in curve])],
        ),
        "reliability.svg": share_chart(
            "How often an event is right against how sure the model was",
            "probability given",
            "share right",
            [("", [(one.confidence, one.accuracy) for one in bins])],
            diagonal=True,
        ),
        "groups.svg": interval_chart("Share right by group", group_rows(given)),
    }
    return {name: text.encode() for name, text in plots.items()}


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
        *recording_rows(usable),
        "## Figures",
        "",
        f"Scheme: {metrics['scheme']}.",
        "",
        *_figure_lines(training),
        "## Sure or uncertain",
        "",
        *(f"- {label}: sure from {p:.2f}" for label, p in sorted(classifier.thresholds.items())),
        "",
        "## Warnings",
        "",
        *([f"- `{one.code}`: {one.text}" for one in training.cautions] or ["None."]),
        "",
        "## Never measured",
        "",
        *(f"- {text}" for text in never),
        "",
        *(f"![{name.removesuffix('.svg').replace('_', ' ')}]({name})" for name in plots),
    ]
    return "\n".join(lines).rstrip() + "\n"


def recording_rows(cases: Sequence[Case]) -> list[str]:
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
    for name, text in _FIGURES:
        value = metrics.get(name)
        if value is None:
            continue
        low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
        interval = f"{low:.2f} to {high:.2f}" if low is not None and high is not None else ""
        lines.append(f"| {text} | {value:.3f} | {interval} |")
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


def curve_sentence(accuracies: Sequence[float]) -> str:
    """Say in words what a learning curve means."""
    gain = accuracies[-1] - accuracies[-2]
    if gain > 0.02:
        return "The curve still rises: more groups would probably help."
    return "The curve is flat at its end: more of the same would probably not help much."


def _share(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.2f}"
