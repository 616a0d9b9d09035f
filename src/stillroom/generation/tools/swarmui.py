"""SwarmUI: a JSON object with `sui_image_params`, in `parameters` or the comment of EXIF.

Sources: mcmonkeyprojects/SwarmUI, docs/Image Metadata Format.md; its first versions used EXIF's
Model (receyuki/stable-diffusion-prompt-reader, image_data_reader.py).
"""

import itertools
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
    text,
    whole,
)
from stillroom.work_budget import WorkBudget

_KEYS: Final = ("parameters", "exif:UserComment", "exif:Model")
_MARK: Final = "sui_image_params"
_SAMPLERS: Final = ("sampler", "comfyuisampler", "comfyui_sampler", "autowebuisampler")
_SCHEDULERS: Final = ("scheduler", "comfyuischeduler", "comfyui_scheduler")
_MAX_LORAS: Final = 100


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if one of these texts has the mark.

    Raises:
        Unreadable: it has, and is no JSON object.
    """
    for key in _KEYS:
        if _MARK in texts.get(key, ""):
            whole_object = object_in(texts[key], budget)
            given = (whole_object or {}).get(_MARK)
            if isinstance(given, dict):
                return _of(given, {key: whole_object})
    return None


def _of(given: dict[str, Any], raw: dict[str, object]) -> Generation:
    return Generation(
        tool="SwarmUI",
        prompt=text(given.get("prompt")),
        negative_prompt=text(given.get("negativeprompt")),
        seed=whole(given.get("seed"), MAX_SEED),
        steps=whole(given.get("steps")),
        cfg_scale=number(given.get("cfgscale")),
        sampler=_first(given, _SAMPLERS),
        scheduler=_first(given, _SCHEDULERS),
        model=name(given.get("model")),
        loras=_loras(given),
        width=whole(given.get("width")),
        height=whole(given.get("height")),
        raw=raw,
    )


def _first(given: dict[str, Any], names: tuple[str, ...]) -> str | None:
    return next((found for one in names if (found := name(given.get(one)))), None)


def _loras(given: dict[str, Any]) -> tuple[Lora, ...]:
    named = itertools.zip_longest(_listed(given.get("loras")), _listed(given.get("loraweights")))
    found = (lora(called, weight) for called, weight in named)
    return tuple(one for one in found if one is not None)


def _listed(value: object) -> list[object]:
    """A list, or a text with commas, which the format allows as well."""
    if isinstance(value, str):
        parts = value.split(",", _MAX_LORAS)[:_MAX_LORAS]
        return [part.strip() for part in parts if part.strip()]
    return value[:_MAX_LORAS] if isinstance(value, list) else []
