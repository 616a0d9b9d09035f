"""Validation of tags, and of their number per resource."""

import unicodedata
from collections.abc import Iterable
from typing import Final

from stillroom.errors import InvalidParameter
from stillroom.paths import unsafe_character

MAX_TAGS: Final = 50
MAX_TAG_BYTES: Final = 64
UNWANTED: Final = "-"  # prefix that excludes a tag in a filter; no tag begins with it


def checked_tags(texts: Iterable[str], at: tuple[str, ...]) -> frozenset[str]:
    """Validate tags and return them. `at` is the place in the request, for `InvalidParameter`."""
    return frozenset(_checked(text, at) for text in texts)


def checked_number(tags: frozenset[str]) -> frozenset[str]:
    """Return the tags, or raise `InvalidParameter` if there are more than `MAX_TAGS`."""
    if len(tags) > MAX_TAGS:
        raise InvalidParameter(
            f"the resource would have {len(tags)} tags: at most {MAX_TAGS} are allowed",
            at=("body", "tags"),
        )
    return tags


def _checked(text: str, at: tuple[str, ...]) -> str:
    if unsafe := unsafe_character(text):
        raise InvalidParameter(f"the character U+{ord(unsafe):04X} is not allowed in a tag", at=at)
    if not 1 <= len(text.encode()) <= MAX_TAG_BYTES:
        raise InvalidParameter(f"a tag must have 1 to {MAX_TAG_BYTES} bytes of UTF-8", at=at)
    if text.startswith(UNWANTED) or text != text.strip():
        raise InvalidParameter(
            f"a tag must not begin with `{UNWANTED}` or a space, or end with a space", at=at
        )
    if not unicodedata.is_normalized("NFC", text):
        raise InvalidParameter("a tag must be in Unicode normalization form C (NFC)", at=at)
    return text
