"""What a study holds and what leaves it: the check of the folder, and the archive for others."""

from __future__ import annotations

import datetime
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.events import JOINT_LABELS
from audio_pipeline.analysis.guided import Phase, cues_in_comment, planned_phases
from audio_pipeline.app.outputs import (
    check_new_folder,
    write_json,
    write_table,
    write_text,
    writing,
)
from audio_pipeline.app.study import (
    LABELS,
    TAKES,
    Study,
    StudySettings,
    Take,
    TakeNote,
    digest_of,
    read_note,
    read_take,
    template,
)
from audio_pipeline.app.text import Step
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.datasets.conditions import voice_stretches
from audio_pipeline.datasets.manifest import (
    MANIFEST,
    LabelledClip,
    Region,
    audacity_track,
    read_dataset,
)
from audio_pipeline.exceptions import InvalidInputError, RecordingError
from audio_pipeline.triage.messages import load_catalogue
from audio_pipeline.triage.questionnaire import REDCAP, age_band, redcap_rows


@dataclass(frozen=True)
class Problem:
    """Something that `study check` found: a word, where, and a sentence."""

    code: str
    where: str
    text: str


@dataclass(frozen=True)
class Check:
    """What a study folder holds, and what is amiss."""

    people: int  # counts
    sessions: int
    takes: int
    problems: tuple[Problem, ...]  # in the order of the folder
    # take to the stretches in s where speech can be heard
    speech: Mapping[str, tuple[tuple[float, float], ...]]

    @property
    def broken(self) -> bool:
        """Whether a recording is lost, unreadable or was changed."""
        return any(one.code in {"unreadable", "altered", "no_recording"} for one in self.problems)


def check_study(study: Study, progress: Step | None = None) -> Check:
    """Say what is missing, what was recorded otherwise than planned, and where speech is heard."""
    speech: dict[str, tuple[tuple[float, float], ...]] = {}
    takes, people = study.takes(), study.participants()
    problems = [*_stray_files(study), *_people_problems(study, takes)]
    for number, take in enumerate(takes, 1):
        problems += _take_problems(take, study.settings)
        try:
            heard = _speech(*read_take(take.path))
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
    return Check(len(people), len(sessions), len(takes), tuple(problems), speech)


def _people_problems(study: Study, takes: Sequence[Take]) -> Iterator[Problem]:
    """Yield what is amiss with each person's consent, takes and answers."""
    settings, consents, answers = study.settings, study.consents(), study.answers()
    digest = cache(study.consent_digest)
    asked = (*settings.questions, *(one.name for one in settings.outcomes))
    for person in study.participants():
        consent = consents.get(person)
        own = [one.note for one in takes if one.note.participant == person]
        if consent is None:
            yield Problem("no_consent", person, "Nobody noted a consent.")
        elif own and not consent.research:
            yield Problem("no_consent", person, "There are takes, but no yes to research.")
        elif digest(consent.version) != consent.sha256:
            yield Problem("consent_changed", person, "The consent text is not the one they saw.")
        elif consent.version != settings.consent_version:
            yield Problem("old_consent", person, f"They saw version {consent.version} of it.")
        if not own and (consent is None or consent.research):
            yield Problem("no_takes", person, "There is no take.")
        for session in sorted({note.session for note in own}):
            notes = [note for note in own if note.session == session]
            yield from _session_problems(study, person, notes)
            row = answers.get((person, session), {})
            open_ones = [name for name in asked if not row.get(name)]
            if open_ones:
                first = ", ".join(open_ones[:3]) + (", ..." if len(open_ones) > 3 else "")
                text = f"Not answered: {len(open_ones)} of {len(asked)} ({first})."
                yield Problem("open_answers", f"{person}, session {session}", text)


def _stray_files(study: Study) -> Iterator[Problem]:
    """Yield a key in the folder, recordings without a note, and notes without a recording."""
    outside = study.key.parent != Path(os.path.abspath(study.folder))
    if not outside or any(study.folder.rglob("*-key.csv")):
        yield Problem("key_inside", str(study.folder), "The key lies in the folder.")
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

    ``name``: of the take.
    ``phases``: what was performed; empty for a free take.
    ``duration``: length of the take, s.
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
        more = (phase.end - phase.start) - (plan.end - plan.start)
        # Longer stillness does no harm: the page counts in while it records already.
        if more < -_LATE or (phase.kind == "turn" and more > _LATE):
            text = f"Phase {phase.kind} {phase.turn or ''} lasted {phase.end - phase.start:.1f} s."
            yield Problem("pace", name, " ".join(text.split()))


