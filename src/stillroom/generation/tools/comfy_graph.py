"""A graph of ComfyUI in its API form: nodes by id, and their inputs, literal or linked.

Where what an input has cannot be told without running the node, it is `Ambiguous`.
Source: comfyanonymous/ComfyUI, execution.py (a link is `[id, output]`) and nodes.py.
"""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from stillroom.work_budget import WorkBudget

MAX_NODES: Final = 5000
MAX_DEPTH: Final = 100

_MAX_KIND: Final = 256
"""Characters of the name of a class that are searched for words."""

_WHOLE_NAMES: Final = ("value", "seed", "noise_seed", "int", "number", "integer", "steps")
_PASSING: Final = ("reroute", "showtext", "previewany", "displayany")
"""In the names of nodes that give on what they get."""


class Ambiguous(Exception):
    """Several answers are possible, or none."""


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        kind: Its class.
        inputs: Literals, and links as they stand in the file.
        number: Its id.
    """

    kind: str
    inputs: Mapping[str, Any]
    number: str


class Graph:
    """The nodes of a graph, and what can be told about their inputs.

    Links and texts of a node are found once, whatever leads to it: the paths through a graph are
    not bounded by its nodes.
    """

    def __init__(self, nodes: Mapping[str, Node], budget: WorkBudget) -> None:
        self.nodes = nodes
        self.budget = budget
        self._links: dict[str, Mapping[str, str]] = {}
        self._texts: dict[str, str | None] = {}

    @classmethod
    def of(cls, given: Mapping[str, Any], budget: WorkBudget | None = None) -> "Graph":
        """The graph in a JSON object; what is no node in it is left out."""
        nodes, budget = {}, budget or WorkBudget()
        for number, node in itertools.islice(given.items(), MAX_NODES):
            budget.look()
            if isinstance(node, dict) and isinstance(node.get("inputs"), dict):
                kind = str(node.get("class_type", ""))[:_MAX_KIND]
                nodes[number] = Node(kind, node["inputs"], number)
        return cls(nodes, budget)

    def target(self, value: object) -> str | None:
        """The id of the node that an input is linked to; None of a literal."""
        match value:
            case [str() | int() as number, int()]:
                return str(number) if str(number) in self.nodes else None
        return None

    def link(self, node: Node, *names: str) -> str | None:
        """Where the first of these inputs that is linked leads to."""
        self.budget.look()
        targets = (self.target(node.inputs.get(name)) for name in names)
        return next((one for one in targets if one is not None), None)

    def links(self, node: Node) -> Mapping[str, str]:
        """Where each linked input leads to."""
        found = self._links.get(node.number)
        if found is None:
            self.budget.look(len(node.inputs))
            every = ((name, self.target(value)) for name, value in node.inputs.items())
            found = {name: target for name, target in every if target is not None}
            self._links[node.number] = found
        self.budget.look(1 + len(found))
        return found

    def passed(self, number: str) -> str:
        """The node behind those that only give on what they get."""
        for _ in range(MAX_DEPTH):
            node = self.nodes[number]
            links = self.links(node)
            if not is_passing(node) or len(links) != 1:
                return number
            (number,) = links.values()
        raise Ambiguous

    def text(self, value: object, depth: int = 0) -> str:
        """The text that an input has.

        Raises:
            Ambiguous: it comes out of a node that would have to run.
        """
        if isinstance(value, str):
            self.budget.produce(len(value))
            return value
        target = self.target(value)
        if target is None or depth > MAX_DEPTH:
            raise Ambiguous
        number = self.passed(target)
        if number not in self._texts:
            self._texts[number] = None  # met again on the way, it is a circle
            with contextlib.suppress(Ambiguous):
                self._texts[number] = self._text_of(self.nodes[number], depth)
        found = self._texts[number]
        if found is None:
            raise Ambiguous
        self.budget.produce(len(found))
        return found

    def _text_of(self, node: Node, depth: int) -> str:
        if node.kind == "StringConcatenate":
            names = ("string_a", "delimiter", "string_b")
            parts = [self.text(node.inputs.get(name, ""), depth + 1) for name in names]
            self.budget.produce(sum(map(len, parts)))
            return "".join(parts)
        if isinstance(node.inputs.get("populated_text"), str):  # a wildcard that was drawn
            return str(node.inputs["populated_text"])
        if len(node.inputs) != 1:  # what more there is may change the text
            raise Ambiguous
        (inner,) = node.inputs.values()
        if not isinstance(inner, str):
            raise Ambiguous
        return inner

    def whole(self, value: object) -> int:
        """The whole number that an input has.

        Raises:
            Ambiguous: it comes out of a node that would have to run.
        """
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        literal = self._one_literal(value, int)
        if not isinstance(literal, int):
            raise Ambiguous
        return literal

    def number(self, value: object) -> float:
        """The number that an input has.

        Raises:
            Ambiguous: as `whole`.
        """
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value
        return float(self._one_literal(value, int, float))

    def _one_literal(self, value: object, *kinds: type) -> Any:  # noqa: ANN401  (of these types)
        target = self.target(value)
        if target is None:
            raise Ambiguous
        node = self.nodes[self.passed(target)]
        self.budget.look(len(node.inputs))
        literals = {
            name: one
            for name, one in node.inputs.items()
            if isinstance(one, kinds) and not isinstance(one, bool)
        }
        known = literals.keys() & _WHOLE_NAMES
        if len(literals) != 1 or not (known or float in kinds) or self.links(node):
            raise Ambiguous
        return next(iter(literals.values()))


def is_passing(node: Node) -> bool:
    """Whether a node only gives on what it gets."""
    called = node.kind.lower().replace(" ", "")
    return any(word in called for word in _PASSING)
