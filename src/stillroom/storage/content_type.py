"""What kind of file this is: by its first bytes, then by its name.

The client's own word for it is never taken, since browsers act on it.
Signatures: https://mimesniff.spec.whatwg.org/#matching-an-image-type-pattern, and
for the ISO media family the `ftyp` brands of https://mp4ra.org/registered-types/brands.
"""

import re
from typing import Final

SNIFFED_BYTES: Final = 1024
"""How much of the beginning `by_content` looks at."""

DEFAULT: Final = "application/octet-stream"

RASTER: Final = frozenset(
    {
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/heic",
        "image/jpeg",
        "image/jxl",
        "image/png",
        "image/tiff",
        "image/webp",
        "image/x-icon",
    }
)
"""Pixels and nothing else: a browser can show these and run nothing."""

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
}
"""How the file of a raster image is called; one for each of `RASTER`."""

_BY_START: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"\xff\x0a", "image/jxl"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "image/jxl"),
)
_BY_BRAND: Final = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
    b"msf1": "image/heic",
}
_BY_SUFFIX: Final = {
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "heic": "image/heic",
    "htm": "text/html",
    "html": "text/html",
    "ico": "image/x-icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jxl": "image/jxl",
    "mp4": "video/mp4",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain",
    "webm": "video/webm",
    "webp": "image/webp",
    "xml": "application/xml",
}
# Comments and declarations may precede the root element, so look for it, not only at the start.
_MARKUP = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*<")
_ROOT = re.compile(
    rb"<(?:(?P<svg>(?:\w+:)?svg)|!doctype\s+html|html|head|body|script|iframe)[\s>/]",
    re.IGNORECASE,
)


def by_content(start: bytes) -> str | None:
    """The type that the first `SNIFFED_BYTES` of a file show, or None."""
    for signature, content_type in _BY_START:
        if start.startswith(signature):
            return content_type
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image/webp"
    if start[:2] == b"BM" and start[6:10] == bytes(4):  # two letters alone begin many a text
        return "image/bmp"
    if start[4:8] == b"ftyp":
        return _BY_BRAND.get(start[8:12])
    if _MARKUP.match(start) and (root := _ROOT.search(start)):
        return "image/svg+xml" if root["svg"] else "text/html"
    return None


def by_name(name: str) -> str:
    """The type that a name's suffix claims, or the one that claims nothing."""
    return _BY_SUFFIX.get(name.rpartition(".")[2].lower(), DEFAULT)


def of(start: bytes, name: str) -> str:
    """The type of a file: its content decides, its name only where the content is silent."""
    return by_content(start) or by_name(name)


def is_image(start: bytes) -> bool:
    """Whether the content itself, whatever its name, is an image; SVG is one."""
    found = by_content(start)
    return found is not None and found.startswith("image/")
