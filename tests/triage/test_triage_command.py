"""``crepitus triage`` and ``crepitus questions`` from the shell, and the page they print."""

from __future__ import annotations

import json
import os
import re
import resource
import stat
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pseudo_terminal import Person
from triage_cases import BASE, CASES, given

from audio_pipeline.app.cli import app
from audio_pipeline.app.reporting.recommendation import recommendation_page, wants_colour
from audio_pipeline.triage.answers import load_answers
from audio_pipeline.triage.messages import load_catalogue
from audio_pipeline.triage.recommendation import recommend
from audio_pipeline.triage.rules import LEVELS, questionnaire

KEYS = [
    *("level", "reasons", "advice", "safety_net", "incomplete", "unanswered"),
    *("no_self_manipulation", "rules_version", "explanation"),
]
SAMPLES = Path(__file__).parents[2] / "datasets" / "samples"
HEAVY = {"librosa", "numpy", "scipy", "sklearn", "soundfile", "av", "pydantic", "rich", "numba"}


def crepitus(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "audio_pipeline", *arguments],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )


def write(folder: Path, values: dict[str, Any]) -> str:
    file = folder / "answers.json"
    file.write_text(json.dumps(values), encoding="utf-8")
    return str(file)


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_json_is_one_document_and_nothing_is_asked(tmp_path: Path) -> None:
    done = crepitus("triage", "--json")
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert list(document) == KEYS
    assert (document["level"], document["incomplete"]) == ("soon", True)
    assert not done.stderr
    complete = crepitus("triage", "--answers", write(tmp_path, BASE), "--json")
    assert json.loads(complete.stdout)["level"] == "self_care"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sound", "bang"], ["bang", "grating"]),
        (["--sound", "grating", "--confidence", "2"], ["--confidence", "2.0", "0<=x<=1"]),
        (["--confidence", "0.5"], ["--sound"]),
        (["--region", "ZZ"], ["ZZ", "GB"]),
        (["--answers", "missing.yaml"], ["missing.yaml", "cannot be read"]),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_allowed(
    arguments: list[str], words: list[str]
) -> None:
    done = crepitus("triage", *arguments)
    assert done.returncode == 2
    assert not done.stdout
    assert "Traceback" not in done.stderr
    assert all(word in done.stderr for word in words)


def test_a_bad_answers_file_ends_with_2_in_one_line(tmp_path: Path) -> None:
    done = crepitus("triage", "--answers", write(tmp_path, {"fever": "maybe"}), "--json")
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.count("\n") == 1
    assert "no, yes, very_unwell, unsure" in done.stderr


def test_the_level_never_changes_the_exit_code(tmp_path: Path) -> None:
    for name, value in (("saddle_numbness", "yes"), ("trauma", "minor"), ("pain", "none")):
        file = write(tmp_path, {**BASE, name: value})
        run("triage", "--answers", file, "--json")


def test_sound_and_confidence_reach_the_engine(tmp_path: Path) -> None:
    file = write(tmp_path, BASE)
    clear = run("triage", "--answers", file, "--sound", "mixed", "--confidence", "0.8", "--json")
    unclear = run("triage", "--answers", file, "--sound", "mixed", "--json")
    assert json.loads(clear)["level"] == "routine"
    assert json.loads(unclear)["level"] == "self_care"


def test_region_by_option_and_by_locale(tmp_path: Path) -> None:
    file = write(tmp_path, {"saddle_numbness": "yes"})
    assert "000" in run("triage", "--answers", file, "--region", "AU")
    environment = {**os.environ, "LC_ALL": "en_US.UTF-8"}
    done = crepitus("triage", "--answers", file, env=environment)
    assert "911" in done.stdout


def test_nothing_is_kept_unless_asked(tmp_path: Path) -> None:
    file = write(tmp_path, {"fever": "yes"})
    before = set(tmp_path.iterdir())
    crepitus("triage", "--answers", file, cwd=tmp_path)
    assert set(tmp_path.iterdir()) == before


