"""Detection of C2PA manifests by the first bytes of their box. Signatures are not verified.

Source: https://spec.c2pa.org/specifications/specifications/2.2/specs/C2PA_Specification.html
(annex A: embedding manifests into files), and ISO/IEC 19566-5 (JUMBF).
"""

from typing import Final

HEAD_BYTES: Final = 96
"""Number of leading bytes that are enough to recognize a manifest."""

BMFF_UUID: Final = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
"""UUID of the box that contains the manifest in AVIF, HEIC and MP4."""

_STORE: Final = bytes.fromhex("6332706100110010800000aa00389b71")
"""JUMBF type of a C2PA manifest store."""


def is_manifest(start: bytes) -> bool:
    """Return whether the first bytes of a box (`HEAD_BYTES`) show that it is a C2PA manifest."""
    at = start.find(b"jumb")
    return at >= 4 and is_described(start[at + 4 :])


def is_described(content: bytes) -> bool:
    """Return whether the content of a JUMBF superbox begins with C2PA's description box."""
    return content[4:8] == b"jumd" and content[8:24] == _STORE
