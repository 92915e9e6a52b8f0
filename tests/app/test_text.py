"""Names are data: nothing from outside speaks to the terminal, a page or a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sounds import background, with_impacts

from audio_pipeline.analysis.pipeline import analyze_file
from audio_pipeline.app.batch.run import read_answers
from audio_pipeline.app.cli import main
from audio_pipeline.app.outputs import cell
from audio_pipeline.app.reporting.report import environment
from audio_pipeline.app.reporting.terminal import analysis_page
from audio_pipeline.app.text import file_name, json_text, visible, visible_lines
from audio_pipeline.audio.microphone import Device
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.files import csv_cell, csv_text
from audio_pipeline.model.classifier import load_classifier

RATE = 48_000
# Retitles a terminal, clears it, rings, turns the direction around, and hides in C1 and beyond.
SPEAKS = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\u2066\u200f\ufeff\x7f\x08"
NASTY = SPEAKS + "é\U0001f9b4"
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def speaks(text: str) -> list[str]:
    """Return the characters that a terminal would obey or hide."""
    return [c for c in text if c != "\n" and unicodedata.category(c) in HIDDEN]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with a recording, a model and a dataset of such names."""
    sound = Recording(with_impacts(background("white", 1.0, RATE), [0.4], RATE), RATE)
    folder = tmp_path / f"d{NASTY}"
    folder.mkdir()
    write_recording(folder / f"{NASTY}.flac", sound)
    (folder / f"broken{NASTY}\udcff.wav").write_bytes(b"no sound")
    (folder / f"{NASTY}.yaml").write_text("no: such question\n")
    (folder / f"{NASTY}.csv").write_text(f'file,label\n"{NASTY}gone.flac",pop\n')
    (folder / "manifest.csv").write_text(f'file,label\n"{NASTY}.flac",pop\n')
    model = Path(__file__).parents[2] / "models" / "default"
    shutil.copytree(model, tmp_path / f"m{NASTY}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


D, M = f"d{NASTY}", f"m{NASTY}"
COMMANDS = {
    "analyze": ("analyze", f"{D}/{NASTY}.flac"),
    "analyze many": ("analyze", f"{D}/{NASTY}.flac", f"{D}/broken{NASTY}\udcff.wav", "n" + NASTY),
    "analyze --json": ("analyze", f"{D}/{NASTY}.flac", f"gone{NASTY}.wav", "--json"),
    "analyze --answers": ("analyze", "a", "--answers", f"{D}/{NASTY}.yaml"),
    "analyze --model": ("analyze", "a", "--model", NASTY),
    "analyze --report": ("analyze", f"{D}/{NASTY}.flac", "--report", f"{NASTY}.html"),
    "analyze --report no page": ("analyze", "a", "--report", NASTY),
    "batch": ("batch", D, "-o", f"out{NASTY}", "--report", "b.html"),
    "batch --json": ("batch", D, "-o", "out", "--json"),
    "batch, nothing": ("batch", NASTY, "-o", "out"),
    "batch --format": ("batch", D, "-o", "out", "--format", NASTY),
    "batch --answers": ("batch", D, "-o", "out", "--answers", f"{D}/{NASTY}.csv"),
    "batch --cluster": ("batch", D, "-o", "out", "--cluster", f"x://{NASTY}"),
    "export": ("export", NASTY, "--format", "csv"),
    "features": ("features", D, "-o", f"t{NASTY}.csv"),
    "features --json": ("features", D, "-o", "t.csv", "--json"),
    "features -o": ("features", D, "-o", NASTY),
    "segments": ("segments", D, "-o", f"s{NASTY}"),
    "segments --json": ("segments", D, "-o", "s", "--json"),
    "train": ("train", f"{D}/{NASTY}.csv", "-o", f"x{NASTY}"),
    "train, gone": ("train", NASTY, "-o", "x"),
    "train -o": ("train", D, "-o", D),
    "train --threshold": ("train", D, "-o", "x", "--threshold", NASTY),
    "train --start-from": ("train", D, "-o", "x", "--start-from", NASTY),
    "evaluate": ("evaluate", D, "--allow-overlap", "--report", "e.html"),
    "evaluate --json": ("evaluate", D, "--allow-overlap", "--json"),
    "evaluate --by": ("evaluate", D, "--by", NASTY),
    "evaluate --model": ("evaluate", D, "--model", NASTY),
    "triage --answers": ("triage", "--answers", f"{D}/{NASTY}.yaml"),
    "triage --sound": ("triage", "--sound", NASTY),
    "triage --save": ("triage", "--json", "--save", f"{D}/{NASTY}.yaml"),
    "record -o": ("record", "-o", NASTY),
    "record --device": ("record", "--seconds", "1", "--device", NASTY),
    "listen --device": ("listen", "--device", NASTY),
    "listen --model": ("listen", "--model", NASTY),
    "review": ("review", NASTY),
    "synthesize": ("synthesize", "--count", "1", "-o", f"n{NASTY}"),
    "synthesize -o": ("synthesize", "--count", "1", "-o", D),
    "check --model": ("check", "--model", NASTY, "--json"),
    "no command": (NASTY,),
    "no option": ("analyze", f"--{NASTY}"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_no_name_speaks_to_the_terminal(
    here: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    with pytest.raises(SystemExit):
        main(list(COMMANDS[case]))
    captured = capsys.readouterr()
    assert not speaks(captured.out + captured.err)
    assert "should not happen" not in captured.err
    for page in here.glob("*.html"):
        assert not speaks(page.read_text(encoding="utf-8").replace("\t", ""))
    if "--json" in COMMANDS[case] and captured.out.startswith("{"):
        json.loads(captured.out)


def test_json_keeps_every_name_exactly(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{D}/{NASTY}.flac"
    with pytest.raises(SystemExit):
        main(["analyze", name, "--json"])
    assert json.loads(capsys.readouterr().out)["recordings"][0]["source"] == name


def test_a_model_does_not_speak(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = here / M / "model.json"
    document = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**document, "name": NASTY}), encoding="utf-8")
    for words in (
        ("analyze", f"{D}/{NASTY}.flac", "--report", "r.html", "--model", M),
        ("analyze", f"{D}/{NASTY}.flac", "--json", "--model", M),
        ("check", "--model", M),
    ):
        with pytest.raises(SystemExit):
            main(list(words))
        captured = capsys.readouterr()
        assert not speaks(captured.out + captured.err)
    assert not (here / "r.html").exists() or not speaks((here / "r.html").read_text("utf-8"))


def test_a_label_does_not_speak(here: Path) -> None:
    analysis = analyze_file(here / D / f"{NASTY}.flac", load_classifier())
    event = analysis.events[0]
    odd = replace(
        event,
        label=NASTY,
        probabilities={NASTY: 1.0},
        reasons=(f"It sounds like {NASTY}.",),
    )
    page = analysis_page(replace(analysis, events=(odd,)))
    assert not speaks(page)
    assert visible(NASTY) in page.replace("\n" + " " * 11, " ").replace("\n", " ")


def test_a_microphone_does_not_speak(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = Device(0, NASTY, NASTY, 1, RATE, True)
    monkeypatch.setattr("audio_pipeline.audio.microphone.devices", lambda: [device])
    for words in (["devices"], ["devices", "--json"], ["record", "--device", "other"]):
        with pytest.raises(SystemExit):
            main(words)
        captured = capsys.readouterr()
        assert not speaks(captured.out + captured.err)


@given(st.text())
def test_text_becomes_visible_and_stays_as_it_is_then(text: str) -> None:
    shown = visible(text)
    assert not [c for c in shown if unicodedata.category(c) in HIDDEN and c not in "\u200c\u200d"]
    assert visible(shown) == shown
    shown.encode("utf-8")
    if not [c for c in text if unicodedata.category(c) in HIDDEN]:
        assert shown == text
    assert visible_lines(text).split("\n") == [visible(line) for line in text.split("\n")]


@given(st.dictionaries(st.text(), st.text()))
def test_json_is_exact_and_does_not_speak(document: dict[str, str]) -> None:
    text = json_text(document)
    assert json.loads(text) == document
    assert not [c for c in text if unicodedata.category(c) in HIDDEN and c not in "\u200c\u200d"]


@given(st.text())
def test_a_page_holds_text_and_no_markup(text: str) -> None:
    template = environment().from_string('<p title="{{ text }}">{{ text }}</p>')
    page = template.render(text=text)
    assert re.fullmatch(r'<p title="[^"<>]*">[^<>]*</p>', page)
    assert not speaks(page.replace("\u200c", "").replace("\u200d", ""))


@given(st.text())
def test_a_name_is_one_step_of_a_path(text: str) -> None:
    name = file_name(text)
    assert name not in {"", ".", ".."}
    assert os.path.basename(name) == name
    assert len(name.encode()) <= 60
    assert not speaks(name.replace("\u200c", "").replace("\u200d", ""))


@given(st.text())
def test_no_cell_is_a_formula_and_every_cell_can_be_read_back(text: str) -> None:
    shown = csv_cell(text)
    assert not shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    if not text.startswith("'"):
        assert csv_text(shown) == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_is_no_formula(number: float) -> None:
    assert float(cell(number)) == pytest.approx(number, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_no_table_holds_a_formula(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / f"{start} folder"
    folder.mkdir()
    sound = Recording(with_impacts(background("white", 1.0, RATE), [0.4], RATE), RATE)
    write_recording(folder / "a.flac", sound)
    answers = io.StringIO()
    csv.writer(answers).writerows([("recording", "age"), (f"'{folder.name}/a.flac", "40")])
    Path("answers.csv").write_text(answers.getvalue(), encoding="utf-8", newline="")
    name = f"./{folder.name}" if start.startswith("-") else folder.name
    for words in (
        ("batch", name, "-o", "out", "--answers", "answers.csv"),
        ("features", name, "-o", "t.csv"),
        ("segments", name, "-o", "clips"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        assert stop.value.code == 0
    tables = list(tmp_path.rglob("*.csv"))
    assert len(tables) == 6
    for path in tables:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.reader(file)):
                cells = row if number == 0 or path.name != "t.csv" else row[:1]
                assert not any(c.startswith(("=", "+", "-", "@", "\t", "\r")) for c in cells)
    if name == folder.name:
        with open("out/recordings.csv", encoding="utf-8", newline="") as file:
            assert csv_text(list(csv.reader(file))[1][0]) == f"{name}/a.flac"
        assert set(read_answers(Path("answers.csv")).answers) == {f"{name}/a.flac"}


def test_what_was_guarded_is_read_back_by_training(tmp_path: Path) -> None:
    (tmp_path / "=a.flac").touch()
    (tmp_path / "manifest.csv").write_text("file,label,group\n'=a.flac,'-loud,'+1\n")
    (clip,) = read_dataset(tmp_path).clips
    assert (clip.path.name, clip.label, clip.group) == ("=a.flac", "-loud", "+1")
