"""Streaming reader for the part named `file` of a multipart/form-data body (RFC 7578)."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from stillroom.errors import DigestMismatch, InvalidUpload, MalformedBody, UnsupportedMedia
from stillroom.store.http.fields import Fields, announced_sha256

MAX_PARTS: Final = 17  # the part `file` and 16 others, which are skipped
MAX_SKIPPED_BYTES: Final = 64 * 1024  # in all skipped parts
FRAMING_BYTES: Final = 256 * 1024  # skipped parts, part headers and boundaries

PARSED_AT_ONCE_BYTES: Final = 2048
"""Bytes of part headers that are parsed before other tasks can run (up to 5 ms). The parser's time
for folded header lines is quadratic: 65,000 lines would take 1.3 s."""

_MAX_BOUNDARY: Final = 70  # RFC 2046, 5.1.1
_EXTENDED_NAME: Final = re.compile(r";\s*filename\*=", re.IGNORECASE)


def boundary_of(fields: Fields) -> bytes:
    """Return the multipart boundary in the `Content-Type` header, or raise an error."""
    media_type, options = parse_options_header(fields.get("content-type", ""))
    if media_type != "multipart/form-data":
        raise UnsupportedMedia(
            "send the image as multipart/form-data in a part named `file`, "
            "for example with curl -F file=@cat.png"
        )
    boundary = options.get("boundary", "")
    if not boundary.isascii() or not 1 <= len(boundary) <= _MAX_BOUNDARY or "\n" in boundary:
        raise MalformedBody("the Content-Type must have a boundary with 1 to 70 ASCII characters")
    return str(boundary).encode("ascii")


class FilePart:
    """Asynchronous iterator over the bytes of the part named `file` in a multipart body.

    `max_bytes` is the Content-Length of the request, which is an upper limit for the part.
    """

    def __init__(
        self,
        body: AsyncIterator[bytes],
        boundary: bytes,
        *,
        max_bytes: int | None = None,
        expected_sha256: bytes | None = None,
    ) -> None:
        self.max_bytes = max_bytes
        self.expected_sha256 = expected_sha256
        self._body = body
        self._parser = PushMultipartParser(
            boundary,
            max_segment_count=MAX_PARTS,
            max_header_size=8192,
            max_header_count=16,
            header_charset="latin-1",  # accepts file names in any encoding; they are not used
        )
        self._in_file = False
        self._seen_file = False
        self._skipped = 0
        self._framing_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        # May raise `MalformedBody`, `InvalidUpload` or `DigestMismatch`.
        async for piece in self._body:
            at = 0
            while at < len(piece):
                end = len(piece) if self._in_file else at + PARSED_AT_ONCE_BYTES
                part = piece[at:end]
                for chunk in self._parse(part):
                    yield chunk
                at += len(part)
                if at < len(piece) and not self._in_file:
                    await asyncio.sleep(0)
        try:
            self._parser.close()
        except MultipartError as error:
            raise MalformedBody("the body ended before its closing boundary") from error
        if not self._seen_file:
            raise InvalidUpload("the form has no part named `file`")

    def _parse(self, piece: bytes) -> list[bytes]:
        chunks: list[bytes] = []
        self._framing_bytes += len(piece)
        try:
            for event in self._parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._in_file = False
                elif self._in_file:
                    self._framing_bytes -= len(event)
                    chunks.append(event)
                else:
                    self._skipped += len(event)
        except MultipartError as error:
            raise MalformedBody(f"the multipart body is broken: {error}") from error
        if self._skipped > MAX_SKIPPED_BYTES or self._framing_bytes > FRAMING_BYTES:
            raise MalformedBody(
                f"the form has more than {MAX_SKIPPED_BYTES} bytes in parts other than `file`: "
                "send only `file`"
            )
        return chunks

    def _begin(self, part: MultipartSegment) -> None:
        self._in_file = part.name == "file"
        if not self._in_file:
            return
        if self._seen_file:
            raise InvalidUpload("the form has two parts named `file`")
        # RFC 7578, 4.2 forbids `filename*`, but older libraries send it for non-ASCII names.
        disposition = part.header("Content-Disposition") or ""
        if part.filename is None and not _EXTENDED_NAME.search(disposition):
            raise InvalidUpload(
                "the part named `file` has no file name, so it is text instead of a file: send "
                "a file, for example with curl -F file=@cat.png"
            )
        self._seen_file = True
        announced = announced_sha256(part.header("Repr-Digest")) or self.expected_sha256
        if self.expected_sha256 not in (None, announced):
            raise DigestMismatch(
                "the request and its part `file` have different Repr-Digest headers: send only one"
            )
        self.expected_sha256 = announced
