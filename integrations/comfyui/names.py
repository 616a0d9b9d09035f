"""Where a prompt's images are saved: the prefix with its `%…%`, and the next free number."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from stillroom.generation.tools.comfy_graph import Graph, Node
from stillroom.paths import ImagePath

NO_SEED: Final = "no-seed"
"""In place of `%seed%` where no node before this one has a seed, or where it cannot be told."""

_PLACEHOLDER: Final = re.compile("%([^%]*)%")
_PARTS_OF_DATE: Final = {
    "yyyy": "%Y",
    "yy": "%y",
    "MM": "%m",
    "dd": "%d",
    "hh": "%H",
    "mm": "%M",
    "ss": "%S",
}
_WORDS: Final = {
    "date": "yyyy-MM-dd",
    "year": "yyyy",
    "month": "MM",
    "day": "dd",
    "hour": "hh",
    "minute": "mm",
    "second": "ss",
}
_MOST_NODES: Final = 5000


class UnknownPlaceholder(ValueError):
    """A `%…%` of the prefix that means nothing here."""


def expanded(
    prefix: str, *, now: datetime, seed: int | None = None, width: int = 0, height: int = 0
) -> str:
    """The prefix with its placeholders replaced, checked to be a path in the store.

    Raises:
        UnknownPlaceholder, InvalidPath: their messages are for the user.
    """
    values = {
        "seed": NO_SEED if seed is None else str(seed),
        "width": str(width),
        "height": str(height),
    }

    def value(found: re.Match[str]) -> str:
        word = found[1]
        pattern = _WORDS.get(word) or (word[5:] if word.startswith("date:") else None)
        if pattern is not None:
            return _dated(pattern, now)
        if word not in values:
            known = ", ".join(f"%{one}%" for one in (*_WORDS, "date:yyyy-MM-dd", *values))
            raise UnknownPlaceholder(f"%{word}% in the prefix is unknown: there are {known}")
        return values[word]

    return ImagePath.parse(_PLACEHOLDER.sub(value, prefix).strip("/")).text


def _dated(pattern: str, now: datetime) -> str:
    parts = "|".join(_PARTS_OF_DATE)
    return re.sub(parts, lambda part: now.strftime(_PARTS_OF_DATE[part[0]]), pattern)


def seed_before(node_id: str, prompt: Mapping[str, Any]) -> int | None:
    """The seed of the nearest node before this one that has one; None where that is not sure."""
    graph = Graph(prompt)
    level = {node for number, node in graph.nodes.items() if number == node_id}
    seen: set[Node] = set()
    while level and len(seen) < _MOST_NODES:
        seen |= level
        given = [node.inputs[name] for node in level for name in _SEEDS if name in node.inputs]
        if given:
            seeds = {graph.whole(one) for one in given}
            return seeds.pop() if len(seeds) == 1 else None
        level = {link for node in level for link in graph.links(node).values()} - seen
    return None


_SEEDS: Final = ("seed", "noise_seed")


def run_folder(prefix: str, number: int) -> str:
    """The folder of one prompt's images."""
    return f"{prefix}_{number:05}"


def next_number(prefix: str, names: Iterable[str]) -> int:
    """One more than the highest number behind `prefix` in these names."""
    numbered = re.compile(re.escape(prefix) + r"_(\d{5,12})(?:[/._]|$)")
    found = (numbered.match(name) for name in names)
    return max((int(one[1]) for one in found if one), default=0) + 1
