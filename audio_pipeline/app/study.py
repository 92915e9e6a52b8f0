"""A study: people's takes, consents and answers in one folder of plain files.

``study.yaml`` says how people are recorded, ``participants.csv`` and ``consents.csv`` who they are
and what they said yes to, ``answers.csv`` what they told, and ``takes`` holds a FLAC file and a
note (JSON) a take. Nothing in it names a person: the key to the codes lies beside the folder.
Tables only grow; the last line about a person or session counts.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from audio_pipeline._version import __version__
from audio_pipeline.app.outputs import (
    append_row,
    check_new_folder,
    check_output,
    read_table,
    table_header,
    write_table,
    write_text,
    writing,
)
from audio_pipeline.audio.recording import Recording, open_recording, write_recording
from audio_pipeline.exceptions import InvalidInputError, first_problem
from audio_pipeline.triage.rules import load_tables

SETTINGS = "study.yaml"
TAKES = "takes"
LABELS = "labels"
LARGEST_TEXT = 1 << 20
"""Bytes of a settings, consent or note file."""

PARTICIPANTS = ("participants.csv", ("participant", "added"))
CONSENTS = ("consents.csv", ("participant", "version", "sha256", "use", "research", "share", "at"))
WITHDRAWN = ("withdrawn.csv", ("participant", "at"))
EXPORTS = ("exports.csv", ("archive", "at", "participants"))
ANSWERS = "answers.csv"
_ANSWER_KEYS = ("participant", "session", "at")

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
"""Of codes: none that is read as another."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,25}$")]
"""Of a field: what REDCap takes as well."""
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Outcome(_Frozen):
    """A field of an outcome questionnaire, a whole number; its wording is elsewhere."""

    name: Name
    label: Line
    minimum: int = Field(ge=-1000, le=1000)
    maximum: int = Field(ge=-1000, le=1000)


class Protocol(_Frozen):
    """How people are recorded: guided takes, so many a session, close together."""

    version: int = Field(default=1, ge=1, le=9999)
    takes_per_session: int = Field(default=2, ge=1, le=20)
    within_minutes: float = Field(default=20.0, gt=0, le=1440)
    postures: tuple[Line, ...] = Field(default=("sitting", "standing"), min_length=1, max_length=20)
    devices: tuple[Line, ...] = Field(default=(), max_length=50)
    distance_cm: tuple[float, float] = (2.0, 20.0)


class StudySettings(_Frozen):
    """``study.yaml``: everything that is decided before the first person comes."""

    schema_version: Literal[1] = 1
    title: Line
    owner: Line
    licence: Line = "CC BY 4.0"
    url: str = Field(default="", max_length=200, pattern=r"^(https?://[^\s\x00-\x1f]+)?$")
    region: Literal["GB", "US", "EU", "AU"] = "GB"
    consent_version: int = Field(default=1, ge=1, le=9999)
    protocol: Protocol = Protocol()
    questions: tuple[Name, ...] = Field(default=(), max_length=100)
    outcomes: tuple[Outcome, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _consistent(self) -> StudySettings:
        known = load_tables().questions
        for name in self.questions:
            if name not in known:
                raise ValueError(f"unknown question {name!r}; allowed: {', '.join(known)}")
        names = [*_ANSWER_KEYS, *self.questions, *(one.name for one in self.outcomes)]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"the name {min(twice)!r} is given twice")
        low, high = self.protocol.distance_cm
        if not 0 <= low <= high <= 500 or any(one.minimum > one.maximum for one in self.outcomes):
            raise ValueError("a range must go from its lowest to its highest value")
        return self


class TakeNote(_Frozen):
    """The note beside a take: what cannot be heard in it."""

    schema_version: Literal[1] = 1
    participant: str = Field(pattern=r"^p[a-z0-9]{6}$")
    session: int = Field(ge=1, le=9999)
    take: int = Field(ge=1, le=9999)
    recorded_at: datetime.datetime
    protocol_version: int = Field(ge=1)
    device: Line
    distance_cm: float = Field(ge=0, le=500)
    posture: Line
    duration: float = Field(gt=0)
    sample_rate: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    software: str = Field(max_length=100)
    uploaded_as: str = Field(default="", max_length=200)


