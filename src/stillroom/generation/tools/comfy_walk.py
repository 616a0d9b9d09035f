"""Search of a ComfyUI graph for the generation parameters of an image.

The search begins at the node that saves the image, and follows links back to the nearest sampler.
If several nodes save images, only the parameters on which they agree are returned.
"""

from collections.abc import Iterable
from typing import Final

from stillroom.generation.facts import MAX_SEED, lora, name, number, text, whole
from stillroom.generation.origins import origins_of
from stillroom.generation.tools.comfy_graph import MAX_DEPTH, Graph, Node
from stillroom.wire.generation import NAMES, Generation, Lora

# Pairs of words: the class name of a node matches if it contains both words in this order.
_SAVER: Final = (
    *(("save", form) for form in ("image", "webp", "png", "jpeg", "jpg", "avif")),
    ("image", "sav"),
)
_PREVIEW: Final = (("preview", "image"), ("image", "preview"))
_LOADER: Final = (("load", "image"), ("image", "load"))
_MAX_SAVERS: Final = 50  # with more nodes that save images, origins are not searched
_PICTURES: Final = ("images", "image")
_NO_PICTURE: Final = frozenset((
    "model", "clip", "vae", "positive", "negative", "conditioning", "mask", "control_net",
    "style_model", "clip_vision", "clip_vision_output", "upscale_model", "sampler", "sigmas",
    "guider", "noise", "seed", "noise_seed", "text", "filename_prefix", "lora_stack",
))  # fmt: skip
_FEEDS: Final = ("model", "positive", "conditioning", "guider", "pipe", "basic_pipe")
_LATENTS: Final = ("latent_image", "samples", "latent")
_SEEDS: Final = ("noise_seed", "seed")
_ROLES: Final = {
    "positive": ("positive", "conditioning", "cond1", "conds"),
    "negative": ("negative", "neg_conditioning"),
}
_ALWAYS: Final = ("populated_text", "text", "prompt", "user_prompt")
# Inputs of nodes with several text encoders. The prompt is unknown if their texts differ.
_TOGETHER: Final = ("text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama", "bert", "mt5xl")
_MODELS: Final = (
    "ckpt_name", "unet_name", "model_path", "base_ckpt_name", "diffusion_model", "model_name",
)  # fmt: skip
_WEIGHTS: Final = (
    "strength_model", "lora_model_strength", "model_weight", "lora_wt", "lora_weight", "strength",
)  # fmt: skip
_SIDES: Final = ("width", "height")
_MAX_LORAS: Final = 50


def walk(graph: Graph) -> Generation:
    """Return the generation parameters of the image that ComfyUI makes from a graph."""
    walker, savers = _Walk(graph), _savers(graph)
    samplers = dict.fromkeys(walker.nearest_sampler(node, _PICTURES) for node in savers)
    facts = [Generation() if sampler is None else walker.facts(sampler) for sampler in samplers]
    values = {field: {getattr(each, field) for each in facts} for field in NAMES}
    # Each search visits the whole graph, and the prompt needs the rest of the work budget.
    few = savers if len(savers) <= _MAX_SAVERS else ()
    values["derived_from"] = {walker.origins(node) for node in few}
    return Generation(**{field: seen.pop() for field, seen in values.items() if len(seen) == 1})


def _savers(graph: Graph) -> list[Node]:
    """Return the saving nodes, or else the final nodes except previews, or else all final nodes."""
    sinks = [node for node in graph.nodes.values() if graph.link(node, *_PICTURES) is not None]
    savers = [node for node in sinks if _has_words(node, _SAVER)]
    if savers:
        return savers
    used = {target for node in graph.nodes.values() for target in graph.links(node).values()}
    unused = [node for node in sinks if node not in used]
    return [node for node in unused if not _has_words(node, _PREVIEW)] or unused


def _has_words(node: Node, pairs: tuple[tuple[str, str], ...]) -> bool:
    kind = node.kind.lower()
    return any(second in kind.partition(first)[2] for first, second in pairs)


