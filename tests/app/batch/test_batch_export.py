"""The files a batch writes, to the letter."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audio_pipeline.app.batch.export import (
    FORMATS,
    RECORDING_COLUMNS,
    event_columns,
    parse_formats,
    write_labels_beside,
    write_tables,
)
from audio_pipeline.app.batch.store import Result, Row, RunStore
from audio_pipeline.app.outputs import cell, written
from audio_pipeline.audio.discovery import Found
from audio_pipeline.datasets.manifest import find_track, read_track
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

LABELS = ["pop", "grating", "other"]
KEY = {"settings": {}, "model": "abc", "labels": LABELS}
NAMES = [b"b.wav", b'a\n"1",2.wav', b"\xff.wav", "é👍.m4a".encode(), b"../up/c.wav", b"/abs/d.wav"]


def event(start: float, label: str = "pop", *, uncertain: bool = False) -> dict[str, Any]:
    return {
        "start": start,
        "end": start + 0.0123,
        "label": label,
        "probabilities": {"pop": 0.75, "grating": 0.2, "other": 0.05},
        "uncertain": uncertain,
        "impacts": 2,
        "reasons": ["two impacts"],
    }


def good(*events: dict[str, Any]) -> dict[str, Any]:
    return {
        "status": "ok",
        "error": None,
        "duration": 3.0,
        "sample_rate": 48_000,
        "quality": {
            "usable": True,
            "warnings": [{"code": code, "text": ""} for code in ("clipped", "noisy", "clipped")],
        },
        "events": list(events),
        "finding": {"label": "single_pop", "confidence": 0.75, "reasons": []},
    }


FAILED = {
    "status": "failed",
    "error": 'the file is empty, "0" bytes',
    "duration": None,
    "sample_rate": None,
    "quality": None,
    "events": [],
    "finding": None,
}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    with RunStore(tmp_path, KEY) as store:
        listing = [Found(b"/r/%d" % n, name, False, 1, "1") for n, name in enumerate(NAMES)]
        store.replace_listing(listing)
        documents = [good(event(1.0, "grating"), event(0.5, uncertain=True))] * 5 + [FAILED]
        store.save(
            Result(one.path, 1, "1", None, document)
            for one, document in zip(listing, documents, strict=True)
        )
        for write in FORMATS.values():
            write(store, tmp_path)
    return tmp_path


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_bytes().decode(), newline=""), strict=True))


def test_the_columns_are_those_of_the_contract() -> None:
    assert ",".join(event_columns(LABELS)) == (
        "recording,start,end,label,p_pop,p_grating,p_other,uncertain,impacts"
    )
    assert ",".join(RECORDING_COLUMNS) == (
        "recording,status,duration,sample_rate,finding,confidence,quality_warnings,error"
    )


def test_recordings_have_a_row_each_sorted_whatever_they_are_called(out: Path) -> None:
    header, *rows = read(out / "recordings.csv")
    assert header == list(RECORDING_COLUMNS)
    assert [row[0] for row in rows] == sorted(
        ["b.wav", 'a\n"1",2.wav', "\\xff.wav", "é👍.m4a", "../up/c.wav", "/abs/d.wav"]
    )
    by_name = {row[0]: row[1:] for row in rows}
    assert by_name["b.wav"] == [
        "ok",
        "3.0000",
        "48000",
        "single_pop",
        "0.7500",
        "clipped;noisy",
        "",
    ]
    assert by_name["/abs/d.wav"] == ["failed", "", "", "", "", "", 'the file is empty, "0" bytes']


def test_events_are_sorted_by_recording_and_start(out: Path) -> None:
    _, *rows = read(out / "events.csv")
    assert len(rows) == 10
    assert rows == sorted(rows, key=lambda row: (row[0], float(row[1])))
    assert rows[0][1:] == [
        "0.5000", "0.5123", "pop", "0.7500", "0.2000", "0.0500", "true", "2"
    ]  # fmt: skip
    assert rows[1][3] == "grating"
    assert rows[1][7] == "false"


def test_the_tables_are_rfc_4180(out: Path) -> None:
    for name in ("events.csv", "recordings.csv"):
        raw = (out / name).read_bytes()
        assert raw.endswith(b"\r\n")
        assert b'"a\n""1"",2.wav"' in raw
        assert raw.replace(b"\r\n", b"").count(b"\r") == 0


def test_nothing_found_gives_headers(tmp_path: Path) -> None:
    with RunStore(tmp_path, KEY) as store:
        for write in FORMATS.values():
            write(store, tmp_path)
    assert read(tmp_path / "recordings.csv") == [list(RECORDING_COLUMNS)]
    assert read(tmp_path / "events.csv") == [list(event_columns(LABELS))]
    assert (tmp_path / "recordings.jsonl").read_bytes() == b""


def test_parquet_holds_what_the_csv_says(out: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("events", "recordings"):
        table = parquet.read_table(out / f"{name}.parquet")
        header, *rows = read(out / f"{name}.csv")
        assert table.column_names == header
        assert [[cell(value) for value in row.values()] for row in table.to_pylist()] == rows
    assert str(table.schema.field("duration").type) == "double"


def test_json_lines_are_entries_of_analyze(out: Path) -> None:
    entries = [json.loads(line) for line in (out / "recordings.jsonl").read_text().splitlines()]
    assert [entry["source"] for entry in entries] == [
        row[0] for row in read(out / "recordings.csv")
    ][1:]
    assert entries[0]["events"][0]["reasons"] == ["two impacts"]


@pytest.mark.parametrize("kind", ["audacity", "raven"])
def test_label_tracks_can_be_read_back(out: Path, kind: str) -> None:
    for name, place in (
        (b"b.wav", b"b.wav"),
        (b"\xff.wav", b"\xff.wav"),
        (NAMES[4], b"__/up/c.wav"),
    ):
        path = Path(os.fsdecode(os.fsencode(out / kind) + b"/" + place))
        track = find_track(path)
        assert track is not None, name
        regions = read_track(track)
        # The first event is unsure, and nobody has decided about it yet.
        assert [(round(region.start, 4), region.label) for region in regions] == [(1.0, "grating")]
    assert not (out / kind / "abs" / "d.wav.txt").exists()


def test_names_as_long_as_they_may_be_have_label_tracks_too(tmp_path: Path) -> None:
    names = [b"n" * 251 + b".wav", b"n" * 250 + b"m.wav"]
    with RunStore(tmp_path, KEY) as store:
        store.replace_listing(Found(name, name, False, 1, "1") for name in names)
        store.save(Result(name, 1, "1", None, good(event(0.5))) for name in names)
        FORMATS["audacity"](store, tmp_path)
    assert len(list((tmp_path / "audacity").iterdir())) == 2


def test_labels_beside_recordings_never_replace_what_is_there(tmp_path: Path) -> None:
    paths = [os.fsencode(tmp_path / name) for name in ("a.wav", "b.wav")]
    with RunStore(tmp_path / "out", KEY) as store:
        store.replace_listing(Found(path, path, False, 1, "1") for path in paths)
        store.save(Result(path, 1, "1", None, good(event(0.5))) for path in paths)
        (tmp_path / "b.wav.txt").write_text("mine")
        with pytest.raises(InvalidInputError, match=r"b\.wav\.txt' is already there"):
            write_labels_beside(store, "audacity")
        assert not (tmp_path / "a.wav.txt").exists()
        (tmp_path / "b.wav.txt").unlink()
        write_labels_beside(store, "audacity")
        write_labels_beside(store, "audacity")
    assert find_track(tmp_path / "b.wav") == tmp_path / "b.wav.txt"


def test_formats_are_checked_before_any_work() -> None:
    assert parse_formats("csv, raven,csv") == ("csv", "raven")
    with pytest.raises(InvalidInputError, match=r"'xlsx'.*csv, parquet, jsonl, audacity, raven"):
        parse_formats("csv,xlsx")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    with written(path) as file:
        file.write("old")
    with pytest.raises(CrepitusError, match="No space left"):  # noqa: PT012, SIM117
        with written(path) as file:
            file.write("new")
            raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["table.csv"]


def test_both_tables_are_written_or_neither(tmp_path: Path) -> None:
    class Pulled:
        labels = LABELS

        def rows(self) -> Iterator[Row]:
            yield Row(b"a", b"a", "a.wav", good(event(1.0)))
            raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("events.csv", "recordings.csv"):
        (tmp_path / name).write_text("as it was")
    with pytest.raises((OSError, CrepitusError)):
        write_tables(Pulled(), tmp_path)  # type: ignore[arg-type]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        dict.fromkeys(("events.csv", "recordings.csv"), "as it was")
    )
