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
from hypothesis import given
from hypothesis import strategies as st
from made_sounds import background, with_impacts
from spoken_cases import JOINTS, case_of, extraction, speaker

from audio_pipeline.analysis.events import reasons
from audio_pipeline.analysis.pipeline import Extraction
from audio_pipeline.app.cli import main
from audio_pipeline.app.reporting.model_card import evaluation_text
from audio_pipeline.app.reporting.pages import evaluation_page
from audio_pipeline.audio.quality import QualityConfig, QualityMeter
from audio_pipeline.audio.recording import read_recording
from audio_pipeline.datasets.examples import AnnotatedRecording, Example
from audio_pipeline.datasets.manifest import FAR_KINDS, NEAR_KINDS, Region, read_dataset
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.breakdown import (
    MEASURED_SNR,
    OUTCOMES,
    SOUNDS,
    column_values,
    kinds_table,
    measured_snr,
    outcome,
    score_events,
    score_findings,
)
from audio_pipeline.model.classifier import Classifier, load_classifier
from audio_pipeline.model.evaluation import Evaluation, analyze_annotated, evaluate
from audio_pipeline.model.scoring import (
    FIGURES,
    answer_of,
    predict_cases,
    prediction_table,
)
from audio_pipeline.model.selection import TrainingSettings
from audio_pipeline.model.training import train
from audio_pipeline.segmentation.segment import Segment
from tests.labelled_sounds import LABELS, write_people


def _figures(cases: Sequence[Example]) -> dict[str, float]:
    predictions = predict_cases(cases, speaker())
    table = prediction_table(predictions, JOINTS, np.array([case.group for case in cases]))
    return {name: figure(table) for name, figure in FIGURES.items()}


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
        case_of("pop", ["pop"]),
        case_of("pop", ["pop", "pop"]),
        case_of("pop", ["grating"]),
        case_of("pop", ["unsure"]),
        case_of("grating", ["grating"]),
        case_of("grating", ["pop", "grating"]),
        case_of("other", ["other"]),
        case_of("other", []),
        case_of("other", ["pop", "pop"]),
        case_of("other", ["other", "other"]),
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


def _of_kind(kind: str, case: Example, **columns: str) -> Example:
    return replace(case, columns={"kind": kind, **columns})


def test_every_kind_of_a_label_weighs_alike() -> None:
    cases = [
        *(_of_kind("key", case_of("other", ["pop"])) for _ in range(9)),
        _of_kind("zip", case_of("other", ["other"])),
        _of_kind("snap", case_of("pop", ["pop"])),
        _of_kind("egg", case_of("pop", ["unsure"])),
    ]
    figures = _figures(cases)
    assert figures["balanced_accuracy"] == pytest.approx((1 / 2 + 1) / 2)
    assert figures["coverage"] == pytest.approx(3 / 4)
    assert figures["pops_found"] == pytest.approx(1 / 2)
    assert figures["pop_precision"] == pytest.approx(1 / 2)
    assert figures["false_joint_recordings"] == pytest.approx(1 / 2)
    alike = _figures([replace(case, columns={}) for case in cases])
    assert alike["balanced_accuracy"] == pytest.approx((1 / 10 + 1) / 2)
    assert alike["pop_precision"] == pytest.approx(1 / 10)


@given(st.lists(st.sampled_from(["pop", "grating", "other", "unsure"]), min_size=1, max_size=6))
def test_more_of_a_kind_changes_nothing_but_the_auc(said: list[str]) -> None:
    cases = [_of_kind(f"kind {n}", case_of("other", [word])) for n, word in enumerate(said)]
    cases += [
        _of_kind("snap", case_of("pop", ["pop"])),
        _of_kind("saw", case_of("grating", ["pop"])),
    ]
    once, often = _figures(cases), _figures([*cases, *cases[:1] * 5])
    apart = {"auc", "ece", "brier"} | {name for name in once if name.endswith("per_minute")}
    for name in set(once) - apart:
        assert once[name] == pytest.approx(often[name], nan_ok=True), name


def test_sounds_near_a_person_are_told_from_far_ones() -> None:
    assert not NEAR_KINDS & FAR_KINDS
    cases = [
        _of_kind("key", case_of("other", ["pop"])),
        _of_kind("zip", case_of("other", ["other"])),
        _of_kind("fire", case_of("other", ["grating"])),
        _of_kind("lava", case_of("other", ["grating"])),
        _of_kind("dog", case_of("other", ["grating"]), near="yes"),
        _of_kind("door", case_of("other", ["pop"]), near="no"),
    ]
    figures = _figures(cases)
    assert figures["near_false_pops"] == pytest.approx(1 / 3)
    assert figures["near_false_gratings"] == pytest.approx(1 / 3)
    assert figures["far_false_gratings"] == pytest.approx(1 / 2)
    assert figures["far_false_pops"] == pytest.approx(1 / 2)
    table = prediction_table(predict_cases(cases, speaker()), JOINTS, np.array(["g"] * 6))
    rows = {row["kind"]: row for row in kinds_table(table, cases)}
    assert rows["fire"]["taken_for"] == {"grating": 1.0, "other": 0.0, "pop": 0.0, "unsure": 0.0}
    assert [rows[kind]["near"] for kind in ("key", "fire", "lava", "dog")] == [1, 0, None, 1]