class _Walk:
    """Search in one graph, with a cache of results. An ambiguous result is None."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._texts: dict[tuple[Node, str], str | None] = {}
        self._samplers: dict[frozenset[Node], Node | None] = {}

    def facts(self, sampler: Node) -> Generation:
        """Return the parameters of the image that a sampler makes."""
        graph = self._graph
        guider = graph.link(sampler, "guider") or sampler
        scheduler = self._find_upstream(sampler, "sigmas", ("scheduler", "steps")) or sampler
        algorithm = self._find_upstream(sampler, "sampler", ("sampler_name",)) or sampler
        models = self._models(guider)
        width, height = self._size(sampler)
        return Generation(
            prompt=text(self._prompt(guider, "positive")),
            negative_prompt=text(self._prompt(guider, "negative")),
            seed=whole(self._seed(sampler), MAX_SEED),
            steps=whole(graph.whole(scheduler.inputs.get("steps"))),
            cfg_scale=number(graph.number(guider.inputs.get("cfg"))),
            sampler=name(graph.text(algorithm.inputs.get("sampler_name"))),
            scheduler=name(graph.text(scheduler.inputs.get("scheduler"))),
            model=name(graph.text(_first_input(models[-1], _MODELS))) if models else None,
            loras=self._loras(models),
            width=width,
            height=height,
        )

    def origins(self, saver: Node) -> tuple[str, ...] | None:
        """Return the names of the input images from which a node's image is made."""
        nodes, seen = [saver], {saver}
        for node in nodes:
            targets = self._graph.links(node).values()
            new = dict.fromkeys(target for target in targets if target not in seen)
            seen.update(new)
            nodes += new
        loaders = (node for node in nodes if _has_words(node, _LOADER))
        return origins_of(self._graph.text(node.inputs.get("image")) for node in loaders)

    def nearest_sampler(self, start: Node, names: tuple[str, ...]) -> Node | None:
        """Return the sampler that is the fewest image links away from the inputs `names`."""
        links = (self._graph.link(start, key) for key in names)
        level = frozenset(filter(None, links))
        if level not in self._samplers:
            self._samplers[level] = self._nearest_from(level)
        return self._samplers[level]

    def _nearest_from(self, level: frozenset[Node]) -> Node | None:
        seen = level
        while level:
            samplers = [node for node in level if _is_sampler(self._graph, node)]
            if samplers:
                return samplers[0] if len(samplers) == 1 else None
            below = frozenset(
                target
                for node in level
                for key, target in self._graph.links(node).items()
                if key not in _NO_PICTURE
            )
            level = below - seen
            seen |= below
        return None

    def _seed(self, sampler: Node | None) -> int | None:
        for _ in range(MAX_DEPTH):
            if sampler is None:
                break
            source = self._graph.link(sampler, "noise") or sampler
            is_off = sampler.inputs.get("add_noise") in ("disable", False)
            if not is_off and source.kind != "DisableNoise":
                return self._graph.whole(_first_input(source, _SEEDS))
            sampler = self.nearest_sampler(sampler, _LATENTS)
        return None

    def _size(self, sampler: Node) -> tuple[int | None, int | None]:
        node: Node | None = sampler
        for _ in range(MAX_DEPTH):
            if node is None or not _is_sampler(self._graph, node):
                break
            node = self._graph.skip_passing(self._graph.link(node, *_LATENTS))
            if node is not None and node.inputs.keys() >= set(_SIDES):
                width, height = (self._graph.whole(node.inputs[side]) for side in _SIDES)
                return (None, None) if None in (width, height) else (width, height)
        return None, None

    def _prompt(self, guider: Node, role: str) -> str | None:
        node = self._graph.link(guider, *_ROLES[role])
        prompt = None if node is None else self._text_at(node, role, 0)
        self._graph.budget.produce(len(prompt or ""))
        return prompt

    def _text_at(self, node: Node, role: str, depth: int) -> str | None:
        if (node, role) not in self._texts:
            self._texts[node, role] = None  # for a cycle of links
            self._texts[node, role] = self._read_text(node, role, depth)
        return self._texts[node, role]

    def _read_text(self, node: Node, role: str, depth: int) -> str | None:
        if depth > MAX_DEPTH:
            return None
        if node.kind == "ConditioningZeroOut" and role == "negative":
            return ""
        texts = self._own_texts(node, role)
        if texts is None:
            texts = {self._text_at(source, role, depth + 1) for source in self._sources(node, role)}
        return texts.pop() if len(texts) == 1 else None

    def _own_texts(self, node: Node, role: str) -> set[str | None] | None:
        """Return the texts in a node's own inputs, or None if it only joins other nodes' texts."""
        inputs = node.inputs
        if isinstance(inputs.get(role), str):
            return {inputs[role]}
        for key in _ALWAYS:
            if key in inputs:
                return {self._graph.text(inputs[key])}
        together = {self._graph.text(inputs[key]) for key in _TOGETHER if key in inputs}
        return (together - {""} or {""}) if together else None

    def _sources(self, node: Node, role: str) -> Iterable[Node]:
        links = self._graph.links(node)
        own = [links[key] for key in _ROLES[role] if key in links]
        joined = [source for key, source in links.items() if key.startswith("conditioning")]
        return own[:1] or joined or (links.values() if node.is_passing else ())

    def _models(self, guider: Node) -> list[Node]:
        """Return the chain of nodes from the model input of a sampler or guider to the loader."""
        models: list[Node] = []
        node = self._graph.link(guider, "model")
        while node is not None and len(models) < MAX_DEPTH:
            models.append(node)
            if any(key in node.inputs for key in _MODELS):
                return models
            node = self._graph.links(node).get("model") or self._graph.only_link(node)
        return [] if node is None else models

    def _loras(self, models: list[Node]) -> tuple[Lora, ...] | None:
        loras: list[Lora] = []
        for model in models:
            passed: set[Node] = set()
            node: Node | None = model
            while node is not None:
                added = _loras_of(self._graph, node)
                if added is None or node in passed or len(loras) + len(added) > _MAX_LORAS:
                    return None
                loras = [*added, *loras]
                passed.add(node)
                node = self._graph.link(node, "lora_stack")
        return tuple(loras) if models else None

    def _find_upstream(self, node: Node, key: str, names: tuple[str, ...]) -> Node | None:
        upstream = self._graph.link(node, key)
        for _ in range(MAX_DEPTH):
            if upstream is None or not upstream.inputs.keys().isdisjoint(names):
                return upstream
            upstream = self._graph.only_link(upstream)
        return None


