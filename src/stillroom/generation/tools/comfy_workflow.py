"""Conversion of a workflow from the ComfyUI editor to the API format, which ComfyUI executes.

Muted nodes are removed, bypassed nodes pass their inputs through, reroutes and primitives are
resolved. Subgraphs are flattened: their nodes' ids are prefixed with the id of the subgraph's
node. Older files do not name widget values, so the names for common nodes are in a table.
Source: Comfy-Org/ComfyUI_frontend, src/utils/executionUtil.ts (graphToPrompt) and
src/platform/workflow/validation/schemas/workflowSchema.ts.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from stillroom.generation.tools.comfy_graph import MAX_DEPTH, MAX_NODES
from stillroom.work_budget import TooMuchWork, WorkBudget

_MUTED, _BYPASSED = 2, 4
_INPUTS, _OUTPUTS = -10, -20
"""Node ids that stand for a subgraph's own inputs and outputs in its links."""

_MAX_LEVELS: Final = 8
_MAX_SUBGRAPHS: Final = 2000
"""Maximum number of subgraph nodes. A nested one counts once for each node that contains it."""

_LOOKS_OF_A_LEVEL: Final = 5

_CONTROLS: Final = ("fixed", "increment", "decrement", "randomize")
"""Values of the unnamed widget after a seed, which selects how it changes after each run."""

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


def api_form(workflow: Mapping[str, Any], budget: WorkBudget) -> dict[str, Any]:
    """Return the nodes that ComfyUI would run, by id. Inputs that cannot be resolved are omitted.

    Raises:
        TooMuchWork: `budget` is exceeded, or the workflow has an unusual number of subgraphs.
    """
    definitions = workflow.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {
        subgraph["id"]: _Drawing(subgraph, budget)
        for subgraph in (listed if isinstance(listed, list) else ())
        if isinstance(subgraph, dict) and isinstance(subgraph.get("id"), str)
    }
    nodes: dict[str, Any] = {}
    drawing = _Drawing(workflow, budget)
    for number, node in _Level(drawing, _Subgraphs(subgraphs, budget), "", None).nodes():
        nodes[number] = node
        if len(nodes) == MAX_NODES:
            break
    return nodes


class _Drawing:
    """Parsed definition of a workflow, or of a subgraph, to which several nodes may refer.

    Attributes:
        outputs: Number of the first link to each output of a subgraph, by output.
    """

    def __init__(self, definition: Mapping[str, Any], budget: WorkBudget) -> None:
        nodes, links = _objects(definition.get("nodes")), definition.get("links")
        links = links if isinstance(links, list) else []
        budget.look(len(nodes) + len(links))
        self.nodes = {str(node["id"]): node for node in nodes if "id" in node}
        self.links = dict(link for link in map(_parse_link, links) if link is not None)
        self.outputs: dict[int, int] = {}
        for number, link in self.links.items():
            if link.target == str(_OUTPUTS):
                self.outputs.setdefault(link.place, number)


class _Subgraphs:
    """Subgraph definitions by type, with a limit on the number of nodes that use them."""

    def __init__(self, drawings: Mapping[str, _Drawing], budget: WorkBudget) -> None:
        self.budget = budget
        self._drawings = drawings
        self._left = _MAX_SUBGRAPHS

    def drawing(self, node: Mapping[str, Any]) -> _Drawing | None:
        return self._drawings.get(_text(node.get("type")))

    def count(self) -> None:
        """Count one more use of a subgraph. Raise `TooMuchWork` if there are too many."""
        self.budget.look(_LOOKS_OF_A_LEVEL)
        self._left -= 1
        if self._left < 0:
            raise TooMuchWork


