"""What must hold of a fitted estimator from a file before it is asked anything.

scikit-learn trusts the arrays of an estimator: it follows the children of a tree wherever they
point and multiplies matrices as they come. Here every array is held against the number of classes
and features that ``model.json`` states.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST_LABELS: Final = 100
MOST_FEATURES: Final = 2000
DEEPEST_TREE: Final = 200


def check_tree(n_features: Any, n_classes: Any, n_outputs: Any, state: Any) -> None:
    """Refuse the parts of a scikit-learn tree that are no whole binary tree.

    scikit-learn walks from the root by the numbers in `nodes` and looks up features by them,
    without asking whether they exist.

    Parameters
    ----------
    n_features, n_outputs : int
    n_classes : int array, shape (1,)
    state : dict
        ``max_depth``, ``node_count``, ``nodes`` and ``values``.

    Raises
    ------
    ValueError
        When a child is outside the tree, has two parents, comes before its parent or is not
        reached, a tree is more than 200 levels deep, a node asks about a feature that is not
        there, or a value is no probability.
    """
    from sklearn.tree._tree import NODE_DTYPE

    nodes, values = state["nodes"], state["values"]
    if set(state) != {"max_depth", "node_count", "nodes", "values"}:
        raise ValueError("a tree has other parts than a tree")
    whole = isinstance(n_features, int) and 1 <= n_features <= MOST_FEATURES and n_outputs == 1
    if not whole or not isinstance(n_classes, np.ndarray) or n_classes.shape != (1,):
        raise ValueError("a tree has an unusual size")
    count, k = len(nodes), int(n_classes[0])
    if nodes.dtype != NODE_DTYPE or nodes.shape != (count,) or count < 1:
        raise ValueError("the nodes of a tree are of another kind; train the model again")
    if state["node_count"] != count or not 1 <= k <= MOST_LABELS or n_classes.dtype.kind != "i":
        raise ValueError("the parts of a tree do not fit together")
    if values.dtype != np.float64 or values.shape != (count, 1, k):
        raise ValueError("the values of a tree are of another shape")
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1 + 1e-9:
        raise ValueError("the values of a tree must be probabilities")
    left, right = nodes["left_child"], nodes["right_child"]
    inner = np.flatnonzero(left != -1)
    children = np.concatenate([left[inner], right[inner]])
    parents = np.concatenate([inner, inner])
    if (right[left == -1] != -1).any() or (children <= parents).any() or (children >= count).any():
        raise ValueError("a tree has nodes outside itself")
    if children.size != count - 1 or np.unique(children).size != children.size:
        raise ValueError("a tree has nodes that nothing or two nodes lead to")
    feature = nodes["feature"][inner]
    if feature.size and (feature.min() < 0 or feature.max() >= n_features):
        raise ValueError("a node of a tree asks about a feature that is not there")
    if not np.isfinite(nodes["threshold"][inner]).all():
        raise ValueError("a threshold of a tree is not finite")
    if not isinstance(state["max_depth"], int) or state["max_depth"] != _depth(left, right):
        raise ValueError("a tree is of another depth than it says")


def _depth(left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
    """Return the depth of a tree whose children come after their parents."""
    level = np.zeros(1, np.int64)
    for depth in range(DEEPEST_TREE + 1):
        level = level[left[level] != -1]
        if not level.size:
            return depth
        level = np.concatenate([left[level], right[level]])
    raise ValueError(f"a tree is more than {DEEPEST_TREE} levels deep")


def check_answers(estimator: Any, labels: Sequence[str], n_features: int) -> None:
    """Ask once, so that a part that is missing or does not fit is found now."""
    probe = np.vstack([np.zeros(n_features), np.linspace(-30, 30, n_features)]).astype(np.float32)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classes = estimator.classes_.tolist()
            answers = np.asarray(estimator.predict_proba(probe), np.float64)
    except Exception as error:
        raise ValueError(f"it cannot answer: {type(error).__name__}: {error}"[:300]) from None
    if classes != list(labels):
        raise ValueError("it knows other labels than model.json")
    whole = answers.shape == (2, len(labels)) and np.isfinite(answers).all()
    if not whole or (answers < 0).any() or not np.allclose(answers.sum(axis=1), 1.0, atol=1e-6):
        raise ValueError("its answers are no probabilities")


def check_fitted(part: Any, classes: NDArray[Any], n_features: int) -> None:
    """Refuse a fitted classifier whose arrays do not fit its classes and features.

    Parameters
    ----------
    part : object
        Built of the allowed types.
    classes : array, shape (k,)
        What its columns must stand for.
    n_features : int

    Raises
    ------
    ValueError
    """
    own = vars(part)
    kind = type(part).__name__
    check = _CHECKS.get(kind)
    if check is None:
        raise ValueError(f"{kind} is no classifier")
    for name in own:
        if name == "feature_names_in_" or name.startswith("_sklearn_output"):
            raise ValueError(f"{kind} has {name}; train on arrays without names")
    if "classes_" in own and not np.array_equal(own["classes_"], classes):
        raise ValueError("it knows other labels than model.json")
    if own.get("n_features_in_", n_features) != n_features:
        raise ValueError(f"it takes {own['n_features_in_']} features, model.json has {n_features}")
    check(part, classes, n_features)


def _numbers(part: Any, name: str, *shapes: tuple[int, ...]) -> None:
    """Require a finite array of floats of one of some shapes as an attribute."""
    value = getattr(part, name)
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.shape not in shapes:
        raise ValueError(f"{name} of {type(part).__name__} has the wrong shape")
    if not np.isfinite(value).all():
        raise ValueError(f"{name} of {type(part).__name__} is not finite")


def _check_pipeline(part: Any, classes: NDArray[Any], n_features: int) -> None:
    *before, (_, last) = part.steps
    if len(before) > 5 or part.memory is not None:
        raise ValueError("a pipeline has too many steps")
    for _, step in before:
        kind = type(step).__name__
        if kind == "FunctionTransformer":
            given = (step.func, step.inverse_func, step.kw_args, step.inv_kw_args)
            if any(each is not None for each in given) or step.accept_sparse is not False:
                raise ValueError("a FunctionTransformer has a function")
        elif kind == "StandardScaler":
            for name in ("mean_", "var_", "scale_"):
                if getattr(step, name) is not None:
                    _numbers(step, name, (n_features,))
            if step.scale_ is not None and not (step.scale_ > 0).all():
                raise ValueError("a StandardScaler divides by nothing")
        elif kind == "SimpleImputer":
            _numbers(step, "statistics_", (n_features,))
            if step.indicator_ is not None or step.strategy == "callable":
                raise ValueError("a SimpleImputer adds columns")
        elif step != "passthrough":
            raise ValueError(f"a pipeline holds {kind}")
    check_fitted(last, classes, n_features)


def _check_calibrated(part: Any, classes: NDArray[Any], n_features: int) -> None:
    if not 1 <= len(part.calibrated_classifiers_) <= 20:
        raise ValueError("a calibrated classifier has no parts")
    for one in part.calibrated_classifiers_:
        if type(one).__name__ != "_CalibratedClassifier":
            raise ValueError("a calibrated classifier has other parts")
        if not np.array_equal(one.classes, classes):
            raise ValueError("it knows other labels than model.json")
        kinds = {type(each).__name__ for each in one.calibrators}
        wanted = {"temperature": "_TemperatureScaling", "sigmoid": "_SigmoidCalibration"}
        if kinds != {wanted.get(one.method)} or len(one.calibrators) > len(classes):
            raise ValueError("a calibrator is missing")
        for calibrator in one.calibrators:
            for value in vars(calibrator).values():
                if not (isinstance(value, float | np.floating) and math.isfinite(value)):
                    raise ValueError("a calibrator is not finite")
            if one.method == "temperature" and not 1e-6 < calibrator.beta_ < 1e6:
                raise ValueError("a temperature is out of range")
        # With temperatures scikit-learn numbers the labels before it fits.
        numbers = np.arange(len(classes))
        numbered = np.array_equal(one.estimator.classes_, numbers)
        check_fitted(one.estimator, numbers if numbered else classes, n_features)


def _check_decision_tree(part: Any, classes: NDArray[Any], n_features: int) -> None:
    tree = part.tree_
    if type(tree).__name__ != "Tree" or tree.n_features != n_features:
        raise ValueError("a tree takes another number of features")
    if part.n_outputs_ != 1 or part.n_classes_ != len(classes):
        raise ValueError("a tree knows another number of classes")
    if tree.n_classes.tolist() != [len(classes)]:
        raise ValueError("a tree knows another number of classes")


def _check_forest(part: Any, classes: NDArray[Any], n_features: int) -> None:
    if part.n_outputs_ != 1 or part.n_classes_ != len(classes):
        raise ValueError("a forest knows another number of classes")
    if part.n_estimators != len(part.estimators_) or not part.estimators_:
        raise ValueError("a forest has another number of trees than it says")
    numbers = np.arange(len(classes), dtype=np.float64)
    for tree in part.estimators_:
        check_fitted(tree, numbers, n_features)


def _check_linear(part: Any, classes: NDArray[Any], n_features: int) -> None:
    rows = 1 if len(classes) == 2 else len(classes)
    _numbers(part, "coef_", (rows, n_features))
    _numbers(part, "intercept_", (rows,))


def _check_voting(part: Any, classes: NDArray[Any], n_features: int) -> None:
    if part.voting != "soft" or not 1 <= len(part.estimators_) <= 20:
        raise ValueError("a vote must be soft, of up to 20 estimators")
    weights = part.weights
    if weights is not None and not all(isinstance(each, int | float) for each in weights):
        raise ValueError("the weights of a vote are no numbers")
    if not np.array_equal(part.le_.classes_, classes):
        raise ValueError("it knows other labels than model.json")
    for one in part.estimators_:
        check_fitted(one, np.arange(len(classes)), n_features)


_CHECKS: Final[Mapping[str, Callable[[Any, NDArray[Any], int], None]]] = {
    "Pipeline": _check_pipeline,
    "CalibratedClassifierCV": _check_calibrated,
    "FrozenEstimator": lambda part, classes, n: check_fitted(part.estimator, classes, n),
    "RandomForestClassifier": _check_forest,
    "ExtraTreesClassifier": _check_forest,
    "DecisionTreeClassifier": _check_decision_tree,
    "ExtraTreeClassifier": _check_decision_tree,
    **dict.fromkeys(
        (
            "LinearDiscriminantAnalysis",
            "LogisticRegression",
            "SGDClassifier",
        ),
        _check_linear,
    ),
    "VotingClassifier": _check_voting,
}
