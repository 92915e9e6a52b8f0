"""Decoders: a sound file of any kind in, blocks of mono float32 samples out.

The decoder is chosen by what a file holds, never by its name: libsndfile (soundfile) is the fastest
for WAV, FLAC and AIFF; FFmpeg (PyAV) for what phones and browsers write and for MP3 and Ogg, where
it keeps the times right behind damaged bytes. Neither is imported before a file needs it.
"""

from __future__ import annotations

import io
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from audio_pipeline.audio._pcm import HEAD_BYTES, MAX_VALUES, Decoder, Samples, check_shape, mix
from audio_pipeline.exceptions import RecordingError

if TYPE_CHECKING:
    from audio_pipeline.audio._ffmpeg import MediaDecoder

_UNFINISHED_SIZE = 0x7FFFFFFF

_UNKNOWN_FRAMES = 1 << 62
"""libsndfile says more where it does not know: a FLAC encoder that wrote to a pipe could not put
the length into the header."""

_MAGIC = {
    "wav": rb"RIF[FX].{4}WAVE",
    "rf64": rb"RF64|BW64",
    "w64": rb"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00",
    "ogg": rb"OggS",
    "mp4": rb".{4}(ftyp|moov|mdat|wide|free|skip|pnot)",
    "aiff": rb"FORM.{4}AIF[FC]",
    "id3": rb"ID3",
    "amr": rb"#!AMR",
    "flac": rb"fLaC",
    "au": rb"\.snd",
    "caf": rb"caff",
    "webm": rb"\x1aE\xdf\xa3",
    "asf": rb"\x30\x26\xb2\x75",
    # Eleven bits of one, then version and layer; layer 0 is AAC's alone.
    "aac": rb"\xff[\xf0\xf1\xf8\xf9]",
    "mp3": rb"\xff[\xe2-\xe7\xea-\xef\xf2-\xf7\xfa-\xff]",
}
"""How a file of each kind begins; the first that fits counts."""

_OGG = {b"\x01vorbis": "ogg-vorbis", b"OpusHead": "ogg-opus", b"\x7fFLAC": "ogg-flac"}
"""How the first packet in an Ogg file begins."""

_SOUNDFILE_KINDS = frozenset({"wav", "rf64", "w64", "aiff", "au", "caf", "flac"})


def open_decoder(handle: BinaryIO) -> Decoder:
    """Choose a decoder by the first bytes of a file.

    ``handle``: open for reading and seekable, at any position. It stays open when the decoder is
        closed.
    With at least one sample to be read.
    Raises RecordingError: if the file is empty, is no sound file, or holds no sound.
    """
    handle.seek(0)
    head = handle.read(HEAD_BYTES)
    if not head:
        raise RecordingError("the file is empty (0 bytes)")
    kind = sniff(head)
    if kind == "id3":
        handle.seek(_id3_length(head))
        kind = sniff(handle.read(HEAD_BYTES))
        kind = kind if kind in {"flac", "aac"} else "mp3"
    empty = False
    if kind in _SOUNDFILE_KINDS:
        decoder = _open_soundfile(handle, kind)
        if decoder is not None and decoder.duration != 0.0:
            return decoder
        empty = decoder is not None
    from audio_pipeline.audio._ffmpeg import MediaDecoder

    try:
        return MediaDecoder(handle, kind)
    except RecordingError as error:
        if empty:
            raise RecordingError("it holds no sound (0 samples)") from error
        raise


def sniff(head: bytes) -> str:
    """Tell what a file is by its first bytes.

    ``head``: the first 64 bytes or more.
    ``wav``, ``mp4``, ...; ``id3`` for a tag in front of something else; ``unknown``.
    """
    if head[:4] == b"OggS" and len(head) > 27:
        body = head[27 + head[26] :]
        return next((kind for magic, kind in _OGG.items() if body.startswith(magic)), "ogg")
    kinds = (kind for kind, magic in _MAGIC.items() if re.match(magic, head, re.DOTALL))
    return next(kinds, "unknown")


