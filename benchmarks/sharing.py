"""What two sites lose, and what leaks, when they share no sound: ``python -m benchmarks.sharing``.

The groups of a dataset are dealt to two sites and a test part, again and again. Each site is a
process that sees its own part only, and leaves a feature table (cells of label and kind with fewer
than so many people are held back) and an estimator fitted apart. Put together are the tables in one
fit, the estimators by a soft vote, and everything in one fit as a yardstick.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

WAYS = ("one site alone", "soft vote", "shared tables", "everything in one place")


def site(part: Path, left: Path, minimum: int, trees: int) -> None:
    """Do what one site does: fit on its own rows, and write what may leave the house.

    ``part``: an .npz with data, target, weight, group and kind.
    ``left``: a folder for ``estimator.skops`` and ``table.npz``, which has no group.
    ``minimum``: people a cell of label and kind needs for its rows to be shared.
    """
    import skops.io

    with np.load(part) as rows:
        data, target, weight, group, kind = (
            rows[name] for name in ("data", "target", "weight", "group", "kind")
        )
    estimator = fitted(data, target, weight, trees)
    skops.io.dump(estimator, left / "estimator.skops")
    cells = np.char.add(np.char.add(target, "/"), kind)
    people = {cell: np.unique(group[cells == cell]).size for cell in np.unique(cells)}
    kept = np.array([people[cell] >= minimum for cell in cells], dtype=bool)
    np.savez(left / "table.npz", data=data[kept], target=target[kept], weight=weight[kept])
    (left / "said.json").write_text(json.dumps({"rows": len(cells), "shared": int(kept.sum())}))


def fitted(data: NDArray[Any], target: NDArray[Any], weight: NDArray[Any], trees: int) -> Any:
    """Fit the default estimator, with so many trees."""
    from audio_pipeline.model.estimator import make_classifier

    estimator = make_classifier(n_estimators=trees)
    return estimator.fit(data, target, classify__sample_weight=weight)


def deal(groups: NDArray[Any], target: NDArray[Any], seed: int) -> dict[str, NDArray[Any]]:
    """Deal groups to two sites and a test part, all with two groups or more of every label."""
    for attempt in range(1000):
        random = np.random.default_rng([seed, attempt])
        names = random.permutation(np.unique(groups))
        third = len(names) // 3
        parts = {"A": names[:third], "B": names[third : 2 * third], "test": names[2 * third :]}
        masks = {name: np.isin(groups, chosen) for name, chosen in parts.items()}
        if all(
            np.unique(groups[mask & (target == label)]).size >= 2
            for mask in masks.values()
            for label in np.unique(target)
        ):
            return masks
    raise click.ClickException("the dataset has too few groups of some label for two sites")


def answers(estimators: Sequence[Any], data: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Return the mean probabilities of estimators, in the order of the labels."""
    found = np.zeros((len(data), len(labels)))
    for one in estimators:
        columns = np.searchsorted(labels, one.classes_)
        found[:, columns] += one.predict_proba(data) / len(estimators)
    return found


def balanced(chances: NDArray[Any], target: NDArray[Any], recording: NDArray[Any]) -> float:
    """Return the balanced accuracy over recordings, by the mean of their segments."""
    from audio_pipeline.model.metrics import balanced_accuracy

    names, index = np.unique(recording, return_inverse=True)
    sums = np.array([np.bincount(index, column) for column in chances.T]).T
    labels, code = np.unique(target, return_inverse=True)
    truth = np.zeros(len(names), dtype=np.int64)
    truth[index] = code
    return balanced_accuracy(truth, sums.argmax(axis=1), len(labels))


def told_apart(members: NDArray[Any], strangers: NDArray[Any]) -> float:
    """Return the AUC of telling members from strangers by a score; 0.5 tells nothing."""
    from sklearn.metrics import roc_auc_score

    truth = np.r_[np.ones(len(members)), np.zeros(len(strangers))]
    return float(roc_auc_score(truth, np.r_[members, strangers]))


def found_again(rows: Any, mask: NDArray[Any], seed: int) -> tuple[float, float]:
    """Return how often a person's other recordings find them in a table, and chance.

    Half of each group's recordings are in the table; each row of the others looks for its nearest.
    """
    random = np.random.default_rng(seed)
    names = np.unique(rows.recording[mask])
    inside = np.isin(rows.recording, names[random.random(len(names)) < 0.5])
    table, asked = mask & inside, mask & ~inside
    asked &= np.isin(rows.groups, np.unique(rows.groups[table]))
    spread = rows.data[table].std(axis=0) + 1e-9
    known, sought = rows.data[table] / spread, rows.data[asked] / spread
    distance = (known**2).sum(axis=1) - 2 * sought @ known.T
    right = rows.groups[table][distance.argmin(axis=1)] == rows.groups[asked]
    shares = {name: (rows.groups[table] == name).mean() for name in np.unique(rows.groups[asked])}
    chance = np.mean([shares[name] for name in rows.groups[asked]])
    return float(right.mean()), float(chance)


