"""Names: what is refused, what is kept, and that nothing slips between."""

import unicodedata
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import InvalidPath
from stillroom.paths import ImagePath, ImagePrefix, StorageKey, is_segment

REFUSED = {
    "empty": "",
    "absolute": "/a",
    "a trailing slash": "a/",
    "a double slash": "a//b",
    "a dot segment": "a/./b",
    "a parent segment": "a/../b",
    "only parents": "..",
    "a backslash": "a\\b",
    "NUL": "a\0b",
    "a line feed": "a\nb",
    "DEL": "a\x7f",
    "C1 control": "a\x85b",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "noncharacter U+FDD0": "a\ufdd0",
    "noncharacter U+FFFE": "a\ufffe",
    "noncharacter U+1FFFF": "a\U0001ffff",
    "right-to-left override": "a\u202egnp.exe",
    "left-to-right mark": "a\u200eb",
    "isolate": "a\u2066b",
    "zero width space": "a\u200bb",
    "word joiner": "a\u2060b",
    "byte order mark": "\ufeffa",
    "not NFC": "cafe\u0301.png",
    "fullwidth dots": "．．/a",
    "two-dot leader": "‥",
    "fullwidth slash": "a／b",
    "fullwidth backslash": "a＼b",
    "dots once more escaped": "%2e%2E",
    "a slash once more escaped": "a%2fb",
    "a backslash once more escaped": "a%5Cb",
    "a control once more escaped": "a%0ab",
    "NUL once more escaped": "a%00b",
    "the manifest of a run": "runs/7/.run.json",
    "the manifest of a run as a folder": ".run.json/a.png",
    "what reads as a manifest": "a/．run.json",
    "a manifest once more escaped": "a/%2erun%2Ejson",
    "a segment of 256 bytes": "x" * 256,
    "a segment of 256 bytes in 128 characters": "é" * 128,
    "a key of 1,025 bytes": "/".join(["x" * 100] * 10) + "/" + "x" * 8,
}

ACCEPTED = (
    "a",
    "a/b/c.png",
    "..a",
    "...",
    "a..",
    ".a",
    "a b",
    " ",
    "a+b#c?d&e=f",
    "100%",
    "50%25",
    "%zz",
    "~user",
    "e\u200db\u200c",
    "☃\ufe0f",
    "x" * 255,
    "/".join(["x" * 100] * 10) + "/" + "x" * 6,
)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_path_is_refused_for(text: str) -> None:
    with pytest.raises(InvalidPath):
        ImagePath.parse(text)
    with pytest.raises(InvalidPath):
        ImagePath.from_target(quote(text, safe="/").encode())


@pytest.mark.parametrize("text", ACCEPTED)
def test_an_accepted_path_is_kept_exactly(text: str) -> None:
    assert ImagePath.parse(text).text == text
    assert ImagePath.from_target(quote(text, safe="/").encode()).text == text
    assert StorageKey.of_image(ImagePath.parse(text)).text == f"compute/{text}"


@pytest.mark.parametrize(
    "raw",
    [
        b"%", b"a%2", b"a%zz", b"%ff", b"%c3", b"%c0%ae", b"%ed%a0%80", b"%f4%90%80%80", b"\xff",
        b"..%2f..%2fetc", b"%2e%2e/x", b"a%2f%2fb", b"a%5cb", b"a%00",
    ],
)  # fmt: skip
def test_escapes_are_whole_and_utf8_and_smuggle_nothing_past_the_rules(raw: bytes) -> None:
    with pytest.raises(InvalidPath):
        ImagePath.from_target(raw)


def test_an_escaped_slash_is_a_slash() -> None:
    assert ImagePath.from_target(b"a%2Fb") == ImagePath.parse("a/b")


@given(st.text())
def test_what_passes_is_harmless_under_every_reading(text: str) -> None:
    try:
        path = ImagePath.parse(text)
    except InvalidPath:
        return
    for segment in path.text.split("/"):
        for reading in (segment, unicodedata.normalize("NFKC", segment)):
            assert reading not in ("", ".", "..")
            assert not set(reading) & set("/\\\0\n\r")
        assert len(segment.encode()) <= 255
    assert unicodedata.is_normalized("NFC", path.text)


@given(st.text(), st.integers(min_value=0))
def test_every_beginning_of_a_path_is_a_prefix(text: str, cut: int) -> None:
    try:
        path = ImagePath.parse(text)
    except InvalidPath:
        return
    beginning = path.text[: cut % (len(path.text) + 1)]
    assert ImagePrefix.parse(beginning).text == beginning


@given(st.binary())
def test_no_bytes_of_a_target_do_anything_but_pass_or_be_refused(raw: bytes) -> None:
    try:
        path = ImagePath.from_target(raw)
    except InvalidPath:
        return
    assert ImagePath.from_target(path.quoted().encode()) == path


@given(st.text(alphabet="aZ09._-/% ", min_size=1, max_size=300))
def test_a_target_without_escapes_is_read_like_any_other(text: str) -> None:
    escaped = "".join(c if c == "/" else f"%{ord(c):02x}" for c in text)

    def outcome(raw: str) -> ImagePath | None:
        try:
            return ImagePath.from_target(raw.encode())
        except InvalidPath:
            return None

    if "%" not in text:
        assert outcome(text) == outcome(escaped)


@pytest.mark.parametrize("text", ["/", "../", "./a", "a//", "a\\", "\n", "x" * 256, "a/../"])
def test_a_prefix_that_no_path_can_have_is_refused(text: str) -> None:
    with pytest.raises(InvalidPath):
        ImagePrefix.parse(text)


@pytest.mark.parametrize("text", ["", ".", "..", "a/", "a/.", "a/b", "%2", "cats/2026"])
def test_a_prefix_may_be_anything_that_more_text_completes(text: str) -> None:
    assert ImagePrefix.parse(text).text == text


def test_paths_are_ordered_by_their_utf8_bytes() -> None:
    texts = ["a", "a-b", "a/b", "a0", "é", "\uffee", "😀"]
    paths = sorted(ImagePath.parse(text) for text in texts)
    assert [path.text for path in paths] == sorted(texts, key=str.encode)


@pytest.mark.parametrize("name", ["\udcff", "cafe\u0301", "", "..", "a\nb"])
def test_a_foreign_file_name_is_no_segment(name: str) -> None:
    assert not is_segment(name)
