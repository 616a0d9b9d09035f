"""The `file` part of a multipart/form-data body, as it comes in.

The parser is `multipart` (RFC 7578), fed with what the network delivers and
asked for what it has found; nothing is kept. A body counts only if its closing
boundary came: a truncated one is an error, never a shorter image.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from stillroom.errors import DigestMismatch, InvalidUpload, MalformedBody, UnsupportedMedia
from stillroom.http.fields import Fields, announced_sha256

MAX_PARTS: Final = 17
"""The `file` and 16 more, which are skipped."""

MAX_SKIPPED_BYTES: Final = 64 * 1024
"""In all parts but the `file` together."""

FRAMING_BYTES: Final = 256 * 1024
"""No body is larger than its image by more: skipped parts, part headers, boundaries."""

PARSED_AT_ONCE_BYTES: Final = 2048
"""Bytes beside the image that are parsed before others have their turn; about 5 ms at most. The
parser joins and decodes a whole field anew for each folded line: 65,000 lines took it 1.3 s."""

_MAX_BOUNDARY: Final = 70  # RFC 2046, 5.1.1
_EXTENDED_NAME: Final = re.compile(r";\s*filename\*=", re.IGNORECASE)


def boundary_of(fields: Fields) -> bytes:
    """The boundary that the request's `Content-Type` declares.

    Raises:
        UnsupportedMedia: it is not multipart/form-data.
        MalformedBody: it has no usable boundary.
    """
    media_type, options = parse_options_header(fields.get("content-type", ""))
    if media_type != "multipart/form-data":
        raise UnsupportedMedia(
            "send the image as multipart/form-data in a part named `file`, "
            "for example with curl -F file=@cat.png"
        )
    boundary = options.get("boundary", "")
    if not boundary.isascii() or not 1 <= len(boundary) <= _MAX_BOUNDARY or "\n" in boundary:
        raise MalformedBody("the Content-Type has no boundary of 1 to 70 ASCII characters")
    return str(boundary).encode("ascii")


class FilePart:
    """The bytes of the part named `file`; an `ImageSource`."""

    def __init__(
        self,
        body: AsyncIterator[bytes],
        boundary: bytes,
        *,
        max_bytes: int | None = None,
        expected_sha256: bytes | None = None,
    ) -> None:
        """Read the part from a body.

        Args:
            body: The request's body, in pieces of any size.
            boundary: As its Content-Type has it.
            max_bytes: The request's Content-Length, where it has one.
            expected_sha256: What the request itself announces.
        """
        self.max_bytes = max_bytes
        self.expected_sha256 = expected_sha256
        self._body = body
        self._parser = PushMultipartParser(
            boundary,
            max_segment_count=MAX_PARTS,
            max_header_size=8192,
            max_header_count=16,
            header_charset="latin-1",  # file names come in any encoding, and are not used
        )
        self._in_file = False
        self._seen_file = False
        self._skipped = 0
        self._beside_file = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The chunks of the image.

        Raises:
            MalformedBody: broken, incomplete, or with too much beside the image.
            InvalidUpload: no `file` part, two, or one without a file name.
            DigestMismatch: the part's Repr-Digest is unreadable or contradicts the request's.
        """
        async for piece in self._body:
            at = 0
            while at < len(piece):
                if self._in_file:
                    part = piece[at:] if at else piece
                else:
                    part = piece[at : at + PARSED_AT_ONCE_BYTES]
                for chunk in self._parse(part):
                    yield chunk
                at += len(part)
                if at < len(piece) and not self._in_file:
                    await asyncio.sleep(0)  # others have their turn
        try:
            self._parser.close()
        except MultipartError as error:
            raise MalformedBody("the body ended before its closing boundary") from error
        if not self._seen_file:
            raise InvalidUpload("the form has no part named `file`")

    def _parse(self, piece: bytes) -> list[bytes]:
        chunks: list[bytes] = []
        self._beside_file += len(piece)
        try:
            for event in self._parser.parse(piece):
                if isinstance(event, MultipartSegment):
                    self._begin(event)
                elif event is None:
                    self._in_file = False
                elif self._in_file:
                    self._beside_file -= len(event)
                    chunks.append(event)
                else:
                    self._skipped += len(event)
        except MultipartError as error:
            raise MalformedBody(f"the multipart body is broken: {error}") from error
        if self._skipped > MAX_SKIPPED_BYTES or self._beside_file > FRAMING_BYTES:
            raise MalformedBody(
                f"more than {MAX_SKIPPED_BYTES} bytes in parts beside the one named `file`"
            )
        return chunks

    def _begin(self, part: MultipartSegment) -> None:
        self._in_file = part.name == "file"
        if not self._in_file:
            return
        if self._seen_file:
            raise InvalidUpload("the form has two parts named `file`")
        if not _is_file(part):
            raise InvalidUpload(
                "the part named `file` has no file name, so it is text and no file: "
                "send a file, for example with curl -F file=@cat.png"
            )
        self._seen_file = True
        announced = announced_sha256(part.header("Repr-Digest"))
        if announced is None:
            return
        if self.expected_sha256 not in (None, announced):
            raise DigestMismatch("the request and its part announce different hashes")
        self.expected_sha256 = announced


def _is_file(part: MultipartSegment) -> bool:
    """Whether it has a file name, be it an empty one; what it says is not looked at."""
    if part.filename is not None:
        return True
    # Forbidden by RFC 7578, 4.2, and yet sent by older libraries for what is not ASCII.
    return _EXTENDED_NAME.search(part.header("Content-Disposition") or "") is not None
