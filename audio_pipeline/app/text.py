r"""Names are data: text from outside, made harmless before a person or a program reads it.

File names, labels, names of models and devices, metadata: any of them may hold escape sequences
that retitle or forge a terminal, or characters that turn the reading direction around. Whatever a
command prints goes through :func:`show` or :func:`show_json`, and a name through :func:`visible`
where it is put into a sentence.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = "\u200c\u200d"
"""They shape letters and emoji, and hide nothing."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's control, format (direction, invisible), half and separating characters."""

_SHOWN_FAILURES = 5

_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_IN_LINES = re.compile(r"[^ -~\n]")


def visible(text: str) -> str:
    r"""Return text in which every control, escape and direction character can be seen.

    Parameters
    ----------
    text : str
        Anything, bytes of a path that are not UTF-8 (as surrogates) too.

    Returns
    -------
    str
        Valid Unicode on one line; applied again it stays the same.

    Examples
    --------
    >>> print(visible("a\x1b]0;b\x07\u202e.wav"))
    a\x1b]0;b\x07\u202e.wav
    """
    return _UNUSUAL.sub(lambda match: _shown(match[0]), text)


def visible_lines(text: str) -> str:
    """Return the same for text of several lines, which stay lines."""
    return _UNUSUAL_IN_LINES.sub(lambda match: _shown(match[0]), text)


def show(text: str = "", *, err: bool = False) -> None:
    """Print lines, on standard error where `err`; nothing in them moves the cursor."""
    import click

    click.echo(visible_lines(text.removesuffix("\n")), err=err)


def show_json(document: Any, indent: int | None = None) -> None:
    """Print one JSON document."""
    import click

    click.echo(json_text(document, indent))


def json_text(document: Any, indent: int | None = None) -> str:
    """Return JSON that holds every name exactly and no character that is not seen.

    Raises
    ------
    ValueError
        For a number that JSON does not have (NaN, infinity).
    """
    text = json.dumps(document, ensure_ascii=False, indent=indent, allow_nan=False)
    return _UNUSUAL_IN_LINES.sub(
        lambda match: json.dumps(match[0])[1:-1] if _is_hidden(match[0]) else match[0], text
    )


def shortened(line: str, longest: int = 2000) -> str:
    """Return a line without its middle where it is too long to read: a path may have any length."""
    half = longest // 2
    return line if len(line) <= longest else f"{line[:half]} ... {line[-half:]}"


def show_failures(
    failures: Sequence[tuple[str, str]], total: int, where: str, *, brief: bool = False
) -> None:
    """Say what failed, the first few by name, and end the command with exit code 1 if any did.

    Parameters
    ----------
    failures : sequence of (name, reason)
    total : int
        Of how many.
    where : str
        What lists them all.
    brief : bool
        On one line, with the first only: a document tells the rest.
    """
    import click

    if not failures:
        return
    if brief:
        name, reason = failures[0]
        count = f"{len(failures)} of {total} recordings failed, " if total > 1 else ""
        show(f"crepitus: {shortened(f'{count}{visible(name)}: {visible(reason)}')}", err=True)
        raise click.exceptions.Exit(1)
    for name, reason in failures[:_SHOWN_FAILURES]:
        show(f"crepitus: {shortened(f'{visible(name)}: {visible(reason)}')}", err=True)
    if total > 1:
        all_of = f"; {where} lists them all" if len(failures) > _SHOWN_FAILURES else ""
        show(f"crepitus: {len(failures)} of {total} recordings failed{all_of}", err=True)
    raise click.exceptions.Exit(1)


def file_name(text: str) -> str:
    """Return text as part of a file name: no folder, no control character, at most 60 bytes.

    Parameters
    ----------
    text : str
        A label, or the name of a recording without its ending.

    Returns
    -------
    str
        Never empty, never only dots.
    """
    shown = re.sub(r'[\\/:*?"<>|\x00]', "_", visible(text)).strip(". ")
    return shown.encode("utf-8")[:60].decode("utf-8", errors="ignore").strip(". ") or "_"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _shown(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    if not _is_hidden(character):
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a path that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
