"""Fooocus: its own JSON scheme, and the text of the web UI that it can write instead.

Sources: lllyasviel/Fooocus, modules/meta_parser.py (`parameters` and `fooocus_scheme`, EXIF's
UserComment and MakerNote); its early versions and RuinedFooocus write `Comment`.
"""

import re
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

_KEYS: Final = ("parameters", "exif:UserComment", "Comment", "jpeg:comment")
_MARKS: Final = ("base_model", "base_model_name", "full_prompt", "Base Model")
_RESOLUTION: Final = re.compile(r"\(?'?(\d{1,9})'?\s*[,x]\s*'?(\d{1,9})'?\)?")
_MAX_LORAS: Final = 32


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if these texts are Fooocus's.

    Raises:
        Unreadable: the scheme says so, and the text is not of it.
    """
    for key in _KEYS:
        said = texts.get(key, "")
        if not said.lstrip().startswith("{"):
            if key != "Comment" and ("Version: Fooocus" in said or 'Version: "Fooocus' in said):
                return _of_text(said, key, budget)
            continue
        if any(f'"{mark}"' in said for mark in _MARKS):
            given = object_in(said, budget) or {}
            if any(mark in given for mark in _MARKS):
                return _of(given, {key: given})
    return None


def _of(given: dict[str, Any], raw: dict[str, object]) -> Generation:
    width, height = _size(given)
    return Generation(
        tool="Fooocus",
        prompt=text(_any(given, "prompt", "Prompt")),
        negative_prompt=text(_any(given, "negative_prompt", "Negative Prompt", "Negative")),
        seed=whole(_any(given, "seed", "Seed"), MAX_SEED),
        steps=whole(_any(given, "steps", "Steps")),
        cfg_scale=number(_any(given, "guidance_scale", "cfg", "Guidance Scale")),
        sampler=name(_any(given, "sampler", "sampler_name", "Sampler")),
        scheduler=name(_any(given, "scheduler", "Scheduler")),
        model=name(_any(given, "base_model", "base_model_name", "Base Model")),
        loras=_loras(given),
        width=width,
        height=height,
        raw=raw,
    )


def _of_text(said: str, key: str, budget: WorkBudget) -> Generation:
    """The web UI's text; it holds the prompt as written beside the one with styles in it."""
    parts = parse(said, budget)
    settings = parts.settings
    width, height = size(settings.get("Size"))
    listed = settings.get("Lora weights", "").split(",", _MAX_LORAS)[:_MAX_LORAS]
    pairs = (one.rpartition(":") for one in listed)
    loras = (lora(called.strip(), weight) for called, _, weight in pairs)
    return Generation(
        tool="Fooocus",
        prompt=text(settings.get("Raw prompt", parts.prompt)),
        negative_prompt=text(settings.get("Raw negative prompt", parts.negative_prompt)),
        seed=whole(settings.get("Seed"), MAX_SEED),
        steps=whole(settings.get("Steps")),
        cfg_scale=number(settings.get("CFG scale")),
        sampler=name(settings.get("Sampler")),
        scheduler=name(settings.get("Scheduler")),
        model=name(settings.get("Model")),
        loras=tuple(one for one in loras if one is not None),
        width=width,
        height=height,
        raw={key: text(said)},
    )


def _any(given: dict[str, Any], *names: str) -> object:
    return next((given[one] for one in names if given.get(one) is not None), None)


def _size(given: dict[str, Any]) -> tuple[int | None, int | None]:
    found = _RESOLUTION.fullmatch(str(_any(given, "resolution", "Resolution") or ""))
    if found is None:
        return whole(given.get("width")), whole(given.get("height"))
    return whole(found[1]), whole(found[2])


def _loras(given: dict[str, Any]) -> tuple[Lora, ...]:
    """`loras` is a list of name and weight; without it there are `lora_combined_1` and so on."""
    found: list[Lora | None] = []
    listed = given.get("loras")
    if isinstance(listed, list):
        found += [
            lora(one[0], one[1])
            for one in listed[:_MAX_LORAS]
            if isinstance(one, list) and len(one) > 1
        ]
    if not found:
        for place in range(1, _MAX_LORAS + 1):
            parts = str(_any(given, f"lora_combined_{place}", f"LoRA {place}") or "").split(" : ")
            if parts[0] != "False" and len(parts) > 1:
                found.append(lora(parts[-2], parts[-1]))
    return tuple(one for one in found if one is not None)
