"""Parser for Fooocus: its own JSON format, or text in AUTOMATIC1111's format.

Sources: lllyasviel/Fooocus, modules/meta_parser.py (`parameters` and `fooocus_scheme`, EXIF's
UserComment and MakerNote); its early versions and RuinedFooocus write `Comment`.
"""

import re
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

_KEYS: Final = ("parameters", "exif:UserComment", "Comment", "jpeg:comment")
_MARKS: Final = ("base_model", "base_model_name", "full_prompt", "Base Model")
_RESOLUTION: Final = re.compile(r"\(?'?(\d{1,9})'?\s*[,x]\s*'?(\d{1,9})'?\)?")
_MAX_LORAS: Final = 32


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if these texts are from Fooocus, else return None."""
    for key in _KEYS:
        content = texts.get(key, "")
        if not content.lstrip().startswith("{"):
            if key != "Comment" and (
                "Version: Fooocus" in content or 'Version: "Fooocus' in content
            ):
                return _facts_of_text(content, key, budget)
            continue
        if any(f'"{mark}"' in content for mark in _MARKS):
            scheme = object_in(content, budget) or {}
            if any(mark in scheme for mark in _MARKS):
                return _facts_of(scheme, {key: scheme})
    return None


def _facts_of(scheme: dict[str, Any], raw: dict[str, object]) -> Generation:
    width, height = _size(scheme)
    return Generation(
        tool="Fooocus",
        prompt=text(_first(scheme, "prompt", "Prompt")),
        negative_prompt=text(_first(scheme, "negative_prompt", "Negative Prompt", "Negative")),
        seed=whole(_first(scheme, "seed", "Seed"), MAX_SEED),
        steps=whole(_first(scheme, "steps", "Steps")),
        cfg_scale=number(_first(scheme, "guidance_scale", "cfg", "Guidance Scale")),
        sampler=name(_first(scheme, "sampler", "sampler_name", "Sampler")),
        scheduler=name(_first(scheme, "scheduler", "Scheduler")),
        model=name(_first(scheme, "base_model", "base_model_name", "Base Model")),
        loras=_loras(scheme),
        width=width,
        height=height,
        raw=raw,
    )


def _facts_of_text(content: str, key: str, budget: WorkBudget) -> Generation:
    """Parse text in AUTOMATIC1111's format, which also has the prompt as the user typed it."""
    parts = parse(content, budget)
    settings = parts.settings
    width, height = size(settings.get("Size"))
    listed = settings.get("Lora weights", "").split(",", _MAX_LORAS)[:_MAX_LORAS]
    pairs = (pair.rpartition(":") for pair in listed)
    loras = (lora(lora_name.strip(), weight) for lora_name, _, weight in pairs)
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
        loras=tuple(lora_ for lora_ in loras if lora_ is not None),
        width=width,
        height=height,
        raw={key: text(content)},
    )


def _first(scheme: dict[str, Any], *names: str) -> object:
    return next((scheme[key] for key in names if scheme.get(key) is not None), None)


def _size(scheme: dict[str, Any]) -> tuple[int | None, int | None]:
    match = _RESOLUTION.fullmatch(str(_first(scheme, "resolution", "Resolution") or ""))
    if match is None:
        return whole(scheme.get("width")), whole(scheme.get("height"))
    return whole(match[1]), whole(match[2])


def _loras(scheme: dict[str, Any]) -> tuple[Lora, ...]:
    """Return LoRAs from `loras`, a list of names and weights, or from `lora_combined_1` etc."""
    loras: list[Lora | None] = []
    listed = scheme.get("loras")
    if isinstance(listed, list):
        loras += [
            lora(pair[0], pair[1])
            for pair in listed[:_MAX_LORAS]
            if isinstance(pair, list) and len(pair) > 1
        ]
    if not loras:
        for place in range(1, _MAX_LORAS + 1):
            parts = str(_first(scheme, f"lora_combined_{place}", f"LoRA {place}") or "").split(
                " : "
            )
            if parts[0] != "False" and len(parts) > 1:
                loras.append(lora(parts[-2], parts[-1]))
    return tuple(lora_ for lora_ in loras if lora_ is not None)
