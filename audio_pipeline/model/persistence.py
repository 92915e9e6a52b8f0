"""The files of a model folder, read without trusting them.

``model.json`` lists every other file with its SHA-256. ``estimator.skops`` is an ordinary skops
file: a zip with ``schema.json``, which says what the object is made of, and one ``.npy`` file for
each array. Whatever can be known about a file before it is read, unpacked or built is checked
before: its kind and size, then its hash, what its directory claims, every type it names, every
array's header, and the nodes of every tree, which scikit-learn itself would follow wherever they
point. Forests, trees and linear models are built here, from their checked parts. Anything else is
left to skops, and only when a person trusts the file.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.fitted_checks import check_answers, check_fitted, check_tree

SCHEMA_VERSION: Final = 2
MANIFEST: Final = "model.json"
ESTIMATOR: Final = "estimator.skops"
CARD: Final = "CARD.md"

LARGEST_MANIFEST: Final = 8 << 20
LARGEST_ESTIMATOR: Final = 24 << 20
LARGEST_CONTENT: Final = 48 << 20
LARGEST_OTHER: Final = 8 << 20
MOST_FILES: Final = 40
LONGEST_TEXT: Final = 100

_PROTOCOL: Final = 2
_LARGEST_SCHEMA: Final = 4 << 20
_MOST_PARTS: Final = 100_000
_MOST_MEMBERS: Final = 5000
_DEEPEST_SCHEMA: Final = 60
_BLOCK: Final = 1 << 20
_SHAPE: Final = re.compile(rb"(.*'shape': \()([0-9, ]{0,80})(\).*)", re.DOTALL)

_ALLOWED: Final = {
    f"{module}.{name}"
    for module, names in {
        "sklearn.calibration": "CalibratedClassifierCV _CalibratedClassifier _TemperatureScaling "
        "_SigmoidCalibration",
        "sklearn.discriminant_analysis": "LinearDiscriminantAnalysis",
        "sklearn.ensemble._forest": "RandomForestClassifier ExtraTreesClassifier",
        "sklearn.ensemble._voting": "VotingClassifier",
        "sklearn.frozen._frozen": "FrozenEstimator",
        "sklearn.impute._base": "SimpleImputer",
        "sklearn.linear_model._logistic": "LogisticRegression",
        "sklearn.linear_model._stochastic_gradient": "SGDClassifier",
        "sklearn.pipeline": "Pipeline",
        "sklearn.preprocessing._data": "StandardScaler",
        "sklearn.preprocessing._function_transformer": "FunctionTransformer",
        "sklearn.preprocessing._label": "LabelEncoder",
        "sklearn.tree._classes": "DecisionTreeClassifier ExtraTreeClassifier",
    }.items()
    for name in names.split()
}
"""Every class that an estimator file may name to be loaded without being trusted."""


def refuse(where: Path | str, reason: str) -> NoReturn:
    """Raise InvalidInputError about a model, in one line of bounded length."""
    text = " ".join(reason.split())
    shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    raise InvalidInputError(f"the model in {where} cannot be used: {shown[:400]}")


def read_file(where: Path, name: str, limit: int) -> bytes:
    """Return the content of a regular file of a model folder, or refuse the model."""
    path = where / name
    try:
        # A FIFO would wait for ever and a link lead anywhere: neither is opened.
        if not stat.S_ISREG(path.lstat().st_mode):
            refuse(where, f"{name} is not a regular file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(limit + 1) if size <= limit else b""
    except OSError as error:
        if name == MANIFEST and isinstance(error, FileNotFoundError | NotADirectoryError):
            raise InvalidInputError(
                f"{where} is no model folder (no {MANIFEST} in it); `crepitus train` makes one"
            ) from None
        refuse(where, f"{name}: {error.strerror or 'cannot be read'}")
    if size > limit or len(data) > limit:
        refuse(where, f"{name} is larger than {limit >> 20} MB")
    return data


def parse_json(where: Path, name: str, content: bytes) -> Any:
    """Parse JSON whose structure is bounded, so that its objects cannot fill the memory."""
    if content.count(b"{") + content.count(b"[") > _MOST_PARTS:
        refuse(where, f"{name} has too many parts")
    try:
        return json.loads(content, parse_constant=lambda text: refuse(where, f"{name} has {text}"))
    except (ValueError, RecursionError):
        refuse(where, f"{name} is not JSON")


def read_manifest(where: Path) -> tuple[dict[str, Any], str, bytes]:
    """Read and check ``model.json`` and the files it lists.

    Returns
    -------
    (document, sha256, estimator)
        What ``model.json`` says, its own hash, and the content of the estimator's file.

    Raises
    ------
    InvalidInputError
        When the schema is another, or a file is missing, altered, too large or no regular file.
    """
    content = read_file(where, MANIFEST, LARGEST_MANIFEST)
    document = parse_json(where, MANIFEST, content)
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION or isinstance(version, bool):
        refuse(
            where,
            f"its schema_version is {str(version)[:20]}; this version reads {SCHEMA_VERSION}; "
            "train it again with `crepitus train`",
        )
    files = document.get("files")
    if not isinstance(files, dict) or ESTIMATOR not in files:
        refuse(where, f"{MANIFEST} does not list {ESTIMATOR}")
    if len(files) > MOST_FILES:
        refuse(where, f"{MANIFEST} lists {len(files)} files; {MOST_FILES} at most")
    estimator = b""
    for name, expected in files.items():
        if Path(name).name != name or "\\" in name or name in {"", ".", "..", MANIFEST}:
            refuse(where, f"{MANIFEST} lists {name[:80]!r}, which is no plain file name")
        limit = LARGEST_ESTIMATOR if name == ESTIMATOR else LARGEST_OTHER
        data = read_file(where, name, limit)
        if hashlib.sha256(data).hexdigest() != expected:
            refuse(where, f"{name} was altered (its SHA-256 differs from {MANIFEST})")
        if name == ESTIMATOR:
            estimator = data
    return document, hashlib.sha256(content).hexdigest(), estimator


def names(document: Mapping[str, Any], key: str, most: int) -> tuple[str, ...]:
    """Return a list of distinct printable names from ``model.json``.

    Raises
    ------
    ValueError
        When it is anything else.
    """
    given = document[key]
    if not isinstance(given, list) or not 1 <= len(given) <= most:
        raise ValueError(f"{key} must be a list of 1 to {most} names")
    for name in given:
        if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_TEXT:
            raise ValueError(f"{key} must be names of 1 to {LONGEST_TEXT} characters")
        if not name.isprintable():
            raise ValueError(f"{key} holds {name!r}, which is not one line of text")
    if len(set(given)) != len(given):
        raise ValueError(f"{key} must be given once each")
    return tuple(given)


def unpack(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the schema and the array files of a skops file.

    Raises
    ------
    ValueError
        When it is not a zip of bounded size, or its directory lies.
    """
    if data.count(b"PK\x01\x02") > _MOST_MEMBERS:
        raise ValueError("it holds too many files")
    members: dict[str, bytes] = {}
    left = LARGEST_CONTENT
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            for entry in packed.infolist():
                name = entry.filename
                plain = name == "schema.json" or (name.endswith(".npy") and len(name) <= 80)
                if name in members or not plain:
                    raise ValueError(f"it holds {name[:80]!r}, or holds it twice")
                if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise ValueError(f"{name} is packed in an unusual way")
                limit = min(left, _LARGEST_SCHEMA if name == "schema.json" else left)
                # Read in blocks: the whole of a member at once would be unpacked before the size
                # that the directory claims is looked at.
                blocks, size = [], 0
                with packed.open(entry) as file:
                    while block := file.read(_BLOCK):
                        size += len(block)
                        if size > limit:
                            raise ValueError("its content is too large")
                        blocks.append(block)
                members[name] = b"".join(blocks)
                left -= size
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise ValueError(f"it is not a skops file: {error}") from None
    except (NotImplementedError, RuntimeError, OverflowError, struct.error) as error:
        raise ValueError(f"it is not a skops file: {error}") from None
    if "schema.json" not in members:
        raise ValueError("it is not a skops file: it has no schema")
    schema = parse_json(Path(ESTIMATOR), "schema.json", members.pop("schema.json"))
    if not isinstance(schema, dict) or schema.get("protocol") != _PROTOCOL:
        raise ValueError("its skops protocol is another; train the model again")
    return schema, members


