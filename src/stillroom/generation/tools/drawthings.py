"""Parser for Draw Things, which writes XMP: JSON in exif:UserComment, or text in dc:description.

Sources: receyuki/stable-diffusion-prompt-reader, format/drawthings.py; packets written by the app,
quoted in drawthingsai/draw-things-community.
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import items_in, names_of, object_in, parse_facts, text
from stillroom.generation.tools.settings_text import NAMES, parse
from stillroom.wire.generation import Generation

_COMMENT: Final = "xmp:exif:UserComment"
_DESCRIPTION: Final = "xmp:dc:description"
_NAMES: Final = names_of(
    "seed steps sampler model size", prompt="c", negative_prompt="uc", cfg_scale="scale"
)
_TEXT_NAMES: Final = {**NAMES, "cfg_scale": "Guidance Scale"}


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters if the XMP packet is from Draw Things, else return None."""
    if not texts.get("xmp:xmp:CreatorTool", "").startswith("Draw Things"):
        return None
    comment = object_in(texts.get(_COMMENT), budget)
    if comment is not None:
        raw, loras = {"UserComment": comment}, _loras(comment)
        return parse_facts(comment, _NAMES, raw, tool="DrawThings", loras=loras)
    if _DESCRIPTION not in texts:
        return None
    description = texts[_DESCRIPTION]
    settings = parse(description, budget, negative="-")
    if description.count("\n-") > 1:  # ambiguous, since lines of a prompt may begin with a hyphen
        settings |= {"prompt": None, "negative_prompt": None}
    return parse_facts(settings, _TEXT_NAMES, {"description": text(description)}, tool="DrawThings")


def _loras(comment: dict[str, Any]) -> list[tuple[object, object]]:
    newer = comment.get("v2")
    listed = comment.get("lora") or (newer.get("loras") if isinstance(newer, dict) else None)
    items = items_in(listed, dict) or ()
    return [(item.get("model") or item.get("file"), item.get("weight")) for item in items]
