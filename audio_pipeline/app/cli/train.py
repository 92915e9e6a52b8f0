"""Commands for labelled recordings: train, evaluate, benchmark, takes and synthesize."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from audio_pipeline.app.cli.options import (
    allow_outside_option,
    controls_option,
    dataset_options,
    json_option,
    learn_from_option,
    model_options,
    output_folder,
    overwrite_option,
    pairs,
    param_option,
    trust_option,
    where_option,
)
from audio_pipeline.app.outputs import (
    check_new_folder,
    check_output,
    check_page,
    write_json,
    write_page,
    write_rows,
)
from audio_pipeline.app.text import show, show_json, steps, visible

if TYPE_CHECKING:
    from audio_pipeline.model.evaluation import Evaluation


def _probability(text: str) -> float:
    """Read a number between 0 and 1; ValueError where it is none."""
    number = float(text)
    if not 0 < number < 1:
        raise ValueError(text)
    return number


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what `train` and `benchmark` learn from and listen at."""
    options = (
        learn_from_option,
        click.option("--synthetic", default=0, metavar="N", help="Train on N made scenes as well."),
        click.option(
            "--embed",
            is_flag=True,
            help="Train on each recording in new surroundings, and on gratings of its impacts.",
        ),
        click.option("--sample-rate", type=click.IntRange(1000, 192_000), help="Hz to listen at."),
        controls_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog="Example: crepitus train my_recordings -o my_model")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@output_folder("Folder for the model")
@click.option(
    "--start-from",
    "base",
    type=click.Path(path_type=Path),
    metavar="MODEL_DIR|default",
    help="Add these recordings to what a model knows; for few recordings.",
)
@trust_option
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same model.")
@click.option(
    "--folds",
    default=5,
    show_default=True,
    type=click.IntRange(min=2),
    help="Of the cross-validation.",
)
@click.option(
    "--estimator",
    default="forest",
    show_default=True,
    metavar="NAME",
    help="forest, extra_trees, boosting, logistic, svm, neighbors, or the dotted path of any "
    "scikit-learn classifier with predict_proba.",
)
@param_option("A parameter of the estimator, set instead of searched.")
@dataset_options
@recipe_options
@click.option(
    "--judge-only",
    is_flag=True,
    help="Learn from made sounds only; the recordings calibrate the model.",
)
@click.option(
    "--takes",
    default=0,
    metavar="N",
    help="Choose when an event is sure, and judge, on N recordings put together (see `takes`).",
)
@click.option("--permissive", is_flag=True, help="Leave out rows whose licence asks for more.")
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    callback=pairs("LABEL=P with P between 0 and 1", _probability, str.rpartition),
    metavar="LABEL=P",
    help="Certainty from which a label is sure, instead of one that is chosen.",
)
@click.option("--name", default="", help="Name of the model.")
@click.option(
    "--ignore-groups",
    is_flag=True,
    help="Report figures although people sit on both sides of a split; they are too good.",
)
@click.option(
    "--predictions",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="TABLE.csv",
    help="Also write what models without a recording's group said of it.",
)
@json_option
def train_command(
    dataset: Path | None,
    folder: Path,
    base: Path | None,
    trusted: bool,
    params: tuple[str, ...],
    where: dict[str, str],
    group_by: str,
    allow_outside: bool,
    synthetic: int,
    embed: bool,
    permissive: bool,
    predictions: Path | None,
    as_json: bool,
    **simple: Any,
) -> None:
    """Train a model on labelled recordings, and say honestly how good it is.

    DATASET is a CSV file or a folder: with manifest.csv (file,label,group), with one sub-folder a
    label, or with label tracks beside the recordings. Any labels will do. Without DATASET, and
    with --synthetic, made sounds are all there is.
    """
    from audio_pipeline.app.reporting.model_card import card_and_plots, training_page
    from audio_pipeline.datasets.augmentation import MadeSettings
    from audio_pipeline.datasets.loading import fail_for_unreadable
    from audio_pipeline.datasets.manifest import permissive_only
    from audio_pipeline.model.classifier import load_classifier
    from audio_pipeline.model.estimator import parse_params
    from audio_pipeline.model.selection import TrainingSettings
    from audio_pipeline.model.training import check_recipe, made_by, read_or_make, train

    check_new_folder(folder)
    if predictions is not None:
        check_output(predictions, endings=(".csv",), inputs=[dataset])
    if simple["judge_only"] and not (dataset and synthetic):
        raise click.UsageError("--judge-only needs a DATASET and --synthetic N")
    if dataset is None and not synthetic:
        raise click.UsageError("give a DATASET, or --synthetic N to train on made sounds only")
    settings = TrainingSettings(params=parse_params(params), **simple)
    check_recipe(settings)
    start = None
    if base is not None:
        start = load_classifier(None if str(base) == "default" else base, trusted=trusted)
    seed = settings.seed
    recipe = MadeSettings(synthetic if dataset else 0, seed=seed)
    made = made_by(recipe, embed) if synthetic or embed else None
    with (
        steps() as progress,
        read_or_make(
            dataset, synthetic, seed, group_by, progress, allow_outside=allow_outside
        ) as given,
    ):
        chosen = given.where(where) if where else given
        chosen = permissive_only(chosen) if permissive else chosen
        result = train(
            chosen,
            folder,
            settings=settings,
            base=start,
            made=made,
            extra_files=card_and_plots,
            progress=progress,
        )
    if predictions is not None and result.evaluation is not None:
        _write_predictions(predictions, result.evaluation)
    if as_json:
        show_json({"model": str(folder), **result.to_dict()})
    else:
        show(training_page(result, visible(str(folder))))
    fail_for_unreadable(result.data_warnings)


