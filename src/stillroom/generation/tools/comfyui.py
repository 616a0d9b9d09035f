"""Parser for ComfyUI, which writes the graph that it has run as the text `prompt`.

It also writes the graph in the form of its editor (`workflow`), which is only copied to `raw`.
Sources: comfyanonymous/ComfyUI, nodes.py (SaveImage) and comfy_extras/nodes_images.py (`prompt:{…}`
in the EXIF of animated WebP). Third-party nodes use other EXIF properties:
audioscavenger/save-image-extended-comfyui, kaanyalova/ComfyUI_ExtendedImageFormats.
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.facts import object_in, required_object
from stillroom.generation.tools.comfy_graph import Graph
from stillroom.generation.tools.comfy_walk import walk
from stillroom.wire.generation import Generation

_PROMPT: Final = "prompt"
_WORKFLOW: Final = "workflow"
_NAMES: Final = (_PROMPT, _WORKFLOW)
_IN_EXIF: Final = ("exif:Model", "exif:Make", "exif:ImageDescription", "exif:Software")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """Parse generation parameters if the texts contain a ComfyUI graph, else return None."""
    graphs = _graphs(texts, budget)
    ran = graphs.get(_PROMPT)
    if ran is None and _WORKFLOW not in graphs:
        return None
    facts = Generation() if ran is None else walk(Graph(ran, budget))
    return Generation(tool="ComfyUI", raw=graphs).over(facts)


def _graphs(texts: Mapping[str, str], budget: WorkBudget) -> dict[str, dict[str, Any]]:
    candidates: dict[str, Any] = {name: texts[name] for name in _NAMES if name in texts}
    for place in _IN_EXIF:
        label, colon, content = texts.get(place, "").partition(":")
        if colon and label.strip().lower() in _NAMES:
            candidates.setdefault(label.strip().lower(), content)
    comment = texts.get("exif:UserComment", "")
    if any(f'"{name}"' in comment for name in _NAMES):
        whole = object_in(comment, budget) or {}
        candidates |= {name: whole.get(name) for name in _NAMES if name not in candidates}
    graphs = {
        name: value if isinstance(value, dict) else required_object(value, budget)
        for name, value in candidates.items()
        if value is not None
    }
    return {name: value for name, value in graphs.items() if _is_graph(name, value)}


def _is_graph(name: str, value: dict[str, Any]) -> bool:
    if name == _WORKFLOW:
        return isinstance(value.get("nodes"), list)
    return any(isinstance(node, dict) and "class_type" in node for node in value.values())