@lru_cache(maxsize=1000)
def _layout(header: bytes) -> tuple[bool, np.dtype[Any]]:
    """Return the order and type of a header without its shape; trees share theirs."""
    try:
        stream = io.BytesIO(len(header).to_bytes(2, "little") + header)
        _, by_column, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=2000)
    except Exception as error:  # a header is read by Python's tokenizer, with errors of its own
        raise ValueError(f"an array has no header: {error}") from None
    return by_column, dtype


def array(data: bytes) -> NDArray[Any]:
    """Return the array of a ``.npy`` file of numbers or text whose header fits its length."""
    start = 10 + int.from_bytes(data[8:10], "little")
    parts = _SHAPE.fullmatch(data[10:start])
    if data[:8] != b"\x93NUMPY\x01\x00" or start > 2000 or parts is None:
        raise ValueError("an array has no header of a known version")
    by_column, dtype = _layout(parts[1] + parts[3])
    shape = tuple(int(size) for size in parts[2].split(b",") if size.strip())
    if dtype.hasobject or dtype.kind not in "biufUV" or not 0 < dtype.itemsize <= 4000:
        raise ValueError("an array is of an unknown kind")
    if len(shape) > 4:
        raise ValueError("an array has an unusual shape")
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError("an array does not match its header")
    whole: NDArray[Any] = np.frombuffer(bytearray(data[start:]), dtype)
    return whole.reshape(shape, order="F" if by_column else "C")


