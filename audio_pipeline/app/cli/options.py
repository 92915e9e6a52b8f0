"""Options that several commands share."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from audio_pipeline.audio.discovery import discover
from audio_pipeline.exceptions import InvalidInputError

REGIONS = ("GB", "US", "EU", "AU")
"""As `audio_pipeline.triage.messages` has them, which is not loaded to show a help page."""


class FiniteRange(click.FloatRange):
    """A number in a range, which NaN passes with click."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


allow_outside_option = click.option(
    "--allow-outside",
    is_flag=True,
    help="Also read recordings that a dataset names outside its own folder.",
)


def pairs(
    example: str,
    read: Callable[[str], Any] = str,
    split: Callable[[str, str], tuple[str, str, str]] = str.partition,
) -> Callable[..., dict[str, Any]]:
    """Return a callback that reads options like `example` into a dict.

    ``read``: makes a value of the text behind ``=``; ValueError where it is none.
    ``split``: at the first ``=``, or by ``str.rpartition`` at the last one.
    """

    def read_all(
        context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
    ) -> dict[str, Any]:
        found = {}
        for pair in given:
            name, equals, text = split(pair, "=")
            try:
                if not name or not equals:
                    raise ValueError(pair)
                found[name] = read(text)
            except ValueError:
                wrong = f"{parameter.opts[0]} {pair}: write {example}"
                raise click.UsageError(wrong, context) from None
        return found

    return read_all


where_option = click.option(
    "--where",
    multiple=True,
    callback=pairs("COLUMN=VALUE"),
    metavar="COLUMN=VALUE",
    help="Only rows with this value in a manifest's column; COLUMN= asks for an empty one.",
)
group_by_option = click.option(
    "--group-by", default="group", help="Manifest column that keeps recordings together."
)
learn_from_option = click.option(
    "--learn-from",
    multiple=True,
    callback=pairs("COLUMN=VALUE,VALUE", lambda values: tuple(values.split(","))),
    metavar="COLUMN=VALUE,...",
    help="Only rows with one of these values teach; the others judge.",
)


def dataset_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what is read of a dataset: the arguments `where`, `group_by` and `allow_outside`."""
    return where_option(group_by_option(allow_outside_option(command)))


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a file that is there, whoever made it."
)

trust_option = click.option(
    "--trust-model",
    "trusted",
    is_flag=True,
    help="Load a model whose estimator is no forest, tree or linear model; know who made it.",
)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--model DIR`` and ``--trust-model``: the arguments `model` and `trusted`."""
    help_text = "Model folder; the one that comes with Crepitus by default."
    option = click.option("--model", type=click.Path(path_type=Path), metavar="DIR", help=help_text)
    return option(trust_option(command))


def output_folder(
    help_text: str, state: str = "new or empty"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``-o DIR``, a folder in this state: the argument `folder`."""
    kind = click.Path(path_type=Path, file_okay=False)
    text = f"{help_text}; {state}."
    return click.option("-o", "--output", "folder", required=True, type=kind, help=text)


def port_option(default: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--port``, of a page."""
    kind = click.IntRange(0, 65535)
    return click.option(
        "--port", type=kind, default=default, show_default=True, help="0: any free one."
    )


def formats_option(**given: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--format NAMES``: the argument `formats`."""
    text = "Of csv, parquet, jsonl, audacity, raven; separated by commas."
    return click.option("--format", "formats", metavar="NAMES", help=text, **given)


def param_option(help_text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add ``--param NAME=VALUE`` of an estimator: the argument `params`."""
    return click.option("--param", "params", multiple=True, metavar="NAME=VALUE", help=help_text)


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json``: the argument `as_json`."""
    text = "Print one JSON document; ask nothing."
    return click.option("--json", "as_json", is_flag=True, help=text)(command)


def region_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--region``, None where the language setting of this computer decides."""
    text = "Whose words and emergency numbers to show; by default by this computer's language."
    return click.option("--region", type=click.Choice(REGIONS), help=text)(command)


answers_option = click.option(
    "--answers", "answers_file", metavar="FILE", help="Answers file, YAML or JSON."
)
device_option = click.option(
    "--device", metavar="NAME", help="Microphone: its name, part of it, or its number."
)
controls_option = click.option(
    "--controls/--no-controls",
    default=True,
    help="Ask whether the labels can be told from what holds no such sound.",
)


def named_recordings(names: Sequence[str]) -> list[Path]:
    """Return the recordings behind names, by the same rules as ``crepitus batch``.

    Raises InvalidInputError when a name is not there, or no recording is found.
    """
    found = sorted({os.fsdecode(one.name) for one in discover(os.fsencode(name) for name in names)})
    if not found:
        raise InvalidInputError(f"no recording in {', '.join(names)}")
    return [Path(name) for name in found]
