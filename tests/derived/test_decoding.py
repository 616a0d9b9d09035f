"""What comes out of which image; in this process, where only tests may decode."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from derived.conftest import halves, is_near
from pictures import encoded, picture
from stillroom.features.pictures import decoding
from stillroom.features.pictures.derivation import Derivation
from stillroom.features.pictures.wire import COLOR_JOB, CUT_OFF, TOO_MANY_PIXELS, Job, Refused
from stillroom.wire.thumbnails import Format

pytestmark = pytest.mark.slow

RED, BLUE = (255, 0, 0), (0, 0, 255)
FORMATS: tuple[Format, ...] = ("webp", "jpeg", "png")


def small(form: Format) -> Derivation:
    return Derivation(64, 2048, "contain", form, 80)


def derive(data: bytes, wanted: Derivation, *, max_pixels: int = 10**8) -> bytes:
    job = Job.unpack(Job.of(wanted).pack())
    return decoding.derive(io.BytesIO(data), job, max_pixels=max_pixels)


def decoded(data: bytes, wanted: Derivation) -> Image.Image:
    image = Image.open(io.BytesIO(derive(data, wanted)))
    image.load()
    return image


def turned(orientation: int) -> bytes:
    """Upright it is red on the left and blue on the right, and twice as wide as high."""
    upright = halves((200, 100))
    undo = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = upright if undo is None else upright.transpose(undo)
    return encoded(stored, "JPEG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_upright(orientation: int) -> None:
    for box in (Derivation(64, 2048, "contain", "png", 0), Derivation(64, 64, "cover", "png", 0)):
        made = decoded(turned(orientation), box).convert("RGB")
        assert made.size == ((64, 32) if box.fit == "contain" else (64, 64))
        assert is_near(made.getpixel((5, 16)), RED, within=40)
        assert is_near(made.getpixel((58, 16)), BLUE, within=40)


def animation() -> bytes:
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue", "lime")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def sixteen_bits() -> bytes:
    image = Image.new("I;16", (100, 100), 0x8000)
    return encoded(image)


def palette() -> bytes:
    image = Image.new("P", (100, 100), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (50, 0, 100, 100))
    return encoded(image, transparency=1)


def plain(mode: str, colour: Any, form: str = "PNG", **how: object) -> Callable[[], bytes]:
    return lambda: encoded(Image.new(mode, (100, 100), colour), form, **how)


CLEAR, OPAQUE_RED = (0, 0, 0, 0), (255, 0, 0, 255)


@pytest.mark.parametrize(
    ("make", "at", "colour"),
    [
        (animation, (9, 9), OPAQUE_RED),
        (sixteen_bits, (9, 9), (128, 128, 128, 255)),
        (palette, (9, 9), OPAQUE_RED),
        (palette, (60, 9), CLEAR),
        (plain("CMYK", (0, 255, 255, 0), "JPEG"), (9, 9), OPAQUE_RED),
        (plain("L", 100, "JPEG"), (9, 9), (100, 100, 100, 255)),
        (plain("LA", (200, 100)), (9, 9), (200, 200, 200, 100)),
        (plain("1", 1), (9, 9), (255, 255, 255, 255)),
        (plain("RGBA", (255, 0, 0, 7)), (9, 9), (255, 0, 0, 7)),
        (plain("RGB", "red", transparency=(255, 0, 0)), (9, 9), CLEAR),
        (plain("RGB", "red", "BMP"), (9, 9), OPAQUE_RED),
        (plain("RGB", "red", "WEBP", lossless=True), (9, 9), OPAQUE_RED),
        (plain("RGB", "red", "AVIF"), (9, 9), OPAQUE_RED),
    ],
)
def test_every_kind_of_image_shows_its_colours(
    make: Callable[[], bytes], at: tuple[int, int], colour: tuple[int, ...]
) -> None:
    found = decoded(make(), small("png")).convert("RGBA").getpixel(at)

    assert isinstance(found, tuple)
    assert is_near(found[3:], colour[3:]), found
    assert not colour[3] or is_near(found[:3], colour[:3]), found


def test_what_shines_through_is_on_white_in_a_jpeg() -> None:
    made = decoded(plain("RGBA", CLEAR)(), small("jpeg"))

    assert is_near(made.getpixel((9, 9)), (255, 255, 255))


def test_colours_are_brought_to_srgb_and_profiles_stay_behind() -> None:
    swapped = plain("RGB", "red", icc_profile=swapped_profile())()
    broken = plain("RGB", "red", icc_profile=b"none" * 99)()

    for form in FORMATS:
        made = decoded(swapped, small(form))
        assert is_near(made.convert("RGB").getpixel((9, 9)), (0, 255, 0), within=16)
        assert "icc_profile" not in made.info
        made = decoded(broken, small(form))
        assert is_near(made.convert("RGB").getpixel((9, 9)), RED)


def swapped_profile() -> bytes:
    """sRGB, but with the columns of red and green changed for one another."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = profile[132 : 132 + 12 * int.from_bytes(profile[128:132], "big")]
    at = {bytes(tags[i : i + 4]): i + 132 for i in range(0, len(tags), 12)}
    profile[at[b"rXYZ"] : at[b"rXYZ"] + 4] = b"gXYZ"
    profile[at[b"gXYZ"] : at[b"gXYZ"] + 4] = b"rXYZ"
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "none".encode("utf-16-be"))


