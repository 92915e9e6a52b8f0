"""Evaluation: scored as documented, nothing it was trained on, everything reported."""

from __future__ import annotations

import csv
import html.parser
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_sounds import background, with_impacts

from audio_pipeline.analysis.config import AnalysisSettings
from audio_pipeline.analysis.pipeline import Extraction
from audio_pipeline.app.cli import main
from audio_pipeline.app.reporting.evaluation_page import evaluation_page
from audio_pipeline.audio.quality import Quality, QualityMeter, QualitySettings
from audio_pipeline.audio.recording import read_recording
from audio_pipeline.datasets.examples import Case, Heard
from audio_pipeline.datasets.label_tracks import Region
from audio_pipeline.datasets.manifest import read_dataset
from audio_pipeline.exceptions import RefusedError
from audio_pipeline.features.registry import FEATURE_NAMES
from audio_pipeline.model.classifier import Calibration, Classifier, load_classifier
from audio_pipeline.model.evaluation import (
    MEASURED_SNR,
    Evaluation,
    column_values,
    evaluate,
    measured_snr,
    score_events,
)
from audio_pipeline.model.fit import FitSettings
from audio_pipeline.model.forest import Forest
from audio_pipeline.model.scoring import FIGURES, answer_of, answers, judge
from audio_pipeline.model.thresholds import TuningSettings
from audio_pipeline.model.training import TrainSettings, train
from audio_pipeline.segmentation.segment import Segment
from tests.labelled_sounds import LABELS, write_people

JOINTS = ("grating", "other", "pop")


def _speaker() -> Classifier:
    """A model whose first feature decides: <= 0 pop, <= 1 grating, <= 2 other, else unsure."""
    forest = Forest(
        JOINTS,
        len(FEATURE_NAMES),
        [0, 0, 0, -1, -1, -1, -1],
        [1.0, 0.0, 2.0],
        [[0.05, 0.05, 0.9], [0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.3, 0.3, 0.4]],
        [7],
    )
    thresholds = dict.fromkeys(JOINTS, 0.6)
    settings = AnalysisSettings()
    identity = Calibration.identity(3)
    return Classifier("speaker", JOINTS, FEATURE_NAMES, settings, thresholds, identity, forest)


SAYS = {"pop": 0.0, "grating": 1.0, "other": 2.0, "unsure": 3.0}


def _quality(usable: bool = True) -> Quality:
    meter = QualityMeter(22_050, QualitySettings())
    meter.update(np.random.default_rng(0).normal(0, 0.01, 22_050).astype(np.float32))
    return replace(meter.result([]), usable=usable)


def _extraction(said: Sequence[str], times: Sequence[tuple[float, float]] = ()) -> Extraction:
    table = np.zeros((len(said), len(FEATURE_NAMES)), np.float32)
    table[:, 0] = [SAYS[word] for word in said]
    spans = times or [(float(n), n + 0.5) for n in range(len(said))]
    segments = tuple(Segment(start, end, (start,)) for start, end in spans)
    return Extraction("x.wav", "ok", None, 30.0, 22_050, _quality(), segments, table)


def _case(label: str, said: Sequence[str], group: str = "g") -> Case:
    extraction = _extraction(said)
    return Case("x.wav", label, group, extraction, extraction.table)


def _figures(cases: Sequence[Case]) -> dict[str, float]:
    judged = judge(cases, _speaker())
    given = answers(judged, JOINTS, np.array([case.group for case in cases]))
    return {name: figure(given) for name, figure in FIGURES.items()}


def test_findings_stand_for_labels() -> None:
    assert answer_of("single_pop", JOINTS) == answer_of("repeated_pops", JOINTS) == "pop"
    assert answer_of("grating", JOINTS) == "grating"
    assert answer_of("nothing_recognised", JOINTS) == "other"
    for finding in ("mixed", "uncertain", "unusable"):
        assert answer_of(finding, JOINTS) is None
    assert answer_of("clunk", LABELS) == "clunk"
    assert answer_of("nothing_recognised", LABELS) is None


