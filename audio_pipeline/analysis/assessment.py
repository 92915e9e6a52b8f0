"""What a person gets: what the recording holds, and what to do. The only place that knows both.

The sound is weak evidence, the symptoms decide: triage sees of a recording only its finding and
confidence, and uses them at most to raise the level a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from audio_pipeline._version import __version__
from audio_pipeline.analysis.guided import came_back
from audio_pipeline.triage.answers import Answers
from audio_pipeline.triage.messages import DEFAULT_LANGUAGE, DEFAULT_REGION
from audio_pipeline.triage.recommendation import FINDINGS, Recommendation, Sound, recommend

if TYPE_CHECKING:
    from audio_pipeline.analysis.pipeline import Analysis
    from audio_pipeline.model.classifier import Classifier

SCHEMA_VERSION: Final = 1
SOFTWARE: Final = f"crepitus {__version__}"


@dataclass(frozen=True)
class Assessment:
    """An analysis with its recommendation; None where no answers were given."""

    analysis: Analysis
    recommendation: Recommendation | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: an entry of `recordings`."""
        recommendation = self.recommendation
        return {
            **self.analysis.to_dict(),
            "recommendation": None if recommendation is None else recommendation.to_dict(),
        }


def assess(
    analysis: Analysis,
    answers: Answers | None,
    *,
    region: str = DEFAULT_REGION,
    language: str = DEFAULT_LANGUAGE,
) -> Assessment:
    """Combine what was heard with what the person said.

    Parameters
    ----------
    analysis : Analysis
        What was heard. One that failed or cannot be used still gets the recommendation that the
        answers alone give.
    answers : Answers or None
        What the person said, as :func:`~audio_pipeline.triage.answers.load_answers` reads it;
        ``Answers()`` where nothing was answered, which recommends with care.
    region : str
        Whose emergency number and services are named: ``GB``, ``US``, ``EU`` or ``AU``.
    language : str
        Of the texts, like ``en``.

    Returns
    -------
    Assessment
        Its `recommendation` is None when `answers` is: the sound alone recommends nothing.

    Raises
    ------
    InvalidInputError
        When the region or the language is not available.
    """
    if answers is None:
        return Assessment(analysis, None)
    return Assessment(
        analysis, recommend(answers, heard(analysis), region=region, language=language)
    )


def heard(analysis: Analysis) -> Sound | None:
    """Return what triage may know of a recording; None when it failed or has other labels."""
    finding = analysis.finding
    if finding is None or finding.label not in FINDINGS:
        return None
    pops = sum(event.label == "pop" and not event.uncertain for event in analysis.events)
    return Sound(finding.label, finding.confidence, pops, came_back(finding.reasons))


def analyses_to_dict(assessments: Sequence[Assessment], classifier: Classifier) -> dict[str, Any]:
    """Return the ``analyze --json`` document."""
    return {
        "schema_version": SCHEMA_VERSION,
        "software": SOFTWARE,
        "model": {"name": classifier.name, "sha256": classifier.sha256},
        "settings": classifier.settings.to_dict(),
        "recordings": [assessment.to_dict() for assessment in assessments],
    }
