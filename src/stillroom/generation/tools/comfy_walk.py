"""From the node that saves an image to the nearest sampler, and from there to its facts.

Of several savers those facts are told that all agree about: the file does not say which has
written it. Of two samplers at the same distance, none.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from stillroom.generation.facts import (
    MAX_SEED,
    NAMES,
    Generation,
    Lora,
    lora,
    name,
    number,
    text,
    whole,
)
from stillroom.generation.tools.comfy_graph import MAX_DEPTH, Ambiguous, Graph, Node, is_passing

T = TypeVar("T")

_SAVER: Final = (
    *(("save", form) for form in ("image", "webp", "png", "jpeg", "jpg", "avif")),
    ("image", "sav"),
)
_PREVIEW: Final = (("preview", "image"), ("image", "preview"))
"""Words that follow each other in the name of a class."""

_PICTURES: Final = ("images", "image")
_NO_PICTURE: Final = frozenset(
    (
        "model", "clip", "vae", "positive", "negative", "conditioning", "mask", "control_net",
        "style_model", "clip_vision", "clip_vision_output", "upscale_model", "sampler", "sigmas",
        "guider", "noise", "seed", "noise_seed", "text", "filename_prefix", "lora_stack",
    )
)  # fmt: skip
_FEEDS: Final = ("model", "positive", "conditioning", "guider", "pipe", "basic_pipe")
_SEEDS: Final = ("noise_seed", "seed")
_ROLES: Final = {
    "positive": ("positive", "conditioning", "cond1", "conds"),
    "negative": ("negative", "neg_conditioning"),
}
_ALWAYS: Final = ("populated_text", "text", "prompt", "user_prompt")
_TOGETHER: Final = ("text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama", "bert", "mt5xl")
"""Texts of one node for several encoders: mostly one text, so where they differ, none is told."""

_MODELS: Final = (
    "ckpt_name", "unet_name", "model_path", "base_ckpt_name", "diffusion_model", "model_name",
)  # fmt: skip
_WEIGHTS: Final = (
    "strength_model", "lora_model_strength", "model_weight", "lora_wt", "lora_weight", "strength",
)  # fmt: skip
_MAX_LORAS: Final = 50


def walk(graph: Graph) -> Generation:
    """The facts of the image that a graph has saved."""
    ways = _Walk(graph)
    found = {id(one): one for one in map(ways.facts, _savers(graph))}
    if not found:
        return Generation()
    first, *others = found.values()
    return Generation(
        **{
            one: getattr(first, one)
            for one in NAMES
            if all(getattr(other, one) == getattr(first, one) for other in others)
        }
    )


def _savers(graph: Graph) -> list[Node]:
    """The nodes that save; else those that nothing goes on from, and previews last."""
    ends = {
        at: node for at, node in graph.nodes.items() if graph.link(node, *_PICTURES) is not None
    }
    named = [node for node in ends.values() if _has_words(node, _SAVER)]
    if named:
        return named
    used = {target for node in graph.nodes.values() for target in graph.links(node).values()}
    last = [node for at, node in ends.items() if at not in used]
    return [node for node in last if not _has_words(node, _PREVIEW)] or last


def _has_words(node: Node, pairs: tuple[tuple[str, str], ...]) -> bool:
    called = node.kind.lower()
    return any(second in called.partition(first)[2] for first, second in pairs)


class _Walk:
    """The ways from the savers; what lies on several of them is looked at once."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._texts: dict[tuple[str, str], str | None] = {}
        self._samplers: dict[frozenset[str], Node | None] = {}
        self._facts: dict[str | None, Generation] = {None: Generation()}

    def facts(self, saver: Node) -> Generation:
        """What the nearest sampler was given."""
        sampler = _told(lambda: self._nearest(saver, _PICTURES))
        number = None if sampler is None else sampler.number
        if sampler is not None and number not in self._facts:
            self._facts[number] = self._facts_of(sampler)
        return self._facts[number]

    def _facts_of(self, sampler: Node) -> Generation:
        guider = self._linked(sampler, "guider") or sampler
        scheduler = self._behind(sampler, "sigmas", ("scheduler", "steps")) or sampler
        algorithm = self._behind(sampler, "sampler", ("sampler_name",)) or sampler
        width, height = _told(lambda: self._size(sampler)) or (None, None)
        return Generation(
            prompt=text(_told(lambda: self._said(guider, "positive"))),
            negative_prompt=text(_told(lambda: self._said(guider, "negative"))),
            seed=whole(_told(lambda: self._seed(sampler)), MAX_SEED),
            steps=whole(_told(lambda: self._graph.whole(scheduler.inputs.get("steps")))),
            cfg_scale=number(_told(lambda: self._graph.number(guider.inputs.get("cfg")))),
            sampler=name(_told(lambda: self._graph.text(algorithm.inputs.get("sampler_name")))),
            scheduler=name(_told(lambda: self._graph.text(scheduler.inputs.get("scheduler")))),
            model=name(_told(lambda: self._model(guider))),
            loras=_told(lambda: self._loras(guider)),
            width=width,
            height=height,
        )

    # The sampler

    def _nearest(self, start: Node, names: tuple[str, ...]) -> Node:
        """The sampler with the fewest links between; pixels and latents are followed alone."""
        level = {at for one in names if (at := self._graph.link(start, one)) is not None}
        began = frozenset(level)
        if began not in self._samplers:
            self._samplers[began] = _told(lambda: self._nearest_from(level))
        found = self._samplers[began]
        if found is None:
            raise Ambiguous
        return found

    def _nearest_from(self, level: set[str]) -> Node:
        seen = set(level)
        while level:
            samplers = [at for at in level if _is_sampler(self._graph, self._graph.nodes[at])]
            if len(samplers) > 1:
                raise Ambiguous
            if samplers:
                return self._graph.nodes[samplers[0]]
            below = {
                target
                for at in level
                for one, target in self._graph.links(self._graph.nodes[at]).items()
                if one not in _NO_PICTURE
            }
            level = below - seen
            seen |= below
        raise Ambiguous

    def _seed(self, sampler: Node, depth: int = 0) -> int:
        """Of the sampler that made the noise: one that goes on from another has made none."""
        source = self._linked(sampler, "noise") or sampler
        given = next((source.inputs[one] for one in _SEEDS if one in source.inputs), None)
        is_off = sampler.inputs.get("add_noise") in ("disable", False)
        if is_off or source.kind == "DisableNoise":
            if depth > MAX_DEPTH:
                raise Ambiguous
            before = self._nearest(sampler, ("latent_image", "samples", "latent"))
            return self._seed(before, depth + 1)
        return self._graph.whole(given)

    def _size(self, sampler: Node) -> tuple[int, int]:
        """What the empty latent has, also where samplers follow each other at one size."""
        at = self._graph.link(sampler, "latent_image", "samples", "latent")
        for _ in range(MAX_DEPTH):
            if at is None:
                break
            node = self._graph.nodes[self._graph.passed(at)]
            if "width" in node.inputs and "height" in node.inputs:
                whole_of = self._graph.whole
                return whole_of(node.inputs["width"]), whole_of(node.inputs["height"])
            if not _is_sampler(self._graph, node):
                break
            at = self._graph.link(node, "latent_image", "samples", "latent")
        raise Ambiguous

    # Texts

    def _said(self, guider: Node, role: str) -> str:
        at = self._graph.link(guider, *_ROLES[role])
        if at is None:
            raise Ambiguous
        found = self._text_at(at, role, 0)
        self._graph.budget.produce(len(found))
        return found

    def _text_at(self, at: str, role: str, depth: int) -> str:
        """The text that a conditioning was encoded from."""
        if (at, role) not in self._texts:
            self._texts[at, role] = None  # met again on the way, it is a circle
            self._texts[at, role] = _told(lambda: self._encoded(at, role, depth))
        found = self._texts[at, role]
        if found is None:
            raise Ambiguous
        return found

    def _encoded(self, at: str, role: str, depth: int) -> str:
        node = self._graph.nodes[at]
        if depth > MAX_DEPTH:
            raise Ambiguous
        if node.kind == "ConditioningZeroOut" and role == "negative":
            return ""
        texts = self._own_texts(node, role)
        if texts is None:
            texts = {self._text_at(one, role, depth + 1) for one in self._toward(node, role)}
        if len(texts) != 1:
            raise Ambiguous
        return texts.pop()

    def _own_texts(self, node: Node, role: str) -> set[str] | None:
        """What the node encodes itself; None where it takes a conditioning from others."""
        given = node.inputs
        if isinstance(given.get(role), str):
            return {given[role]}
        for one in _ALWAYS:
            if one in given:
                return {self._graph.text(given[one])}
        together = {self._graph.text(given[one]) for one in _TOGETHER if one in given}
        if not together:
            return None
        return together - {""} or {""}

    def _toward(self, node: Node, role: str) -> Iterator[str]:
        """Where the conditioning comes from, in a node that changes or joins some."""
        links = self._graph.links(node)
        own = [links[one] for one in _ROLES[role] if one in links]
        if own:
            return iter(own[:1])
        joined = [to for one, to in links.items() if one.startswith("conditioning")]
        if joined or is_passing(node):
            return iter(joined or links.values())
        raise Ambiguous

    # The model

    def _chain(self, guider: Node) -> Iterator[Node]:
        """The nodes that the model passes, from the sampler up to the one that loads it."""
        at = self._graph.link(guider, "model")
        for _ in range(MAX_DEPTH):
            if at is None:
                raise Ambiguous
            node = self._graph.nodes[at]
            yield node
            if any(one in node.inputs for one in _MODELS):
                return
            links = self._graph.links(node)
            at = links.get("model")
            if at is None and len(links) == 1:
                (at,) = links.values()

    def _model(self, guider: Node) -> str:
        *_, loader = self._chain(guider)
        given = next((loader.inputs[one] for one in _MODELS if one in loader.inputs), None)
        return self._graph.text(given)

    def _loras(self, guider: Node) -> tuple[Lora, ...]:
        found: list[Lora] = []
        for node in self._chain(guider):
            for one in self._stacked(node):
                found = [*_loras_of(self._graph, one), *found]
                if len(found) > _MAX_LORAS:
                    raise Ambiguous
        return tuple(found)

    def _stacked(self, node: Node) -> Iterator[Node]:
        """A node, and those that hand it a stack of LoRAs."""
        passed: set[str] = set()
        for _ in range(MAX_DEPTH):
            if node.number in passed:
                raise Ambiguous
            passed.add(node.number)
            yield node
            at = self._graph.link(node, "lora_stack")
            if at is None:
                return
            node = self._graph.nodes[at]

    # Other nodes

    def _linked(self, node: Node, one: str) -> Node | None:
        at = self._graph.link(node, one)
        return None if at is None else self._graph.nodes[at]

    def _behind(self, node: Node, one: str, names: tuple[str, ...]) -> Node | None:
        """The first node behind an input that has one of these inputs itself."""
        at = self._graph.link(node, one)
        for _ in range(MAX_DEPTH):
            if at is None:
                return None
            found = self._graph.nodes[at]
            if any(name_ in found.inputs for name_ in names):
                return found
            links = self._graph.links(found)
            at = next(iter(links.values())) if len(links) == 1 else None
        return None


