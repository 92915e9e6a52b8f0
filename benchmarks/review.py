"""What a review that learns saves: ``python -m benchmarks.review RECORDINGS --seeds 20``.

Labelled recordings are split by group: a third judges, the rest is a pool without labels. Two
reviews begin with the same twenty sounds drawn at random. One goes on at random and learns from all
its labels; the other asks what :func:`~audio_pipeline.model.active_learning.learned_order` says and
keeps one in five apart, as ``crepitus review`` does. After every twenty labels a model is fitted to
each and judged on the groups of the other third, which neither has met.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Pool:
    """One row a recording: the mean of its sounds' features."""

    table: NDArray[np.float32]
    labels: NDArray[np.str_]
    groups: NDArray[np.str_]
    kinds: NDArray[np.str_]


def read_pool(recordings: Path, cache: Path | None) -> Pool:
    """Listen to the recordings, or read what an earlier run kept."""
    if cache is None or not cache.exists():
        from audio_pipeline.analysis.config import AnalysisConfig
        from audio_pipeline.datasets.loading import load_training_data
        from audio_pipeline.datasets.manifest import in_doubt, read_dataset

        material = load_training_data(read_dataset(recordings), AnalysisConfig())
        kept = [n for n in material.usable if not in_doubt(material.cases[n].columns)]
        cases = [material.cases[number] for number in kept]
        pool = Pool(
            np.array([case.table.mean(axis=0) for case in cases], np.float32),
            np.array([case.label for case in cases]),
            material.groups[kept],
            np.array([case.columns.get("kind", "") for case in cases]),
        )
        if cache is None:
            return pool
        np.savez(cache, **vars(pool))
    with np.load(cache) as kept_before:
        return Pool(**{name: kept_before[name] for name in Pool.__dataclass_fields__})