@dataclass(frozen=True)
class Take:
    """A take that was kept: its recording and its note."""

    path: Path
    note: TakeNote

    @property
    def name(self) -> str:
        """Folder and file, as in an archive."""
        return f"{self.path.parent.name}/{self.path.name}"


@dataclass(frozen=True)
class Consent:
    """What a person said yes to, when, and to which text."""

    version: int
    sha256: str
    use: bool
    research: bool
    share: bool
    at: str


@dataclass(frozen=True, eq=False)
class Study:
    """A study folder."""

    folder: Path  # where
    settings: StudySettings  # what its ``study.yaml`` says
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def key(self) -> Path:
        """The table of codes and names, beside the folder."""
        return key_path(self.folder)

    def consent_text(self, version: int | None = None) -> str:
        """Return a version of the consent text, the current one when None."""
        number = self.settings.consent_version if version is None else version
        return read_text(self.folder / f"consent-{number}.md")

    def consent_digest(self, version: int) -> str:
        """Return the SHA-256 of a version of the consent text."""
        return hashlib.sha256(self.consent_text(version).encode()).hexdigest()

    def participants(self) -> tuple[str, ...]:
        """Return the codes of everybody who has not left, in the order in which they came."""
        gone = self.withdrawn()
        known = dict.fromkeys(row["participant"] for row in self._rows(*PARTICIPANTS))
        return tuple(one for one in known if one not in gone)

    def withdrawn(self) -> frozenset[str]:
        """Return the codes of those who have left the study."""
        return frozenset(row["participant"] for row in self._rows(*WITHDRAWN))

    def consents(self) -> dict[str, Consent]:
        """Return the last consent of each person."""
        return {
            row["participant"]: Consent(
                _number(row["version"], self.folder / CONSENTS[0]),
                row["sha256"],
                row["use"] == "yes",
                row["research"] == "yes",
                row["share"] == "yes",
                row["at"],
            )
            for row in self._rows(*CONSENTS)
        }

    def answers(self) -> dict[tuple[str, int], dict[str, str]]:
        """Return the last answers of each person and session, empty where there is none."""
        rows = self._rows(ANSWERS, _ANSWER_KEYS)
        return {
            (row["participant"], _number(row["session"], self.folder / ANSWERS)): row
            for row in rows
        }

    def exports(self) -> list[dict[str, str]]:
        """Return which archives were made of it, with who is in them."""
        return self._rows(*EXPORTS)

    def takes(self) -> list[Take]:
        """Return the takes with a readable note of those who have not left, in order."""
        people = set(self.participants())
        found = [one for one in self._all_takes("*") if one.note.participant in people]
        return sorted(found, key=lambda one: (one.note.participant, one.note.recorded_at))

    def add_participant(self) -> str:
        """Draw a code for a new person, and return it; the key gets a line to fill in."""
        with self._lock:
            known = {row["participant"] for row in self._rows(*PARTICIPANTS)}
            while (code := "p" + "".join(secrets.choice(_LETTERS) for _ in range(6))) in known:
                pass
            append_row(self.folder / PARTICIPANTS[0], (code, _now()[:10]))
            if self.key.is_file():
                append_row(self.key, (code, "", ""))
        return code

    def give_consent(self, participant: str, *, use: bool, research: bool, share: bool) -> None:
        """Keep what a person said to the current text; research and sharing need what is before.

        Raises InvalidInputError when there is no such person, or they share what they do not give
        to research.
        """
        self._check_among(participant, self.participants())
        if (research and not use) or (share and not research):
            raise InvalidInputError("research needs a yes to use, and sharing a yes to research")
        said = ["yes" if one else "no" for one in (use, research, share)]
        version = self.settings.consent_version
        row = (participant, str(version), self.consent_digest(version), *said, _now())
        with self._lock:
            append_row(self.folder / CONSENTS[0], row)

    def keep_answers(self, participant: str, session: int, given: Mapping[str, Any]) -> None:
        """Keep a session's answers and outcome fields; what is None was left out.

        Raises InvalidInputError for a field that the study has not, or a value outside its range.
        """
        from audio_pipeline.triage.answers import parse_answers

        self._needs_research(participant)
        fields = {one.name: one for one in self.settings.outcomes}
        asked = {name: value for name, value in given.items() if name not in fields}
        for name in asked:
            if name not in self.settings.questions:
                raise InvalidInputError(f"the study has no field {name!r:.60}")
        row: dict[str, str] = {
            key: str(value) for key, value in parse_answers(asked).values.items()
        }
        for name, value in given.items():
            if name not in fields or value is None:
                continue
            low, high = fields[name].minimum, fields[name].maximum
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise InvalidInputError(f"{name} must be a whole number from {low} to {high}")
            row[name] = str(value)
        row |= {"participant": participant, "session": str(session), "at": _now()}
        path = self.folder / ANSWERS
        with self._lock:
            header = table_header(path)
            more = [name for name in (*self.settings.questions, *fields) if name not in header]
            if more:  # the owner has added a question: the table gets a column
                rows = self._rows(ANSWERS, _ANSWER_KEYS)
                write_table(path, (*header, *more), rows)
            append_row(path, [row.get(name, "") for name in (*header, *more)])

    def next_take(self, participant: str, at: datetime.datetime) -> tuple[int, int]:
        """Return session and number of a take at a time: a session lasts as the protocol says."""
        own = [one.note for one in self._all_takes(participant)]
        if not own:
            return 1, 1
        first = min(note.recorded_at for note in own if note.session == max(n.session for n in own))
        session = max(note.session for note in own)
        if at - first > datetime.timedelta(minutes=self.settings.protocol.within_minutes):
            return session + 1, 1
        return session, 1 + max(note.take for note in own if note.session == session)

    def keep_take(
        self,
        participant: str,
        sound: bytes,
        *,
        device: str,
        distance_cm: float,
        posture: str,
        uploaded_as: str = "",
        at: datetime.datetime | None = None,
    ) -> Take:
        """Write a take as FLAC with its note; nothing that is there is ever replaced.

        ``participant``: who said yes to research.
        ``sound``: the bytes of a recording, with the protocol in its comment.
        ``device, distance_cm, posture``: what cannot be heard.
        ``uploaded_as``: the file's own name.
        ``at``: when it began; by default its length before now.
        Raises InvalidInputError without a yes to research, or for a value that the settings do not
        allow; RecordingError when the sound cannot be read.
        """
        self._needs_research(participant)
        if posture not in self.settings.protocol.postures:
            allowed = ", ".join(self.settings.protocol.postures)
            raise InvalidInputError(f"the posture is {posture!r:.60}; allowed: {allowed}")
        recording, comment = read_take(io.BytesIO(sound))
        at = at or (_clock() - datetime.timedelta(seconds=recording.duration))
        with self._lock, writing(self.folder):
            session, number = self.next_take(participant, at)
            folder = self.folder / TAKES / participant
            folder.mkdir(exist_ok=True)
            # A recording that lost its note keeps its name: the next one takes another.
            while (path := folder / f"s{session}-t{number}.flac").exists():
                number += 1
            # The comment as it came: the phases and cues of the protocol are in it.
            words = {"comment": comment} if comment else {}
            write_recording(path, recording, metadata=words, replace=False)
            try:
                note = TakeNote(
                    participant=participant,
                    session=session,
                    take=number,
                    recorded_at=at.replace(microsecond=0),
                    protocol_version=self.settings.protocol.version,
                    device=device,
                    distance_cm=distance_cm,
                    posture=posture,
                    duration=round(recording.duration, 4),
                    sample_rate=recording.sample_rate,
                    sha256=digest_of(path),
                    software=f"crepitus {__version__}",
                    uploaded_as=uploaded_as,
                )
                text = note.model_dump_json(indent=2) + "\n"
                write_text(path.with_suffix(".json"), text, replace=False)
            except BaseException as error:
                path.unlink(missing_ok=True)
                if isinstance(error, ValidationError):
                    raise InvalidInputError(_first(error, "the take")) from None
                raise
        return Take(path, note)

    def withdraw(self, participant: str, *, delete: bool = False) -> list[Path]:
        """Put a person on the list of those who left; with `delete` remove takes and answers.

        What was deleted.
        Raises InvalidInputError when there never was such a person.
        """
        self.check_code(participant)
        takes = self._all_takes(participant)
        with self._lock, writing(self.folder):
            if participant not in self.withdrawn():
                append_row(self.folder / WITHDRAWN[0], (participant, _now()))
            if not delete:
                return []
            deleted = [path for one in takes for path in (one.path, one.path.with_suffix(".json"))]
            for path in deleted:
                path.unlink(missing_ok=True)
            header = table_header(self.folder / ANSWERS)
            rows = self._rows(ANSWERS, _ANSWER_KEYS)
            kept = [row for row in rows if row["participant"] != participant]
            write_table(self.folder / ANSWERS, header, kept)
        return deleted

    def log_export(self, archive: Path, participants: Sequence[str]) -> None:
        """Note that an archive was made, and who is in it."""
        with self._lock:
            row = (os.path.abspath(archive), _now(), ";".join(participants))
            append_row(self.folder / EXPORTS[0], row)

    def _all_takes(self, participant: str) -> list[Take]:
        """Return the takes of a person, who may have left, or of all people: ``*``."""
        paths = sorted((self.folder / TAKES).glob(f"{participant}/*.flac"))
        notes = ((path, read_note(path.with_suffix(".json"))) for path in paths)
        return [Take(path, note) for path, note in notes if note is not None]

    def check_code(self, participant: str) -> None:
        """Raise InvalidInputError when there never was such a person."""
        self._check_among(participant, (row["participant"] for row in self._rows(*PARTICIPANTS)))

    def _check_among(self, participant: str, people: Iterable[str]) -> None:
        if participant not in people:
            raise InvalidInputError(f"{self.folder} has no person {participant!r:.60}")

    def _needs_research(self, participant: str) -> None:
        self._check_among(participant, self.participants())
        consent = self.consents().get(participant)
        if consent is None or not consent.research:
            raise InvalidInputError(f"{participant} has not said yes to research: nothing is kept")

    def _rows(self, name: str, needed: Sequence[str]) -> list[dict[str, str]]:
        return read_table(self.folder / name, needed)


