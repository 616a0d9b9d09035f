"""ComfyUI: `prompt`, the graph as it ran, beside `workflow`, the graph as the editor shows it.

Sources: comfyanonymous/ComfyUI, nodes.py (SaveImage) and comfy_extras/nodes_images.py, whose
animated WebP has `prompt:{…}` in EXIF; nodes of others use other properties of EXIF
(audioscavenger/save-image-extended-comfyui, kaanyalova/ComfyUI_ExtendedImageFormats).
"""

from collections.abc import Mapping
from typing import Any, Final

from stillroom.generation.facts import Generation, object_in
from stillroom.generation.texts import Unreadable
from stillroom.generation.tools.comfy_graph import Graph
from stillroom.generation.tools.comfy_walk import walk
from stillroom.generation.tools.comfy_workflow import api_form
from stillroom.work_budget import WorkBudget

_PROMPT, _WORKFLOW = "prompt", "workflow"
_IN_EXIF: Final = ("exif:Model", "exif:Make", "exif:ImageDescription", "exif:Software")


def read(texts: Mapping[str, str], budget: WorkBudget) -> Generation | None:
    """The facts, if these texts hold a graph.

    Raises:
        Unreadable: they seem to, and it is no JSON object.
    """
    graphs = _graphs(texts, budget)
    ran = graphs.get(_PROMPT)
    if ran is None and _WORKFLOW not in graphs:
        return None
    nodes = ran if ran is not None else api_form(graphs[_WORKFLOW], budget)
    facts = walk(Graph.of(nodes, budget))
    return Generation(tool="ComfyUI", raw=graphs).over(facts)


def _graphs(texts: Mapping[str, str], budget: WorkBudget) -> dict[str, dict[str, Any]]:
    """The graphs by their names, from whichever place has them."""
    given: dict[str, Any] = {one: texts[one] for one in (_PROMPT, _WORKFLOW) if one in texts}
    for place in _IN_EXIF:
        called, colon, said = texts.get(place, "").partition(":")
        if colon and called.strip().lower() in (_PROMPT, _WORKFLOW):
            given.setdefault(called.strip().lower(), said)
    comment = texts.get("exif:UserComment", "")
    if f'"{_PROMPT}"' in comment or f'"{_WORKFLOW}"' in comment:
        whole = object_in(comment, budget) or {}
        for one in (_PROMPT, _WORKFLOW):
            given.setdefault(one, whole.get(one))
    found = {one: _object(value, budget) for one, value in given.items() if value is not None}
    return {one: value for one, value in found.items() if _is_graph(one, value)}


def _object(value: object, budget: WorkBudget) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    found = object_in(value, budget) if isinstance(value, str) else None
    if found is None:
        raise Unreadable
    return found


def _is_graph(called: str, value: dict[str, Any]) -> bool:
    if called == _WORKFLOW:
        return isinstance(value.get("nodes"), list)
    return any(isinstance(node, dict) and "class_type" in node for node in value.values())
