"""Whether a file ends before its image does, wherever it was cut."""

import io

import pytest

from pictures import picture
from stillroom.derived.cut_off import is_cut_off

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "AVIF")


@pytest.mark.parametrize("form", FORMATS)
def test_a_whole_file_is_not_cut_off_and_any_beginning_of_it_is(form: str) -> None:
    data = picture(form=form, size=(40, 30))
    assert not is_cut_off(io.BytesIO(data))

    missed = [end for end in range(16, len(data)) if not is_cut_off(io.BytesIO(data[:end]))]
    # A GIF ends with a byte that stands in its data, too.
    assert len(missed) <= (len(data) / 32 if form == "GIF" else 0)


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
