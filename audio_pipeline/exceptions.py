"""The errors a person can meet: one line each, with what, which value and what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

# Halves of surrogate pairs (JSON can hold them), other than those that stand for bytes of a path.
_NO_CHARACTER = re.compile("[\ud800-\udc7f\udd00-\udfff]")


class CrepitusError(Exception):
    """The work failed (exit code 1). Its text is one line a person can act on."""

    exit_code = 1


class InvalidInputError(CrepitusError):
    """Refused before any work was done: a bad option, answers file or model (exit code 2)."""

    exit_code = 2


class RecordingError(CrepitusError):
    """One recording cannot be opened or decoded; its neighbours are unharmed."""


def one_line(text: str) -> str:
    r"""Return a message on one line, in valid Unicode (stray bytes of a path as ``\xNN``)."""
    text = _NO_CHARACTER.sub("\N{REPLACEMENT CHARACTER}", text)
    raw = text.encode("utf-8", errors="surrogateescape")
    return " ".join(raw.decode("utf-8", errors="backslashreplace").split())


def first_problem(error: ValidationError) -> tuple[str, str]:
    """Return where the first thing lies that is wrong with a document, and what it is."""
    first = error.errors(include_url=False)[0]
    return ".".join(str(part) for part in first["loc"]), first["msg"]
