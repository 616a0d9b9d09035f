"""ComfyUI graph in the API format: nodes by id. An input of a node is a literal or a link.

The methods raise `Ambiguous` for an input whose value is unknown unless a node is run.
Source: comfyanonymous/ComfyUI, execution.py (a link is `[id, output]`) and nodes.py.
"""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stillroom.formats.work_budget import WorkBudget

MAX_NODES: Final = 5000
MAX_DEPTH: Final = 100

_MAX_KIND: Final = 256
"""Number of characters of a node's class name that are kept. They are searched for words."""

_WHOLE_NAMES: Final = ("value", "seed", "noise_seed", "int", "number", "integer", "steps")
_PASSING: Final = ("reroute", "showtext", "previewany", "displayany")
"""Words in the class names of nodes that return their input unchanged."""


class Ambiguous(Exception):
    """Exception for a value that the graph does not determine, or for which there are several."""


@dataclass(frozen=True, slots=True)
class Node:
    """Node of a ComfyUI graph.

    Attributes:
        kind: Class name of the node.
        inputs: Literals, or links in the form `[node id, output]`, by input name.
        number: Id of the node.
    """

    kind: str
    inputs: Mapping[str, Any]
    number: str


class Graph:
    """ComfyUI graph with methods that return the values of inputs.

    The methods raise `Ambiguous` if a node would have to be run. Results are cached for each node,
    because a graph can have exponentially more paths than nodes.
    """

    def __init__(self, nodes: Mapping[str, Node], budget: WorkBudget) -> None:
        self.nodes = nodes
        self.budget = budget
        self._links: dict[str, Mapping[str, str]] = {}
        self._texts: dict[str, str | None] = {}

    @classmethod
    def of(cls, objects: Mapping[str, Any], budget: WorkBudget | None = None) -> "Graph":
        """Parse a graph from a JSON object. Skips values that are not nodes."""
        nodes, budget = {}, budget or WorkBudget()
        for number, node in itertools.islice(objects.items(), MAX_NODES):
            budget.look()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
                kind = str(node.get("class_type", ""))[:_MAX_KIND]
                nodes[number] = Node(kind, node["inputs"], number)
        return cls(nodes, budget)

    def target(self, value: object) -> str | None:
        """Return the id of the node to which an input links, or None if the input is a literal."""
        match value:
            case [str() | int() as number, int()]:
                return str(number) if str(number) in self.nodes else None
        return None

    def link(self, node: Node, *names: str) -> str | None:
        """Return the id of the node to which the first linked input of `names` links, or None."""
        self.budget.look()
        targets = (self.target(node.inputs.get(name)) for name in names)
        return next((target for target in targets if target is not None), None)

    def links(self, node: Node) -> Mapping[str, str]:
        """Return the ids of the nodes to which the inputs of a node link, by input name."""
        links = self._links.get(node.number)
        if links is None:
            self.budget.look(len(node.inputs))
            targets = ((name, self.target(value)) for name, value in node.inputs.items())
            links = {name: target for name, target in targets if target is not None}
            self._links[node.number] = links
        self.budget.look(1 + len(links))
        return links

    def skip_passing(self, number: str) -> str:
        """Return the id of the nearest node that does not just return its input unchanged.

        The search begins at the node `number` and follows links to the nodes from which values
        come.

        Raises:
            Ambiguous: no such node was found within `MAX_DEPTH` links.
        """
        for _ in range(MAX_DEPTH):
            node = self.nodes[number]
            links = self.links(node)
            if not is_passing(node) or len(links) != 1:
                return number
            (number,) = links.values()
        raise Ambiguous

    def text(self, value: object, depth: int = 0) -> str:
        """Return the text value of an input, following links to other nodes.

        Raises:
            Ambiguous: the value is unknown unless a node is run.
        """
        if isinstance(value, str):
            self.budget.produce(len(value))
            return value
        target = self.target(value)
        if target is None or depth > MAX_DEPTH:
            raise Ambiguous
        number = self.skip_passing(target)
        if number not in self._texts:
            self._texts[number] = None  # makes a cycle of links ambiguous
            with contextlib.suppress(Ambiguous):
                self._texts[number] = self._text_of(self.nodes[number], depth)
        text = self._texts[number]
        if text is None:
            raise Ambiguous
        self.budget.produce(len(text))
        return text

    def _text_of(self, node: Node, depth: int) -> str:
        if node.kind == "StringConcatenate":
            names = ("string_a", "delimiter", "string_b")
            parts = [self.text(node.inputs.get(name, ""), depth + 1) for name in names]
            self.budget.produce(sum(map(len, parts)))
            return "".join(parts)
        if isinstance(node.inputs.get("populated_text"), str):  # wildcards are filled in here
            return str(node.inputs["populated_text"])
        if len(node.inputs) != 1:  # other inputs may change the text
            raise Ambiguous
        (inner,) = node.inputs.values()
        if not isinstance(inner, str):
            raise Ambiguous
        return inner

    def whole(self, value: object) -> int:
        """Return the integer value of an input, following links to other nodes.

        Raises:
            Ambiguous: the value is unknown unless a node is run.
        """
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        literal = self._single_literal(value, int)
        if not isinstance(literal, int):
            raise Ambiguous
        return literal

    def number(self, value: object) -> float:
        """Return the numeric value of an input, following links to other nodes.

        Raises:
            Ambiguous: the value is unknown unless a node is run.
        """
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        return float(self._single_literal(value, int, float))

    def _single_literal(self, value: object, *kinds: type) -> Any:  # noqa: ANN401  (of these types)
        target = self.target(value)
        if target is None:
            raise Ambiguous
        node = self.nodes[self.skip_passing(target)]
        self.budget.look(len(node.inputs))
        literals = {
            name: value_
            for name, value_ in node.inputs.items()
            if isinstance(value_, kinds) and not isinstance(value_, bool)
        }
        known = literals.keys() & _WHOLE_NAMES
        if len(literals) != 1 or not (known or float in kinds) or self.links(node):
            raise Ambiguous
        return next(iter(literals.values()))


def is_passing(node: Node) -> bool:
    """Return whether a node returns its input unchanged. This is known from its class name."""
    kind = node.kind.lower().replace(" ", "")
    return any(word in kind for word in _PASSING)
