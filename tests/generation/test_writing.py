"""Facts put into images that are encoded already: the pixels are the same, and so is the rest."""

import io
import json
import struct
import tracemalloc
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from generation import carriers as at
from generation.whole import find_in
from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.generation.writing.embed import with_generation
from stillroom.generation.writing.mark import with_ai_mark
from stillroom.wire.generation import Generation, Lora

FACTS: dict[str, Any] = {
    "prompt": "a fox & <b>snow</b> 夜 🦊\n",
    "negative_prompt": "",
    "seed": 2**64 - 1,
    "steps": 20,
    "cfg_scale": 7.5,
    "sampler": "euler",
    "scheduler": "karras",
    "model": "sdxl",
    "loras": [{"name": "ink", "weight": 0.8}],
    "width": 1024,
    "height": 768,
    "derived_from": ["cats/1.png"],
    "raw": {"mine": [1, None, True, {"deep": "x"}]},
}
FORMS = ("PNG", "JPEG", "WEBP", "AVIF")
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="uuid:1" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>kept</dc:title>'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def pixels(data: bytes) -> tuple[str, bytes]:
    with Image.open(io.BytesIO(data)) as image:
        return image.mode, image.tobytes()


def facts_in(data: bytes) -> dict[str, Any]:
    found = find_in(data).generation
    assert found is not None
    return {name: value for name, value in found.as_json().items() if value is not None}


@pytest.mark.parametrize("form", FORMS)
def test_what_was_put_in_is_found_again_and_no_pixel_has_changed(form: str) -> None:
    plain = at.PLAIN[form]

    written = with_generation(plain, FACTS)

    assert facts_in(written) == {**FACTS, "tool": "Stillroom"}
    assert pixels(written) == pixels(plain)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["exif", "xmp", "icc_profile"])
def test_whatever_else_is_in_the_image_stays(form: str, how: str) -> None:
    from pictures import srgb_profile

    value = {"exif": b"Exif\0\0" + at.commented("a camera"), "icc_profile": srgb_profile()}
    plain = at.with_xmp(form, XMP) if how == "xmp" else at.picture(form, **{how: value[how]})

    written = with_generation(plain, FACTS)

    assert facts_in(written)["seed"] == 2**64 - 1
    assert pixels(written) == pixels(plain)
    with Image.open(io.BytesIO(written)) as image:
        if how == "xmp":
            packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
            assert b"<dc:title>kept</dc:title>" in packet
        else:
            assert image.info[how].removeprefix(b"Exif\0\0") == value[how].removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_xmp", [False, True])
def test_putting_them_in_twice_is_putting_them_in_once(form: str, *, has_xmp: bool) -> None:
    plain = at.with_xmp(form, XMP) if has_xmp else at.PLAIN[form]
    once = with_generation(plain, FACTS)

    assert with_generation(once, FACTS) == once
    other = with_generation(once, {"prompt": "other"})
    assert facts_in(other) == {"tool": "Stillroom", "prompt": "other"}
    assert with_generation(other, FACTS) == once
    assert pixels(other) == pixels(plain)


@pytest.mark.parametrize("how", [{"lossless": True}, {"quality": 50}, {"alpha": True}])
def test_a_webp_of_each_kind_says_its_size_and_keeps_its_alpha(how: dict[str, Any]) -> None:
    out = io.BytesIO()
    mode = "RGBA" if how.pop("alpha", None) else "RGB"
    image = Image.new(mode, (257, 31), (1, 2, 3, 100)[: len(mode)])
    image.save(out, "WEBP", **how)

    written = with_generation(out.getvalue(), FACTS)

    with Image.open(io.BytesIO(written)) as read:
        assert (read.size, read.mode) == ((257, 31), mode)
    assert pixels(written) == pixels(out.getvalue())


def test_an_animated_webp_keeps_its_frames() -> None:
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 100, 200)]
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True)

    with Image.open(io.BytesIO(with_generation(out.getvalue(), FACTS))) as read:
        assert read.n_frames == 3  # type: ignore[attr-defined]  # of those that are animated


