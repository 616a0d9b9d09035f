"""Search of a ComfyUI graph for generation parameters, from the node that saves an image.

The search goes back from that node to the nearest sampler. If several nodes save images, it is
unknown which one wrote the file, so only parameters that are the same for all of them are returned.
If the nearest sampler is ambiguous, no parameters are returned.
"""

from collections.abc import Callable, Iterable, Iterator
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
"""Pairs of words. The class name of a node matches if it contains both words in this order."""

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
"""Names of inputs for several text encoders. If the texts of one node differ, no prompt is
returned."""

_MODELS: Final = (
    "ckpt_name", "unet_name", "model_path", "base_ckpt_name", "diffusion_model", "model_name",
)  # fmt: skip
_WEIGHTS: Final = (
    "strength_model", "lora_model_strength", "model_weight", "lora_wt", "lora_weight", "strength",
)  # fmt: skip
_MAX_LORAS: Final = 50


def walk(graph: Graph) -> Generation:
    """Return the generation parameters of the image that was made by running a graph."""
    walker = _Walk(graph)
    results = {id(facts): facts for facts in map(walker.facts, _savers(graph))}
    if not results:
        return Generation()
    first, *others = results.values()
    return Generation(
        **{
            field: getattr(first, field)
            for field in NAMES
            if all(getattr(other, field) == getattr(first, field) for other in others)
        }
    )


def _savers(graph: Graph) -> list[Node]:
    """Return the nodes that save images.

    If there are none, return the nodes that receive an image and whose outputs are not used. Nodes
    for previews are returned only if there are no others.
    """
    sinks = {
        node_id: node
        for node_id, node in graph.nodes.items()
        if graph.link(node, *_PICTURES) is not None
    }
    savers = [node for node in sinks.values() if _has_words(node, _SAVER)]
    if savers:
        return savers
    used = {target for node in graph.nodes.values() for target in graph.links(node).values()}
    unused = [node for node_id, node in sinks.items() if node_id not in used]
    return [node for node in unused if not _has_words(node, _PREVIEW)] or unused


def _has_words(node: Node, pairs: tuple[tuple[str, str], ...]) -> bool:
    kind = node.kind.lower()
    return any(second in kind.partition(first)[2] for first, second in pairs)