def test_scored_as_documented() -> None:
    cases = [
        _case("pop", ["pop"]),
        _case("pop", ["pop", "pop"]),
        _case("pop", ["grating"]),
        _case("pop", ["unsure"]),
        _case("grating", ["grating"]),
        _case("grating", ["pop", "grating"]),
        _case("other", ["other"]),
        _case("other", []),
        _case("other", ["pop", "pop"]),
        _case("other", ["other", "other"]),
    ]
    cases[7] = replace(cases[7], table=cases[6].table)
    figures = _figures(cases)
    assert figures["coverage"] == pytest.approx(8 / 10)
    assert figures["balanced_accuracy"] == pytest.approx(np.mean([2 / 3, 1.0, 3 / 4]))
    assert figures["strict_balanced_accuracy"] == pytest.approx(np.mean([2 / 4, 1 / 2, 3 / 4]))
    assert figures["pop_against_grating"] == pytest.approx(3 / 4)
    assert figures["false_alarms_per_minute"] == pytest.approx(2 / (4 * 0.5))
    assert figures["false_pops_per_minute"] == pytest.approx(2 / (4 * 0.5))
    assert figures["false_gratings_per_minute"] == 0.0
    assert figures["false_joint_recordings"] == pytest.approx(1 / 4)
    assert figures["false_grating_recordings"] == 0.0


def test_failed_recordings_count_as_errors_when_strict() -> None:
    failed = Extraction("y.wav", "failed", "broken", None, None, None, (), _extraction([]).table)
    cases = [
        _case("pop", ["pop"]),
        _case("other", ["other"]),
        Case("y.wav", "other", "g", failed, failed.table),
    ]
    figures = _figures(cases)
    assert figures["coverage"] == pytest.approx(2 / 3)
    assert figures["balanced_accuracy"] == 1.0
    assert figures["strict_balanced_accuracy"] == pytest.approx(0.75)
    assert figures["recording_balanced_accuracy"] == 1.0


def test_events_are_compared_in_time() -> None:
    found = [(1.0, 1.1), (2.03, 2.1), (5.0, 6.0), (8.0, 8.1)]
    said = ["pop", "pop", "grating", "pop"]
    truth = (
        Region(1.01, 1.1, "pop"),
        Region(2.0, 2.1, "pop"),
        Region(3.0, 3.1, "pop"),
        Region(5.1, 6.0, "grating"),
    )
    heard = Heard("x.wav", _extraction(said, found), truth, ())
    scores = {one.label: one for one in score_events([heard], _speaker())}
    assert scores["pop"].onset_20ms.f1 == pytest.approx(2 * 1 / 6)
    assert scores["pop"].onset_50ms.f1 == pytest.approx(2 * 2 / 6)
    assert scores["grating"].overlap.f1 == 1.0
    assert "other" not in scores
    assert score_events([replace(heard, regions=())], _speaker()) == []


def test_many_numbers_are_reported_in_steps() -> None:
    cases = [_case("pop", ["pop"]) for _ in range(30)]
    cases = [replace(case, columns={"snr": str(n - 5)}) for n, case in enumerate(cases)]
    values = column_values(cases, "snr")
    assert values[0] == "-10 to 0"
    assert values[5] == "0 to 10"
    assert set(column_values(cases, "absent")) == {""}


def test_sounds_that_stand_out_more_are_reported_apart() -> None:
    meters = {}
    for peak in (0.03, 0.3):
        sound = with_impacts(background("white", 3.0, 22_050), [1.5], 22_050, peak=peak)
        meters[peak] = QualityMeter(22_050, QualitySettings())
        meters[peak].update(sound)
    cases = [
        replace(case, extraction=replace(case.extraction, quality=meter.result([(1.49, 1.52)])))
        for meter in meters.values()
        for case in [_case("pop", ["pop"])]
    ]
    faint, clear = (int(name.split(" to ")[0]) for name in measured_snr(cases))
    assert clear >= faint + 10
    assert measured_snr([_case("pop", [])]) == [""]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("evaluate")
    data = read_dataset(write_people(folder / "data", people=3))
    fit = FitSettings(trees=8, forest_leaf=3, extra_leaf=3, jobs=1)
    tuning = TuningSettings(fit, leaf_scales=(1.0,), trees=3, folds=2)
    train(data, folder / "model", TrainSettings(tuning, folds=2))
    return load_classifier(folder / "model")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_people(tmp_path_factory.mktemp("strangers") / "data", people=4, each=1, seed=50)
    table = (folder / "manifest.csv").read_text().replace("person", "stranger")
    (folder / "manifest.csv").write_text(table)
    return folder


@pytest.fixture(scope="module")
def evaluation(model: Classifier, strangers: Path) -> Evaluation:
    return evaluate(read_dataset(strangers), model, by=("side",))