_LATE = 0.5
"""Seconds by which a phase may be longer or shorter: a browser's timers are late by tenths."""


def _speech(recording: Recording, comment: str) -> tuple[tuple[float, float], ...]:
    """Return where speech may be heard in a take, s; what the recorder itself said is left out."""
    samples = recording.samples.copy()
    for start, end in cues_in_comment(comment):
        samples[_frames(start, end, recording.sample_rate)] = 0
    return voice_stretches(Recording(samples, recording.sample_rate))


def _frames(start: float, end: float, rate: int) -> slice:
    return slice(max(0, round(start * rate)), max(0, round(end * rate)))


EVENTS = ("file", "label", "group", "start", "end", "session", "take", "raters")
TAKE_COLUMNS = (
    *("file", "group", "session", "take", "day", "minute", "duration", "sample_rate"),
    *("device", "distance_cm", "posture", "speech_seconds", "muted_seconds", "sha256"),
)


@dataclass(frozen=True)
class Archive:
    """What an export wrote."""

    archive: str  # its folder
    people: tuple[str, ...]  # codes of those who said yes to sharing, and have a take
    takes: int  # how many recordings, and labelled stretches by label
    labels: Mapping[str, int]
    left_out: Mapping[str, str]  # take or person to the reason


def export_study(
    study: Study,
    folder: Path,
    *,
    mute_speech: bool = False,
    progress: Step | None = None,
) -> Archive:
    """Write the pseudonymous archive of a study: sound, labels, answers, and what describes them.

    ``study``: those who left it, or did not say yes to sharing, are not in the archive.
    ``folder``: new or empty; it appears whole or not at all.
    ``mute_speech``: put silence where speech may be heard, outside stretches labelled as a joint
        sound.
    ``progress``: called with (what is being done, done, total).
    Takes that cannot be read, or were changed, are in `left_out`.
    Raises InvalidInputError when the folder holds anything, or nobody said yes to sharing.
    """
    check_new_folder(folder)
    consents = study.consents()
    left_out = {
        person: "no yes to sharing"
        for person in study.participants()
        if person not in consents or not consents[person].share
    }
    takes = [one for one in study.takes() if one.note.participant not in left_out]
    if not takes:
        raise InvalidInputError(f"{study.folder}: nobody with a take said yes to sharing")
    labelled = labelled_stretches(study)
    partial = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}.partial")
    try:
        with writing(folder):
            partial.mkdir(parents=True)
            rows = []
            events: list[dict[str, Any]] = []
            for number, take in enumerate(takes, 1):
                clips = labelled.get(os.path.realpath(take.path), ())
                try:
                    rows.append(_export_take(take, takes, clips, partial, mute_speech))
                    events += [_event(take, clip) for clip in clips]
                except RecordingError as error:
                    left_out[take.name] = f"cannot be read: {error}"
                except _AlteredError:
                    left_out[take.name] = "it is not the file that was recorded"
                if progress:
                    progress("Writing takes", number, len(takes))
            kept = [take for take in takes if take.name not in left_out]
            people = tuple(dict.fromkeys(take.note.participant for take in kept))
            archive = Archive(
                str(folder),
                people,
                len(rows),
                dict(sorted(Counter(row["label"] for row in events).items())),
                left_out,
            )
            _write_tables(study, archive, partial, rows, events)
            if folder.is_dir():
                folder.rmdir()
            os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    study.log_export(folder, people)
    return archive


class _AlteredError(Exception):
    """A take is not the file that its note describes."""


def labelled_stretches(study: Study) -> dict[str, tuple[LabelledClip, ...]]:
    """Return the labels on a study's takes, by the real path of the recording.

    They are in ``labels/review.csv``, which ``crepitus review`` writes and where raters agree, or
    in ``labels/labels.csv``; nothing is labelled when neither is there.
    """
    for name in ("review.csv", "labels.csv"):
        path = study.folder / LABELS / name
        if path.is_file():
            found: dict[str, list[LabelledClip]] = {}
            for clip in read_dataset(path, allow_outside=True).clips:
                found.setdefault(os.path.realpath(clip.path), []).append(clip)
            return {key: tuple(clips) for key, clips in found.items()}
    return {}


