"""What a study holds and what leaves it: the check of the folder, and the archive for others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.guided import Phase, cues_in_comment, planned_phases
from audio_pipeline.app.study import (
    TAKES,
    Study,
    StudySettings,
    Take,
    TakeNote,
    digest_of,
    read_note,
)
from audio_pipeline.audio.recording import Recording, open_recording
from audio_pipeline.datasets.conditions import voice_stretches
from audio_pipeline.exceptions import RecordingError

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Problem:
    """Something that `study check` found: a word, where, and a sentence."""

    code: str
    where: str
    text: str


@dataclass(frozen=True)
class Check:
    """What a study folder holds, and what is amiss.

    Attributes
    ----------
    people, sessions, takes
        Counts.
    problems
        In the order of the folder.
    speech
        Take to the stretches in s where speech can be heard.
    """

    people: int
    sessions: int
    takes: int
    problems: tuple[Problem, ...]
    speech: Mapping[str, tuple[tuple[float, float], ...]]

    @property
    def broken(self) -> bool:
        """Whether a recording is lost, unreadable or was changed."""
        return any(one.code in {"unreadable", "altered", "no_recording"} for one in self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "people": self.people,
            "sessions": self.sessions,
            "takes": self.takes,
            "problems": [vars(one) for one in self.problems],
            "speech": {name: [list(pair) for pair in found] for name, found in self.speech.items()},
        }


def check_study(study: Study, progress: Callable[[str, int, int], None] | None = None) -> Check:
    """Say what is missing, what was recorded otherwise than planned, and where speech is heard."""
    problems: list[Problem] = []
    speech: dict[str, tuple[tuple[float, float], ...]] = {}
    settings, consents, answers = study.settings, study.consents(), study.answers()
    takes = study.takes()
    if study.key.parent == Path(os.path.abspath(study.folder)) or any(
        study.folder.rglob("*-key.csv")
    ):
        problems.append(Problem("key_inside", str(study.folder), "The key lies in the folder."))
    problems += _stray_files(study)
    texts: dict[int, str] = {}
    for person in study.participants():
        consent = consents.get(person)
        own = [one.note for one in takes if one.note.participant == person]
        if consent is None:
            problems.append(Problem("no_consent", person, "Nobody noted a consent."))
        elif own and not consent.research:
            problems.append(
                Problem("no_consent", person, "There are takes, but no yes to research.")
            )
        else:
            if consent.version not in texts:
                text = study.consent_text(consent.version)
                texts[consent.version] = hashlib.sha256(text.encode()).hexdigest()
            if texts[consent.version] != consent.sha256:
                problems.append(
                    Problem("consent_changed", person, "The consent text is not the one they saw.")
                )
            elif consent.version != settings.consent_version:
                problems.append(
                    Problem("old_consent", person, f"They saw version {consent.version} of it.")
                )
        if not own and (consent is None or consent.research):
            problems.append(Problem("no_takes", person, "There is no take."))
        for session in sorted({note.session for note in own}):
            problems += _session_problems(
                study, person, [note for note in own if note.session == session]
            )
            row = answers.get((person, session), {})
            asked = (*settings.questions, *(one.name for one in settings.outcomes))
            open_ones = [name for name in asked if not row.get(name)]
            if open_ones:
                first = ", ".join(open_ones[:3]) + (", ..." if len(open_ones) > 3 else "")
                text = f"Not answered: {len(open_ones)} of {len(asked)} ({first})."
                problems.append(Problem("open_answers", f"{person}, session {session}", text))
    for number, take in enumerate(takes, 1):
        problems += _take_problems(take, settings)
        try:
            heard = take_speech(take.path)
        except RecordingError:
            heard = ()
        if heard:
            speech[take.name] = heard
            seconds = sum(end - start for start, end in heard)
            text = f"Speech may be heard for {seconds:.1f} s, from {heard[0][0]:.1f} s on."
            problems.append(Problem("speech", take.name, text))
        if progress:
            progress("Checking takes", number, len(takes))
    sessions = {(one.note.participant, one.note.session) for one in takes}
    return Check(len(study.participants()), len(sessions), len(takes), tuple(problems), speech)


def _stray_files(study: Study) -> Iterator[Problem]:
    """Yield recordings without a note, and notes without a recording."""
    for path in sorted((study.folder / TAKES).rglob("*")):
        name = path.relative_to(study.folder / TAKES).as_posix()
        if path.is_dir():
            continue
        if path.suffix == ".json" and not path.with_suffix(".flac").is_file():
            yield Problem("no_recording", name, "A note without its recording.")
        elif path.suffix == ".flac" and read_note(path.with_suffix(".json")) is None:
            yield Problem("no_note", name, "A recording without a note that can be read.")
        elif path.suffix not in {".json", ".flac"}:
            yield Problem("unknown_file", name, "No take of this study.")


def _session_problems(study: Study, person: str, notes: Sequence[TakeNote]) -> Iterator[Problem]:
    protocol = study.settings.protocol
    where = f"{person}, session {notes[0].session}"
    if len(notes) < protocol.takes_per_session:
        text = f"{len(notes)} of {protocol.takes_per_session} takes."
        yield Problem("few_takes", where, text)
    times = [note.recorded_at for note in notes]
    minutes = (max(times) - min(times)).total_seconds() / 60
    if minutes > protocol.within_minutes:
        text = f"The takes are {minutes:.0f} minutes apart; at most {protocol.within_minutes:g}."
        yield Problem("far_apart", where, text)
    if len({(note.device, note.distance_cm, note.posture) for note in notes}) > 1:
        text = "Device, distance or posture changed between the takes."
        yield Problem("changed_setup", where, text)


def _take_problems(take: Take, settings: StudySettings) -> Iterator[Problem]:
    from audio_pipeline.analysis.pipeline import segment_recording

    name, note, protocol = take.name, take.note, settings.protocol
    heard = segment_recording(take.path, AnalysisConfig()).extraction
    if heard.status != "ok" or heard.quality is None or heard.duration is None:
        yield Problem("unreadable", name, f"It cannot be read: {heard.error}.")
        return
    if digest_of(take.path) != note.sha256:
        yield Problem("altered", name, "It is not the file that was recorded.")
    yield from phase_problems(name, heard.phases, heard.duration)
    for warning in heard.quality.warnings:
        code = "quality" if heard.quality.usable else "unusable"
        yield Problem(code, name, warning.text)
    low, high = protocol.distance_cm
    if not low <= note.distance_cm <= high:
        text = f"The distance was {note.distance_cm:g} cm, not {low:g} to {high:g}."
        yield Problem("distance", name, text)
    if note.posture not in protocol.postures:
        yield Problem("posture", name, f"The posture was {note.posture}.")
    if protocol.devices and note.device not in protocol.devices:
        yield Problem("device", name, f"The device was {note.device}.")
    if note.protocol_version != protocol.version:
        text = f"Recorded by version {note.protocol_version} of the protocol."
        yield Problem("old_protocol", name, text)


def phase_problems(name: str, phases: Sequence[Phase], duration: float) -> Iterator[Problem]:
    """Yield where the phases of a take are not those of the guided recording.

    Parameters
    ----------
    name
        Of the take.
    phases
        What was performed; empty for a free take.
    duration
        Length of the take, s.
    """
    planned = planned_phases()
    if not phases:
        text = f"Not guided: no turns are marked in its {duration:.0f} s."
        yield Problem("free", name, text)
        return
    turns = sum(phase.kind == "turn" for phase in planned)
    made = sum(phase.kind == "turn" for phase in phases)
    if len(phases) < len(planned) or duration < planned[-1].end - _LATE:
        text = (
            f"Stopped after {duration:.0f} of {planned[-1].end:.0f} s, in turn {made} of {turns}."
        )
        yield Problem("short", name, text)
        return
    for phase, plan in zip(phases, planned, strict=False):
        if abs((phase.end - phase.start) - (plan.end - plan.start)) > _LATE:
            text = f"Phase {phase.kind} {phase.turn or ''} lasted {phase.end - phase.start:.1f} s."
            yield Problem("pace", name, " ".join(text.split()))


_LATE = 0.5
"""Seconds by which a phase may be longer or shorter: a browser's timers are late by tenths."""


def take_speech(path: Path) -> tuple[tuple[float, float], ...]:
    """Return where speech may be heard in a take, s; what the recorder itself said is left out.

    Raises
    ------
    RecordingError
        When it cannot be read.
    """
    with open_recording(path) as reader:
        samples = np.concatenate(list(reader.blocks()))
        for start, end in cues_in_comment(reader.comment):
            samples[round(start * reader.sample_rate) : round(end * reader.sample_rate)] = 0
        return voice_stretches(Recording(samples, reader.sample_rate))