def test_facts_of_ours_stand_above_those_of_a_tool_which_fill_the_rest() -> None:
    parameters = "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 5, Size: 8x6"
    png = at.png({"parameters": parameters, "other": "kept"})

    written = with_generation(png, {"seed": 6, "derived_from": ["a.png"]})

    found = facts_in(written)
    assert (found["tool"], found["prompt"], found["seed"]) == ("A1111", "a cat", 6)
    assert (found["derived_from"], found["raw"]) == (["a.png"], {"parameters": parameters})
    with Image.open(io.BytesIO(written)) as image:
        assert image.info["other"] == "kept"


def test_a_png_keeps_its_chunks_and_what_follows_them() -> None:
    private = at.chunk(b"prIv", b"\1\2")
    png = at.png_with(private) + b"trailing"

    written = with_generation(png, FACTS)

    assert private in written
    assert written.endswith(b"trailing")
    assert len(written) > len(png)


def test_facts_can_be_given_as_an_object_and_numbers_as_those_of_numpy() -> None:
    class Scalar:
        def item(self) -> int:
            return 7

    as_object = Generation(prompt="a fox", seed=7, loras=(Lora("ink", 0.5),))
    as_mapping = {"prompt": "a fox", "seed": Scalar(), "loras": ({"name": "ink", "weight": 0.5},)}

    png = at.PLAIN["PNG"]
    assert with_generation(png, as_mapping) == with_generation(png, as_object)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"promt": "a"}, "generation has no 'promt'"),
        ({"seed": -1}, "'seed'"),
        ({"seed": 2**64}, "'seed'"),
        ({"seed": True}, "'seed'"),
        ({"steps": 1.5}, "'steps'"),
        ({"cfg_scale": float("nan")}, "'cfg_scale'"),
        ({"prompt": 5}, "'prompt'"),
        ({"prompt": "\ud800"}, "'prompt'"),
        ({"loras": "ink"}, "'loras'"),
        ({"loras": [{"weight": 1}]}, "'loras'"),
        ({"raw": ["a"]}, "'raw'"),
        ({"derived_from": "a.png"}, "'derived_from'"),
        ({"raw": {"a": "x" * 600_000}}, "at most"),
    ],
)
def test_what_is_no_fact_is_refused_by_its_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        with_generation(at.PLAIN["PNG"], given)


def test_a_format_that_takes_no_facts_is_refused_with_those_that_do() -> None:
    for data in (at.picture("BMP"), at.picture("GIF"), b"text", b""):
        with pytest.raises(UnsupportedMedia, match="PNG, JPEG, WebP and AVIF"):
            with_generation(data, FACTS)


def test_a_jpeg_has_room_for_64_kilobytes() -> None:
    jpeg = at.PLAIN["JPEG"]
    assert facts_in(with_generation(jpeg, {"prompt": "x" * 60_000}))["prompt"] == "x" * 60_000
    with pytest.raises(InvalidParameter, match="omit `raw`"):
        with_generation(jpeg, {"prompt": "x" * 66_000})


@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_image_is_refused_or_taken_and_never_a_crash(form: str) -> None:
    whole = with_generation(at.PLAIN[form], FACTS)
    for length in range(0, len(whole), 7):
        try:
            with_generation(whole[:length], {"seed": 1})
        except UnsupportedMedia:
            continue
    for place in range(0, len(whole), 5):
        broken = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            with_generation(broken, {"seed": 1})
        except (UnsupportedMedia, InvalidParameter):
            continue


def encoded(image: Image.Image, form: str, **how: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **how)
    return out.getvalue()


