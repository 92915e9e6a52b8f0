"""Model folders: saved whole, read back the same, refused when anything is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.tree import DecisionTreeClassifier

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.classifier import Classifier, load_classifier, save_classifier
from audio_pipeline.model.estimator import make_classifier

LABELS = ("grating", "other", "pop")


@pytest.fixture(scope="module")
def rows() -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).normal(size=(80, len(FEATURE_NAMES))).astype(np.float32)


@pytest.fixture(scope="module")
def classifier(rows: np.ndarray[Any, Any]) -> Classifier:
    labels = np.array(LABELS)[np.digitize(rows[:, 0], [-0.5, 0.5])]
    forest = make_classifier(n_estimators=3)
    estimator = CalibratedClassifierCV(forest, method="temperature", cv=3, ensemble=False)
    return Classifier(
        "small",
        LABELS,
        FEATURE_NAMES,
        AnalysisConfig(),
        {"grating": 0.8, "other": 0.5, "pop": 0.7},
        estimator.fit(rows, labels),
        {"training": {"digest": "0" * 64}},
    )


@pytest.fixture
def folder(classifier: Classifier, tmp_path: Path) -> Path:
    save_classifier(classifier, tmp_path / "model", {"CARD.md": b"# Model card\n"})
    return tmp_path / "model"


def test_is_read_back_as_it_was(
    classifier: Classifier, folder: Path, rows: np.ndarray[Any, Any]
) -> None:
    loaded = load_classifier(folder)
    assert (loaded.name, loaded.labels, loaded.settings) == ("small", LABELS, AnalysisConfig())
    assert dict(loaded.thresholds) == dict(classifier.thresholds)
    np.testing.assert_array_equal(loaded.predict_proba(rows), classifier.predict_proba(rows))
    assert loaded.sha256 == hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()
    assert loaded.description["training"] == {"digest": "0" * 64}


def test_probabilities_sum_to_one_and_no_segment_gives_none(
    classifier: Classifier, rows: np.ndarray[Any, Any]
) -> None:
    np.testing.assert_allclose(classifier.predict_proba(rows).sum(axis=1), 1.0)
    assert classifier.predict_proba(rows[:0]).shape == (0, 3)
    np.testing.assert_array_equal(
        classifier.predict_proba(rows[4:5])[0], classifier.predict_proba(rows)[4]
    )


def test_columns_of_a_data_frame_go_by_their_names(
    classifier: Classifier, rows: np.ndarray[Any, Any]
) -> None:
    frame = pd.DataFrame(rows, columns=list(FEATURE_NAMES))
    expected = classifier.predict_proba(rows)
    assert np.array_equal(classifier.predict_proba(frame), expected)
    turned = frame[frame.columns[::-1]].assign(more="words")
    assert np.array_equal(classifier.predict_proba(turned), expected)
    needed = classifier.feature_names[3]
    with pytest.raises(InvalidInputError, match=needed):
        classifier.predict_proba(frame.drop(columns=needed))


def test_the_same_model_is_the_same_bytes(classifier: Classifier, tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_classifier(classifier, tmp_path / name)
    for file in ("model.json", "estimator.skops"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_is_never_written_over_anything(classifier: Classifier, folder: Path) -> None:
    before = sorted(path.read_bytes() for path in folder.iterdir())
    with pytest.raises(InvalidInputError, match="already exists"):
        save_classifier(classifier, folder)
    assert sorted(path.read_bytes() for path in folder.iterdir()) == before


def test_an_empty_folder_is_filled(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    assert save_classifier(classifier, tmp_path / "new").name == "small"
    assert [path.name for path in tmp_path.iterdir()] == ["new"], "nothing is left beside it"


def test_what_is_no_model_folder_is_told_from_a_broken_one(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for where in (tmp_path / "nowhere", tmp_path / "empty", folder / "model.json"):
        with pytest.raises(InvalidInputError, match=r"is no model folder .*crepitus train"):
            load_classifier(where)
    (folder / "model.json").unlink()
    os.symlink(tmp_path / "nowhere", folder / "model.json")
    with pytest.raises(InvalidInputError, match="regular file"):
        load_classifier(folder)


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _replace_estimator(folder: Path) -> None:
    tree = DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
    data = skops.io.dumps(tree)
    (folder / "estimator.skops").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    _edit(folder, lambda document: document["files"].update({"estimator.skops": digest}))


def _append(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        with (folder / name).open("ab") as file:
            file.write(b" ")

    return spoil


SPOILED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no model.json": (lambda f: (f / "model.json").unlink(), "model.json"),
    "no estimator": (lambda f: (f / "estimator.skops").unlink(), "estimator.skops"),
    "no card": (lambda f: (f / "CARD.md").unlink(), "CARD.md"),
    "altered estimator": (_append("estimator.skops"), "altered"),
    "altered card": (_append("CARD.md"), "altered"),
    "another estimator": (_replace_estimator, "other labels"),
    "not JSON": (lambda f: (f / "model.json").write_text("{"), "not JSON"),
    "a list": (lambda f: (f / "model.json").write_text("[]"), "schema_version"),
    "deep JSON": (lambda f: (f / "model.json").write_text("[" * 100_000), "not JSON"),
    "newer schema": (lambda f: _edit(f, lambda d: d.update(schema_version=3)), "schema_version"),
    "schema as text": (lambda f: _edit(f, lambda d: d.update(schema_version="1")), "schema_ver"),
    "no labels": (lambda f: _edit(f, lambda d: d.pop("labels")), "labels"),
    "other labels": (lambda f: _edit(f, lambda d: d.update(labels=["a", "b", "c"])), "'a'"),
    "swapped labels": (lambda f: _edit(f, lambda d: d["labels"].reverse()), "sorted"),
    "no files": (lambda f: _edit(f, lambda d: d.update(files={})), "estimator.skops"),
    "a path outside": (
        lambda f: _edit(f, lambda d: d["files"].update({"../secret": "0"})),
        "plain file name",
    ),
    "unknown setting": (lambda f: _edit(f, lambda d: d["settings"].update(extra=1)), "extra"),
    "a threshold of 2": (lambda f: _edit(f, lambda d: d["thresholds"].update(pop=2.0)), "thresh"),
    "renamed feature": (
        lambda f: _edit(f, lambda d: d["feature_names"].__setitem__(0, "loudness")),
        "loudness",
    ),
    "fewer features": (lambda f: _edit(f, lambda d: d["feature_names"].pop()), "features"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_folder_is_refused_in_one_line(name: str, folder: Path) -> None:
    spoil, message = SPOILED[name]
    spoil(folder)
    with pytest.raises(InvalidInputError, match=message) as refusal:
        load_classifier(folder)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 2


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="nowhere"):
        load_classifier(tmp_path / "nowhere")


@pytest.mark.slow
def test_neither_librosa_nor_skops_is_imported_to_classify(folder: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from audio_pipeline.model.classifier import load_classifier\n"
        f"model = load_classifier({str(folder)!r})\n"
        "model.predict_proba(np.zeros((2, len(model.feature_names))))\n"
        "assert not {'librosa', 'skops'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_file_is_what_skops_reads(folder: Path, rows: np.ndarray[Any, Any]) -> None:
    file = folder / "estimator.skops"
    theirs = skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file))
    ours = load_classifier(folder).estimator
    np.testing.assert_array_equal(theirs.predict_proba(rows), ours.predict_proba(rows))
    assert repr(theirs) == repr(ours)
    assert ours.classes_.tolist() == list(LABELS)


def test_a_model_may_take_some_of_the_features(rows: np.ndarray[Any, Any], tmp_path: Path) -> None:
    names = FEATURE_NAMES[5:1:-1]
    columns = [FEATURE_NAMES.index(name) for name in names]
    labels = np.array(LABELS)[np.digitize(rows[:, 3], [-0.5, 0.5])]
    estimator = make_classifier(n_estimators=3).fit(rows[:, columns], labels)
    thresholds = dict.fromkeys(LABELS, 0.5)
    model = Classifier("some", LABELS, names, AnalysisConfig(), thresholds, estimator)
    saved = save_classifier(model, tmp_path / "some")
    np.testing.assert_array_equal(
        load_classifier(tmp_path / "some").predict_proba(rows),
        estimator.predict_proba(rows[:, columns]),
    )
    assert saved.predict_proba(rows).shape == (80, 3)


def test_another_minor_version_of_scikit_learn_is_said(folder: Path) -> None:
    def age(document: dict[str, Any]) -> None:
        document["versions"] = {"scikit-learn": "1.2.0"}

    _edit(folder, age)
    with pytest.warns(UserWarning, match=r"made with scikit-learn 1\.2\.0.*train it again"):
        load_classifier(folder)


def test_the_next_training_clears_what_a_killed_one_left(
    classifier: Classifier, tmp_path: Path
) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead, odd = tmp_path / f".model-{finished.pid}-x", tmp_path / ".model-abcd"
    alive, theirs = tmp_path / f".model-{os.getpid()}-x", tmp_path / ".model-zoo"
    for folder in (dead, odd, alive):
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "estimator.skops").write_bytes(b"half")
    theirs.mkdir()
    (theirs / "notes.txt").write_text("mine")
    save_classifier(classifier, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [alive.name, theirs.name, "new"]
    )


def test_a_model_that_cannot_be_saved_leaves_nothing(
    classifier: Classifier, tmp_path: Path
) -> None:
    for wrong in (
        replace(classifier, estimator=object()),
        replace(classifier, labels=("a", "b", "c")),
        replace(classifier, thresholds={"grating": 2.0, "other": 0.5, "pop": 0.5}),
        replace(classifier, feature_names=FEATURE_NAMES[:5]),
    ):
        with pytest.raises(InvalidInputError):
            save_classifier(wrong, tmp_path / "model")
        assert not list(tmp_path.iterdir())
