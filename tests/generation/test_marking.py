"""The mark put into images that are encoded already: found again, and no pixel changed."""

import io
import struct
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from generation import carriers as at
from generation.test_writing import FACTS, XMP, facts_in, pixels
from generation.whole import find_in
from services.exiftool import read_by_exiftool
from stillroom.errors import InvalidParameter, UnsupportedMedia
from stillroom.generation.carriers.xmp import TRAINED
from stillroom.generation.writing.embed import with_generation
from stillroom.generation.writing.mark import with_ai_mark

FORMS = ("PNG", "JPEG", "WEBP", "AVIF")


@pytest.mark.parametrize("form", FORMS)
def test_a_marked_image_says_so_and_no_pixel_has_changed(form: str) -> None:
    marked = with_ai_mark(at.PLAIN[form])

    assert find_in(marked).ai_mark == "iptc"
    assert pixels(marked) == pixels(at.PLAIN[form])
    assert marked.count(b"<rdf:RDF") == 1


def of_items(avif: bytes, more: int) -> bytes:
    """An AVIF with more items, which have no bytes."""
    entries = b"".join(
        at.box(
            b"infe", struct.pack(">IHH4s", 2 << 24, 100 + number, 0, b"mime") + b"\0text/plain\0"
        )
        for number in range(more)
    )
    changed = bytearray(avif)
    for box, size in ((b"meta", len(entries)), (b"iinf", len(entries))):
        place = changed.index(box) - 4
        struct.pack_into(">I", changed, place, struct.unpack_from(">I", changed, place)[0] + size)
    information = changed.index(b"iinf")
    (count,) = struct.unpack_from(">H", changed, information + 8)
    struct.pack_into(">H", changed, information + 8, count + more)
    offset = changed.index(b"iloc") + 18  # of the only item, the image
    struct.pack_into(
        ">I", changed, offset, struct.unpack_from(">I", changed, offset)[0] + len(entries)
    )
    end = information - 4 + struct.unpack_from(">I", avif, information - 4)[0]
    return bytes(changed[:end] + entries + changed[end:])


def test_an_avif_of_many_items_is_marked() -> None:
    many = of_items(at.PLAIN["AVIF"], 300)

    marked = with_ai_mark(many)

    assert find_in(marked).ai_mark == "iptc"
    assert pixels(marked) == pixels(many) == pixels(at.PLAIN["AVIF"])


@pytest.mark.parametrize("form", FORMS)
def test_what_is_marked_already_stays_as_it_is(form: str) -> None:
    once = with_ai_mark(at.PLAIN[form])
    composite = at.with_xmp(form, at.iptc("compositeWithTrainedAlgorithmicMedia"))
    manifest = at.with_c2pa(form, at.jumbf())

    for data in (once, composite, manifest):
        assert with_ai_mark(data) == data


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("how", ["exif", "xmp", "icc_profile"])
def test_whatever_else_is_in_the_image_stays(form: str, how: str) -> None:
    from pictures import srgb_profile

    value = {"exif": b"Exif\0\0" + at.commented("a camera"), "icc_profile": srgb_profile()}
    plain = at.with_xmp(form, XMP) if how == "xmp" else at.picture(form, **{how: value[how]})

    marked = with_ai_mark(plain)

    assert find_in(marked).ai_mark == "iptc"
    assert pixels(marked) == pixels(plain)
    with Image.open(io.BytesIO(marked)) as image:
        if how == "xmp":
            packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"].encode()
            assert b"<dc:title>kept</dc:title>" in packet
            assert packet.count(b"<rdf:RDF") == 1
        else:
            assert image.info[how].removeprefix(b"Exif\0\0") == value[how].removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_xmp", [False, True])
def test_facts_and_mark_can_be_put_in_again_and_change_nothing(form: str, *, has_xmp: bool) -> None:
    plain = at.with_xmp(form, XMP) if has_xmp else at.PLAIN[form]

    both = with_ai_mark(with_generation(plain, FACTS))

    assert (find_in(both).ai_mark, facts_in(both)["seed"]) == ("iptc", 2**64 - 1)
    assert with_ai_mark(with_generation(both, FACTS)) == both
    assert pixels(both) == pixels(plain)


@pytest.mark.slow  # it is installed by `make test`
def test_exiftool_finds_the_mark_in_each_and_nothing_to_warn_of(tmp_path: Path) -> None:
    plain = {f"plain.{form.lower()}": at.PLAIN[form] for form in FORMS}
    with_xmp = {f"xmp.{form.lower()}": at.with_xmp(form, XMP) for form in FORMS}
    facts = {f"facts.{form.lower()}": with_generation(at.PLAIN[form], FACTS) for form in FORMS}
    files = {name: with_ai_mark(data) for name, data in {**plain, **with_xmp, **facts}.items()}

    found = read_by_exiftool(tmp_path, files)

    assert found == {name: {"DigitalSourceType": TRAINED, "ImageWidth": 8} for name in files}


def test_a_compressed_packet_of_a_png_is_replaced_by_a_plain_one() -> None:
    marked = with_ai_mark(at.png_itxt("XML:com.adobe.xmp", XMP, compressed=True))

    assert marked.count(b"XML:com.adobe.xmp") == 1
    with Image.open(io.BytesIO(marked)) as image:
        packet = image.info["XML:com.adobe.xmp"]
    assert "<dc:title>kept</dc:title>" in packet
    assert "trainedAlgorithmicMedia" in packet


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_another_source_is_refused(form: str) -> None:
    with pytest.raises(InvalidParameter, match="digitalCapture"):
        with_ai_mark(at.with_xmp(form, at.iptc("digitalCapture")))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        b"GIF89a" + bytes(30),
        at.mp4(),
        at.PLAIN["PNG"][:50],
        at.PLAIN["JPEG"][:20],
        at.PLAIN["WEBP"][:20],
        at.PLAIN["AVIF"][:60],
        at.with_xmp("PNG", XMP[:-30]),
        at.with_xmp("WEBP", "<a/>"),
        at.with_xmp("JPEG", XMP + " " * 65_000),
        at.with_xmp("PNG", XMP + " " * 10 * 1024**2),
    ],
)
def test_what_cannot_be_marked_is_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia, match=r"marked|mark"):
        with_ai_mark(data)


@pytest.mark.parametrize("how", [{"lossless": True}, {"quality": 50}, {"alpha": True}])
def test_a_webp_of_each_kind_keeps_its_size_and_alpha(how: dict[str, Any]) -> None:
    out = io.BytesIO()
    mode = "RGBA" if how.pop("alpha", None) else "RGB"
    Image.new(mode, (257, 31), (1, 2, 3, 100)[: len(mode)]).save(out, "WEBP", **how)

    marked = with_ai_mark(out.getvalue())

    with Image.open(io.BytesIO(marked)) as read:
        assert (read.size, read.mode) == ((257, 31), mode)
    assert pixels(marked) == pixels(out.getvalue())