def _export_take(
    take: Take, takes: Sequence[Take], clips: Sequence[LabelledClip], folder: Path, mute: bool
) -> dict[str, Any]:
    """Write one recording and its label track; return its row of ``takes.csv``."""
    recording, comment = read_take(take.path)
    if digest_of(take.path) != take.note.sha256:
        raise _AlteredError
    speech = _speech(recording, comment)
    regions = [
        Region(clip.start, clip.end, clip.label)
        for clip in clips
        if clip.start is not None and clip.end is not None
    ]
    muted = 0.0
    if mute and speech:
        joint = [(one.start, one.end) for one in regions if one.label in JOINT_LABELS]
        recording, muted = silenced(recording, speech, joint)
    path = folder / "audio" / take.name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_recording(path, recording, metadata=_shareable(comment))
    if regions:
        write_text(path.with_suffix(".txt"), audacity_track(regions))
    note = take.note
    own = [one.note for one in takes if one.note.participant == note.participant]
    first = min(one.recorded_at for one in own)
    first_of_session = min(one.recorded_at for one in own if one.session == note.session)
    return {
        "file": f"audio/{take.name}",
        "group": note.participant,
        **{name: getattr(note, name) for name in ("session", "take", "duration", "sample_rate")},
        # No date leaves the study, only how far apart things were.
        "day": (note.recorded_at.date() - first.date()).days,
        "minute": round((note.recorded_at - first_of_session).total_seconds() / 60),
        **{name: getattr(note, name) for name in ("device", "distance_cm", "posture")},
        "speech_seconds": f"{sum(end - start for start, end in speech):.2f}",
        "muted_seconds": f"{muted:.2f}",
        "sha256": digest_of(path),
    }


def silenced(
    recording: Recording,
    stretches: Sequence[tuple[float, float]],
    kept: Sequence[tuple[float, float]],
) -> tuple[Recording, float]:
    """Put silence into stretches of a recording, except where something is to be kept.

    The recording with silence, faded in 5 ms; and the seconds that were silenced.
    """
    rate = recording.sample_rate
    gain = np.ones(len(recording.samples), np.float32)
    for start, end in stretches:
        gain[_frames(start, end, rate)] = 0
    for start, end in kept:
        gain[_frames(start, end, rate)] = 1
    lost = float((gain == 0).sum()) / rate
    half = max(1, round(0.0025 * rate))
    window = np.full(2 * half + 1, 1 / (2 * half + 1), np.float32)
    faded = np.convolve(np.pad(gain, half, "edge"), window, "valid")
    # What is silent stays silent to the last sample; the fade lies in what is kept.
    return Recording(recording.samples * np.where(gain == 0, 0, faded), rate), lost


def _shareable(comment: str) -> dict[str, str]:
    """Return the comment of a shared file: phases and cues, and nothing else that it said."""
    try:
        given = json.loads(comment)
        kept = {name: given[name] for name in ("protocol", "cues") if name in given}
    except (ValueError, TypeError, RecursionError):
        return {}
    return {"comment": json.dumps(kept)} if kept else {}


def _event(take: Take, clip: LabelledClip) -> dict[str, Any]:
    times = {"start": clip.start, "end": clip.end}
    return {
        "file": f"audio/{take.name}",
        "label": clip.label,
        "group": take.note.participant,
        **{name: "" if value is None else f"{value:.4f}" for name, value in times.items()},
        "session": take.note.session,
        "take": take.note.take,
        "raters": clip.columns.get("raters", ""),
    }


