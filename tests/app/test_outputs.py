"""Nothing of a person's is overwritten, by any command."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_sounds import background, with_impacts

from audio_pipeline.app.cli import main
from audio_pipeline.app.outputs import check_output, is_page, is_table, write_page
from audio_pipeline.audio.capture_file import CaptureFile
from audio_pipeline.audio.recording import Recording, write_recording
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.files import PARTIAL_PATTERN, whole_file

RATE = 48_000
MINE = "what a person wrote"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with two recordings, answers and a dataset in it."""
    sound = Recording(with_impacts(background("white", 1.0, RATE), [0.4], RATE), RATE)
    for name in ("a.flac", "b.flac"):
        write_recording(tmp_path / name, sound)
    (tmp_path / "answers.yaml").write_text("age: 40\n", encoding="utf-8")
    (tmp_path / "table.csv").write_text("recording,age\na.flac,40\n", encoding="utf-8")
    (tmp_path / "manifest.csv").write_text("file,label\na.flac,pop\nb.flac,other\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Return a function that runs a command and gives its exit code and its complaints."""

    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as stop:
            main(list(arguments))
        return int(stop.value.code or 0), capsys.readouterr().err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    """Return what every file below a folder holds, by its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# {} is the output that is in the way.
PAGES = {
    "analyze": ("analyze", "a.flac", "--report", "{}"),
    "record": ("record", "--seconds", "1", "--report", "{}"),
    "batch": ("batch", "a.flac", "-o", "out", "--report", "{}"),
    "evaluate": ("evaluate", "manifest.csv", "--allow-overlap", "--report", "{}"),
}
FILES = {
    "features, csv": (("features", "a.flac", "-o", "{}"), "mine.csv"),
    "features, parquet": (("features", "a.flac", "-o", "{}"), "mine.parquet"),
    "record": (("record", "--seconds", "1", "-o", "{}"), "mine.flac"),
    "triage --save": (("triage", "--answers", "answers.yaml", "--save", "{}"), "mine.yaml"),
    "triage --fhir": (("triage", "--answers", "answers.yaml", "--fhir", "{}"), "mine.json"),
}
FOLDERS = {
    "segments": ("segments", "a.flac", "-o", "{}"),
    "train": ("train", "manifest.csv", "-o", "{}"),
    "synthesize": ("synthesize", "--count", "1", "-o", "{}"),
}


@pytest.mark.parametrize("command", PAGES)
@pytest.mark.parametrize(
    "name", ["b.flac", "answers.yaml", "t.pdf", "t", ".html", "t.html.part", "no/such/t.html"]
)
def test_a_report_is_a_page_by_its_name(
    here: Path, run: Callable[..., tuple[int, str]], command: str, name: str
) -> None:
    before = contents(here)
    code, said = run(*[word.format(name) for word in PAGES[command]])
    assert code == 2
    assert name in said
    assert contents(here) == before


@pytest.mark.parametrize("command", PAGES)
@pytest.mark.parametrize("content", [MINE, "", "<!doctype html>\n<html><body>Mine</body></html>"])
def test_a_page_of_a_person_is_kept(
    here: Path, run: Callable[..., tuple[int, str]], command: str, content: str
) -> None:
    (here / "mine.html").write_text(content)
    before = contents(here)
    code, said = run(*[word.format("mine.html") for word in PAGES[command]])
    assert code == 2
    assert "mine.html" in said
    assert "--overwrite" in said
    assert contents(here) == before


@pytest.mark.parametrize("case", FILES)
def test_a_file_of_a_person_is_kept(
    here: Path, run: Callable[..., tuple[int, str]], case: str
) -> None:
    words, name = FILES[case]
    (here / name).write_text(MINE)
    before = contents(here)
    code, said = run(*[word.format(name) for word in words])
    assert code == 2
    assert name in said
    assert contents(here) == before


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_with_anything_in_it_is_kept(
    here: Path, run: Callable[..., tuple[int, str]], case: str
) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "photo.jpg").write_text(MINE)
    before = contents(here)
    for name in ("mine", "answers.yaml"):
        code, said = run(*[word.format(name) for word in FOLDERS[case]])
        assert code == 2
        assert name in said
    assert contents(here) == before


def test_pages_and_tables_of_ours_are_replaced_and_answers_are_not(
    here: Path, run: Callable[..., tuple[int, str]]
) -> None:
    for words, last in (
        (("analyze", "a.flac", "--report", "r.html"), 0),
        (("batch", "a.flac", "b.flac", "-o", "out", "--report", "r.html"), 0),
        (("features", "a.flac", "-o", "t.csv"), 0),
        (("features", "a.flac", "-o", "t.parquet"), 0),
        (("triage", "--answers", "answers.yaml", "--save", "kept.yaml"), 2),
    ):
        assert run(*words)[0] == 0
        assert run(*words)[0] == last
        assert run(*words, "--overwrite")[0] == 0
    assert is_page(here / "r.html")


def test_overwrite_replaces_what_a_person_made(
    here: Path, run: Callable[..., tuple[int, str]]
) -> None:
    for name in ("r.html", "t.csv", "kept.yaml"):
        (here / name).write_text(MINE)
    assert run("analyze", "a.flac", "--report", "r.html", "--overwrite")[0] == 0
    assert run("features", "a.flac", "-o", "t.csv", "--overwrite")[0] == 0
    assert run("triage", "--answers", "answers.yaml", "--save", "kept.yaml", "--overwrite")[0] == 0
    assert MINE.encode() not in contents(here).values()
    assert stat.S_IMODE((here / "kept.yaml").stat().st_mode) & 0o077 in {0, 0o044}


@pytest.mark.parametrize("table", ["t.csv", "t.parquet"])
def test_no_table_of_features_where_no_recording_can_be_read(
    here: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    if table.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    (here / "broken.wav").write_bytes(b"no sound")
    for words, written in ((["gone.wav", "broken.wav"], False), (["gone.wav", "a.flac"], True)):
        with pytest.raises(SystemExit) as stop:
            main(["features", *words, "-o", table, "--json"])
        document = json.loads(capsys.readouterr().out)
        assert stop.value.code == 1
        assert (here / table).exists() == written == (document["table"] == table)
        assert [one["source"] for one in document["failed"]] == sorted({*words} - {"a.flac"})


def test_what_to_do_with_sounds_is_said_where_there_are_any(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_recording(here / "still.wav", Recording(background("white", 1.0, RATE), RATE))
    for name, told in (("a.flac", "crepitus train"), ("still.wav", "nothing to label")):
        with pytest.raises(SystemExit):
            main(["segments", name, "-o", f"cut {name}"])
        said = capsys.readouterr().out
        assert [text for text in ("crepitus train", "nothing to label") if text in said] == [told]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_an_input_is_no_output_by_any_path(
    here: Path, run: Callable[..., tuple[int, str]], link: Callable[[str, str], None]
) -> None:
    (here / "sub").mkdir()
    link(str(here / "a.flac"), "again.html")
    link(str(here / "a.flac"), "again.csv")
    link(str(here / "answers.yaml"), "more.yaml")
    before = contents(here)
    for words in (
        ("analyze", "b.flac", "a.flac", "--report", "again.html"),
        ("analyze", "sub/../a.flac", "--report", "again.html", "--overwrite"),
        ("batch", "a.flac", "-o", "out", "--report", "again.html", "--overwrite"),
        ("evaluate", "manifest.csv", "--report", "again.html", "--overwrite"),
        ("features", "a.flac", "-o", "again.csv", "--overwrite"),
        ("features", ".", "-o", "again.csv", "--overwrite"),
        ("features", ".", "-o", "manifest.csv", "--overwrite"),
        ("triage", "--answers", "answers.yaml", "--save", "more.yaml", "--overwrite"),
        ("triage", "--answers", "answers.yaml", "--save", "x.y", "--fhir", "x.y", "--overwrite"),
    ):
        code, said = run(*words)
        assert code == 2, words
        assert "input of this command" in said
    assert contents(here) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["events.csv", "recordings.csv", "run.json", "recordings.jsonl", "recommendations.csv"]
)
@pytest.mark.parametrize("content", [MINE, "file,label\na.flac,pop\n", '{"mine": true}'])
def test_a_batch_keeps_the_tables_of_a_person(
    here: Path, run: Callable[..., tuple[int, str]], name: str, content: str
) -> None:
    (here / "out").mkdir()
    (here / "out" / name).write_text(content)
    before = contents(here)
    words = ("batch", "a.flac", "-o", "out", "--format", "jsonl", "--answers", "table.csv")
    code, said = run(*words)
    assert code == 2
    assert name in said
    assert contents(here) == before
    assert run(*words, "--overwrite")[0] == 0
    assert run(*words)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["audacity", "raven"])
def test_labels_corrected_by_ear_survive_the_next_run_and_export(
    here: Path, run: Callable[..., tuple[int, str]], kind: str
) -> None:
    words = ("batch", "a.flac", "-o", "out", "--format", kind)
    assert run(*words)[0] == 0
    assert run(*words)[0] == 0
    (track,) = (here / "out" / kind).iterdir()
    track.write_text(track.read_text().replace("pop", "other") + "\n")
    edited = track.read_bytes()
    for again in (words, ("export", "out", "--format", kind), (*words, "--restart")):
        code, said = run(*again)
        assert code == 2
        assert track.name in said
        assert track.read_bytes() == edited
    assert run(*words, "--overwrite")[0] == 0
    assert track.read_bytes() != edited
    # A recording that changed has its track replaced: nobody touched that one.
    sound = Recording(with_impacts(background("white", 1.0, RATE, seed=7), [0.2, 0.7], RATE), RATE)
    write_recording(here / "a.flac", sound)
    assert run(*words)[0] == 0


def test_no_link_that_waits_is_followed(here: Path, run: Callable[..., tuple[int, str]]) -> None:
    victim = here / "victim"
    victim.write_text(MINE)
    (here / "out").mkdir()
    digest = hashlib.sha256(b"events.csv").hexdigest()[:16]
    for name in ("r.html.part", "t.csv.part", "out/.current", f"out/.{digest}.partial"):
        os.symlink(victim, here / name)
    run("analyze", "a.flac", "--report", "r.html")
    run("features", "a.flac", "-o", "t.csv")
    run("batch", "a.flac", "-o", "out", "--jobs", "1")
    assert victim.read_text() == MINE
    assert is_page(here / "r.html")


def test_a_page_appears_at_a_link_only_when_told_and_its_target_stays(here: Path) -> None:
    target = here / "target.html"
    write_page(target, "<!doctype html>")
    os.symlink(target, here / "r.html")
    os.symlink(here / "nowhere", here / "dangling.html")
    for name in ("r.html", "dangling.html"):
        with pytest.raises(InvalidInputError, match=name):
            write_page(here / name, "new")
        write_page(here / name, "new", overwrite=True)
        assert not (here / name).is_symlink()
    assert target.read_text() == "<!doctype html>"
    assert not (here / "nowhere").exists()


def test_what_is_no_ordinary_file_is_refused_even_when_told(here: Path) -> None:
    os.mkfifo(here / "pipe.html")
    (here / "folder.html").mkdir()
    for name in ("pipe.html", "folder.html", "nul\0.html", "a" * 300 + ".html"):
        with pytest.raises(InvalidInputError):
            write_page(here / name, "new", overwrite=True)


@given(content=st.binary(max_size=200), whole=st.booleans())
def test_nothing_but_our_own_header_is_ours(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, whole: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "t.csv"
    header = b"recording,start,end\r\n"
    path.write_bytes(header + content if whole else content)
    ours = whole or content.startswith((b"recording,start,end\r\n", b"recording,start,end\n"))
    if ours:
        check_output(path, is_table(("recording", "start", "end")))
    elif content.split(b"\n")[0].strip() != header.strip():
        with pytest.raises(InvalidInputError):
            check_output(path, is_table(("recording", "start", "end")))


def test_a_refused_or_broken_write_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text(MINE)
    with pytest.raises(FileExistsError), whole_file(target, replace=False) as file:
        file.write(b"new")
    with pytest.raises(OSError, match="full"), whole_file(target) as file:  # noqa: PT012
        file.write(b"new")
        raise OSError(errno.ENOSPC, "full")
    assert contents(tmp_path) == {"a.txt": MINE.encode()}
    with whole_file(target) as file:
        file.write(b"new")
        assert len(list(tmp_path.glob(PARTIAL_PATTERN))) == 1
        assert target.read_text() == MINE
    assert contents(tmp_path) == {"a.txt": b"new"}


def test_permissions_are_kept_and_private_files_are_private(tmp_path: Path) -> None:
    for name, mode, private in (("a", 0o640, False), ("b", 0o600, True)):
        path = tmp_path / name
        path.touch(mode=0o600)
        path.chmod(mode)
        with whole_file(path, private=private) as file:
            file.write(b"x")
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_take_never_replaces_what_came_meanwhile(tmp_path: Path) -> None:
    sound = background("white", 0.1, 8000)
    with CaptureFile(8000, tmp_path / "a.wav") as take:
        take.add(sound)
        (tmp_path / "a.wav").write_text(MINE)
        with pytest.raises(CrepitusError, match=r"unfinished\.au"):
            take.save({})
    assert (tmp_path / "a.wav").read_text() == MINE
    assert take.journal_path.exists()
