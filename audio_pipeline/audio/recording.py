"""A recording: mono float32 samples with a rate, read from any sound or video file, and written."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from audio_pipeline.audio._decoders import open_decoder
from audio_pipeline.audio._pcm import Decoder, Samples
from audio_pipeline.exceptions import InvalidInputError, RecordingError
from audio_pipeline.files import whole_file

Source = str | bytes | os.PathLike[str] | os.PathLike[bytes] | BinaryIO
"""A path, its name any bytes, or a file opened for reading in binary mode."""

BLOCK_SECONDS = 10.0

_NOTHING: Samples = np.zeros(0, dtype=np.float32)

SUBTYPES = {"16-bit": "PCM_16", "24-bit": "PCM_24", "32-bit": "PCM_32", "float": "FLOAT"}
"""How samples may be stored by `write_recording`."""


@dataclass(frozen=True, eq=False)
class Recording:
    """Mono sound in memory.

    Parameters
    ----------
    samples : float32, (n,)
        In [-1, 1] as a rule; float files may go beyond. Anything one-dimensional is converted:
        numbers of a floating type as they are, integers by the range of their type, so that the
        loudest int16 and int32 are both -1 and silence in uint8 is 128. Python's own integers are
        int64 to NumPy: give them a type.
    sample_rate : int
        Hz, above 0.
    source : str
        Where it came from, for people.

    Raises
    ------
    ValueError
        If the samples have more than one dimension or the rate is not positive.
    """

    samples: Samples
    sample_rate: int
    source: str = ""

    def __post_init__(self) -> None:
        samples = _as_floats(self.samples)
        if samples.ndim != 1:
            raise ValueError(f"samples must have one dimension, not {samples.ndim}")
        if self.sample_rate <= 0:
            raise ValueError(f"sample_rate must be above 0, not {self.sample_rate}")
        object.__setattr__(self, "samples", samples)

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def _as_floats(samples: ArrayLike) -> Samples:
    """Return samples of any type as float32, integers scaled by the range of their type."""
    given = np.asarray(samples)
    if given.dtype.kind in "iu":
        half = 2.0 ** (8 * given.dtype.itemsize - 1)
        given = given / half - (1.0 if given.dtype.kind == "u" else 0.0)
    return np.ascontiguousarray(given, dtype=np.float32)


class RecordingReader:
    """A recording that is read in blocks, so that its length does not matter.

    Made by `open_recording`; a context manager.

    Attributes
    ----------
    source : str
        Name as text; bytes that are not UTF-8 as surrogates, as Python has them.
    sample_rate : int
        Hz, the file's own.
    channels : int
        Channels in the file; blocks are their mean.
    format : str
        Container and codec, like ``mp4 aac``.
    duration : float or None
        Seconds as the header says; None where it does not say.
    comment : str
        What the file says about itself; often empty.
    """

    def __init__(self, decoder: Decoder, source: str, owned: BinaryIO | None) -> None:
        self._decoder = decoder
        self._owned = owned
        self._started = False
        self.source = source
        self.sample_rate = decoder.sample_rate
        self.channels = decoder.channels
        self.format = decoder.format
        self.duration = decoder.duration
        self.comment = decoder.comment

    @property
    def truncated(self) -> bool:
        """True once it is known that sound is missing; certain after the last block."""
        return self._decoder.truncated

    def blocks(self, seconds: float = BLOCK_SECONDS) -> Iterator[Samples]:
        """Yield the sound from where the last block ended.

        Parameters
        ----------
        seconds : float
            Longest block, above 0. Blocks of files with many channels or a very high rate may be
            shorter, so that memory stays bounded.

        Yields
        ------
        float32, (n,)
            n > 0. A damaged or cut-off end is no error: the blocks stop there and `truncated` is
            set.

        Raises
        ------
        RecordingError
            If not one sample could be decoded.
        """
        if seconds <= 0:
            raise ValueError(f"seconds must be above 0, not {seconds}")
        count = max(1, round(seconds * self.sample_rate))
        while len(block := self._decoder.read(count)):
            self._started = True
            yield block
        if not self._started:
            raise RecordingError("no sound in it can be decoded")

    def close(self) -> None:
        """Let go of the file; a file object that was handed in stays open."""
        self._decoder.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> RecordingReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_recording(source: Source | Recording) -> RecordingReader:
    """Open a sound or video file for reading in blocks.

    Parameters
    ----------
    source : str, bytes, path, binary file or Recording
        The file's name is never used to tell its format. A binary file must be seekable; it is
        read from its start and left open. A Recording is read like a file.

    Returns
    -------
    RecordingReader
        A context manager.

    Raises
    ------
    RecordingError
        One line with the reason, without the file's name: it cannot be opened, is empty, is no
        sound file, has no sound track, or holds no sample.
    InvalidInputError
        For anything else than the above, samples without their rate for instance.
    """
    if isinstance(source, Recording):
        return RecordingReader(_MemoryDecoder(source), source.source, None)
    if isinstance(source, str | bytes | os.PathLike):
        handle = _open_file(source)
        owned: BinaryIO | None = handle
        name = os.fsdecode(source)
    elif not hasattr(source, "read"):
        raise InvalidInputError(
            f"{type(source).__name__} is no path and no binary file; of samples make a "
            "Recording(samples, sample_rate) first, which analyze_recording takes"
        )
    else:
        handle, owned = source, None
        name = str(getattr(source, "name", ""))
    try:
        return RecordingReader(open_decoder(handle), name, owned)
    except BaseException as error:
        if owned is not None:
            owned.close()
        if isinstance(error, OSError):
            raise RecordingError(_why(error)) from error
        raise


def read_recording(source: Source | Recording) -> Recording:
    """Read a whole sound or video file; for long ones use `open_recording`.

    Parameters
    ----------
    source : str, bytes, path, binary file or Recording
        As for `open_recording`.

    Returns
    -------
    Recording
        At the file's own rate, channels mixed by their mean.

    Raises
    ------
    RecordingError
        As for `open_recording`.
    """
    with open_recording(source) as reader:
        blocks = list(reader.blocks())
        samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
        return Recording(samples, reader.sample_rate, reader.source)


def read_stretch(source: Source | Recording, start: float, end: float) -> Recording:
    """Read a recording from `start` to `end` in seconds, and no further; errors as above."""
    with open_recording(source) as reader:
        rate = reader.sample_rate
        first, last = round(start * rate), round(end * rate)
        kept = [_NOTHING]
        place = 0
        for block in reader.blocks():
            kept.append(block[max(0, first - place) : max(0, last - place)])
            place += len(block)
            if place >= last:
                break
        return Recording(np.concatenate(kept), rate, reader.source)


def write_recording(
    path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    recording: Recording,
    subtype: str = "24-bit",
    metadata: Mapping[str, str] | None = None,
    *,
    replace: bool = True,
) -> None:
    """Write a recording as WAV, or as FLAC where the name ends so.

    The file appears whole or not at all: it is written beside its place and then renamed.

    Parameters
    ----------
    path : str, bytes or path
        Where.
    recording : Recording
        Samples beyond +-1 are clipped unless `subtype` is ``float``.
    subtype : str
        ``16-bit``, ``24-bit``, ``32-bit`` or ``float``; FLAC has the first two.
    metadata : mapping of str to str, optional
        Any of ``title``, ``artist``, ``date``, ``comment``, ``software``, ``copyright``.
    replace : bool
        Whether it may take the place of another file.

    Raises
    ------
    ValueError
        If the subtype or a metadata key is unknown.
    OSError
        If the file cannot be written.
    """
    import soundfile

    if subtype not in SUBTYPES:
        raise ValueError(f"subtype must be one of {', '.join(SUBTYPES)}, not {subtype!r}")
    name = os.fsencode(path)
    kind = "FLAC" if name.lower().endswith(b".flac") else "WAV"
    with whole_file(os.fsdecode(name), replace=replace) as handle:
        target = _Remembering(handle)
        with soundfile.SoundFile(
            target, "w", recording.sample_rate, 1, SUBTYPES[subtype], format=kind
        ) as file:
            for key, value in (metadata or {}).items():
                if key not in {"title", "artist", "date", "comment", "software", "copyright"}:
                    raise ValueError(f"unknown metadata key {key!r}")
                setattr(file, key, value)
            file.write(recording.samples)
        if target.fault is not None:
            raise target.fault


class _Remembering:
    """A file that keeps the fault of a full disk: libsndfile cannot pass on an exception.

    Every call may meet the full disk, since what is held back is written before a `seek` too.
    """

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self.fault: OSError | None = None

    def write(self, data: bytes) -> int:
        self._try(lambda: self._handle.write(data))
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._try(lambda: self._handle.seek(offset, whence)))

    def tell(self) -> int:
        return int(self._try(self._handle.tell))

    def read(self, size: int = -1) -> bytes:
        return self._try(lambda: self._handle.read(size)) or b""

    def _try(self, call: Callable[[], Any]) -> Any:
        """Return what a call returns, 0 once there was a fault."""
        if self.fault is None:
            try:
                return call()
            except OSError as error:
                self.fault = error
        return 0


_FILTER_PERIODS = 256
"""Periods of the lower rate; the filter of soxr HQ rings for about 100 on each side."""

_PIECE = 1 << 15
"""Samples that are resampled at once: a sixth faster than a whole block of 10 s."""


class Resampler:
    """Changes the sample rate of a stream with soxr HQ; the same result for any block size.

    Parameters
    ----------
    in_rate, out_rate : int
        Hz. Where they are equal the samples pass through untouched.

    Notes
    -----
    Beyond its borders the stream is taken to stay at its first and last value. Silence there would
    be a step, at which hum or the offset of a cheap sound card rings like an impact.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        self.in_rate = in_rate
        self.out_rate = out_rate
        self._stream: Any = None
        self._received = 0
        self._returned = 0
        self._last = np.float32(0.0)
        if in_rate != out_rate:
            import soxr

            self._stream = soxr.ResampleStream(in_rate, out_rate, 1, "float32", "HQ")
        # At least as long as the filter, and a whole number of samples at both rates.
        common = math.gcd(in_rate, out_rate)
        steps = -(-_FILTER_PERIODS * common // min(in_rate, out_rate))
        self._border = steps * in_rate // common
        self._early = steps * out_rate // common

    def push(self, block: Samples) -> Samples:
        """Take the next samples and return those that are ready.

        Parameters
        ----------
        block : float32, (n,)

        Returns
        -------
        float32, (m,)
            Sample k lies at k / out_rate seconds; m may be 0.
        """
        if self._stream is None or not len(block):
            return block
        return self._resampled(self._with_start(block))

    def finish(self, block: Samples = _NOTHING) -> Samples:
        """Take the last samples, shape (n,), and return the rest, shape (m,)."""
        if self._stream is None or not (self._received or len(block)):
            return block
        pieces = self._with_start(block) if len(block) else []
        rest = self._resampled([*pieces, np.full(self._border, self._last)], last=True)
        surplus = self._returned - -(-self._received * self.out_rate // self.in_rate)
        return rest[: len(rest) - surplus]

    def _with_start(self, block: Samples) -> list[Samples]:
        """Return the next samples in pieces, the very first with the border before them."""
        border = [] if self._received else [np.full(self._border, block[0])]
        self._received += len(block)
        self._last = block[-1]
        # What a piece needs stays in the processor's cache.
        return [*border, *(block[i : i + _PIECE] for i in range(0, len(block), _PIECE))]

    def _resampled(self, pieces: list[Samples], *, last: bool = False) -> Samples:
        """Return what comes of some pieces, without what lies before the stream's start."""
        *others, final = pieces
        resample = self._stream.resample_chunk
        resampled = np.concatenate([*map(resample, others), resample(final, last=last)])
        early = min(self._early, len(resampled))
        self._early -= early
        self._returned += len(resampled) - early
        return resampled[early:]


class _MemoryDecoder:
    """A Recording as a decoder."""

    def __init__(self, recording: Recording) -> None:
        self._rest = recording.samples
        self.sample_rate = recording.sample_rate
        self.channels = 1
        self.format = "samples"
        self.duration: float | None = recording.duration
        self.truncated = False
        self.comment = ""

    def read(self, count: int) -> Samples:
        block, self._rest = self._rest[:count], self._rest[count:]
        return block

    def close(self) -> None:
        pass


def _open_file(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> BinaryIO:
    """Open a regular file; a pipe or a device could hang or never end."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise RecordingError("it is a folder, not a file")
        if not stat.S_ISREG(mode):
            raise RecordingError("it is a pipe or a device, not a file; save it as a file first")
        return open(path, "rb", buffering=0)
    except (OSError, ValueError) as error:
        raise RecordingError(_why(error)) from error


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "it may not be read; change its permissions or copy it"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"it cannot be read: {(reason or str(error)).splitlines()[0]}"
