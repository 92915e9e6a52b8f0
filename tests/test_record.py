"""``crepitus record``: by script, and as a person at a terminal does it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from pseudo_terminal import COLUMNS, Person
from virtual_sound_card import RATE, VirtualSoundCard, sound_card  # noqa: F401

from audio_pipeline.app.cli.record import record_command as command
from audio_pipeline.exceptions import InvalidInputError

TAPS = (0.5, 1.2, 1.9)


@pytest.fixture
def card(sound_card: VirtualSoundCard) -> VirtualSoundCard:  # noqa: F811
    return sound_card


def taps(seconds: float = 3.0, at: tuple[float, ...] = TAPS) -> np.ndarray:
    rng = np.random.default_rng(3)
    samples = rng.normal(0, 0.001, round(seconds * RATE))
    for moment in at:
        place = round(moment * RATE)
        samples[place : place + 480] += (
            0.5 * np.exp(-np.arange(480) / 50) * np.sin(np.arange(480) * 0.5)
        )
    return samples.astype(np.float32)


def record(
    *words: str, meanwhile: Callable[[subprocess.Popen[str]], None] = lambda program: None
) -> tuple[int, str, str]:
    """Run ``crepitus record`` as a script does; returns exit code, standard output and error."""
    program = subprocess.Popen(
        [sys.executable, "-m", "audio_pipeline", "record", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        meanwhile(program)
        out, err = program.communicate(timeout=60)
    finally:
        program.kill()
    return program.returncode, out, err


def recording_of(out: str) -> dict[str, Any]:
    entry: dict[str, Any] = json.loads(out)["recordings"][0]
    return entry


def grown(path: Path, seconds: float) -> bool:
    """Wait until a take's journal holds that many seconds of sound."""
    journal = Path(f"{path}.unfinished.au")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if journal.exists() and journal.stat().st_size > seconds * RATE * 3:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.slow
