"""Parser for AUTOMATIC1111's web UI, Forge and SD.Next, which write their settings as text.

The text is in the PNG keyword `parameters`, in EXIF or in a JPEG comment. Source:
AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py and modules/images.py (EXIF). Other
programs write the same format with their own `Version` or `App`:
lllyasviel/stable-diffusion-webui-forge, vladmandic/sdnext, and ComfyUI nodes for Civitai.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import parse_facts, text
from stillroom.generation.tools.settings_text import NAMES, loras_in, parse
from stillroom.wire.generation import Generation

KEY: Final = "parameters"
_ELSEWHERE: Final = ("exif:UserComment", "exif:ImageDescription", "jpeg:comment")
_NAMES: Final = {**NAMES, "cfg_scale": "CFG scale", "scheduler": ("Schedule type", "Scheduler")}


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters from a text in AUTOMATIC1111's format, or return None."""
    for key in (KEY, *_ELSEWHERE):
        content = texts.get(key, "")
        if content and not content.lstrip().startswith("{"):
            settings = parse(content, budget)
            raw, loras = {key: text(content)}, loras_in(settings["prompt"], budget)
            facts = parse_facts(settings, _NAMES, raw, tool=_tool(settings), loras=loras)
            # Cameras write comments, too, so a comment without settings is ignored.
            if facts.steps is not None or facts.seed is not None or key == KEY:
                graph = texts.get("prompt", "")
                if facts.tool == "A1111" and graph.startswith("{") and "class_type" in graph:
                    return replace(facts, tool="ComfyUI")
                return facts
    return None


def _tool(settings: Mapping[str, Any]) -> str:
    version = settings.get("Version", "")
    if settings.get("App", "").startswith("SD.Next"):
        return "SD.Next"
    if version == "ComfyUI":
        return "ComfyUI"
    if (version[:1] == "f" and version[1:2].isdigit()) or version.startswith(("neo", "Forge")):
        return "Forge"
    return "A1111"
