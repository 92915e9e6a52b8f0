r"""Names are data: text from outside, made harmless before a person or a program reads it.

File names, labels, names of models and devices, metadata: any of them may hold escape sequences
that retitle or forge a terminal, or characters that turn the reading direction around. Whatever a
command prints goes through :func:`show` or :func:`show_json`, and a name through :func:`visible`
where it is put into a sentence. How long work is getting on goes to standard error: a bar where
somebody watches, plain lines elsewhere.
"""

from __future__ import annotations

import json
import re
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress

_JOINERS = "\u200c\u200d"
"""They shape letters and emoji, and hide nothing."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's control, format (direction, invisible), half and separating characters."""

_SHOWN_FAILURES = 5

_UNUSUAL = re.compile(r"[^ -~]")
_UNUSUAL_IN_LINES = re.compile(r"[^ -~\n]")


def visible(text: str) -> str:
    r"""Return text in which every control, escape and direction character can be seen.

    ``text``: anything, bytes of a path that are not UTF-8 (as surrogates) too.
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

    Raises ValueError for a number that JSON does not have (NaN, infinity).
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

    ``total``: of how many.
    ``where``: what lists them all.
    ``brief``: on one line, with the first only: a document tells the rest.
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

    ``text``: a label, or the name of a recording without its ending.
    Never empty, never only dots.
    """
    shown = re.sub(r'[\\/:*?"<>|\x00]', "_", visible(text)).strip(". ")
    return shown.encode("utf-8")[:60].decode("utf-8", errors="ignore").strip(". ") or "_"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _shown(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a path that is no UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode() if _is_hidden(character) else character


PLAIN_SECONDS = 10.0
"""Between two plain lines; a batch that is over sooner prints none."""

Step = Callable[[str, int, int], None]


@contextmanager
def steps() -> Iterator[Step]:
    """Give a function that is told (what is being done, done, total)."""
    from rich.console import Console
    from rich.progress import Progress, TaskID

    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, disable=not console.is_terminal) as bar:

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, total=total)

        yield step


class BatchProgress:
    """Counts what a batch has finished, and shows it.

    ``stream``: a terminal gets a bar, anything else a line every :data:`PLAIN_SECONDS`; None shows
        nothing.
    ``recordings, failed``: finished so far in this run, and how many of them failed.
    ``audio_seconds``: sound analysed in this run.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.recordings = 0
        self.failed = 0
        self.audio_seconds = 0.0
        self._bytes = 0
        self._pending = (0, 0)
        self._resumed = 0
        self._began = self._last = time.monotonic()
        self._stream = stream
        self._bar: Progress | None = _bar() if stream is not None and stream.isatty() else None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def tell(self, line: str) -> None:
        """Say something that a person should know, in one line."""
        line = visible(line)
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        elif self._stream is not None:
            print(line, file=self._stream, flush=True)

    def begin(self, found: int, pending: int, size: int) -> None:
        """Say what there is to do: recordings listed, of them pending, and the pending bytes."""
        self._pending = (pending, size)
        self._resumed = found - pending
        self._began = time.monotonic()
        if self._bar is not None:
            self._show()

    def advance(self, *, recordings: int, size: int, audio_seconds: float, failed: int) -> None:
        """Count some finished recordings."""
        self.recordings += recordings
        self.failed += failed
        self.audio_seconds += audio_seconds
        self._bytes += size
        if self._bar is not None or time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            self._show()

    def _show(self) -> None:
        """Bring the display up to date."""
        summary, left = self._summary(), self.seconds_left
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self.share, description=summary)
        else:
            self.tell(summary + ("" if left is None else f", about {clock(left)} left"))

    @property
    def share(self) -> float:
        """Share of the work that is done, in [0, 1], by bytes, or by recordings where unknown."""
        count, size = self._pending
        if size:
            return min(1.0, self._bytes / size)
        return min(1.0, self.recordings / count) if count else 1.0

    @property
    def speed(self) -> float:
        """Seconds of sound analysed per second."""
        return self.audio_seconds / max(1e-9, time.monotonic() - self._began)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to the end, None while nothing is known."""
        share = self.share
        passed = time.monotonic() - self._began
        return passed * (1 - share) / share if share else None

    def _summary(self) -> str:
        count, _ = self._pending
        parts = [
            f"{self.recordings} of {count} recordings",
            f"{self.audio_seconds / 3600:.1f} h of sound",
            f"{self.speed:.0f} x real time",
        ]
        if self._resumed:
            parts.append(f"{self._resumed} from before")
        if self.failed:
            parts.append(f"{self.failed} failed")
        return ", ".join(parts)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import Progress, TimeElapsedColumn

    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    bar.add_task("listing", total=1.0)
    return bar


def clock(seconds: float) -> str:
    """Return a duration like ``3:05`` or ``2:03:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
