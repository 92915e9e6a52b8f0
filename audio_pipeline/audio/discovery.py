"""Which recordings there are: files, folders, globs, lists and URLs become one listing.

A folder is searched with everything below it. Links are followed, but no folder is walked twice and
none that contains the search, so loops end. What is hidden, unfinished or plainly no audio (by its
suffix) is left out; a file named by the person is always taken, whatever it is called.
"""

from __future__ import annotations

import glob
import heapq
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from audio_pipeline.exceptions import InvalidInputError

AUDIO_SUFFIXES = frozenset(
    b"3g2 3gp aac aif aifc aiff amr au caf flac m4a m4b m4v mka mkv mov mp2 mp3 mp4 mpeg mpg nist "
    b"oga ogg ogv opus rf64 snd sph voc w64 wav wave weba webm wma wv".split()
)
"""Suffixes taken from folders: what libsndfile and FFmpeg read and a recorder or phone writes."""

MISSING = "missing"
"""Stands for the time of a recording that was not there when it was listed."""

_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]+://")

_URLS_AT_ONCE = 16
"""Requests in flight while asking a server for sizes and dates."""


@dataclass(frozen=True, slots=True)
class Found:
    """A recording that was listed."""

    #: Where it is read from: the real path without links, or the URL. It identifies the recording
    path: bytes
    #: The name as it was given; for a folder the folder as given plus the path below it
    name: bytes
    linked: bool  #: Whether a link led to it; a name without links is preferred
    size: int | None  #: Bytes, or None where unknown
    #: The modification time in nanoseconds, or whatever a URL's server tells about the version
    mtime_ns: str


Complaint = Callable[[str, str], None]
"""Called with the name of a folder that cannot be read, and the reason."""


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


