"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


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