class _Walk:
    """Search from nodes that save images. Results are cached, since paths share nodes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._texts: dict[tuple[str, str], str | None] = {}
        self._samplers: dict[frozenset[str], Node | None] = {}
        self._facts: dict[str | None, Generation] = {None: Generation()}

    def facts(self, saver: Node) -> Generation:
        sampler = _or_none(lambda: self._nearest(saver, _PICTURES))
        number = None if sampler is None else sampler.number
        if sampler is not None and number not in self._facts:
            self._facts[number] = self._facts_of(sampler)
        return self._facts[number]

    def _facts_of(self, sampler: Node) -> Generation:
        guider = self._linked_node(sampler, "guider") or sampler
        scheduler = self._find_upstream(sampler, "sigmas", ("scheduler", "steps")) or sampler
        algorithm = self._find_upstream(sampler, "sampler", ("sampler_name",)) or sampler
        width, height = _or_none(lambda: self._size(sampler)) or (None, None)
        return Generation(
            prompt=text(_or_none(lambda: self._prompt(guider, "positive"))),
            negative_prompt=text(_or_none(lambda: self._prompt(guider, "negative"))),
            seed=whole(_or_none(lambda: self._seed(sampler)), MAX_SEED),
            steps=whole(_or_none(lambda: self._graph.whole(scheduler.inputs.get("steps")))),
            cfg_scale=number(_or_none(lambda: self._graph.number(guider.inputs.get("cfg")))),
            sampler=name(_or_none(lambda: self._graph.text(algorithm.inputs.get("sampler_name")))),
            scheduler=name(_or_none(lambda: self._graph.text(scheduler.inputs.get("scheduler")))),
            model=name(_or_none(lambda: self._model(guider))),
            loras=_or_none(lambda: self._loras(guider)),
            width=width,
            height=height,
        )

    # The sampler

    def _nearest(self, start: Node, names: tuple[str, ...]) -> Node:
        """Return the sampler that is the fewest links away, by links for pixels and latents."""
        level = {node_id for key in names if (node_id := self._graph.link(start, key)) is not None}
        targets = frozenset(level)
        if targets not in self._samplers:
            self._samplers[targets] = _or_none(lambda: self._nearest_from(level))
        sampler = self._samplers[targets]
        if sampler is None:
            raise Ambiguous
        return sampler

    def _nearest_from(self, level: set[str]) -> Node:
        seen = set(level)
        while level:
            samplers = [
                node_id for node_id in level if _is_sampler(self._graph, self._graph.nodes[node_id])
            ]
            if len(samplers) > 1:
                raise Ambiguous
            if samplers:
                return self._graph.nodes[samplers[0]]
            below = {
                target
                for node_id in level
                for key, target in self._graph.links(self._graph.nodes[node_id]).items()
                if key not in _NO_PICTURE
            }
            level = below - seen
            seen |= below
        raise Ambiguous

    def _seed(self, sampler: Node, depth: int = 0) -> int:
        """Return the seed. If the sampler adds no noise, return the seed of an earlier sampler."""
        source = self._linked_node(sampler, "noise") or sampler
        seed = _first_input(source, _SEEDS)
        is_off = sampler.inputs.get("add_noise") in ("disable", False)
        if is_off or source.kind == "DisableNoise":
            if depth > MAX_DEPTH:
                raise Ambiguous
            previous = self._nearest(sampler, ("latent_image", "samples", "latent"))
            return self._seed(previous, depth + 1)
        return self._graph.whole(seed)

    def _size(self, sampler: Node) -> tuple[int, int]:
        """Return the width and height of the empty latent image that the first sampler gets."""
        node_id = self._graph.link(sampler, "latent_image", "samples", "latent")
        for _ in range(MAX_DEPTH):
            if node_id is None:
                break
            node = self._graph.nodes[self._graph.skip_passing(node_id)]
            if "width" in node.inputs and "height" in node.inputs:
                whole_of = self._graph.whole
                return whole_of(node.inputs["width"]), whole_of(node.inputs["height"])
            if not _is_sampler(self._graph, node):
                break
            node_id = self._graph.link(node, "latent_image", "samples", "latent")
        raise Ambiguous

    # Texts

    def _prompt(self, guider: Node, role: str) -> str:
        node_id = self._graph.link(guider, *_ROLES[role])
        if node_id is None:
            raise Ambiguous
        prompt = self._text_at(node_id, role, 0)
        self._graph.budget.produce(len(prompt))
        return prompt

    def _text_at(self, node_id: str, role: str, depth: int) -> str:
        if (node_id, role) not in self._texts:
            self._texts[node_id, role] = None  # makes a cycle of links ambiguous
            self._texts[node_id, role] = _or_none(lambda: self._read_text(node_id, role, depth))
        prompt = self._texts[node_id, role]
        if prompt is None:
            raise Ambiguous
        return prompt

    def _read_text(self, node_id: str, role: str, depth: int) -> str:
        node = self._graph.nodes[node_id]
        if depth > MAX_DEPTH:
            raise Ambiguous
        if node.kind == "ConditioningZeroOut" and role == "negative":
            return ""
        texts = self._own_texts(node, role)
        if texts is None:
            texts = {self._text_at(source, role, depth + 1) for source in self._sources(node, role)}
        if len(texts) != 1:
            raise Ambiguous
        return texts.pop()

    def _own_texts(self, node: Node, role: str) -> set[str] | None:
        """Return the texts that a node encodes, or None if its inputs are encoded prompts."""
        inputs = node.inputs
        if isinstance(inputs.get(role), str):
            return {inputs[role]}
        for key in _ALWAYS:
            if key in inputs:
                return {self._graph.text(inputs[key])}
        together = {self._graph.text(inputs[key]) for key in _TOGETHER if key in inputs}
        if not together:
            return None
        return together - {""} or {""}

    def _sources(self, node: Node, role: str) -> Iterator[str]:
        """Return the ids of the nodes whose encoded prompts a node changes or joins."""
        links = self._graph.links(node)
        own = [links[key] for key in _ROLES[role] if key in links]
        if own:
            return iter(own[:1])
        joined = [source for key, source in links.items() if key.startswith("conditioning")]
        if joined or is_passing(node):
            return iter(joined or links.values())
        raise Ambiguous

    # The model

    def _chain(self, guider: Node) -> Iterator[Node]:
        """Yield the nodes through which the model passes, from the sampler back to the loader."""
        node_id = self._graph.link(guider, "model")
        for _ in range(MAX_DEPTH):
            if node_id is None:
                raise Ambiguous
            node = self._graph.nodes[node_id]
            yield node
            if any(key in node.inputs for key in _MODELS):
                return
            links = self._graph.links(node)
            node_id = links.get("model")
            if node_id is None and len(links) == 1:
                (node_id,) = links.values()

    def _model(self, guider: Node) -> str:
        *_, loader = self._chain(guider)
        return self._graph.text(_first_input(loader, _MODELS))

    def _loras(self, guider: Node) -> tuple[Lora, ...]:
        loras: list[Lora] = []
        for node in self._chain(guider):
            for loader in self._stack(node):
                loras = [*_loras_of(self._graph, loader), *loras]
                if len(loras) > _MAX_LORAS:
                    raise Ambiguous
        return tuple(loras)

    def _stack(self, node: Node) -> Iterator[Node]:
        passed: set[str] = set()
        for _ in range(MAX_DEPTH):
            if node.number in passed:
                raise Ambiguous
            passed.add(node.number)
            yield node
            node_id = self._graph.link(node, "lora_stack")
            if node_id is None:
                return
            node = self._graph.nodes[node_id]

    # Other nodes

    def _linked_node(self, node: Node, key: str) -> Node | None:
        node_id = self._graph.link(node, key)
        return None if node_id is None else self._graph.nodes[node_id]

    def _find_upstream(self, node: Node, key: str, names: tuple[str, ...]) -> Node | None:
        node_id = self._graph.link(node, key)
        for _ in range(MAX_DEPTH):
            if node_id is None:
                return None
            upstream = self._graph.nodes[node_id]
            if any(name_ in upstream.inputs for name_ in names):
                return upstream
            links = self._graph.links(upstream)
            node_id = next(iter(links.values())) if len(links) == 1 else None
        return None


def _or_none(resolve: Callable[[], T]) -> T | None:
    try:
        return resolve()
    except Ambiguous:
        return None


def _is_sampler(graph: Graph, node: Node) -> bool:
    links = graph.links(node)
    if "guider" in links and "noise" in links:
        return True
    has_seed = any(key in node.inputs for key in _SEEDS)
    return has_seed and any(key in links for key in _FEEDS)


def _loras_of(graph: Graph, node: Node) -> list[Lora]:
    """Return the LoRAs that a node adds. Nodes have one of three known forms of inputs for them."""
    inputs = node.inputs
    graph.budget.look(len(inputs) + _MAX_LORAS)
    candidates = [
        lora(item.get("lora"), item.get("strength"))
        for item in inputs.values()
        if isinstance(item, dict) and item.get("on")
    ]
    most = inputs.get("lora_count")
    for end in ("", *(f"_{place}" for place in range(1, _MAX_LORAS + 1))):
        lora_name = inputs.get(f"lora_name{end}")
        is_beyond = end and isinstance(most, int) and int(end[1:]) > most
        if lora_name is None or is_beyond or inputs.get(f"switch{end}") == "Off":
            continue
        candidates.append(lora(graph.text(lora_name), _weight(graph, node, end)))
    loras = [item for item in candidates if item is not None]
    graph.budget.produce(sum(len(item.name) for item in loras))
    return loras


def _weight(graph: Graph, node: Node, end: str) -> float | None:
    weight = _first_input(node, (f"{weight_name}{end}" for weight_name in _WEIGHTS))
    return _or_none(lambda: graph.number(weight))


def _first_input(node: Node, names: Iterable[str]) -> object:
    return next((node.inputs[key] for key in names if key in node.inputs), None)