def _write_predictions(table: Path, evaluation: Evaluation) -> None:
    """Write a row for every recording or labelled stretch that was judged out of fold."""
    labels = evaluation.table.labels
    facts = ("recording", "start", "end", "label", "group", "answer")
    rows = (
        [
            *("" if row[name] is None else str(row[name]) for name in facts),
            *(row["probabilities"][label] for label in labels),
        ]
        for row in evaluation.recordings
    )
    write_rows(table, [*facts, *(f"p_{label}" for label in labels)], rows)


@click.command(epilog="Example: crepitus evaluate my_recordings --report evaluation.html")
@click.argument("dataset", type=click.Path(path_type=Path))
@model_options
@click.option(
    "--report", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.html", help="A page."
)
@overwrite_option
@dataset_options
@click.option("--by", multiple=True, metavar="COLUMN", help="Also report by a manifest's column.")
@click.option(
    "--allow-overlap",
    is_flag=True,
    help="Count what the model was trained on; the figures are then too good.",
)
@click.option(
    "--controls",
    is_flag=True,
    help="Ask whether the labels can be told from what holds no such sound.",
)
@json_option
def evaluate_command(
    dataset: Path,
    model: Path | None,
    trusted: bool,
    report: Path | None,
    overwrite: bool,
    allow_outside: bool,
    where: dict[str, str],
    by: tuple[str, ...],
    group_by: str,
    allow_overlap: bool,
    controls: bool,
    as_json: bool,
) -> None:
    """Measure a model on labelled recordings it was not trained on.

    DATASET is a CSV file or a folder as for `train`. One answer a recording: recall, precision and
    coverage by label, group and condition, false alarms, calibration, and how well recording
    conditions alone would do. With a column `kind` every kind of a label weighs alike, rows whose
    column `doubt` says yes are shown apart, and recordings whose column `finding` says what should
    be found in them (see `takes`) are judged as wholes.
    """
    from audio_pipeline.datasets.loading import fail_for_unreadable
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.model.classifier import load_classifier
    from audio_pipeline.model.evaluation import evaluate

    check_page(report, [dataset], overwrite=overwrite)
    classifier = load_classifier(model, trusted=trusted)
    given = read_dataset(dataset, group_by, allow_outside=allow_outside)
    read = [dataset, *(clip.path for clips in given.recordings.values() for clip in clips)]
    check_page(report, read, overwrite=overwrite)
    given = given.where(where) if where else given
    with steps() as progress:
        evaluation = evaluate(
            given, classifier, by=by, allow_overlap=allow_overlap, progress=progress
        )
        if controls:
            from audio_pipeline.model.controls import with_controls

            progress("Asking what holds no sound", 0, 1)
            evaluation = with_controls(evaluation, classifier=classifier)
    if report is not None:
        from audio_pipeline.app.reporting.pages import evaluation_page

        write_page(report, evaluation_page(evaluation), read, overwrite=overwrite)
    if as_json:
        show_json(evaluation.to_dict())
    else:
        from audio_pipeline.app.reporting.model_card import evaluation_text

        show(evaluation_text(evaluation))
        if report is not None:
            show(f"Report: {visible(str(report))}")
    fail_for_unreadable(evaluation.data_warnings)


