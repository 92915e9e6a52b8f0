"""Talking with a person at a terminal: on standard error, since standard output is the result."""

from __future__ import annotations

import shutil
import textwrap

import click

from audio_pipeline.app.text import show


def say(text: str) -> None:
    """Write lines, wrapped between words at the width of the terminal."""
    width = shutil.get_terminal_size().columns - 1
    for line in text.splitlines() or [""]:
        # What follows a dash or a number is indented under its first word.
        indent = " " * (len(line) - len(line.lstrip(" -0123456789")))
        show("\n".join(textwrap.wrap(line, width, subsequent_indent=indent)), err=True)


def read(prompt: str) -> str:
    """Ask for a line; the end of the input (Ctrl-D) is an empty one."""
    try:
        return read_line(prompt)
    except EOFError:
        return ""


def read_line(prompt: str) -> str:
    """Ask for a line.

    Raises
    ------
    EOFError
        The input has ended.
    """
    click.echo(prompt, nl=False, err=True)
    return input()
