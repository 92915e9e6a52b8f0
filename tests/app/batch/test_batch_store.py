"""The run store: nothing half, nothing twice, nothing of another run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_pipeline.app.batch.store import Result, RunStore, StoreReader
from audio_pipeline.audio.discovery import Found
from audio_pipeline.exceptions import CrepitusError, InvalidInputError

KEY = {"settings": {"segmentation": {"hop": 64}}, "model": "abc", "labels": ["pop", "other"]}


def found(name: bytes, size: int | None = 1, mtime_ns: str = "1", *, linked: bool = False) -> Found:
    return Found(b"/real/" + name, name, linked, size, mtime_ns)


def document(status: str = "ok", finding: str = "single_pop") -> dict[str, Any]:
    failed = status == "failed"
    return {
        "source": "",
        "status": status,
        "error": "broken" if failed else None,
        "duration": None if failed else 2.0,
        "sample_rate": None if failed else 48_000,
        "quality": None,
        "events": [],
        "finding": None if failed else {"label": finding, "confidence": 0.5, "reasons": []},
    }


def result(one: Found, status: str = "ok", digest: str | None = None) -> Result:
    return Result(one.path, one.size, one.mtime_ns, digest, document(status))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with RunStore(tmp_path / "out", KEY) as opened:
        yield opened


def pending(store: RunStore, *, verify: bool = False) -> list[bytes]:
    return [one.path.removeprefix(b"/real/") for one in store.pending(verify=verify)]


def test_finished_recordings_are_not_pending_and_failed_ones_are(store: RunStore) -> None:
    good, bad, new = found(b"good"), found(b"bad"), found(b"new")
    assert store.replace_listing([good, bad, new]) == 3
    store.save([result(good), result(bad, "failed")])
    assert sorted(pending(store)) == [b"bad", b"new"]
    assert store.extent() == (2, 2)
    totals = store.totals()
    assert (totals.found, totals.good, totals.failed) == (3, 1, 1)


@pytest.mark.parametrize(
    "changed", [found(b"a", 2), found(b"a", mtime_ns="2"), found(b"a", None, "missing")]
)
def test_a_changed_recording_is_pending_and_its_old_result_is_not_shown(
    store: RunStore, changed: Found
) -> None:
    store.replace_listing([found(b"a")])
    store.save([result(found(b"a"))])
    assert pending(store) == []
    store.replace_listing([changed])
    assert pending(store) == [b"a"]
    assert list(store.rows()) == []


def test_a_recording_that_changes_while_it_is_read_keeps_the_identity_that_was_read(
    store: RunStore,
) -> None:
    store.replace_listing([found(b"a", 1)])
    store.save([Result(b"/real/a", 7, "9", None, document())])
    assert pending(store) == []
    assert len(list(store.rows())) == 1
    store.replace_listing([found(b"a", 1)])
    assert pending(store) == [b"a"]


def test_verify_asks_for_all_and_knows_the_digests(store: RunStore) -> None:
    store.replace_listing([found(b"a"), found(b"b")])
    store.save([result(found(b"a"), digest="d1")])
    by_path = {one.path: one.digest for one in store.pending(verify=True)}
    assert by_path == {b"/real/a": "d1", b"/real/b": None}
    # Touched but equal: the old result stands for the new identity.
    store.replace_listing([found(b"a", mtime_ns="2")])
    (one,) = store.pending(verify=True)
    assert one.digest == "d1"
    store.save([Result(one.path, one.size, one.mtime_ns, "d1", None)])
    assert pending(store) == []
    assert [row.document["duration"] for row in store.rows()] == [2.0]


def test_every_pending_recording_comes_once_largest_first_while_results_are_saved(
    store: RunStore,
) -> None:
    listing = [found(b"%d" % n, (n * 7919) % 5000 or None) for n in range(4500)]
    store.replace_listing(listing)
    sizes = []
    for one in store.pending():
        sizes.append(one.size or 0)
        store.save([Result(one.path, 1, "other", None, document("failed"))] * (len(sizes) % 97 < 1))
    assert len(sizes) == 4500
    assert sizes == sorted(sizes, reverse=True)


def test_the_same_recording_twice_keeps_its_best_name(store: RunStore) -> None:
    same = [
        Found(b"/x", b"z", False, 1, "1"),
        Found(b"/x", b"a", True, 1, "1"),
        Found(b"/x", b"m", False, 1, "1"),
    ]
    for order in (same, same[::-1]):
        assert store.replace_listing(order) == 1
        store.save([Result(b"/x", 1, "1", None, document())])
        assert [row.recording for row in store.rows()] == ["m"]


def test_an_empty_listing_changes_nothing(store: RunStore) -> None:
    store.replace_listing([found(b"a")])
    assert store.replace_listing([]) == 0
    assert pending(store) == [b"a"]


def test_a_listing_that_breaks_off_changes_nothing(store: RunStore) -> None:
    def broken() -> Iterator[Found]:
        yield found(b"new")
        raise InvalidInputError("no such folder")

    store.replace_listing([found(b"a")])
    with pytest.raises(InvalidInputError):
        store.replace_listing(broken())
    assert pending(store) == [b"a"]


def test_saving_is_all_or_nothing(store: RunStore) -> None:
    store.replace_listing([found(b"a"), found(b"b")])
    broken = Result(b"/real/b", 1, "1", None, {**document(), "events": [object()]})
    with pytest.raises(TypeError):
        store.save([result(found(b"a")), broken])
    assert sorted(pending(store)) == [b"a", b"b"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=8, unique=True))
def test_rows_are_sorted_by_name_as_text(tmp_path_factory: Any, texts: list[str]) -> None:
    texts = [text.replace("\0", "") for text in texts]
    with RunStore(tmp_path_factory.mktemp("run"), KEY) as store:
        listing = [
            Found(b"%d" % number, text.encode("utf-8", "ignore"), False, 1, "1")
            for number, text in enumerate(texts)
        ]
        store.replace_listing(listing)
        store.save(result(one) for one in listing)
        shown = [row.recording for row in store.rows()]
    assert len(shown) == len(texts)
    assert shown == sorted(shown)


def test_another_key_is_refused_with_what_differs_and_restart_begins_anew(tmp_path: Path) -> None:
    with RunStore(tmp_path, KEY) as store:
        store.replace_listing([found(b"a")])
        store.save([result(found(b"a"))])
    other = {**KEY, "settings": {"segmentation": {"hop": 32}}}
    with pytest.raises(InvalidInputError, match=r"segmentation\.hop was 64, is 32.*--restart"):
        RunStore(tmp_path, other)
    with RunStore(tmp_path, KEY) as store:
        assert pending(store) == []
    with RunStore(tmp_path, other, restart=True) as store:
        assert list(store.rows()) == []


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with RunStore(tmp_path, KEY), pytest.raises(InvalidInputError, match="another batch"):
        RunStore(tmp_path, KEY)
    RunStore(tmp_path, KEY).close()


def test_folders_that_hold_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="holds no batch"):
        StoreReader(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInputError, match="cannot make the folder"):
        RunStore(tmp_path / "file", KEY)
    (tmp_path / "run.sqlite").write_bytes(b"not a database, but long enough to look at" * 30)
    with pytest.raises(CrepitusError, match=r"run\.sqlite"):
        RunStore(tmp_path, KEY)
    RunStore(tmp_path, KEY, restart=True).close()
