"""FFmpeg (PyAV) as a decoder: what phones, browsers and cameras write.

Decoded frames are copied once, straight into one array a block: PyAV's own ``to_ndarray`` and a
concatenation cost a third of the decoding itself (docs/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, BinaryIO

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.stream import Discard

from audio_pipeline.audio._pcm import (
    HEAD_BYTES,
    MAX_VALUES,
    Samples,
    check_shape,
    mix,
    ogg_cut_short,
)
from audio_pipeline.exceptions import RecordingError

GAP_SECONDS = 0.05
"""A time stamp that jumps by more means missing sound.

Browsers write stamps that jitter by some milliseconds, so a smaller difference is left alone.
"""

MAX_GAP_SECONDS = 600.0
"""More, in all, is taken for broken time stamps, not for sound that is missing."""

RAW_AAC_PRIMING = 1024
"""Samples. Every AAC encoder puts at least one frame of 1024 before the sound (Apple 2112, FFmpeg
1024), and a bare AAC stream does not say how many, so the part common to all is taken off."""

_DEMUXERS = {
    "mp4": "mov",
    "webm": "matroska",
    "ogg-vorbis": "ogg",
    "ogg-opus": "ogg",
    "ogg-flac": "ogg",
    "rf64": "wav",
}
"""FFmpeg's demuxers that are called otherwise than the kind of file they read."""

_NAMES = {
    "asf": "WMA",
    "webm": "WebM or Matroska",
    "ogg": "Ogg",
    "ogg-opus": "Opus",
    "ogg-vorbis": "Ogg Vorbis",
    "ogg-flac": "Ogg FLAC",
}

_GUESSED_DEMUXERS = "mp3,aac,mov,mpegts,mpeg,avi,flv,ac3,eac3,wv,ape,tta,tak,mpc,mpc8,dsf,voc"
"""Formats FFmpeg may look for where the first bytes told nothing. Playlists are left out: they name
other files and addresses, which a recording must never make this program open."""

_TIMED_KINDS = frozenset({"mp4", "webm", "asf", "ogg", "ogg-opus", "ogg-vorbis", "flac", "unknown"})
"""Containers whose time stamps can be believed."""

_MEASURED_KINDS = frozenset({"mp4", "asf", "caf", "flac", "ogg", "ogg-opus", "ogg-vorbis", "wav"})
"""Containers that say how long each track is; elsewhere FFmpeg guesses from the bit rate."""

_TEXT_OPTIONS = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""PyAV before 19 refuses a file for a title that is not UTF-8 unless told otherwise."""

_SAMPLE_FORMATS: dict[str, tuple[str, float]] = {
    "u8": ("u1", 2.0**-7),
    "s16": ("i2", 2.0**-15),
    "s32": ("i4", 2.0**-31),
    "s64": ("i8", 2.0**-63),
    "flt": ("f4", 1.0),
    "dbl": ("f8", 1.0),
}

_LONGEST_PIECE = 1 << 15
"""Values (samples x channels) that are mixed at once."""

_STAMP_STEP = 0.002
"""Seconds. Where a packet was lost, its length is known to the step of the time stamps."""

_END_SLACK_SECONDS = 0.25
"""A file that ends this much before its header says is cut off; less is a codec's padding."""

_MOST_PLANES = 7
"""PyAV cannot tell where the planes of eight and more channels end."""

_MOST_FAILURES = 3000
"""Damaged packets in a row after which the rest is given up, so that no file can hang."""

_MOST_PADDING = 4096
"""Samples; two frames of the longest kind of AAC. More is sound the header does not know of."""

_SPARE = 8192
"""Samples read past the length a header says, so that a whole file fits one array."""


