"""An analysis as a table, a picture and a notebook's output."""

from __future__ import annotations

import base64
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from made_sounds import background, grating_times, with_impacts

from audio_pipeline.analysis.display import LONGEST_SECONDS, read_part
from audio_pipeline.analysis.pipeline import Analysis, analyze_file
from audio_pipeline.audio.recording import Recording
from audio_pipeline.exceptions import CrepitusError
from audio_pipeline.model.classifier import load_classifier

RATE = 22_050


@pytest.fixture(scope="module")
def recording() -> Recording:
    times = [0.4, 0.8, *grating_times(1.4, 0.8, 1)]
    samples = with_impacts(background("pink", 2.8, RATE, 1), times, RATE, 1)
    return Recording(samples, RATE, "<b>twist</b>\u202e.wav")


@pytest.fixture(scope="module")
def analysis(recording: Recording) -> Analysis:
    return analyze_file(recording, load_classifier())


def test_a_data_frame_has_one_row_per_event(analysis: Analysis) -> None:
    pytest.importorskip("pandas")
    frame = analysis.to_frame()
    assert frame["start"].tolist() == [event.start for event in analysis.events]
    assert frame["uncertain"].dtype == bool
    chances = frame[[name for name in frame if name.startswith("p_")]]
    np.testing.assert_allclose(chances.sum(axis=1), 1.0)
    assert chances.idxmax(axis=1).str.removeprefix("p_").tolist() == frame["label"].tolist()


def test_no_event_gives_the_same_columns_without_rows(analysis: Analysis) -> None:
    pytest.importorskip("pandas")
    silent = analyze_file(Recording(np.zeros(RATE, np.float32), RATE), load_classifier())
    assert silent.to_frame().empty
    assert list(silent.to_frame()) == list(analysis.to_frame())
    gone = analyze_file("gone.wav", load_classifier())
    assert gone.status == "failed"
    assert list(gone.to_frame()) == list(analysis.to_frame())


def test_the_picture_has_a_frequency_axis_and_outlines_every_event(analysis: Analysis) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot

    figure = analysis.plot()
    wave, spectrogram = figure.axes
    assert spectrogram.get_ylabel() == "frequency (kHz)"
    assert spectrogram.get_ylim()[1] == pytest.approx(RATE / 2000)
    assert len(wave.patches) == len(spectrogram.patches) == len(analysis.events)
    assert all(patch.get_facecolor()[3] == 0 for patch in spectrogram.patches)
    for patch, event in zip(spectrogram.patches, analysis.events, strict=True):
        assert patch.get_x() == pytest.approx(event.start)
        assert patch.get_width() == pytest.approx(event.end - event.start)
        assert (patch.get_linestyle() == "--") == event.uncertain
    matplotlib.pyplot.close(figure)


def test_a_part_of_the_picture_is_that_part(analysis: Analysis) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    import matplotlib.pyplot

    figure = analysis.plot(1.0, 2.0)
    assert figure.axes[0].get_xlim() == pytest.approx((1.0, 2.0))
    matplotlib.pyplot.close(figure)


def test_a_notebook_shows_a_picture_and_plays_the_sound(analysis: Analysis) -> None:
    pytest.importorskip("matplotlib")
    page = analysis._repr_html_()
    assert "<b>twist" not in page
    assert "&lt;b&gt;twist&lt;/b&gt;\\u202e.wav" in page
    assert not re.findall(r"(?:src|href)=\"(?!data:)", page)
    image, sound = re.findall(r"data:(?:image/png|audio/wav);base64,([\w+/=]+)", page)
    assert base64.b64decode(image).startswith(b"\x89PNG")
    assert base64.b64decode(sound).startswith(b"RIFF")
    assert page.count("<tr>") == 1 + len(analysis.events)


def test_a_file_that_is_gone_still_shows_its_events(tmp_path: Path, recording: Recording) -> None:
    path = tmp_path / "twist.wav"
    soundfile.write(path, recording.samples, RATE)
    analysis = analyze_file(path, load_classifier())
    assert "<audio" in analysis._repr_html_()
    path.unlink()
    page = analysis._repr_html_()
    assert "<audio" not in page
    assert page.count("<tr>") == 1 + len(analysis.events)
    with pytest.raises(CrepitusError, match="no such file"):
        analysis.plot()


def test_a_recording_that_failed_says_why(tmp_path: Path) -> None:
    path = tmp_path / "notes.wav"
    path.write_bytes(b"this is no sound")
    assert "not a sound" in analyze_file(path, load_classifier())._repr_html_()


@pytest.mark.parametrize(("module", "method"), [("pandas", "to_frame"), ("matplotlib", "plot")])
def test_what_is_missing_is_named(
    module: str, method: str, analysis: Analysis, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(CrepitusError, match=f"needs {module}: pip install"):
        getattr(analysis, method)()


def test_at_most_two_minutes_are_read() -> None:
    long = Recording(np.zeros(130 * 1000, np.float32), 1000)
    assert read_part(long).duration == LONGEST_SECONDS
    assert read_part(long, 125.0).duration == pytest.approx(5.0)
