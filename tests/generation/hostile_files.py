"""Small files that say much: parsers that bound bytes alone would work on them for ever."""

import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from generation import carriers as at
from generation.comfy_graphs import Node, basic, node, sampler


def graph_png(graph: dict[str, Any]) -> bytes:
    return deflated_text("prompt", json.dumps(graph, separators=(",", ":"), ensure_ascii=False))


def doubled_text(levels: int, text: str = "") -> bytes:
    graph = basic("", "", 7)
    graph["6"]["inputs"]["text"] = ["t0", 0]
    for level in range(levels):
        below = [f"t{level + 1}", 0] if level < levels - 1 else text
        graph[f"t{level}"] = node("StringConcatenate", string_a=below, string_b=below, delimiter="")
    return graph_png(graph)


def many_savers(savers: int = 2400, nodes: int = 2500, *, apart: bool = True) -> bytes:
    graph: dict[str, Node] = {"k": sampler(latent_image=["k", 0])}
    for place in range(nodes):
        graph[f"n{place}"] = node("X", samples=[f"n{place + 1}" if place < nodes - 1 else "k", 0])
    for place in range(savers // 2 if apart else savers):
        if apart:
            graph[f"d{place}"] = node("X", samples=["n0", 0])
        graph[f"s{place}"] = node("SaveImage", images=[f"d{place}" if apart else "n0", 0])
    return graph_png(graph)


def lora_circles(models: int = 90, stack: int = 90) -> bytes:
    graph = basic("a fox", "blurry", 7)
    graph["3"]["inputs"]["model"] = ["m0", 0]
    for place in range(models):
        below = f"m{place + 1}" if place < models - 1 else "4"
        graph[f"m{place}"] = node("X", model=[below, 0], lora_stack=["c0", 0])
    for place in range(stack):
        named = {f"lora_name_{one}": "a" for one in range(1, 51)}
        graph[f"c{place}"] = node("X", lora_stack=[f"c{(place + 1) % stack}", 0], **named)
    return graph_png(graph)


def many_samplers(count: int = 1600) -> bytes:
    graph = basic("ä" * 200_000, "blurry", 7)
    for place in range(count):
        graph[f"k{place}"] = sampler(seed=place)
        graph[f"s{place}"] = node("SaveImage", images=[f"k{place}", 0])
    return graph_png(graph)


def long_kinds(count: int = 1500) -> bytes:
    """Names of classes in which a pattern goes back and forth."""
    return graph_png({
        str(place): node("save" * 60 + str(place), images=["0", 0]) for place in range(count)
    })  # fmt: skip


def one_long_kind() -> bytes:
    return graph_png({"0": node("save" * 100_000, images=["0", 0])})


def same_comment(entries: int = 511, length: int = 400_000) -> bytes:
    start = 10 + 12 * entries
    block = b"MM\0*" + struct.pack(">IH", 8, entries)
    block += struct.pack(">HHII", at.USER_COMMENT, at.UNDEFINED, length, start) * entries
    return at.png_with(at.chunk(b"eXIf", block + b"UNICODE\0" + bytes(length)))


def lone_surrogates(length: int = 400_000) -> bytes:
    """A comment in UTF-16 in which no code unit is a character: each was an exception."""
    block = b"MM\0*" + struct.pack(">IH", 8, 1)
    block += struct.pack(">HHII", at.USER_COMMENT, at.UNDEFINED, length, 22)
    return at.png_with(at.chunk(b"eXIf", block + b"UNICODE\0" + b"\xd8\0" * (length // 2)))


def overlapping_items(items: int = 180, extents: int = 64, length: int = 1_000_000) -> bytes:
    described = b"".join(
        at.box(b"infe", struct.pack(">IHH4s", 2 << 24, number, 0, b"Exif") + b"\0")
        for number in range(1, items + 1)
    )
    places = b"".join(
        struct.pack(">HHH", number, 0, extents) + struct.pack(">II", 0, length) * extents
        for number in range(1, items + 1)
    )
    meta = at.box(b"iinf", struct.pack(">IH", 0, items) + described)
    meta += at.box(b"iloc", struct.pack(">IHH", 0, 0x4400, items) + places)
    head = at.box(b"ftyp", b"avif" + bytes(8)) + at.box(b"meta", bytes(4) + meta)
    return head + at.box(b"mdat", bytes(length))


def empty_extents(items: int = 200) -> bytes:
    """HEIF items of 65,535 extents, whose numbers have no bytes at all."""
    described = at.box(b"infe", struct.pack(">IHH4s", 2 << 24, 1, 0, b"Exif") + b"\0")
    places = struct.pack(">HHH", 1, 0, 0xFFFF) * items
    meta = at.box(b"pitm", bytes(4) + struct.pack(">H", 1))
    meta += at.box(b"iinf", struct.pack(">IH", 0, 1) + described)
    meta += at.box(b"iloc", struct.pack(">IHH", 0, 0, items) + places)
    return at.box(b"ftyp", b"avif" + bytes(8)) + at.box(b"meta", bytes(4) + meta)


def long_namespace(attributes: int = 40_000, length: int = 300_000) -> bytes:
    named = " ".join(f'a:b{one}=""' for one in range(attributes))
    packet = f'<a:x xmlns:a="{"n" * length}" {named}/>'
    packed = zlib.compress(packet.encode(), 9)
    return at.png_with(at.chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed))


def same_loras(count: int = 60_000) -> bytes:
    named = "".join(f"<lora:a{one}:1>" for one in range(99)) + "<lora:a98:1>" * count
    return deflated_text("parameters", f"{named}\nSteps: 1, Seed: 2, Size: 3x3")


def listed_loras(count: int = 200_000) -> bytes:
    said = f'Steps: 1, Seed: 2, Size: 3x3, Version: Fooocus, Lora weights: "{"a:1," * count}"'
    return deflated_text("parameters", said)


def deflated_text(name: str, text: str) -> bytes:
    packed = zlib.compress(text.encode(), 9)
    return at.png_with(at.chunk(b"zTXt", name.encode() + b"\0\0" + packed))


def false_chunks() -> bytes:
    """A tail that is full of what looks like chunks, each with much in it."""
    false = bytes(300_000) + struct.pack(">I4s", 200_000, b"tEXt") * 30_000
    return at.png_with(at.chunk(b"IDAT", false), behind=True)


def icons(count: int = 65_535) -> bytes:
    return struct.pack("<HHH", 0, 1, count) + bytes(16 * count)


def directory_of_tiff(count: int = 65_535) -> bytes:
    return b"II*\0" + struct.pack("<IH", 8, count) + bytes(12 * count)


HOSTILE: Final[dict[str, Callable[[], bytes]]] = {
    "text doubled 30 times": lambda: doubled_text(30),
    "text doubled 100 times": lambda: doubled_text(100),
    "a text of a gigabyte": lambda: doubled_text(30, "a"),
    "many savers": many_savers,
    "many savers of one image": lambda: many_savers(apart=False),
    "LoRA stacks in circles": lora_circles,
    "many samplers": many_samplers,
    "long names of classes": long_kinds,
    "a very long name of a class": one_long_kind,
    "the same comment 511 times": same_comment,
    "lone surrogates": lone_surrogates,
    "overlapping items": overlapping_items,
    "extents without numbers": empty_extents,
    "long address of a namespace": long_namespace,
    "the same LoRA": same_loras,
    "listed LoRAs": listed_loras,
    "false chunks": false_chunks,
    "icons": icons,
    "directory of a TIFF": directory_of_tiff,
}
"""By what is in them; the first of them are those that stopped a server."""


def hostile_files() -> Iterator[tuple[str, bytes]]:
    for name, made in HOSTILE.items():
        yield name, made()
