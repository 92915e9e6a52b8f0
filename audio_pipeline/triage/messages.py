"""Every word a person reads from triage, by language and region."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.triage.rules import DATA, LEVELS, Question, Tables, load_tables

REGIONS = ("GB", "US", "EU", "AU")
DEFAULT_REGION = "GB"
DEFAULT_LANGUAGE = "en"
MESSAGES = DATA / "messages"
LEVEL_FIELDS: tuple[str, ...] = ("symbol", "title", "who", "when")
EMERGENCY_ADVICE, CALL_ADVICE = "A-EMERG", "A-EMERG-CALL"
"""The first advice in an emergency, and its text where an ambulance is called."""
EMERGENCY_FIELDS: tuple[str, ...] = (
    "emergency_number",
    "emergency_place",
    "urgent_care",
    "clinician",
    "maternity",
)

COUNTRIES = {
    "GB": ("GB", "IM", "JE", "GG", "GI"),
    "US": ("US", "PR", "GU", "VI", "CA", "MX"),
    "AU": ("AU", "CX", "CC", "NF"),
}
"""Countries whose emergency number is a region's; elsewhere a mobile phone reaches help by 112."""
_ELSEWHERE = "EU"


@dataclass(frozen=True)
class Catalogue:
    """The messages of one language, filled in for one region."""

    language: str
    region: str
    messages: Mapping[str, Any]

    def text(self, section: str, key: str, **values: object) -> str:
        """Return one message with its names in braces filled in."""
        return self.fill(self.messages[section][key], **values)

    def fill(self, template: str, **values: object) -> str:
        """Fill a template with the region's words and the given values."""
        return template.format_map({**self.messages["regions"][self.region], **values})

    def level(self, level: str, key: str) -> str:
        """Return ``symbol``, ``title``, ``who`` or ``when`` of a level."""
        return self.fill(self.messages["levels"][level][key])

    def question(self, question: str) -> str:
        """Return the wording of a question."""
        return str(self.messages["questions"][question]["text"])

    def topic(self, question: str) -> str:
        """Return what a question is about, to follow "You did not tell us about"."""
        return str(self.messages["questions"][question]["topic"])

    def why(self, question: str) -> str:
        """Return why a question is asked."""
        return str(self.messages["questions"][question]["why"])

    def lead(self, question: str) -> str:
        """Return what is said before a question; mostly nothing."""
        return str(self.messages["questions"][question].get("lead", ""))

    def option(self, question: str, option: str) -> str:
        """Return the wording of an answer."""
        return str(self.messages["questions"][question]["options"][option])

    def detail_option(self, question: str, option: str) -> str:
        """Return the wording of an answer to what is asked of a ticked item."""
        own = self.messages["questions"][question].get("details", {})
        return str(own.get(option) or self.option(question, option))

    def group(self, group: str, key: str) -> str:
        """Return ``text`` or ``why`` of a list to tick."""
        return str(self.messages["groups"][group][key])

    def tick(self, question: Question) -> str:
        """Return the line of a question that is asked in a list to tick."""
        return str(self.messages["questions"][question.id]["tick"])

    def urgent(self, question: str) -> str:
        """Return what would be an emergency, of one of the first questions."""
        return str(self.messages["questions"][question]["urgent"])

    def detail(self, question: str) -> str:
        """Return what is asked of a ticked item."""
        return str(self.messages["questions"][question]["detail"])

    def listing(self, items: Sequence[str]) -> str:
        """Join phrases as a sentence does: "a, b and c"; empty for none."""
        if len(items) < 2:
            return "".join(items)
        return self.text("unknown", "list", first=", ".join(items[:-1]), last=items[-1])


