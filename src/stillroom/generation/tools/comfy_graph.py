"""Graph of ComfyUI in its API format: a JSON object that maps ids to nodes.

An input of a node is a literal, or a link `[id, output]` to another node.
Source: comfyanonymous/ComfyUI, execution.py and nodes.py.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from stillroom.formats.work_budget import WorkBudget

MAX_NODES: Final = 5000
MAX_DEPTH: Final = 100

_MAX_KIND: Final = 256  # characters of a node's class name; longer names are truncated
_WHOLE_NAMES: Final = ("value", "seed", "noise_seed", "int", "number", "integer", "steps")
# Words in the class names of nodes that return their input unchanged.
_PASSING: Final = ("reroute", "showtext", "previewany", "displayany")

N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Node: its class name (`kind`), and its inputs by name."""

    kind: str
    inputs: Mapping[str, Any]

    @property
    def is_passing(self) -> bool:
        """True if the node probably returns its input unchanged."""
        kind = self.kind.lower().replace(" ", "")
        return any(word in kind for word in _PASSING)


class Graph:
    """Graph with methods that follow links between nodes, and resolve the values of inputs.

    A value is None if it is known only when ComfyUI runs the graph. Results are cached for each
    node, because a graph can have exponentially more paths than nodes.
    """

    def __init__(self, objects: Mapping[str, Any], budget: WorkBudget | None = None) -> None:
        self.nodes: dict[str, Node] = {}
        self.budget = budget or WorkBudget()
        self._links: dict[Node, Mapping[str, Node]] = {}
        self._texts: dict[Node, str | None] = {}
        for number, node in itertools.islice(objects.items(), MAX_NODES):
            self.budget.look()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
                kind = str(node.get("class_type", ""))[:_MAX_KIND]
                self.nodes[number] = Node(kind, node["inputs"])

    def _target(self, value: object) -> Node | None:
        match value:
            case [str() | int() as number, int()]:
                return self.nodes.get(str(number))
        return None

    def link(self, node: Node, *names: str) -> Node | None:
        """Return the node to which the first linked input in `names` leads, or None."""
        self.budget.look()
        targets = (self._target(node.inputs.get(name)) for name in names)
        return next((target for target in targets if target is not None), None)

    def links(self, node: Node) -> Mapping[str, Node]:
        """Return the nodes to which the inputs of a node are linked, by the name of the input."""
        links = self._links.get(node)
        if links is None:
            self.budget.look(len(node.inputs))
            targets = ((name, self._target(value)) for name, value in node.inputs.items())
            links = {name: target for name, target in targets if target is not None}
            self._links[node] = links
        self.budget.look(1 + len(links))
        return links

    def only_link(self, node: Node) -> Node | None:
        """Return the node to which the only link leads; None if there is not exactly one link."""
        links = self.links(node)
        return next(iter(links.values())) if len(links) == 1 else None

    def skip_passing(self, node: Node | None) -> Node | None:
        """Skip nodes that pass their input on unchanged. Return the first other node, or None."""
        for _ in range(MAX_DEPTH):
            source = self.only_link(node) if node is not None and node.is_passing else None
            if source is None:
                return node
            node = source
        return None

    def text(self, value: object, depth: int = 0) -> str | None:
        """Return the text of an input, which may come from a linked node. None if unknown."""
        if isinstance(value, str):
            self.budget.produce(len(value))
            return value
        node = self.skip_passing(self._target(value))
        if node is None or depth > MAX_DEPTH:
            return None
        if node not in self._texts:
            self._texts[node] = None  # for a cycle of links
            self._texts[node] = self._text_of(node, depth)
        text = self._texts[node]
        self.budget.produce(len(text or ""))
        return text

    def _text_of(self, node: Node, depth: int) -> str | None:
        if node.kind == "StringConcatenate":
            names = ("string_a", "delimiter", "string_b")
            texts = [self.text(node.inputs.get(name, ""), depth + 1) for name in names]
            parts = [text for text in texts if text is not None]
            self.budget.produce(sum(map(len, parts)))
            return "".join(parts) if len(parts) == len(names) else None
        populated = node.inputs.get("populated_text")  # wildcards are filled in here
        if isinstance(populated, str):
            return populated
        inner = list(node.inputs.values())  # other inputs may change the text
        return inner[0] if len(inner) == 1 and isinstance(inner[0], str) else None

    def whole(self, value: object) -> int | None:
        """Return the integer of an input, which may come from a linked node. None if unknown."""
        return self._literal(value, int)

    def number(self, value: object) -> float | None:
        """Return the number of an input, which may come from a linked node. None if unknown."""
        return self._literal(value, int, float)

    def _literal(self, value: object, *kinds: type[N]) -> N | None:
        if isinstance(value, kinds) and not isinstance(value, bool):
            return value
        node = self.skip_passing(self._target(value))
        if node is None:
            return None
        self.budget.look(len(node.inputs))
        literals = [
            (name, literal)
            for name, literal in node.inputs.items()
            if isinstance(literal, kinds) and not isinstance(literal, bool)
        ]
        if len(literals) != 1 or self.links(node):
            return None
        name, literal = literals[0]
        return literal if float in kinds or name in _WHOLE_NAMES else None
