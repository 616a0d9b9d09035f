"""C2PA: whether a manifest is there, by the first bytes of its box. Nothing of it is verified.

Source: https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html
(annex A: embedding manifests into files), and ISO/IEC 19566-5 (JUMBF).
"""

from typing import Final

HEAD_BYTES: Final = 96
"""As many of the place where a manifest stands tell whether it is one."""

BMFF_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""Of the box of AVIF, HEIC and MP4 that has it."""

_STORE: Final = bytes.fromhex("6332706100110010800000aa00389b71")
"""The type of a box of boxes of C2PA."""


def is_manifest(start: bytes) -> bool:
    """Whether a JUMBF superbox of C2PA is in the first `HEAD_BYTES` of such a place."""
    at = start.find(b"jumb")
    return at >= 4 and is_described(start[at + 4 :])


def is_described(content: bytes) -> bool:
    """Whether the content of a superbox is that of C2PA, by the description that it begins with."""
    return content[4:8] == b"jumd" and content[8:24] == _STORE
