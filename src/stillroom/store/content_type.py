"""Detection of content types from the first bytes of a file. The client's type is ignored.

Signatures: https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern, and for the ISO media
family the `ftyp` brands of https://mp4ra.org/registered-types/brands.
"""

import re
from typing import Final

SNIFFED_BYTES: Final = 1024  # read from the beginning of a file
DEFAULT: Final = "application/octet-stream"

EXTENSION: Final = {
    "image/avif": "avif",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/jpeg": "jpg",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/tiff": "tif",
    "image/webp": "webp",
    "image/x-icon": "ico",
    "video/mp4": "mp4",
    "video/quicktime": "mov",
    "video/webm": "webm",
}
"""File name extension for each content type in `INLINE`."""

INLINE: Final = frozenset(EXTENSION)
"""Types that browsers may display: they contain no scripts. Others are sent as attachments."""

VIDEO: Final = frozenset(kind for kind in INLINE if kind.startswith("video/"))

_SIGNATURES: Final = (
    (rb"\x89PNG\r\n\x1a\n", "image/png"),
    (rb"\xff\xd8\xff", "image/jpeg"),
    (rb"GIF8[79]a", "image/gif"),
    (rb"II\*\x00|MM\x00\*", "image/tiff"),
    (rb"\x00\x00\x01\x00", "image/x-icon"),
    (rb"\xff\x0a|\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
    (rb"RIFF.{4}WEBP", "image/webp"),
    (rb"BM.{4}\x00{4}", "image/bmp"),  # texts may begin with "BM"
    # Old QuickTime files without `ftyp`; the length before the name excludes texts.
    (rb"\x00.{3}(?:moov|wide|mdat)", "video/quicktime"),
    # EBML whose DocType element is `webm`, not `matroska` (RFC 8794, 11.2.6).
    (rb"\x1a\x45\xdf\xa3.{,48}?\x42\x82.{1,8}?webm", "video/webm"),
)
_BY_PATTERN: Final = [(re.compile(text, re.DOTALL), kind) for text, kind in _SIGNATURES]
_BRANDS: Final = {
    "image/avif": (b"avif", b"avis"),
    "image/heic": (b"heic", b"heix", b"mif1", b"msf1"),
    "video/mp4": (
        *(b"M4V ", b"M4VH", b"M4VP", b"MSNV", b"XAVC", b"av01", b"avc1", b"cmf2", b"cmfc"),
        *(b"dash", b"f4v ", b"isom", b"mp41", b"mp42"),
        *(b"iso%d" % generation for generation in range(2, 10)),
    ),
    "video/quicktime": (b"qt  ",),
}
_BY_BRAND: Final = {brand: kind for kind, brands in _BRANDS.items() for brand in brands}
KNOWN: Final = tuple(sorted({*INLINE, *_BY_BRAND.values(), "image/svg+xml", "text/html", DEFAULT}))
"""All content types that can be detected."""

# Comments and declarations may precede the root element.
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<")
_ROOT = re.compile(
    rb"<(?:(?P<svg>(?:\w+:)?svg)|!doctype\s+html|html|head|body|script|iframe)[\s>/]", re.IGNORECASE
)


def by_content(start: bytes) -> str | None:
    """Return the type detected from a file's first `SNIFFED_BYTES`, or None."""
    for pattern, content_type in _BY_PATTERN:
        if pattern.match(start):
            return content_type
    if start[4:8] == b"ftyp":
        return _BY_BRAND.get(start[8:12])
    if _MARKUP.match(start) and (root := _ROOT.search(start)):
        return "image/svg+xml" if root["svg"] else "text/html"
    return None


def detect(start: bytes) -> str:
    """Return the type of a file with these first bytes, or `DEFAULT` if it is not recognized."""
    return by_content(start) or DEFAULT


def is_video(content_type: str) -> bool:
    """Return whether a content type, which may have parameters, is a video type."""
    return content_type.partition(";")[0].strip() in VIDEO


def is_image(start: bytes) -> bool:
    """Return whether a file with these first bytes is an image (including SVG)."""
    return detect(start).startswith("image/")
