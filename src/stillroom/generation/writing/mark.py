"""Embedding of the AI mark (an IPTC property in XMP) in image files, without other changes."""

import struct
from typing import Final

from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation.ai_mark import mark_of
from stillroom.generation.carriers.xmp import SOURCE_TYPE, with_mark
from stillroom.generation.file_types import file_type_of
from stillroom.generation.reading import find_mark, gather_all
from stillroom.generation.writing import into_avif

_HEIF_BRANDS: Final = (b"avif", b"mif1", b"heic", b"heix")


def with_ai_mark(data: bytes) -> bytes:
    """Return an image file with an AI mark. A file with a mark or C2PA manifest is unchanged.

    Raises:
        InvalidParameter: the image's XMP names a source other than AI.
        UnsupportedMedia: the image is damaged, or its format cannot contain the mark.
    """
    try:
        gathered = gather_all(FileParts.whole(data))
    except TooMuchWork:
        raise UnsupportedMedia(
            "cannot add the AI mark: the metadata of the image takes too long to parse"
        ) from None
    if mark_of(gathered) not in (None, "none"):
        return data
    other = next((source for entries in gathered if (source := entries.texts.get(SOURCE_TYPE))), "")
    if other:
        message = (
            f"cannot add the AI mark: the XMP names another source, {other[:100]!r}: remove "
            "it, or save without the mark"
        )
        raise InvalidParameter(message, at=("ai_generated",))
    writer = file_type_of(data).writer
    if writer is None or (writer is into_avif.with_packet and data[8:12] not in _HEIF_BRANDS):
        raise UnsupportedMedia(
            "only PNG, JPEG, WebP and AVIF can be marked: use one of these, or no mark"
        )
    try:
        marked = writer(data, with_mark)
    except (BrokenHeader, IndexError, StopIteration, TooMuchWork, struct.error) as error:
        raise UnsupportedMedia("cannot add the AI mark: the image is damaged") from error
    if find_mark(FileParts.whole(marked)) not in ("iptc", "both"):
        raise UnsupportedMedia("cannot add the AI mark: the image or its XMP is damaged")
    return marked
