"""The estimator of a model: a scikit-learn classifier, by default a random forest.

:func:`make_classifier` gives the unfitted pipeline that training tunes and calibrates. Whatever is
chosen takes the feature table as it is; columns are scaled where the classifier needs that.
:class:`ContinuedForest` starts from another model: ``warm_start`` alone cannot, for it moves no
leaf and knows no new label.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from copy import copy
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.ensemble._forest import ForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree
from sklearn.utils import all_estimators
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.validation import has_fit_parameter

from audio_pipeline.exceptions import InvalidInputError
from audio_pipeline.model.persistence import quiet

STEP: Final = "classify"
"""Name of the pipeline's last step, the classifier itself."""

DEFAULT: Final = "forest"

_FOREST: Final[Mapping[str, Any]] = {"n_estimators": 100, "min_samples_leaf": 5}
_NAMED: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "forest": (
        "sklearn.ensemble.RandomForestClassifier",
        {**_FOREST, "max_features": 0.3},
    ),
    "extra_trees": (
        "sklearn.ensemble.ExtraTreesClassifier",
        {**_FOREST, "max_features": 0.2},
    ),
    "boosting": (
        "sklearn.ensemble.HistGradientBoostingClassifier",
        {"max_iter": 100, "early_stopping": False},
    ),
    "logistic": ("sklearn.linear_model.LogisticRegression", {"max_iter": 2000}),
    "svm": ("sklearn.svm.SVC", {"class_weight": "balanced"}),
    "neighbors": ("sklearn.neighbors.KNeighborsClassifier", {"algorithm": "brute"}),
}
NAMES: Final = tuple(_NAMED)
"""Short names that training takes; the dotted path of any other classifier works as well."""

_MANY_ROWS: Final = 100
_MOST_OLD_TREES: Final = 100
_NEW_LEAF: Final = 3
_LEAF_STEPS: Final = 4096
_MOST_LEAVES: Final = 1500
"""Leaves grow with the number of rows so that a tree has about this many at most, which bounds the
size of a model file."""


def make_classifier(
    estimator: str | BaseEstimator = DEFAULT, *, random_state: int | None = 0, **params: Any
) -> Pipeline:
    """Return an unfitted classifier for feature tables.

    Parameters
    ----------
    estimator : str or scikit-learn classifier
        One of :data:`NAMES`, the dotted path of a scikit-learn classifier with ``predict_proba``
        (``"sklearn.linear_model.LogisticRegression"``), or an instance of one. A pipeline is
        returned as it is.
    random_state : int or None
        Set where the classifier takes one and has none.
    **params
        Parameters of the classifier.

    Returns
    -------
    sklearn.pipeline.Pipeline
        Takes finite (n, n_features) tables; its last step is called ``classify``.

    Raises
    ------
    InvalidInputError
        When there is no such classifier or parameter, or it gives no probabilities.

    Notes
    -----
    ``check_estimator`` passes but for ``check_estimators_overwrite_params`` and
    ``check_dont_overwrite_parameters``, which no Pipeline passes: it fits its steps in place. Name
    them in ``expected_failed_checks``.

    Examples
    --------
    >>> make_classifier("logistic", C=0.1).named_steps["classify"]
    LogisticRegression(C=0.1, max_iter=2000)
    """
    if isinstance(estimator, Pipeline):
        return clone(estimator).set_params(**params)
    if isinstance(estimator, str):
        path, defaults = _NAMED.get(estimator, (estimator, {}))
        classifier = _instance(_class(path), defaults)
    else:
        classifier = clone(estimator)
    _set_params(classifier, params)
    if classifier.get_params(deep=False).get("random_state", 0) is None:
        classifier.set_params(random_state=random_state)
    if estimator == "svm":
        classifier = CalibratedClassifierCV(classifier, method="sigmoid", cv=3, ensemble=False)
    if not hasattr(classifier, "predict_proba"):
        raise InvalidInputError(
            f"{type(classifier).__name__} gives no probabilities (it has no predict_proba); "
            f"take one of {', '.join(NAMES)}, or another classifier"
        )
    # Without a function it only refuses tables that are not finite or of another width.
    steps: list[tuple[str, BaseEstimator]] = [("check", FunctionTransformer(validate=True))]
    if not is_tree_based(classifier):
        steps.append(("scale", StandardScaler()))
    return Pipeline([*steps, (STEP, classifier)])


