"""A damaged run store: what is whole is kept, what is lost is said and done again."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import re
import shutil
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_support import small_model, tables, write_clicks, write_folder
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.app.batch.store import RunStore
from audio_pipeline.app.batch.store_file import PAGE_SIZE, records
from audio_pipeline.app.cli import main
from audio_pipeline.exceptions import InvalidInputError

RECORDINGS = 26

Run = Callable[..., tuple[int, str]]
Damage = Callable[[bytearray, random.Random], None]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, recordings, and a finished run of them in ``whole``."""
    home = tmp_path_factory.mktemp("home")
    small_model(home / "model")
    write_folder(home / "rec", RECORDINGS - 1)
    # Its document is longer than a page.
    write_clicks(home / "rec" / "long.wav", [0.5 * n for n in range(1, 40)], duration=21.0)
    return home


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in the folder; return its exit code and what it said on standard error."""
    monkeypatch.chdir(home)

    def command(name: str, *arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main([name, *arguments])
        said = capfd.readouterr().err.splitlines(keepends=True)
        # On a busy machine there is time enough for progress, or for what a cluster has to say.
        said = [line for line in said if not re.search("real time|distributed", line)]
        return int(ended.value.code or 0), "".join(said)

    if not (home / "whole").exists():
        assert command("batch", "rec", "-o", "whole", "--model", "model") == (0, "")
    return command


def batch(run: Run, out: str, *options: str) -> tuple[int, str]:
    return run("batch", "rec", "-o", out, "--model", "model", "--jobs", "1", *options)


def counts(out: Path) -> dict[str, int]:
    document: dict[str, Any] = json.loads((out / "run.json").read_text())
    return dict(document["counts"])


def damaged_copy(home: Path, name: str, damage: Damage, chance: random.Random) -> Path:
    """Copy the finished run, its store damaged."""
    out = home / name
    shutil.copytree(home / "whole", out)
    store = bytearray((out / "run.sqlite").read_bytes())
    damage(store, chance)
    (out / "run.sqlite").write_bytes(store)
    return out


def flip(store: bytearray, chance: random.Random) -> None:
    """Turn one to eight bytes into others."""
    for _ in range(chance.choice([1, 1, 2, 8])):
        store[chance.randrange(len(store))] ^= chance.randrange(1, 256)


def flip_structure(store: bytearray, chance: random.Random) -> None:
    """Turn bytes at the beginning of pages into others, where SQLite finds its way."""
    for _ in range(chance.choice([1, 2, 4])):
        page = chance.randrange(len(store) // PAGE_SIZE)
        store[page * PAGE_SIZE + chance.randrange(24)] = chance.randrange(256)


def flip_header(store: bytearray, chance: random.Random) -> None:
    """Turn one byte of the file's header into another."""
    store[chance.randrange(100)] ^= chance.randrange(1, 256)