def test_a_scripted_take_is_as_long_as_asked_and_equals_its_file(
    card: VirtualSoundCard, tmp_path: Path
) -> None:
    path = tmp_path / "a take.wav"

    def play(program: subprocess.Popen[str]) -> None:
        assert grown(path, 0.2)
        card.play(taps())

    code, out, err = record(
        "-o", str(path), "--seconds", "4", "--device", "pulse", "--json", meanwhile=play
    )
    assert code == 0, err
    live = recording_of(out)
    assert live["source"] == str(path)
    assert live["duration"] == pytest.approx(4.0, abs=1 / RATE)
    assert soundfile.info(path).frames == 4 * RATE
    starts = [event["start"] for event in live["events"]]
    assert np.diff(starts) == pytest.approx(np.diff(TAPS), abs=0.005)
    again = subprocess.run(
        [sys.executable, "-m", "audio_pipeline", "analyze", str(path), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    file = recording_of(again.stdout)
    assert len(file["events"]) == len(live["events"])
    for heard, read in zip(live["events"], file["events"], strict=True):
        assert heard["label"] == read["label"]
        assert heard["start"] == pytest.approx(read["start"], abs=1e-3)
        assert heard["end"] == pytest.approx(read["end"], abs=1e-3)
        assert heard["probabilities"] == pytest.approx(read["probabilities"], abs=1e-4)
    with soundfile.SoundFile(path) as made:
        assert made.subtype == "PCM_24"
        assert "crepitus" in made.software
        comment = json.loads(made.comment)
    assert comment["device"] == "pulse"
    assert comment["sample_rate"] == RATE
    assert comment["protocol"] == []
    # The chosen microphone, and nothing else, is remembered.
    kept = [entry for _, _, entries in os.walk(os.environ["XDG_CONFIG_HOME"]) for entry in entries]
    assert kept == ["microphone.json"]


@pytest.mark.slow
def test_a_take_is_kept_in_the_history_when_asked(
    card: VirtualSoundCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audio_pipeline.app.history import History

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    words = ("--seconds", "1", "--device", "pulse", "--json")
    assert record(*words)[0] == 0
    assert not (tmp_path / "data").exists()
    file = tmp_path / "twist.wav"
    for more in (("--keep",), ("--keep-take",), ("--keep-take", "-o", str(file))):
        code, out, err = record(*words, *more)
        assert code == 0, err
        entry = History().entries()[-1]
        assert entry.recording == recording_of(out)
        assert (entry.take_name is not None) == ("--keep-take" in more)
    assert History().take(entry.id) == file.read_bytes()
    assert len(History().entries()) == 3


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_a_script_may_stop_a_take_and_keeps_it(
    card: VirtualSoundCard, tmp_path: Path, signal_name: str
) -> None:
    path = tmp_path / "take.flac"

    def stop(program: subprocess.Popen[str]) -> None:
        assert grown(path, 0.5)
        program.send_signal(getattr(signal, signal_name))

    code, out, err = record("-o", str(path), "--json", meanwhile=stop)
    assert code == 0, err
    assert recording_of(out)["duration"] == pytest.approx(soundfile.info(path).duration, abs=1e-4)
    assert soundfile.info(path).duration > 0.5
    assert sorted(os.listdir(tmp_path)) == ["take.flac"]


@pytest.mark.slow
def test_a_pulled_microphone_keeps_the_take_and_says_so_in_one_line(
    card: VirtualSoundCard, tmp_path: Path
) -> None:
    path = tmp_path / "take.wav"

    def pull(program: subprocess.Popen[str]) -> None:
        assert grown(path, 0.5)
        card.pull_out()

    code, out, err = record("-o", str(path), "--seconds", "60", "--json", meanwhile=pull)
    assert code == 1
    # A busy machine may lose sound as well, which is said in a line of its own.
    complaints = [line for line in err.splitlines() if "too busy and lost sound" not in line]
    assert len(complaints) == 1, err
    (complaint,) = complaints
    assert complaint.startswith("crepitus:")
    assert "plugged in" in complaint
    assert str(path) in complaint
    duration = soundfile.info(path).duration
    assert 0.4 < duration < 30
    assert recording_of(out)["duration"] == pytest.approx(duration, abs=1e-4)


def test_what_is_wrong_on_the_command_line_is_refused_before_any_sound(tmp_path: Path) -> None:
    there = tmp_path / "there.wav"
    there.write_bytes(b"x")
    for words, said in (
        (("-o", str(tmp_path / "a.mp3")), ".wav or .flac"),
        (("-o", str(there)), "already exists"),
        (("--seconds", "0"), "--seconds"),
        (("--seconds", "100000"), "at most"),
        (("--answers", str(tmp_path / "no.yaml")), "no.yaml"),
    ):
        ended = CliRunner().invoke(command, [*words, "--json"])
        refused = ended.exit_code == 2 or isinstance(ended.exception, InvalidInputError)
        assert refused, ended.output
        assert ended.stdout == ""
        assert said in f"{ended.exception} {ended.stderr}"
    assert there.read_bytes() == b"x"


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Callable[..., Person]]:
    people: list[Person] = []

    def start(*words: str, **extra: str) -> Person:
        people.append(Person(*words, cwd=tmp_path, extra=extra))
        return people[-1]

    yield start
    for each in people:
        each.kill()


def answer_emergency_questions(someone: Person, answers: str = "111111") -> None:
    for number, answer in enumerate(answers, start=1):
        someone.wait_for(f"Question {number} of")
        someone.wait_for("Your answer: ")
        someone.type(f"{answer}\n")


@pytest.mark.slow
def test_a_person_is_guided_sees_the_meter_and_stops_with_enter(
    card: VirtualSoundCard, tmp_path: Path, person: Callable[..., Person]
) -> None:
    someone = person("record", "-o", "twist.flac")
    answer_emergency_questions(someone)
    someone.wait_for("Do not force a crack. Stop if it hurts.")
    someone.wait_for("Press Enter when you are ready.")
    someone.type("\n\n")  # the second, impatient one ends nothing
    for number in (3, 2, 1):
        someone.wait_for(f"{number} ...")
    someone.wait_for("Keep still and quiet.")
    card.play(taps())
    someone.wait_for("Level")
    someone.wait_for("Turn 1 of 5")
    someone.wait_for("(likely)", "(possible)", "(unsure)")  # an event, whatever it is taken for
    someone.type("\n")
    someone.wait_for("Kept: twist.flac")
    someone.wait_for("Question 7 of")
    someone.type("q\n")
    someone.wait_for("Press Enter to leave")
    someone.type("\n")
    someone.wait_for("twist.flac (")
    assert someone.leave() == 0
    plain = someone.screen
    assert "Traceback" not in plain
    assert max(map(len, plain.splitlines())) <= COLUMNS
    with soundfile.SoundFile(tmp_path / "twist.flac") as file:
        phases = json.loads(file.comment)["protocol"]
        length = len(file) / file.samplerate
    assert phases[0]["kind"] == "quiet"
    assert phases[-1]["end"] == pytest.approx(length, abs=1e-6)


@pytest.mark.slow
def test_ctrl_c_ends_a_free_take_and_keeps_it_and_no_colour_means_none(
    card: VirtualSoundCard, tmp_path: Path, person: Callable[..., Person]
) -> None:
    answers = tmp_path / "answers.yaml"
    emergency = ("saddle_numbness", "bladder_bowel", "both_legs", "leg_weakness")
    answers.write_text("\n".join([*(f"{name}: no" for name in emergency), "trauma: none", ""]))
    someone = person("record", "--free", "--answers", str(answers), "-o", "free.wav", NO_COLOR="1")
    someone.wait_for("Recording")
    someone.wait_for("Level")
    someone.type("\x03")
    someone.wait_for("Kept: free.wav")
    assert someone.leave() == 0
    assert "\x1b[3" not in someone.raw  # no coloured letters
    assert "Your answer" not in someone.screen
    assert soundfile.info(tmp_path / "free.wav").frames > 0


@pytest.mark.slow
def test_an_emergency_invites_nobody_to_twist(
    card: VirtualSoundCard, tmp_path: Path, person: Callable[..., Person]
) -> None:
    someone = person("record", "-o", "twist.flac", "--region", "GB")
    answer_emergency_questions(someone, "4")
    someone.wait_for("999")
    assert someone.leave() == 0
    assert "Press Enter when you are ready" not in someone.screen
    assert not (tmp_path / "twist.flac").exists()


@pytest.mark.slow
def test_ctrl_c_before_the_take_leaves_with_130(
    card: VirtualSoundCard, tmp_path: Path, person: Callable[..., Person]
) -> None:
    someone = person("record", "-o", "twist.flac")
    someone.wait_for("Your answer: ")
    someone.type("\x03")
    assert someone.leave() == 130
    assert "Traceback" not in someone.screen
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_a_silent_take_may_be_done_again_and_any_take_may_be_kept_afterwards(
    card: VirtualSoundCard, tmp_path: Path, person: Callable[..., Person]
) -> None:
    someone = person("record", "--seconds", "2")
    answer_emergency_questions(someone)
    someone.wait_for("It records for 2 seconds")
    someone.wait_for("Press Enter when you are ready.")
    someone.type("\n")
    someone.wait_for("NO SOUND")
    someone.wait_for("The recording cannot be used.")
    someone.wait_for("Record again?")
    card.play(taps(8.0, (6.0,)))
    someone.type("y\n")
    someone.wait_for("3 ...")
    someone.wait_for("Question 7 of")
    someone.type("q\n")
    someone.wait_for("Press Enter to leave")
    someone.type("\n")
    someone.wait_for("Keep the recording?")
    someone.type("kept.mp3\n")
    someone.wait_for(".wav or .flac")
    someone.type("kept.wav\n")
    someone.wait_for("Kept: kept.wav")
    assert someone.leave() == 0
    assert os.listdir(tmp_path) == ["kept.wav"]
    assert soundfile.info(tmp_path / "kept.wav").frames == 2 * RATE
