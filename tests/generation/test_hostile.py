"""Files made to do harm, or broken: no facts, no error, and no great effort."""

import asyncio
import json
import random
import struct
import zlib
from typing import Any

import pytest

from generation import carriers as at
from generation.comfy_graphs import UNTOLD, Made, basic
from generation.corpus import corpus
from generation.whole import find_in
from stillroom.formats.file_parts import FileParts
from stillroom.formats.work_budget import WorkBudget
from stillroom.generation.reading import MAX_BYTES, Found, find, find_by_reading, interpret

PARAMETERS = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 8x6"


def read_in_ranges(data: bytes) -> tuple[Found, list[int]]:
    """What is found by reading as a server does, and how much each read was."""
    reads: list[int] = []

    async def read(start: int, length: int) -> bytes:
        assert 0 <= start <= start + length <= len(data)
        reads.append(length)
        return data[start : start + length]

    return asyncio.run(find_by_reading(len(data), read)), reads


def long_text(tool: str) -> bytes:
    """A megabyte that makes a careless parser go over it again and again."""
    filler = {
        "names": "Steps: 1, " + "a" * 1_000_000,
        "quotes": "Steps: 1, " + 'a: "' * 250_000,
        "commas": "Steps: 1, " + "a: b," * 200_000,
        "loras": "<lora:" * 150_000 + "\nSteps: 1, Seed: 2, Size: 3x3",
        "lines": "\nSteps: 1, " * 90_000,
        "brackets": '"' + "[" * 900_000 + '" -s 1',
        "spaces": '"x"' + " -s" * 300_000,
    }[tool]
    name = "Dream" if tool in ("brackets", "spaces") else "parameters"
    return at.png_with(at.chunk(b"tEXt", name.encode() + b"\0" + filler.encode()))


@pytest.mark.parametrize(
    "tool", ["names", "quotes", "commas", "loras", "lines", "brackets", "spaces"]
)
def test_a_text_is_passed_a_few_times_whatever_is_in_it(tool: str) -> None:
    # A parser that goes back would meet the time-out of the suite.
    assert find_in(long_text(tool)).generation is not None


