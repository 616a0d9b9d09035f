"""Parser for SwarmUI, which writes a JSON object with the member `sui_image_params`.

The object is in the text `parameters` or in an EXIF comment. Old versions used the EXIF property
Model. Sources: mcmonkeyprojects/SwarmUI, docs/Image Metadata Format.md;
receyuki/stable-diffusion-prompt-reader, image_data_reader.py.
"""

import itertools
from collections.abc import Mapping
from typing import Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import MAX_ITEMS, items_in, names_of, object_in, parse_facts
from stillroom.wire.generation import Generation

_KEYS: Final = ("parameters", "exif:UserComment", "exif:Model")
_MARK: Final = "sui_image_params"
_NAMES: Final = names_of(
    "prompt seed steps model width height",
    negative_prompt="negativeprompt",
    cfg_scale="cfgscale",
    sampler=("sampler", "comfyuisampler", "comfyui_sampler", "autowebuisampler"),
    scheduler=("scheduler", "comfyuischeduler", "comfyui_scheduler"),
)


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters if a text has `sui_image_params`, else return None."""
    for key in _KEYS:
        if _MARK in texts.get(key, ""):
            parsed = object_in(texts[key], budget) or {}
            if isinstance(params := parsed.get(_MARK), dict):
                names, weights = (_items_of(params.get(name)) for name in ("loras", "loraweights"))
                loras = itertools.zip_longest(names, weights)
                return parse_facts(params, _NAMES, {key: parsed}, tool="SwarmUI", loras=loras)
    return None


def _items_of(value: object) -> list[object]:
    if isinstance(value, str):
        parts = value.split(",", MAX_ITEMS)[:MAX_ITEMS]
        return [part.strip() for part in parts if part.strip()]
    return items_in(value, object) or []
