"""The estimator of a model: many decision trees held as a few plain arrays.

scikit-learn grows the trees (:mod:`audio_pipeline.model.fit`); what a model needs afterwards is
only which feature each node asks about, its threshold, and what each leaf answers. Held that way

* one recording is classified in a fraction of a millisecond instead of tens of them, because all
  trees are walked together, level by level;
* ``analyze`` and ``listen`` need neither scikit-learn nor skops, whose import takes two seconds;
* the file holds nothing but numbers. The nodes of a tree are stored in breadth-first order with
  siblings side by side, so the children of a node follow from counting and cannot point outside.

The file is an ordinary skops file: ``skops.io.load(path, trusted=TRUSTED_TYPES)`` gives the same
object as :func:`read_forest`, which reads its arrays directly.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audio_pipeline.exceptions import InvalidInputError

TRUSTED_TYPES: Final = ("audio_pipeline.model.forest.Forest",)
"""The only type outside numpy that an estimator file may name."""

LARGEST_FILE: Final = 64 * 1024 * 1024
LARGEST_CONTENT: Final = 512 * 1024 * 1024
MOST_CLASSES: Final = 1000
DEEPEST: Final = 200
"""Trees grown here are 10 to 40 levels deep; a deeper one is a file made to waste time."""

_MISSING: Final = np.float32(-1e6)
_LEAF_STEP: Final = 2.0**24
_PLACES_AT_ONCE: Final = 8192
"""Rows x trees that are walked together."""

_ROWS_AT_ONCE: Final = 1024
_STATE: Final = ("classes", "n_features", "feature", "threshold", "value", "nodes_per_tree")

Floats = NDArray[np.float64]


class Forest:
    """Averaged decision trees; numbers in, class probabilities out.

    Parameters
    ----------
    classes : str array, shape (n_classes,)
        What the columns of :meth:`predict_proba` stand for.
    n_features : int
        Width of the tables it takes, at least 1.
    feature : int16 array, shape (n_nodes,)
        Which feature a node asks about; -1 for a leaf. Trees one after the other, each in
        breadth-first order, root first.
    threshold : float32 array, shape (n_inner_nodes,)
        A row goes left when its value is <= the threshold, as in scikit-learn.
    value : float32 array, shape (n_leaves, n_classes)
        Class probabilities of the leaves, rounded to multiples of 2**-24: sums of them are exact
        in float64, so a prediction does not depend on how many rows share a call.
    nodes_per_tree : int32 array, shape (n_trees,)

    Raises
    ------
    ValueError
        When the arrays do not describe whole trees.
    """

    def __init__(
        self,
        classes: ArrayLike,
        n_features: int,
        feature: ArrayLike,
        threshold: ArrayLike,
        value: ArrayLike,
        nodes_per_tree: ArrayLike,
    ) -> None:
        rounded = np.round(np.asarray(value, np.float64) * _LEAF_STEP) / _LEAF_STEP
        self.__setstate__(
            {
                "classes": np.asarray(classes, dtype=np.str_),
                "n_features": np.asarray(n_features, dtype=np.int32),
                "feature": np.asarray(feature, dtype=np.int16),
                "threshold": np.asarray(threshold, dtype=np.float32),
                "value": rounded.astype(np.float32),
                "nodes_per_tree": np.asarray(nodes_per_tree, dtype=np.int32),
            }
        )

    def __getstate__(self) -> dict[str, NDArray[Any]]:
        return dict(self._arrays)

    def __setstate__(self, state: Mapping[str, NDArray[Any]]) -> None:
        _check_arrays(state)
        self._arrays = {name: state[name] for name in _STATE}
        self.classes_: NDArray[np.str_] = state["classes"]
        self.n_features_in_ = int(state["n_features"])
        self.value: NDArray[np.float32] = state["value"]
        nodes: NDArray[np.int64] = state["nodes_per_tree"].astype(np.int64)
        inner = state["feature"] >= 0
        self._roots = np.cumsum(nodes) - nodes
        self._depths = _check_trees(inner, nodes, self._roots)
        inner_before: NDArray[np.int64] = np.cumsum(inner) - inner
        own_inner: NDArray[np.int64] = inner_before - np.repeat(inner_before[self._roots], nodes)
        first_child = np.repeat(self._roots, nodes) + 1 + 2 * own_inner
        index = np.arange(inner.size)
        # A leaf leads to itself: its threshold is never exceeded. So all rows take the same number
        # of steps and no step needs to ask who has arrived.
        self._child = np.where(inner, first_child, index)
        self._feature = np.where(inner, state["feature"], 0).astype(np.int16)
        self._threshold = np.full(inner.size, np.inf, np.float32)
        self._threshold[inner] = state["threshold"]
        self._leaf = np.cumsum(~inner) - 1

    @property
    def n_trees(self) -> int:
        """Number of trees."""
        return int(self._roots.size)

    def apply(self, table: ArrayLike) -> NDArray[np.int64]:
        """Find the leaf each row reaches in each tree.

        Parameters
        ----------
        table : array, shape (n, n_features)
            Missing values (NaN) count as very small.

        Returns
        -------
        int64 array, shape (n, n_trees)
            Rows of :attr:`value`; shape (0, n_trees) for an empty table.
        """
        rows = self._clean(table)
        leaves = np.empty((len(rows), self.n_trees), np.int64)
        # A few trees at a time: their nodes stay in the processor's cache.
        step = max(1, _PLACES_AT_ONCE // max(1, len(rows)))
        for first in range(0, self.n_trees, step):
            some = slice(first, first + step)
            leaves[:, some] = self._leaves(rows, self._roots[some], int(self._depths[some].max())).T
        return leaves

    def predict_proba(self, table: ArrayLike) -> Floats:
        """Average the leaves' answers.

        Parameters
        ----------
        table : array, shape (n, n_features)

        Returns
        -------
        float64 array, shape (n, n_classes)
            Rows sum to 1; shape (0, n_classes) for an empty table.
        """
        rows = self._clean(table)
        total = np.zeros((len(rows), self.classes_.size))
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            leaves = self.apply(rows[first : first + _ROWS_AT_ONCE])
            for column in range(self.classes_.size):
                answers = self.value[:, column].take(leaves)
                total[first : first + len(leaves), column] = answers.sum(axis=1, dtype=np.float64)
        shares: NDArray[np.float64] = total / np.maximum(total.sum(axis=1, keepdims=True), 1e-12)
        return shares

    def predict(self, table: ArrayLike) -> NDArray[np.str_]:
        """Return the likeliest class of each row, shape (n,)."""
        likeliest: NDArray[np.str_] = self.classes_[self.predict_proba(table).argmax(axis=1)]
        return likeliest

    def _leaves(
        self, rows: NDArray[np.float32], roots: NDArray[np.int64], depth: int
    ) -> NDArray[np.int64]:
        """Walk some trees of a depth; return the leaves, shape (n_trees, n_rows)."""
        flat, start = rows.ravel(), np.arange(len(rows)) * self.n_features_in_
        nodes = np.repeat(roots[:, None], len(rows), axis=1)
        # No place is ever out of range: clipping costs less than asking whether one is.
        for _ in range(depth):
            asked = flat.take(self._feature.take(nodes, mode="clip") + start, mode="clip")
            right = asked > self._threshold.take(nodes, mode="clip")
            nodes = self._child.take(nodes, mode="clip") + right
        leaves: NDArray[np.int64] = self._leaf.take(nodes)
        return leaves

    def _clean(self, table: ArrayLike) -> NDArray[np.float32]:
        rows = clean_table(table)
        if rows.ndim != 2 or rows.shape[1] != self.n_features_in_:
            message = f"expected a table of {self.n_features_in_} features, got {rows.shape}"
            raise ValueError(message)
        return rows


def clean_table(table: ArrayLike) -> NDArray[np.float32]:
    """Return a feature table as the trees see it: float32, contiguous, finite.

    A missing value (NaN) becomes -1e6, below every real feature, so that a tree can tell it apart;
    infinities become the largest float32.
    """
    rows = np.ascontiguousarray(table, dtype=np.float32)
    if np.isfinite(rows).all():
        return rows
    return np.nan_to_num(rows, nan=float(_MISSING))


def write_forest(forest: Forest) -> bytes:
    """Return the bytes of a skops file; the same forest gives the same bytes.

    skops names arrays by their address in memory and stamps the time into the zip; both are
    replaced by fixed values.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(forest))) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(members.pop("schema.json"))
    renamed: dict[str, str] = {}
    _number(schema, renamed, {})
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        content = {renamed[name]: data for name, data in members.items() if name in renamed}
        content["schema.json"] = json.dumps(schema, indent=2).encode()
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content[name], compresslevel=9)
    return target.getvalue()