def named_types(schema: Any) -> set[str]:
    """Return every type that a schema names, and every loader as ``loader:NAME``."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if "__loader__" in node:
                found.add(f"{node.get('__module__')}.{node.get('__class__')}")
                found.add(f"loader:{node['__loader__']}")
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)
    return found


_PLAIN: Final = {
    *(
        f"builtins.{name}"
        for name in ["str", "dict", "list", "tuple", "int", "float", "bool", "NoneType"]
    ),
    *("numpy.ndarray", "numpy.dtype", "sklearn.utils._bunch.Bunch", "sklearn.tree._tree.Tree"),
    *(f"numpy.{kind}{size}" for kind in ("int", "uint", "float") for size in (8, 16, 32, 64)),
    "numpy.bool",
}
_LOADERS: Final = {
    *("loader:JsonNode", "loader:DictNode", "loader:ListNode", "loader:TupleNode"),
    *("loader:NdArrayNode", "loader:DTypeNode", "loader:TypeNode", "loader:ObjectNode"),
    "loader:TreeNode",
}


def untrusted_types(schema: Any) -> list[str]:
    """Return what a schema names beyond what is loaded as it is, sorted; empty for nothing."""
    return sorted(named_types(schema) - _PLAIN - _ALLOWED - _LOADERS)


class Builder:
    """Builds an estimator from a checked schema and its arrays; nothing else can come of it.

    Parameters
    ----------
    files : mapping of str to bytes
        The array files.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._left = LARGEST_CONTENT
        self._makers: dict[str, Callable[[Mapping[str, Any], int], Any]] = {
            "JsonNode": self._json,
            "DictNode": self._dict,
            "ListNode": lambda node, depth: [self.build(each, depth) for each in node["content"]],
            "TupleNode": lambda node, depth: tuple(
                self.build(each, depth) for each in node["content"]
            ),
            "NdArrayNode": self._array,
            "DTypeNode": lambda node, depth: self.build(node["content"], depth).dtype,
            "ObjectNode": self._object,
            "TreeNode": self._tree,
        }

    def build(self, node: Any, depth: int = 0) -> Any:
        """Return the object that a node of the schema describes."""
        if depth > _DEEPEST_SCHEMA:
            raise ValueError("its schema is nested too deeply")
        return self._makers[node["__loader__"]](node, depth + 1)

    def _json(self, node: Mapping[str, Any], depth: int) -> Any:
        content = node["content"]
        if not isinstance(content, str) or len(content) > 1000:
            raise ValueError("a value of its schema is too long")
        value = json.loads(content)
        if not isinstance(value, str | int | float | bool | None):
            raise ValueError("a value of its schema is no single value")
        return value

    def _dict(self, node: Mapping[str, Any], depth: int) -> dict[str, Any]:
        return {str(key): self.build(value, depth) for key, value in node["content"].items()}

    def _array(self, node: Mapping[str, Any], depth: int) -> Any:
        if node.get("type") != "numpy":
            raise ValueError("an array of its schema is no array of numbers or text")
        data = self._files[node["file"]]
        self._left -= len(data)
        if self._left < 0:  # the same file may be named again and again
            raise ValueError("its content is too large")
        found = array(data)
        return found[()] if found.ndim == 0 else found

    def _object(self, node: Mapping[str, Any], depth: int) -> Any:
        module, name = node["__module__"], node["__class__"]
        if f"{module}.{name}" == "sklearn.utils._bunch.Bunch":
            from sklearn.utils import Bunch

            return Bunch(**self.build(node["content"], depth))
        if f"{module}.{name}" not in _ALLOWED:
            raise ValueError(f"it holds {module}.{name}")
        kind = getattr(import_module(module), name)
        state = self.build(node["content"], depth)
        if not isinstance(state, dict):
            raise ValueError(f"{name} has no attributes")
        state.pop("_sklearn_version", None)
        for key in state:
            if not key.isidentifier() or hasattr(kind, key):
                raise ValueError(f"{name} has the attribute {key!r}, which is not its own")
        made = object.__new__(kind)
        made.__dict__.update(state)
        return made

    def _tree(self, node: Mapping[str, Any], depth: int) -> Any:
        from sklearn.tree._tree import Tree

        n_features, n_classes, n_outputs = self.build(node["__reduce__"]["args"], depth)
        state = self.build(node["content"], depth)
        check_tree(n_features, n_classes, n_outputs, state)
        tree = Tree(n_features, n_classes, n_outputs)
        tree.__setstate__(state)
        return tree


