"""EXIF reader for the properties in which tools store texts, mainly UserComment.

An EXIF block is a TIFF structure. Source: Exif 3.0, section 4.6
(https://www.cipa.jp/std/documents/download_e.html?DC-008-Translation-2023-E).
"""

import itertools
from typing import Final

from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.tiff import byte_order, directory
from stillroom.generation.carriers.entries import Entries
from stillroom.generation.facts import decode_text

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
_BYTES: Final = (1, 2, 7)  # EXIF types whose values are single bytes: BYTE, ASCII and UNDEFINED
_MAX_ENTRIES: Final = 512
_CODE_BYTES: Final = 8  # number of bytes at the start of UserComment that state the encoding


def read(data: bytes, entries: Entries) -> None:
    """Add the texts of an EXIF block, with or without the label `Exif`, to `entries`."""
    block = FileParts.whole(data.removeprefix(b"Exif\0\0"), entries.budget)
    try:
        order = byte_order(block)
        start = block.numbers(order + "I", 4)[0]
        if exif_start := _read_directory(block, order, start, entries):
            _read_directory(block, order, exif_start, entries)
    except BrokenHeader:
        entries.broken = True


def read_box(content: bytes, entries: Entries) -> None:
    """Add the texts of an EXIF box to `entries`. The box begins with the EXIF block's offset."""
    read(content[4 + int.from_bytes(content[:4], "big") :], entries)


def _read_directory(block: FileParts, order: str, start: int, entries: Entries) -> int:
    """Add the texts of a TIFF directory to `entries`. Return the EXIF directory's offset, or 0."""
    exif_start = 0
    for entry in itertools.islice(directory(block, order, start), _MAX_ENTRIES):
        if entry.tag == _EXIF_IFD:
            (exif_start,) = block.numbers(order + "I", entry.at)
        name = _NAMES.get(entry.tag)
        if name is None or entry.kind not in _BYTES or name in entries.texts:
            continue
        value = block.bytes_at(entry.start(block, order), entry.count)
        entries.budget.produce(len(value))  # decoding raises an exception per invalid code unit
        is_comment = entry.tag == _USER_COMMENT
        text = _decode_comment(value) if is_comment else decode_text(value.rstrip(b"\0"))
        entries.add(name, text)
    return exif_start


def _decode_comment(value: bytes) -> str:
    code, text = value[:_CODE_BYTES], value[_CODE_BYTES:]
    if code == b"UNICODE\0":
        return _decode_utf16(text)
    if code == b"JIS\0\0\0\0\0":
        return text.decode("iso2022_jp", "replace").rstrip("\0")
    has_code = code in (b"ASCII\0\0\0", bytes(_CODE_BYTES))  # Pillow writes a str without any
    return decode_text((text if has_code else value).rstrip(b"\0"))


def _decode_utf16(text: bytes) -> str:
    """Decode UTF-16. Without a byte order mark, assume the order with more ASCII characters."""
    text = text[: len(text) // 2 * 2]
    if text[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return text.decode("utf-16", "replace").rstrip("\0")
    order = "utf-16-le" if text[1::2].count(0) > text[::2].count(0) else "utf-16-be"
    return text.decode(order, "replace").rstrip("\0")
