"""Which recordings are found, under which names, and how often."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_pipeline.app.batch.export import mirrored
from audio_pipeline.audio.discovery import MISSING, Found, discover, read_list, readable
from audio_pipeline.exceptions import InvalidInputError, one_line

paths = st.binary(min_size=1, max_size=30).filter(lambda b: b"\0" not in b)


def touch(path: Path | bytes, content: bytes = b"x") -> None:
    name = os.fsencode(path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    with open(name, "wb") as file:
        file.write(content)


def once(found: list[Found]) -> dict[bytes, Found]:
    """Keep the best name of every recording, as the store does."""
    best: dict[bytes, Found] = {}
    for one in sorted(found, key=lambda one: (one.linked, one.name), reverse=True):
        best[one.path] = one
    return best


def names(*given: Path | bytes | str, **options: object) -> list[str]:
    found = discover([os.fsencode(one) for one in given], **options)  # type: ignore[arg-type]
    return sorted(readable(one.name) for one in once(list(found)).values())


def test_a_folder_gives_everything_below_it_under_the_name_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "rec" / "a.wav")
    touch(tmp_path / "rec" / "deep" / "er" / "B.M4A")
    monkeypatch.chdir(tmp_path)
    assert names("rec") == ["rec/a.wav", "rec/deep/er/B.M4A"]
    assert names("rec/") == ["rec/a.wav", "rec/deep/er/B.M4A"]
    assert names("./rec") == ["./rec/a.wav", "./rec/deep/er/B.M4A"]
    assert names(tmp_path / "rec")[0] == f"{tmp_path}/rec/a.wav"


def test_hidden_unfinished_and_other_files_are_left_out_of_folders_only(tmp_path: Path) -> None:
    for name in (".a.wav", "._b.wav", "c.wav.part", "d.wav~", "~$e.wav", "f.txt", ".trash/g.wav"):
        touch(tmp_path / name)
    touch(tmp_path / "h.wav")
    assert names(tmp_path) == [f"{tmp_path}/h.wav"]
    assert names(tmp_path / ".a.wav", tmp_path / "f.txt") == [
        f"{tmp_path}/.a.wav",
        f"{tmp_path}/f.txt",
    ]


def test_the_results_folder_is_left_out(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    touch(tmp_path / "out" / "b.wav")
    assert names(tmp_path, skip=os.fsencode(tmp_path / "out")) == [f"{tmp_path}/a.wav"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    touch(tmp_path / "rec" / "sub" / "a.wav")
    touch(tmp_path / "elsewhere" / "b.wav")
    (tmp_path / "rec" / "sub" / "up").symlink_to(tmp_path / "rec")
    (tmp_path / "rec" / "top").symlink_to(tmp_path)
    (tmp_path / "rec" / "self").symlink_to("self")
    (tmp_path / "rec" / "other").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "rec") == [
        f"{tmp_path}/rec/other/b.wav",
        f"{tmp_path}/rec/sub/a.wav",
    ]


def test_the_same_recording_counts_once_and_keeps_the_name_without_links(tmp_path: Path) -> None:
    touch(tmp_path / "z.wav", b"same")
    touch(tmp_path / "copy.wav", b"same")
    (tmp_path / "a.wav").symlink_to("z.wav")
    (tmp_path / "d").symlink_to(tmp_path)
    expected = [f"{tmp_path}/copy.wav", f"{tmp_path}/z.wav"]
    assert names(tmp_path) == expected
    assert names(tmp_path, tmp_path / "a.wav", tmp_path / "z.wav", tmp_path / "d") == expected


def test_hard_links_and_equal_content_stay_two_recordings(tmp_path: Path) -> None:
    touch(tmp_path / "a.wav")
    os.link(tmp_path / "a.wav", tmp_path / "b.wav")
    assert len(names(tmp_path)) == 2


def test_names_do_not_depend_on_the_order_of_the_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "rec" / "sub" / "a.wav")
    monkeypatch.chdir(tmp_path)
    given = ["rec", "./rec/sub", "rec/sub/a.wav", str(tmp_path / "rec")]
    assert names(*given) == names(*reversed(given))
    assert len(names(*given)) == 1


def test_missing_names_are_recordings_when_they_look_like_it(tmp_path: Path) -> None:
    (found,) = discover([os.fsencode(tmp_path / "gone.wav")])
    assert found.mtime_ns == MISSING
    (found,) = discover([], [os.fsencode(tmp_path / "gone")])
    assert found.mtime_ns == MISSING
    (tmp_path / "dead.wav").symlink_to("nowhere.wav")
    (found,) = discover([os.fsencode(tmp_path)])
    assert found.mtime_ns == MISSING
    with pytest.raises(InvalidInputError, match="no file or folder"):
        list(discover([os.fsencode(tmp_path / "gone")]))


def test_globs_match_recordings_and_refuse_to_match_nothing(tmp_path: Path) -> None:
    for name in ("a1.wav", "a2.wav", "b.wav", "a.txt", "deep/a3.wav"):
        touch(tmp_path / name)
    assert len(names(tmp_path / "a*")) == 2
    assert len(names(tmp_path / "**" / "a*.wav")) == 3
    with pytest.raises(InvalidInputError, match="no recording matches"):
        names(tmp_path / "*.flac")


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    touch(tmp_path / "a[1].wav")
    touch(tmp_path / "a1.wav")
    assert names(tmp_path / "a[1].wav") == [f"{tmp_path}/a[1].wav"]


@pytest.mark.parametrize("name", [b"\xff\xfe.wav", "né\n👍 .wav".encode(), b"a\\xff.wav"])
def test_names_of_any_bytes_are_found(tmp_path: Path, name: bytes) -> None:
    touch(os.path.join(os.fsencode(tmp_path), name))
    (found,) = discover([os.fsencode(tmp_path)])
    assert os.path.basename(found.name) == name
    assert os.path.exists(found.path)


@given(paths)
def test_every_name_is_readable_and_utf_8_stays_as_it_is(name: bytes) -> None:
    text = readable(name)
    text.encode("utf-8")
    try:
        assert text == name.decode("utf-8")
    except UnicodeDecodeError:
        assert "\\x" in text


@given(paths)
def test_mirrored_names_never_leave_their_folder(name: bytes) -> None:
    path = mirrored(name)
    assert not path.startswith(b"/")
    assert b".." not in path.split(b"/")


@given(st.text())
def test_one_line_is_one_line(text: str) -> None:
    assert len(one_line(text.encode("utf-8", "ignore").decode()).splitlines()) <= 1


def test_lists_are_split_at_lines_or_at_nul() -> None:
    assert list(read_list(io.BytesIO(b"a b.wav\r\n\nc.wav\n"))) == [b"a b.wav", b"c.wav"]
    assert list(read_list(io.BytesIO(b"a\nb.wav\0c.wav\0"))) == [b"a\nb.wav", b"c.wav"]
    assert list(read_list(io.BytesIO(b""))) == []


def test_folders_that_cannot_be_read_below_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "ok" / "a.wav")
    touch(tmp_path / "shut" / "b.wav")
    scandir = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith(b"shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[tuple[str, str]] = []
    found = discover([os.fsencode(tmp_path)], unreadable=lambda *told_of: told.append(told_of))
    assert [os.path.basename(one.name) for one in found] == [b"a.wav"]
    assert told == [(f"{tmp_path}/shut", "Permission denied")]
    with pytest.raises(InvalidInputError, match="cannot read the folder"):
        list(discover([os.fsencode(tmp_path / "shut")]))
