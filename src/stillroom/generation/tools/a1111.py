"""Parser for AUTOMATIC1111's web UI, Forge and SD.Next, which write their settings as text.

The text is in the PNG keyword `parameters`, in EXIF or in a JPEG comment. Sources:
AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py and modules/images.py (EXIF).
lllyasviel/stable-diffusion-webui-forge, vladmandic/sdnext and ComfyUI nodes that save images for
Civitai write the same format with their own `Version` or `App`.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import name, parse_facts, text
from stillroom.generation.tools.settings_text import NAMES, loras_in, parse
from stillroom.wire.generation import Generation

KEY: Final = "parameters"
_ELSEWHERE: Final = ("exif:UserComment", "exif:ImageDescription", "jpeg:comment")
_NAMES: Final = {**NAMES, "cfg_scale": "CFG scale"}


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if a text has AUTOMATIC1111's format, else return None."""
    for key in (KEY, *_ELSEWHERE):
        content = texts.get(key, "")
        if content and not content.lstrip().startswith("{"):
            facts = _facts_of(content, key, budget)
            # Cameras write comments, too, so a comment without settings is ignored.
            if facts.steps is not None or facts.seed is not None or key == KEY:
                graph = texts.get("prompt", "")
                if facts.tool == "A1111" and graph.startswith("{") and "class_type" in graph:
                    return replace(facts, tool="ComfyUI")
                return facts
    return None


def _facts_of(content: str, key: str, budget: WorkBudget) -> Generation:
    parts = parse(content, budget)
    settings = parts.settings
    return parse_facts(
        settings,
        _NAMES,
        {key: text(content)},
        tool=_tool(settings),
        prompt=text(parts.prompt),
        negative_prompt=text(parts.negative_prompt),
        scheduler=name(settings.get("Schedule type") or settings.get("Scheduler")),
        loras=loras_in(parts.prompt, budget),
    )


def _tool(settings: Mapping[str, str]) -> str:
    version = settings.get("Version", "")
    if settings.get("App", "").startswith("SD.Next"):
        return "SD.Next"
    if version == "ComfyUI":
        return "ComfyUI"
    if (version[:1] == "f" and version[1:2].isdigit()) or version.startswith(("neo", "Forge")):
        return "Forge"
    return "A1111"
