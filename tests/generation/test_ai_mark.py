"""The mark that says made by AI: found where the standards put it, and null where it is hidden."""

import asyncio
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from generation import carriers as at
from generation.whole import find_in
from stillroom.generation.reading import MAX_BYTES, by_reading, find_mark
from stillroom.wire.generation import AiMark

SIGNED = Path(__file__).parent / "signed"
FORMS = ("PNG", "JPEG", "WEBP", "AVIF")
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def mark_in(data: bytes) -> AiMark | None:
    """The mark as a server finds it, in ranges; the whole file at once must say the same."""
    held = 0

    async def read(start: int, length: int) -> bytes:
        nonlocal held
        held += length
        return data[start : start + length]

    found = asyncio.run(by_reading(len(data), read, find_mark))
    assert held <= MAX_BYTES
    assert find_in(data).ai_mark == found
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_plain_picture_has_none(form: str) -> None:
    assert mark_in(at.PLAIN[form]) == "none"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "term", ["trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"]
)
@pytest.mark.parametrize("how", ["element", "resource", "attribute"])
def test_the_property_is_found_in_each_of_its_forms(form: str, term: str, how: str) -> None:
    assert mark_in(at.with_xmp(form, at.iptc(term, how))) == "iptc"


@pytest.mark.parametrize("form", FORMS)
def test_another_source_is_no_mark(form: str) -> None:
    assert mark_in(at.with_xmp(form, at.iptc("digitalCapture"))) == "none"


@pytest.mark.parametrize("how", ["element", "attribute"])
def test_the_source_of_an_ingredient_is_not_that_of_the_picture(how: str) -> None:
    packet = at.iptc(form=how)
    inner = packet[packet.index("<rdf:Description") : packet.index("</rdf:RDF>")]
    outer = f'<rdf:Description rdf:about=""><m:Ingredients xmlns:m="m">{inner}</m:Ingredients>'
    composed = packet.replace(inner, f"{outer}</rdf:Description>")

    assert mark_in(at.with_xmp("PNG", composed)) == "none"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [200, 150_000])
def test_a_manifest_is_found_whatever_its_size(form: str, size: int) -> None:
    assert mark_in(at.with_c2pa(form, at.jumbf(size))) == "c2pa"


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.avif", "a.mp4"])
def test_a_manifest_of_the_reference_library_is_found(name: str) -> None:
    """As c2pa-python 0.38.1 has signed these files, with a certificate made for that."""
    assert mark_in((SIGNED / name).read_bytes()) == "c2pa"


@pytest.mark.parametrize("form", FORMS)
def test_both_are_both(form: str) -> None:
    marked = at.with_xmp(form, at.iptc())
    if form == "AVIF":
        # Its items are found by their places, which a box in front of them would move.
        uuid = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
        content = uuid + bytes(4) + b"manifest\0" + bytes(8) + at.jumbf()
        assert mark_in(marked + at.box(b"uuid", content)) == "both"
    else:
        assert mark_in(at.with_c2pa(form, at.jumbf(), marked)) == "both"


@pytest.mark.parametrize("behind", [False, True])
def test_a_video_says_it_in_boxes_of_its_own(*, behind: bool) -> None:
    manifest = at.box(
        b"uuid",
        bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
        + bytes(4)
        + b"manifest\0"
        + bytes(8)
        + at.jumbf(),
    )
    packet = at.box(b"uuid", XMP_BOX + at.iptc().encode())

    assert mark_in(at.mp4(behind=behind)) == "none"
    assert mark_in(at.mp4(manifest, behind=behind)) == "c2pa"
    assert mark_in(at.mp4(packet, behind=behind)) == "iptc"
    assert mark_in(at.mp4(packet, manifest, behind=behind)) == "both"


def test_a_fragmented_video_is_read_up_to_its_first_fragment() -> None:
    fragments = at.box(b"moof", bytes(100)) * 500
    assert mark_in(at.mp4(fragments, behind=True)) == "none"


def test_text_behind_the_pixels_of_a_png_is_found_as_exiftool_writes_it() -> None:
    pixels = [at.chunk(b"IDAT", random.Random(place).randbytes(65_536)) for place in range(30)]
    packet = at.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + at.iptc().encode())
    plain = at.PLAIN["PNG"]
    facts = at.chunk(b"tEXt", b"parameters\0a cat\nSteps: 20, Sampler: Euler, Seed: 5")

    assert mark_in(plain[:33] + facts + b"".join(pixels) + packet + plain[-12:]) == "iptc"
    assert mark_in(plain[:33] + facts + b"".join(pixels) + plain[-12:]) == "none"