def read_list(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the names in a list: one on a line, or separated by NUL when there is any.

    Parameters
    ----------
    stream
        The list, as bytes. An empty list yields nothing; blank lines are left out.
    """
    text = stream.read()
    names = text.split(b"\0") if b"\0" in text else text.splitlines()
    return (name for name in names if name.strip())


def discover(
    given: Iterable[bytes],
    listed: Iterable[bytes] = (),
    *,
    skip: bytes | None = None,
    unreadable: Complaint = lambda name, reason: None,
) -> Iterator[Found]:
    """Yield every recording; the same one may come under several names (see :class:`Found`).

    Parameters
    ----------
    given
        Files, folders, globs and URLs as named by a person.
    listed
        The same from a list, where a missing entry is a failed recording and never a refusal.
    skip
        A folder to leave out (where the results go).
    unreadable
        Told about folders below the given ones that cannot be read.

    Raises
    ------
    InvalidInputError
        When a given folder cannot be read, or a given name is neither there nor looks like audio.
    """
    roots: list[tuple[bytes, bytes]] = []
    urls: list[bytes] = []
    for name, strict in [*((n, True) for n in given), *((n, False) for n in listed)]:
        if is_url(name):
            urls.append(name)
            continue
        for match in _matches(name, strict=strict):
            if os.path.isdir(match):
                roots.append((match, os.path.realpath(match)))
            else:
                yield _file(match)
    yield from _Walk(roots, os.path.realpath(skip) if skip else None, unreadable).files()
    yield from _remote(urls)


def _matches(name: bytes, *, strict: bool) -> list[bytes]:
    """Return the paths a name stands for: itself, or what a glob matches."""
    if os.path.lexists(name):
        return [name]
    if glob.has_magic(name):
        matches = [m for m in glob.glob(name, recursive=True) if os.path.isdir(m) or _is_audio(m)]
        if matches or not strict:
            return sorted(matches)
        raise InvalidInputError(f"no recording matches {readable(name)!r}: check the pattern")
    if strict and not _is_audio(name):
        raise InvalidInputError(f"there is no file or folder {readable(name)!r}: check the path")
    return [name]


def _file(name: bytes) -> Found:
    """List one file that was named."""
    path = os.path.realpath(name)
    return _found(lambda: os.stat(path), path, name, path != os.path.abspath(name))


def _is_audio(name: bytes) -> bool:
    """Tell whether a name found in a folder looks like a finished recording."""
    base = os.path.basename(name)
    suffix = base.rpartition(b".")[2].lower()
    return suffix in AUDIO_SUFFIXES and not base.startswith((b".", b"~$"))


class _Walk:
    """All files below some folders, each folder once whatever links lead to it."""

    def __init__(
        self, roots: list[tuple[bytes, bytes]], skip: bytes | None, unreadable: Complaint
    ) -> None:
        self._seen = {skip} if skip else set()
        self._unreadable = unreadable
        # Real folders first, links after all of them, each by name: what a recording is called
        # then depends neither on the order of the arguments nor on that of the file system.
        self._waiting = [(path != os.path.abspath(name), name, path) for name, path in roots]
        heapq.heapify(self._waiting)
        self._above = {above for _, path in roots for above in _parents(path)}
        for name, path in roots:
            try:
                os.scandir(path).close()
            except OSError as error:
                raise InvalidInputError(
                    f"cannot read the folder {readable(name)!r}: {error.strerror}"
                ) from None

    def files(self) -> Iterator[Found]:
        """Yield the recordings of all folders."""
        while self._waiting:
            linked, name, path = heapq.heappop(self._waiting)
            if path in self._seen:
                continue
            self._seen.add(path)
            yield from self._folder(name, path, linked)

    def _folder(self, name: bytes, path: bytes, linked: bool) -> Iterator[Found]:
        """Yield the recordings of one folder and queue those below it."""
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if not entry.name.startswith(b"."):
                        yield from self._entry(entry, os.path.join(name, entry.name), linked)
        except OSError as error:
            self._unreadable(readable(name), error.strerror or "cannot be read")

    def _entry(self, entry: os.DirEntry[bytes], name: bytes, linked: bool) -> Iterator[Found]:
        """Yield a recording, queue a folder, pass over anything else."""
        path = entry.path
        if entry.is_symlink():
            path, linked = os.path.realpath(path), True
        if _is_folder(entry):
            if path not in self._above:
                heapq.heappush(self._waiting, (linked, name, path))
        elif _is_audio(entry.name):
            yield _found(entry.stat, path, name, linked)


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    """Tell whether an entry is a folder or leads to one; links that lead in circles do not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _found(stat: Callable[[], os.stat_result], path: bytes, name: bytes, linked: bool) -> Found:
    """List one file, of which `stat` tells size and time where it is there."""
    try:
        state = stat()
    except OSError:
        return Found(path, name, linked, None, MISSING)
    return Found(path, name, linked, state.st_size, str(state.st_mtime_ns))


def _parents(path: bytes) -> Iterator[bytes]:
    """Yield every folder that contains a path, nearest first."""
    while (parent := os.path.dirname(path)) != path:
        yield parent
        path = parent


def _remote(urls: Iterable[bytes]) -> Iterator[Found]:
    """Yield the recordings behind URLs: one named by its suffix, or all below a folder."""
    waiting = iter(urls)
    with ThreadPoolExecutor(_URLS_AT_ONCE) as requests:
        while some := list(islice(waiting, 64 * _URLS_AT_ONCE)):
            for found in requests.map(_at_url, some):
                yield from found


def _at_url(url: bytes) -> list[Found]:
    """List one URL."""
    system, path = file_system(url)
    if _is_audio(url.partition(b"?")[0]):
        try:
            details = system.info(path)
        except OSError:
            return [Found(url, url, False, None, MISSING)]
        return [Found(url, url, False, *_version(details))]
    try:
        below = system.find(path, detail=True)
    except OSError as error:
        raise InvalidInputError(f"cannot list {readable(url)!r}: {error}") from None
    found = []
    for below_path, details in below.items():
        full = str(system.unstrip_protocol(below_path)).encode()
        if _is_audio(full.partition(b"?")[0]):
            found.append(Found(full, full, False, *_version(details)))
    return found


def file_system(url: bytes) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it.

    Raises
    ------
    InvalidInputError
        When fsspec, or its part for this kind of URL, is not installed.
    """
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url.decode())
    except (ImportError, ValueError) as error:
        raise InvalidInputError(
            f"cannot read {readable(url)!r}: {error}; pip install 'crepitus[cluster]'"
        ) from None
    return system, path


def _version(details: dict[str, Any]) -> tuple[int | None, str]:
    """Return size and version from what a file system tells about a file."""
    size = details.get("size")
    stamps = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "created")
    mtime_ns = next((str(details[key]) for key in stamps if details.get(key)), "")
    return (int(size) if size is not None else None, mtime_ns)
