"""Labels as people keep them are read as they meant them, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_pipeline.datasets.manifest import (
    Region,
    audacity_track,
    find_track,
    is_permissive,
    permissive_only,
    raven_table,
    read_dataset,
    read_track,
)
from audio_pipeline.exceptions import InvalidInputError


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def _manifest(folder: Path, text: str) -> Path:
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    return folder


def test_a_folder_whose_name_is_no_line_is_refused_at_once(tmp_path: Path) -> None:
    _touch(tmp_path, "pop/a.wav", "x\x1b[31m/b.wav")
    with pytest.raises(InvalidInputError, match="rename that folder"):
        read_dataset(tmp_path)


def test_a_folder_a_label(tmp_path: Path) -> None:
    _touch(tmp_path, "pop/a.wav", "pop/b.FLAC", "squeak/c.m4a", "squeak/notes.md", "readme.txt")
    dataset = read_dataset(tmp_path)
    assert [(clip.name, clip.label) for clip in dataset.clips] == [
        ("pop/a.wav", "pop"),
        ("pop/b.FLAC", "pop"),
        ("squeak/c.m4a", "squeak"),
    ]
    assert not dataset.has_groups
    assert {clip.group for clip in dataset.clips} == {clip.name for clip in dataset.clips}


def test_folders_inside_a_label_are_groups(tmp_path: Path) -> None:
    dataset = read_dataset(_touch(tmp_path, "pop/ann/1.wav", "pop/bob/1.wav", "other/ann/2.wav"))
    assert dataset.has_groups
    assert [clip.group for clip in dataset.clips] == ["ann", "ann", "bob"]


def test_a_manifest_goes_before_folders(tmp_path: Path) -> None:
    _touch(tmp_path, "pop/a.wav", "other/b.wav")
    _manifest(tmp_path, "\ufefffile,label,group,start,end,device\nx/ü 1.wav,creak,p1,0.5,1,phone\n")
    (clip,) = read_dataset(tmp_path).clips
    assert (clip.label, clip.group, clip.start, clip.end) == ("creak", "p1", 0.5, 1.0)
    assert clip.path == tmp_path / "x/ü 1.wav"
    assert clip.columns["device"] == "phone"
    assert read_dataset(tmp_path / "manifest.csv").clips == (clip,)


def test_another_column_can_say_what_belongs_together(tmp_path: Path) -> None:
    _manifest(tmp_path, "file,label,group,room\na.wav,x,p1,kitchen\nb.wav,y,p2,kitchen\n")
    assert {clip.group for clip in read_dataset(tmp_path, "room").clips} == {"kitchen"}
    with pytest.raises(InvalidInputError, match="'device'"):
        read_dataset(tmp_path, "device")


def test_an_empty_group_is_the_recording_itself(tmp_path: Path) -> None:
    _manifest(tmp_path, "file,label,group\na.wav,x,\nb.wav,y,\n")
    dataset = read_dataset(tmp_path)
    assert [clip.group for clip in dataset.clips] == ["a.wav", "b.wav"]
    assert not dataset.has_groups


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind\na.wav,x\n", "'label'"),
        ("file,label\na.wav,\n", "line 2"),
        ("file,label\na.wav,x,y\n", "line 2"),
        ("file,label,start,end\na.wav,x,1,\n", "both"),
        ("file,label,start,end\na.wav,x,2,1\n", "before"),
        ("file,label,start,end\na.wav,x,one,2\n", "'one'"),
        ("file,label,start,end\na.wav,x,-1,2\n", "'-1'"),
        ("file,label,start,end\na.wav,x,0,nan\n", "'nan'"),
        ("file,label\n", "no rows"),
        ("", "'file'"),
        ('file,label\n"a.wav', "CSV"),
    ],
)
def test_a_wrong_manifest_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_dataset(_manifest(tmp_path, text))


def test_what_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="neither"):
        read_dataset(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match=r"manifest\.csv"):
        read_dataset(tmp_path)
    (tmp_path / "manifest.csv").write_bytes("file,label\nä.wav,x\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match="UTF-8"):
        read_dataset(tmp_path)


def test_recordings_beside_audacity_tracks(tmp_path: Path) -> None:
    _touch(tmp_path, "ann/1.wav", "ann/2.wav", "bob/3.wav", "bob/unlabelled.wav")
    (tmp_path / "ann/1.txt").write_text("0.5\t0.9\tpop\n\\\t100.0\t2000.0\n1.5\t1.5\tcreak\n")
    (tmp_path / "ann/2.txt").write_text("0,25\t0,75\tpop?\n0.8\t1.0\t\n")
    (tmp_path / "bob/3.txt").write_text("2.0\t3.0\tcreak\r\n")
    dataset = read_dataset(tmp_path)
    assert [(c.name, c.label, c.start, c.end, c.group) for c in dataset.clips] == [
        ("ann/1.wav", "pop", 0.5, 0.9, "ann"),
        ("ann/1.wav", "creak", 1.5, 1.5, "ann"),
        ("bob/3.wav", "creak", 2.0, 3.0, "bob"),
    ]


def test_notes_with_the_name_of_a_recording_are_no_track(tmp_path: Path) -> None:
    _touch(tmp_path, "pop/a.wav", "other/b.wav")
    (tmp_path / "pop/a.txt").write_text("recorded on a sunny day\n")
    assert [clip.label for clip in read_dataset(tmp_path).clips] == ["other", "pop"]


def test_raven_selections(tmp_path: Path) -> None:
    _touch(tmp_path, "a.wav")
    (tmp_path / "a.Table.1.selections.txt").write_text(
        "Selection\tView\tBegin Time (s)\tEnd Time (s)\tAnnotation\n"
        "1\tWaveform 1\t0.5\t0.7\tpop\n1\tSpectrogram 1\t0.5\t0.7\tpop\n"
        "2\tSpectrogram 1\t0.1\t0.2\tcreak\n"
    )
    found = [(c.label, c.start, c.end) for c in read_dataset(tmp_path).clips]
    assert found == [("creak", 0.1, 0.2), ("pop", 0.5, 0.7)]


@pytest.mark.parametrize("text", ["1.0\n", "1.0\tx\tpop\n", "2.0\t1.0\tpop\n"])
def test_a_wrong_line_of_a_track_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0.1\t0.2\tpop\n" + text)
    with pytest.raises(InvalidInputError, match="line 2"):
        read_track(path)


letters = st.characters(categories=["L", "N", "P", "S"])
label_text = st.text(letters, min_size=1, max_size=12).filter(lambda text: not text.endswith("?"))
regions = st.lists(
    st.builds(
        lambda start, length, label: Region(start / 1e4, (start + length) / 1e4, label),
        st.integers(0, 10**8),
        st.integers(0, 10**6),
        label_text,
    ),
    max_size=8,
)


@settings(max_examples=40, deadline=None)
@given(regions)
def test_tracks_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, given: list[Region]
) -> None:
    path = tmp_path_factory.mktemp("tracks") / "a.txt"
    wanted = sorted(given, key=lambda region: (region.start, region.end, region.label))
    for text in (audacity_track(given), raven_table(given, 8000.0)):
        path.write_text(text, encoding="utf-8", newline="\n")
        assert list(read_track(path)) == wanted


def test_finds_no_track_where_there_is_none(tmp_path: Path) -> None:
    assert find_track(_touch(tmp_path, "a.wav") / "a.wav") is None


@pytest.mark.parametrize(
    ("licence", "permissive"),
    [
        ("CC0 1.0", True),
        ("CC BY 4.0 (a name)", True),
        ("MIT", True),
        ("Apache-2.0", True),
        ("public domain", True),
        ("CC0/CC BY/PD per SOUNDS.md", True),
        ("CC BY-SA 4.0", False),
        ("CC0 / CC BY 3.0 / CC BY-SA 3.0 per sources.md", False),
        ("CC BY-NC 4.0", False),
        ("CC BY-ND", False),
        ("GPL-3", False),
        ("all rights reserved", False),
        ("", False),
    ],
)
def test_which_licences_are_permissive(licence: str, permissive: bool) -> None:
    assert is_permissive(licence) is permissive


def test_only_permissive_rows_are_kept(tmp_path: Path) -> None:
    text = "file,label,licence\na.wav,x,CC0\nb.wav,y,CC BY-SA 3.0\n"
    dataset = read_dataset(_manifest(tmp_path, text))
    assert [clip.name for clip in permissive_only(dataset).clips] == ["a.wav"]
    without = read_dataset(_manifest(tmp_path, "file,label\na.wav,x\n"))
    with pytest.raises(InvalidInputError, match="permissive"):
        permissive_only(without)