def test_findings_of_whole_recordings() -> None:
    assert outcome("single_pop", "repeated_pops") == "right"
    assert outcome("nothing_recognised", "nothing_recognised") == "right"
    assert outcome("mixed", "grating") == "partly"
    assert outcome("grating", "nothing_recognised") == "missed"
    assert outcome("single_pop", "mixed") == outcome("single_pop", "grating") == "wrong"
    for expected in SOUNDS:
        assert outcome(expected, expected) == "right"
        assert outcome(expected, "uncertain") == outcome(expected, "unusable") == "uncertain"
    said = {"single_pop": ["pop"], "grating": ["unsure"], "nothing_recognised": ["grating"]}
    recordings = [
        ({"finding": finding, "group": finding, "take_snr": "12"}, one.analysis)
        for finding, words in said.items()
        for one in predict_cases([case_of("other", words)], speaker())
    ]
    scores = score_findings([*recordings, ({}, recordings[0][1])])
    assert scores is not None
    assert scores.total.count == 3
    assert scores.total.false_grating == 1 / 2
    assert sum(scores.total.shares.values()) == pytest.approx(1)
    assert {name: share * 3 for name, share in scores.total.shares.items() if share} == (
        pytest.approx({"right": 1, "uncertain": 1, "wrong": 1})
    )
    assert [row.name for row in scores.by["take_snr"]] == ["10 to 20"]
    assert set(scores.to_dict()) >= {*OUTCOMES, "right_low", "false_grating"}
    assert score_findings([({}, recordings[0][1])]) is None