def _told(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except Ambiguous:
        return None


def _is_sampler(graph: Graph, node: Node) -> bool:
    links = graph.links(node)
    if "guider" in links and "noise" in links:
        return True
    has_seed = any(one in node.inputs for one in _SEEDS)
    return has_seed and any(one in links for one in _FEEDS)


def _loras_of(graph: Graph, node: Node) -> list[Lora]:
    """What one node adds: a single LoRA, several numbered ones, or objects with a switch."""
    given = node.inputs
    graph.budget.look(len(given) + _MAX_LORAS)
    found = [
        lora(one.get("lora"), one.get("strength"))
        for one in given.values()
        if isinstance(one, dict) and one.get("on")
    ]
    most = given.get("lora_count")
    for end in ("", *(f"_{place}" for place in range(1, _MAX_LORAS + 1))):
        called = given.get(f"lora_name{end}")
        is_beyond = end and isinstance(most, int) and int(end[1:]) > most
        if called is None or is_beyond or given.get(f"switch{end}") == "Off":
            continue
        found.append(lora(graph.text(called), _weight(graph, node, end)))
    loras = [one for one in found if one is not None]
    graph.budget.produce(sum(len(one.name) for one in loras))
    return loras


def _weight(graph: Graph, node: Node, end: str) -> float | None:
    given = next((node.inputs[one + end] for one in _WEIGHTS if one + end in node.inputs), None)
    return _told(lambda: graph.number(given))
