"""FFmpeg (PyAV) as a decoder: what phones, browsers and cameras write.

Decoded frames are copied once, straight into one array a block: PyAV's own ``to_ndarray`` and a
concatenation cost a third of the decoding itself (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.stream import Discard

from audio_pipeline.decoding import MAX_VALUES, Samples, check_shape, mix
from audio_pipeline.errors import RecordingError

GAP_SECONDS = 0.05
"""A time stamp this far behind the samples decoded so far means missing sound.

Browsers write stamps that jitter by some milliseconds, so a smaller difference is left alone.
"""

MAX_GAP_SECONDS = 600.0
"""A larger jump is taken for a broken time stamp, not for sound that is missing."""

RAW_AAC_PRIMING = 1024
"""Samples. Every AAC encoder puts at least one frame of 1024 before the sound (Apple 2112, FFmpeg
1024), and a bare AAC stream does not say how many, so the part common to all is taken off."""

_DEMUXERS = {
    "mp3": "mp3",
    "aac": "aac",
    "mp4": "mov",
    "webm": "matroska",
    "asf": "asf",
    "amr": "amr",
    "ogg": "ogg",
    "ogg-vorbis": "ogg",
    "ogg-opus": "ogg",
    "ogg-flac": "ogg",
    "flac": "flac",
    "caf": "caf",
    "wav": "wav",
    "rf64": "wav",
    "w64": "w64",
    "aiff": "aiff",
    "au": "au",
}

_GUESSED_DEMUXERS = "mp3,aac,mov,mpegts,mpeg,avi,flv,ac3,eac3,wv,ape,tta,tak,mpc,mpc8,dsf,voc"
"""Formats FFmpeg may look for where the first bytes told nothing. Playlists are left out: they name
other files and addresses, which a recording must never make this program open."""

_TIMED_KINDS = frozenset({"mp4", "webm", "asf", "ogg", "ogg-opus", "ogg-vorbis", "flac", "unknown"})
"""Containers whose time stamps can be believed."""

_MEASURED_KINDS = frozenset({"mp4", "asf", "caf", "flac", "ogg", "ogg-opus", "ogg-vorbis", "wav"})
"""Containers that say how long each track is; elsewhere FFmpeg guesses from the bit rate."""

_SAMPLE_FORMATS: dict[str, tuple[str, float]] = {
    "u8": ("u1", 2.0**-7),
    "s16": ("i2", 2.0**-15),
    "s32": ("i4", 2.0**-31),
    "s64": ("i8", 2.0**-63),
    "flt": ("f4", 1.0),
    "dbl": ("f8", 1.0),
}

_STAMP_STEP = 0.002
"""Seconds. Where a packet was lost, its length is known to the step of the time stamps."""

_END_SLACK_SECONDS = 0.25
"""A file that ends this much before its header says is cut off; less is a codec's padding."""

_SPARE = 8192
"""Samples read past the length a header says, so that a whole file fits one array."""


