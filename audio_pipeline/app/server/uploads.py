"""A recording and its answers, read from a multipart body piece by piece, in memory only."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from audio_pipeline.app.server.guards import ServerSettings, megabytes, too_large
from audio_pipeline.app.server.schemas import ApiError, busy, refuse_body
from audio_pipeline.app.server.worker import release_free_memory

# It warns of every broken body, on the screen of whoever serves; the sender is told anyway.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

FIELDS = ("audio", "answers", "capture", "region", "language", "embed", "keep_take", "take")
"""Names of the parts: the recording; the answers as JSON; what the browser did to the sound as
JSON; the country whose emergency number is shown; "yes" to put the sound inside a report, or to
keep it in the history; what is known of a take of a study, as JSON."""

MAX_PARTS = 8
LONGEST_BOUNDARY = 70
"""RFC 2046, 5.1.1."""
PIECE_BYTES = 1_000_000
LONGEST_HEADERS = 4096
"""Bytes of all the headers of one part."""


@dataclass
class Upload:
    """What one multipart body held."""

    # bytes of the file in pieces of about `PIECE_BYTES`, None when there was no such part. (One
    # buffer that grows beside others that grow leaves twice its size in holes.)
    audio: list[bytearray] | None = None
    # the file's own name, without folders; ``"recording"`` when it had none
    name: str = "recording"
    fields: dict[str, str] = field(default_factory=dict)  # the text parts by name


class UploadParser:
    """Collects the parts of one body.

    Raises ApiError 415 when the body is not multipart, 422 when its boundary is longer than RFC
    2046 allows.
    """

    def __init__(self, content_type: str | None, settings: ServerSettings) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise refuse_body(
                415,
                "not_multipart",
                "Send multipart/form-data with the recording in a file field named audio.",
            )
        self.upload = Upload()
        self.complete = False
        self._settings = settings
        self._parts = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._part: list[bytearray] = []
        self._part_name = ""
        if len(boundary) > LONGEST_BOUNDARY:
            raise malformed()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": partial(self._collect_header, self._header_name),
                "on_header_value": partial(self._collect_header, self._header_value),
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._collect_data,
                "on_part_end": self._end_part,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Parse one piece of the body.

        Raises ApiError 422 for a broken or unexpected part, 413 for one that is too large.
        """
        try:
            self._parser.write(data)
        except FormParserError:
            raise malformed() from None

    def end(self) -> None:
        """Take no more; without this the parser and what it read would keep each other alive."""
        self._parser.callbacks = {}
        self._part = []

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise refuse_body(422, "too_many_parts", f"Send at most {MAX_PARTS} parts.")
        self._headers: dict[bytes, bytes] = {}
        self._header_bytes = 0
        self._part = []
        self._part_bytes = 0

    def _collect_header(self, into: bytearray, data: bytes, start: int, end: int) -> None:
        self._header_bytes += end - start
        if self._header_bytes > LONGEST_HEADERS:
            raise malformed()
        into += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header_name).lower()] = bytes(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in FIELDS:
            raise refuse_body(
                422, "unknown_field", f"Unknown field {name!r:.60}: send {', '.join(FIELDS)}."
            )
        if name in self.upload.fields or (name == "audio" and self.upload.audio is not None):
            raise refuse_body(422, "repeated_field", f"Send the field {name} once.")
        self._part_name = name
        if name == "audio":
            filename = options.get(b"filename", b"").decode("utf-8", "replace")
            self.upload.name = base_name(filename) or self.upload.name

    def _collect_data(self, data: bytes, start: int, end: int) -> None:
        is_audio = self._part_name == "audio"
        limit = self._settings.upload_bytes if is_audio else self._settings.body_bytes
        self._part_bytes += end - start
        if self._part_bytes > limit:
            if is_audio:
                raise too_large(limit)
            message = f"The field {self._part_name} is larger than {megabytes(limit)}."
            raise refuse_body(413, "too_large", message)
        if not self._part or len(self._part[-1]) >= PIECE_BYTES:
            self._part.append(bytearray())
        self._part[-1] += memoryview(data)[start:end]

    def _end_part(self) -> None:
        if self._part_name == "audio":
            self.upload.audio = self._part
            return
        try:
            self.upload.fields[self._part_name] = b"".join(self._part).decode("utf-8")
        except UnicodeDecodeError:
            message = f"The field {self._part_name} is not UTF-8 text."
            raise refuse_body(422, "not_text", message) from None

    def _end(self) -> None:
        self.complete = True


def base_name(filename: str) -> str:
    """Return the last part of a file name without control characters, at most 200 long."""
    last = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(character for character in last if character.isprintable())[:200]


def malformed() -> ApiError:
    """Return the refusal of a body that is not what its header says."""
    return refuse_body(
        422, "malformed_upload", "The upload is broken or was cut off. Send the recording again."
    )


async def read_upload(
    pieces: AsyncIterator[bytes],
    content_type: str | None,
    settings: ServerSettings,
    budget: MemoryBudget,
) -> tuple[Upload, int]:
    """Read one multipart body.

    ``pieces``: the body as it arrives.
    ``budget``: where the memory comes from; on an error everything is given back.
    The parts, and the bytes to give back to `budget` when done with them.
    Raises ApiError 413, 415, 422, or 503 when other recordings fill the memory.
    """
    parser = UploadParser(content_type, settings)
    reserved = 0
    try:
        async for piece in pieces:
            budget.take(len(piece))
            reserved += len(piece)
            parser.write(piece)
        if not parser.complete:
            raise malformed()
        if parser.upload.audio is None:
            raise ApiError(422, "missing_audio", "Send the recording in a file field named audio.")
    except BaseException:
        budget.give_back(reserved)
        raise
    finally:
        parser.end()
    return parser.upload, reserved


class MemoryBudget:
    """The memory that all recordings in flight may take together.

    ``total``: bytes.
    """

    def __init__(self, total: int) -> None:
        self._total = self._free = total

    def take(self, size: int) -> None:
        """Reserve `size` bytes or raise the 503 of a busy server."""
        if size > self._free:
            raise busy(10)
        self._free -= size

    def give_back(self, size: int) -> None:
        """Return bytes that were reserved."""
        self._free += size
        if size and self._free == self._total:
            release_free_memory()

    @property
    def free(self) -> int:
        """Bytes not reserved."""
        return self._free
