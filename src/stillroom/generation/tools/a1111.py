"""AUTOMATIC1111's web UI, Forge and SD.Next: `parameters`, or the comment of EXIF.

Sources: AUTOMATIC1111/stable-diffusion-webui, modules/infotext_utils.py and
modules/images.py (EXIF); lllyasviel/stable-diffusion-webui-forge and vladmandic/sdnext, which
write the same with an own `Version` or `App`. ComfyUI's nodes that save for Civitai write it, too.
"""

from collections.abc import Mapping
from typing import Final

from stillroom.generation.facts import MAX_SEED, Generation, name, number, size, text, whole
from stillroom.generation.tools.settings_text import loras_in, parse
from stillroom.work_budget import WorkBudget

KEY: Final = "parameters"
_ELSEWHERE: Final = ("exif:UserComment", "exif:ImageDescription", "jpeg:comment")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if these texts are in the form of the web UI."""
    for key in (KEY, *_ELSEWHERE):
        said = texts.get(key, "")
        if said and not said.lstrip().startswith("{"):
            found = _of(said, key, budget)
            # A comment of a camera is no prompt; `parameters` is one also without its settings.
            if found.steps is not None or found.seed is not None or key == KEY:
                return _named(found, texts)
    return None


def _named(found: Generation, texts: Mapping[str, str]) -> Generation:
    graph = texts.get("prompt", "")
    if found.tool == "A1111" and graph.startswith("{") and "class_type" in graph:
        return Generation(tool="ComfyUI").over(found)
    return found


def _of(said: str, key: str, budget: WorkBudget) -> Generation:
    parts = parse(said, budget)
    settings = parts.settings
    width, height = size(settings.get("Size"))
    return Generation(
        tool=_tool(settings),
        prompt=text(parts.prompt),
        negative_prompt=text(parts.negative_prompt),
        seed=whole(settings.get("Seed"), MAX_SEED),
        steps=whole(settings.get("Steps")),
        cfg_scale=number(settings.get("CFG scale")),
        sampler=name(settings.get("Sampler")),
        scheduler=name(settings.get("Schedule type") or settings.get("Scheduler")),
        model=name(settings.get("Model")),
        loras=loras_in(parts.prompt, budget),
        width=width,
        height=height,
        raw={key: text(said)},
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
