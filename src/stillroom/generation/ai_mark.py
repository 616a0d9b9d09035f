"""AI mark: metadata (C2PA, or IPTC's DigitalSourceType) which states that AI made an image."""

from collections.abc import Sequence
from typing import Final

from stillroom.generation.carriers.entries import Entries
from stillroom.generation.carriers.xmp import SOURCE_TYPE
from stillroom.wire.generation import AiMark

TYPES: Final = frozenset((
    "image/png", "image/jpeg", "image/webp", "image/avif", "image/heic", "image/jxl",
    "video/mp4", "video/quicktime",
))  # fmt: skip
"""Content types in which an AI mark can be read."""

_MADE_BY_AI: Final = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia")


def mark_of(carriers: Sequence[Entries]) -> AiMark | None:
    """Return the AI mark in a file's metadata, or None if it cannot be determined."""
    has_iptc = any(map(says_ai, carriers))
    if any(entries.has_c2pa for entries in carriers):
        return "both" if has_iptc else "c2pa"
    if has_iptc:
        return "iptc"
    is_known = carriers and not any(entries.hides_mark for entries in carriers)
    return "none" if is_known else None


def says_ai(entries: Entries) -> bool:
    """Return whether the IPTC property DigitalSourceType states that AI made the image."""
    return entries.texts.get(SOURCE_TYPE, "").strip().rpartition("/")[2] in _MADE_BY_AI