def _is_sampler(graph: Graph, node: Node) -> bool:
    links = graph.links(node)
    if "guider" in links and "noise" in links:
        return True
    has_seed = any(key in node.inputs for key in _SEEDS)
    return has_seed and any(key in links for key in _FEEDS)


def _loras_of(graph: Graph, node: Node) -> list[Lora] | None:
    """Return the LoRAs that a node adds, or None if the name of one of them is unknown."""
    inputs = node.inputs
    graph.budget.look(len(inputs) + _MAX_LORAS)
    candidates = [
        lora(item.get("lora"), item.get("strength"))
        for item in inputs.values()
        if isinstance(item, dict) and item.get("on")
    ]
    most = inputs.get("lora_count")
    for place in range(_MAX_LORAS + 1):
        end = f"_{place}" if place else ""
        is_beyond = isinstance(most, int) and place > max(most, 0)
        value = inputs.get(f"lora_name{end}")
        if value is None or is_beyond or inputs.get(f"switch{end}") == "Off":
            continue
        lora_name = graph.text(value)
        if lora_name is None:
            return None
        weight = _first_input(node, (f"{weight_name}{end}" for weight_name in _WEIGHTS))
        candidates.append(lora(lora_name, graph.number(weight)))
    loras = [item for item in candidates if item is not None]
    graph.budget.produce(sum(len(item.name) for item in loras))
    return loras


def _first_input(node: Node, names: Iterable[str]) -> object:
    return next((node.inputs[key] for key in names if key in node.inputs), None)