def overwrite(store: bytearray, chance: random.Random) -> None:
    """Lose a block of the disk."""
    size = chance.choice([16, 512, PAGE_SIZE])
    start = chance.randrange(len(store) // size) * size
    store[start : start + size] = chance.choice([bytes(size), chance.randbytes(size)])


def truncate(store: bytearray, chance: random.Random) -> None:
    """Lose the end."""
    del store[chance.randrange(len(store)) :]


def shift(store: bytearray, chance: random.Random) -> None:
    """Lose or gain some bytes in the middle."""
    at = chance.randrange(len(store))
    store[at : at + chance.randrange(9)] = chance.randbytes(chance.randrange(9))


def swap_pages(store: bytearray, chance: random.Random) -> None:
    """Put two pages in each other's place."""
    first, second = (chance.randrange(len(store) // PAGE_SIZE) * PAGE_SIZE for _ in range(2))
    one, other = store[first : first + PAGE_SIZE], store[second : second + PAGE_SIZE]
    store[first : first + PAGE_SIZE], store[second : second + PAGE_SIZE] = other, one


def garbage(store: bytearray, chance: random.Random) -> None:
    """Be something else altogether."""
    store[:] = chance.randbytes(chance.choice([0, 1, 100, 5000, 50_000]))


KINDS: list[Damage] = [
    flip, flip_structure, flip_header, overwrite, truncate, shift, swap_pages, garbage
]  # fmt: skip


def check_export(run: Run, home: Path, out: Path) -> None:
    """Expect an export to write all, or to say in one line that it did not and what helps."""
    (out / "events.csv").unlink()
    code, said = run("export", out.name, "--format", "csv")
    if code == 0:
        assert said == ""
        assert tables(out) == tables(home / "whole")
        return
    assert len(said.splitlines()) == 1, said
    assert "batch command" in said or "--restart" in said
    if written := re.search(r"(\d+)( of \d+)? recordings are whole and written", said):
        whole = (home / "whole" / "recordings.csv").read_text().splitlines()
        rows = (out / "recordings.csv").read_text().splitlines()
        assert set(rows) <= set(whole)
        assert len(rows) - 1 == int(written[1]) <= RECORDINGS


def check_batch(run: Run, home: Path, out: Path) -> None:
    """Expect the same command to end as ever, or to name the option that does."""
    code, said = batch(run, out.name)
    if code == 2:
        assert len(said.splitlines()) == 1, said
        assert "--restart" in said
        assert batch(run, out.name, "--restart") == (0, "")
        kept = 0
    else:
        assert code == 0, said
        kept = RECORDINGS
        if said:
            assert len(said.splitlines()) == 1, said
            sentence = r"(\d+) results are whole and kept, (\d+ are|others may be) lost"
            line = re.search(sentence, said)
            assert line, said
            kept = int(line[1])
            assert line[2] in (f"{RECORDINGS - kept} are", "others may be")
            assert list(out.glob("run.sqlite.damaged*"))
    assert tables(out) == tables(home / "whole")
    assert counts(out)["resumed"] == kept
    assert batch(run, out.name) == (0, "")
    assert counts(out)["resumed"] == RECORDINGS


def try_damage(run: Run, home: Path, damage: Damage, seed: int) -> None:
    chance = random.Random(zlib.crc32(damage.__name__.encode()) + seed)
    out = damaged_copy(home, f"{damage.__name__}-{seed}", damage, chance)
    check_export(run, home, out)
    check_batch(run, home, out)
    shutil.rmtree(out)


@pytest.mark.parametrize("damage", KINDS)
def test_whatever_happens_to_the_store_the_same_command_ends_well_or_says_what_does(
    run: Run, home: Path, damage: Damage
) -> None:
    for seed in range(4):
        try_damage(run, home, damage, seed)


@pytest.mark.soak
@pytest.mark.parametrize("damage", KINDS)
def test_the_same_with_many_seeds(run: Run, home: Path, damage: Damage) -> None:
    for seed in range(100, 150):
        try_damage(run, home, damage, seed)


def test_a_wrong_byte_costs_few_results(run: Run, home: Path) -> None:
    """Most of a store is rows, and a wrong byte in one costs that row, or those of its page."""
    lost = []
    for seed in range(12):
        chance = random.Random(seed)
        out = damaged_copy(home, f"one-{seed}", lambda store, chance: flip(store, chance), chance)
        check_batch(run, home, out)
        lost.append(json.loads((out / "run.json").read_text())["counts"]["done"])
        shutil.rmtree(out)
    assert max(lost) <= RECORDINGS / 2


EDITS = [
    "UPDATE results SET document = replace(document, '\"pop\"', '\"qop\"')",
    "UPDATE results SET document = replace(document, 'pop', 'qop'), finding = 'single_qop'",
    "UPDATE results SET document = 'null'",
    "UPDATE results SET document = '{}', checksum = x'00'",
    "UPDATE results SET status = 'failed' WHERE id = 3",
    "UPDATE results SET duration = 1e9",
    "DELETE FROM results WHERE id = 2",
    "UPDATE listed SET recording = 'rec/else.wav' WHERE id = 1",
    "DELETE FROM listed WHERE id = 4",
    "UPDATE run SET value = '{}' WHERE key = 'key'",
    "UPDATE run SET value = 'nonsense' WHERE key = 'results'",
    "DELETE FROM run",
    "DROP TABLE listed",
    "ALTER TABLE results RENAME TO outcomes",
    "DROP INDEX listed_by_recording",
    "PRAGMA user_version = 77",
    "PRAGMA journal_mode = WAL",
]


@pytest.mark.parametrize("edit", EDITS)
def test_a_valid_edit_is_damage_too(run: Run, home: Path, edit: str) -> None:
    out = home / f"edit-{zlib.crc32(edit.encode())}"
    shutil.copytree(home / "whole", out)
    base = sqlite3.connect(out / "run.sqlite")
    with base:
        base.execute(edit)
    base.close()
    code, said = run("export", out.name, "--format", "csv")
    assert code in (1, 2), said
    check_export(run, home, out)
    check_batch(run, home, out)
    assert b"qop" not in tables(out)[0] + tables(out)[1]


def test_a_store_of_another_schema_is_no_damage(run: Run, home: Path, tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / "run.sqlite")
    with base:
        base.execute("CREATE TABLE run (key TEXT, value TEXT)")
        base.execute("PRAGMA user_version = 1")
    base.close()
    code, said = batch(run, str(tmp_path))
    assert code == 2
    assert re.search(r"has schema 1, this version reads \d+: .*--restart", said)
    assert batch(run, str(tmp_path), "--restart") == (0, "")


def test_a_damaged_store_of_another_model_is_left_alone(run: Run, home: Path) -> None:
    out = damaged_copy(home, "another", flip_structure, random.Random(1))
    before = (out / "run.sqlite").read_bytes()
    small_model(home / "model2", thresholds=0.7)
    code, said = run("batch", "rec", "-o", "another", "--model", "model2")
    assert code == 2, said
    assert len(said.splitlines()) == 1
    assert "--restart" in said
    assert (out / "run.sqlite").read_bytes() == before


def test_what_is_no_store_at_all_is_put_aside_by_restart(run: Run, home: Path) -> None:
    out = home / "mine"
    out.mkdir()
    (out / "run.sqlite").write_text("my own notes")
    code, said = batch(run, "mine")
    assert code == 2
    assert "--restart" in said
    assert batch(run, "mine", "--restart") == (0, "")
    assert [one.read_text() for one in out.glob("run.sqlite.damaged*")] == ["my own notes"]


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**63), 2**63 - 1) | st.none() | st.booleans().map(int),
            st.floats(allow_nan=False),
            st.text(alphabet=st.characters(exclude_categories=["Cs"])),
            st.binary(max_size=3 * PAGE_SIZE),
        ),
        max_size=20,
    )
)
def test_every_record_of_a_whole_file_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, ...]]
) -> None:
    path = tmp_path_factory.mktemp("base") / "a.sqlite"
    base = sqlite3.connect(path)
    with base:
        base.execute("CREATE TABLE t (a, b, c, d)")
        base.executemany("INSERT INTO t VALUES (?, ?, ?, ?)", rows)
    base.close()
    found = [one for one in records(path) if len(one) == 4]
    assert sorted(map(repr, found)) == sorted(map(repr, rows))


@pytest.mark.parametrize("reason", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_drive_without_locks_is_not_taken_for_another_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def flock(file: int, operation: int) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(InvalidInputError, match="cannot lock files") as refused:
        RunStore(tmp_path, {"labels": []})
    assert "another batch" not in str(refused.value)
