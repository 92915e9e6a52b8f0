"""What a person sees while a batch runs."""

from __future__ import annotations

import io

import pytest

from audio_pipeline.app import text as progress_module
from audio_pipeline.app.text import BatchProgress, clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved by hand."""
    time = [100.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: time[0])
    return time


def test_a_line_now_and_then_and_none_for_a_short_batch(now: list[float]) -> None:
    said = io.StringIO()
    with BatchProgress(said) as progress:
        progress.begin(found=40, pending=30, size=3000)
        progress.advance(recordings=1, size=100, audio_seconds=360.0, failed=0)
        assert said.getvalue() == ""
        now[0] += progress_module.PLAIN_SECONDS
        progress.advance(recordings=9, size=900, audio_seconds=3240.0, failed=2)
    (line,) = said.getvalue().splitlines()
    assert line == (
        "10 of 30 recordings, 1.0 h of sound, 360 x real time, 10 from before, 2 failed, "
        "about 0:20 left"
    )


def test_the_share_goes_by_bytes_and_else_by_recordings(now: list[float]) -> None:
    progress = BatchProgress(io.StringIO())
    progress.begin(found=4, pending=4, size=0)
    assert progress.seconds_left is None
    now[0] += 1
    progress.advance(recordings=1, size=0, audio_seconds=1.0, failed=0)
    assert progress.share == 0.25
    assert progress.seconds_left == pytest.approx(3.0)


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with BatchProgress(Terminal()) as progress:
        progress.begin(found=4, pending=4, size=8)
        progress.advance(recordings=4, size=8, audio_seconds=1.0, failed=1)
        assert progress.share == 1.0
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (185.4, "3:05"), (7385, "2:03:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text
