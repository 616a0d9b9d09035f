"""Whether a file ends before its image does, wherever it was cut."""

import io
import random

import pytest
from PIL import Image

from pictures import picture
from stillroom.features.pictures.cut_off import is_cut_off

PNG = b"\x89PNG\r\n\x1a\n"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF")


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_file_is_not_cut_off_and_any_beginning_of_it_is(form: str) -> None:
    data = picture(form=form, size=(40, 30))
    assert not is_cut_off(io.BytesIO(data))

    assert not [end for end in range(16, len(data)) if not is_cut_off(io.BytesIO(data[:end]))]


def png(*before: bytes, pixels: bytes = b"") -> bytes:
    """A picture with these chunks before its pixels, and these of its own if they are given."""
    whole = picture(size=(40, 30))
    start = whole.index(b"IDAT") - 4
    end = len(whole) - len(PNG_END)
    return whole[:start] + b"".join(before) + (pixels or whole[start:end]) + PNG_END


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    """One whose length may be wrong; a decoder looks at the checksum, not this."""
    size = len(content) if length is None else length
    return size.to_bytes(4, "big") + kind + content + bytes(4)


def animated_gif() -> bytes:
    """Of pictures with tables of their own, with a comment, and a loop."""
    pictures = [Image.open(io.BytesIO(picture(seed, size=(20, 10)))) for seed in range(3)]
    frames = [one.quantize(16 << at) for at, one in enumerate(pictures)]
    out = io.BytesIO()
    more = {"append_images": frames[1:], "comment": b";" * 300, "loop": 0, "duration": 50}
    frames[0].save(out, "GIF", save_all=True, **more)
    return out.getvalue()


STRUCTURED = {
    "png": png(),
    "png with another in it": png(chunk(b"teXt", picture()), chunk(b"eXIf", PNG_END)),
    "png of small chunks": png(pixels=chunk(b"IDAT", b"x") * 20),
    "gif": picture(form="GIF", size=(40, 30)),
    "gif without a table for all": b"GIF87a"
    + bytes(7)
    + b",%b\x80%b\2\1a\0;" % (bytes(8), bytes(6)),
    "animated gif": animated_gif(),
}


@pytest.mark.parametrize("image", STRUCTURED.values(), ids=STRUCTURED)
def test_a_png_or_gif_ends_with_its_last_part_whatever_is_in_front_of_that_and_behind(
    image: bytes,
) -> None:
    start = 8 if image.startswith(PNG) else 6
    assert not [end for end in range(start, len(image)) if not is_cut_off(io.BytesIO(image[:end]))]

    trailers = (b"\0", b";", bytes(65), b"\xff" * 100_000, random.Random(0).randbytes(100_000))
    for trailer in (b"", *trailers, image[:-1]):
        assert not is_cut_off(io.BytesIO(image + trailer))


@pytest.mark.parametrize(
    ("data", "is_it"),
    [
        (png(chunk(b"tEXt", b"", length=2**31 - 1)), True),
        (png(chunk(b"tEXt", b"", length=2**31)), False),
        (png(chunk(b"tEXt", b"", length=2**32 - 1)), False),
        (png(chunk(b"tE\0t", b"text")), False),
        (png(bytes(48)), False),
        (b"GIF89a" + bytes(7) + b"\0;", False),
        (b"GIF89a" + bytes(4) + b"\xff\0\0" + bytes(767), True),
        (b"GIF89a" + bytes(4) + b"\xff\0\0" + bytes(768) + b";", False),
        (b"GIF89a" + bytes(7) + b"!\xf9\xff" + bytes(254), True),
    ],
)
def test_a_part_that_ends_behind_the_file_is_cut_off_and_what_is_no_part_is_not(
    data: bytes, *, is_it: bool
) -> None:
    assert is_cut_off(io.BytesIO(data)) is is_it


class Counted(io.BytesIO):
    """Counts what is read of it."""

    taken = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize(
    "data",
    [
        PNG + chunk(b"IDAT", b"") * 70_000,
        b"GIF89a" + bytes(7) + b"!\xff" + b"\1a" * 300_000,
        b"GIF89a" + bytes(7) + b"!\xff\0" * 300_000,
    ],
    ids=["chunks", "blocks of data", "blocks"],
)
def test_what_has_parts_without_end_is_not_read_to_its_end_and_not_said_to_be_cut_off(
    data: bytes,
) -> None:
    file = Counted(data)
    assert not is_cut_off(file)
    assert file.taken < 3 * 1024**2


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_ends_with_its_image_whatever_is_in_front_of_that_and_behind(
    progressive: bool,
) -> None:
    thumbnail = picture(form="JPEG", size=(8, 8))
    exif = b"\xff\xff\xe1" + (2 + len(thumbnail)).to_bytes(2, "big") + thumbnail
    plain = picture(form="JPEG", size=(40, 30), progressive=progressive)
    image = plain[:2] + exif + plain[2:]

    for trailer in (bytes(65), b"\xff" * 65, bytes(2 * 1024**2) + b"SEFT", thumbnail[:-2]):
        assert not is_cut_off(io.BytesIO(image + trailer))
    assert not [end for end in range(16, len(image)) if not is_cut_off(io.BytesIO(image[:end]))]


@pytest.mark.parametrize("at", [20, 300])
def test_a_damaged_jpeg_is_not_cut_off(at: int) -> None:
    image = picture(form="JPEG", size=(40, 30))
    assert not is_cut_off(io.BytesIO(image[:at] + bytes(8) + image[at + 8 :] + bytes(100)))


def test_the_end_of_a_jpeg_is_found_where_it_is_read_in_two_pieces() -> None:
    head = b"\xff\xd8\xff\xda\0\x02"
    for padding in (1024**2 - 1, 1024**2, 3 * 1024**2 - 1):
        image = io.BytesIO(head + bytes(padding) + b"\xff\xd9" + bytes(100))
        assert not is_cut_off(image)
        assert is_cut_off(io.BytesIO(head + bytes(padding) + b"\xff"))


@pytest.mark.parametrize("data", [b"", b"RIFF", b"BM", b"\x89PNG", b"text", b"\0\0\0\x18ftyp"])
def test_what_is_too_short_to_tell_breaks_nothing(data: bytes) -> None:
    assert is_cut_off(io.BytesIO(data)) == (data[:2] in (b"RI", b"BM") or b"ftyp" in data)


def test_boxes_of_any_length_end_the_search() -> None:
    for length in (0, 1, 2, 7, 2**31):
        box = length.to_bytes(4, "big") + b"ftyp" + bytes(8)
        assert is_cut_off(io.BytesIO(box)) == (length == 2**31)
    boxes = [b"\0\0\0\x08ftyp", *[b"\0\0\0\x08free"] * 1000]
    assert not is_cut_off(io.BytesIO(b"".join(boxes)))
