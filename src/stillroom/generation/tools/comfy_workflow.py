"""A workflow of ComfyUI, as its editor keeps it, in the API form that would have run.

Muted nodes go, bypassed ones give on what they get, reroutes and primitives are resolved, and what
lies in subgraphs stands beside the rest, its ids behind those of the subgraph's node. Values of
widgets have no names in older files: those of the common nodes are in a table.
Source: Comfy-Org/ComfyUI_frontend, src/utils/executionUtil.ts (graphToPrompt) and
src/platform/workflow/validation/schemas/workflowSchema.ts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stillroom.generation.tools.comfy_graph import MAX_DEPTH, MAX_NODES

_MUTED, _BYPASSED = 2, 4
_INPUTS, _OUTPUTS = -10, -20
"""Ids that links of a subgraph have at its border."""

_MAX_LEVELS: Final = 8
_CONTROLS: Final = ("fixed", "increment", "decrement", "randomize")
"""What an editor does to a seed after each run: it stands behind the seed, without a name."""

_WIDGETS: Final[Mapping[str, tuple[str, ...]]] = {
    "BasicScheduler": ("scheduler", "steps", "denoise"),
    "CFGGuider": ("cfg",),
    "CLIPTextEncode": ("text",),
    "CLIPTextEncodeFlux": ("clip_l", "t5xxl", "guidance"),
    "CheckpointLoaderSimple": ("ckpt_name",),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    "KSampler": ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "KSamplerAdvanced": (
        "add_noise", "noise_seed", "steps", "cfg", "sampler_name", "scheduler",
        "start_at_step", "end_at_step", "return_with_leftover_noise",
    ),
    "KSamplerSelect": ("sampler_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "LoraLoaderModelOnly": ("lora_name", "strength_model"),
    "PrimitiveString": ("value",),
    "PrimitiveStringMultiline": ("value",),
    "RandomNoise": ("noise_seed",),
    "UNETLoader": ("unet_name", "weight_dtype"),
}  # fmt: skip


def api_form(workflow: Mapping[str, Any]) -> dict[str, Any]:
    """The nodes that would have run; what cannot be made out of the workflow is left out."""
    definitions = workflow.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {
        one["id"]: one
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    }
    found: dict[str, Any] = {}
    for number, node in _Level(workflow, subgraphs, "", None).nodes():
        found[number] = node
        if len(found) == MAX_NODES:
            break
    return found


class _Level:
    """The nodes and links of a workflow, or of a subgraph where one node stands for it.

    Attributes:
        outside: The level that this one lies in, and the node there.
    """

    def __init__(
        self,
        given: Mapping[str, Any],
        subgraphs: Mapping[str, Any],
        prefix: str,
        outside: "tuple[_Level, Mapping[str, Any]] | None",
    ) -> None:
        self._subgraphs = subgraphs
        self._prefix = prefix
        self.outside = outside
        self._nodes = {
            str(node["id"]): node for node in _objects(given.get("nodes")) if "id" in node
        }
        links = given.get("links")
        every = (_link(one) for one in (links if isinstance(links, list) else ()))
        self._links = dict(link for link in every if link is not None)
        self._below: dict[str, _Level] = {}

    def nodes(self, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """Id and API form of each node that would have run."""
        for number, node in self._nodes.items():
            if node.get("mode") in (_MUTED, _BYPASSED) or node.get("type") == "Reroute":
                continue
            below = self._level_of(number)
            if below is not None:
                if depth < _MAX_LEVELS:
                    yield from below.nodes(depth + 1)
                continue
            inputs = dict(_widgets(node))
            for one in _objects(node.get("inputs")):
                value = self.value(one.get("link"), 0)
                if value is not None:
                    inputs[str(one.get("name"))] = value
            yield self._prefix + number, {"class_type": str(node.get("type")), "inputs": inputs}

    def _level_of(self, number: str) -> "_Level | None":
        """What lies in the node, if it stands for a subgraph."""
        node = self._nodes[number]
        definition = self._subgraphs.get(str(node.get("type")))
        if definition is None:
            return None
        if number not in self._below:
            prefix = f"{self._prefix}{number}:"
            self._below[number] = _Level(definition, self._subgraphs, prefix, (self, node))
        return self._below[number]

    def value(self, link: object, depth: int) -> object:
        """What comes over a link: `[id, output]`, a literal, or None."""
        found = self._links.get(link) if isinstance(link, int) else None
        if found is None or depth > MAX_DEPTH:
            return None
        if found.origin == str(_INPUTS):
            return self._from_outside(found.output, depth)
        node = self._nodes.get(found.origin)
        if node is None or node.get("mode") == _MUTED:
            return None
        if node.get("mode") == _BYPASSED or node.get("type") == "Reroute":
            return self._passed(node, found, depth)
        return self._given(node, found, depth)

    def out(self, output: int, depth: int) -> object:
        """What comes out of this subgraph at one of its outputs."""
        for number, link in self._links.items():
            if (link.target, link.place) == (str(_OUTPUTS), output):
                return self.value(number, depth + 1)
        return None

    def _given(self, node: Mapping[str, Any], link: "_Link", depth: int) -> object:
        if node.get("type") == "PrimitiveNode":
            values = node.get("widgets_values")
            return values[0] if isinstance(values, list) and values else None
        below = self._level_of(link.origin)
        if below is not None:
            return below.out(link.output, depth)
        return [self._prefix + link.origin, link.output]

    def _from_outside(self, output: int, depth: int) -> object:
        if self.outside is None:
            return None
        level, node = self.outside
        inputs = _objects(node.get("inputs"))
        if not 0 <= output < len(inputs):
            return None
        return level.value(inputs[output].get("link"), depth + 1)

    def _passed(self, node: Mapping[str, Any], link: "_Link", depth: int) -> object:
        """What a node gives on: its input of the same type, at the same place if there is one."""
        inputs = _objects(node.get("inputs"))
        if node.get("type") != "Reroute":
            same = [one for one in inputs if one.get("type") == link.kind]
            there = inputs[link.output : link.output + 1]
            inputs = [one for one in there if one.get("type") == link.kind] or same
        return self.value(inputs[0].get("link"), depth + 1) if inputs else None


@dataclass(frozen=True, slots=True)
class _Link:
    """From an output of a node to an input, which is `place`, of another one."""

    origin: str
    output: int
    target: str
    place: int
    kind: str


def _link(given: object) -> tuple[int, _Link] | None:
    """Its id and the link; it has two forms."""
    match given:
        case [int() as number, origin, int() as output, target, int() as place, kind, *_]:
            pass
        case {
            "id": int() as number,
            "origin_id": origin,
            "origin_slot": int() as output,
            "target_id": target,
            "target_slot": int() as place,
            "type": kind,
        }:
            pass
        case _:
            return None
    return number, _Link(str(origin), output, str(target), place, str(kind))


def _widgets(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Name and value of each widget whose name can be told."""
    values = node.get("widgets_values")
    if isinstance(values, dict):
        yield from values.items()
        return
    left = list(values) if isinstance(values, list) else []
    names: tuple[str, ...] | None = _WIDGETS.get(str(node.get("type")))
    if names is None:
        yield from ((f"lora_{at}", one) for at, one in enumerate(left) if isinstance(one, dict))
        names = tuple(_widget_inputs(node))
        if len(names) + sum(one in _CONTROLS for one in left if isinstance(one, str)) < len(left):
            return
    for name in names:
        if not left:
            return
        yield name, left.pop(0)
        if "seed" in name and left and left[0] in _CONTROLS:
            left.pop(0)


def _widget_inputs(node: Mapping[str, Any]) -> Iterator[str]:
    for one in _objects(node.get("inputs")):
        widget = one.get("widget")
        if isinstance(widget, dict) and isinstance(widget.get("name"), str):
            yield widget["name"]


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
