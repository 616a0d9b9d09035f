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


@pytest.mark.parametrize("data", [b"", b"RIFF", b"BM", b"\x89PNG", b"text", b"\0\0\0\x18ftyp"])
def test_what_is_too_short_to_tell_breaks_nothing(data: bytes) -> None:
    assert is_cut_off(io.BytesIO(data)) == (data[:2] in (b"RI", b"BM") or b"ftyp" in data)


def test_boxes_of_any_length_end_the_search() -> None:
    for length in (0, 1, 2, 7, 2**31):
        box = length.to_bytes(4, "big") + b"ftyp" + bytes(8)
        assert is_cut_off(io.BytesIO(box)) == (length == 2**31)
    boxes = [b"\0\0\0\x08ftyp", *[b"\0\0\0\x08free"] * 1000]
    assert not is_cut_off(io.BytesIO(b"".join(boxes)))