class MediaDecoder:
    """Reads the first sound track of any file FFmpeg knows, as a `_pcm.Decoder`.

    Sound that is missing between two time stamps (a damaged packet, a pause of the recorder, a
    sound track that starts after the picture) becomes zeros, so times stay on the person's clock.

    ``handle``: open for reading and seekable. It stays open when the decoder is closed.
    ``kind``: as `_decoders.sniff` has it.
    Raises RecordingError: if it cannot be opened, has no sound track, or no sample of it can be
    decoded.
    """

    def __init__(self, handle: BinaryIO, kind: str) -> None:
        handle.seek(0)
        self._container = _open_container(handle, kind)
        try:
            self._stream = self._choose_stream()
            self._damaged = False
            self._frames = self._decode()
            first = next(self._frames, None)
            if first is None:
                raise RecordingError(
                    "no sound in it can be decoded; it may be damaged or cut off before its first "
                    "sample"
                )
            self.sample_rate: int = first.sample_rate
            self.channels: int = first.layout.nb_channels
            check_shape(self.sample_rate, self.channels)
            self._storage = _Storage(first)
        except BaseException:
            self._container.close()
            raise
        self._pending: Any = first
        self._silence = 0
        self._most_silence = MAX_GAP_SECONDS * self.sample_rate
        self._position = 0
        self._timed = kind in _TIMED_KINDS
        self._start = self._start_stamp(first)
        self._stamp_seconds = float(first.time_base or 0)
        lead = ((first.pts or 0) - self._start) * self._stamp_seconds
        # Compared from frame to frame: clocks of picture and sound drift apart within an hour.
        self._expected = self._start * self._stamp_seconds * self.sample_rate
        self._lead = lead if GAP_SECONDS < lead < MAX_GAP_SECONDS else 0.0
        codec = self._stream.codec_context.name
        self._skip = RAW_AAC_PRIMING if codec == "aac" and kind in {"aac", "unknown"} else 0
        self.format = f"{kind} {codec}" if kind != codec else kind
        self.duration = self._declared_duration(handle, kind)
        self.truncated = kind.startswith("ogg") and ogg_cut_short(handle)
        said = {**self._container.metadata, **self._stream.metadata}
        self.comment = next((said[name] for name in said if name.lower() == "comment"), "")

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
        """Return the stamp of the file's start on the sound track's clock.

        Only a picture that starts earlier makes it differ from the first frame's: a codec's own
        delay is already cut off, and a file of sound alone starts at its first sample.
        """
        if first.pts is None:
            return 0.0
        start = self._container.start_time
        if start is not None and first.time_base and self._has_picture():
            return float(start / av.time_base / first.time_base)
        return float(first.pts)

    def _declared_duration(self, handle: BinaryIO, kind: str) -> float | None:
        """Return the length that the file itself states, in seconds; FFmpeg's guesses left out."""
        if kind == "mp3":
            position = handle.tell()
            handle.seek(0)
            head = handle.read(HEAD_BYTES)
            handle.seek(position)
            if b"Xing" not in head and b"Info" not in head:
                return None
        elif kind == "webm":
            # The container says when it ends, which is the sound's end where there is only sound.
            if self._has_picture() or not self._container.duration:
                return None
            return (
                float(self._container.duration / av.time_base) - self._start * self._stamp_seconds
            )
        elif kind not in _MEASURED_KINDS:
            return None
        if not self._stream.duration or not self._stream.time_base:
            return None
        length = float(self._stream.duration * self._stream.time_base)
        if kind == "mp4":
            return length + self._lead
        return length - self._start * self._stamp_seconds if kind.startswith("ogg") else length

    def _has_picture(self) -> bool:
        return any(stream.type == "video" for stream in self._container.streams)

    def _decode(self) -> Generator[Any, None, None]:
        """Yield decoded frames of one shape; damaged packets are passed over and remembered."""
        rate, name, channels = 0, "", 0
        converter: Any = None
        failures = 0
        while failures < _MOST_FAILURES:
            try:
                for frame in self._container.decode(self._stream):
                    failures = 0
                    if (
                        frame.sample_rate == rate
                        and frame.format.name == name
                        and frame.layout.nb_channels == channels
                    ):
                        yield frame
                        continue
                    if not rate:
                        rate, channels = frame.sample_rate, frame.layout.nb_channels
                        packs = frame.format.is_planar and channels > _MOST_PLANES
                        name = "" if packs else frame.format.name
                        converter = av.AudioResampler(name or "flt", frame.layout, rate)
                        if not packs:
                            yield frame
                            continue
                    frame.pts = None
                    yield from converter.resample(frame)
                return
            except av.error.EOFError:
                return
            except (av.error.FFmpegError, LookupError, RuntimeError, ValueError):
                self._damaged = True
                failures += 1
            except OSError:
                # The file itself cannot be read any further: a pulled card, a lost share.
                self._damaged = True
                return

    def read(self, count: int) -> Samples:
        """Return at most `count` further samples, shape (n,), float32; empty at the end."""
        if self.duration is not None:
            left = int(self.duration * self.sample_rate) - self._position
            count = min(count, left + _SPARE) if left > 0 else count
        count = min(count, MAX_VALUES)
        if self._storage.is_mono_float:
            return self._read_some(count)
        # Mixed piece by piece: all channels of a long block would not fit the processor's cache.
        block: Samples = np.empty(count + _LONGEST_PIECE, dtype=np.float32)
        filled = 0
        while filled < count and len(
            piece := self._read_some(min(_LONGEST_PIECE // self.channels, count - filled))
        ):
            end = filled + len(piece)
            if end > len(block):
                block = np.concatenate([block[:filled], piece])
            block[filled:end] = piece
            filled = end
        return block[:filled]

    def _read_some(self, count: int) -> Samples:
        while self._pending is not None or self._silence:
            block = self._read_silence(count) if self._silence else self._read_frames(count)
            skipped = min(self._skip, len(block))
            self._skip -= skipped
            if skipped < len(block):
                return block[skipped:]
        return np.zeros(0, dtype=np.float32)

    def skip(self, count: int) -> None:
        """Pass over the next `count` samples."""
        self._skip += count

    def _read_silence(self, count: int) -> Samples:
        block = np.zeros(min(count, self._silence), dtype=np.float32)
        self._silence -= len(block)
        self._position += len(block)
        return block

    def _read_frames(self, count: int) -> Samples:
        """Decode up to a time gap, at most `count` samples, or one frame where that is longer."""
        frame = self._pending
        size = max(count, frame.samples)
        block, rows, step = self._storage.empty(size)
        # Names looked up once, and no zip for a single plane: this loop runs 50 times a second of
        # sound, and is a tenth of what reading an m4a takes.
        frames, least = self._frames, self._least_gap()
        expected, scale = self._expected, self._stamp_seconds * self.sample_rate
        filled, single = 0, len(rows) == 1
        while frame is not None:
            end = filled + frame.samples
            if end > size:
                break
            stamp = frame.pts
            if stamp is not None:
                stamp *= scale
                if stamp != expected and least < stamp - expected < self._most_silence:
                    self._silence = round(stamp - expected)
                    self._most_silence -= self._silence
                    # A track that begins after the picture is whole.
                    self.truncated = self.truncated or self._position + filled > 0
                    expected = stamp
                    break
                expected = stamp
            expected += frame.samples
            first, last = filled * step, end * step
            planes = frame.planes
            if single:
                rows[0][first:last] = memoryview(planes[0])[: last - first]
            else:
                for row, plane in zip(rows, planes, strict=True):
                    row[first:last] = memoryview(plane)[: last - first]
            filled = end
            frame = next(frames, None)
        self._position += filled
        self._expected = expected
        self._pending = frame
        if frame is None:
            self.truncated = self.truncated or self._damaged or self._ended_early()
            filled -= min(filled, self._padding())
        return self._storage.mixed(block, filled)

    def _least_gap(self) -> float:
        """Return how many samples must be missing before a frame to be filled with silence."""
        if not self._timed:
            return math.inf
        return (_STAMP_STEP if self._damaged else GAP_SECONDS) * self.sample_rate

    def _ended_early(self) -> bool:
        if self.duration is None:
            return False
        return self._position < (self.duration - _END_SLACK_SECONDS) * self.sample_rate

    def _padding(self) -> int:
        """Count the samples after the end that fill a codec's last frame."""
        if self.duration is None or not self.format.startswith("mp4"):
            return 0
        excess = self._position - round(self.duration * self.sample_rate)
        return excess if 0 < excess <= _MOST_PADDING else 0

    def close(self) -> None:
        """Let go of the file."""
        self._frames.close()
        self._container.close()


class _Storage:
    """Frames of one sample format collected in one array, and turned into mono float32 at once.

    ``frame``: the first one; all others have its format and channels.
    """

    def __init__(self, frame: Any) -> None:
        name = frame.format.name
        self._planar = name.endswith("p")
        self._dtype, self._scale = _SAMPLE_FORMATS[name.removesuffix("p")]
        self._channels: int = frame.layout.nb_channels
        self.is_mono_float = self._channels == 1 and self._dtype == "f4"
        self._scratch = np.empty((0, 0), dtype=self._dtype)

    def empty(self, size: int) -> tuple[npt.NDArray[Any], list[memoryview], int]:
        """Return an array for `size` samples, a view in bytes of each row, and bytes a sample."""
        width = 1 if self._planar else self._channels
        rows = self._channels if self._planar else 1
        block = self._scratch
        if self.is_mono_float or block.shape != (rows, size * width):
            block = self._scratch = np.empty((rows, size * width), dtype=self._dtype)
        views = [row.data.cast("B") for row in block]
        return block, views, width * block.itemsize

    def mixed(self, block: npt.NDArray[Any], filled: int) -> Samples:
        """Return the first `filled` samples as mono float32, shape (filled,)."""
        samples: Any = block[:, :filled].T
        if not self._planar:
            samples = block[0, : filled * self._channels].reshape(filled, self._channels)
        if self._dtype != "f4":
            with np.errstate(over="ignore"):
                samples = samples.astype(np.float32)
        if self._dtype == "u1":
            samples -= np.float32(128.0)
        if self._scale != 1.0:
            samples *= np.float32(self._scale)
        return mix(samples)


def _open_container(handle: BinaryIO, kind: str) -> Any:
    """Open with the demuxer that belongs to the kind, and with no way to any other file."""
    options = {"protocol_whitelist": "none"}
    if kind == "unknown":
        options["format_whitelist"] = _GUESSED_DEMUXERS
    try:
        return av.open(
            handle,
            mode="r",
            format=None if kind == "unknown" else _DEMUXERS.get(kind, kind),
            container_options=options,
            **_TEXT_OPTIONS,
        )
    except (av.error.FFmpegError, OSError, ValueError, LookupError) as error:
        if kind == "mp4":
            raise RecordingError(
                "its index is missing or broken: it was cut off while it was written; record it "
                "again"
            ) from error
        if kind == "unknown":
            raise RecordingError("it is not a sound or video file this program knows") from error
        raise RecordingError(
            f"it looks like {_NAMES.get(kind, kind.upper())} but is damaged or cut off at its start"
        ) from error