def read_messages(path: Path) -> dict[str, Any]:
    """Read one catalogue file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


def missing_messages(messages: Mapping[str, Any], tables: Tables) -> list[str]:
    """Return what a language still lacks before it may be chosen; empty when complete.

    Everything that can stand on an emergency page is required: levels, regions, questions, reasons,
    advice, safety net and the words around them; and every word of the page in a browser.
    """
    wanted: dict[str, list[str]] = {
        "levels": list(LEVELS),
        "regions": list(REGIONS),
        "reasons": [rule.id for rule in tables.rules if rule.question is None],
        "advice": [*(advice.id for advice in tables.advice), CALL_ADVICE],
        "safety_net": list(tables.safety_net),
        "questions": list(tables.questions),
        "explanation": [item.id for item in tables.explanation],
        "disagreements": [entry.id for entry in tables.disagreements],
        "groups": sorted({each.group for each in tables.questions.values() if each.group}),
    }
    absent: list[str] = []

    def need(where: str, entry: Mapping[str, Any], keys: Iterable[str]) -> None:
        absent.extend(f"{where}.{key}" for key in keys if not entry.get(key))

    for section, keys in wanted.items():
        need(section, messages.get(section, {}), keys)
    for section, fields in (("levels", LEVEL_FIELDS), ("regions", EMERGENCY_FIELDS)):
        for key, entry in messages.get(section, {}).items():
            need(f"{section}.{key}", entry, fields)
    english = read_messages(MESSAGES / f"{DEFAULT_LANGUAGE}.toml")["web"]
    for section, entries in english.items():
        need(f"web.{section}", messages.get("web", {}).get(section, {}), entries)
    for question in tables.questions.values():
        worded = messages.get("questions", {}).get(question.id, {})
        needed = ["text", "topic", "why"]
        needed += ["tick"] if question.group else []
        needed += ["detail"] if question.group and question.details else []
        needed += ["urgent"] if question.emergency else []
        need(f"questions.{question.id}", worded, needed)
        need(f"questions.{question.id}.options", worded.get("options", {}), question.answers)
    return absent


def languages(folder: Path | None = None) -> tuple[str, ...]:
    """Return the languages that may be chosen: reviewed, and complete in every emergency text."""
    found = sorted((folder or MESSAGES).glob("*.toml"))
    return tuple(path.stem for path in found if _complete(path, path.stat().st_mtime_ns))


@cache
def _complete(path: Path, _changed: int) -> bool:
    messages = read_messages(path)
    reviewed = messages.get("language", {}).get("reviewed")
    return bool(reviewed) and not missing_messages(messages, load_tables())


def accepted_language(accepted: str) -> str:
    """Return the first language that a browser accepts and that may be chosen.

    Parameters
    ----------
    accepted
        The value of ``Accept-Language``, such as ``de-CH,de;q=0.9,en;q=0.5``: most wanted first,
        as browsers send it.
    """
    wanted = [part.partition(";")[0].strip().partition("-")[0] for part in accepted.split(",")]
    return next((one for one in wanted if one in languages()), DEFAULT_LANGUAGE)


@cache
def load_catalogue(
    region: str = DEFAULT_REGION, language: str = DEFAULT_LANGUAGE, folder: Path | None = None
) -> Catalogue:
    """Read the messages of a language for a region.

    Raises
    ------
    InvalidInputError
        The region is unknown, or the language is missing or lacks a text it must have.
    """
    if region not in REGIONS:
        raise InvalidInputError(f"region {region!r} is unknown; choose one of {', '.join(REGIONS)}")
    folder = folder or MESSAGES
    path = folder / f"{language}.toml"
    if not language.isalpha() or not path.is_file():
        raise InvalidInputError(f"language {language!r} is not available; choose en")
    messages = read_messages(path)
    # The language that ships is checked by the tests; any other is checked before it is used.
    if language != DEFAULT_LANGUAGE or folder != MESSAGES:
        absent = missing_messages(messages, load_tables())
        if absent or not messages["language"].get("reviewed"):
            reason = f"{absent[0]} is missing" if absent else "it has not been reviewed"
            raise InvalidInputError(f"language {language!r} cannot be chosen: {reason}; choose en")
    return Catalogue(language, region, messages)


def default_region() -> str:
    """Return the region of the machine's locale, or :data:`DEFAULT_REGION` where it names none."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        country = os.environ.get(name, "").partition(".")[0].partition("_")[2].partition("@")[0]
        if country:
            known = (region for region, codes in COUNTRIES.items() if country in codes)
            return next(known, _ELSEWHERE)
    return DEFAULT_REGION