def new_study(folder: Path, title: str, owner: str) -> Study:
    """Make a study folder, and the empty key beside it.

    Raises InvalidInputError when the folder holds anything, the key is there already, or a text is
    no line.
    """
    check_new_folder(folder)
    key = key_path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_output(key)
    try:
        settings = StudySettings(
            title=title,
            owner=owner,
            questions=_EXAMPLE_QUESTIONS,
            outcomes=_EXAMPLE_OUTCOMES,
        )
    except ValidationError as error:
        raise InvalidInputError(_first(error, "the study")) from None
    with writing(folder):
        folder.mkdir(exist_ok=True)
        for name in (TAKES, LABELS):
            (folder / name).mkdir()
    write_text(folder / SETTINGS, _settings_text(settings), replace=False)
    words = {"settings": settings, "folder": folder.name, "key": key.name}
    for name, form in (("consent-1.md", "study-consent.md"), ("README.md", "study-readme.md")):
        write_text(folder / name, template(form).format(**words), replace=False)
    for table, columns in (PARTICIPANTS, CONSENTS, WITHDRAWN, EXPORTS):
        write_table(folder / table, columns, ())
    fields = (*settings.questions, *(one.name for one in settings.outcomes))
    write_table(folder / ANSWERS, (*_ANSWER_KEYS, *fields), ())
    write_text(key, "participant,name,note\r\n", replace=False, private=True)
    return open_study(folder)


