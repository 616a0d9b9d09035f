"""Writing of the AI mark, which states that AI made the image, into an encoded image.

The mark is an IPTC property in the XMP packet. All other content of the image is unchanged.
"""

import struct
from typing import Final

from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.formats.file_parts import BrokenHeader, FileParts
from stillroom.formats.work_budget import TooMuchWork
from stillroom.generation.carriers.xmp import SOURCE_TYPE
from stillroom.generation.reading import find_mark, texts_in
from stillroom.generation.writing import into_avif
from stillroom.generation.writing.packet import with_mark
from stillroom.generation.writing.writers import writer_of

_HEIF_BRANDS: Final = (b"avif", b"mif1", b"heic", b"heix")
_SUPPORTED: Final = "PNG, JPEG, WebP and AVIF can be marked: save it as one of these, or unmarked"


def with_ai_mark(data: bytes) -> bytes:
    """Mark an image as made by AI. Return it unchanged if it has a mark or a C2PA manifest.

    Raises:
        InvalidParameter: the image's XMP names another source than AI.
        UnsupportedMedia: the image is damaged, or its format cannot contain the mark.
    """
    try:
        if find_mark(FileParts.whole(data)) not in (None, "none"):
            return data
        other = texts_in(data).get(SOURCE_TYPE)
    except TooMuchWork:
        raise UnsupportedMedia(
            "its metadata take too much work to read: no mark is put in"
        ) from None
    if other:
        message = (
            f"its XMP says another source, {other[:100]!r}: take that out, or save it unmarked"
        )
        raise InvalidParameter(message, at=("ai_generated",))
    writer = writer_of(data)
    if writer is None or (writer is into_avif.with_packet and data[8:12] not in _HEIF_BRANDS):
        raise UnsupportedMedia(_SUPPORTED)
    try:
        marked = writer(data, with_mark)
    except (BrokenHeader, IndexError, StopIteration, TooMuchWork, struct.error) as error:
        raise UnsupportedMedia("the image is damaged: it cannot be marked") from error
    if find_mark(FileParts.whole(marked)) not in ("iptc", "both"):
        raise UnsupportedMedia("the image is damaged, or its XMP is: no reader would find the mark")
    return marked
