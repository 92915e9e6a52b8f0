"""Takes as the kit's page sends them, and a small study with people in it."""

from __future__ import annotations

import datetime
import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from server_support import RATE, twist

from audio_pipeline.analysis.guided import planned_phases
from audio_pipeline.app.study import Study, new_study
from audio_pipeline.audio.recording import Recording, write_recording

START = datetime.datetime(2026, 11, 29, 10, 0, tzinfo=datetime.UTC)
SETUP = {"device": "phone A", "distance_cm": 5.0, "posture": "sitting"}


def guided_comment(seconds: float) -> str:
    """Return what the page writes into a file about its phases."""
    phases = [phase.to_dict() for phase in planned_phases() if phase.start < seconds]
    phases[-1]["end"] = seconds
    return json.dumps({"protocol": phases, "cues": []})


@cache
def take_bytes(pops: tuple[float, ...] = (6.0, 9.5), seconds: float = 25.0, seed: int = 0) -> bytes:
    """Return the bytes of a guided take as a WAV file; another seed is another sound."""
    samples = twist(pops, seconds)
    samples = samples + 1e-5 * np.random.default_rng(seed).standard_normal(len(samples))
    with TemporaryDirectory() as folder:
        path = Path(folder, "twist.wav")
        comment = {"comment": guided_comment(seconds)}
        write_recording(path, Recording(samples, RATE), metadata=comment)
        return path.read_bytes()


def with_people(folder: Path, count: int = 2, takes: int = 2) -> Study:
    """Make a study in which everybody said yes to everything and was recorded."""
    study = new_study(folder, "Twists", "A. Miller")
    for number in range(count):
        person = study.add_participant()
        study.give_consent(person, use=True, research=True, share=True)
        for take in range(takes):
            sound = take_bytes((6.0 + number, 9.5), seed=100 * number + take)
            at = START + datetime.timedelta(days=number, minutes=5 * take)
            study.keep_take(person, sound, **SETUP, at=at)
        study.keep_answers(person, 1, answered(study))
    return study


def answered(study: Study) -> dict[str, str | int]:
    """Return an answer to every question and outcome field of a study."""
    from audio_pipeline.triage.rules import load_tables

    questions = load_tables().questions
    given: dict[str, str | int] = {}
    for name in study.settings.questions:
        question = questions[name]
        given[name] = 42 if question.numeric else question.answers[0]
        if question.numeric and question.maximum is not None and question.maximum < 42:
            given[name] = question.maximum
    for one in study.settings.outcomes:
        given[one.name] = one.maximum
    return given
