"""EXIF reader: UserComment in its three encodings, and other texts in which tools store metadata.

Source: https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E (Exif 3.0), 4.6;
PNG, WebP and ISO media files contain the same TIFF structure.
"""

import struct
from collections.abc import Generator, Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.texts import decode_text
from stillroom.work_budget import WorkBudget

_USER_COMMENT: Final = 0x9286
_EXIF_IFD: Final = 0x8769
_NAMES: Final = {
    0x010E: "exif:ImageDescription",
    0x010F: "exif:Make",
    0x0110: "exif:Model",
    0x0131: "exif:Software",
    0x927C: "exif:MakerNote",
    _USER_COMMENT: "exif:UserComment",
}
_BYTES: Final = (1, 2, 7)
"""EXIF type numbers for BYTE, ASCII and UNDEFINED, whose values have one byte each."""

_MAX_ENTRIES: Final = 512
_LOOKS_OF_AN_ENTRY: Final = 3
_CODE_BYTES: Final = 8


def read(data: bytes, entries: Entries) -> None:
    """Read an EXIF block with or without the leading `Exif` label; ignore malformed blocks."""
    data = data.removeprefix(b"Exif\0\0")
    try:
        for tag, start, length in _values(data, entries.budget):
            if _NAMES[tag] in entries.texts:
                continue
            entries.budget.hand_out(length)
            entries.budget.produce(length)  # decoding raises an exception per invalid code unit
            value = data[start : start + length]
            text = (
                decode_comment(value) if tag == _USER_COMMENT else decode_text(value.rstrip(b"\0"))
            )
            entries.add(_NAMES[tag], text)
    except (struct.error, BrokenHeader):
        entries.broken = True


def decode_comment(value: bytes) -> str:
    """Decode the EXIF property UserComment, whose first eight bytes name its encoding."""
    code, text = value[:_CODE_BYTES], value[_CODE_BYTES:]
    if code == b"UNICODE\0":
        return _decode_utf16(text)
    if code == b"JIS\0\0\0\0\0":
        return text.decode("iso2022_jp", "replace").rstrip("\0")
    if code in (b"ASCII\0\0\0", bytes(_CODE_BYTES)):
        return decode_text(text.rstrip(b"\0"))
    return decode_text(value.rstrip(b"\0"))  # Pillow writes a str without any code


def _decode_utf16(text: bytes) -> str:
    """Decode UTF-16 in the byte order that results in more ASCII characters.

    The standard does not define the order: piexif writes big-endian, others the file's order.
    """
    text = text[: len(text) // 2 * 2]
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16", "replace").rstrip("\0")
    order = "utf-16-le" if text[1::2].count(0) > text[::2].count(0) else "utf-16-be"
    return text.decode(order, "replace").rstrip("\0")


def _values(data: bytes, budget: WorkBudget) -> Iterator[tuple[int, int, int]]:
    """Yield tag, start and length of each text in the first directory and the EXIF directory."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        raise BrokenHeader
    (start,) = struct.unpack_from(order + "I", data, 4)
    below = yield from _directory(data, order, start, budget)
    if below:
        yield from _directory(data, order, below, budget)


def _directory(
    data: bytes, order: str, start: int, budget: WorkBudget
) -> Generator[tuple[int, int, int], None, int]:
    """Yield the texts of a directory. Return the EXIF directory's offset, or 0 if it has none."""
    below = 0
    (count,) = struct.unpack_from(order + "H", data, start)
    for index in range(min(count, _MAX_ENTRIES)):
        budget.look(_LOOKS_OF_AN_ENTRY)
        at = start + 2 + 12 * index
        tag, kind, length = struct.unpack_from(order + "HHI", data, at)
        if tag == _EXIF_IFD:
            (below,) = struct.unpack_from(order + "I", data, at + 8)
        if tag in _NAMES and kind in _BYTES:
            place = at + 8
            if length > 4:
                (place,) = struct.unpack_from(order + "I", data, place)
            if place + length > len(data):
                raise BrokenHeader
            yield tag, place, length
    return below