def read_estimator(
    data: bytes, labels: Sequence[str], n_features: int, trusted: bool = False
) -> Any:
    """Return the fitted estimator of a skops file.

    Parameters
    ----------
    data : bytes
    labels : sequence of str
        Its classes.
    n_features : int
    trusted : bool
        Also load estimators other than forests, trees and linear models, which skops builds; a
        file made to do harm could then end the process.

    Raises
    ------
    ValueError
        When it is not a skops file, or holds something else than such an estimator.
    """
    schema, files = unpack(data)
    if further := untrusted_types(schema):
        if not trusted:
            raise ValueError(
                f"it holds {', '.join(further[:3])[:150]}; only forests, trees and plain linear "
                "models load as they are; when you know who made it, pass --trust-model (in Python "
                "load_classifier(folder, trusted=True))"
            )
        estimator = _trusted_estimator(schema, files)
        quiet(estimator)
    else:
        try:
            estimator = Builder(files).build(schema)
            quiet(estimator)
            check_fitted(estimator, np.array(labels), n_features)
        except ValueError:
            raise
        except Exception as error:  # whatever a forger thought of that nobody here did
            raise ValueError(f"its parts do not fit together: {error!r}"[:200]) from None
    check_answers(estimator, labels, n_features)
    if hasattr(estimator, "calibrated_classifiers_"):  # earlier versions kept another one there
        from sklearn.base import clone

        estimator.set_params(estimator=clone(estimator.calibrated_classifiers_[0].estimator))
    return estimator


