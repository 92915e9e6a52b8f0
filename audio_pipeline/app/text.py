r"""Names are data: text from outside, made harmless before a person or a program reads it.

File names, labels, names of models and devices, metadata: any of them may hold escape sequences
that retitle or forge a terminal, or characters that turn the reading direction around.
"""

from __future__ import annotations

import re
import unicodedata

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = "\u200c\u200d"
"""They shape letters and emoji, and hide nothing."""

_PLAIN = re.compile(r"[ -~]*")


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
    if _PLAIN.fullmatch(text):
        return text
    return "".join(map(_shown, text))


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


def _shown(character: str) -> str:
    if character in _SHORT:
        return _SHORT[character]
    kind = unicodedata.category(character)
    if kind not in {"Cc", "Cf", "Cs", "Zl", "Zp"} or character in _JOINERS:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a path that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