def test_what_a_file_says_of_itself_stays_behind() -> None:
    said = PngInfo()
    said.add_text("prompt", "a cat that nobody may know of")
    exif = Image.Exif()
    exif[0x010E] = "a cat that nobody may know of"
    for data in (
        encoded(halves((200, 100)), pnginfo=said, exif=exif),
        encoded(halves((200, 100)), "JPEG", exif=exif, comment=b"a cat"),
        encoded(halves((200, 100)), "WEBP", exif=exif, xmp=b"a cat"),
        encoded(halves((200, 100)), "GIF", comment=b"a cat"),
    ):
        assert b"a cat" in data
        for form in FORMATS:
            assert b"a cat" not in derive(data, small(form))


@pytest.mark.parametrize("size", [(1, 4000), (4000, 1)])
def test_a_line_stays_a_line(size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size))

    assert min(decoded(data, small("png")).size) == 1
    cover = decoded(data, Derivation(64, 64, "cover", "png", 0))
    assert cover.size == (min(64, size[0]), min(64, size[1]))


def test_too_many_pixels_are_counted_before_any_is_decoded() -> None:
    data = picture(size=(100, 100))[:100]

    with pytest.raises(Refused) as refused:
        derive(data, small("png"), max_pixels=9_999)
    assert refused.value.args[0] == TOO_MANY_PIXELS


def test_what_is_cut_off_is_refused() -> None:
    for form in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        with pytest.raises(Refused) as refused:
            derive(picture(form=form, size=(200, 200))[:-2000], small("png"))
        assert refused.value.args[0] == CUT_OFF


def color(image: Image.Image, form: str = "PNG", **how: Any) -> bytes:
    job = Job.unpack(COLOR_JOB.pack())
    return decoding.derive(io.BytesIO(encoded(image, form, **how)), job, max_pixels=10**8)


def test_the_dominant_colour_is_that_of_most_pixels() -> None:
    image = Image.new("RGB", (300, 200), (138, 109, 59))
    image.paste((0, 0, 255), (0, 0, 120, 200))

    assert color(image) == b"#8a6d3b"
    assert color(image.convert("RGBA"), "WEBP", lossless=True) == b"#8a6d3b"
    red, green, blue = bytes.fromhex(color(image, "JPEG", quality=90)[1:].decode())
    assert max(abs(red - 138), abs(green - 109), abs(blue - 59)) < 4


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 40, b"#282828"), ("1", 1, b"#ffffff"), ("LA", (200, 255), b"#c8c8c8")],
)
def test_a_dominant_colour_is_rgb_whatever_the_mode(mode: str, value: Any, expected: bytes) -> None:
    assert color(Image.new(mode, (9, 9), value)) == expected


def test_what_is_transparent_has_no_colour() -> None:
    image = Image.new("RGBA", (90, 90), (255, 0, 0, 0))
    assert color(image) == b""
    image.paste((0, 128, 0, 255), (0, 0, 30, 30))
    assert color(image) == b"#008000"