def test_answers_can_be_kept_and_read_again(tmp_path: Path) -> None:
    file = write(tmp_path, {"fever": "yes", "age": 40})
    kept, exported = tmp_path / "kept.yaml", tmp_path / "response.json"
    run("triage", "--answers", file, "--save", str(kept), "--fhir", str(exported))
    assert load_answers(kept) == load_answers(file)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert json.loads(exported.read_text())["resourceType"] == "QuestionnaireResponse"
    again = crepitus("triage", "--answers", file, "--save", str(kept))
    assert again.returncode == 2
    assert "already exists" in again.stderr


def test_questions_in_every_format(tmp_path: Path) -> None:
    blank = tmp_path / "blank.yaml"
    blank.write_text(run("questions", "--format", "yaml"), encoding="utf-8")
    assert not load_answers(blank).values
    assert json.loads(run("questions", "--format", "fhir"))["resourceType"] == "Questionnaire"
    listed = json.loads(run("questions", "--json"))["questions"]
    assert [entry["id"] for entry in listed] == [question.id for question in questionnaire()]
    text = run("questions")
    assert all(question.id in text for question in questionnaire())


@pytest.mark.parametrize("name", ["triage", "questions"])
def test_help_ends_with_an_example(name: str) -> None:
    lines = run(name, "--help").strip().splitlines()
    assert "Example: crepitus" in " ".join(lines[-2:])


def test_triage_loads_nothing_heavy() -> None:
    code = "import sys, audio_pipeline.app.cli.triage, audio_pipeline.triage.interview, "
    code += "audio_pipeline.app.reporting.recommendation; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.slow
def test_triage_starts_in_under_four_tenths_of_a_second(tmp_path: Path) -> None:
    file = write(tmp_path, BASE)
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        crepitus("triage", "--answers", file, "--json")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.4


# -------------------------------------------------------------- the page


def test_every_page_says_everything_at_80_columns() -> None:
    for case in CASES[::4]:
        result = recommend(case.answers, case.sound)
        page = recommendation_page(result)
        lines = page.splitlines()
        assert max(map(len, lines)) <= 80, case.id
        assert "\x1b" not in page, case.id
        words = result.catalogue
        assert words.level(result.level, "title") in lines[0], case.id
        assert words.level(result.level, "symbol") in lines[0], case.id
        flat = " ".join(page.split())
        if result.level == "emergency":
            continue
        for text in [text for _, text in (*result.advice, *result.safety_net)]:
            assert text.replace("- ", "") in flat.replace("- ", ""), case.id
        assert result.explanation[0].text in flat, case.id


@pytest.mark.parametrize(("region", "number"), [("GB", "999"), ("US", "911")])
def test_an_emergency_page_holds_the_emergency_and_nothing_else(region: str, number: str) -> None:
    emergencies = [case for case in CASES if case.range[0] == "emergency"]
    assert emergencies
    for case in emergencies:
        result = recommend(case.answers, case.sound, region=region)
        page = recommendation_page(result, highest_reached="emergency", answered_at="now")
        first, rest = page.split("\n\n", 1)
        assert result.catalogue.level("emergency", "title") in first, case.id
        assert number in first, case.id
        reasons = {reason.text for reason in result.reasons if reason.level == "emergency"}
        said = [" ".join(part.split()) for part in re.split(r"\n\n|^- ", rest, flags=re.MULTILINE)]
        where_to_go = {text for key, text in result.advice if key in ("A-EMERG", "A-MATERNITY")}
        allowed = reasons | where_to_go | {"Why ---", result.safety_net[-1][1], ""}
        assert set(said) <= allowed, case.id
        assert where_to_go <= set(said), case.id
        assert "cannot examine you" in page, case.id
        assert "Do not drive yourself" in page, case.id
        assert not result.to_dict()["explanation"], case.id


def test_an_ambulance_is_called_where_nobody_should_travel() -> None:
    for changes in (
        {"chest_or_abdomen": "yes"},
        {"fever": "very_unwell"},
        {"age": 70, "vascular_risk": "known_aneurysm", "back_pain": "yes", "sudden_onset": "yes",
         "duration": "under_6_weeks"},
    ):  # fmt: skip
        page = " ".join(recommendation_page(recommend(given(**changes))).split())
        assert "wait for the ambulance" in page
        assert "A&E" not in page
    page = recommendation_page(recommend(given(saddle_numbness="yes")))
    assert "A&E" in page


