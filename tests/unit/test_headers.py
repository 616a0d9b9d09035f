"""What a header says, compared with what Pillow says of images that it has made itself."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from in_memory import OpenedBytes
from pictures import picture, srgb_profile
from stillroom.errors import UnsupportedMedia
from stillroom.features.library.headers.probe import Probed, probe
from stillroom.store.content_type import EXTENSION, INLINE, VIDEO

FORMS = {
    "AVIF": "image/avif",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "ICO": "image/x-icon",
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
WITH_PROFILES = ("AVIF", "JPEG", "PNG", "TIFF", "WEBP")


async def probed(data: bytes) -> Probed:
    return await probe(OpenedBytes(data))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [(1, 1), (17, 250)])
async def test_type_and_size_are_those_of_the_image(form: str, size: tuple[int, int]) -> None:
    how: dict[str, Any] = {"sizes": [size]} if form == "ICO" else {}
    found = await probed(picture(form=form, size=size, **how))

    assert (found.content_type, found.width, found.height) == (FORMS[form], *size)
    assert found.extension == EXTENSION[FORMS[form]]


@pytest.mark.parametrize(
    ("form", "how"),
    [
        ("WEBP", {"lossless": True}),
        ("WEBP", {"exif": b"Exif\0\0" + bytes(20)}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"comment": b"\xff" * 60_000}),
        ("PNG", {"compress_level": 0}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_tiff": False}),
    ],
)
async def test_every_variant_of_a_format_is_read(form: str, how: dict[str, Any]) -> None:
    found = await probed(picture(form=form, size=(300, 200), **how))

    assert (found.width, found.height) == (300, 200)


@pytest.mark.parametrize("form", WITH_PROFILES)
async def test_a_profile_is_called_what_little_cms_calls_it(form: str) -> None:
    profile = srgb_profile()
    name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip()

    assert (await probed(picture(form=form, icc_profile=profile))).color_profile == name


@pytest.mark.parametrize("form", WITH_PROFILES)
async def test_an_image_without_a_profile_has_none_or_says_srgb(form: str) -> None:
    expected = "sRGB" if form == "AVIF" else None  # its encoder writes nclx
    assert (await probed(picture(form=form))).color_profile == expected


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    plain = picture()
    extra = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return plain[:33] + extra + plain[33:]


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        ([(b"sRGB", b"\0")], "sRGB"),
        ([(b"sRGB", b"\0"), (b"cICP", bytes([12, 13, 0, 1]))], "Display P3"),
        ([(b"cICP", bytes([9, 16, 0, 1]))], "Rec. 2100 PQ"),
        ([(b"cICP", bytes([99, 99, 0, 1]))], None),
        ([(b"iCCP", b"name\0\0not zlib")], None),
        ([(b"iCCP", b"name\0\0" + zlib.compress(bytes(50 * 1024**2)))], None),
    ],
)
async def test_a_png_names_its_colour_space_in_several_ways(
    chunks: list[tuple[bytes, bytes]], name: str | None
) -> None:
    found = await probed(png_with(*chunks))

    assert (found.width, found.height, found.color_profile) == (24, 16, name)


async def test_a_profile_can_be_of_version_2_and_is_made_printable() -> None:
    text = b"My\x1b[31m \xe9\n" + b"x" * 200 + b"\0"
    entry = b"desc" + bytes(4) + struct.pack(">I", len(text)) + text
    head = bytes(36) + b"acsp" + bytes(88)
    profile = head + struct.pack(">I4sII", 1, b"desc", 144, len(entry)) + entry

    name = (await probed(picture(form="JPEG", icc_profile=profile))).color_profile

    assert name == ("My[31m é" + "x" * 200)[:100]


@pytest.mark.parametrize(
    ("head", "size"),
    [
        ("ff0a0090010013880200b000", (1, 1)),  # what libjxl made of images of these sizes
        ("ff0ac807200c001388020028", (17, 250)),
        ("ff0a7f0600138802005c01b5", (256, 256)),
        ("ff0a3107001388020048c107", (300, 200)),
    ],
)
async def test_a_jpeg_xl_stream_says_its_size_in_bits(head: str, size: tuple[int, int]) -> None:
    data = bytes.fromhex(head) + bytes(20)
    boxed = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I", 8 + len(data)) + b"jxlc" + data

    for stream in (data, boxed):
        found = await probed(stream)
        assert found.content_type == "image/jxl"
        assert (found.width, found.height) == size


async def test_a_heic_is_as_large_as_what_is_shown_of_it() -> None:
    found = await probed((Path(__file__).parent / "32x20.heic").read_bytes())

    assert (found.content_type, found.width, found.height) == ("image/heic", 32, 20)
    assert found.extension == "heic"


@pytest.mark.parametrize("form", FORMS)
async def test_little_is_read_of_a_large_image(form: str) -> None:
    opened = OpenedBytes(picture(form=form, size=(600, 400)) + bytes(8 * 1024**2))

    found = await probe(opened)

    assert (found.width, found.height) == (600, 400) if form != "ICO" else (256, 171)
    # A PNG may say behind its pixels that AI made it.
    assert opened.read <= (80 + 256 * (form == "PNG")) * 1024


@pytest.mark.parametrize("form", FORMS)
async def test_a_truncated_header_is_refused(form: str) -> None:
    with pytest.raises(UnsupportedMedia):
        await probed(picture(form=form)[:7])


@given(st.sampled_from(sorted(FORMS)), st.data())
async def test_no_damage_does_more_than_change_the_answer(form: str, data: st.DataObject) -> None:
    image = bytearray(
        picture(form=form, icc_profile=srgb_profile())
        if form in WITH_PROFILES
        else picture(form=form)
    )
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(image), 700) - 1))
        image[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(image)))
    opened = OpenedBytes(bytes(image[:cut]))

    try:
        found = await probe(opened)
    except UnsupportedMedia:
        return
    assert found.width > 0 < found.height
    assert found.content_type in INLINE - VIDEO


@pytest.mark.parametrize("data", [b"", b"x", b"<svg/>", b"<!doctype html>", b"%PDF-1.7", b"II*\0"])
async def test_what_is_no_raster_image_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await probed(data)


async def test_a_bomb_of_chunks_or_directories_ends() -> None:
    chunks = png_with(*[(b"tEXt", b"")] * 200_000)
    assert (await probed(chunks)).width == 24

    directory = struct.pack("<2sHIH", b"II", 42, 8, 65_535) + bytes(12 * 65_535)
    with pytest.raises(UnsupportedMedia):
        await probed(directory)


# What Pillow does not write


def bmp_with(header: bytes, behind: bytes = b"") -> bytes:
    start = 14 + len(header) + len(behind)
    return b"BM" + struct.pack("<IHHI", start, 0, 0, start) + header + behind


def bitmap_header(length: int, space: bytes = b"", profile_bytes: int = 0) -> bytes:
    """30 x 20 pixels from the top down; of version 4 with a colour space, 5 with a profile."""
    header = bytearray(length)
    struct.pack_into("<IiiHH", header, 0, length, 30, -20, 1, 24)
    if space:
        header[56:60] = space[::-1]
    if profile_bytes:
        struct.pack_into("<II", header, 112, length, profile_bytes)
    return bytes(header)


PROFILE = srgb_profile()


@pytest.mark.parametrize(
    ("data", "color_profile"),
    [
        (bmp_with(struct.pack("<IHHHH", 12, 30, 20, 1, 24)), None),
        (bmp_with(bitmap_header(40)), None),
        (bmp_with(bitmap_header(108, b"sRGB")), "sRGB"),
        (bmp_with(bitmap_header(108, b"Win ")), None),
        (bmp_with(bitmap_header(124, b"MBED", len(PROFILE)), PROFILE), "sRGB built-in"),
    ],
    ids=["OS/2", "from the top", "version 4, sRGB", "version 4, another", "version 5, a profile"],
)
async def test_a_bitmap_of_every_version_is_read(data: bytes, color_profile: str | None) -> None:
    found = await probed(data)

    assert (found.width, found.height, found.color_profile) == (30, 20, color_profile)


@pytest.mark.parametrize("between", [b"\xff\xff\xff", b"\xff\x01\xff\xd0"], ids=["fill", "alone"])
async def test_a_jpeg_may_have_fill_bytes_and_markers_without_a_segment(between: bytes) -> None:
    data = picture(form="JPEG")

    found = await probed(data[:2] + between + data[2:])

    assert (found.width, found.height) == (24, 16)


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content


async def test_a_box_may_have_a_long_length_or_go_to_the_end() -> None:
    data = picture(form="AVIF", size=(30, 20))
    start = data.index(b"meta") - 4
    (length,) = struct.unpack_from(">I", data, start)
    meta = data[start + 8 : start + length]

    wide = data[:start] + struct.pack(">I4sQ", 1, b"meta", length + 8) + meta
    to_the_end = data[:start] + struct.pack(">I4s", 0, b"meta") + meta

    for changed in (wide, to_the_end):
        found = await probed(changed)
        assert (found.width, found.height) == (30, 20)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xda" + bytes(40),
        b"\xff\xd8\xff\xd9" + bytes(40),
        b"\xff\xd8\xff\xe0\0\1" + bytes(40),
        b"\0\0\1\0\0\0" + bytes(40),
        box(b"ftyp", b"avif" + bytes(4) + b"avif") + struct.pack(">I4s", 4, b"meta") + bytes(40),
    ],
    ids=["a scan without a frame", "an end", "a length of 1", "no icon", "a box of 4 bytes"],
)
async def test_a_header_that_contradicts_itself_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedMedia):
        await probed(data)


def profile_with(tag: bytes, entry: bytes) -> bytes:
    head = bytes(36) + b"acsp" + bytes(88) + struct.pack(">I", 1)
    return head + struct.pack(">4sII", tag, len(head) + 12, len(entry)) + entry


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        (profile_with(b"desc", b"desc" + struct.pack(">II", 0, 6) + b"Scan 1"), "Scan 1"),
        (profile_with(b"desc", b"text" + bytes(4) + b"Scan 1"), None),
        (profile_with(b"cprt", b"text" + bytes(4) + b"CC0"), None),
        (profile_with(b"desc", b"")[:140], None),
        (bytes(200), None),
    ],
    ids=["version 2", "of another type", "without a name", "cut", "no profile"],
)
async def test_a_profile_has_its_name_or_none(profile: bytes, name: str | None) -> None:
    assert (await probed(picture(form="JPEG", icc_profile=profile))).color_profile == name


def test_every_type_that_is_taken_has_its_extension() -> None:
    assert EXTENSION.keys() == INLINE


def test_pillow_can_write_what_is_compared() -> None:
    Image.init()
    assert set(FORMS) <= set(Image.SAVE)
