"""Parser for Fooocus, which writes its own JSON format or text in AUTOMATIC1111's format.

Source: lllyasviel/Fooocus, modules/meta_parser.py (`parameters` and `fooocus_scheme`; UserComment
and MakerNote in EXIF). Early versions of Fooocus, and RuinedFooocus, write `Comment`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import items_in, names_of, object_in, parse_facts, text
from stillroom.generation.tools.settings_text import NAMES, parse
from stillroom.wire.generation import Generation

_KEYS: Final = ("parameters", "exif:UserComment", "Comment", "jpeg:comment")
_MARKS: Final = ("base_model", "base_model_name", "full_prompt", "Base Model")
_RESOLUTION: Final = re.compile(r"\(?'?(\d{1,9})'?\s*[,x]\s*'?(\d{1,9})'?\)?")
_VERSION: Final = re.compile('Version: "?Fooocus')
_MAX_LORAS: Final = 32
_NAMES: Final = names_of(
    "width height",
    prompt=("prompt", "Prompt"),
    negative_prompt=("negative_prompt", "Negative Prompt", "Negative"),
    seed=("seed", "Seed"),
    steps=("steps", "Steps"),
    cfg_scale=("guidance_scale", "cfg", "Guidance Scale"),
    sampler=("sampler", "sampler_name", "Sampler"),
    scheduler=("scheduler", "Scheduler"),
    model=("base_model", "base_model_name", "Base Model"),
)
_TEXT_NAMES: Final = {
    **NAMES,
    "cfg_scale": "CFG scale",
    "scheduler": "Scheduler",
    "prompt": ("Raw prompt", "prompt"),  # the raw prompt is that of the user, before its expansion
    "negative_prompt": ("Raw negative prompt", "negative_prompt"),
}


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters if the texts are from Fooocus, else return None."""
    for key in _KEYS:
        content = texts.get(key, "")
        if content.lstrip().startswith("{"):
            if any(f'"{mark}"' in content for mark in _MARKS):
                scheme = object_in(content, budget) or {}
                if any(mark in scheme for mark in _MARKS):
                    return _facts_of(scheme, {key: scheme})
        elif key != "Comment" and _VERSION.search(content):
            return _facts_of_text(content, key, budget)
    return None


def _facts_of(scheme: dict[str, Any], raw: dict[str, object]) -> Generation:
    match = _RESOLUTION.fullmatch(str(scheme.get("resolution") or scheme.get("Resolution") or ""))
    values = {**scheme, "width": match[1], "height": match[2]} if match else scheme
    return parse_facts(values, _NAMES, raw, tool="Fooocus", loras=_loras(scheme))


def _facts_of_text(content: str, key: str, budget: WorkBudget) -> Generation:
    settings = parse(content, budget)
    listed = settings.get("Lora weights", "").split(",", _MAX_LORAS)[:_MAX_LORAS]
    pairs = (pair.rpartition(":") for pair in listed)
    loras = [(lora_name.strip(), weight) for lora_name, _, weight in pairs]
    return parse_facts(settings, _TEXT_NAMES, {key: text(content)}, tool="Fooocus", loras=loras)


def _loras(scheme: dict[str, Any]) -> list[tuple[object, object]]:
    listed = (items_in(scheme.get("loras"), list) or [])[:_MAX_LORAS]
    pairs: list[tuple[object, object]] = [(pair[0], pair[1]) for pair in listed if len(pair) > 1]
    if not pairs:
        for place in range(1, _MAX_LORAS + 1):
            combined = scheme.get(f"lora_combined_{place}") or scheme.get(f"LoRA {place}") or ""
            parts = str(combined).split(" : ")
            if parts[0] != "False" and len(parts) > 1:
                pairs.append((parts[-2], parts[-1]))
    return pairs
