"""Stillroom's own facts, written by the SDK: one JSON object with the API's names.

PNG has them in the text `stillroom:generation`, other formats in an XMP property.
"""

from collections.abc import Mapping
from typing import Final

from stillroom.generation.facts import Generation, generation_of, object_in
from stillroom.generation.texts import Unreadable
from stillroom.work_budget import WorkBudget

KEY: Final = "stillroom:generation"
_IN_XMP: Final = f"xmp:{KEY}"


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the facts that the SDK has written."""
    content = texts.get(KEY, texts.get(_IN_XMP))
    if content is None:
        return None
    facts = object_in(content, budget)
    if facts is None:
        raise Unreadable
    return generation_of(facts)