class _Level:
    """Nodes and links of a workflow, or of a subgraph that is used by one node.

    Attributes:
        outside: The enclosing level and the node in it that uses the subgraph, or None.
    """

    def __init__(
        self,
        drawing: _Drawing,
        subgraphs: _Subgraphs,
        prefix: str,
        outside: "tuple[_Level, Mapping[str, Any]] | None",
    ) -> None:
        subgraphs.count()
        self._subgraphs = subgraphs
        self._budget = subgraphs.budget
        self._prefix = prefix
        self.outside = outside
        self._nodes = drawing.nodes
        self._links = drawing.links
        self._outputs = drawing.outputs
        self._below: dict[str, _Level] = {}
        self._values: dict[int, object] = {}

    def nodes(self, depth: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id and the API format of each node that ComfyUI would run."""
        for number, node in self._nodes.items():
            self._budget.look()
            if node.get("mode") in (_MUTED, _BYPASSED) or node.get("type") == "Reroute":
                continue
            below = self._level_of(number)
            if below is not None:
                if depth < _MAX_LEVELS:
                    yield from below.nodes(depth + 1)
                continue
            inputs = dict(_widgets(node, self._budget))
            for slot in self._inputs(node):
                value = self.value(slot.get("link"), 0)
                if value is not None:
                    inputs[_text(slot.get("name"))] = value
            yield self._id(number), {"class_type": _text(node.get("type")), "inputs": inputs}

    def _level_of(self, number: str) -> "_Level | None":
        node = self._nodes[number]
        drawing = self._subgraphs.drawing(node)
        if drawing is None:
            return None
        if number not in self._below:
            prefix = f"{self._id(number)}:"
            self._below[number] = _Level(drawing, self._subgraphs, prefix, (self, node))
        return self._below[number]

    def _id(self, number: str) -> str:
        self._budget.produce(len(self._prefix) + len(number))
        return self._prefix + number

    def _inputs(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        inputs = node.get("inputs")
        self._budget.look(1 + (len(inputs) if isinstance(inputs, list) else 0))
        return _objects(inputs)

    def value(self, link: object, depth: int) -> object:
        """Return the value that a link carries: `[id, output]`, a literal, or None."""
        if not isinstance(link, int) or link not in self._links or depth > MAX_DEPTH:
            return None
        if link not in self._values:
            self._values[link] = None  # ends a cycle of links
            self._values[link] = self._value_of(self._links[link], depth)
        return self._values[link]

    def _value_of(self, link: "_Link", depth: int) -> object:
        if link.origin == str(_INPUTS):
            return self._from_outside(link.output, depth)
        node = self._nodes.get(link.origin)
        if node is None or node.get("mode") == _MUTED:
            return None
        if node.get("mode") == _BYPASSED or node.get("type") == "Reroute":
            return self._bypass(node, link, depth)
        return self._node_value(node, link, depth)

    def out(self, output: int, depth: int) -> object:
        """Return the value of a subgraph output: `[id, output]`, a literal, or None."""
        return self.value(self._outputs.get(output), depth + 1)

    def _node_value(self, node: Mapping[str, Any], link: "_Link", depth: int) -> object:
        if node.get("type") == "PrimitiveNode":
            values = node.get("widgets_values")
            return values[0] if isinstance(values, list) and values else None
        below = self._level_of(link.origin)
        if below is not None:
            return below.out(link.output, depth)
        return [self._id(link.origin), link.output]

    def _from_outside(self, output: int, depth: int) -> object:
        if self.outside is None:
            return None
        level, node = self.outside
        inputs = level._inputs(node)  # noqa: SLF001  (of this class)
        if not 0 <= output < len(inputs):
            return None
        return level.value(inputs[output].get("link"), depth + 1)

    def _bypass(self, node: Mapping[str, Any], link: "_Link", depth: int) -> object:
        """Return the value that a bypassed node passes to the output from which `link` starts.

        It is the value of an input of the same type, preferably at the same position.
        """
        inputs = self._inputs(node)
        if node.get("type") != "Reroute":
            same = [slot for slot in inputs if slot.get("type") == link.kind]
            at_position = inputs[link.output : link.output + 1]
            inputs = [slot for slot in at_position if slot.get("type") == link.kind] or same
        return self.value(inputs[0].get("link"), depth + 1) if inputs else None


@dataclass(frozen=True, slots=True)
class _Link:
    """Link from an output of a node to another node's input number `place`."""

    origin: str
    output: int
    target: str
    place: int
    kind: str


def _parse_link(raw: object) -> tuple[int, _Link] | None:
    """Return the id and the link from either of its two JSON forms, or None if malformed."""
    match raw:
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


def _widgets(node: Mapping[str, Any], budget: WorkBudget) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each of a node's widgets whose name is known."""
    values = node.get("widgets_values")
    inputs = node.get("inputs")
    budget.look(sum(len(item) for item in (values, inputs) if isinstance(item, dict | list)))
    if isinstance(values, dict):
        yield from values.items()
        return
    left = deque(values if isinstance(values, list) else ())
    names: tuple[str, ...] | None = _WIDGETS.get(_text(node.get("type")))
    if names is None:
        yield from ((f"lora_{at}", item) for at, item in enumerate(left) if isinstance(item, dict))
        names = tuple(_widget_inputs(node))
        if len(names) + sum(item in _CONTROLS for item in left if isinstance(item, str)) < len(
            left
        ):
            return
    for name in names:
        if not left:
            return
        yield name, left.popleft()
        if "seed" in name and left and left[0] in _CONTROLS:
            left.popleft()


def _widget_inputs(node: Mapping[str, Any]) -> Iterator[str]:
    for slot in _objects(node.get("inputs")):
        widget = slot.get("widget")
        if isinstance(widget, dict) and isinstance(widget.get("name"), str):
            yield widget["name"]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
