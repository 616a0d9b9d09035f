"""Detection of C2PA manifests (signed statements about the origin of an image).

A manifest is recognized by the first bytes of its box. The signature is not verified.
Source: https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html
(annex A: embedding manifests into files), and ISO/IEC 19566-5 (JUMBF).
"""

from typing import Final

HEAD_BYTES: Final = 96
"""Number of bytes, from the start of a box, that are enough to recognize a C2PA manifest."""

BMFF_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""UUID of the box that contains the C2PA manifest in AVIF, HEIC and MP4."""

_STORE: Final = bytes.fromhex("6332706100110010800000aa00389b71")
"""JUMBF type of a C2PA manifest store."""


def is_manifest(start: bytes) -> bool:
    """Return whether a box is a C2PA manifest. `start` is the box's first `HEAD_BYTES` bytes."""
    at = start.find(b"jumb")
    return at >= 4 and is_described(start[at + 4 :])


def is_described(content: bytes) -> bool:
    """Return whether the content of a JUMBF superbox begins with the description box of C2PA."""
    return content[4:8] == b"jumd" and content[8:24] == _STORE