def is_tree_based(classifier: BaseEstimator) -> bool:
    """Tell whether a classifier asks about one feature at a time: scale does not matter to it.

    The answers of such a classifier about a row do not depend on the other rows; those of the
    others may in the last bit, because BLAS rounds by the shape of a matrix.
    """
    trees = (ForestClassifier, DecisionTreeClassifier, HistGradientBoostingClassifier)
    return isinstance(classifier, trees)


def param_grid(classifier: Pipeline, n_rows: int, given: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what training tries: parameters of a pipeline of :func:`make_classifier`.

    Large leaves carried over best to sources that were not trained on (``docs/recognition.md``);
    small ones are for small datasets.

    Parameters
    ----------
    classifier : Pipeline
    n_rows : int
        Rows to train on.
    given : mapping
        Parameters that the person has set, which are left alone.

    Returns
    -------
    dict
        For :class:`sklearn.model_selection.GridSearchCV`; empty when there is nothing to choose.
    """
    last = classifier.steps[-1][0]
    inner = classifier.steps[-1][1]
    least = -(-n_rows // _MOST_LEAVES)
    leaves = sorted({max(leaf, least) for leaf in (20, 8, 3)}, reverse=True)
    grids: dict[str, dict[str, list[Any]]] = {
        "RandomForestClassifier": {
            "min_samples_leaf": leaves,
            "max_samples": [0.6 if n_rows >= _MANY_ROWS else None],
        },
        "ExtraTreesClassifier": {"min_samples_leaf": leaves},
        "HistGradientBoostingClassifier": {
            "learning_rate": [0.1, 0.03],
            "min_samples_leaf": [max(2, min(20, n_rows // 20))],
        },
        "LogisticRegression": {"C": [0.01, 0.1, 1.0]},
        "CalibratedClassifierCV": {"estimator__C": [1.0, 10.0]} if _is_svm(inner) else {},
        "KNeighborsClassifier": {
            "n_neighbors": sorted({max(1, min(n, n_rows // 4)) for n in (3, 9, 27)})
        },
    }
    chosen = grids.get(type(inner).__name__, {})
    return {
        f"{last}__{name}": values
        for name, values in chosen.items()
        if name.removeprefix("estimator__") not in given
    }


def _is_svm(classifier: BaseEstimator) -> bool:
    return isinstance(getattr(classifier, "estimator", None), SVC)


def parse_params(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs; a value is a Python literal, or else text.

    Raises
    ------
    InvalidInputError
        When a pair has no name or no value, a name comes twice, or the value is neither a number,
        a word nor a list of them.
    """
    read: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier() or not text or len(text) > 200:
            raise InvalidInputError(f"--param {pair[:80]!r}: write NAME=VALUE")
        if name in read:
            raise InvalidInputError(f"--param {pair[:80]!r}: {name} is given twice")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            value = text
        parts = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(part, bool | int | float | str | None) for part in parts):
            raise InvalidInputError(
                f"--param {pair[:80]!r}: give a number, a word or a list of these"
            )
        read[name] = value
    return read


@cache  # asking scikit-learn for all of its classifiers takes 30 ms
def _class(path: str) -> type[BaseEstimator]:
    """Return the scikit-learn classifier of a dotted path, importing nothing that it names."""
    module, _, name = path.rpartition(".")
    for known, kind in all_estimators(type_filter="classifier"):
        home = kind.__module__
        if known == name and module and (home == module or home.startswith(f"{module}.")):
            found: type[BaseEstimator] = kind
            return found
    raise InvalidInputError(
        f"{path[:100]!r} is no classifier of scikit-learn; take one of {', '.join(NAMES)}, or a "
        "dotted path such as sklearn.linear_model.LogisticRegression"
    )


def _instance(kind: type[BaseEstimator], params: Mapping[str, Any]) -> BaseEstimator:
    try:
        return kind(**params)
    except TypeError:
        raise InvalidInputError(
            f"{kind.__name__} is made of other estimators; train it from Python"
        ) from None


