"""A whole batch: the same rows whatever happens on the way."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_support import clicks, small_model, tables, write_clicks, write_folder

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import extract, extract_features, segment_recording
from audio_pipeline.app.batch.run import BatchRequest, documents, run_batch
from audio_pipeline.app.cli import main
from audio_pipeline.audio.recording import Recording
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.classifier import load_classifier
from audio_pipeline.triage.rules import questionnaire


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and a folder of good and bad recordings."""
    home = tmp_path_factory.mktemp("home")
    small_model(home / "model")
    write_folder(home / "rec", 14)
    (home / "rec" / "noise.wav").write_bytes(b"this is no sound at all")
    (home / "rec" / "empty.wav").write_bytes(b"")
    write_clicks(home / "rec" / "tiny.wav", (), duration=0.01)
    write_clicks(os.fsencode(home) + b"/rec/odd \xff\n.wav", (0.4, 0.6))
    return home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Any:
    """Run the command in the folder; return exit code, standard output and standard error."""
    monkeypatch.chdir(home)

    def command(*arguments: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["batch", *map(str, arguments), "--model", "model"])
        said = capfd.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return command


def rows(out: Path, name: str = "recordings") -> list[dict[str, str]]:
    text = (out / f"{name}.csv").read_bytes().decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


def counts(out: Path) -> dict[str, int]:
    document: dict[str, Any] = json.loads((out / "run.json").read_text())
    return dict(document["counts"])


@pytest.fixture(scope="module")
def expected(home: Path) -> tuple[bytes, bytes]:
    """The tables of an undisturbed run."""
    before = os.getcwd()
    os.chdir(home)
    try:
        with pytest.raises(SystemExit):
            main(["batch", "rec", "-o", "expected", "--model", "model", "--jobs", "1"])
    finally:
        os.chdir(before)
    return tables(home / "expected")


def test_every_recording_has_a_row_and_bad_ones_harm_no_other(
    home: Path, run: Any, expected: tuple[bytes, bytes]
) -> None:
    by_name = {row["recording"]: row for row in rows(home / "expected")}
    assert len(by_name) == 18
    assert {name for name, row in by_name.items() if row["status"] == "failed"} == {
        "rec/noise.wav",
        "rec/empty.wav",
    }
    assert by_name["rec/tiny.wav"]["finding"] == "unusable"
    assert by_name["rec/odd \\xff\n.wav"]["finding"] == "repeated_pops"
    assert all(row["error"] for row in by_name.values() if row["status"] == "failed")
    assert counts(home / "expected") == {
        "found": 18, "done": 16, "resumed": 0, "failed": 2, "unusable": 1
    }  # fmt: skip


def test_a_batch_says_what_failed_and_exits_with_1(run: Any, tmp_path: Path) -> None:
    code, out, err = run("rec/empty.wav", "rec/tiny.wav", "-o", tmp_path, "--json")
    assert code == 1
    document = json.loads(out)
    assert document["counts"]["failed"] == 1
    assert document["failures"] == [
        {"recording": "rec/empty.wav", "error": "the file is empty (0 bytes)"}
    ]
    assert "rec/empty.wav" in err
    code, out, err = run("rec/tiny.wav", "-o", tmp_path / "2")
    assert code == 0


def test_the_order_of_arguments_and_lists_changes_nothing(
    run: Any, tmp_path: Path, expected: tuple[bytes, bytes]
) -> None:
    run("rec/part2", "rec/part0/", "rec", "rec/part1", "rec/empty.wav", "-o", tmp_path / "a")
    assert tables(tmp_path / "a") == expected
    names = [os.fsencode(row["recording"]) for row in rows(Path("expected"))]
    names = [name.replace(b"\\xff", b"\xff") for name in names]
    (tmp_path / "list").write_bytes(b"\0".join(reversed(names)))
    run("--list", tmp_path / "list", "-o", tmp_path / "b")
    assert tables(tmp_path / "b") == expected