def _write_tables(
    study: Study,
    archive: Archive,
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
) -> None:
    """Write the tables of an archive, the card, and the metadata that describes them all."""
    settings = study.settings
    write_table(folder / "takes.csv", TAKE_COLUMNS, rows)
    tables: list[tuple[str, tuple[str, ...]]] = [("takes.csv", TAKE_COLUMNS)]
    if events:
        write_table(folder / MANIFEST, EVENTS, events)
        tables.insert(0, (MANIFEST, EVENTS))
    fields = (*settings.questions, *(one.name for one in settings.outcomes))
    answered = [
        {**row, "age": age_band(row.get("age", ""))}
        for (person, _), row in study.answers().items()
        if person in archive.people
    ]
    columns = ("participant", "session", *fields)
    write_table(folder / "answers.csv", columns, answered)
    tables.append(("answers.csv", columns))
    gone = [{"participant": person} for person in sorted(study.withdrawn())]
    write_table(folder / "withdrawn.csv", ("participant",), gone)
    numbers = ((one.name, one.label, one.minimum, one.maximum) for one in settings.outcomes)
    dictionary = redcap_rows(settings.questions, numbers, load_catalogue(settings.region))
    write_table(folder / "redcap_dictionary.csv", REDCAP, dictionary)
    write_text(folder / "README.md", _card(study, archive, rows))
    write_json(folder / "croissant.json", croissant(settings, archive, folder, tables))


_LICENCES = {
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "CC BY-NC 4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
}
_TYPES = {
    **dict.fromkeys(("start", "end", "duration", "distance_cm"), "sc:Float"),
    **dict.fromkeys(("speech_seconds", "muted_seconds"), "sc:Float"),
    **dict.fromkeys(("session", "take", "day", "minute", "sample_rate"), "sc:Integer"),
}


def croissant(
    settings: StudySettings,
    archive: Archive,
    folder: Path,
    tables: Sequence[tuple[str, Sequence[str]]],
) -> dict[str, Any]:
    """Return the archive's description as Croissant 1.1 (JSON-LD; mlcommons.org/croissant)."""
    files = [
        _node(
            "FileObject",
            name,
            contentUrl=name,
            encodingFormat="text/csv",
            sha256=digest_of(folder / name),
        )
        for name, _ in tables
    ]
    audio = _node(
        "FileSet",
        "audio",
        description="The recordings, one a take.",
        encodingFormat="audio/flac",
        includes="audio/*/*.flac",
    )
    records = [
        _node(
            "RecordSet",
            name.removesuffix(".csv"),
            field=[
                _node(
                    "Field",
                    f"{name.removesuffix('.csv')}/{column}",
                    dataType=_TYPES.get(column, "sc:Text"),
                    source={"fileObject": {"@id": name}, "extract": {"column": column}},
                )
                for column in columns
            ],
        )
        for name, columns in tables
    ]
    return {
        "@context": json.loads(template("croissant-context.json")),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": settings.title,
        "description": (
            f"Sounds of the twisting back: {archive.takes} guided takes of {len(archive.people)} "
            "people, with labels and answers. Nobody is named."
        ),
        "creator": {"@type": "sc:Organization", "name": settings.owner},
        "citeAs": f"{settings.owner}: {settings.title}",
        "license": _LICENCES.get(settings.licence, settings.licence),
        **({"url": settings.url} if settings.url else {}),
        "datePublished": datetime.datetime.now().astimezone().date().isoformat(),
        "version": f"{settings.protocol.version}.0.0",
        "distribution": [*files, audio],
        "recordSet": records,
    }


def _node(kind: str, place: str, **more: Any) -> dict[str, Any]:
    """Return a node of Croissant, named like the last part of its place."""
    name = place.rpartition("/")[2]
    return {"@type": f"cr:{kind}", "@id": place, "name": name, **more}


def _card(study: Study, archive: Archive, rows: Sequence[Mapping[str, Any]]) -> str:
    devices = Counter(str(row["device"]) for row in rows)
    speech = sum(float(row["speech_seconds"]) - float(row["muted_seconds"]) for row in rows)
    seconds = sum(float(row["duration"]) for row in rows)
    labels = ", ".join(f"{count} {label}" for label, count in archive.labels.items())
    return template("study-card.md").format(
        settings=study.settings,
        people=len(archive.people),
        takes=archive.takes,
        minutes=f"{seconds / 60:.1f}",
        labels=labels or "none yet",
        devices="; ".join(f"{name} ({count})" for name, count in devices.most_common()),
        speech=f"{max(0.0, speech):.1f}",
        muted=f"{sum(float(row['muted_seconds']) for row in rows):.1f}",
        withdrawn=len(study.withdrawn()),
        not_shared=sum(reason == "no yes to sharing" for reason in archive.left_out.values()),
    )