def _set_params(classifier: BaseEstimator, params: Mapping[str, Any]) -> None:
    known = sorted(classifier.get_params(deep=False))
    for name in params:
        if name not in known:
            raise InvalidInputError(
                f"{type(classifier).__name__} has no parameter {name!r}; it has {', '.join(known)}"
            )
    classifier.set_params(**params)
    if not hasattr(classifier, "_parameter_constraints"):
        return
    try:
        classifier._validate_params()
    except InvalidParameterError as error:
        raise InvalidInputError(" ".join(str(error).split())) from None


def fit_weighted(
    model: Pipeline, X: NDArray[np.float32], y: ArrayLike, weights: ArrayLike, **smaller: Any
) -> Pipeline:
    """Fit a pipeline of :func:`make_classifier` to rows that weigh unlike.

    Parameters
    ----------
    model : Pipeline
    X : float32 array, shape (n, n_features)
    y, weights : array, shape (n,)
        A classifier that takes no weights gets none.
    **smaller
        Parameters to set where the classifier has them, such as fewer trees.
    """
    step = last_step(model)
    names = step.get_params()
    step.set_params(**{name: value for name, value in smaller.items() if name in names})
    weighed = has_fit_parameter(step, "sample_weight")
    return model.fit(X, y, **({f"{STEP}__sample_weight": weights} if weighed else {}))


def last_step(estimator: Any) -> Any:
    """Return the classifier inside of calibrations and pipelines."""
    while True:
        if hasattr(estimator, "calibrated_classifiers_"):
            estimator = estimator.calibrated_classifiers_[0].estimator
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        elif type(estimator).__name__ == "FrozenEstimator":
            estimator = estimator.estimator
        else:
            return estimator


