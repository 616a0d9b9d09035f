"""Draw Things: XMP with a JSON object in exif:UserComment, and a text in dc:description.

Sources: receyuki/stable-diffusion-prompt-reader, format/drawthings.py; packets as the app writes
them, quoted in drawthingsai/draw-things-community.
"""

from collections.abc import Mapping
from typing import Any, Final

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
from stillroom.work_budget import WorkBudget

_TOOL: Final = "Draw Things"
_COMMENT: Final = "xmp:exif:UserComment"
_DESCRIPTION: Final = "xmp:dc:description"
_MAX_LORAS: Final = 100


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if the packet names this app.

    Raises:
        Unreadable: it does, and what should be JSON is not.
    """
    if not texts.get("xmp:xmp:CreatorTool", "").startswith(_TOOL):
        return None
    given = object_in(texts.get(_COMMENT), budget)
    if given is not None:
        return _of(given)
    return _of_text(texts[_DESCRIPTION], budget) if _DESCRIPTION in texts else None


def _of(given: dict[str, Any]) -> Generation:
    width, height = size(given.get("size"))
    return Generation(
        tool="DrawThings",
        prompt=text(given.get("c")),
        negative_prompt=text(given.get("uc")),
        seed=whole(given.get("seed"), MAX_SEED),
        steps=whole(given.get("steps")),
        cfg_scale=number(given.get("scale")),
        sampler=name(given.get("sampler")),
        model=name(given.get("model")),
        loras=_loras(given),
        width=width,
        height=height,
        raw={"UserComment": given},
    )


def _of_text(said: str, budget: WorkBudget) -> Generation:
    """As the web UI's, but for a hyphen in front of the negative prompt."""
    parts = parse(said, budget, negative="-")
    settings = parts.settings
    width, height = size(settings.get("Size"))
    is_certain = said.count("\n-") <= 1  # a prompt may have lines that begin so
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
        raw={"description": text(said)},
    )


def _loras(given: dict[str, Any]) -> tuple[Lora, ...]:
    newer = given.get("v2")
    listed = given.get("lora") or (newer.get("loras") if isinstance(newer, dict) else None)
    if not isinstance(listed, list):
        return ()
    found = (
        lora(one.get("model") or one.get("file"), one.get("weight"))
        for one in listed[:_MAX_LORAS]
        if isinstance(one, dict)
    )
    return tuple(one for one in found if one is not None)
