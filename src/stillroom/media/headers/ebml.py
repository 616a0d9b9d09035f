"""Elements of EBML (RFC 8794), which WebM is built of."""

import struct
from collections.abc import Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.media.headers.header_bytes import HeaderBytes

_MAX_ID_BYTES: Final = 4
_MAX_NUMBER_BYTES: Final = 8


def elements(header: HeaderBytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Id, start and end of the content of each element.

    One of unknown size, as recorders write them, goes to the end of what it lies in.
    """
    while start < end:
        name, start, length = element_at(header, start)
        until = end if length is None else start + length
        if until > end:
            raise BrokenHeader
        yield name, start, until
        start = until


def element_at(header: HeaderBytes, start: int) -> tuple[int, int, int | None]:
    """Id, start and length of the content of one element; None: of unknown length."""
    name, at = _coded(header, start, _MAX_ID_BYTES)
    length, end = number(header, at)
    return name, end, length


def number(header: HeaderBytes, start: int) -> tuple[int | None, int]:
    """A number of variable length, and where it ends; None: all ones, which says nothing."""
    coded, end = _coded(header, start, _MAX_NUMBER_BYTES)
    marker = 1 << 7 * (end - start)
    return None if coded == 2 * marker - 1 else coded - marker, end


def unsigned(header: HeaderBytes, start: int, end: int) -> int:
    """An unsigned integer of up to 8 bytes."""
    if end - start > _MAX_NUMBER_BYTES:
        raise BrokenHeader
    return int.from_bytes(header.bytes_at(start, end - start), "big")


def floating(header: HeaderBytes, start: int, end: int) -> float:
    """A number of 0, 4 or 8 bytes; it may be infinite, or NaN."""
    form = {0: ">", 4: ">f", 8: ">d"}.get(end - start)
    if form is None:
        raise BrokenHeader
    return float((struct.unpack(form, header.bytes_at(start, end - start)) or (0.0,))[0])


def _coded(header: HeaderBytes, start: int, max_bytes: int) -> tuple[int, int]:
    """With the bit that says how many bytes it has, as ids are written (RFC 8794, 4 and 5)."""
    (first,) = header.bytes_at(start, 1)
    length = 9 - first.bit_length()
    if length > max_bytes:
        raise BrokenHeader
    return int.from_bytes(header.bytes_at(start, length), "big"), start + length
