"""Forged models: refused in one line, quickly, in little memory, and nothing they name is run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import random
import resource
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.tree._tree import NODE_DTYPE

from audio_pipeline.analysis.config import AnalysisConfig
from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.features.transformer import FEATURE_NAMES
from audio_pipeline.model.classifier import Classifier, load_classifier, save_classifier
from audio_pipeline.model.estimator import make_classifier

LABELS = ("grating", "other", "pop")
_ROWS = np.random.default_rng(5).normal(size=(90, len(FEATURE_NAMES))).astype(np.float32)
_NAMES = np.array(LABELS)[np.digitize(_ROWS[:, 0], [-0.5, 0.5])]


def _saved(estimator: Any, folder: Path) -> Path:
    thresholds = dict.fromkeys(LABELS, 0.5)
    model = Classifier("m", LABELS, FEATURE_NAMES, AnalysisConfig(), thresholds, estimator)
    save_classifier(model, folder, {"CARD.md": b"# Card\n"})
    return folder


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pipeline = make_classifier(n_estimators=3)
    calibrated = CalibratedClassifierCV(pipeline, method="temperature", cv=3, ensemble=False)
    return _saved(calibrated.fit(_ROWS, _NAMES), tmp_path_factory.mktemp("forest") / "m")


@pytest.fixture
def model(forest: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for path in forest.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def _document(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return document


def _put(folder: Path, document: dict[str, Any]) -> None:
    (folder / "model.json").write_text(json.dumps(document))


def _put_estimator(folder: Path, data: bytes) -> None:
    """Replace the estimator, with a hash that agrees: the forger writes both files."""
    (folder / "estimator.skops").write_bytes(data)
    document = _document(folder)
    document["files"]["estimator.skops"] = hashlib.sha256(data).hexdigest()
    _put(folder, document)


def _members(folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / "estimator.skops") as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def _packed(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return target.getvalue()


def _refused(folder: Path, match: str | None = None) -> str:
    """Load, which must be refused in one short line, in little memory and time."""
    tracemalloc.start()
    begun = time.process_time()
    try:
        with pytest.raises(InvalidInputError, match=match) as refusal:
            load_classifier(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    text = str(refusal.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 1000
    assert refusal.value.exit_code == 2
    assert peak < 300 << 20
    assert time.process_time() - begun < 20
    return text


# --- files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.json", "estimator.skops", "CARD.md"])
@pytest.mark.parametrize("kind", ["fifo", "endless", "link"])
def test_only_regular_files_are_opened(name: str, kind: str, model: Path, tmp_path: Path) -> None:
    path = model / name
    path.rename(tmp_path / "moved")
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "endless" else tmp_path / "moved")
    _refused(model, "not a regular file")


def test_more_files_than_a_model_has(model: Path) -> None:
    document = _document(model)
    for number in range(200):
        (model / f"plot{number}.svg").write_bytes(b"x")
        document["files"][f"plot{number}.svg"] = hashlib.sha256(b"x").hexdigest()
    _put(model, document)
    _refused(model, "40 at most")


@pytest.mark.parametrize("name", ["model.json", "estimator.skops", "CARD.md"])
def test_large_files_are_not_read(name: str, model: Path) -> None:
    with (model / name).open("r+b") as file:
        file.truncate(1 << 33)
    _refused(model, "larger than")


# --- model.json ------------------------------------------------------------------------------


def _set(*path: Any) -> Callable[[dict[str, Any], Any], None]:
    def change(document: dict[str, Any], value: Any) -> None:
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


ODD: list[Any] = [None, True, -1, 0, 2**31 - 1, 1e308, -1e308, "", "x" * 10**6, [], {}, [[]], 0.5]
TEXTS = ["", "x" * 10**6, "two\nlines", "\x1b]0;title\x07", "\u202egnp.exe", 7, None, [], ["a"]]


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_labels_and_names_are_short_lines_of_text(text: Any, model: Path) -> None:
    for key in ("labels", "feature_names"):
        document = _document(model)
        document[key][0] = text
        _put(model, document)
        _refused(model)
    document = {**_document(model), "labels": list(LABELS), "feature_names": list(FEATURE_NAMES)}
    if text != "":
        _put(model, {**document, "name": text})
        _refused(model, "name")


def test_every_number_of_the_settings_has_a_range(model: Path) -> None:
    whole = _document(model)
    places: list[tuple[str, ...]] = []

    def walk(value: Any, path: tuple[str, ...]) -> None:
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, (*path, key))
        else:
            places.append(path)

    walk(whole["settings"], ("settings",))
    assert len(places) > 30
    for path in places:
        for odd in (2**31 - 1, -(2**40), 1e308, float("nan"), float("inf"), [1.0] * 500, None):
            document = json.loads(json.dumps(whole))
            _set(*path)(document, odd)
            _put(model, document)
            _refused(model)


@pytest.mark.parametrize("odd", [*ODD, float("nan")], ids=lambda odd: repr(odd)[:20])
def test_other_values_of_other_kinds(odd: Any, model: Path) -> None:
    whole = _document(model)
    for path in (
        ("schema_version",),
        ("labels",),
        ("feature_names",),
        ("files",),
        ("files", "estimator.skops"),
        ("settings",),
        ("settings", "segmentation"),
        ("thresholds",),
        ("thresholds", "pop"),
    ):
        if path == ("thresholds", "pop") and odd in (0, 0.5) and odd is not False:
            continue
        document = json.loads(json.dumps(whole))
        _set(*path)(document, odd)
        _put(model, document)
        _refused(model)


def test_deep_and_wide_json(model: Path) -> None:
    for text in ("[" * 10**6, '{"a":' * 10**6, "[" + "[]," * 10**6 + "[]]", "[" + "9" * 5000 + "]"):
        (model / "model.json").write_text(text)
        _refused(model)


# --- estimator.skops -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_directory_that_lies_about_sizes(model: Path) -> None:
    members = _members(model)
    name = next(name for name in members if name.endswith(".npy"))
    members[name] = b"\0" * (400 << 20)
    data = bytearray(_packed(members))
    for sign, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        position = data.find(sign)
        while position >= 0:
            size = int.from_bytes(data[position + offset : position + offset + 4], "little")
            if size == 400 << 20:
                data[position + offset : position + offset + 4] = (100).to_bytes(4, "little")
            position = data.find(sign, position + 4)
    _put_estimator(model, bytes(data))
    _refused(model)
    _put_estimator(model, _packed(members))
    _refused(model, "too large")


def test_duplicate_foreign_and_many_members(model: Path) -> None:
    members = _members(model)
    twice = io.BytesIO()
    with zipfile.ZipFile(twice, "w") as packed:
        for name, data in members.items():
            packed.writestr(name, data)
        with pytest.warns(UserWarning, match="Duplicate"):
            packed.writestr("schema.json", members["schema.json"])
    _put_estimator(model, twice.getvalue())
    _refused(model, "twice")
    _put_estimator(model, _packed({**members, "../../evil.py": b"import os"}))
    _refused(model)
    _put_estimator(model, _packed({**members, **{f"{n}.npy": b"" for n in range(20_000)}}))
    _refused(model, "too many")
    _put_estimator(model, _packed(members, zipfile.ZIP_BZIP2))
    _refused(model, "packed in an unusual way")


def test_a_padded_or_deep_schema(model: Path) -> None:
    members = _members(model)
    schema = json.loads(members["schema.json"])
    for padding in ([[]] * 10**6, "x" * (5 << 20), ["ab"] * 10**6):
        members["schema.json"] = json.dumps({**schema, "padding": padding}).encode()
        _put_estimator(model, _packed(members))
        _refused(model)
    deep = schema
    for _ in range(100):
        deep = {**schema, "content": {**schema["content"], "content": {"a": deep}}}
    members["schema.json"] = json.dumps(deep).encode()
    _put_estimator(model, _packed(members))
    _refused(model)


def _nodes(schema: Any, loader: str) -> list[dict[str, Any]]:
    found = []
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if node.get("__loader__") == loader:
                found.append(node)
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


EVIL = [
    ("OperatorFuncNode", "operator", "methodcaller"),
    ("FunctionNode", "os", "system"),
    ("TypeNode", "subprocess", "Popen"),
    ("ObjectNode", "builtins", "eval"),
    ("PartialNode", "functools", "partial"),
    ("MethodNode", "builtins", "object"),
    ("ObjectNode", "sklearn.utils._mocking", "CheckingClassifier"),
    ("ReduceNode", "os", "system"),
    ("TreeNode", "sklearn.ensemble._hist_gradient_boosting.predictor", "TreePredictor"),
]


@pytest.mark.parametrize("evil", EVIL, ids=lambda evil: evil[2])
def test_types_that_are_not_listed(evil: tuple[str, str, str], model: Path) -> None:
    members = _members(model)
    schema = json.loads(members["schema.json"])
    node = _nodes(schema, "ObjectNode")[-1]
    node["__loader__"], node["__module__"], node["__class__"] = evil
    members["schema.json"] = json.dumps(schema).encode()
    _put_estimator(model, _packed(members))
    _refused(model)


def test_an_attribute_cannot_take_the_place_of_a_method(model: Path) -> None:
    members = _members(model)
    schema = json.loads(members["schema.json"])
    for name in ("predict_proba", "__class__", "__reduce__", "get_params", "a b"):
        changed = json.loads(json.dumps(schema))
        state = changed["content"]["content"]
        state[name] = next(iter(state.values()))
        members["schema.json"] = json.dumps(changed).encode()
        _put_estimator(model, _packed(members))
        _refused(model, "not its own")


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    target = io.BytesIO()
    np.lib.format.write_array(target, array, (1, 0))
    return target.getvalue()


def _tree_edits() -> dict[str, Callable[[np.ndarray[Any, Any]], None]]:
    def child(name: str, value: int) -> Callable[[np.ndarray[Any, Any]], None]:
        def change(nodes: np.ndarray[Any, Any]) -> None:
            inner = np.flatnonzero(nodes["left_child"] >= 0)
            nodes[name][inner[-1]] = value

        return change

    def leaf(nodes: np.ndarray[Any, Any]) -> None:
        nodes["right_child"][np.flatnonzero(nodes["left_child"] < 0)[0]] = 3

    def feature(value: int) -> Callable[[np.ndarray[Any, Any]], None]:
        def change(nodes: np.ndarray[Any, Any]) -> None:
            nodes["feature"][0] = value

        return change

    def threshold(nodes: np.ndarray[Any, Any]) -> None:
        nodes["threshold"][0] = np.nan

    def swap(nodes: np.ndarray[Any, Any]) -> None:
        nodes["left_child"][0] = nodes["right_child"][0]

    return {
        "a cycle": child("left_child", 0),
        "itself": child("right_child", 1),
        "outside": child("left_child", 10**9),
        "before": child("right_child", -7),
        "half a leaf": leaf,
        "two parents": swap,
        "feature outside": feature(len(FEATURE_NAMES)),
        "feature below": feature(-2),
        "no threshold": threshold,
    }


@pytest.mark.parametrize("name", _tree_edits())
def test_nodes_that_are_no_tree(name: str, model: Path) -> None:
    members = _members(model)
    for file, data in members.items():
        if not file.endswith(".npy"):
            continue
        nodes = np.lib.format.read_array(io.BytesIO(data))
        if nodes.dtype == NODE_DTYPE and len(nodes) > 5:
            _tree_edits()[name](nodes)
            _put_estimator(model, _packed({**members, file: _npy(nodes)}))
            _refused(model, "tree")
            return
    raise AssertionError("no tree in the model")


def test_arrays_whose_header_lies(model: Path) -> None:
    members = _members(model)
    largest = max(
        (name for name in members if name != "schema.json"), key=lambda n: len(members[n])
    )
    data = members[largest]
    for old, new in ((b"(", b"(99999999999,"), (b"'<", b"'|O"), (b"'descr'", b"'desc_'")):
        _put_estimator(model, _packed({**members, largest: data.replace(old, new, 1)}))
        _refused(model)
    objects = io.BytesIO()
    np.save(objects, np.array([print], dtype=object), allow_pickle=True)
    for odd in (objects.getvalue(), b"", b"\x93NUMPY", data[:-1], data + b"\0"):
        _put_estimator(model, _packed({**members, largest: odd}))
        _refused(model)


def test_deep_trees_and_the_same_array_again_and_again(model: Path) -> None:
    members = _members(model)
    schema = json.loads(members["schema.json"])
    trees = _nodes(schema, "TreeNode")
    nodes = np.zeros(200_001, NODE_DTYPE)
    even = np.arange(0, 200_000, 2)
    nodes["left_child"], nodes["right_child"] = -1, -1
    nodes["left_child"][even], nodes["right_child"][even] = even + 1, even + 2
    file = trees[0]["content"]["content"]["nodes"]["file"]
    values = trees[0]["content"]["content"]["values"]["file"]
    shape = np.full((200_001, 1, 3), 1 / 3)
    trees[0]["content"]["content"]["node_count"]["content"] = "200001"
    packed = {**members, file: _npy(nodes), values: _npy(shape)}
    _put_estimator(model, _packed({**packed, "schema.json": json.dumps(schema).encode()}))
    _refused(model, "deep")
    state = schema["content"]["content"]
    for number in range(3000):
        state[f"spare_{number}"] = trees[0]["content"]["content"]["nodes"]
    _put_estimator(model, _packed({**packed, "schema.json": json.dumps(schema).encode()}))
    _refused(model)


def test_shapes_of_linear_models(tmp_path: Path) -> None:
    fitted = make_classifier(LogisticRegression()).fit(_ROWS, _NAMES)
    folder = _saved(fitted, tmp_path / "linear")
    assert load_classifier(folder).predict_proba(_ROWS[:2]).shape == (2, 3)
    members = _members(folder)
    for file, data in members.items():
        if file.endswith(".npy"):
            array = np.lib.format.read_array(io.BytesIO(data))
            if array.dtype.kind == "f" and array.ndim:
                _put_estimator(folder, _packed({**members, file: _npy(array.ravel()[:-1])}))
                _refused(folder)
                broken = array.copy()
                broken.ravel()[0] = np.nan
                _put_estimator(folder, _packed({**members, file: _npy(broken)}))
                _refused(folder)


@pytest.mark.parametrize(
    "estimator",
    [HistGradientBoostingClassifier(max_iter=3), MLPClassifier((4,), max_iter=2000)],
    ids=lambda one: type(one).__name__,
)
def test_other_estimators_load_only_when_they_are_trusted(estimator: Any, tmp_path: Path) -> None:
    fitted = make_classifier(estimator).fit(_ROWS, _NAMES)
    folder = _saved(fitted, tmp_path / "m")
    with pytest.raises(InvalidInputError, match=r"--trust-model.*load_classifier\(folder, trusted"):
        load_classifier(folder)
    trusted = load_classifier(folder, trusted=True)
    np.testing.assert_allclose(trusted.estimator.predict_proba(_ROWS), fitted.predict_proba(_ROWS))
    alone = [trusted.predict_proba(_ROWS[row : row + 1])[0] for row in range(5)]
    np.testing.assert_array_equal(trusted.predict_proba(_ROWS)[:5], alone)


def test_trust_does_not_reach_beyond_scikit_learn(model: Path) -> None:
    data = skops.io.dumps({"a": print})
    _put_estimator(model, data)
    with pytest.raises(InvalidInputError):
        load_classifier(model, trusted=True)


# --- mutations -------------------------------------------------------------------------------


def _mutated(rng: random.Random, members: dict[str, bytes]) -> bytes:
    """Return a skops file with one to three seeded changes somewhere in it."""
    members = dict(members)
    for _ in range(rng.randint(1, 3)):
        how = rng.choice(["array", "schema", "swap", "drop", "zip"])
        arrays = [name for name in members if name.endswith(".npy")]
        if how == "array" and arrays:
            name = rng.choice(arrays)
            data = bytearray(members[name])
            for _ in range(rng.randint(1, 8)):
                data[rng.randrange(len(data))] = rng.randrange(256)
            members[name] = bytes(data)
        elif how == "swap" and len(arrays) > 1:
            one, two = rng.sample(arrays, 2)
            members[one], members[two] = members[two], members[one]
        elif how == "drop" and arrays:
            members.pop(rng.choice(arrays))
        elif how == "schema":
            schema = json.loads(members["schema.json"])
            nodes = [
                node
                for loader in ("JsonNode", "ObjectNode", "NdArrayNode", "DictNode", "ListNode")
                for node in _nodes(schema, loader)
            ]
            node = rng.choice(nodes)
            key = rng.choice(list(node))
            odd = [
                "",
                "null",
                "-1",
                "1e999",
                "99999999999999",
                '"x"',
                [],
                {},
                None,
                7,
                rng.choice(nodes),
                "posix",
                "system",
                "ListNode",
                "ObjectNode",
            ]
            node[key] = rng.choice(odd)
            with contextlib.suppress(ValueError):  # a node was put into itself
                members["schema.json"] = json.dumps(schema).encode()
    data = bytearray(_packed(members))
    if rng.random() < 0.2:
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.soak)])
def test_mutated_models_are_refused_or_answer(model: Path, count: int) -> None:
    """Many forgeries in a process of their own, so that a crash would be seen."""
    original = (model / "estimator.skops").read_bytes()
    script = Path(__file__)
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]);"
        "import importlib.util as u;"
        f"s = u.spec_from_file_location('forged', {str(script)!r});"
        "m = u.module_from_spec(s); s.loader.exec_module(m);"
        "m.run_mutations(sys.argv[1], int(sys.argv[3]))"
    )
    root = str(script.parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code, str(model), root, str(count)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    assert counts["refused"] + counts["loaded"] == counts["cases"] == count
    assert counts["refused"] > count // 2
    assert counts["slowest"] < 10
    assert counts["grown_mb"] < 300
    assert (model / "estimator.skops").read_bytes() != original


def run_mutations(folder_name: str, count: int) -> None:
    """Load mutations; anything but a refusal or sound probabilities ends the process."""
    folder = Path(folder_name)
    members = _members(folder)
    load_classifier(folder).predict_proba(_ROWS)  # what is imported late is not counted
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts = {"cases": 0, "refused": 0, "loaded": 0}
    slowest = 0.0
    for seed in range(count):
        _put_estimator(folder, _mutated(random.Random(seed), members))
        begun = time.process_time()
        counts["cases"] += 1
        try:
            answers = load_classifier(folder).predict_proba(_ROWS)
        except InvalidInputError as refusal:
            if len(str(refusal).splitlines()) != 1:
                raise
            counts["refused"] += 1
        else:
            assert np.isfinite(answers).all(), seed
            np.testing.assert_allclose(answers.sum(axis=1), 1.0, atol=1e-6)
            counts["loaded"] += 1
        slowest = max(slowest, time.process_time() - begun)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({**counts, "slowest": slowest, "grown_mb": grown}))
