"""The estimator of a model: a scikit-learn classifier, by default a random forest.

:func:`make_classifier` gives the unfitted pipeline that training tunes and calibrates. Whatever is
chosen takes the feature table as it is; columns are scaled where the classifier needs that.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from audio_pipeline.exceptions import InvalidInputError

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import Pipeline

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
        {**_FOREST, "max_features": 0.35, "bootstrap": True},
    ),
    "boosting": (
        "sklearn.ensemble.HistGradientBoostingClassifier",
        {"max_iter": 100, "early_stopping": False},
    ),
    "logistic": ("sklearn.linear_model.LogisticRegression", {"max_iter": 2000}),
    "svm": ("sklearn.svm.SVC", {}),
    "neighbors": ("sklearn.neighbors.KNeighborsClassifier", {"algorithm": "brute"}),
}
NAMES: Final = tuple(_NAMED)
"""Short names that training takes; the dotted path of any other classifier works as well."""

_MANY_ROWS: Final = 100
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
        Set where the classifier takes one.
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

    Examples
    --------
    >>> make_classifier("logistic", C=0.1).named_steps["classify"]
    LogisticRegression(C=0.1, max_iter=2000)
    """
    from sklearn.base import clone
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    if isinstance(estimator, Pipeline):
        return clone(estimator).set_params(**params)
    if isinstance(estimator, str):
        path, defaults = _NAMED.get(estimator, (estimator, {}))
        classifier = _instance(_class(path), defaults)
    else:
        classifier = clone(estimator)
    _set_params(classifier, params)
    if "random_state" in classifier.get_params(deep=False) and "random_state" not in params:
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
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.ensemble._forest import ForestClassifier
    from sklearn.tree import DecisionTreeClassifier

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
        "HistGradientBoostingClassifier": {"learning_rate": [0.1, 0.03]},
        "LogisticRegression": {"C": [0.01, 0.1, 1.0]},
        "CalibratedClassifierCV": {"estimator__C": [1.0, 10.0]},
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


def parse_params(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Read ``NAME=VALUE`` pairs; a value is a Python literal, or else text.

    Raises
    ------
    InvalidInputError
        When a pair has no name or no value, or the value is neither a number, a word nor a list of
        them.
    """
    read: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier() or not text or len(text) > 200:
            raise InvalidInputError(f"--param {pair[:80]!r}: write NAME=VALUE")
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


def _class(path: str) -> type[BaseEstimator]:
    """Return the scikit-learn classifier of a dotted path, importing nothing that it names."""
    from sklearn.utils import all_estimators

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
    from sklearn.utils._param_validation import InvalidParameterError

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
