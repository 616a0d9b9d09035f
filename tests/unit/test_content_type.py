"""What kind of file it is: by its bytes alone."""

import pytest

from stillroom.store import content_type
from stillroom.store.content_type import INLINE, VIDEO


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
        (b"RIFF\x00\x00\x00\x00WAVE", None),
        (b"\x00\x00\x00\x20ftypavif", "image/avif"),
        (b"\x00\x00\x00\x20ftypheic", "image/heic"),
        (b"\x00\x00\x00\x20ftypisom", "video/mp4"),
        (b"\x00\x00\x00\x14ftypqt  ", "video/quicktime"),
        (b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat", "video/quicktime"),
        (b"the moov", None),
        (b"\x00\x00\x00\x20ftypM4A ", None),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\xf7\x81\x01B\x82\x88matroska", None),
        (b"BM\x00\x00\x00\x00\x00\x00\x00\x00", "image/bmp"),
        (b"BMW drives", None),
        (b"II*\x00", "image/tiff"),
        (b"\xff\x0a", "image/jxl"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "image/svg+xml"),
        (b"\xef\xbb\xbf <?xml version='1.0'?><!-- c --><svg:svg ", "image/svg+xml"),
        (b"<svg><script>alert(1)</script>", "image/svg+xml"),
        (b"<!doctype html>", "text/html"),
        (b"\n\n<HTML>", "text/html"),
        (b"<html><svg>", "text/html"),
        (b"<feed>", None),
        (b"plain", None),
        (b"", None),
    ],
)
def test_the_first_bytes_show(start: bytes, expected: str | None) -> None:
    assert content_type.by_content(start) == expected


def test_what_no_signature_names_claims_nothing() -> None:
    assert (
        content_type.detect(b"# README") == content_type.detect(b"") == "application/octet-stream"
    )


def test_nothing_that_a_browser_could_run_is_shown_where_it_is() -> None:
    assert VIDEO < INLINE
    assert not INLINE & {"image/svg+xml", "text/html", "application/xml", "text/plain"}