def test_a_second_run_redoes_only_what_changed(run: Any, home: Path, tmp_path: Path) -> None:
    rec = tmp_path / "rec"
    write_folder(rec, 4)
    run(rec, "-o", tmp_path / "out")
    first = tables(tmp_path / "out")
    run(rec, "-o", tmp_path / "out")
    assert tables(tmp_path / "out") == first
    assert counts(tmp_path / "out")["resumed"] == 4
    changed = next(rec.rglob("*0003.wav"))
    write_clicks(changed, (0.2, 0.5, 0.8), duration=1.5)
    write_clicks(rec / "new.wav")
    next(rec.rglob("*0001.wav")).unlink()
    run(rec, "-o", tmp_path / "out")
    again = tables(tmp_path / "out")
    assert counts(tmp_path / "out")["resumed"] == 2
    run(rec, "-o", tmp_path / "anew")
    assert again == tables(tmp_path / "anew") != first


def test_verify_goes_by_content(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write_clicks(path, (0.5,))
    run(path, "-o", tmp_path / "out", "--verify")
    before = path.stat()
    os.utime(path, ns=(1, 1))
    run(path, "-o", tmp_path / "out", "--verify")
    assert counts(tmp_path / "out")["resumed"] == 1
    # Other content with the same size and time: only --verify can tell.
    write_clicks(path, (), seed=5)
    os.utime(path, ns=(1, 1))
    assert path.stat().st_size == before.st_size
    run(path, "-o", tmp_path / "out")
    assert rows(tmp_path / "out")[0]["finding"] == "single_pop"
    run(path, "-o", tmp_path / "out", "--verify")
    assert rows(tmp_path / "out")[0]["finding"] == "nothing_recognised"


def test_a_failed_recording_is_tried_again(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    code, _, _ = run(path, "-o", tmp_path / "out")
    assert code == 1
    assert rows(tmp_path / "out")[0]["error"] == "there is no such file"
    write_clicks(path)
    code, _, _ = run(path, "-o", tmp_path / "out")
    assert code == 0
    assert rows(tmp_path / "out")[0]["status"] == "ok"


def test_another_model_is_refused_until_restart(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(home)
    small_model(tmp_path / "other", thresholds=0.9)

    def command(model: Path | str, *more: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(
                ["batch", "rec/tiny.wav", "-o", str(tmp_path / "out"), "--model", str(model), *more]
            )
        return int(ended.value.code or 0)

    assert command("model") == 0
    before = tables(tmp_path / "out")
    assert command(tmp_path / "other") == 2
    assert "another model" in capfd.readouterr().err
    assert tables(tmp_path / "out") == before
    assert command(tmp_path / "other", "--restart") == 0


def test_a_request_takes_what_stands_for_its_parts(home: Path, tmp_path: Path) -> None:
    whole = BatchRequest((str(home / "rec" / "tiny.wav"),), tmp_path / "out", jobs=1)
    assert BatchRequest(str(home / "rec" / "tiny.wav"), str(tmp_path / "out"), jobs=1) == whole
    for formats in ("csv,raven", ["csv", "raven"], (" CSV", "raven", "csv")):
        assert BatchRequest((), tmp_path, formats=formats).formats == ("csv", "raven")
    report = run_batch(whole, load_classifier(home / "model"))
    assert report.counts["found"] == 1
    assert (tmp_path / "out" / "recordings.csv").is_file()


def test_a_request_for_what_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"'excel'.*csv, parquet"):
        BatchRequest(("rec",), "out", formats=("csv", "excel"))
    with pytest.raises(InvalidInputError, match="jobs"):
        BatchRequest(("rec",), "out", jobs=0)


def test_nothing_to_do_is_refused_but_leaves_the_three_files(run: Any, tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()
    code, _, err = run(tmp_path / "rec", "-o", tmp_path / "out")
    assert code == 2
    assert "no recording" in err
    assert len(err.splitlines()) == 1
    assert rows(tmp_path / "out") == rows(tmp_path / "out", "events") == []
    assert counts(tmp_path / "out")["found"] == 0
    # A drive that is not there must not wipe the results of an earlier run.
    write_clicks(tmp_path / "rec" / "a.wav")
    run(tmp_path / "rec", "-o", tmp_path / "out")
    before = tables(tmp_path / "out")
    (tmp_path / "rec" / "a.wav").unlink()
    code, _, _ = run(tmp_path / "rec", "-o", tmp_path / "out")
    assert code == 2
    assert tables(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere/", "-o", "{}"], "no file or folder"),
        (["rec/*.flac", "-o", "{}"], "no recording matches"),
        (["rec", "-o", "{}", "--format", "xlsx"], "unknown format"),
        (["rec", "-o", "{}", "--answers", "nowhere.csv"], "cannot read the answers"),
        (["rec", "-o", "model/model.json"], "cannot make the folder"),
        (["-o", "{}"], "name files"),
        (["rec", "-o", "{}", "--jobs", "0"], "jobs"),
    ],
)
def test_bad_requests_are_refused_before_any_work(
    run: Any, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    code, out, err = run(*[argument.format(tmp_path / "out") for argument in arguments])
    assert code == 2
    assert reason in err
    assert out == ""


def test_a_missing_folder_leaves_the_three_files(run: Any, tmp_path: Path) -> None:
    code, _, err = run("nowhere/", "-o", tmp_path)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert rows(tmp_path) == rows(tmp_path, "events") == []
    assert counts(tmp_path)["found"] == 0


def test_answers_become_recommendations(run: Any, tmp_path: Path) -> None:
    emergency = next(question for question in questionnaire() if question.stop == "yes")
    (tmp_path / "answers.csv").write_text(
        f"recording,{emergency.id},age\nrec/tiny.wav,yes,40\nrec/empty.wav,,40\nrec/none.wav,,\n"
    )
    _, out, _ = run("rec", "-o", tmp_path / "out", "--answers", tmp_path / "answers.csv", "--json")
    recommended = rows(tmp_path / "out", "recommendations")
    assert list(recommended[0]) == [
        "recording", "level", "incomplete", "no_self_manipulation", "rules"
    ]  # fmt: skip
    assert [row["recording"] for row in recommended] == [
        row["recording"] for row in rows(tmp_path / "out")
    ]
    levels = {row["recording"]: row["level"] for row in recommended}
    assert levels.pop("rec/tiny.wav") == "emergency"
    assert set(levels.values()) == {"soon"}
    assert {row["incomplete"] for row in recommended} == {"true"}
    assert json.loads(out)["answers_without_recording"] == ["rec/none.wav"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("name,age\na,4\n", "no column 'recording'"),
        ("recording,shoe_size\na,4\n", "shoe_size"),
        ("recording,age\na,old\n", "line 2"),
        ("recording,age\na,4\na,5\n", "second row"),
        ("recording,age\na\n", "1 values for 2 columns"),
        ("recording,age,age\na,1,1\n", "two columns"),
        ("", "no column"),
    ],
)
def test_bad_answers_are_refused(run: Any, tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "answers.csv").write_text(text)
    code, _, err = run("rec", "-o", tmp_path / "out", "--answers", tmp_path / "answers.csv")
    assert code == 2
    assert reason in err
    assert not (tmp_path / "out").exists()


def test_predictions_do_not_depend_on_company(home: Path) -> None:
    model = small_model(home / "another")
    random = np.random.default_rng(1)
    extractions = [
        extract(Recording(clicks(random.uniform(0.1, 1.8, n), 2.0, seed=n), 22_050), model.settings)
        for n in range(12)
    ]
    alone = [next(documents([one], model)) for one in extractions]
    together = list(documents(extractions, model))
    backwards = list(documents(extractions[::-1], model))[::-1]
    assert alone == together == backwards
    assert sum(len(one["events"]) for one in alone) > 10


def test_features_do_not_depend_on_company() -> None:
    random = np.random.default_rng(2)
    settings = AnalysisConfig()
    sounds = [
        Recording(clicks(random.uniform(0.1, 1.8, n), 2.0, seed=n), 22_050) for n in range(0, 24, 2)
    ]
    hearings = [segment_recording(sound, settings) for sound in sounds]
    alone = [extract(sound, settings) for sound in sounds]
    for order in (range(12), range(11, -1, -1), range(3, 9)):
        together = extract_features([hearings[place] for place in order], settings)
        for place, extraction in zip(order, together, strict=True):
            np.testing.assert_array_equal(extraction.table, alone[place].table)
            assert extraction.segments == alone[place].segments
    assert sum(len(one.segments) for one in alone) > 30


def test_export_writes_the_same_tables_again(
    home: Path, expected: tuple[bytes, bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    out = home / "expected"
    (out / "events.csv").unlink()
    with pytest.raises(SystemExit) as ended:
        main(["export", str(out), "--format", "csv,jsonl", "--json"])
    assert ended.value.code == 0
    assert tables(out) == expected
    assert json.loads(capfd.readouterr().out)["recordings"] == 18
    assert (out / "recordings.jsonl").read_text().count("\n") == 18