class ContinuedForest(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A forest that keeps the trees of another one and learns from a few recordings more.

    Every leaf of a tree holds what the model believes about sounds that arrive there. New events
    vote in the leaves they reach, against the old belief counted as `strength` events. As many new
    trees are grown beside them: the old ones know the world, the new ones these recordings. Over
    three sources, five draws of about twenty clips each, tested on the rest of the source, balanced
    accuracy was 0.66 with the model as it was, 0.70 with new trees alone, 0.75 with moved leaves,
    0.78 with both.

    Parameters
    ----------
    base : FrozenEstimator
        Of a fitted random forest or extra trees, as :func:`base_forest` gives it.
    labels : tuple of str
        The labels of the result, sorted: all of the base's, and new ones.
    strength : float
        > 0. How many events the belief of a leaf is worth.
    random_state : int or None

    Attributes
    ----------
    forest_ : RandomForestClassifier or ExtraTreesClassifier
        Old and new trees; this is what is saved.
    classes_ : str array
    """

    def __init__(
        self,
        base: FrozenEstimator | None = None,
        labels: tuple[str, ...] = (),
        strength: float = 3.0,
        random_state: int | None = 0,
    ) -> None:
        self.base = base
        self.labels = labels
        self.strength = strength
        self.random_state = random_state

    def fit(
        self, X: ArrayLike, y: NDArray[np.str_], sample_weight: ArrayLike | None = None
    ) -> ContinuedForest:
        """Move the leaves of the base and grow as many trees beside its own.

        Parameters
        ----------
        X : array, shape (n, n_features)
        y : array, shape (n,)
            Labels, or their numbers; every one of `labels` occurs, if need be without weight.
        sample_weight : array, shape (n,), or None
        """
        assert self.base is not None
        old = self.base.estimator
        rows = np.ascontiguousarray(X, np.float32)
        classes, numbers = np.unique(y, return_inverse=True)
        if len(classes) != len(self.labels):
            raise ValueError(f"y must hold all of {self.labels}")
        weights = np.ones(len(rows)) if sample_weight is None else np.asarray(sample_weight)
        kept = np.linspace(0, len(old.estimators_) - 1, min(_MOST_OLD_TREES, len(old.estimators_)))
        columns = np.searchsorted(np.array(self.labels), old.classes_)
        votes = np.eye(len(classes))[numbers] * weights[:, None]
        moved = [
            _moved(old.estimators_[number], rows, votes, columns, self.strength)
            for number in np.unique(kept.round().astype(int))
        ]
        new = clone(old).set_params(
            n_estimators=len(moved),
            min_samples_leaf=_NEW_LEAF,
            max_samples=None,
            random_state=self.random_state,
            n_jobs=None,
        )
        new.fit(rows, y, weights)
        new.estimators_ = [*moved, *new.estimators_]
        new.set_params(n_estimators=len(new.estimators_))
        self.forest_ = new
        self.classes_ = new.classes_
        self.n_features_in_ = new.n_features_in_
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return probabilities, shape (n, n_classes)."""
        answers: NDArray[np.float64] = self.forest_.predict_proba(X)
        return answers

    def predict(self, X: ArrayLike) -> NDArray[np.str_]:
        """Return the likeliest class of each row."""
        likeliest: NDArray[np.str_] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return likeliest


def _moved(
    tree: Any,
    rows: NDArray[np.float32],
    votes: NDArray[np.float64],
    columns: NDArray[np.int64],
    strength: float,
) -> Any:
    """Return a fitted decision tree with its leaves moved and a column for every class."""
    state = tree.tree_.__getstate__()
    n_classes = votes.shape[1]
    belief = np.zeros((state["node_count"], n_classes))
    belief[:, columns] = state["values"][:, 0, :]
    reached = np.zeros_like(belief)
    np.add.at(reached, tree.tree_.apply(rows), votes)
    belief = strength * belief + reached
    belief /= belief.sum(axis=1, keepdims=True)
    moved = _with_state(tree, {**state, "values": np.ascontiguousarray(belief[:, None, :])})
    moved.classes_ = np.arange(n_classes, dtype=np.float64)
    moved.n_classes_ = n_classes
    return moved


def base_forest(estimator: Any, name: str) -> FrozenEstimator:
    """Return the forest inside of a model's estimator, to start from.

    Raises
    ------
    InvalidInputError
        When it is no forest.
    """
    forest = last_step(estimator)
    if not isinstance(forest, RandomForestClassifier | ExtraTreesClassifier):
        raise InvalidInputError(
            f"the model {name} is a {type(forest).__name__}; only a forest can be started from"
        )
    forest = copy(forest)
    forest.classes_ = np.asarray(estimator.classes_)  # inside of a calibration they are numbers
    return FrozenEstimator(forest)


def without_training_parts(estimator: Any) -> Any:
    """Return a fitted estimator made of scikit-learn's classes alone, fit to be saved."""
    if hasattr(estimator, "calibrated_classifiers_"):
        for one in estimator.calibrated_classifiers_:
            one.estimator = without_training_parts(one.estimator)
            for calibrator in one.calibrators:
                if hasattr(calibrator, "beta_"):
                    # Threads add up what it was fitted on in the order in which they end.
                    calibrator.beta_ = np.round(calibrator.beta_, 6)
        # The folds are of no use any more; the unfitted copy is for who clones it.
        estimator.set_params(
            cv=None, estimator=clone(estimator.calibrated_classifiers_[0].estimator)
        )
    elif hasattr(estimator, "steps"):
        name, last = estimator.steps[-1]
        last = last.forest_ if isinstance(last, ContinuedForest) else last
        if isinstance(last, RandomForestClassifier | ExtraTreesClassifier):
            last.estimators_ = [_lighter(tree) for tree in last.estimators_]
        estimator.steps[-1] = (name, last)
    quiet(estimator)  # threads add up probabilities in the order in which they end
    return estimator


def _lighter(tree: Any) -> Any:
    """Return a fitted decision tree without what only its training needed: a third of the file.

    Leaves are rounded down to multiples of 1/4096, the first class gets the rest.
    """
    state = tree.tree_.__getstate__()
    nodes, values = state["nodes"].copy(), state["values"].copy()
    leaf = nodes["left_child"] < 0
    nodes["impurity"] = 0.0
    nodes["weighted_n_node_samples"] = nodes["n_node_samples"]
    nodes["threshold"] = nodes["threshold"].astype(np.float32)
    values[..., 1:] = np.floor(values[..., 1:] * _LEAF_STEPS) / _LEAF_STEPS
    values[~leaf, :, 1:] = 0.0
    values[..., 0] = 1.0 - values[..., 1:].sum(axis=-1)
    return _with_state(tree, {**state, "nodes": nodes, "values": values})


def _with_state(tree: Any, state: Mapping[str, Any]) -> Any:
    """Return a copy of a fitted decision tree with other nodes or values."""
    changed = copy(tree)
    changed.tree_ = Tree(tree.tree_.n_features, np.array([state["values"].shape[2]]), 1)
    changed.tree_.__setstate__(state)
    return changed