def test_colour_adds_nothing_that_words_do_not_say() -> None:
    for case in CASES[::10]:
        result = recommend(case.answers, case.sound)
        coloured = recommendation_page(result, colour=True)
        assert coloured != recommendation_page(result)
        assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == recommendation_page(result)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("X", "", True)],
)
def test_colour_only_on_a_terminal_that_wants_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, wanted: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv(name, value)
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        assert wants_colour(terminal) == wanted
    os.close(ours)
    assert not wants_colour(StringIO())


def test_reasons_come_highest_first() -> None:
    page = recommendation_page(recommend(given(trauma="minor", swelling="yes")))
    assert page.index("after a fall") < page.index("a lump, a swelling")
    assert "What we do not know" not in page


def test_open_questions_are_listed_with_what_to_do() -> None:
    page = recommendation_page(recommend(given(fever=None, both_legs="unsure")))
    urgent = page.index("If you have any of these, call 999")
    assert urgent < page.index("- pain, tingling, numbness or weakness in both legs")
    assert "- a high temperature" in page


def test_a_higher_level_on_the_way_is_mentioned() -> None:
    page = recommendation_page(recommend(given()), highest_reached="same_day")
    assert load_catalogue().level("same_day", "title") in " ".join(page.split())
    assert "one point" not in recommendation_page(recommend(given()), highest_reached="self_care")


def test_a_narrow_terminal_is_respected() -> None:
    page = recommendation_page(recommend(given(fever="yes")), width=50)
    assert max(map(len, page.splitlines())) <= 50


def test_levels_have_distinct_symbols_and_titles() -> None:
    words = load_catalogue()
    for field in ("symbol", "title", "when"):
        assert len({words.level(level, field) for level in LEVELS}) == len(LEVELS)


def test_it_asks_when_a_person_sits_at_a_terminal(tmp_path: Path) -> None:
    """A real terminal: answer the second question with yes and read the emergency page."""
    person = Person("triage", "--region", "GB", cwd=tmp_path)
    person.wait_for("Your answer:")
    person.type("1\n")
    person.wait_for("Question 2")
    person.wait_for("Your answer:")
    person.type("2\n")
    person.wait_for("Get emergency help now")
    person.wait_for("999")
    assert person.leave() == 0
    assert "Question 3" not in person.screen


@pytest.mark.slow
def test_analyze_says_what_it_heard_then_asks_and_an_emergency_stands_alone(tmp_path: Path) -> None:
    person = Person("analyze", str(SAMPLES / "twist_two_pops.flac"), "--region", "US", cwd=tmp_path)
    person.wait_for("We heard 2 pops.")
    person.wait_for("Enter, or n:")
    person.type("\n")
    person.wait_for("Your answer:")
    person.type("4\n")
    person.wait_for("Get emergency help now")
    person.wait_for("911")
    assert person.leave() == 0
    assert "pop" not in person.screen.split("Get emergency help now")[1]


def test_who_stops_gets_no_recommendation_unless_they_ask(tmp_path: Path) -> None:
    person = Person("triage", "--region", "GB", cwd=tmp_path)
    person.wait_for("Your answer:")
    person.type("q\n")
    person.wait_for("Press Enter to leave")
    person.type("\n")
    assert person.leave() == 0
    assert "Watch out for" not in person.screen
    asking = Person("triage", "--region", "GB", cwd=tmp_path)
    asking.wait_for("Your answer:")
    asking.type("q\n")
    asking.wait_for("Press Enter to leave")
    asking.type("r\n")
    asking.wait_for("Watch out for")
    assert asking.leave() == 0


def test_triage_opens_no_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr("socket.socket.__init__", refuse)
    kept = tmp_path / "kept.yaml"
    assert "999" in run("triage", "--answers", write(tmp_path, {"fever": "yes"}), "--region", "GB")
    run("triage", "--answers", write(tmp_path, BASE), "--save", str(kept))