def once(rows: Any, kind: NDArray[Any], seed: int, minimum: int, trees: int) -> dict[str, float]:
    """Deal once, let both sites work as processes, and measure what came of it."""
    import skops.io

    masks = deal(rows.groups, rows.target, seed)
    labels = np.unique(rows.target)
    test = masks["test"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        context = multiprocessing.get_context("spawn")
        works = []
        for name in ("A", "B"):
            mask = masks[name]
            (folder / name).mkdir()
            np.savez(
                folder / f"{name}.npz",
                data=rows.data[mask],
                target=rows.target[mask],
                weight=rows.sample_weight[mask],
                group=rows.groups[mask],
                kind=kind[mask],
            )
            works.append((folder / f"{name}.npz", folder / name, minimum, trees))
        processes = [context.Process(target=site, args=work) for work in works]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise click.ClickException("a site failed")
        apart = []
        tables: list[tuple[NDArray[Any], ...]] = []
        said = []
        for name in ("A", "B"):
            file = folder / name / "estimator.skops"
            apart.append(skops.io.load(file, trusted=skops.io.get_untrusted_types(file=file)))
            with np.load(folder / name / "table.npz") as table:
                tables.append((table["data"], table["target"], table["weight"]))
            said.append(json.loads((folder / name / "said.json").read_text()))
    both = masks["A"] | masks["B"]
    shared = [np.concatenate(columns) for columns in zip(*tables, strict=True)]
    pooled = fitted(rows.data[both], rows.target[both], rows.sample_weight[both], trees)
    models = {
        "soft vote": apart,
        "shared tables": [fitted(*shared, trees)],
        "everything in one place": [pooled],
    }

    def score(estimators: Sequence[Any]) -> float:
        chances = answers(estimators, rows.data[test], labels)
        return balanced(chances, rows.target[test], rows.recording[test])

    figures = {name: score(estimators) for name, estimators in models.items()}
    figures["one site alone"] = float(np.mean([score([one]) for one in apart]))
    code = np.searchsorted(labels, rows.target)
    for name in ("soft vote", "shared tables", "everything in one place"):
        chances = answers(models[name], rows.data, labels)[np.arange(len(code)), code]
        figures[f"members told apart: {name}"] = told_apart(chances[both], chances[test])
    again, chance = found_again(rows, both, seed)
    figures["found again in a table"], figures["found again by chance"] = again, chance
    figures["rows held back"] = 1 - sum(s["shared"] for s in said) / sum(s["rows"] for s in said)
    return figures


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--repeats", default=20, show_default=True, help="How often groups are dealt.")
@click.option("--minimum", default=3, show_default=True, help="People a shared cell needs.")
@click.option("--by-label", is_flag=True, help="Cells of label alone, not of label and kind.")
@click.option("--trees", default=100, show_default=True)
@click.option("--table", type=click.Path(path_type=Path), help="Keep the features here (.npz).")
def command(
    dataset: Path, repeats: int, minimum: int, by_label: bool, trees: int, table: Path | None
) -> None:
    """Print accuracy and leaks of each way to share, with intervals over deals."""
    from sklearn.utils import Bunch

    from audio_pipeline.datasets.loading import load_examples
    from audio_pipeline.datasets.manifest import read_dataset

    given = read_dataset(dataset)
    kinds = {clip.name: clip.columns.get("kind", "") for clip in given.clips}
    fields = ("data", "target", "groups", "recording", "sample_weight")
    if table is not None and table.is_file():
        with np.load(table) as kept:
            rows = Bunch(**{name: kept[name] for name in fields})
    else:
        rows = load_examples(given)
        if table is not None:
            np.savez(table, **{name: rows[name] for name in fields})
    kind = np.array(["" if by_label else kinds[name] for name in rows.recording])
    found = [once(rows, kind, seed, minimum, trees) for seed in range(repeats)]
    click.echo(f"{len(rows.data)} rows of {np.unique(rows.groups).size} groups, {repeats} deals")
    for name in found[0]:
        values = np.array([one[name] for one in found])
        click.echo(f"{name:44} {values.mean():.3f} (sd over deals {values.std():.3f})")
    yardstick = np.array([one["everything in one place"] for one in found])
    for name in WAYS[:-1]:
        lost = yardstick - np.array([one[name] for one in found])
        low, high = np.quantile(lost, (0.1, 0.9))
        click.echo(f"{name} costs {lost.mean():+.3f} (80 % of deals: {low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    command()
