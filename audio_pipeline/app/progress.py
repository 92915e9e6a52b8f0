"""How long work is getting on, on standard error: a bar where somebody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from audio_pipeline.app.text import visible

if TYPE_CHECKING:
    from rich.progress import Progress

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

    Parameters
    ----------
    stream
        A terminal gets a bar, anything else a line every :data:`PLAIN_SECONDS`; None shows nothing.

    Attributes
    ----------
    recordings, failed
        Finished so far in this run, and how many of them failed.
    audio_seconds
        Sound analysed in this run.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def tell(self, line: str) -> None:
        """Say something that a person should know, in one line."""
        line = visible(line)
        if self._bar is not None:
            self._bar.console.print(visible(line), markup=False, highlight=False, soft_wrap=True)
        elif self._stream is not None:
            print(visible(line), file=self._stream, flush=True)

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
        left = self.seconds_left
        if self._bar is None:
            self.tell(self._summary() + ("" if left is None else f", about {clock(left)} left"))
            return
        ahead = "" if left is None else f"{clock(left)} left"
        self._bar.update(
            self._bar.task_ids[0], completed=self.share, summary=self._summary(), left=ahead
        )

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
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.fields[summary]}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task("", total=1.0, summary="listing", left="")
    return bar


def clock(seconds: float) -> str:
    """Return a duration like ``3:05`` or ``2:03:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