def avif(widths: int, *items: tuple[int, bytes]) -> bytes:
    """An AVIF whose items have so many places, the numbers of which have these widths."""
    places = struct.pack(">IHH", 0, widths, len(items)) + b"".join(
        struct.pack(">HHH", number, 0, count) + extents
        for number, (count, extents) in enumerate(items, 1)
    )
    entry = struct.pack(">IHH4s", 2 << 24, 1, 0, b"mime") + b"\0application/rdf+xml\0"
    inner = (
        at.box(b"pitm", struct.pack(">IH", 0, 1)),
        at.box(b"iinf", struct.pack(">IH", 0, 1) + at.box(b"infe", entry)),
        at.box(b"iloc", places),
    )
    kind = at.box(b"ftyp", b"avif\0\0\0\0avif")
    return kind + at.box(b"meta", bytes(4) + b"".join(inner)) + at.box(b"mdat", bytes(10_000))


@pytest.mark.parametrize(
    "data",
    [
        avif(0, *[(65_535, b"")] * 20),
        avif(0x4400, (1000, struct.pack(">II", 0, 10_000) * 1000)),
    ],
    ids=["of no width", "overlapping"],
)
def test_an_avif_of_more_places_than_bytes_costs_no_memory(data: bytes) -> None:
    tracemalloc.start()

    with pytest.raises(UnsupportedMedia):
        with_generation(data, FACTS)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 1024**2


def avif_in_pieces(count: int) -> bytes:
    """An AVIF, the bytes of whose picture are listed as so many extents."""
    plain = encoded(Image.radial_gradient("L"), "AVIF", quality=90)
    head, table, rest = plain.partition(b"iloc\0\0\0\0D\0\0\1\0\1\0\0\0\1")
    start, length = struct.unpack_from(">II", rest)
    grown = 8 * (count - 1)
    places = [(start + at, 1) for at in range(count - 1)]
    places.append((start + count - 1, length - count + 1))
    extents = b"".join(struct.pack(">II", at + grown, size) for at, size in places)
    head = head[:-4] + struct.pack(">I", len(extents) + 22)
    meta = head.index(b"meta") - 4
    grown += int.from_bytes(head[meta : meta + 4], "big")
    head = head[:meta] + struct.pack(">I", grown) + head[meta + 4 :]
    return head + table[:-2] + struct.pack(">H", count) + extents + rest[8:]


LOSSLESS = encoded(Image.new("RGBA", (25, 31), (1, 2, 3, 100)), "WEBP", lossless=True)


def webp_that_begins_with_xmp() -> bytes:
    plain, packet = LOSSLESS, XMP.encode() + b" " * (len(XMP.encode()) % 2)
    body = b"WEBP" + struct.pack("<4sI", b"XMP ", len(packet)) + packet + plain[12:]
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (avif_in_pieces(100), avif_in_pieces(1)),
        (at.png_with(at.chunk(b"IDAT", b"") * 140_000), at.PLAIN["PNG"]),
        (webp_that_begins_with_xmp(), LOSSLESS),
    ],
    ids=["extents", "chunks", "xmp first"],
)
def test_an_unusual_structure_costs_an_image_neither_facts_nor_pixels(
    data: bytes, plain: bytes
) -> None:
    written = with_generation(data, FACTS)

    assert pixels(written) == pixels(plain)
    if b"avif" in data[:12]:  # a reader ignores a picture in so many extents
        assert b"stillroom:generation" in written
    else:
        assert facts_in(written)["seed"] == 2**64 - 1
        assert find_in(with_ai_mark(written)).ai_mark == "iptc"


def test_xmp_that_nothing_can_be_put_into_is_refused() -> None:
    jpeg = at.picture("JPEG", xmp="<x/>".encode("utf-16"))

    with pytest.raises(UnsupportedMedia, match="XMP"):
        with_generation(jpeg, FACTS)


def test_a_png_written_by_pillow_again_keeps_the_facts_if_it_is_asked_to() -> None:
    written = with_generation(at.PLAIN["PNG"], FACTS)
    info = PngInfo()
    with Image.open(io.BytesIO(written)) as image:
        info.add_itxt("stillroom:generation", image.info["stillroom:generation"])
        out = io.BytesIO()
        image.save(out, "PNG", pnginfo=info)

    assert json.loads(image.info["stillroom:generation"])["seed"] == 2**64 - 1
    assert facts_in(out.getvalue())["seed"] == 2**64 - 1
