"""Plain WAV and RF64 files as a decoder, in numpy.

Three times faster than libsndfile on 16 bits (docs/performance.md), and it reads what recorders
leave behind when they are stopped before they could write the length into the header.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import numpy as np

from audio_pipeline.audio._decoders import MAX_VALUES, Samples, check_shape, mix

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE

_LONGEST_PIECE = 1 << 15
"""Values (samples x channels) that are mixed at once."""

_MOST_CHUNKS = 1000

_LONGEST_LIST = 1 << 17
"""Bytes of titles and comments that are looked at."""

_UNFINISHED_SIZE = 0x7FFFFFFF
"""A recorder writes this or more where it cannot know the length yet."""


class WaveDecoder:
    """Reads 8-, 16-, 24- and 32-bit integers, 32- and 64-bit floats, as a `decoding.Decoder`.

    Made by `open_wave`.

    Parameters
    ----------
    handle : binary file
        Open for reading; it stays open when the decoder is closed.
    sample_rate, channels : int
        As in the header.
    code : int
        1 for integers, 3 for floats.
    width : int
        Bytes a value.
    start, size : int
        Where the sound lies in the file, in bytes.
    truncated : bool
        Whether the header promises more than the file holds.
    """

    def __init__(
        self,
        handle: BinaryIO,
        sample_rate: int,
        channels: int,
        code: int,
        width: int,
        start: int,
        size: int,
        truncated: bool,
    ) -> None:
        self._handle = handle
        self._width = width
        self._float = code == _FLOAT
        self._offset = start
        self._frame = channels * width
        self._left = size // self._frame
        self.sample_rate = sample_rate
        self.channels = channels
        self.format = f"wav {'float' if self._float else 'pcm'} {width * 8}"
        self.duration: float | None = self._left / sample_rate
        self.truncated = truncated
        self.comment = ""

    def read(self, count: int) -> Samples:
        """Return at most `count` further samples, shape (n,), float32; empty at the end."""
        count = min(count, MAX_VALUES, self._left)
        if self.channels == 1:
            return self._read_some(count)
        # Mixed piece by piece: all channels of a long block would not fit the processor's cache.
        block: Samples = np.empty(count, dtype=np.float32)
        step = max(1, _LONGEST_PIECE // self.channels)
        for start in range(0, count, step):
            piece = self._read_some(min(step, count - start))
            block[start : start + len(piece)] = piece
            if not self._left:
                return block[: start + len(piece)]
        return block

    def _read_some(self, count: int) -> Samples:
        wanted = count * self._frame
        self._handle.seek(self._offset)
        parts: list[bytes] = []
        got = 0
        while got < wanted:
            try:
                part = self._handle.read(wanted - got)
            except OSError:
                part = b""
            if not part:
                self.truncated = True
                break
            parts.append(part)
            got += len(part)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        frames = got // self._frame
        self._left = self._left - frames if frames == count else 0
        self._offset += frames * self._frame
        return mix(self._values(data, frames * self.channels).reshape(-1, self.channels))

    def _values(self, data: bytes, count: int) -> Samples:
        """Convert little-endian values to float32 in [-1, 1]."""
        scale = np.float32(2.0 ** (1 - 8 * self._width))
        values: Samples
        if self._float:
            with np.errstate(over="ignore", invalid="ignore"):
                values = np.frombuffer(data, f"<f{self._width}", count).astype(np.float32)
        elif self._width == 1:
            values = np.frombuffer(data, "u1", count).astype(np.float32)
            values -= np.float32(128)
            values *= scale
        elif self._width == 3:
            # Read as the upper bytes of 32-bit values, the lowest of which lies in front.
            wide = np.ndarray((count,), "<i4", b"\0" + data, 0, (3,))
            values = np.multiply(wide & -256, np.float32(2.0**-31), dtype=np.float32)
        else:
            integers = np.frombuffer(data, f"<i{self._width}", count)
            values = np.multiply(integers, scale, dtype=np.float32)
        return values

    def close(self) -> None:
        """Let go of the file."""


def open_wave(handle: BinaryIO) -> WaveDecoder | None:
    """Read the header of a WAV or RF64 file.

    Parameters
    ----------
    handle : binary file
        Open for reading and seekable.

    Returns
    -------
    WaveDecoder or None
        None where it holds another encoding, another byte order or no sound: libsndfile or FFmpeg
        should try.

    Raises
    ------
    RecordingError
        If the rate or the number of channels is out of range.
    """
    length = handle.seek(0, 2)
    layout: tuple[int, int, int, int] | None = None
    comment = ""
    long_size = 0
    position = 12
    for _ in range(_MOST_CHUNKS):
        handle.seek(position)
        head = handle.read(8)
        if len(head) < 8:
            return None
        name, size = head[:4], struct.unpack("<I", head[4:])[0]
        position += 8
        if name == b"ds64":
            sizes = handle.read(16)
            long_size = struct.unpack("<Q", sizes[8:])[0] if len(sizes) == 16 else 0
        elif name == b"fmt ":
            layout = _layout(handle.read(min(size, 40)))
        elif name == b"LIST":
            comment = _comment(handle.read(min(size, _LONGEST_LIST))) or comment
        elif name == b"data":
            if layout is None:
                return None
            if size == 0xFFFFFFFF and long_size:
                size = long_size
            decoder = _open_data(handle, layout, position, size, length)
            if decoder is not None:
                decoder.comment = comment
            return decoder
        position += size + size % 2
    return None


def _comment(chunk: bytes) -> str:
    """Return the comment in the content of a LIST chunk; empty where there is none."""
    position = 4 if chunk.startswith(b"INFO") else len(chunk)
    while position + 8 <= len(chunk):
        name, size = chunk[position : position + 4], *struct.unpack_from("<I", chunk, position + 4)
        position += 8
        if name == b"ICMT":
            return chunk[position : position + size].rstrip(b"\0").decode("utf-8", "replace")
        position += size + size % 2
    return ""


def _layout(chunk: bytes) -> tuple[int, int, int, int] | None:
    """Return code, channels, rate and bytes a value; None for an encoding not read here."""
    if len(chunk) < 16:
        return None
    code, channels, rate, _, align, _ = struct.unpack("<HHIIHH", chunk[:16])
    if code == _EXTENSIBLE and len(chunk) >= 26:
        code = struct.unpack("<H", chunk[24:26])[0]
    if not channels or align % channels:
        return None
    width = align // channels
    if (code, width) not in {(_PCM, 1), (_PCM, 2), (_PCM, 3), (_PCM, 4), (_FLOAT, 4), (_FLOAT, 8)}:
        return None
    return code, channels, rate, width


def _open_data(
    handle: BinaryIO, layout: tuple[int, int, int, int], start: int, size: int, length: int
) -> WaveDecoder | None:
    code, channels, rate, width = layout
    present = length - start
    if size == 0 and present > 8:
        handle.seek(start)
        # Another chunk follows, all letters: the file is finished, and empty.
        if handle.read(4).strip().isalnum():
            return None
        size = _UNFINISHED_SIZE
    truncated = present < size < _UNFINISHED_SIZE
    size = min(size, present)
    if size < channels * width:
        return None
    check_shape(rate, channels)
    return WaveDecoder(handle, rate, channels, code, width, start, size, truncated)
