"""Stillroom's own facts, which the SDK writes: one JSON object in the names of the API.

In a PNG it is the text `stillroom:generation`, elsewhere a property of XMP.
"""

from collections.abc import Mapping
from typing import Final

from stillroom.generation.facts import Generation, generation_of, object_in
from stillroom.generation.texts import Unreadable
from stillroom.work_budget import WorkBudget

KEY: Final = "stillroom:generation"
_IN_XMP: Final = f"xmp:{KEY}"


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if the SDK has written any; their tool is Stillroom, if they name no other.

    Raises:
        Unreadable: it is no JSON object.
    """
    said = texts.get(KEY, texts.get(_IN_XMP))
    if said is None:
        return None
    given = object_in(said, budget)
    if given is None:
        raise Unreadable
    return generation_of(given)