def test_failed_recordings_count_as_errors_when_strict() -> None:
    failed = Extraction("y.wav", "failed", "broken", None, None, None, (), extraction([]).table)
    cases = [
        case_of("pop", ["pop"]),
        case_of("other", ["other"]),
        Example("y.wav", "other", "g", failed, failed.table),
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
    heard = AnnotatedRecording("x.wav", extraction(said, found), truth, (case_of("pop", said),))
    scores = {one.label: one for one in score_events(analyze_annotated([heard], speaker()), JOINTS)}
    assert scores["pop"].onset_20ms.f1 == pytest.approx(2 * 1 / 6)
    assert scores["pop"].onset_50ms.f1 == pytest.approx(2 * 2 / 6)
    assert scores["grating"].overlap.f1 == 1.0
    assert "other" not in scores
    assert score_events(analyze_annotated([replace(heard, regions=())], speaker()), JOINTS) == []


def test_many_numbers_are_reported_in_steps() -> None:
    cases = [case_of("pop", ["pop"]) for _ in range(30)]
    cases = [replace(case, columns={"snr": str(n - 5)}) for n, case in enumerate(cases)]
    values = column_values(cases, "snr")
    assert values[0] == "-10 to 0"
    assert values[5] == "0 to 10"
    assert set(column_values(cases, "absent")) == {""}


def test_sounds_that_stand_out_more_are_reported_apart() -> None:
    meters = {}
    for peak in (0.03, 0.3):
        sound = with_impacts(background("white", 3.0, 22_050), [1.5], 22_050, peak=peak)
        meters[peak] = QualityMeter(22_050, QualityConfig())
        meters[peak].update(sound)
    cases = [
        replace(case, extraction=replace(case.extraction, quality=meter.result([(1.49, 1.52)])))
        for meter in meters.values()
        for case in [case_of("pop", ["pop"])]
    ]
    faint, clear = (int(name.split(" to ")[0]) for name in measured_snr(cases))
    assert clear >= faint + 10
    assert measured_snr([case_of("pop", [])]) == [""]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("evaluate")
    data = read_dataset(write_people(folder / "data", people=3))
    params = {"n_estimators": 8, "min_samples_leaf": 3}
    train(data, folder / "model", settings=TrainingSettings(params=params, inner_folds=2, folds=2))
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
    document = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
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
    assert document["model"]["sha256"] == evaluation.sha256


def test_rows_in_doubt_are_shown_beside_the_headline(
    model: Classifier, strangers: Path, evaluation: Evaluation
) -> None:
    rows = (strangers / "manifest.csv").read_text().splitlines()
    marked = strangers / "marked.csv"
    doubt = ["doubt", *("yes" if "stranger 3" in row else "" for row in rows[1:])]
    marked.write_text("\n".join(f"{row},{one}" for row, one in zip(rows, doubt, strict=True)))
    result = evaluate(str(marked), model)
    assert result.figures["n_recordings"] == 9
    assert result.doubtful["n_recordings"] == 3
    assert "stranger 3" not in {row["group"] for row in result.recordings}
    clear = evaluate(read_dataset(marked).where({"doubt": ""}), model)
    assert clear.figures["balanced_accuracy"] == result.figures["balanced_accuracy"]
    assert evaluation.doubtful["n_recordings"] == 0
    with pytest.raises(InvalidInputError, match="no column 'mood'"):
        read_dataset(marked).where({"mood": "glad"})
    with pytest.raises(InvalidInputError, match="doubt=perhaps"):
        read_dataset(marked).where({"doubt": "perhaps"})
    by_label = read_dataset(marked).where({"label": "tick", "group": "stranger 1"})
    assert {clip.name for clip in by_label.clips} == {"p1_tick_0.wav"}


def test_the_page_needs_nothing_else(evaluation: Evaluation) -> None:
    page = evaluation_page(evaluation)
    assert "stranger 2" in page
    assert page.count("<svg") >= 4

    class Links(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            for name, value in attrs:
                assert name not in {"src", "href"} or str(value).startswith("data:"), (tag, value)

    Links().feed(page)


@pytest.mark.slow
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
    assert "overlap" in {one.code for one in honest.data_warnings}
    told = evaluate(read_dataset(folder), model, allow_overlap=True)
    assert told.figures["n_recordings"] == 12 + 18
    seen = evaluate(read_dataset(write_people(tmp_path / "seen", people=3)), model)
    assert seen.figures["n_recordings"] == 0
    assert seen.figures["balanced_accuracy"] is None
    json.dumps(seen.to_dict(), allow_nan=False)
    evaluation_page(seen)


def test_why_nothing_is_left_to_measure_comes_first(model: Classifier, tmp_path: Path) -> None:
    seen = evaluate(read_dataset(write_people(tmp_path / "seen", people=3, each=1)), model)
    assert seen.figures["n_recordings"] == 0
    first, then, why, *rest = evaluation_text(seen).splitlines()
    assert "was not trained on" in first
    assert then == "Nothing is left to measure on:"
    assert "were used to make the model" in why
    assert "--allow-overlap" in why
    assert all(line.startswith("Warning") for line in rest), "no table of nothing"


def test_a_result_says_in_short_what_it_is(model: Classifier, evaluation: Evaluation) -> None:
    for one in (model, evaluation):
        assert len(repr(one)) < 300
        assert "\n" not in repr(one)
        assert repr(model.name) in repr(one)
    assert repr(evaluation.figures["n_recordings"]) in repr(evaluation)


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
    result = evaluate(read_dataset(some, allow_outside=True), model)
    assert result.figures["n_recordings"] == 8
    assert any(one.code == "unknown_label" and "snap" in one.text for one in result.data_warnings)
    some.write_text("\n".join([rows[0], rows[1].replace(",clunk,", ",snap,")]) + "\n")
    with pytest.raises(InvalidInputError, match="clunk, rasp, tick"):
        evaluate(read_dataset(some, allow_outside=True), model)
    with pytest.raises(InvalidInputError, match="'mood'"):
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
    only = ["--where", "side=right"]
    for extra in (["--json", "--report", str(page)], only):
        with pytest.raises(SystemExit) as done:
            main(["evaluate", str(strangers), "--model", str(tmp_path / "model"), *extra])
        assert done.value.code == 0
        out = capsys.readouterr().out
        if "--json" in extra:
            assert json.loads(out)["metrics"]["n_groups"] == 4
            assert page.read_text().startswith("<!doctype html>")
        else:
            assert "Balanced accuracy" in out
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(strangers), "--model", str(tmp_path / "nothing")])
    assert done.value.code == 2
    broken, outside = tmp_path / "broken.csv", ["--allow-outside", "--json"]
    good = next(strangers.glob("*clunk*"))
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    broken.write_text(f"file,label\n{good},clunk\nbad.wav,tick\n")
    with pytest.raises(SystemExit) as done:
        main(["evaluate", str(broken), "--model", str(tmp_path / "model"), *outside])
    assert done.value.code == 1, "a recording failed"
    figures = json.loads(capsys.readouterr().out)["metrics"]
    assert (figures["n_recordings"], figures["coverage"]) == (2, 0.5)


def test_a_model_without_pops_says_nothing_about_them() -> None:
    segment = Segment(0.0, 0.2, (0.0,))
    row = np.full(len(FEATURE_NAMES), 5.0, np.float32)
    with_pops = " ".join(reasons(segment, row, "pop", False))
    without = " ".join(reasons(segment, row, "clunk", False, ("clunk", "rasp")))
    assert "pops" in with_pops
    assert "pop" not in without
