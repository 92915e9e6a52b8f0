"""Where files that are made from a recording go: the name of the recording as a relative path."""

from __future__ import annotations

import os

from audio_pipeline.audio.discovery import is_url


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
