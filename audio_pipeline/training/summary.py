"""What a training or an evaluation found, as a page of a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from audio_pipeline.training.card import curve_sentence

if TYPE_CHECKING:
    from audio_pipeline.training.train import Training


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
