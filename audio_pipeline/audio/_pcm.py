"""What all decoders share: their interface, bounds on headers, and channels mixed to one."""

from __future__ import annotations

from typing import BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from audio_pipeline.exceptions import RecordingError

Samples = npt.NDArray[np.float32]

HEAD_BYTES = 4096
"""How much of a file is read to tell what it is."""

MAX_VALUES = 1 << 21
"""Most values (samples x channels) decoded at once, so memory is bounded for any header."""

MAX_SAMPLE_RATE = 1_000_000
"""Hz. Ultrasound recorders reach 768 kHz; a higher rate in a header is damage."""

MAX_CHANNELS = 256

_LONGEST_OGG_PAGE = 27 + 255 + 255 * 255


class Decoder(Protocol):
    """What a recording is read through.

    ``channels``: channels in the file; `read` mixes them to one by their mean.
    ``format``: container and codec in words a person may know, like ``mp4 aac``.
    ``duration``: seconds as the file's header says; None where it does not.
    ``truncated``: true once it is known that sound is missing.
    ``comment``: what the file says about itself, where that can be read; recordings of our own say
        when which part of the guided recording was performed.
    """

    sample_rate: int
    channels: int
    format: str
    duration: float | None
    truncated: bool
    comment: str

    def read(self, count: int) -> Samples:
        """Return at most `count` further samples, shape (n,), float32; empty at the end."""

    def close(self) -> None:
        """Let go of the file."""


def check_shape(sample_rate: int, channels: int) -> None:
    """Refuse a header that no recorder writes.

    Raises RecordingError: if the rate or the number of channels is out of range.
    """
    if not 0 < sample_rate <= MAX_SAMPLE_RATE:
        raise RecordingError(
            f"its header says {sample_rate} samples a second, which no recorder makes; "
            "save it again from where it came"
        )
    if not 0 < channels <= MAX_CHANNELS:
        raise RecordingError(f"it has {channels} channels; at most {MAX_CHANNELS} can be read")


def mix(samples: npt.NDArray[np.float32]) -> Samples:
    """Mix channels to one by their mean.

    ``samples``: in any memory order.
    By slices: numpy's mean over a short axis is 25 times slower (docs/performance.md).
    """
    channels = samples.shape[1]
    if channels == 1:
        return samples[:, 0]
    mixed: Samples = samples[:, 0] + samples[:, 1]
    for channel in range(2, channels):
        mixed += samples[:, channel]
    mixed *= np.float32(1.0 / channels)
    return mixed


def ogg_cut_short(handle: BinaryIO) -> bool:
    """Tell whether the last page of an Ogg file is whole and marked as the last one.

    ``handle``: open for reading and seekable; its position is kept.
    """
    position = handle.tell()
    end = handle.seek(0, 2)
    start = max(0, end - 2 * _LONGEST_OGG_PAGE)
    handle.seek(start)
    tail = handle.read(end - start)
    handle.seek(position)
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    whole = len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    return not whole or not page[5] & 4
