"""Parser for ComfyUI. The text `prompt` is the executed graph, which ComfyUI always writes.

The text `workflow`, the graph as shown in the editor, is only copied to `raw`.

Sources: comfyanonymous/ComfyUI, nodes.py (SaveImage) and comfy_extras/nodes_images.py, whose
animated WebP has `prompt:{…}` in EXIF. Third-party nodes use other EXIF properties
(audioscavenger/save-image-extended-comfyui, kaanyalova/ComfyUI_ExtendedImageFormats).
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import Unreadable, object_in
from stillroom.generation.tools.comfy_graph import Graph
from stillroom.generation.tools.comfy_walk import walk
from stillroom.wire.generation import Generation

_PROMPT, _WORKFLOW = "prompt", "workflow"
_IN_EXIF: Final = ("exif:Model", "exif:Make", "exif:ImageDescription", "exif:Software")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse the generation parameters if these texts contain a ComfyUI graph, else return None."""
    graphs = _graphs(texts, budget)
    ran = graphs.get(_PROMPT)
    if ran is None and _WORKFLOW not in graphs:
        return None
    facts = Generation() if ran is None else walk(Graph(ran, budget))
    return Generation(tool="ComfyUI", raw=graphs).over(facts)


def _graphs(texts: Mapping[str, str], budget: WorkBudget) -> dict[str, dict[str, Any]]:
    candidates: dict[str, Any] = {
        name: texts[name] for name in (_PROMPT, _WORKFLOW) if name in texts
    }
    for place in _IN_EXIF:
        label, colon, content = texts.get(place, "").partition(":")
        if colon and label.strip().lower() in (_PROMPT, _WORKFLOW):
            candidates.setdefault(label.strip().lower(), content)
    comment = texts.get("exif:UserComment", "")
    if f'"{_PROMPT}"' in comment or f'"{_WORKFLOW}"' in comment:
        whole = object_in(comment, budget) or {}
        for name in (_PROMPT, _WORKFLOW):
            candidates.setdefault(name, whole.get(name))
    graphs = {
        name: _object(value, budget) for name, value in candidates.items() if value is not None
    }
    return {name: value for name, value in graphs.items() if _is_graph(name, value)}


def _object(value: object, budget: WorkBudget) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    parsed = object_in(value, budget) if isinstance(value, str) else None
    if parsed is None:
        raise Unreadable
    return parsed


def _is_graph(name: str, value: dict[str, Any]) -> bool:
    if name == _WORKFLOW:
        return isinstance(value.get("nodes"), list)
    return any(isinstance(node, dict) and "class_type" in node for node in value.values())
