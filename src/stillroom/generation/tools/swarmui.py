"""Parser for SwarmUI: a JSON object with the member `sui_image_params`.

The object is in the text `parameters` or in an EXIF comment.
Sources: mcmonkeyprojects/SwarmUI, docs/Image Metadata Format.md. Old SwarmUI versions used EXIF's
Model (receyuki/stable-diffusion-prompt-reader, image_data_reader.py).
"""

import itertools
from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import MAX_ITEMS, items_in, name, names_of, object_in, parse_facts
from stillroom.wire.generation import Generation

_KEYS: Final = ("parameters", "exif:UserComment", "exif:Model")
_MARK: Final = "sui_image_params"
_SAMPLERS: Final = ("sampler", "comfyuisampler", "comfyui_sampler", "autowebuisampler")
_SCHEDULERS: Final = ("scheduler", "comfyuischeduler", "comfyui_scheduler")
_NAMES: Final = names_of(
    "prompt seed steps model width height", negative_prompt="negativeprompt", cfg_scale="cfgscale"
)


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if a text has `sui_image_params`, else return None."""
    for key in _KEYS:
        if _MARK in texts.get(key, ""):
            whole_object = object_in(texts[key], budget)
            params = (whole_object or {}).get(_MARK)
            if isinstance(params, dict):
                return _facts_of(params, {key: whole_object})
    return None


def _facts_of(params: dict[str, Any], raw: dict[str, object]) -> Generation:
    loras, weights = _items_of(params.get("loras")), _items_of(params.get("loraweights"))
    return parse_facts(
        params,
        _NAMES,
        raw,
        tool="SwarmUI",
        sampler=_first(params, _SAMPLERS),
        scheduler=_first(params, _SCHEDULERS),
        loras=itertools.zip_longest(loras, weights),
    )


def _first(params: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((value for key in names if (value := name(params.get(key)))), None)


def _items_of(value: object) -> list[object]:
    if isinstance(value, str):
        parts = value.split(",", MAX_ITEMS)[:MAX_ITEMS]
        return [part.strip() for part in parts if part.strip()]
    return items_in(value, object) or []
