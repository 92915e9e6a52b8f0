"""Why a back cracks: what is said depends on what was heard, and never reassures beside a sign."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audio_pipeline.triage.messages import Catalogue
from audio_pipeline.triage.rules import Source, load_tables

if TYPE_CHECKING:
    from audio_pipeline.triage.answers import Answers
    from audio_pipeline.triage.recommendation import Sound

_FINDINGS = {
    "single_pop": {"pop"},
    "repeated_pops": {"pop"},
    "grating": {"grinding"},
    "mixed": {"grinding", "pop"},
    "nothing_recognised": {"nothing"},
}
_ANSWERS = {
    "one_pop": {"pop"},
    "several_pops": {"pop"},
    "grinding": {"grinding"},
    "nothing": {"nothing"},
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One part of why a back cracks."""

    id: str
    text: str
    sources: tuple[Source, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return it as it stands in ``triage --json``."""
        sources = [source.to_dict() for source in self.sources]
        return {"id": self.id, "text": self.text, "sources": sources}


def sounds_heard(answers: Answers | None, sound: Sound | None) -> frozenset[str]:
    """Return what was heard, by the recording or by the person.

    Returns
    -------
    frozenset of str
        Of ``pop``, ``grinding``, ``same_place``; ``nothing`` only where neither heard anything;
        ``unknown`` where nobody said.
    """
    heard: set[str] = set()
    if sound is not None:
        heard |= _FINDINGS.get(sound.finding, set())
        heard |= {"same_place"} if sound.same_place and "pop" in heard else set()
    if answers is not None:
        heard |= _ANSWERS.get(str(answers.get("heard")), set())
    if heard - {"nothing"}:
        return frozenset(heard - {"nothing"})
    return frozenset(heard or {"unknown"})


def explain(
    heard: Iterable[str], words: Catalogue, *, reassure: bool = True
) -> tuple[Explanation, ...]:
    """Say why a back cracks.

    Parameters
    ----------
    heard
        What was heard, as :func:`sounds_heard` returns it.
    words
        Whose words to use.
    reassure
        Whether nothing that is known is a warning sign or hurts. Grinding is never reassured.
    """
    sounds = frozenset(heard)
    return tuple(
        Explanation(item.id, words.text("explanation", item.id), item.sources)
        for item in load_tables().explanation
        if (not item.heard or item.heard & sounds)
        and (not item.reassures or (reassure and "grinding" not in sounds))
    )
