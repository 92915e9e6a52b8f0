"""Symptom answers in, a recommendation out. Triage knows nothing of audio."""

from audio_pipeline.triage.answers import Answers, load_answers, parse_answers, parse_row
from audio_pipeline.triage.catalogue import REGIONS, default_region, languages
from audio_pipeline.triage.recommendation import FINDINGS, Recommendation, Sound, recommend
from audio_pipeline.triage.tables import LEVELS, Question, load_tables

__all__ = [
    "FINDINGS",
    "LEVELS",
    "REGIONS",
    "Answers",
    "Question",
    "Recommendation",
    "Sound",
    "default_region",
    "languages",
    "load_answers",
    "parse_answers",
    "parse_row",
    "questionnaire",
    "recommend",
]


def questionnaire() -> tuple[Question, ...]:
    """Return the questions in the order they are asked."""
    return tuple(load_tables().questions.values())
