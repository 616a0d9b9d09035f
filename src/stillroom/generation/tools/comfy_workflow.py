"""A workflow of ComfyUI, as its editor keeps it, in the API form that would have run.

Muted nodes go, bypassed ones give on what they get, reroutes and primitives are resolved, and what
lies in subgraphs stands beside the rest, its ids behind those of the subgraph's node. Values of
widgets have no names in older files: those of the common nodes are in a table.
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
"""Ids that links of a subgraph have at its border."""

_MAX_LEVELS: Final = 8
_MAX_SUBGRAPHS: Final = 2000
"""Nodes that stand for subgraphs, those in subgraphs counted again for each."""

_LOOKS_OF_A_LEVEL: Final = 5

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


def api_form(workflow: Mapping[str, Any], budget: WorkBudget) -> dict[str, Any]:
    """The nodes that would have run; what cannot be made out of the workflow is left out.

    Raises:
        TooMuchWork: the budget is spent, or there are more subgraphs than any workflow has.
    """
    definitions = workflow.get("definitions")
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    subgraphs = {
        one["id"]: _Drawing(one, budget)
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("id"), str)
    }
    found: dict[str, Any] = {}
    drawing = _Drawing(workflow, budget)
    for number, node in _Level(drawing, _Subgraphs(subgraphs, budget), "", None).nodes():
        found[number] = node
        if len(found) == MAX_NODES:
            break
    return found


class _Drawing:
    """A workflow, or the definition of a subgraph: read once, however many nodes stand for it.

    Attributes:
        nodes: By id.
        links: By number.
        outputs: The first link that leads to each output of a subgraph.
    """

    def __init__(self, given: Mapping[str, Any], budget: WorkBudget) -> None:
        nodes, links = _objects(given.get("nodes")), given.get("links")
        links = links if isinstance(links, list) else []
        budget.look(len(nodes) + len(links))
        self.nodes = {str(node["id"]): node for node in nodes if "id" in node}
        self.links = dict(link for link in map(_link, links) if link is not None)
        self.outputs: dict[int, int] = {}
        for number, link in self.links.items():
            if link.target == str(_OUTPUTS):
                self.outputs.setdefault(link.place, number)


class _Subgraphs:
    """The definitions of subgraphs by type, and the bound on how many nodes stand for them."""

    def __init__(self, drawings: Mapping[str, _Drawing], budget: WorkBudget) -> None:
        self.budget = budget
        self._drawings = drawings
        self._left = _MAX_SUBGRAPHS

    def drawing(self, node: Mapping[str, Any]) -> _Drawing | None:
        """The definition that a node stands for; None where it stands for none."""
        return self._drawings.get(_text(node.get("type")))

    def count(self) -> None:
        """Count one more level.

        Raises:
            TooMuchWork: there are more than any workflow has.
        """
        self.budget.look(_LOOKS_OF_A_LEVEL)
        self._left -= 1
        if self._left < 0:
            raise TooMuchWork


class _Level:
    """The nodes and links of a workflow, or of a subgraph where one node stands for it.

    Attributes:
        outside: The level that this one lies in, and the node there.
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
        """Id and API form of each node that would have run."""
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
            for one in self._inputs(node):
                value = self.value(one.get("link"), 0)
                if value is not None:
                    inputs[_text(one.get("name"))] = value
            yield self._id(number), {"class_type": _text(node.get("type")), "inputs": inputs}

    def _level_of(self, number: str) -> "_Level | None":
        """What lies in the node, if it stands for a subgraph."""
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
        given = node.get("inputs")
        self._budget.look(1 + (len(given) if isinstance(given, list) else 0))
        return _objects(given)

    def value(self, link: object, depth: int) -> object:
        """What comes over a link: `[id, output]`, a literal, or None."""
        if not isinstance(link, int) or link not in self._links or depth > MAX_DEPTH:
            return None
        if link not in self._values:
            self._values[link] = None  # met again on the way, it is a circle
            self._values[link] = self._value_of(self._links[link], depth)
        return self._values[link]

    def _value_of(self, found: "_Link", depth: int) -> object:
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
        return self.value(self._outputs.get(output), depth + 1)

    def _given(self, node: Mapping[str, Any], link: "_Link", depth: int) -> object:
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

    def _passed(self, node: Mapping[str, Any], link: "_Link", depth: int) -> object:
        """What a node gives on: its input of the same type, at the same place if there is one."""
        inputs = self._inputs(node)
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


def _widgets(node: Mapping[str, Any], budget: WorkBudget) -> Iterator[tuple[str, Any]]:
    """Name and value of each widget whose name can be told."""
    values = node.get("widgets_values")
    inputs = node.get("inputs")
    budget.look(sum(len(one) for one in (values, inputs) if isinstance(one, dict | list)))
    if isinstance(values, dict):
        yield from values.items()
        return
    left = deque(values if isinstance(values, list) else ())
    names: tuple[str, ...] | None = _WIDGETS.get(_text(node.get("type")))
    if names is None:
        yield from ((f"lora_{at}", one) for at, one in enumerate(left) if isinstance(one, dict))
        names = tuple(_widget_inputs(node))
        if len(names) + sum(one in _CONTROLS for one in left if isinstance(one, str)) < len(left):
            return
    for name in names:
        if not left:
            return
        yield name, left.popleft()
        if "seed" in name and left and left[0] in _CONTROLS:
            left.popleft()


def _widget_inputs(node: Mapping[str, Any]) -> Iterator[str]:
    for one in _objects(node.get("inputs")):
        widget = one.get("widget")
        if isinstance(widget, dict) and isinstance(widget.get("name"), str):
            yield widget["name"]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