_EXAMPLE_QUESTIONS = (
    *("age", "pain", "back_pain", "severity", "duration", "trend"),
    *("heard", "habit", "bendy_joints", "spinal_procedure"),
)
_EXAMPLE_OUTCOMES = (
    Outcome(name="outcome_pain", label="Pain, item 1 of your form", minimum=0, maximum=4),
    Outcome(name="outcome_total", label="Total of your form", minimum=0, maximum=56),
)


def open_study(folder: Path) -> Study:
    """Read a study folder's settings.

    Raises InvalidInputError when it is none, or its settings are wrong; the message names the
    value.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise InvalidInputError(f"{folder} is no study: it has no {SETTINGS} (crepitus study new)")
    import yaml

    text = read_text(path)
    try:
        for token in yaml.scan(text, Loader=yaml.SafeLoader):
            if isinstance(token, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken):
                raise InvalidInputError(f"{path}: uses YAML anchors, aliases or tags; write it out")
        settings = StudySettings.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}" if mark else ""
        raise InvalidInputError(f"{path}: not valid YAML{place}") from None
    except ValidationError as error:
        raise InvalidInputError(_first(error, str(path))) from None
    return Study(folder, settings)


def key_path(folder: Path) -> Path:
    """Return where the key of a study lies: beside its folder, never in it."""
    whole = Path(os.path.abspath(folder))
    return whole.with_name(f"{whole.name}-key.csv")


def models_that_saw(study: Study, participant: str, places: Sequence[Path]) -> list[Path]:
    """Find the models that learnt from a person, by their group or by their recordings.

    ``study, participant``: whose.
    ``places``: model folders, or folders that hold some, three levels deep at most.
    Model folders, sorted. A model started from such a one names the person too.
    """
    from audio_pipeline.datasets.conditions import measure_conditions
    from audio_pipeline.model.crossvalidation import group_mark
    from audio_pipeline.model.persistence import LARGEST_MANIFEST
    from audio_pipeline.model.persistence import MANIFEST as MODEL

    study.check_code(participant)
    paths = (study.folder / TAKES / participant).glob("*.flac")
    digests = {measure_conditions(path).digest for path in paths} - {""}
    found = set()
    for place in places:
        for depth in range(4):
            for path in place.glob("/".join(["*"] * depth + [MODEL])):
                try:
                    if path.stat().st_size > LARGEST_MANIFEST:
                        continue
                    training = json.loads(path.read_bytes())["training"]
                    groups, known = set(training["groups"]), set(training["recordings"])
                except (OSError, ValueError, KeyError, TypeError, RecursionError):
                    continue
                if group_mark(participant) in groups or digests & known:
                    found.add(path.parent)
    return sorted(found)


def read_take(source: Path | io.BytesIO) -> tuple[Recording, str]:
    """Read a take and its comment, or raise RecordingError."""
    with open_recording(source) as reader:
        samples = np.concatenate(list(reader.blocks()))
        return Recording(samples, reader.sample_rate), reader.comment


def read_note(path: Path) -> TakeNote | None:
    """Read the note beside a take; None where there is none that can be read."""
    try:
        return TakeNote.model_validate_json(read_text(path))
    except (InvalidInputError, ValidationError):
        return None


def template(name: str) -> str:
    """Return a text that is filled in with ``str.format``."""
    folder = resources.files("audio_pipeline.app.reporting") / "templates"
    return (folder / name).read_text(encoding="utf-8")


def _settings_text(settings: StudySettings) -> str:
    import yaml

    lines = yaml.safe_dump(
        settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100
    )
    return f"# The settings of a study; see README.md. Written by crepitus {__version__}.\n{lines}"


def read_text(path: Path) -> str:
    """Read a small text file, or raise InvalidInputError."""
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise InvalidInputError(f"{path} is too large (1 MB at most)")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{path} is not UTF-8 text; save it again as UTF-8") from None
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from None


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _number(text: str, table: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 6):
        raise InvalidInputError(f"{table}: {text!r:.30} should be a whole number")
    return int(text)


def _clock() -> datetime.datetime:
    return datetime.datetime.now().astimezone()


def _now() -> str:
    return _clock().isoformat(timespec="seconds")


def _first(error: ValidationError, where: str) -> str:
    """Say the first thing that is wrong with settings, on one line."""
    place, problem = first_problem(error)
    return f"{where}: {place or 'settings'}: {problem}"
