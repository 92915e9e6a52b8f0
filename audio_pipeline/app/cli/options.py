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


def _conditions(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> dict[str, str]:
    """Read COLUMN=VALUE pairs."""
    pairs = [pair.partition("=") for pair in given]
    for column, equals, _ in pairs:
        if not column or not equals:
            raise click.UsageError(f"--where {column}: write COLUMN=VALUE", context)
    return {column: value for column, _, value in pairs}


def where_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--where COLUMN=VALUE``, a dict by the time the command sees it."""
    return click.option(
        "--where",
        multiple=True,
        callback=_conditions,
        metavar="COLUMN=VALUE",
        help="Only rows with this value in a manifest's column; COLUMN= asks for an empty one.",
    )(command)


overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace a file that is there, whoever made it."
)

trust_option = click.option(
    "--trust-model",
    "trusted",
    is_flag=True,
    help="Load a model whose estimator is no forest, tree or linear model; know who made it.",
)


def named_recordings(names: Sequence[str]) -> list[Path]:
    """Return the recordings behind names, by the same rules as ``crepitus batch``.

    Raises InvalidInputError when a name is not there, or no recording is found.
    """
    found = sorted({os.fsdecode(one.name) for one in discover(os.fsencode(name) for name in names)})
    if not found:
        raise InvalidInputError(f"no recording in {', '.join(names)}")
    return [Path(name) for name in found]
