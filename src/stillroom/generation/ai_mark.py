"""The mark that says "made by AI": whether a file has it, by what its carriers hold.

Two are known: a manifest of C2PA, and the property DigitalSourceType of IPTC in XMP.
"""

from collections.abc import Iterable
from typing import Final, Literal

from stillroom.generation.carriers.entries import Entries
from stillroom.generation.carriers.xmp import SOURCE_TYPE

AiMark = Literal["c2pa", "iptc", "both", "none"]
"""`c2pa`: a manifest, which is not verified; `iptc`: the property; `both`; `none` of them."""

TRAINED: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""What is written: https://cv.iptc.org/newscodes/digitalsourcetype/."""

TYPES: Final = frozenset(
    (
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/avif",
        "image/heic",
        "image/jxl",
        "video/mp4",
        "video/quicktime",
    )
)
"""Content types that have a place for a mark which is read."""

_MADE_BY_AI: Final = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")


def mark_of(found: Iterable[Entries]) -> AiMark | None:
    """The mark in what was found in one file; None where it cannot be told."""
    entries = list(found)
    has_c2pa = any(one.has_c2pa for one in entries)
    has_iptc = any(says_ai(one) for one in entries)
    if has_c2pa or has_iptc:
        return "both" if has_c2pa and has_iptc else "c2pa" if has_c2pa else "iptc"
    if not entries or any(one.hides_mark for one in entries):
        return None
    return "none"


def says_ai(found: Entries) -> bool:
    """Whether the property of IPTC names AI as the source, whatever stands in front of the term."""
    return found.texts.get(SOURCE_TYPE, "").strip().rpartition("/")[2] in _MADE_BY_AI