BOMB = zlib.compress(bytes(50 * 1024**2))
DEEP_XML = "<a>" * 100_000
ENTITIES = (
    '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
)
LOOP = json.dumps({
    "1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}},
    "2": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0]}},
    "3": {"class_type": "KSampler", "inputs": {
        "seed": ["4", 0], "positive": ["5", 0], "model": ["4", 0], "latent_image": ["3", 0],
    }},
    "4": {"class_type": "Reroute", "inputs": {"a": ["4", 0]}},
    "5": {"class_type": "X", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["5", 0]}},
    "6": {"class_type": "X", "inputs": {"conditioning": ["5", 0]}},
})  # fmt: skip
FAN = json.dumps({
    "0": {"class_type": "SaveImage", "inputs": {"images": ["k", 0]}},
    "k": {"class_type": "KSampler", "inputs": {"seed": 1, "positive": ["1", 0]}},
    **{
        str(place): {"class_type": "X", "inputs": {
            f"conditioning_{way}": [str(place + 1), way] for way in range(20)
        }}
        for place in range(1, 90)
    },
})  # fmt: skip
HOSTILE = {
    "empty": b"",
    "signature": b"\x89PNG\r\n\x1a\n",
    "bomb-ztxt": at.png_with(at.chunk(b"zTXt", b"parameters\0\0" + BOMB)),
    "bomb-itxt": at.png_with(at.chunk(b"iTXt", b"parameters\0\1\0\0\0" + BOMB)),
    "bombs": at.png_with(*(at.chunk(b"zTXt", b"a%d\0\0" % n + BOMB) for n in range(15))),
    "not-zlib": at.png_with(at.chunk(b"zTXt", b"parameters\0\0nothing")),
    "no-separator": at.png_with(at.chunk(b"iTXt", b"parameters")),
    "length": at.png_with(struct.pack(">I", 2**32 - 1) + b"tEXtparameters"),
    "many-chunks": at.png_with(*[at.chunk(b"tEXt", b"")] * 80_000),
    "deep-json": at.png({"prompt": "{" + '"a":{' * 200_000}),
    "wide-json": at.png({"prompt": '{"a":[' + "[]," * 300_000 + "[]]}"}),
    "json-list": at.png({"sd-metadata": "[]", "invokeai_metadata": "7"}),
    "nothing-of-a-graph": at.png({"prompt": '{"1": 5, "2": {"inputs": {}}}'}),
    "graph-loop": at.png({"prompt": LOOP}),
    "graph-fan": at.png({"prompt": FAN}),
    "xmp-entities": at.with_xmp("PNG", ENTITIES),
    "xmp-deep": at.with_xmp("PNG", DEEP_XML),
    "xmp-encoding": at.with_xmp("PNG", '<?xml version="1.0" encoding="nonsense"?><a/>'),
    "exif-loop": at.with_exif("JPEG", b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08"),
    "exif-far": at.with_exif("JPEG", b"II*\0\x08\0\0\0\1\0\x86\x92\7\0\xff\xff\xff\xff\1\0\0\0"),
    "exif-short": at.with_exif("WEBP", b"II*\0"),
    "jpeg-markers": b"\xff\xd8" + b"\xff" * 1_000_000,
    "jpeg-segments": b"\xff\xd8" + b"\xff\xe1\0\2" * 200_000,
    "webp-chunks": b"RIFF\xff\xff\xff\xffWEBP" + b"EXIF\0\0\0\0" * 100_000,
    "boxes": b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 100_000,
    "wide-box": b"\0\0\0\x14ftypavif\0\0\0\0\0\0\0\0" + b"\0\0\0\1meta" + b"\xff" * 8,
    "jxl-short": at.jxl(b"Exif", b"\0"),
    "jxl-xml": at.jxl(b"xml ", b"<"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_gives_no_prompt_and_no_error(name: str) -> None:
    data = HOSTILE[name]

    found, reads = read_in_ranges(data)

    assert sum(reads) <= MAX_BYTES
    for one in (found, find_in(data)):
        assert one.generation is None or one.generation.prompt is None
        if one.generation is not None:
            json.dumps(one.generation.as_json(), allow_nan=False).encode()


@pytest.mark.parametrize("made", UNTOLD)
def test_what_is_ambiguous_in_a_graph_is_not_told(made: Made) -> None:
    graph = made("a fox", "blurry", 7)
    found = find_in(at.png({"prompt": json.dumps(graph)})).generation

    assert found is not None
    facts = found.as_json()
    assert [facts[name] for name in UNTOLD[made]] == [None] * len(UNTOLD[made])
    assert facts["raw"] == {"prompt": graph}


def test_broken_text_beside_good_text_costs_only_itself() -> None:
    broken = at.chunk(b"zTXt", b"prompt\0\0nothing")
    good = at.chunk(b"tEXt", b"parameters\0" + PARAMETERS.encode())

    found = find_in(at.png_with(broken, good))

    assert found.generation is not None
    assert (found.generation.seed, found.broken) == (5, True)


def test_reading_in_ranges_finds_what_reading_all_finds() -> None:
    for sample in corpus()[::5]:
        found, reads = read_in_ranges(sample.data)
        assert found == find_in(sample.data)
        assert len(reads) <= 3


@pytest.mark.parametrize("kind", [b"tEXt", b"comf"])
def test_text_behind_megabytes_of_pixels_takes_two_reads(kind: bytes) -> None:
    pixels = [at.chunk(b"IDAT", random.Random(place).randbytes(65_536)) for place in range(60)]
    graph = json.dumps(basic("a fox", "blurry", 7)).encode()
    text = at.chunk(kind, b"prompt\0" + graph)
    plain = at.PLAIN["PNG"]
    data = plain[:33] + b"".join(pixels) + text + plain[-12:]

    found, reads = read_in_ranges(data)

    assert found.generation is not None
    assert (found.generation.prompt, len(reads)) == ("a fox", 2)


def test_no_change_of_one_byte_makes_an_error() -> None:
    chosen = random.Random(5)
    for sample in corpus()[::23]:
        for _ in range(40):
            data = bytearray(sample.data)
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            find_in(bytes(data))
        for _ in range(10):
            find_in(sample.data[: chosen.randrange(len(sample.data))])
            read_in_ranges(sample.data[: chosen.randrange(1, len(sample.data))])


ODD: list[Any] = [
    None, True, -1, 7, 1.5, "", "x", "7", [], {}, [[]], ["x", 0], ["3", 0], {"a": {}}, [{}], 1e300,
]  # fmt: skip


def changed(value: Any, chosen: random.Random) -> Any:
    """A copy in which something is of another type."""
    if isinstance(value, dict | list) and value and chosen.random() < 0.8:
        key = chosen.choice(list(value) if isinstance(value, dict) else range(len(value)))
        copy = value.copy()
        copy[key] = changed(value[key], chosen)
        return copy
    return chosen.choice(ODD)


def test_no_change_of_a_type_makes_an_error() -> None:
    chosen = random.Random(7)
    for sample in corpus()[::3]:
        found = find_in(sample.data).generation
        raw = {"UserComment": "xmp:exif:UserComment", "parameters": "parameters"}
        if found is None or found.raw is None:
            continue
        texts = {raw.get(name, name): value for name, value in found.raw.items()}
        for _ in range(30):
            other = {
                name: json.dumps(changed(value, chosen)) if isinstance(value, dict) else value
                for name, value in texts.items()
            }
            tool = {"Software": "NovelAI", "xmp:xmp:CreatorTool": "Draw Things"}
            facts = interpret(
                {**tool, **{name: str(one) for name, one in other.items()}}, WorkBudget()
            )
            if facts.generation is not None:
                json.dumps(facts.generation.as_json(), allow_nan=False).encode()


def test_parts_that_are_here_are_taken_from_wherever_they_are() -> None:
    data = at.png({"parameters": PARAMETERS})
    parts = FileParts(len(data), len(data) * 2)
    for start in range(0, len(data), 40):
        parts.add(start, data[start : start + 200])

    assert find(parts).generation == find_in(data).generation


def test_a_small_photo_has_no_facts() -> None:
    camera = at.tiff(
        {0x010F: (at.ASCII, b"Canon\0"), 0x0110: (at.ASCII, b"EOS R5\0")},
        {0x9286: b"ASCII\0\0\0at the beach, f/8: sunny"},
        ">",
    )
    assert find_in(at.with_exif("JPEG", camera)) == Found(None, ai_mark="none")


def test_japanese_comments_are_read_in_their_old_encoding() -> None:
    text = "夜の街\nSteps: 20, Sampler: Euler, CFG scale: 7, Seed: 5"
    found = find_in(at.with_exif("JPEG", at.commented(text, "jis"))).generation

    assert found is not None
    assert (found.prompt, found.seed) == ("夜の街", 5)