@click.command(epilog="Example: crepitus benchmark my_recordings --estimator svm -o my_benchmark")
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@output_folder(
    "Folder of the splits, the results and the ranking", "new, or of an earlier benchmark"
)
@click.option(
    "--estimator",
    "estimators",
    multiple=True,
    metavar="NAME",
    help="As for `train`; may be given again. Without it: all short names.",
)
@param_option("A parameter of the one estimator, set instead of searched.")
@click.option(
    "--splits",
    "splits_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.json",
    help="Judge on these splits, as a benchmark has published them.",
)
@click.option(
    "--folds", type=click.IntRange(2, 1000), show_default="5, or those of the splits given"
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same result.")
@dataset_options
@recipe_options
@json_option
def benchmark_command(
    dataset: Path | None,
    folder: Path,
    estimators: tuple[str, ...],
    params: tuple[str, ...],
    splits_file: Path | None,
    folds: int | None,
    seed: int,
    where: dict[str, str],
    group_by: str,
    allow_outside: bool,
    learn_from: dict[str, tuple[str, ...]],
    synthetic: int,
    embed: bool,
    sample_rate: int | None,
    controls: bool,
    as_json: bool,
) -> None:
    """Judge estimators on the same splits of labelled recordings, and rank them.

    DATASET as for `train`. The folder gets splits.json (which recordings are tested together, by
    the digest of their sound), a result per estimator, which holds every answer, and ranking.html.
    Results of others on the same splits can be put beside them; without DATASET the folder is
    ranked again and nothing is judged.
    """
    from audio_pipeline.analysis.config import AnalysisConfig
    from audio_pipeline.app.reporting.pages import benchmark_page
    from audio_pipeline.datasets.augmentation import MadeSettings
    from audio_pipeline.datasets.loading import fail_for_unreadable, load_training_data
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.exceptions import InvalidInputError
    from audio_pipeline.model import benchmark
    from audio_pipeline.model.estimator import NAMES, parse_params
    from audio_pipeline.model.scoring import HEADLINE
    from audio_pipeline.model.selection import TrainingSettings
    from audio_pipeline.model.training import check_recipe, made_by

    recipes = [
        TrainingSettings(
            estimator=name,
            params=parse_params(params),
            learn_from=learn_from,
            controls=controls,
            sample_rate=sample_rate,
            seed=seed,
        )
        for name in dict.fromkeys(estimators or NAMES)
    ]
    if params and len(recipes) > 1:
        raise click.UsageError("--param needs exactly one --estimator")
    if dataset is None and not folder.is_dir():
        raise click.UsageError(f"{folder} is no folder to rank; give a DATASET")
    for recipe in recipes:
        check_recipe(recipe)
    kept, page = folder / "splits.json", folder / "ranking.html"
    asked = {"sample_rate": sample_rate or 0, "synthetic": synthetic, "embed": int(embed)}
    besides = {name: value for name, value in asked.items() if value}
    made = made_by(MadeSettings(synthetic, seed=seed), embed) if synthetic or embed else None
    files = [folder / f"{benchmark.file_name(recipe, besides)}.json" for recipe in recipes]
    if folder.is_dir():
        check_page(page)
        for file in (kept, *files):
            check_output(file, benchmark.is_document, inputs=[splits_file])
    else:
        check_new_folder(folder)
    given = [file for file in (splits_file, kept) if file is not None and file.exists()]
    if splits_file is not None and splits_file not in given:
        raise InvalidInputError(f"{splits_file} is not there")
    found = [benchmark.read_splits(file) for file in given]
    if len({one.sha256 for one in found}) > 1:
        raise InvalidInputError(f"{kept} holds other splits than {splits_file}; use a new folder")
    if found and folds not in (None, len(found[0].folds)):
        known = len(found[0].folds)
        raise click.UsageError(
            f"--folds {folds}: the splits in {given[0]} have {known}; use a new folder"
        )
    warnings = []
    if dataset is not None:
        for file in sorted(set(folder.glob("*.json")) - {kept, *files}):
            benchmark.read_result(file)  # what would stop the ranking stops before any work
        with steps() as progress:
            chosen = read_dataset(dataset, group_by, allow_outside=allow_outside).where(where)
            listening = AnalysisConfig().at_rate(sample_rate) if sample_rate else None
            material = load_training_data(chosen, listening, progress=progress)
            splits = found[0] if found else benchmark.make_splits(material, folds or 5, seed)
            found = [splits]
            results = benchmark.run_benchmark(
                material, splits, recipes, progress, made=made, besides=besides
            )
            for file, result in zip(files, results, strict=True):
                folder.mkdir(parents=True, exist_ok=True)
                write_json(kept, splits.model_dump())
                write_json(file, result.model_dump())
        warnings = list(material.data_warnings)
    others = sorted(set(folder.glob("*.json")) - {kept})
    ranking = benchmark.rank([benchmark.read_result(file) for file in others])
    write_page(page, benchmark_page(ranking))
    if as_json:
        show_json(
            {
                "splits": found[0].sha256 if found else None,
                "ranking": [[place.to_dict() for place in places] for places in ranking],
                "warnings": [{"code": one.code, "text": one.text} for one in warnings],
            }
        )
    else:
        for places in ranking:
            for place in places:
                reached = place.result.figure(HEADLINE) or 0.0
                show(f"{place.rank}. {visible(place.result.estimator)}: {reached:.3f}")
        show(f"Ranking: {visible(str(page))}")
    fail_for_unreadable(warnings)


@click.command(epilog="Example: crepitus takes my_clips -o my_takes --count 240 --seed 1")
@click.argument("dataset", type=click.Path(path_type=Path))
@output_folder("Folder for the takes")
@click.option("--count", default=240, show_default=True, help="How many takes.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same takes.")
@click.option("--guided/--free", default=None, help="All guided, or none; half of them otherwise.")
@click.option(
    "--folds",
    default=10,
    show_default=True,
    type=click.IntRange(min=2),
    help="A take is made of clips of one of so many folds of whole groups.",
)
@where_option
@allow_outside_option
@json_option
def takes_command(
    dataset: Path,
    folder: Path,
    count: int,
    seed: int,
    guided: bool | None,
    folds: int,
    where: dict[str, str],
    allow_outside: bool,
    as_json: bool,
) -> None:
    """Put labelled clips into recordings of twenty seconds, with their truth.

    Each has a room, noise, the phone being laid down and picked up, everyday sounds, and none, one
    or two joint sounds; half are guided, as `record` makes them. `evaluate` then says how often the
    finding is right, uncertain or wrong.
    """
    from audio_pipeline.datasets.manifest import read_dataset
    from audio_pipeline.datasets.takes import TakeSettings, write_takes

    check_new_folder(folder)
    given = read_dataset(dataset, allow_outside=allow_outside).where(where)
    settings = TakeSettings() if guided is None else TakeSettings(guided=float(guided))
    with steps() as progress:
        summary = write_takes(
            given,
            folder,
            count,
            seed,
            settings,
            folds,
            lambda done: progress("Making takes", done, count),
        )
    if as_json:
        show_json(summary)
        return
    found = ", ".join(f"{number} {name}" for name, number in summary["findings"].items())
    name = visible(str(folder))
    show(f"{count} takes ({summary['seconds']:.0f} s) in {name}; to be found: {found}")
    show(f"Next: crepitus evaluate {name}")


@click.command(epilog="Example: crepitus synthesize -o synthetic --count 300 --seed 1")
@output_folder("Folder for the dataset")
@click.option("--count", default=300, show_default=True, help="How many scenes.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same sounds.")
@json_option
def synthesize_command(folder: Path, count: int, seed: int, as_json: bool) -> None:
    """Make sounds with exact labels: pops, grinding sounds and everyday sounds.

    Scenes of about 7 seconds and short clips, in WAV's lossless sibling FLAC, with a manifest
    that `train` and `evaluate` read. Figures on made sounds say nothing about real recordings.
    """
    from audio_pipeline.datasets.synthesis.dataset import write_dataset

    check_new_folder(folder)
    with steps() as progress:
        summary = write_dataset(
            folder, count, seed, progress=lambda done: progress("Making sounds", done, count)
        )
    if as_json:
        show_json(summary)
        return
    events = summary["events"]
    assert isinstance(events, dict)
    heard = ", ".join(f"{number} {label}" for label, number in events.items())
    show(f"{count} recordings ({summary['seconds']} s) with {heard} in {visible(str(folder))}")
    show(f"Next: crepitus train {visible(str(folder))} -o my_model")
