"""What a person is told before, between and after recordings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import Analysis
    from audio_pipeline.audio.quality import Quality

HOW_TO_RECORD: Final = (
    "Before you record",
    "- Sit on a chair that does not creak. Choose a quiet room; switch off fans and music.",
    "- Put the microphone 2 to 5 cm from your back, beside the place that cracks. Do not press it "
    "on. A stand or another person can hold it.",
    "- Bare skin or one thin, tight layer is best: loose clothes rustle.",
    "- Switch off noise suppression and automatic gain in the sound settings. They take away just "
    "the clicks we listen for.",
    "- Move as you usually do. Do not force a crack. Stop if it hurts.",
)

GUIDED_PLAN: Final = (
    "First keep still for {quiet:.0f} seconds, then turn slowly {turns} times with the mark on "
    "the screen, then keep still for {still:.0f} seconds. It takes {total:.0f} seconds."
)
FREE_PLAN: Final = "Record as long as you like. Enter stops."
TIMED_PLAN: Final = "It records for {seconds:g} seconds. Enter stops earlier."

OFFER_QUESTIONS: Final = (
    "This is only about the sound. Your symptoms decide what to do. A few questions, about 15 "
    "short screens, can say what that is. Press Enter to begin, or type n to leave."
)
NO_TWIST: Final = (
    "Because of your answers we do not ask you to twist for a recording. The questions alone can "
    "say what to do next."
)


def quality_verdict(analysis: Analysis) -> str:
    """Return in one line whether the recording can be used, with the first thing to mend."""
    quality: Quality | None = analysis.quality
    if quality is None:
        return f"The recording cannot be used: {analysis.error}"
    if not quality.usable:
        return "The recording cannot be used."
    if quality.warnings:
        count = len(quality.warnings)
        notes = "one note" if count == 1 else f"{count} notes"
        return f"The recording can be used, with {notes} (below)."
    return "The recording is good."
