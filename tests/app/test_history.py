"""What is kept on this machine: only when asked, for its owner only, gone when deleted."""

from __future__ import annotations

import datetime
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio_pipeline.app.cli import app as command_line
from audio_pipeline.app.history import (
    History,
    counts_by_week,
    default_path,
    history_page,
    read_export,
)
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

NOON = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.UTC)
PASSPHRASE = "correct horse battery"


def result(pops: int = 1, gratings: int = 0, unsure: int = 0, source: str = "a.wav") -> Any:
    events = [
        {"start": float(n), "end": n + 0.1, "label": label, "uncertain": uncertain,
         "probabilities": {"pop": 0.9, "grating": 0.9}, "impacts": 1, "reasons": []}
        for n, (label, uncertain) in enumerate(
            [("pop", False)] * pops + [("grating", False)] * gratings + [("pop", True)] * unsure
        )
    ]  # fmt: skip
    return {
        "source": source,
        "status": "ok",
        "duration": 25.0,
        "quality": {"usable": True, "warnings": []},
        "events": events,
        "finding": {"label": "repeated_pops", "confidence": 0.9, "reasons": []},
        "recommendation": {"level": "self_care"},
    }


@pytest.fixture(autouse=True)
def _quick_to_encrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audio_pipeline.app.history.SCRYPT_N", 2**14)


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "kept" / "history.sqlite")


