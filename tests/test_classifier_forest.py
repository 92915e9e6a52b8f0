"""The forest as arrays: equal to scikit-learn, independent of batches, safe against made files."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.fit import FitSettings, balanced_weights, fit_forest, pack_trees
from audio_pipeline.model.forest import (
    TRUSTED_TYPES,
    Forest,
    load_forest,
    read_forest,
    write_forest,
)

CLASSES = ["grating", "other", "pop"]


@pytest.fixture(scope="module")
def table() -> NDArray[np.float32]:
    return np.random.default_rng(1).normal(size=(700, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def labels(table: NDArray[np.float32]) -> NDArray[np.str_]:
    score = table[:, 0] + 0.5 * np.abs(table[:, 1])
    return np.array(CLASSES)[np.digitize(score, [-0.3, 0.9])]


@pytest.fixture(scope="module")
def forest(table: NDArray[np.float32], labels: NDArray[np.str_]) -> Forest:
    fit = FitSettings(trees=15, forest_leaf=5, extra_leaf=5, jobs=1)
    return fit_forest(table, labels, np.ones(len(labels)), CLASSES, fit, seed=3)


@pytest.mark.parametrize("kind", [RandomForestClassifier, ExtraTreesClassifier])
def test_gives_the_probabilities_of_scikit_learn(
    kind: Any, table: NDArray[np.float32], labels: NDArray[np.str_]
) -> None:
    grown = kind(20, min_samples_leaf=2, random_state=0).fit(table[:400], labels[:400])
    packed = pack_trees(
        [tree.tree_ for tree in grown.estimators_], np.arange(3), CLASSES, table.shape[1]
    )
    # Values halfway between two rows are where thresholds lie: the hardest case for rounding.
    between = (table[:399] + table[1:400]) / 2
    for rows in (table, between, table * 1000):
        np.testing.assert_allclose(packed.predict_proba(rows), grown.predict_proba(rows), atol=1e-6)


def test_a_row_does_not_depend_on_its_neighbours(
    forest: Forest, table: NDArray[np.float32]
) -> None:
    together = forest.predict_proba(table)
    assert len(table) > 300, "both ways of walking the trees must be taken"
    for row in (0, 7, 699):
        np.testing.assert_array_equal(forest.predict_proba(table[row : row + 1])[0], together[row])
    np.testing.assert_array_equal(forest.predict_proba(table[100:250]), together[100:250])
    np.testing.assert_allclose(together.sum(axis=1), 1.0)


def test_no_row_gives_no_probability(forest: Forest) -> None:
    assert forest.predict_proba(np.empty((0, 9), np.float32)).shape == (0, 3)


def test_a_table_of_another_width_is_an_error(forest: Forest) -> None:
    with pytest.raises(ValueError, match="9 features"):
        forest.predict_proba(np.zeros((2, 8), np.float32))


def test_missing_and_infinite_values_are_answered(forest: Forest) -> None:
    rows = np.full((3, 9), np.nan, np.float32)
    rows[1], rows[2] = np.inf, -np.inf
    assert np.isfinite(forest.predict_proba(rows)).all()


def test_a_class_without_events_gets_no_probability(table: NDArray[np.float32]) -> None:
    labels = np.where(table[:, 0] > 0, "pop", "other")
    fit = FitSettings(trees=3, jobs=1)
    forest = fit_forest(table, labels, np.ones(len(labels)), CLASSES, fit, seed=0)
    assert forest.classes_.tolist() == CLASSES
    assert forest.predict_proba(table)[:, 0].max() == 0.0


def test_the_same_seed_gives_the_same_bytes(
    forest: Forest, table: NDArray[np.float32], labels: NDArray[np.str_]
) -> None:
    fit = FitSettings(trees=15, forest_leaf=5, extra_leaf=5, jobs=2)
    again = fit_forest(table, labels, np.ones(len(labels)), CLASSES, fit, seed=3)
    other = fit_forest(table, labels, np.ones(len(labels)), CLASSES, fit, seed=4)
    assert write_forest(forest) == write_forest(again)
    assert write_forest(forest) != write_forest(other)


def test_weights_balance_the_classes() -> None:
    labels = np.array(["a"] * 9 + ["b"])
    balanced = balanced_weights(labels, np.ones(10), ["a", "b", "c"])
    assert balanced[:9].sum() == pytest.approx(balanced[9])
    assert balanced.mean() == pytest.approx(1.0)


def test_skops_and_the_direct_reader_give_the_same(
    forest: Forest, table: NDArray[np.float32], tmp_path: Any
) -> None:
    path = tmp_path / "estimator.skops"
    path.write_bytes(write_forest(forest))
    assert skops.io.get_untrusted_types(file=path) == list(TRUSTED_TYPES)
    through_skops, directly = load_forest(path), read_forest(path.read_bytes())
    np.testing.assert_array_equal(through_skops.predict_proba(table), directly.predict_proba(table))
    assert directly.predict(table).tolist() == through_skops.predict(table).tolist()


def test_another_estimator_is_refused_and_never_built() -> None:
    model = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    with pytest.raises(InvalidInputError, match="LogisticRegression"):
        read_forest(skops.io.dumps(model))


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"\x80\x04N.", b"PK\x03\x04" + b"a" * 99])
def test_what_is_no_skops_file_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_forest(content)


def _repacked(data: bytes, change: Any) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    change(members)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return target.getvalue()


def test_a_schema_that_names_anything_else_is_refused(forest: Forest) -> None:
    def rename(members: dict[str, bytes]) -> None:
        schema = json.loads(members["schema.json"])
        schema["__module__"], schema["__class__"] = "subprocess", "Popen"
        members["schema.json"] = json.dumps(schema).encode()

    with pytest.raises(InvalidInputError, match=r"subprocess\.Popen"):
        read_forest(_repacked(write_forest(forest), rename))


def test_a_header_that_promises_more_than_there_is_takes_no_memory(forest: Forest) -> None:
    def boast(members: dict[str, bytes]) -> None:
        stream = io.BytesIO()
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)}
        np.lib.format.write_array_header_1_0(stream, header)
        members.update({name: stream.getvalue() for name in members if name.endswith(".npy")})

    with pytest.raises(InvalidInputError, match="header"):
        read_forest(_repacked(write_forest(forest), boast))


def test_a_pickle_inside_is_refused(forest: Forest) -> None:
    def sneak(members: dict[str, bytes]) -> None:
        stream = io.BytesIO()
        np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
        members.update({name: stream.getvalue() for name in members if name.endswith(".npy")})

    with pytest.raises(InvalidInputError):
        read_forest(_repacked(write_forest(forest), sneak))


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["feature", "threshold", "value", "nodes_per_tree", "n_features"]),
    st.integers(0, 10_000),
    st.integers(-40_000, 40_000),
)
def test_changed_nodes_are_refused_or_stay_inside(name: str, place: int, value: int) -> None:
    """Whatever a file says about its nodes, walking them ends and stays within the arrays."""
    state = {key: array.copy() for key, array in _SMALL.__getstate__().items()}
    array = state[name].reshape(-1)
    array[place % array.size] = np.asarray(value).astype(array.dtype)
    changed = object.__new__(Forest)
    try:
        changed.__setstate__(state)
    except ValueError:
        return
    rows = np.zeros((2, changed.n_features_in_), np.float32)
    answered = changed.predict_proba(rows)
    assert np.isfinite(answered).all()


def _small() -> Forest:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 3)).astype(np.float32)
    labels = np.where(rows[:, 0] + rows[:, 1] > 0, "a", "b")
    fit = FitSettings(trees=2, forest_leaf=2, extra_leaf=2, jobs=1)
    return fit_forest(rows, labels, np.ones(60), ["a", "b"], fit, 0)


_SMALL = _small()
