"""What a recording is called: the path as it was given, readable in any table."""

from __future__ import annotations

import os
import re

_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]+://")


def is_url(name: bytes) -> bool:
    """Tell whether a name is a URL (``http://...``, ``s3://...``) and not a path."""
    return _URL.match(name) is not None


def readable(name: bytes) -> str:
    r"""Return a name as text: UTF-8 as it is, any other byte as ``\xNN``, ``/`` between folders.

    Examples
    --------
    >>> readable(b"rec/caf\xc3\xa9 \xff.wav")
    'rec/café \\xff.wav'
    """
    if os.sep != "/" and not is_url(name):
        name = name.replace(os.fsencode(os.sep), b"/")
    return name.decode("utf-8", errors="backslashreplace")


def mirrored(name: bytes) -> bytes:
    """Return a relative path for files made from a recording; it never leaves its folder.

    Absolute paths lose their root, URLs their ``://``, and every ``..`` becomes ``__``.

    Examples
    --------
    >>> mirrored(b"/data/../a.wav"), mirrored(b"http://host:80/a.wav")
    (b'data/__/a.wav', b'http/host_80/a.wav')
    """
    if is_url(name):
        name = name.replace(b"://", b"/", 1).replace(b":", b"_").replace(b"?", b"_")
    elif os.sep != "/":
        name = name.replace(os.fsencode(os.sep), b"/").replace(b":", b"")
    steps = [step for step in name.split(b"/") if step not in (b"", b".")]
    return b"/".join(b"__" if step == b".." else step for step in steps)
