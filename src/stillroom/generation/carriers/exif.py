"""EXIF: the comment of the user, in its three encodings, and the texts that tools misuse.

Source: https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E (Exif 3.0), 4.6;
in a PNG, WebP and ISO media file it is the same TIFF structure.
"""

import struct
from collections.abc import Generator, Iterator
from typing import Final

from stillroom.file_parts import BrokenHeader
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.texts import decoded
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
"""BYTE, ASCII and UNDEFINED: types of one byte each."""

_MAX_ENTRIES: Final = 512
_LOOKS_OF_AN_ENTRY: Final = 3
_CODE_BYTES: Final = 8


def read(data: bytes, found: Entries) -> None:
    """What is in an EXIF block, with or without its label; whatever is not EXIF is nothing."""
    data = data.removeprefix(b"Exif\0\0")
    try:
        for tag, start, length in _values(data, found.budget):
            if _NAMES[tag] in found.texts:
                continue
            found.budget.hand_out(length)
            found.budget.produce(length)  # each code unit that is none takes an exception
            value = data[start : start + length]
            said = comment(value) if tag == _USER_COMMENT else decoded(value.rstrip(b"\0"))
            found.add(_NAMES[tag], said)
    except (struct.error, BrokenHeader):
        found.broken = True


def comment(value: bytes) -> str:
    """The text of a UserComment, whose first eight bytes name its encoding."""
    code, text = value[:_CODE_BYTES], value[_CODE_BYTES:]
    if code == b"UNICODE\0":
        return _utf16(text)
    if code == b"JIS\0\0\0\0\0":
        return text.decode("iso2022_jp", "replace").rstrip("\0")
    if code in (b"ASCII\0\0\0", bytes(_CODE_BYTES)):
        return decoded(text.rstrip(b"\0"))
    return decoded(value.rstrip(b"\0"))  # Pillow writes a str without any code


def _utf16(text: bytes) -> str:
    """The standard leaves the order of bytes open: piexif writes big-endian, others as the file.

    So both are tried, and the one with more ASCII in it is right: a prompt, its commas and digits.
    """
    text = text[: len(text) // 2 * 2]
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16", "replace").rstrip("\0")
    order = "utf-16-le" if text[1::2].count(0) > text[::2].count(0) else "utf-16-be"
    return text.decode(order, "replace").rstrip("\0")


def _values(data: bytes, budget: WorkBudget) -> Iterator[tuple[int, int, int]]:
    """Tag, start and length of each text in the first directory, and in the one of EXIF."""
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
    """Returns where the directory of EXIF is; 0 where this one names none."""
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
