"""The labelling loop, and feature tables for those who model elsewhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.analysis.pipeline import extract
from audio_pipeline.app.cli import main
from audio_pipeline.app.exports import CutSettings, clips_of, cut_segments, write_features
from audio_pipeline.audio.recording import Recording, read_recording, write_recording
from audio_pipeline.datasets.loading import load_examples, load_training_data
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.classifier import Classifier, save_classifier
from tests.labelled_sounds import sound, write_people
from tests.small_models import says

RATE = 8000


def _model(threshold: float) -> Classifier:
    """A model that calls everything a tick with probability 0.8."""
    labels = ("clunk", "tick")
    estimator = says(labels, {0.0: [0.2, 0.8]})
    thresholds = {"clunk": 0.5, "tick": threshold}
    settings = AnalysisConfig().at_rate(RATE)
    return Classifier("ticker", labels, FEATURE_NAMES, settings, thresholds, estimator)


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    paths = []
    for number, folder in enumerate(("ann", "bob")):
        path = tmp_path / folder / "twist 1.wav"
        path.parent.mkdir()
        samples = sound(np.random.default_rng(number), "clunk", RATE)
        write_recording(path, Recording(samples, RATE), "16-bit")
        paths.append(path)
    return paths


@pytest.mark.parametrize("tracks", ["audacity", "raven"])
def test_corrected_tracks_are_read_back(
    tracks: str, recordings: list[Path], tmp_path: Path
) -> None:
    done = cut_segments(recordings, tmp_path / "out", _model(0.5), CutSettings(0.3, tracks))
    assert [one.clips for one in done] == [3, 3]
    dataset = read_dataset(tmp_path / "out")
    assert len(dataset.clips) == 6
    assert dataset.has_groups
    assert len({clip.group for clip in dataset.clips}) == 2, "a recording's clips stay together"
    found = extract(recordings[0], AnalysisConfig().at_rate(RATE)).segments
    for clip, segment in zip(dataset.clips, found, strict=False):
        assert clip.label == "tick"
        assert clip.start == pytest.approx(0.3, abs=1e-6)
        assert clip.end - clip.start == pytest.approx(segment.end - segment.start, abs=1e-3)
    with (tmp_path / "out" / "segments.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["recording"] for row in rows] == [str(recordings[0])] * 3 + [str(recordings[1])] * 3


def test_guesses_wait_for_somebody_to_decide(recordings: list[Path], tmp_path: Path) -> None:
    cut_segments(recordings[:1], tmp_path / "out", _model(0.9))
    with pytest.raises(InvalidInputError, match="no labels"):
        read_dataset(tmp_path / "out")
    for track in (tmp_path / "out").rglob("*.txt"):
        track.write_text(track.read_text().replace("tick?", "clunk"))
    assert {clip.label for clip in read_dataset(tmp_path / "out").clips} == {"clunk"}


def test_training_on_uncorrected_guesses_says_so(recordings: list[Path], tmp_path: Path) -> None:
    cut_segments(recordings, tmp_path / "out", _model(0.5))

    def codes() -> set[str]:
        material = load_training_data(read_dataset(tmp_path / "out"))
        return {one.code for one in material.data_warnings}

    assert "own_guesses" in codes()
    track = next((tmp_path / "out").rglob("*.txt"))
    track.write_text(track.read_text().replace("tick", "clunk"))
    assert "own_guesses" not in codes(), "somebody has listened"
    (tmp_path / "out" / "segments.csv").unlink()
    track.write_text(track.read_text().replace("clunk", "tick"))
    assert "own_guesses" not in codes(), "nobody knows whose labels they are"


def test_nothing_is_written_over(recordings: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        cut_segments(recordings, recordings[0].parent, _model(0.5))


def test_clips_are_the_samples_of_their_time(recordings: list[Path]) -> None:
    whole = read_recording(recordings[0]).samples
    windows = [(0.0, 0.5), (0.3, 1.2), (0.4, 0.45), (1.9, 5.0)]
    for (start, end), clip in zip(windows, clips_of(recordings[0], windows), strict=True):
        expected = whole[round(start * RATE) : round(end * RATE)]
        np.testing.assert_array_equal(clip.samples, expected)


def test_a_row_of_features_for_every_segment(recordings: list[Path], tmp_path: Path) -> None:
    settings = AnalysisConfig().at_rate(RATE)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    tables = {}
    for name in ("t.csv", "t.parquet"):
        rows, failed = write_features([*recordings, broken], tmp_path / name, settings)
        assert rows == 6
        assert [one.source for one in failed] == [str(broken)]
    with (tmp_path / "t.csv").open(newline="") as file:
        tables["csv"] = list(csv.DictReader(file))
    import pyarrow.parquet

    tables["parquet"] = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pylist()
    expected = extract(recordings[1], settings)
    for table in tables.values():
        mine = [row for row in table if row["recording"] == str(recordings[1])]
        values = np.array([[float(row[name]) for name in FEATURE_NAMES] for row in mine])
        np.testing.assert_allclose(values, expected.table, rtol=1e-5, atol=1e-6)
        starts = [float(row["start"]) for row in mine]
        np.testing.assert_allclose(starts, [s.start for s in expected.segments], atol=1e-4)


def test_no_sound_gives_a_header(tmp_path: Path) -> None:
    path = tmp_path / "hiss.wav"
    hiss = np.random.default_rng(0).normal(0, 1e-3, RATE)
    write_recording(path, Recording(hiss.astype(np.float32), RATE))
    for name in ("t.csv", "t.parquet"):
        assert write_features([path], tmp_path / name, AnalysisConfig()) == (0, [])
        assert (tmp_path / name).stat().st_size > 0
    with pytest.raises(InvalidInputError, match="parquet"):
        write_features([path], tmp_path / "t.xlsx", AnalysisConfig())


def test_the_commands(
    recordings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_classifier(_model(0.5), tmp_path / "model")
    model = ["--model", str(tmp_path / "model"), "--json"]
    names = [str(path) for path in recordings]
    (tmp_path / "ann" / "broken.wav").write_bytes(b"RIFF")

    def run(*arguments: str) -> tuple[int | str | None, str]:
        with pytest.raises(SystemExit) as done:
            main(list(arguments))
        return done.value.code, capsys.readouterr().out

    code, out = run("segments", *names, "-o", str(tmp_path / "out"), *model)
    assert (code, json.loads(out)["clips"]) == (0, 6)
    code, out = run("features", str(tmp_path / "ann"), "-o", str(tmp_path / "t.csv"), *model)
    assert code == 1, "a recording failed"
    document = json.loads(out)
    assert (document["rows"], len(document["failed"])) == (3, 1)
    code, out = run("features", "--list")
    assert code == 0
    assert len(out.splitlines()) == len(FEATURE_NAMES)
    assert run("features", *names)[0] == 2
    assert run("segments", str(tmp_path / "nothing"), "-o", str(tmp_path / "x"), *model)[0] == 2


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_labelled_dataset_gives_its_labels_and_groups(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_people(tmp_path / "data", people=2, each=1, rate=RATE)
    examples = load_examples(data)
    table = tmp_path / f"table.{ending}"
    for source in (data, data / "manifest.csv"):
        with pytest.raises(SystemExit) as done:
            main(["features", str(source), "-o", str(table), "--json"])
        assert done.value.code == 0
        assert json.loads(capsys.readouterr().out)["rows"] == len(examples.target)
    if ending == "csv":
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
    else:
        rows = pyarrow.parquet.read_table(table).to_pylist()
    assert tuple(rows[0])[:5] == ("recording", "start", "end", "label", "group")
    assert [row["label"] for row in rows] == examples.target.tolist()
    assert [row["group"] for row in rows] == examples.groups.tolist()
    assert [float(row["start"]) for row in rows] == pytest.approx(examples.start, abs=1e-4)
    read = np.array([[float(row[name]) for name in FEATURE_NAMES] for row in rows])
    np.testing.assert_allclose(read, examples.data, rtol=1e-5)
