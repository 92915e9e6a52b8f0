"""How a batch is getting on: a live display on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

PLAIN_SECONDS = 10.0
"""Between two plain lines; a batch that is over sooner prints none."""


class Progress:
    """Counts what is finished; this one shows nothing.

    Attributes
    ----------
    recordings, failed
        Finished so far in this run, and how many of them failed.
    audio_seconds
        Sound analysed in this run.
    """

    def __init__(self) -> None:
        self.recordings = 0
        self.failed = 0
        self.audio_seconds = 0.0
        self._bytes = 0
        self._pending = (0, 0)
        self._resumed = 0
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the display."""

    def tell(self, line: str) -> None:
        """Say something that a person should know."""

    def begin(self, found: int, pending: int, size: int) -> None:
        """Say what there is to do: recordings listed, of them pending, and the pending bytes."""
        self._pending = (pending, size)
        self._resumed = found - pending
        self._began = time.monotonic()

    def advance(self, *, recordings: int, size: int, audio_seconds: float, failed: int) -> None:
        """Count some finished recordings."""
        self.recordings += recordings
        self.failed += failed
        self.audio_seconds += audio_seconds
        self._bytes += size
        self._show()

    def _show(self) -> None:
        """Bring the display up to date."""

    @property
    def share(self) -> float:
        """Share of the work that is done, in [0, 1], by bytes, or by recordings where unknown."""
        count, size = self._pending
        if size:
            return min(1.0, self._bytes / size)
        return min(1.0, self.recordings / count) if count else 1.0

    @property
    def speed(self) -> float:
        """Seconds of sound analysed a second."""
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


class PlainProgress(Progress):
    """A line on a stream every :data:`PLAIN_SECONDS`."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._last = time.monotonic()

    def tell(self, line: str) -> None:
        """Print a line."""
        print(line, file=self._stream, flush=True)

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._last < PLAIN_SECONDS:
            return
        self._last = now
        left = self.seconds_left
        ahead = f", about {clock(left)} left" if left is not None else ""
        print(self._summary() + ahead, file=self._stream, flush=True)


class LiveProgress(Progress):
    """A bar on a terminal."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar: RichProgress = Progress(
            TextColumn("{task.fields[summary]}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID = self._bar.add_task("", total=1.0, summary="listing", left="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        self._bar.stop()

    def tell(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def begin(self, found: int, pending: int, size: int) -> None:
        """Say what there is to do."""
        super().begin(found, pending, size)
        self._show()

    def _show(self) -> None:
        left = self.seconds_left
        self._bar.update(
            self._task,
            completed=self.share,
            summary=self._summary(),
            left="" if left is None else f"{clock(left)} left",
        )


def progress_for(stream: TextIO | None = None) -> Progress:
    """Return the display that suits a stream (default: standard error)."""
    stream = stream or sys.stderr
    return LiveProgress() if stream.isatty() else PlainProgress(stream)


def clock(seconds: float) -> str:
    """Return a duration like ``3:05`` or ``2:03:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
