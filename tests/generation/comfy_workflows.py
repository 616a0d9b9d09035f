"""Workflows of ComfyUI as its editor keeps them, with muted, bypassed and rerouted nodes."""

from collections.abc import Callable
from typing import Any, Final

Json = dict[str, Any]


class Editor:
    """A workflow that is being drawn."""

    def __init__(self) -> None:
        self.nodes: list[Json] = []
        self.links: list[list[Any]] = []

    def node(self, number: int, kind: str, *values: Any, mode: int = 0, **inputs: Any) -> None:
        """`inputs`: the type of each, and where its link comes from (node, output), or None."""
        slots = []
        for at, (name, (type_, origin)) in enumerate(inputs.items()):
            link = None
            if origin is not None:
                link = len(self.links) + 1
                self.links.append([link, *origin, number, at, type_])
            slots.append({"name": name, "type": type_, "link": link})
        self.nodes.append({
            "id": number, "type": kind, "mode": mode, "inputs": slots,
            "widgets_values": list(values),
        })  # fmt: skip

    def workflow(self) -> Json:
        return {"version": 0.4, "nodes": self.nodes, "links": self.links}


def _rest(
    editor: Editor,
    seed: int,
    *,
    model: tuple[int, int] = (4, 0),
    positive: tuple[int, int] = (6, 0),
) -> None:
    editor.node(3, "KSampler", seed, "randomize", 20, 7.5, "euler", "karras", 1,
                model=("MODEL", model), positive=("CONDITIONING", positive),
                negative=("CONDITIONING", (7, 0)), latent_image=("LATENT", (5, 0)))  # fmt: skip
    editor.node(4, "CheckpointLoaderSimple", "base.safetensors")
    editor.node(5, "EmptyLatentImage", 1024, 768, 1)
    editor.node(8, "VAEDecode", samples=("LATENT", (3, 0)), vae=("VAE", (4, 2)))
    editor.node(9, "SaveImage", "ComfyUI", images=("IMAGE", (8, 0)))


def plain(prompt: str, negative: str, seed: int) -> Json:
    editor = Editor()
    _rest(editor, seed)
    editor.node(6, "CLIPTextEncode", prompt, clip=("CLIP", (4, 1)))
    editor.node(7, "CLIPTextEncode", negative, clip=("CLIP", (4, 1)))
    return editor.workflow()


def bypassed_lora(prompt: str, negative: str, seed: int) -> Json:
    editor = Editor()
    _rest(editor, seed, model=(10, 0))
    editor.node(6, "CLIPTextEncode", prompt, clip=("CLIP", (10, 1)))
    editor.node(7, "CLIPTextEncode", negative, clip=("CLIP", (10, 1)))
    editor.node(10, "LoraLoader", "off.safetensors", 1, 1, mode=4,
                model=("MODEL", (4, 0)), clip=("CLIP", (4, 1)))  # fmt: skip
    return editor.workflow()


def muted_saver(prompt: str, negative: str, seed: int) -> Json:
    editor = Editor()
    _rest(editor, seed)
    editor.node(6, "CLIPTextEncode", prompt, clip=("CLIP", (4, 1)))
    editor.node(7, "CLIPTextEncode", negative, clip=("CLIP", (4, 1)))
    editor.node(20, "KSampler", 5, "fixed", 9, 1, "ddim", "normal", 1,
                model=("MODEL", (4, 0)), positive=("CONDITIONING", (7, 0)),
                negative=("CONDITIONING", (7, 0)), latent_image=("LATENT", (5, 0)))  # fmt: skip
    editor.node(21, "VAEDecode", samples=("LATENT", (20, 0)), vae=("VAE", (4, 2)))
    editor.node(22, "SaveImage", "x", mode=2, images=("IMAGE", (21, 0)))
    return editor.workflow()


def rerouted(prompt: str, negative: str, seed: int) -> Json:
    """Text and seed come out of primitives, the conditioning goes over a reroute."""
    editor = Editor()
    _rest(editor, 1, positive=(12, 0))
    editor.node(6, "CLIPTextEncode", "old text", clip=("CLIP", (4, 1)), text=("STRING", (13, 0)))
    editor.node(7, "CLIPTextEncode", negative, clip=("CLIP", (4, 1)))
    editor.node(12, "Reroute", input=("*", (6, 0)))
    editor.node(13, "PrimitiveNode", prompt)
    editor.node(14, "PrimitiveNode", seed, "randomize")
    sampler = editor.nodes[0]
    editor.links.append([99, 14, 0, 3, 4, "INT"])
    sampler["inputs"].append(
        {"name": "seed", "type": "INT", "link": 99, "widget": {"name": "seed"}}
    )
    return editor.workflow()


def in_subgraph(prompt: str, negative: str, seed: int) -> Json:
    """Encoders and sampler lie in a subgraph that takes a model and text, and gives a latent."""
    inner = Editor()
    inner.node(3, "KSampler", seed, "fixed", 20, 7.5, "euler", "karras", 1,
               model=("MODEL", (-10, 0)), positive=("CONDITIONING", (6, 0)),
               negative=("CONDITIONING", (7, 0)), latent_image=("LATENT", (5, 0)))  # fmt: skip
    inner.node(5, "EmptyLatentImage", 1024, 768, 1)
    inner.node(6, "CLIPTextEncode", "old", clip=("CLIP", (-10, 1)), text=("STRING", (-10, 2)))
    inner.node(7, "CLIPTextEncode", negative, clip=("CLIP", (-10, 1)))
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(names, link, strict=True)) for link in inner.links]
    links.append(dict(zip(names, (77, 3, 0, -20, 0, "LATENT"), strict=True)))
    called = "5f0e7a9c-1111-2222-3333-444455556666"
    outer = Editor()
    outer.node(4, "CheckpointLoaderSimple", "base.safetensors")
    outer.node(30, "PrimitiveStringMultiline", prompt)
    outer.node(40, called, model=("MODEL", (4, 0)), clip=("CLIP", (4, 1)), text=("STRING", (30, 0)))
    outer.node(8, "VAEDecode", samples=("LATENT", (40, 0)), vae=("VAE", (4, 2)))
    outer.node(9, "SaveImage", "ComfyUI", images=("IMAGE", (8, 0)))
    subgraph = {"id": called, "name": "sampling", "nodes": inner.nodes, "links": links}
    return {**outer.workflow(), "version": 1, "definitions": {"subgraphs": [subgraph]}}


WORKFLOWS: Final[dict[str, Callable[[str, str, int], Json]]] = {
    made.__name__: made for made in (plain, bypassed_lora, muted_saver, rerouted, in_subgraph)
}
