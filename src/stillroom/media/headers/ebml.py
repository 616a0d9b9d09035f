"""Parser of EBML elements (RFC 8794), the container format of WebM."""

import struct
from collections.abc import Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.header_bytes import HeaderBytes

_MAX_ID_BYTES: Final = 4
_MAX_NUMBER_BYTES: Final = 8


def elements(header: HeaderBytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the id, content start and content end of each element.

    An element of unknown size, as live recorders write, extends to the end of its parent.
    """
    while start < end:
        name, start, length = element_at(header, start)
        until = end if length is None else start + length
        if until > end:
            raise BrokenHeader
        yield name, start, until
        start = until


def element_at(header: HeaderBytes, start: int) -> tuple[int, int, int | None]:
    """Return an element's id, content start and content length (None if unknown)."""
    name, at = _coded(header, start, _MAX_ID_BYTES)
    length, end = number(header, at)
    return name, end, length


def number(header: HeaderBytes, start: int) -> tuple[int | None, int]:
    """Parse a variable-length integer. Return its value (None if unknown) and its end position."""
    coded, end = _coded(header, start, _MAX_NUMBER_BYTES)
    marker = 1 << 7 * (end - start)
    return None if coded == 2 * marker - 1 else coded - marker, end


def unsigned(header: HeaderBytes, start: int, end: int) -> int:
    """Parse an unsigned integer of up to 8 bytes."""
    if end - start > _MAX_NUMBER_BYTES:
        raise BrokenHeader
    return int.from_bytes(header.bytes_at(start, end - start), "big")


def floating(header: HeaderBytes, start: int, end: int) -> float:
    """Parse a float of 0, 4 or 8 bytes. The result may be infinite or NaN."""
    form = {0: ">", 4: ">f", 8: ">d"}.get(end - start)
    if form is None:
        raise BrokenHeader
    return float((struct.unpack(form, header.bytes_at(start, end - start)) or (0.0,))[0])


def _coded(header: HeaderBytes, start: int, max_bytes: int) -> tuple[int, int]:
    """Parse an integer with its length marker bit. Return it and its end (RFC 8794, 4 and 5)."""
    (first,) = header.bytes_at(start, 1)
    length = 9 - first.bit_length()
    if length > max_bytes:
        raise BrokenHeader
    return int.from_bytes(header.bytes_at(start, length), "big"), start + length
