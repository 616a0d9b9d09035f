"""Readers of EXIF, XMP and C2PA manifests in AVIF, HEIC, MP4 and JPEG XL, which consist of boxes.

EXIF and XMP are items in the `meta` box. A `uuid` box contains a C2PA manifest or XMP. JPEG XL has
a box for each kind of metadata, or no metadata if the file is not in the container format.
Sources: ISO/IEC 14496-12 (8.11: meta, iinf, iloc, idat); ISO/IEC 23008-12 and 18181-2, annex A; for
`uuid` https://developer.adobe.com/xmp/docs/XMPSpecifications/ (part 3, 1.2.1) and annex A of C2PA.
"""

import itertools
from typing import Final

from stillroom.formats.file_parts import FileParts, at_most
from stillroom.formats.isobmff import MAX_ITEMS, boxes, inner_boxes, locations
from stillroom.generation.carriers import exif, xmp
from stillroom.generation.carriers.entries import C2PA_BYTES, Entries, is_c2pa

EXIF: Final = b"Exif"
XMP_TYPE: Final = b"application/rdf+xml"
_C2PA_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_XMP_UUID: Final = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
JXL_SIGNATURE: Final = b"\0\0\0\x0cJXL \r\n\x87\n"
_UUID_BYTES: Final = 16
_HASHES: Final = b"merkle\0"  # purpose of C2PA boxes with hashes of video fragments, no manifest
_MAX_BOXES: Final = 256
_MAX_JXL_BOXES: Final = 1024
_IN_FILE, _IN_IDAT = 0, 1


def is_heif(start: bytes) -> bool:
    """Return whether a file that begins with `start` may be HEIF or MP4."""
    return start[4:8] == b"ftyp"


def read(parts: FileParts, entries: Entries) -> None:
    """Add the EXIF and XMP items and the `uuid` boxes of a file to `entries`."""
    for kind, at, until in at_most(_MAX_BOXES, boxes(parts, 0, parts.size)):
        if kind == b"meta":
            _read_items(parts, at + 4, until, entries)
        elif kind == b"uuid":
            _read_uuid_box(parts, at, until, entries)
        elif kind == b"moof":
            return  # the first of many video fragments, which follow the metadata


def read_jxl(parts: FileParts, entries: Entries) -> None:
    """Add the metadata of a JPEG XL file to `entries`."""
    for kind, start, end in at_most(_MAX_JXL_BOXES, boxes(parts, 0, parts.size)):
        if kind == b"jumb":
            head = parts.bytes_at(start, min(end - start, C2PA_BYTES))
            entries.has_c2pa = entries.has_c2pa or is_c2pa(head)
        elif kind == b"brob":
            entries.hides_mark = True  # Python cannot decompress Brotli
        elif kind == b"Exif":
            exif.read_box(entries.read(parts, (start, end - start), with_mark=False), entries)
        elif kind == b"xml ":
            xmp.read(entries.read(parts, (start, end - start)), entries)


def _read_uuid_box(parts: FileParts, start: int, end: int, entries: Entries) -> None:
    head = parts.bytes_at(start, min(end - start, _UUID_BYTES + C2PA_BYTES))
    kind, content = head[:_UUID_BYTES], head[_UUID_BYTES:]
    if kind == _C2PA_UUID:
        if not content.startswith(_HASHES, 4):
            entries.add_manifest(content)
    elif kind == _XMP_UUID:
        at = start + _UUID_BYTES
        xmp.read(entries.read(parts, (at, end - at)), entries)


def _read_items(parts: FileParts, start: int, end: int, entries: Entries) -> None:
    inner = inner_boxes(parts, start, end)
    if b"iinf" not in inner or b"iloc" not in inner:
        return
    items = item_types(parts, *inner[b"iinf"])
    bases = {_IN_FILE: 0, _IN_IDAT: inner.get(b"idat", (0, 0))[0]}
    for location in locations(parts, *inner[b"iloc"]):
        method = location.method & 15
        kind = items.get(location.number)
        if kind is None or method not in bases:
            continue
        base, is_exif = location.base + bases[method], kind == EXIF
        extents = [(base + offset, length) for _, offset, length in location.extents]
        content = entries.read(parts, *extents, with_mark=not is_exif)
        (exif.read_box if is_exif else xmp.read)(content, entries)


def item_types(parts: FileParts, start: int, end: int) -> dict[int, bytes | None]:
    """Return the type of each item in an `iinf` box by number: `EXIF`, `XMP_TYPE` or None."""
    types = dict[int, bytes | None]()
    start += 6 if parts.bytes_at(start, 1) == b"\0" else 8
    for box, at, until in itertools.islice(boxes(parts, start, end), MAX_ITEMS):
        if box != b"infe":
            continue
        version = parts.numbers("B", at)[0]
        number = parts.numbers(">H" if version <= 2 else ">I", at + 4)[0]
        place = at + (8 if version <= 2 else 10)
        kind = parts.bytes_at(place, 4) if version >= 2 else b""
        if kind == b"mime":
            _name, *kinds = parts.bytes_at(place + 4, until - place - 4).split(b"\0", 2)
            kind = XMP_TYPE if kinds[:1] == [XMP_TYPE] else b""
        if types.get(number) is None:  # a repeated number must not hide metadata
            types[number] = kind if kind in (EXIF, XMP_TYPE) else None
    return types
