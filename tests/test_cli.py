"""The command line: what every command promises, and ``crepitus analyze`` to the letter."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn, get_args

import click
import numpy as np
import pytest
from made_sounds import background, with_impacts
from pseudo_terminal import Person

from audio_pipeline import __version__
from audio_pipeline.analysis.events import LABELS
from audio_pipeline.app.cli import COMMANDS, app, main, options
from audio_pipeline.app.study import StudySettings
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.triage import messages

SAMPLES = Path(__file__).parent.parent / "datasets" / "samples"
POPS = str(SAMPLES / "twist_two_pops.flac")
GRINDING = str(SAMPLES / "twist_grinding.flac")
ANSWERS = str(SAMPLES / "answers.yaml")


class Ran:
    """How a command ended and what it wrote."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def document(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.out, parse_constant=_no_constant)
        return loaded


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


@pytest.fixture
def crepitus(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs a command line as a script would: with no terminal."""
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)

    def run(*arguments: str | Path) -> Ran:
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return Ran(int(stop.value.code or 0), captured.out, captured.err)

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself_with_an_example_that_parses(
    name: str, crepitus: Any
) -> None:
    ran = crepitus(name, "--help")
    assert ran.code == 0
    example = re.search(rf"Example: crepitus {name}\b(.*)", " ".join(ran.out.split()))
    assert example, ran.out
    words = re.split(r">|;|&&", example[1])[0].split()
    command = app.get_command(click.Context(app), name)
    assert command is not None
    options = {option for each in command.params for option in each.opts}
    assert {word for word in words if word.startswith("-")} <= options


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_refused(name: str, crepitus: Any) -> None:
    ran = crepitus(name, "--no-such-option")
    assert ran.code == 2
    assert ran.out == ""
    assert "--no-such-option" in ran.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["triage", "--sound", "thunder"], ["'--sound'", "thunder", "'grating'", "triage --help"]),
        (["triage", "--confidence", "0.5"], ["--confidence needs --sound", "triage --help"]),
        (["analyze"], ["'FILE...'", "analyze --help"]),
        (["analyze", "a.wav", "--region", "EU\nUS"], ["'--region'", "analyze --help"]),
        (["record", "--seconds", "soon"], ["'--seconds'", "soon", "record --help"]),
        (["analyse", "a.wav"], ["analyse", "crepitus --help"]),
        (["--verbose"], ["--verbose", "crepitus --help"]),
    ],
)
def test_a_wrong_command_line_is_said_in_one_line(
    arguments: list[str], said: list[str], crepitus: Any
) -> None:
    ran = crepitus(*arguments)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("crepitus: ")
    assert len(ran.err.splitlines()) == 1
    assert all(each in ran.err for each in said), ran.err


def test_an_odd_name_is_said_in_one_line(crepitus: Any) -> None:
    ran = crepitus("analyze", "gone\n\udcff.wav", "--json")
    assert ran.code == 1
    lines = [line for line in ran.err.splitlines() if not line.startswith("First run:")]
    assert len(lines) == 1
    assert lines[0].startswith(r"crepitus: gone\n\xff.wav: ")


def test_without_a_command_all_are_listed(crepitus: Any) -> None:
    ran = crepitus()
    assert ran.code == 2
    assert all(name in ran.err for name in COMMANDS)


def test_a_warning_is_one_line_said_once(crepitus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(**_: Any) -> None:
        for _ in range(2):
            warnings.warn("it may\nanswer otherwise", UserWarning, stacklevel=1)

    monkeypatch.setattr(app, "main", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert crepitus("check").err == "crepitus: it may answer otherwise\n"


def test_version_and_unknown_commands(crepitus: Any) -> None:
    assert __version__ in crepitus("--version").out
    assert crepitus("listen-to-me").code == 2


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["triage", "--answers", ANSWERS]])
def test_what_needs_no_sound_loads_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys; from audio_pipeline.app.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "heavy = {'numpy', 'scipy', 'librosa', 'sklearn', 'numba', 'av', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_analyze_prints_the_contract(crepitus: Any) -> None:
    ran = crepitus("analyze", POPS, GRINDING, "--json")
    assert ran.code == 0
    document = ran.document
    assert list(document) == ["schema_version", "software", "model", "settings", "recordings"]
    assert document["schema_version"] == 1
    assert set(document["model"]) == {"name", "sha256"}
    assert [each["source"] for each in document["recordings"]] == [POPS, GRINDING]
    for recording in document["recordings"]:
        assert list(recording) == [
            "source", "status", "error", "duration", "sample_rate", "quality", "events", "finding",
            "recommendation",
        ]  # fmt: skip
        assert (recording["status"], recording["error"]) == ("ok", None)
        assert recording["sample_rate"] == 44_100
        assert recording["quality"]["usable"] is True
        assert all({"code", "text"} <= set(one) for one in recording["quality"]["warnings"])
        assert recording["recommendation"] is None
        assert set(recording["finding"]) == {"label", "confidence", "reasons"}
        assert recording["events"]
        for event in recording["events"]:
            assert list(event) == [
                "start", "end", "label", "probabilities", "uncertain", "impacts", "reasons",
            ]  # fmt: skip
            assert 0 <= event["start"] < event["end"] <= recording["duration"] + 1e-3
            assert sorted(event["probabilities"]) == sorted(LABELS)
            assert isinstance(event["impacts"], int)
            assert isinstance(event["uncertain"], bool)


def test_analyze_gives_the_recommendation_of_triage(crepitus: Any) -> None:
    (recording,) = crepitus("analyze", POPS, "--answers", ANSWERS, "--json").document["recordings"]
    finding = recording["finding"]
    sound = ["--sound", finding["label"], "--confidence", str(finding["confidence"])]
    alone = crepitus("triage", "--answers", ANSWERS, *sound, "--json").document
    assert recording["recommendation"] == alone


def test_analyze_shows_people_what_it_heard_and_what_to_do(crepitus: Any) -> None:
    alone = crepitus("analyze", POPS)
    assert alone.code == 0
    assert "We heard" in alone.out
    assert "crepitus triage" in alone.out
    told = crepitus("analyze", POPS, "--answers", ANSWERS, "--region", "GB")
    assert "999" in told.out
    assert "No clinician has reviewed" in told.out
    assert max(map(len, told.out.splitlines())) <= 100


@pytest.mark.slow
def test_at_a_terminal_what_was_heard_comes_first_and_questions_are_offered(tmp_path: Path) -> None:
    person = Person("analyze", POPS, cwd=tmp_path, extra={"NO_COLOR": "1"})
    person.wait_for("We heard 2 pops.")
    person.wait_for("Enter, or n:")
    person.type("\n")
    person.wait_for("Question 1 of")
    person.type("q\n")
    person.wait_for("Press Enter to leave")
    person.type("\n")
    assert person.leave() == 0
    assert "What you can do" not in person.screen
    assert "\x1b[1;" not in person.raw


@pytest.mark.slow
def test_no_questions_means_none(tmp_path: Path) -> None:
    person = Person("analyze", POPS, "--no-questions", cwd=tmp_path)
    person.wait_for("We heard 2 pops.")
    assert person.leave() == 0
    assert "Enter, or n" not in person.screen


def test_one_bad_file_harms_no_other(tmp_path: Path, crepitus: Any) -> None:
    bad, gone = tmp_path / "notes.wav", tmp_path / "gone.wav"
    bad.write_text("this is no sound")
    ran = crepitus("analyze", bad, POPS, gone, "--json")
    assert ran.code == 1
    recordings = ran.document["recordings"]
    assert [each["status"] for each in recordings] == ["failed", "ok", "failed"]
    for failed in recordings[::2]:
        assert failed["error"]
        assert "\n" not in failed["error"]
        assert (failed["events"], failed["finding"], failed["duration"]) == ([], None, None)
    assert recordings[1] == crepitus("analyze", POPS, "--json").document["recordings"][0]
    assert len(ran.err.strip().splitlines()) == 1
    assert f"2 of 3 recordings failed, {bad}: " in ran.err


@pytest.mark.parametrize(
    "name", ["two words.wav", "back 🔊.wav", "line\nbreak.wav", b"\xff\xfe.wav"]
)
def test_any_name_of_a_file_will_do(tmp_path: Path, name: str | bytes, crepitus: Any) -> None:
    path = os.path.join(tmp_path, os.fsdecode(name))
    sound = with_impacts(background("pink", 1.0, 22_050), [0.5], 22_050)
    write_recording(tmp_path / "plain.wav", Recording(sound, 22_050))
    os.rename(tmp_path / "plain.wav", path)
    ran = crepitus("analyze", path, "--json")
    assert ran.code == 0
    (recording,) = ran.document["recordings"]
    assert recording["status"] == "ok"
    assert recording["source"].encode() == path.encode("utf-8", "surrogateescape").replace(
        b"\xff\xfe", rb"\xff\xfe"
    )
    assert crepitus("analyze", path).code == 0


def test_what_is_refused_before_any_work(tmp_path: Path, crepitus: Any) -> None:
    answers = tmp_path / "answers.yaml"
    answers.write_text("pain: terrible\n")
    for arguments in (
        ["--answers", answers],
        ["--answers", tmp_path / "none.yaml"],
        ["--model", tmp_path / "no model"],
        ["--region", "MOON"],
    ):
        ran = crepitus("analyze", POPS, "--json", *arguments)
        assert ran.code == 2, arguments
        assert ran.out == ""
        assert str(arguments[1]) in ran.err or "pain" in ran.err


def test_silence_is_no_failure(tmp_path: Path, crepitus: Any) -> None:
    path = tmp_path / "silence.wav"
    write_recording(path, Recording(np.zeros(22_050, np.float32), 22_050))
    ran = crepitus("analyze", path, "--json")
    assert ran.code == 0
    (recording,) = ran.document["recordings"]
    assert recording["finding"]["label"] == "unusable"
    assert recording["quality"]["warnings"]


def test_the_report_is_one_file_that_needs_no_network(tmp_path: Path, crepitus: Any) -> None:
    page = tmp_path / "result.html"
    assert crepitus("analyze", POPS, "--answers", ANSWERS, "--report", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert "twist_two_pops.flac" in text
    assert not re.search(r'(src|href)="(https?:)?//', text.replace('<a href="https://', ""))


def test_every_place_knows_the_same_regions() -> None:
    settings = StudySettings.model_fields["region"].annotation
    assert options.REGIONS == messages.REGIONS == get_args(settings)
