"""A study folder: what is kept, what never is, and what its check finds."""

from __future__ import annotations

import csv
import datetime
import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from server_support import RATE
from study_support import SETUP, START, answered, take_bytes, with_people

from audio_pipeline.analysis.guided import planned_phases
from audio_pipeline.app.cli.study import study_command
from audio_pipeline.app.outputs import append_row, read_table, write_table
from audio_pipeline.app.study import Study, key_path, new_study, open_study
from audio_pipeline.app.study_archive import (
    check_study,
    export_study,
    phase_problems,
    silenced,
)
from audio_pipeline.audio.recording import Recording, read_recording
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.crossvalidation import group_mark
from audio_pipeline.triage.questionnaire import REDCAP
from audio_pipeline.triage.rules import load_tables

MINUTE = datetime.timedelta(minutes=1)


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def empty(tmp_path: Path) -> Study:
    return new_study(tmp_path / "study", "Twists", "A. Miller")


@pytest.fixture(scope="module")
def pilot(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two people, two takes each, everything answered."""
    return with_people(tmp_path_factory.mktemp("pilot") / "study")


def codes(study: Study) -> list[str]:
    return [one.code for one in check_study(study).problems]


def test_a_new_study_says_how_to_go_on_and_holds_no_key(empty: Study) -> None:
    names = set(files(empty.folder))
    assert {"README.md", "consent-1.md", "study.yaml", "participants.csv"} <= names
    assert not any("key" in name for name in names)
    assert empty.key.is_file()
    for name in ("README.md", "consent-1.md"):
        text = (empty.folder / name).read_text()
        assert "Twists" in text
        assert "{" not in text
    assert codes(empty) == []


def test_a_new_study_takes_the_place_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "other-key.csv").write_text("mine")
    before = files(tmp_path)
    for name in ("full", "other"):
        result = CliRunner().invoke(
            study_command, ["new", str(tmp_path / name), "--title", "T", "--owner", "O"]
        )
        assert isinstance(result.exception, InvalidInputError)
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("colour: red", "colour"),
        ("questions: [hair]", "hair"),
        ("licence: [a, b]", "licence"),
        ("title: &a x", "anchors"),
        ("outcomes: [{name: age, label: a, minimum: 0, maximum: 1}]", "age"),
        ("protocol: {distance_cm: [9, 2]}", "range"),
        ("protocol: {within_minutes: .nan}", "within_minutes"),
        ("}", "YAML"),
    ],
)
def test_wrong_settings_are_named(empty: Study, line: str, named: str) -> None:
    path = empty.folder / "study.yaml"
    kept = [
        row
        for row in ("title: t", "owner: o", "questions: [age]")
        if row.partition(":")[0] != line.partition(":")[0]
    ]
    path.write_text("\n".join([*kept, line]))
    with pytest.raises(InvalidInputError, match=named):
        open_study(empty.folder)


def test_codes_are_drawn_and_the_key_waits_for_a_name(empty: Study) -> None:
    drawn = [empty.add_participant() for _ in range(20)]
    assert len(set(drawn)) == 20
    assert empty.participants() == tuple(drawn)
    assert [row["participant"] for row in read_table(empty.key, ["name"])] == drawn


def test_nothing_is_kept_without_a_yes_to_research(empty: Study) -> None:
    person = empty.add_participant()
    before = files(empty.folder)
    for consent in (None, {"use": True, "research": False, "share": False}):
        if consent:
            empty.give_consent(person, **consent)
            before = files(empty.folder)
        with pytest.raises(InvalidInputError, match="research"):
            empty.keep_take(person, take_bytes(), **SETUP)
        with pytest.raises(InvalidInputError, match="research"):
            empty.keep_answers(person, 1, {"age": 40})
        assert files(empty.folder) == before
    with pytest.raises(InvalidInputError):
        empty.give_consent(person, use=True, research=False, share=True)


def test_a_session_lasts_as_long_as_the_protocol_says(empty: Study) -> None:
    person = empty.add_participant()
    empty.give_consent(person, use=True, research=True, share=False)
    kept = [
        empty.keep_take(person, take_bytes(), **SETUP, at=START + minutes * MINUTE)
        for minutes in (0, 10, 19, 40)
    ]
    assert [(one.note.session, one.note.take) for one in kept] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert [one.path for one in empty.takes()] == [one.path for one in kept]


def test_no_take_replaces_another(empty: Study) -> None:
    person = empty.add_participant()
    empty.give_consent(person, use=True, research=True, share=False)
    empty.keep_take(person, take_bytes(), **SETUP, at=START)
    before = files(empty.folder / "takes")
    (empty.folder / "takes" / person / "s1-t1.json").unlink()  # as a crash may leave it
    kept = empty.keep_take(person, take_bytes(seed=1), **SETUP, at=START)
    assert (kept.path.name, kept.note.take) == ("s1-t2.flac", 2)
    after = files(empty.folder / "takes")
    assert all(after[name] == body for name, body in before.items() if name.endswith(".flac"))
    assert "no_note" in codes(empty)


def test_a_table_that_a_spreadsheet_spoilt_is_named(empty: Study) -> None:
    person = empty.add_participant()
    empty.give_consent(person, use=True, research=True, share=True)
    path = empty.folder / "consents.csv"
    path.write_text(path.read_text().replace(",1,", ",1.0,"))
    with pytest.raises(InvalidInputError, match="consents"):
        empty.consents()


def test_only_what_the_settings_allow_is_kept(empty: Study) -> None:
    person = empty.add_participant()
    empty.give_consent(person, use=True, research=True, share=False)
    for wrong in ({"posture": "flying"}, {"distance_cm": float("nan")}, {"device": "a\nb"}):
        with pytest.raises(InvalidInputError):
            empty.keep_take(person, take_bytes(), **(SETUP | wrong))
    assert not empty.takes()
    assert files(empty.folder / "takes") == {}
    for given in ({"saddle_numbness": "no"}, {"outcome_pain": 5}, {"outcome_pain": "3"}):
        with pytest.raises(InvalidInputError):
            empty.keep_answers(person, 1, given)


def test_the_last_answers_of_a_session_count_and_a_new_question_gets_a_column(
    empty: Study,
) -> None:
    person = empty.add_participant()
    empty.give_consent(person, use=True, research=True, share=False)
    empty.keep_answers(person, 1, {"age": 40, "outcome_pain": None})
    empty.keep_answers(person, 1, {"age": 41})
    path = empty.folder / "study.yaml"
    path.write_text(path.read_text().replace("- pain\n", "- pain\n- trauma\n", 1))
    again = open_study(empty.folder)
    again.keep_answers(person, 2, {"trauma": "none"})
    answers = again.answers()
    assert answers[(person, 1)]["age"] == "41"
    assert answers[(person, 1)]["trauma"] == ""
    assert answers[(person, 2)]["trauma"] == "none"


def test_a_study_that_kept_to_its_protocol_has_no_problems(pilot: Study) -> None:
    found = check_study(pilot)
    assert (found.people, found.sessions, found.takes) == (2, 2, 4)
    assert found.problems == ()
    result = CliRunner().invoke(study_command, ["check", str(pilot.folder), "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads(json.dumps(asdict(found)))


def test_what_differs_from_the_protocol_is_said(empty: Study) -> None:
    first, second = empty.add_participant(), empty.add_participant()
    assert set(codes(empty)) == {"no_consent", "no_takes"}
    for person in (first, second):
        empty.give_consent(person, use=True, research=True, share=False)
    empty.keep_take(first, take_bytes((2.0,), 9.0), **(SETUP | {"distance_cm": 40.0}), at=START)
    empty.keep_answers(first, 1, answered(empty) | {"age": None})
    assert codes(empty) == ["few_takes", "open_answers", "no_takes", "short", "distance"]
    text = empty.folder / "consent-1.md"
    text.write_text(text.read_text() + "One more thing.")
    assert "consent_changed" in codes(empty)


def test_a_changed_or_lost_recording_fails_the_check(tmp_path: Path) -> None:
    study = with_people(tmp_path / "study", count=1)
    one, two = study.takes()
    one.path.write_bytes(take_bytes((5.0,), seed=9))
    two.path.unlink()
    (study.folder / "takes" / "notes.txt").write_text("mine")
    found = check_study(study)
    assert {"altered", "no_recording", "unknown_file", "few_takes"} <= {
        each.code for each in found.problems
    }
    result = CliRunner().invoke(study_command, ["check", str(study.folder)])
    assert result.exit_code == 1


def test_who_left_is_in_nothing_any_more(tmp_path: Path) -> None:
    study = with_people(tmp_path / "study")
    gone, stays = study.participants()
    assert study.withdraw(gone) == []
    assert study.participants() == (stays,)
    assert {one.note.participant for one in study.takes()} == {stays}
    assert (study.folder / "takes" / gone).is_dir()
    assert len(study.withdraw(gone, delete=True)) == 4
    assert {key for key, _ in study.answers()} == {stays}
    assert not list((study.folder / "takes" / gone).glob("*"))
    with pytest.raises(InvalidInputError):
        study.withdraw("p000000")


def test_a_line_is_added_to_whatever_an_editor_left(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2")
    append_row(path, ("=1+1", "x,y"))
    assert read_table(path, ["a"]) == [{"a": "1", "b": "2"}, {"a": "=1+1", "b": "x,y"}]
    with path.open(newline="") as file:
        assert list(csv.reader(file))[-1][0] == "'=1+1"


def test_the_key_is_never_in_the_folder(tmp_path: Path) -> None:
    assert key_path(tmp_path / "a" / "b").parent == tmp_path / "a"


def label(study: Study, path: Path | None = None) -> None:
    """Label every take as two raters who agree would."""
    rows = []
    for number, take in enumerate(study.takes()):
        file = os.path.relpath(take.path, study.folder / "labels")
        first = 6.0 + number // 2
        rows += [
            {"file": file, "label": "pop", "start": first - 0.05, "end": first + 0.3},
            {"file": file, "label": "other", "start": 1.0, "end": 1.5},
        ]
    write_table(study.folder / "labels" / "review.csv", ("file", "label", "start", "end"), rows)


@pytest.fixture(scope="module")
def archive(pilot: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    label(pilot)
    folder = tmp_path_factory.mktemp("out") / "archive"
    result = CliRunner().invoke(
        study_command, ["export", str(pilot.folder), "-o", str(folder), "--json"]
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["labels"] == {"other": 4, "pop": 4}
    return folder


def test_an_archive_is_a_dataset_grouped_by_person(pilot: Study, archive: Path) -> None:
    dataset = read_dataset(archive)
    assert dataset.has_groups
    assert {clip.group for clip in dataset.clips} == set(pilot.participants())
    for take in pilot.takes():
        shared = read_recording(archive / "audio" / take.name)
        assert np.array_equal(shared.samples, read_recording(take.path).samples)


def test_an_archive_says_no_date_no_name_and_no_age(pilot: Study, archive: Path) -> None:
    everything = b"\n".join(body for name, body in files(archive).items())
    for secret in (
        b"2026-11-2",
        b"2026-11-3",
        b"recorded_at",
        b"uploaded",
        pilot.key.name.encode(),
    ):
        assert secret not in everything.replace(today().encode(), b"")
    rows = read_table(archive / "answers.csv", ("participant", "age"))
    assert {row["age"] for row in rows} == {"40-49"}
    takes = read_table(archive / "takes.csv", ("day", "minute"))
    assert {(row["day"], row["minute"]) for row in takes} == {("0", "0"), ("0", "5")}


def today() -> str:
    return datetime.datetime.now().astimezone().date().isoformat()


def test_the_metadata_are_valid_croissant(archive: Path) -> None:
    script = (
        "import sys, json, mlcroissant as mlc\n"
        "found = mlc.Dataset(sys.argv[1])\n"
        "rows = list(found.records('takes'))\n"
        "print(json.dumps([str(found.metadata.conforms_to), len(rows)]))\n"
    )
    pytest.importorskip("mlcroissant")
    ran = subprocess.run(
        [sys.executable, "-c", script, str(archive / "croissant.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "rror" not in ran.stderr
    version, count = json.loads(ran.stdout.splitlines()[-1])
    assert "1.1" in version or "V_1_1" in version
    assert count == 4


def test_the_redcap_dictionary_has_every_field_once(pilot: Study, archive: Path) -> None:
    rows = read_table(archive / "redcap_dictionary.csv", REDCAP)
    names = [row["Variable / Field Name"] for row in rows]
    settings = pilot.settings
    fields = [*settings.questions, *(one.name for one in settings.outcomes)]
    assert names == ["participant", "session", *fields]
    forms = [row["Form Name"] for row in rows]
    assert forms == sorted(forms, key=["questions", "outcomes"].index)  # contiguous, as it must be
    known = load_tables().questions
    for row in rows:
        assert (row["Field Type"] in ("radio", "dropdown")) == bool(row[REDCAP[5]])
        if row["Field Type"] == "radio":
            ids = [one.split(",")[0].strip() for one in row[REDCAP[5]].split("|")]
            assert ids == list(known[row["Variable / Field Name"]].answers)
    assert all(row["Text Validation Max"] for row in rows if row["Form Name"] == "outcomes")


def test_speech_is_silenced_but_no_joint_sound() -> None:
    samples = np.full(4 * RATE, 0.1, np.float32)
    heard = silenced(Recording(samples, RATE), [(1.0, 3.0)], [(1.5, 2.0)])
    recording, seconds = heard
    assert seconds == pytest.approx(1.5, abs=0.01)
    time = np.arange(len(samples)) / RATE
    silent = ((time >= 1.0) & (time < 1.5)) | ((time >= 2.0) & (time < 3.0))
    assert not recording.samples[silent].any()
    kept = ((time > 1.51) & (time < 1.99)) | (time < 0.99) | (time > 3.01)
    assert np.allclose(recording.samples[kept], 0.1, atol=1e-6)


def test_who_left_is_in_no_later_archive_and_the_models_that_saw_them_are_named(
    tmp_path: Path,
) -> None:
    study = with_people(tmp_path / "study", takes=1)
    gone, stays = study.participants()
    export_study(study, tmp_path / "first")
    for name, group in (("saw", gone), ("saw_not", stays)):
        (tmp_path / "models" / name).mkdir(parents=True)
        training = {"groups": [group_mark(group)], "recordings": []}
        (tmp_path / "models" / name / "model.json").write_text(json.dumps({"training": training}))
    result = CliRunner().invoke(study_command, ["withdraw", str(study.folder), gone, "--json"])
    said = json.loads(result.stdout)
    assert said["models"] == [str(tmp_path / "models" / "saw")]
    assert said["archives"] == [str(tmp_path / "first")]
    export_study(study, tmp_path / "second")
    for name, body in files(tmp_path / "second").items():
        assert gone not in name
        assert (gone.encode() in body) == (name == "withdrawn.csv")
    takes = read_table(tmp_path / "second" / "takes.csv", ("group",))
    assert {row["group"] for row in takes} == {stays}


def test_an_archive_takes_the_place_of_nothing_and_leaves_out_what_was_changed(
    tmp_path: Path,
) -> None:
    study = with_people(tmp_path / "study", count=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    with pytest.raises(InvalidInputError, match="full"):
        export_study(study, tmp_path / "full")
    study.takes()[0].path.write_bytes(take_bytes((5.0,), seed=9))
    command = ["export", str(study.folder), "-o", str(tmp_path / "out")]
    assert CliRunner().invoke(study_command, command).exit_code == 1
    assert len(read_table(tmp_path / "out" / "takes.csv", ("file",))) == 1
    only = study.participants()[0]
    study.give_consent(only, use=True, research=True, share=False)
    with pytest.raises(InvalidInputError, match="sharing"):
        export_study(study, tmp_path / "nobody")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("full", "out", "study", "study-key.csv")
    ]


def test_a_count_in_is_no_problem_and_a_hasty_turn_is() -> None:
    planned = planned_phases()

    def stretched(index: int, seconds: float) -> list[str]:
        phases, start = [], 0.0
        for number, phase in enumerate(planned):
            length = phase.end - phase.start + (seconds if number == index else 0.0)
            phases.append(replace(phase, start=start, end=start + length))
            start += length
        return [one.code for one in phase_problems("take", phases, start)]

    assert stretched(0, 0.0) == []
    assert stretched(0, 3.2) == []  # what the page's count-in makes of the first stillness
    assert stretched(2, 1.5) == ["pace"]
    assert stretched(2, -1.5) == ["short"]
    assert [one.code for one in phase_problems("take", (), 25.0)] == ["free"]