class MediaDecoder:
    """Reads the first sound track of any file FFmpeg knows, as a `decoding.Decoder`.

    Sound that is missing between two time stamps (a damaged packet, a pause of the recorder, a
    sound track that starts after the picture) becomes zeros, so times stay on the person's clock.

    Parameters
    ----------
    handle : binary file
        Open for reading and seekable. It stays open when the decoder is closed.
    kind : str
        As `decoding.sniff` has it.

    Raises
    ------
    RecordingError
        If it cannot be opened, has no sound track, or no sample of it can be decoded.
    """

    def __init__(self, handle: BinaryIO, kind: str) -> None:
        handle.seek(0)
        self._container = _open_container(handle, kind)
        try:
            self._stream = self._choose_stream()
            self._damaged = False
            self._frames = self._even(self._decode())
            first = next(self._frames, None)
            if first is None:
                raise RecordingError(
                    "no sound in it can be decoded; it may be damaged or cut off before its first "
                    "sample"
                )
            self.sample_rate: int = first.sample_rate
            self.channels: int = first.layout.nb_channels
            check_shape(self.sample_rate, self.channels)
        except BaseException:
            self._container.close()
            raise
        self._pending: Any = first
        self._silence = 0
        self._position = 0
        self._timed = kind in _TIMED_KINDS
        self._stamp_seconds = float(first.time_base or 0)
        self._start = self._start_stamp(first)
        self._skip = RAW_AAC_PRIMING if kind == "aac" else 0
        codec = self._stream.codec_context.name
        self.format = f"{kind} {codec}" if kind != codec else kind
        self.duration: float | None = None
        if kind in _MEASURED_KINDS and self._stream.duration and self._stream.time_base:
            self.duration = float(self._stream.duration * self._stream.time_base)
        self.truncated = False

    def _choose_stream(self) -> Any:
        chosen = None
        for stream in self._container.streams:
            if stream.type == "audio" and chosen is None and stream.codec_context is not None:
                chosen = stream
            else:
                # Pictures are neither read nor decoded: most of a video's bytes.
                stream.discard = Discard["all"]
        if chosen is None:
            raise RecordingError("it has no sound track")
        return chosen

    def _start_stamp(self, first: Any) -> float:
        """Stamp of the file's start on the sound track's clock.

        Only a picture that starts earlier makes the two differ: a codec's own delay is already
        cut off, and files of sound alone start at their first sample whatever its stamp says.
        """
        if first.pts is None:
            return 0.0
        if any(stream.type == "video" for stream in self._container.streams):
            start = self._container.start_time
            if start is not None and first.time_base:
                return float(start / av.time_base / first.time_base)
        return float(first.pts)

    def _decode(self) -> Generator[Any, None, None]:
        """Yield decoded frames; damaged packets are passed over and remembered."""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = packet.decode()
            except av.error.EOFError:
                return
            except (av.error.InvalidDataError, av.error.PatchWelcomeError):
                self._damaged = True
                continue
            except (av.error.FFmpegError, OSError, ValueError):
                self._damaged = True
                return
            yield from frames

    @staticmethod
    def _even(frames: Generator[Any, None, None]) -> Generator[Any, None, None]:
        """Convert frames whose rate or channels differ from the first one's to its shape."""
        first = next(frames, None)
        if first is None:
            return
        rate, channels = first.sample_rate, first.layout.nb_channels
        converter: Any = None
        yield first
        for frame in frames:
            if frame.sample_rate == rate and frame.layout.nb_channels == channels:
                yield frame
                continue
            if converter is None:
                converter = av.AudioResampler(first.format, first.layout, rate)
            frame.pts = None
            try:
                yield from converter.resample(frame)
            except (av.error.FFmpegError, ValueError):
                converter = None

    def read(self, count: int) -> Samples:
        """Return at most `count` further samples, shape (n,), float32; empty at the end."""
        count = min(count, max(1, MAX_VALUES // self.channels))
        if self.duration is not None:
            left = int(self.duration * self.sample_rate) - self._position
            count = min(count, left + _SPARE) if left > 0 else count
        while True:
            block = self._fill(count)
            skipped = min(self._skip, block.shape[1])
            self._skip -= skipped
            if skipped < block.shape[1] or not block.shape[1]:
                return mix(block[:, skipped:].T)

    def skip(self, count: int) -> None:
        """Pass over the next `count` samples."""
        self._skip += count

    def _fill(self, count: int) -> npt.NDArray[np.float32]:
        """Decode at most `count` samples, or one frame if that is longer: (channels, n)."""
        block: npt.NDArray[np.float32] | None = None
        filled = 0
        frame = self._pending
        while frame is not None:
            if not self._silence:
                self._silence = self._missing_before(frame)
            size = frame.samples
            if block is None:
                block = np.empty((self.channels, max(count, size)), dtype=np.float32)
            if self._silence:
                silence = min(self._silence, block.shape[1] - filled)
                block[:, filled : filled + silence] = 0.0
                filled += silence
                self._position += silence
                self._silence -= silence
                if self._silence:
                    break
            if filled + size > block.shape[1]:
                break
            self._copy(frame, block[:, filled : filled + size])
            filled += size
            self._position += size
            frame = next(self._frames, None)
        self._pending = frame
        if frame is None:
            self.truncated = self.truncated or self._damaged or self._ended_early()
        return np.zeros((self.channels, 0), np.float32) if block is None else block[:, :filled]

    def _missing_before(self, frame: Any) -> int:
        """Count the samples between the sound decoded so far and a frame's time stamp."""
        if not self._timed or frame.pts is None:
            return 0
        stamp: float = (frame.pts - self._start) * self._stamp_seconds
        missing = stamp - self._position / self.sample_rate
        least = _STAMP_STEP if self._damaged else GAP_SECONDS
        if not least < missing < MAX_GAP_SECONDS:
            return 0
        self.truncated = True
        return round(missing * self.sample_rate)

    def _copy(self, frame: Any, target: npt.NDArray[np.float32]) -> None:
        """Convert one frame to float32, shape (channels, frame.samples)."""
        name = frame.format.name
        planes = frame.planes
        planar = name[-1] == "p"
        dtype, scale = _SAMPLE_FORMATS[name[:-1] if planar else name]
        if planar:
            for row, plane in zip(target, planes, strict=True):
                row[:] = np.frombuffer(plane, dtype, frame.samples)
        else:
            count = frame.samples * self.channels
            values = np.frombuffer(planes[0], dtype, count)
            target[:] = values.reshape(frame.samples, self.channels).T
        if dtype == "u1":
            target -= 128.0
        if scale != 1.0:
            target *= np.float32(scale)

    def _ended_early(self) -> bool:
        if self.duration is None:
            return False
        return self._position < (self.duration - _END_SLACK_SECONDS) * self.sample_rate

    def close(self) -> None:
        """Let go of the file."""
        self._frames.close()
        self._container.close()


def _open_container(handle: BinaryIO, kind: str) -> Any:
    """Open with the demuxer that belongs to the kind, and with no way to any other file."""
    options = {"protocol_whitelist": "none"}
    if kind not in _DEMUXERS:
        options["format_whitelist"] = _GUESSED_DEMUXERS
    try:
        return av.open(
            handle,
            mode="r",
            format=_DEMUXERS.get(kind),
            container_options=options,
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, OSError, ValueError, LookupError) as error:
        if kind == "mp4":
            raise RecordingError(
                "it was cut off while it was written: its index is missing; record it again"
            ) from error
        if kind == "unknown":
            raise RecordingError("it is not a sound or video file this program knows") from error
        raise RecordingError(f"it starts like a {kind} file but cannot be read as one") from error