def test_a_mark_behind_one_chunk_of_pixels_is_found_whatever_the_pixels_look_like() -> None:
    packet = at.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + at.iptc().encode())
    plain = at.PLAIN["PNG"]
    for pixels in (random.Random(1).randbytes(400_000), b"IDAT\0\0\0\1" * 40_000):
        image = plain[:33] + at.chunk(b"IDAT", pixels)
        assert mark_in(image + packet + plain[-12:]) == "iptc"
        assert mark_in(image + plain[-12:]) == "none"


@pytest.mark.parametrize("appended", ["chunks", "another image"])
def test_what_follows_the_end_of_a_png_is_no_part_of_it(appended: str) -> None:
    text = at.chunk(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + at.iptc().encode())
    marked = at.png_with(text, behind=True)
    more = text + marked[-12:] if appended == "chunks" else marked

    assert mark_in(marked) == "iptc"
    assert mark_in(at.PLAIN["PNG"] + more) == "none"


def test_what_is_appended_to_a_png_hides_nothing() -> None:
    packet = at.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + at.iptc().encode())

    assert mark_in(at.PLAIN["PNG"] + b"more") == "none"
    assert mark_in(at.png_with(packet, behind=True) + b"more") == "iptc"


def test_jpeg_xl_has_boxes_for_both() -> None:
    manifest = at.jumbf()
    assert mark_in(at.jxl(b"xml ", at.iptc().encode())) == "iptc"
    assert mark_in(at.jxl(b"jumb", manifest[8:])) == "c2pa"
    assert mark_in(at.jxl(b"brob", b"xml packed")) is None


@pytest.mark.parametrize("data", [b"", b"text", b"GIF89a" + bytes(30), b"{}"])
def test_what_has_no_place_for_a_mark_is_unknown(data: bytes) -> None:
    assert mark_in(data) is None


LARGE_BYTES = 10 * 1024**2
HIDDEN: dict[str, Callable[[], bytes]] = {
    "malformed xmp": lambda: at.with_xmp("PNG", at.iptc()[:-20]),
    "malformed xmp of a webp": lambda: at.with_xmp("WEBP", at.iptc() + "<"),
    "entities": lambda: at.with_xmp("JPEG", '<!DOCTYPE x [<!ENTITY a "b">]>' + at.iptc()),
    "10 MB of xmp in a png": lambda: at.with_xmp("PNG", at.iptc() + " " * LARGE_BYTES),
    "10 MB of xmp in a webp": lambda: at.with_xmp("WEBP", at.iptc() + " " * LARGE_BYTES),
    "10 MB of xmp in an avif": lambda: at.with_xmp("AVIF", at.iptc() + " " * LARGE_BYTES),
    "no jumbf in caBX": lambda: at.with_c2pa("PNG", b"nothing of the kind"),
    "no jumbf in C2PA": lambda: at.with_c2pa("WEBP", bytes(500)),
    "no jumbf in uuid": lambda: at.with_c2pa("AVIF", bytes(500)),
    "jumbf of another kind in caBX": lambda: at.with_c2pa("PNG", at.jumbf(kind=b"json")),
    "a jpeg's box cut off": lambda: (
        at.PLAIN["JPEG"][:2] + b"\xff\xeb\0\x06JP\0\1" + at.PLAIN["JPEG"][2:]
    ),
    "a png cut off": lambda: at.PLAIN["PNG"][:50],
    "a webp cut off": lambda: at.with_xmp("WEBP", at.iptc())[:-40],
    "a png without an end": lambda: at.PLAIN["PNG"][:-8] + b"more",
    "a chunk too long": lambda: at.png_with(struct.pack(">I", 2**31) + b"iTXtx"),
    "10 MB of empty boxes": lambda: b"\0\0\0\x08ftyp" + b"\0\0\0\x08free" * 1_300_000,
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_cannot_be_read_is_unknown_and_not_none(name: str) -> None:
    assert mark_in(HIDDEN[name]()) is None


def test_a_manifest_of_ten_megabytes_in_a_jpeg_is_found_by_its_first_segment() -> None:
    assert mark_in(at.with_c2pa("JPEG", at.jumbf(LARGE_BYTES))) == "c2pa"


def test_another_jumbf_of_a_jpeg_is_no_mark() -> None:
    assert mark_in(at.with_c2pa("JPEG", at.jumbf(kind=b"json"))) == "none"


def test_no_change_of_a_byte_makes_an_error() -> None:
    chosen = random.Random(24)
    for form in FORMS:
        marked = at.with_c2pa(form, at.jumbf(), at.with_xmp(form, at.iptc()))
        for _ in range(60):
            data = bytearray(marked)
            data[chosen.randrange(len(data))] ^= 1 << chosen.randrange(8)
            mark_in(bytes(data))
            mark_in(marked[: chosen.randrange(len(data))])