class TestStore:
    def test_nothing_is_made_until_something_is_kept(self, history: History) -> None:
        assert history.entries() == []
        assert not history.delete(1)
        assert history.delete_all() == 0
        assert not history.path.parent.exists()

    def test_what_is_kept_is_what_was_given(self, history: History) -> None:
        answers = {"pain": "brief", "age": 40}
        kept = history.add(
            result(2, 1, 3), "f" * 64, answers=answers, take=("x.wav", b"abc"), made=NOON
        )
        [entry] = history.entries()
        assert entry == kept
        assert (entry.count("pop"), entry.count("grating")) == (2, 1)
        assert entry.answers == answers
        assert history.take(entry.id) == b"abc"
        assert entry.made == NOON

    def test_only_the_owner_can_read_it(self, history: History) -> None:
        history.add(result(), "m")
        assert stat.S_IMODE(history.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(history.path.parent.stat().st_mode) == 0o700

    def test_what_is_deleted_is_gone_from_the_file(self, history: History) -> None:
        secret = b"the sound of my back" * 400
        history.add(result(source="kept.wav"), "m")
        number = history.add(result(source="secret.wav"), "m", take=("t", secret)).id
        assert b"secret.wav" in history.path.read_bytes()
        assert history.delete(number)
        assert not history.delete(number)
        content = history.path.read_bytes()
        assert b"secret.wav" not in content
        assert b"the sound of my back" not in content
        assert [entry.recording["source"] for entry in history.entries()] == ["kept.wav"]
        assert history.delete_all() == 1
        assert not history.path.exists()

    def test_days_limit_what_is_listed(self, history: History) -> None:
        for day in range(5):
            history.add(result(), "m", made=NOON + datetime.timedelta(days=day))
        second, fourth = (NOON.date() + datetime.timedelta(days=n) for n in (1, 3))
        assert len(history.entries(second, fourth)) == 3
        assert len(history.entries(fourth)) == 2

    def test_another_database_is_left_alone(self, tmp_path: Path) -> None:
        import sqlite3

        other = tmp_path / "other.sqlite"
        with sqlite3.connect(other) as database:
            database.execute("CREATE TABLE mine (x)")
        database.close()
        before = other.read_bytes()
        with pytest.raises(CrepitusError, match="another"):
            History(other).add(result(), "m")
        assert other.read_bytes() == before
        (tmp_path / "text.sqlite").write_text("not a database, but long enough to look" * 10)
        with pytest.raises(CrepitusError, match="cannot be used"):
            History(tmp_path / "text.sqlite").entries()


class TestExport:
    def test_there_and_back_on_another_machine(self, history: History, tmp_path: Path) -> None:
        history.add(result(3), "m", answers={"pain": "none"}, take=("a.wav", b"\0\xff" * 99))
        history.add(result(0, 2), "m")
        file = tmp_path / "export"
        assert history.export(file, PASSPHRASE) == 2
        content = file.read_bytes()
        assert b"a.wav" not in content
        assert b"pain" not in content
        other = History(tmp_path / "other.sqlite")
        assert other.merge(read_export(file, PASSPHRASE)) == 2
        assert other.merge(read_export(file, PASSPHRASE)) == 0
        kept = [(e.key, e.made, e.recording, e.answers, e.take_name) for e in history.entries()]
        assert kept == [
            (e.key, e.made, e.recording, e.answers, e.take_name) for e in other.entries()
        ]
        assert other.take(1) == b"\0\xff" * 99

    def test_what_is_no_export_is_refused_in_a_line(self, history: History, tmp_path: Path) -> None:
        history.add(result(), "m")
        file = tmp_path / "export"
        history.export(file, PASSPHRASE, takes=False)
        whole = file.read_bytes()
        with pytest.raises(InvalidInputError, match="passphrase"):
            read_export(file, PASSPHRASE + "x")
        with pytest.raises(InvalidInputError, match="too short"):
            history.exported("short")
        head, _, token = whole.partition(b"\n")
        lying = json.loads(head)
        lying["scrypt"]["n"] = 2**40  # would take terabytes
        for content in (
            b"",
            b"\n",
            b"[]\n",
            b"[" * 5000,
            whole[:-1],
            head + b"\n" + token.replace(token[50:51], b"?", 1),
            json.dumps(lying).encode() + b"\n" + token,
        ):
            file.write_bytes(content)
            with pytest.raises(InvalidInputError):
                read_export(file, PASSPHRASE)


@given(days=st.lists(st.integers(0, 1000), max_size=30))
def test_weeks_hold_every_take_once(days: list[int]) -> None:
    from audio_pipeline.app.history import Entry

    entries = [
        Entry(n, str(n), NOON + datetime.timedelta(days=day), "m", result(day % 4), None)
        for n, day in enumerate(sorted(days))
    ]
    weeks = counts_by_week(entries)
    assert sum(week["takes"] for week in weeks) == len(days)
    assert sum(week["pops"] for week in weeks) == sum(day % 4 for day in days)
    assert [week["monday"] for week in weeks] == sorted({week["monday"] for week in weeks})
    for week in weeks:
        assert datetime.date.fromisoformat(week["monday"]).weekday() == 0


class TestPage:
    def test_it_shows_what_was_heard_and_the_answers_that_changed(self, history: History) -> None:
        answers = {"pain": "none", "age": 40}
        history.add(result(2), "m", answers=answers, made=NOON)
        history.add(result(1), "m", answers=answers | {"pain": "brief"}, made=NOON)
        history.add(result(1), "m", answers=answers | {"pain": "brief"}, made=NOON)
        page = history_page(history.entries())
        assert page.count("Answer that changed") == 1
        assert page.count("The answers are as before.") == 1
        assert "23 November 2026" in page
        assert page.count("<td>pop</td>") == 4
        for word in ("better", "worse", "improve", "normal"):
            assert word not in page.lower()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(name=st.text())
    def test_names_and_answers_are_data(self, name: str) -> None:
        from audio_pipeline.app.history import Entry

        forged = result(1)
        forged["events"][0] |= {"label": "<b>" + name, "probabilities": {"<b>" + name: 0.9}}
        entry = Entry(1, "k", NOON, "m", forged, {"<i>" + name: "<script>x" + name})
        page = history_page([entry])
        for tag in ("<b>", "<i>", "<script>x"):
            assert tag not in page

    def test_an_empty_range_says_so(self) -> None:
        assert "Nothing was kept" in history_page([])


class TestCommand:
    @pytest.fixture(autouse=True)
    def _home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
        assert default_path().is_relative_to(tmp_path)

    def run(self, *arguments: str, given: str = "") -> tuple[int, str]:
        outcome = CliRunner().invoke(command_line, ["history", *arguments], input=given)
        return outcome.exit_code, outcome.output

    def test_the_whole_way(self, tmp_path: Path) -> None:
        assert "Nothing was kept" in self.run()[1]
        history = History()
        for n in range(3):
            history.add(result(n), "m", made=NOON + datetime.timedelta(days=n))
        code, out = self.run("--from", "2026-11-24", "--json")
        assert code == 0
        assert [entry["pops"] for entry in json.loads(out)["entries"]] == [1, 2]
        page = tmp_path / "doctor.html"
        assert self.run("--from", "2026-11-24", "page", str(page))[0] == 0
        assert page.read_text().count("<h3>") == 2
        assert self.run("page", str(page))[0] == 0, "our own page is replaced"
        secret = tmp_path / "secret"
        secret.write_text(PASSPHRASE + "\n")
        file = str(tmp_path / "e.crepitus")
        assert self.run("export", file, "--passphrase-file", str(secret))[0] == 0
        assert self.run("delete", "1", "2")[0] == 0
        assert self.run("clear", given="n\n")[0] != 0
        assert len(history.entries()) == 1
        assert self.run("clear", "--yes")[0] == 0
        assert not default_path().exists()
        code, out = self.run("import", file, "--passphrase-file", str(secret))
        assert (code, len(history.entries())) == (0, 3), out

    def test_all_numbers_are_checked_before_one_is_deleted(self) -> None:
        History().add(result(), "m")
        outcome = CliRunner().invoke(command_line, ["history", "delete", "1", "7"])
        assert isinstance(outcome.exception, InvalidInputError)
        assert len(History().entries()) == 1
