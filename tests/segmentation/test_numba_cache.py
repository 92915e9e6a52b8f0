"""Where numba keeps what it compiles for librosa when librosa's own folder cannot be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from audio_pipeline.segmentation import onset_envelope


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "x")  # put back after the test
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))


def _deny(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Take the right to write: root has it anyway, so the question is answered with no."""
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) not in folders and access(path, mode)
    )


LIBROSA = Path(onset_envelope.librosa.__file__).parent


def test_a_folder_that_can_be_written_is_left_to_numba() -> None:
    if not os.access(LIBROSA, os.W_OK):
        pytest.skip("librosa's folder cannot be written here")
    onset_envelope._place_numba_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ


def test_else_the_users_cache_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _deny(monkeypatch, LIBROSA)
    onset_envelope._place_numba_cache()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.is_dir()
    assert folder.is_relative_to(tmp_path)
    onset_envelope._place_numba_cache()
    assert Path(os.environ["NUMBA_CACHE_DIR"]) == folder


def test_without_any_it_is_private_to_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *given, **named: tmp_path / "cache")
    _deny(monkeypatch, LIBROSA)
    onset_envelope._place_numba_cache()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.is_dir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_place_the_person_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/chosen")
    _deny(monkeypatch, LIBROSA)
    onset_envelope._place_numba_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == "/chosen"
