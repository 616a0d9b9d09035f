"""Parser for Draw Things: XMP with a JSON object in exif:UserComment or text in dc:description.

Sources: receyuki/stable-diffusion-prompt-reader, format/drawthings.py; packets written by the app,
quoted in drawthingsai/draw-things-community.
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import (
    MAX_SEED,
    Generation,
    Lora,
    lora,
    name,
    number,
    object_in,
    size,
    text,
    whole,
)
from stillroom.generation.tools.settings_text import parse

_TOOL: Final = "Draw Things"
_COMMENT: Final = "xmp:exif:UserComment"
_DESCRIPTION: Final = "xmp:dc:description"
_MAX_LORAS: Final = 100


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if the XMP packet names Draw Things, else return None."""
    if not texts.get("xmp:xmp:CreatorTool", "").startswith(_TOOL):
        return None
    comment = object_in(texts.get(_COMMENT), budget)
    if comment is not None:
        return _facts_of(comment)
    return _facts_of_text(texts[_DESCRIPTION], budget) if _DESCRIPTION in texts else None


def _facts_of(comment: dict[str, Any]) -> Generation:
    width, height = size(comment.get("size"))
    return Generation(
        tool="DrawThings",
        prompt=text(comment.get("c")),
        negative_prompt=text(comment.get("uc")),
        seed=whole(comment.get("seed"), MAX_SEED),
        steps=whole(comment.get("steps")),
        cfg_scale=number(comment.get("scale")),
        sampler=name(comment.get("sampler")),
        model=name(comment.get("model")),
        loras=_loras(comment),
        width=width,
        height=height,
        raw={"UserComment": comment},
    )


def _facts_of_text(description: str, budget: WorkBudget) -> Generation:
    """Parse text in AUTOMATIC1111's format, but with a hyphen before the negative prompt."""
    parts = parse(description, budget, negative="-")
    settings = parts.settings
    width, height = size(settings.get("Size"))
    is_certain = description.count("\n-") <= 1  # lines of a prompt may begin with a hyphen
    return Generation(
        tool="DrawThings",
        prompt=text(parts.prompt) if is_certain else None,
        negative_prompt=text(parts.negative_prompt) if is_certain else None,
        seed=whole(settings.get("Seed"), MAX_SEED),
        steps=whole(settings.get("Steps")),
        cfg_scale=number(settings.get("Guidance Scale")),
        sampler=name(settings.get("Sampler")),
        model=name(settings.get("Model")),
        width=width,
        height=height,
        raw={"description": text(description)},
    )


def _loras(comment: dict[str, Any]) -> tuple[Lora, ...]:
    newer = comment.get("v2")
    listed = comment.get("lora") or (newer.get("loras") if isinstance(newer, dict) else None)
    if not isinstance(listed, list):
        return ()
    loras = (
        lora(item.get("model") or item.get("file"), item.get("weight"))
        for item in listed[:_MAX_LORAS]
        if isinstance(item, dict)
    )
    return tuple(lora_ for lora_ in loras if lora_ is not None)