def review(
    pool: Pool,
    train: NDArray[np.int64],
    test: NDArray[np.int64],
    how: str,
    labels: int,
    seed: int,
    estimator: str,
) -> list[float]:
    """Return the balanced accuracy on `test` after every twenty labels of `train`.

    Parameters
    ----------
    how : str
        ``random``, ``learned``, ``learned, none apart`` or ``learned, groups unknown``; ``margin``
        asks only what is doubtful.
    """
    from audio_pipeline.model import active_learning

    every = active_learning.REFIT_EVERY
    names, y = np.unique(pool.labels, return_inverse=True)
    drawn = np.random.default_rng(seed).permutation(len(train))  # the same for every review
    space = active_learning.standardized(pool.table[train])
    given: list[str | None] = [None] * len(train)
    apart = np.zeros(len(train), bool)
    asked = np.zeros(len(train), bool)
    share = 0.0 if how in {"margin", "learned, none apart"} else active_learning.APART_SHARE
    rows = np.concatenate([train, test])
    groups = pool.groups[train].tolist()
    curve: list[float] = []
    probabilities: Floats | None = None
    for _ in range(labels // every):
        waiting = drawn[~asked[drawn]]
        if how == "random" or probabilities is None:
            chosen, kept_apart = waiting[:every], waiting[:0]
        else:
            kept_apart = waiting[: round(share * every)]
            asked[kept_apart] = True
            worth = active_learning.uncertainty(probabilities[: len(train)])
            most = every - len(kept_apart)
            if how == "margin":
                order = np.argsort(-np.where(asked, -1.0, worth), kind="stable")
                chosen = order[:most]
            else:
                chosen = active_learning.learned_order(
                    space,
                    probabilities[: len(train)],
                    worth,
                    asked,
                    groups if how != "learned, groups unknown" else [""] * len(train),
                    most,
                )
        asked[chosen] = True
        apart[kept_apart] = True
        for number in (*chosen, *kept_apart):
            given[number] = str(pool.labels[train[number]])
        fitted = active_learning.refit(
            pool.table[rows],
            [*given, *[None] * len(test)],
            np.concatenate([apart, np.zeros(len(test), bool)]),
            pool.groups[rows].tolist(),
            names.tolist(),
            estimator=estimator,
            seed=seed,
            judge=False,
        )
        if fitted is None:
            curve.append(1 / len(names))
            continue
        probabilities = fitted.probabilities
        y_pred = probabilities[len(train) :].argmax(axis=1)
        recalls = [(y_pred == k)[y[test] == k].mean() for k in np.unique(y[test])]
        curve.append(float(np.mean(recalls)))
    return curve


def labels_for(curve: Sequence[float], accuracy: float, every: int) -> float:
    """Return how many labels a curve takes to reach an accuracy; infinite if it never does.

    Before that it may rise and fall: what counts is when the best so far reaches it.
    """
    best = np.maximum.accumulate(curve)
    later = int(np.searchsorted(best, accuracy))
    if later == len(best):
        return float("inf")
    if later == 0:
        return float(every)
    before, after = best[later - 1], best[later]
    return float(every * (later + (accuracy - before) / max(after - before, 1e-12)))


def summary(curves: dict[str, list[list[float]]], every: int) -> dict[str, object]:
    """Compare the reviews: means, what each gains over random, and the labels it needs.

    Intervals are bootstraps over seeds, which share recordings: they say how much the draw matters,
    not how other recordings would do.
    """
    rng = np.random.default_rng(0)
    random = np.array(curves["random"])
    picks = rng.integers(0, len(random), (500, len(random)))

    def interval(figure: Callable[[NDArray[np.int64]], float]) -> list[float]:
        drawn = [figure(rows) for rows in picks]
        low, high = np.quantile(drawn, (0.025, 0.975))
        return [round(float(x), 3) for x in (figure(np.arange(len(random))), low, high)]

    found: dict[str, object] = {"labels": [every * (n + 1) for n in range(random.shape[1])]}
    targets = [n for n in (100, 200, 300) if n <= every * random.shape[1]]
    for name, given in curves.items():
        own = np.array(given)
        row: dict[str, object] = {"accuracy": np.round(own.mean(axis=0), 3).tolist()}
        if name != "random":
            at = {n: n // every - 1 for n in targets}
            gain = {n: interval(partial(_gain, own, random, k)) for n, k in at.items()}
            needed = {n: interval(partial(_needed, own, random, k)) for n, k in at.items()}
            row |= {"gain": gain, "labels needed for what random reaches at": needed}
        found[name] = row
    return found


def _gain(own: Floats, random: Floats, at: int, rows: NDArray[np.int64]) -> float:
    return float((own - random)[rows, at].mean())


def _needed(own: Floats, random: Floats, at: int, rows: NDArray[np.int64]) -> float:
    from audio_pipeline.model.active_learning import REFIT_EVERY

    return labels_for(own[rows].mean(axis=0), random[rows].mean(axis=0)[at], REFIT_EVERY)


@click.command()
@click.argument("recordings", type=click.Path(path_type=Path, exists=True))
@click.option("--seeds", default=20, show_default=True, help="Splits and first draws.")
@click.option("--labels", default=300, show_default=True, help="Labels in each review.")
@click.option("--estimator", default="forest", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), help="Keep the features here (.npz).")
@click.option("--how", multiple=True, default=("learned", "learned, none apart"), show_default=True)
def command(
    recordings: Path,
    seeds: int,
    labels: int,
    estimator: str,
    cache: Path | None,
    how: Sequence[str],
) -> None:
    """Simulate reviews on labelled recordings: the learned order against random."""
    from audio_pipeline.model.active_learning import REFIT_EVERY
    from audio_pipeline.model.selection import grouped_folds

    pool = read_pool(recordings, cache)
    curves: dict[str, list[list[float]]] = {name: [] for name in ("random", *how)}
    for seed in range(seeds):
        folds = grouped_folds(pool.labels, pool.groups, 3, seed)
        fold = folds[seed % len(folds)]
        for name, found in curves.items():
            found.append(review(pool, fold.train, fold.test, name, labels, seed, estimator))
        ends = ", ".join(f"{name} {found[-1][-1]:.3f}" for name, found in curves.items())
        click.echo(f"seed {seed}: {ends}", err=True)
    click.echo(json.dumps(summary(curves, REFIT_EVERY), indent=1))


if __name__ == "__main__":
    command()
