"""A take: what a microphone has delivered so far, kept so that nothing can lose it.

With a file name, every block goes to a journal beside that file at once: an AU file with an open
length, which any sound program reads even after the power was cut. When the take ends the journal
becomes the WAV or FLAC file that was asked for. Without a file name the take stays in memory and
nothing is written: sound is kept only when the person says so.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from audio_pipeline.audio.microphone import FULL_SCALE_24_BIT, to_24_bit
from audio_pipeline.exceptions import CrepitusError, InvalidInputError
from audio_pipeline.files import new_file, whole_file

JOURNAL_SUFFIX = ".unfinished.au"
_AU_HEADER_BYTES = 24
_AU_OPEN_LENGTH = 0xFFFFFFFF
_AU_24_BIT = 4
_COPY_FRAMES = 1 << 18

FORMATS = {".wav": "WAV", ".flac": "FLAC"}


class CaptureFile:
    """Mono 24-bit sound that grows block by block.

    Parameters
    ----------
    sample_rate : int
        Hz.
    path : Path or None
        Where :meth:`save` will put it, ending in ``.wav`` or ``.flac``; None keeps it in memory.
    replace : bool
        Whether it may take the place of another file there.

    Raises
    ------
    CrepitusError
        When the journal cannot be made.
    """

    def __init__(
        self, sample_rate: int, path: Path | None = None, *, replace: bool = False
    ) -> None:
        self.sample_rate = sample_rate
        self.path = path
        self.frames = 0
        self._saved = False
        self._replace = replace
        self._memory: list[NDArray[np.int32]] = []
        self._journal: IO[bytes] | None = None
        if path is not None:
            try:
                # Closed by __exit__; unbuffered, so that what was added is out of our hands.
                self._journal = new_file(self.journal_path, buffering=0)
                self._journal.write(_au_header(sample_rate))
            except OSError as error:
                raise CrepitusError(f"cannot write {path}: {_reason(error)}") from None

    def __enter__(self) -> CaptureFile:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close the journal; it stays where it is unless the take was saved."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    @property
    def journal_path(self) -> Path:
        """Where the sound is until the take is saved."""
        assert self.path is not None
        return self.path.with_name(self.path.name + JOURNAL_SUFFIX)

    @property
    def duration(self) -> float:
        """Length so far, s."""
        return self.frames / self.sample_rate

    def add(self, block: NDArray[np.float32]) -> None:
        """Append samples in [-1, 1], shape (n,).

        Raises
        ------
        CrepitusError
            When the disk is full; what came before is in the journal.
        """
        whole = to_24_bit(block)
        if self._journal is None:
            self._memory.append(whole)
        else:
            octets = (whole << 8).astype(">i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
            try:
                while octets:
                    octets = octets[self._journal.write(octets) :]
            except OSError as error:
                raise CrepitusError(
                    f"cannot go on writing: {_reason(error)}; the take so far is in "
                    f"{self.journal_path}"
                ) from None
        self.frames += len(whole)

    def samples(self) -> NDArray[np.float32]:
        """Return all of it, float32 (n,) in [-1, 1)."""
        parts = [part.astype(np.float32) / np.float32(FULL_SCALE_24_BIT) for part in self._parts()]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def save(self, metadata: Mapping[str, str], path: Path | None = None) -> None:
        """Write the file whole, then remove the journal.

        Parameters
        ----------
        metadata : mapping
            ``date``, ``software``, ``comment`` and the like, as text.
        path : Path, optional
            Where, for a take that was held in memory; nothing may be there.

        Raises
        ------
        CrepitusError
            When it cannot be written; the journal stays.
        """
        import soundfile

        target = path or self.path
        assert target is not None
        try:
            with whole_file(target, replace=self._replace) as handle:
                # By descriptor: any name will do, and a full disk is an error, not a traceback.
                with soundfile.SoundFile(
                    handle.fileno(),
                    "w",
                    self.sample_rate,
                    1,
                    "PCM_24",
                    format=FORMATS[target.suffix.lower()],
                    closefd=False,
                ) as file:
                    for key, value in metadata.items():
                        setattr(file, key, value)
                    for part in self._parts():
                        file.write(part << 8)
                handle.seek(0)
                with soundfile.SoundFile(handle.fileno(), closefd=False) as file:
                    if len(file) != self.frames:  # what the encoder kept back met a full disk
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (OSError, soundfile.LibsndfileError) as error:
            where = f"; the take is in {self.journal_path}" if self.path is not None else ""
            raise CrepitusError(f"cannot write {target}: {_reason(error)}{where}") from None
        if self.path is not None:
            self._saved = True
            self.discard()

    def discard(self) -> None:
        """Remove the journal: the take is saved, or nothing was recorded yet."""
        self.close()
        if self.path is not None:
            self.journal_path.unlink(missing_ok=True)

    def _parts(self) -> Iterator[NDArray[np.int32]]:
        """Yield it in pieces of bounded size."""
        if self.path is None:
            yield from self._memory
            return
        if self._saved:
            import soundfile

            yield from (
                block >> 8 for block in soundfile.blocks(self.path, _COPY_FRAMES, dtype="int32")
            )
            return
        with open(self.journal_path, "rb") as journal:
            journal.seek(_AU_HEADER_BYTES)
            left = self.frames
            while left:
                octets = np.frombuffer(journal.read(3 * min(left, _COPY_FRAMES)), np.uint8)
                padded = np.zeros((len(octets) // 3, 4), np.uint8)
                padded[:, :3] = octets.reshape(-1, 3)
                yield padded.view(">i4").ravel().astype(np.int32) >> 8
                left -= len(padded)


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a file name a take cannot be saved under, before anything is recorded.

    Raises
    ------
    InvalidInputError
        Another ending than .wav or .flac, no such folder, or something is there already and
        `overwrite` is False.
    """
    if path.suffix.lower() not in FORMATS:
        raise InvalidInputError(f"{path}: the name must end in .wav or .flac")
    if not path.parent.is_dir():
        raise InvalidInputError(f"{path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise InvalidInputError(f"{path} is a folder; give a file name in it")
    if os.path.lexists(path) and not overwrite:
        raise InvalidInputError(
            f"{path} already exists; give another name, or --overwrite to replace it"
        )
    journal = path.with_name(path.name + JOURNAL_SUFFIX)
    if os.path.lexists(journal):
        raise InvalidInputError(
            f"{journal} is what an interrupted recording left; rename or delete it first"
        )


def _au_header(sample_rate: int) -> bytes:
    return struct.pack(
        ">4sIIIII", b".snd", _AU_HEADER_BYTES, _AU_OPEN_LENGTH, _AU_24_BIT, sample_rate, 1
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "is the disk full?"  # libsndfile only ever says "System error."
