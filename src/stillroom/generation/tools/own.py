"""Parser for the JSON object that the SDK embeds: as a PNG text, or as an XMP property."""

from collections.abc import Mapping
from typing import Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import generation_of, required_object
from stillroom.wire.generation import Generation

KEY: Final = "stillroom:generation"


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if the SDK embedded them, else return None."""
    content = texts.get(KEY, texts.get(f"xmp:{KEY}"))
    return None if content is None else generation_of(required_object(content, budget))