def read_forest(data: bytes, source: str = "estimator.skops") -> Forest:
    """Read the arrays of a skops file that holds one :class:`Forest`, and nothing else.

    Nothing the file names is imported or called: its schema may name only :data:`TRUSTED_TYPES`,
    plain containers and numpy arrays of numbers or text.

    Parameters
    ----------
    data : bytes
        The content of the file.
    source : str
        Its name, for messages.

    Raises
    ------
    InvalidInputError
        When the file is too large, not a skops file, or holds anything else.
    """
    if len(data) > LARGEST_FILE:
        raise InvalidInputError(
            f"{source} is {len(data) >> 20} MB; at most {LARGEST_FILE >> 20} MB"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            if sum(entry.file_size for entry in packed.infolist()) > LARGEST_CONTENT:
                raise ValueError("its content is too large")
            schema = json.loads(packed.read("schema.json"))
            forest = object.__new__(Forest)
            forest.__setstate__(
                {name: _read_array(packed, file) for name, file in _array_files(schema).items()}
            )
            return forest
    except InvalidInputError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidInputError(f"{source} is not an estimator of Crepitus: {reason}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise InvalidInputError(f"{source} is not a skops file: {error}") from None


def _array_files(schema: Mapping[str, Any]) -> dict[str, str]:
    """Return the array file of each attribute, from a schema of exactly the shape skops writes."""
    named = f"{schema['__module__']}.{schema['__class__']}"
    if named not in TRUSTED_TYPES or schema["__loader__"] != "ObjectNode":
        raise ValueError(f"it holds {named[:100]!r}, expected {TRUSTED_TYPES[0]}")
    attributes = schema["content"]
    if attributes["__loader__"] != "DictNode":
        raise ValueError("its attributes are not a mapping")
    files = {}
    for name, node in attributes["content"].items():
        if node["__loader__"] != "NdArrayNode" or node.get("type") != "numpy":
            raise ValueError(f"{name[:100]!r} is not an array of numbers")
        files[name] = node["file"]
    if sorted(files) != sorted(_STATE):
        raise ValueError(f"it holds {sorted(files)}, expected {sorted(_STATE)}")
    return files


def _read_array(packed: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one .npy member; its header must agree with its length before memory is taken."""
    stream = io.BytesIO(packed.read(name))
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError(f"{name} has an unknown array version")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=1000)
    body = stream.read()
    if dtype.hasobject or by_column or math.prod(shape) * dtype.itemsize != len(body):
        raise ValueError(f"{name} does not match its header")
    return np.frombuffer(body, dtype).reshape(shape)


def _number(node: Any, renamed: dict[str, str], identities: dict[int, int]) -> None:
    """Replace memory addresses in a skops schema by counting numbers, in place."""
    if isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = identities.setdefault(node["__id__"], len(identities) + 1)
        if node.get("__loader__") == "NdArrayNode" and "file" in node:
            node["file"] = renamed.setdefault(node["file"], f"{len(renamed) + 1:02d}.npy")
        for child in node.values():
            _number(child, renamed, identities)
    elif isinstance(node, list):
        for child in node:
            _number(child, renamed, identities)


def _check_arrays(state: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays of the wrong type, size or range."""
    classes, feature, threshold = state["classes"], state["feature"], state["threshold"]
    value, nodes = state["value"], state["nodes_per_tree"]
    kinds = {
        "classes": classes.dtype.kind == "U" and classes.ndim == 1,
        "n_features": state["n_features"].dtype == np.int32 and state["n_features"].ndim == 0,
        "feature": feature.dtype == np.int16 and feature.ndim == 1,
        "threshold": threshold.dtype == np.float32 and threshold.ndim == 1,
        "value": value.dtype == np.float32 and value.ndim == 2,
        "nodes_per_tree": nodes.dtype == np.int32 and nodes.ndim == 1,
    }
    for name, right in kinds.items():
        if not right:
            raise ValueError(f"array {name!r} has the wrong type or shape")
    if not 1 <= classes.size <= MOST_CLASSES or len(set(classes.tolist())) != classes.size:
        raise ValueError("the classes are missing, repeated or too many")
    n_inner = int(np.count_nonzero(feature >= 0))
    if (
        nodes.size == 0
        or nodes.min() < 1
        or int(nodes.sum(dtype=np.int64)) != feature.size
        or threshold.size != n_inner
        or value.shape != (feature.size - n_inner, classes.size)
    ):
        raise ValueError("the arrays do not fit together")
    if feature.min() < -1 or feature.max() >= int(state["n_features"]):
        raise ValueError("a node asks about a feature that is not there")
    if not (np.isfinite(threshold).all() and np.isfinite(value).all()):
        raise ValueError("thresholds and leaf values must be finite")
    if value.min() < 0 or value.max() > 1:
        raise ValueError("leaf values must be probabilities")


def _check_trees(
    inner: NDArray[np.bool_], nodes: NDArray[np.int64], roots: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the depth of each tree, or refuse nodes that are no whole trees.

    In breadth-first order the level after [begin, end) ends at 1 + 2 x (inner nodes before end);
    a tree is whole when its levels end exactly at its number of nodes.
    """
    inner_through = np.concatenate(([0], np.cumsum(inner)))
    depths = np.zeros(roots.size, np.int64)
    end = np.ones(roots.size, np.int64)
    for _ in range(DEEPEST):
        following = 1 + 2 * (inner_through[roots + end] - inner_through[roots])
        growing = following > end
        if not growing.any():
            break
        if (following > nodes).any():
            raise ValueError("a tree has nodes outside itself")
        depths[growing] += 1
        end = following
    else:
        raise ValueError(f"a tree is more than {DEEPEST} levels deep")
    if (end != nodes).any():
        raise ValueError("a tree has nodes that nothing leads to")
    return depths


def load_forest(path: Path) -> Forest:
    """Load the estimator through skops itself, with the fixed allow-list (needs scikit-learn)."""
    import skops.io

    forest: Forest = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    return forest