def _id3_length(head: bytes) -> int:
    """Bytes of an ID3v2 tag with its header; its size has seven bits a byte."""
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10


def _open_soundfile(handle: BinaryIO, kind: str) -> Decoder | None:
    """Open with libsndfile; None where it cannot."""
    import soundfile

    handle.seek(0)
    try:
        # libsndfile reads a few hundred bytes at a time: of a file it had better do that itself.
        own = os.name == "posix" and isinstance(handle, io.FileIO)
        source = handle.fileno() if own else _Shielded(handle)
        file = soundfile.SoundFile(source, closefd=False)
    except (soundfile.LibsndfileError, OSError, ValueError, TypeError):
        return None
    if file.frames >= _UNKNOWN_FRAMES:
        file.close()
        return None
    try:
        check_shape(file.samplerate, file.channels)
    except RecordingError:
        file.close()
        raise
    return SoundFileDecoder(file, handle, kind)


class _Shielded:
    """A file whose faults look like its end: libsndfile cannot pass on an exception.

    A damaged header makes it seek to places before the start, a pulled card makes reading fail.
    """

    def __init__(self, handle: BinaryIO) -> None:
        self._handle = handle
        self.tell = handle.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        with suppress(OSError, ValueError):
            return self._handle.seek(offset, whence)
        return self._handle.tell()

    def read(self, size: int) -> bytes:
        with suppress(OSError, ValueError):
            return self._handle.read(size) or b""
        return b""

    def write(self, data: bytes) -> int:
        raise OSError("a recording that is read is never written to")


class SoundFileDecoder:
    """Reads through libsndfile; where that gives up on damage, FFmpeg takes over.

    ``file``: open, at its start.
    ``handle``: what `file` reads from.
    ``kind``: as `sniff` has it.
    """

    def __init__(self, file: Any, handle: BinaryIO, kind: str) -> None:
        self._file: Any = file
        self._handle = handle
        self._kind = kind
        self._position = 0
        self._rescue: MediaDecoder | None = None
        self.sample_rate: int = file.samplerate
        self.channels: int = file.channels
        self.format = f"{kind} {file.subtype.lower().replace('_', ' ')}"
        self.duration: float | None = file.frames / file.samplerate
        self.truncated = _promises_more(file.extra_info)
        self.comment: str = file.comment

    def read(self, count: int) -> Samples:
        """Return at most `count` further samples, shape (n,), float32; empty at the end."""
        rescue = self._rescue
        if rescue is not None:
            return rescue.read(count)
        count = max(1, min(count, MAX_VALUES // self.channels, self._left()))
        block = np.empty((count, self.channels), dtype=np.float32)
        try:
            got = len(self._file.read(out=block))
        except (RuntimeError, OSError):
            got = min(count, max(0, self._file.tell() - self._position))
            rescue = self._start_rescue(self._position + got)
        self._position += got
        if not got and rescue is not None:
            return rescue.read(count)
        self.truncated = self.truncated or (not got and self._left() > 0)
        return mix(block[:got])

    def _left(self) -> int:
        """Return how many samples may follow."""
        return int(self._file.frames - self._position)

    def _start_rescue(self, position: int) -> MediaDecoder | None:
        from audio_pipeline.audio._ffmpeg import MediaDecoder

        self.truncated = True
        with suppress(RecordingError):
            rescue = MediaDecoder(self._handle, self._kind)
            if rescue.sample_rate == self.sample_rate:
                rescue.skip(position)
                self._rescue = rescue
            else:
                rescue.close()
        return self._rescue

    def close(self) -> None:
        """Let go of the file."""
        if self._rescue is not None:
            self._rescue.close()
        self._file.close()


def _promises_more(log: str) -> bool:
    """Tell from libsndfile's log whether a header promises more bytes than the file holds.

    Recorders that could not go back to fill in the length leave the largest number there: such a
    file is whole.
    """
    sizes = re.search(r"^[^:\n]*: *(\d+) *\(should be *(\d+)\)", log, re.MULTILINE)
    return sizes is not None and int(sizes[2]) < int(sizes[1]) < _UNFINISHED_SIZE
