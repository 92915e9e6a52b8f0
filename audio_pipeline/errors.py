"""The errors a person can meet: one line each, with what, which value and what to do."""

from __future__ import annotations


class CrepitusError(Exception):
    """The work failed (exit code 1). Its text is one line a person can act on."""

    exit_code = 1


class RefusedError(CrepitusError):
    """Refused before any work was done: a bad option, answers file or model (exit code 2)."""

    exit_code = 2


class RecordingError(CrepitusError):
    """One recording cannot be opened or decoded; its neighbours are unharmed."""