def _trusted_estimator(schema: Any, files: Mapping[str, bytes]) -> Any:
    """Let skops build what is not built here, of types of scikit-learn, NumPy and SciPy only."""
    import skops.io

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
        target.writestr("schema.json", json.dumps(schema))
    content = packed.getvalue()
    try:
        unknown = skops.io.get_untrusted_types(data=content)
        odd = [name for name in unknown if not name.startswith(("sklearn.", "numpy.", "scipy."))]
        if odd:
            raise ValueError(f"it holds {odd[0][:100]}, which is not of scikit-learn")
        return skops.io.loads(content, trusted=unknown)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"skops cannot read it: {error}") from None


def quiet(estimator: Any) -> None:
    """Let an estimator and all its parts work in one thread, silently.

    For one row at a time threads cost more than they gain, and a file should not say how many.
    """
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, list | tuple):
            waiting.extend(part)
        elif isinstance(part, dict):
            waiting.extend(part.values())
        elif type(part).__module__.startswith("sklearn.") and hasattr(part, "__dict__"):
            own = vars(part)
            own.pop("_metadata_request", None)
            own.pop("_loss_function_", None)  # of SGD while it learns; no file need hold it
            if own.get("n_jobs") is not None:
                own["n_jobs"] = None
            if "verbose" in own:  # a Pipeline refuses to be fitted with 0
                own["verbose"] = signature(type(part)).parameters["verbose"].default
            waiting.extend(own.values())


def write_estimator(estimator: Any) -> bytes:
    """Return the bytes of a skops file; the same estimator gives the same bytes.

    skops names arrays by their address in memory, stamps the time into the zip, and stores what
    lay in memory between the fields of a tree's nodes; all are replaced by fixed values.

    Raises
    ------
    InvalidInputError
        When skops cannot store it, or it is larger than what would be loaded again.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    quiet(estimator)
    try:
        data = skops.io.dumps(estimator)
    except (UnsupportedTypeException, TypeError, RecursionError) as error:
        kind = type(estimator).__name__
        raise InvalidInputError(f"{kind} cannot be saved: {error}"[:300]) from None
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(members.pop("schema.json"))
    renamed: dict[str, str] = {}
    _number(schema, renamed, {})
    content = {
        renamed[name]: _without_gaps(data) for name, data in members.items() if name in renamed
    }
    content["schema.json"] = json.dumps(schema, separators=(",", ":")).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as packed:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content[name], compresslevel=9)
    packed_data = target.getvalue()
    size = sum(len(each) for each in content.values())
    if len(packed_data) > LARGEST_ESTIMATOR or size > LARGEST_CONTENT:
        raise InvalidInputError(
            f"the model would be {size >> 20} MB; {LARGEST_CONTENT >> 20} MB at most: take fewer "
            "trees (--param n_estimators=50) or larger leaves (--param min_samples_leaf=20)"
        )
    return packed_data


def _without_gaps(data: bytes) -> bytes:
    """Return the bytes of a npy file with zeros between the fields of a structured array."""
    given = np.load(io.BytesIO(data), allow_pickle=False)
    if given.dtype.names is None:
        return data
    clean = np.zeros(given.shape, given.dtype)
    for name in given.dtype.names:
        clean[name] = given[name]
    target = io.BytesIO()
    np.save(target, clean)
    return target.getvalue()


def _number(node: Any, renamed: dict[str, str], identities: dict[int, int]) -> None:
    """Replace memory addresses in a skops schema by counting numbers, in place."""
    if isinstance(node, dict):
        if "__id__" in node:
            node["__id__"] = identities.setdefault(node["__id__"], len(identities) + 1)
        if node.get("__loader__") == "NdArrayNode" and "file" in node:
            node["file"] = renamed.setdefault(node["file"], f"{len(renamed) + 1:04d}.npy")
        for child in node.values():
            _number(child, renamed, identities)
    elif isinstance(node, list):
        for child in node:
            _number(child, renamed, identities)
