"""Graphs and files that Hypothesis makes: nothing of them has to make sense."""

import json
import struct
import zlib
from typing import Any, Final

from hypothesis import strategies as st

from generation import carriers as at

_KINDS: Final = (
    "SaveImage", "PreviewImage", "Image Save", "KSampler", "KSamplerAdvanced", "StringConcatenate",
    "Reroute", "ShowText", "CLIPTextEncode", "ConditioningCombine", "ConditioningZeroOut",
    "DisableNoise", "EmptyLatentImage", "CheckpointLoaderSimple", "LoraLoader", "X", "s0", "s1",
)  # fmt: skip
_INPUTS: Final = (
    "images", "image", "samples", "latent_image", "model", "positive", "negative", "conditioning",
    "conditioning_1", "conditioning_2", "guider", "noise", "sampler", "sigmas", "seed",
    "noise_seed", "steps", "cfg", "sampler_name", "scheduler", "add_noise", "text", "text_g",
    "text_l", "string_a", "string_b", "delimiter", "populated_text", "ckpt_name", "lora_name",
    "lora_name_1", "lora_count", "lora_stack", "strength", "width", "height", "value",
)  # fmt: skip
_NODES: Final = 12

_links = st.tuples(st.integers(0, _NODES).map(str), st.just(0)).map(list)
_values = st.one_of(
    _links, _links, _links, st.text("aä", max_size=50), st.integers(-1, 99), st.none(),
    st.booleans(), st.just({"on": True, "lora": "ink", "strength": 0.5}),
    st.just("disable"), st.just(["0", 0, 0]), st.floats(),
)  # fmt: skip

graphs: Final = st.dictionaries(
    st.integers(0, _NODES).map(str),
    st.fixed_dictionaries({
        "class_type": st.sampled_from(_KINDS),
        "inputs": st.dictionaries(st.sampled_from(_INPUTS), _values, max_size=8),
    }),
    min_size=1,
)  # fmt: skip
"""In the API form, mostly of links, many in circles."""


def _packed(name: str, value: Any) -> bytes:
    said = json.dumps(value).encode()
    return at.chunk(b"zTXt", name.encode() + b"\0\0" + zlib.compress(said, 1))


@st.composite
def _exif(draw: st.DrawFn) -> bytes:
    tags = st.sampled_from((0x9286, 0x010E, 0x0110, 0x8769, 0x0131))
    entries = draw(
        st.lists(
            st.tuples(tags, st.sampled_from((2, 4, 7)), st.integers(0, 5000), st.integers(0, 6000)),
            max_size=600,
        )
    )
    block = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    block += b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return block + draw(st.sampled_from((b"UNICODE\0", b"ASCII\0\0\0"))) + bytes(5000)


@st.composite
def _heif(draw: st.DrawFn) -> bytes:
    numbers = draw(st.lists(st.integers(0, 5), max_size=40))
    extents = draw(st.integers(0, 70))
    sizes = draw(st.sampled_from((0x4400, 0x0000, 0x4440, 0x8800)))
    described = b"".join(
        at.box(b"infe", struct.pack(">IHH4s", 2 << 24, number, 0, kind) + b"\0" + name)
        for number in range(6)
        for kind, name in ((b"Exif", b""), (b"mime", b"\0application/rdf+xml\0"))
    )
    widths = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15
    extent = (100).to_bytes(8, "big")[8 - widths[0] :] + (5000).to_bytes(8, "big")[8 - widths[1] :]
    places = b"".join(
        struct.pack(">HH", number, 0) + bytes(widths[2]) + struct.pack(">H", extents)
        + extent * extents
        for number in numbers
    )  # fmt: skip
    meta = at.box(b"iinf", struct.pack(">IH", 0, 12) + described)
    meta += at.box(b"iloc", struct.pack(">IHH", 0, sizes, len(numbers)) + places)
    head = at.box(b"ftyp", b"avif" + bytes(8)) + at.box(b"meta", bytes(4) + meta) * draw(
        st.integers(1, 3)
    )
    return head + at.box(b"mdat", bytes(6000))


@st.composite
def _xmp(draw: st.DrawFn) -> bytes:
    names = st.sampled_from(("r:Description", "r:li", "a:b", "b", "e:DigitalSourceType"))
    opened = draw(st.lists(names, max_size=40))
    attributes = " ".join(f'a:n{place}="v"' for place in range(draw(st.integers(0, 300))))
    spaces = (
        f'xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:a="{"n" * 1000}" '
        'xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
    )
    inside = "".join(f"<{name} {attributes}>" for name in opened)
    closed = "".join(f"</{name}>" for name in reversed(opened))
    return f"<x {spaces}>{inside}{closed}</x>".encode()


@st.composite
def _settings(draw: st.DrawFn) -> bytes:
    piece = st.sampled_from((
        "Steps: 1, ", "\n", "<lora:a:1>", 'a: "', '\\"', "Negative prompt:", "Seed: 2, Size: 3x3",
        ",", "Version: Fooocus, ", "Lora weights: ", "{", "[", '"prompt"', "-S 1 ",
    ))  # fmt: skip
    said = "".join(draw(st.lists(piece, max_size=60))) * draw(st.sampled_from((1, 1, 50)))
    name = draw(st.sampled_from(("parameters", "Comment", "prompt", "Dream", "sd-metadata")))
    return at.chunk(b"tEXt", name.encode() + b"\0" + said.encode())


_chunks: Final = st.one_of(
    graphs.map(lambda graph: _packed("prompt", graph)),
    _settings(),
    _exif().map(lambda block: at.chunk(b"eXIf", block)),
    _xmp().map(lambda packet: at.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)),
    st.binary(max_size=50).map(lambda data: at.chunk(b"tEXt", data)),
    st.just(struct.pack(">I4s", 200, b"IDAT")),
)
files: Final = st.one_of(
    st.tuples(st.lists(_chunks, max_size=4), st.booleans()).map(
        lambda made: at.png_with(*made[0], behind=made[1])
    ),
    _exif().map(lambda block: at.with_exif("JPEG", block)),
    _exif().map(lambda block: at.with_exif("WEBP", block)),
    _heif(),
)
"""Images that hold what parsers follow: graphs, directories, items and packets."""