def test_reports_what_was_asked(evaluation: Evaluation) -> None:
    document = json.loads(json.dumps(evaluation.document(), allow_nan=False))
    metrics = document["metrics"]
    assert metrics["n_recordings"] == 12
    assert metrics["n_groups"] == 4
    assert metrics["recording_balanced_accuracy"] > 0.7
    assert metrics["recording_balanced_accuracy_low"] <= metrics["recording_balanced_accuracy"]
    assert [row["label"] for row in document["labels"]] == list(LABELS)
    assert {row["name"] for row in document["groups"]} == {f"stranger {n}" for n in range(4)}
    assert [row["name"] for row in document["by"]["side"]] == ["right"]
    assert sum(row["count"] for row in document["by"][MEASURED_SNR]) == 12
    assert sum(map(sum, document["confusion"]["rows"])) == 12
    assert document["risk_coverage"][0]["coverage"] == 1.0
    assert sum(one["count"] for one in document["reliability"]) == metrics["n_events"]
    assert document["model"]["sha256"] == evaluation.classifier.sha256


def test_the_page_needs_nothing_else(evaluation: Evaluation) -> None:
    page = evaluation_page(evaluation)
    assert "stranger 2" in page
    assert page.count("<svg") >= 4

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for name, value in attrs:
                assert name not in {"src", "href"} or str(value).startswith("data:"), (tag, value)

    Links().feed(page)


def test_what_the_model_was_trained_on_is_left_out(
    model: Classifier, strangers: Path, tmp_path: Path
) -> None:
    from audio_pipeline.audio.recording import write_recording

    folder = write_people(tmp_path / "mixed", people=3)
    for path in strangers.glob("*.wav"):
        write_recording(folder / f"new_{path.name}", read_recording(path), "16-bit")
    with (folder / "manifest.csv").open("a", newline="") as file:
        for path in sorted(strangers.glob("*.wav")):
            person, label, _ = path.stem.split("_")
            csv.writer(file).writerow((f"new_{path.name}", label, f"stranger {person}", "left"))
    honest = evaluate(read_dataset(folder), model)
    assert honest.figures["n_recordings"] == 12
    assert "overlap" in {one.code for one in honest.cautions}
    told = evaluate(read_dataset(folder), model, allow_overlap=True)
    assert told.figures["n_recordings"] == 12 + 18
    seen = evaluate(read_dataset(write_people(tmp_path / "seen", people=3)), model)
    assert seen.figures["n_recordings"] == 0
    assert seen.figures["balanced_accuracy"] is None
    json.dumps(seen.document(), allow_nan=False)
    evaluation_page(seen)


def test_a_known_person_is_left_out_in_new_recordings_too(
    model: Classifier, tmp_path: Path
) -> None:
    again = write_people(tmp_path / "again", people=4, each=1, seed=77)
    result = evaluate(read_dataset(again), model)
    assert {row.name for row in result.groups} == {"person 3"}


def test_labels_the_model_does_not_know(model: Classifier, strangers: Path, tmp_path: Path) -> None:
    table = (strangers / "manifest.csv").read_text()
    some = tmp_path / "some.csv"
    lines = table.replace("p", str(strangers / "p"), 0).splitlines()
    rows = [lines[0], *(f"{strangers}/{line}" for line in lines[1:])]
    some.write_text("\n".join(rows).replace(",tick,", ",snap,") + "\n")
    result = evaluate(read_dataset(some), model)
    assert result.figures["n_recordings"] == 8
    assert any(one.code == "unknown_label" and "snap" in one.text for one in result.cautions)
    some.write_text("\n".join([rows[0], rows[1].replace(",clunk,", ",snap,")]) + "\n")
    with pytest.raises(RefusedError, match="clunk, rasp, tick"):
        evaluate(read_dataset(some), model)
    with pytest.raises(RefusedError, match="'mood'"):
        evaluate(read_dataset(strangers), model, by=("mood",))


def test_the_command(
    model: Classifier,
    strangers: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from audio_pipeline.model.classifier import save_classifier

    save_classifier(model, tmp_path / "model")
    page = tmp_path / "evaluation.html"
    for extra in (["--json", "--report", str(page)], []):
        with pytest.raises(SystemExit) as done:
            main(["evaluate", str(strangers), "--model", str(tmp_path / "model"), *extra])
        assert done.value.code == 0
        out = capsys.readouterr().out
        if extra:
            assert json.loads(out)["metrics"]["n_groups"] == 4
            assert page.read_text().startswith("<!doctype html>")
        else:
            assert "Balanced accuracy" in out
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(strangers), "--model", str(tmp_path / "nothing")])
    assert done.value.code == 2
    broken = tmp_path / "broken.csv"
    good = next(strangers.glob("*clunk*"))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    broken.write_text(f"file,label\n{good},clunk\nbad.wav,tick\n")
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(broken), "--model", str(tmp_path / "model"), "--json"])
    assert done.value.code == 1, "a recording failed"
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert (figures["n_recordings"], figures["coverage"]) == (2, 0.5)
