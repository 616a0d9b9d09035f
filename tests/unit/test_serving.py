"""Ranges, conditions and safe headers, as RFC 9110 has them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import PreconditionFailed
from stillroom.paths import StorageKey
from stillroom.store.content_type import VIDEO
from stillroom.store.http.fields import combined, format_http_date
from stillroom.store.http.serving import (
    ImageAnswer,
    answer_image,
    answer_redirect,
    explain_failure,
    write_condition,
)
from stillroom.store.values import RemoteImage, StoredImage

SECOND = 1_700_000_000


def image(size: int = 10, content_type: str = "image/png") -> StoredImage:
    return StoredImage(
        key=StorageKey("compute/a.png"),
        size=size,
        etag='"e1"',
        modified_ns=SECOND * 10**9 + 999,
        content_type=content_type,
        sha256=bytes(32),
        save_id="s",
    )


def get(*, size: int = 10, **fields: str) -> ImageAnswer:
    return answer_image(
        "GET", {name.replace("_", "-"): value for name, value in fields.items()}, image(size)
    )


def header(answer: ImageAnswer, name: str) -> str | None:
    return dict(answer.headers).get(name)


def test_an_image_is_answered_with_its_validators_and_safe_headers() -> None:
    answer = get()

    assert (answer.status, answer.start, answer.length) == (200, 0, 10)
    assert dict(answer.headers) == {
        "content-type": "image/png",
        "accept-ranges": "bytes",
        "etag": '"e1"',
        "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT",
        "cache-control": "private, max-age=0, must-revalidate",
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "repr-digest": "sha-256=:" + "A" * 43 + "=:",
        "content-length": "10",
    }


@pytest.mark.parametrize(
    "content_type", ["image/svg+xml", "text/html", "application/octet-stream", "text/plain"]
)
def test_whatever_is_not_raster_is_an_attachment(content_type: str) -> None:
    answer = answer_image("GET", {}, image(content_type=content_type))
    assert header(answer, "content-disposition") == "attachment"


@pytest.mark.parametrize("content_type", sorted(VIDEO))
@pytest.mark.parametrize("fields", [{}, {"range": "bytes=2-5"}, {"if-none-match": '"e1"'}])
def test_a_video_shows_where_it_is_and_may_load_itself_and_nothing_else(
    content_type: str, fields: dict[str, str]
) -> None:
    answer = answer_image("GET", fields, image(content_type=content_type))

    assert header(answer, "content-disposition") is None
    assert header(answer, "x-content-type-options") == "nosniff"
    policy = "default-src 'none'; media-src 'self'; sandbox allow-same-origin"
    assert header(answer, "content-security-policy") == policy


@pytest.mark.parametrize(
    ("asked", "start", "length"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 4),
        ("bytes=7-", 7, 3),
        ("bytes=-3", 7, 3),
        ("bytes=-99", 0, 10),
        ("bytes=0-99", 0, 10),
        ("BYTES=1-2", 1, 2),
        ("bytes=0-" + "9" * 40, 0, 10),
        ("bytes=-" + "9" * 40, 0, 10),
        ("bytes=000000000000000000000000000001-2", 1, 2),
    ],
)
def test_a_single_range_is_answered_in_part(asked: str, start: int, length: int) -> None:
    answer = get(range=asked)

    assert (answer.status, answer.start, answer.length) == (206, start, length)
    assert header(answer, "content-range") == f"bytes {start}-{start + length - 1}/10"
    assert header(answer, "content-length") == str(length)


@pytest.mark.parametrize(
    "asked", ["bytes=10-", "bytes=99-100", "bytes=-0", "bytes=" + "9" * 40 + "-"]
)
def test_a_range_outside_of_the_image_is_416_with_its_size(asked: str) -> None:
    answer = get(range=asked)

    assert (answer.status, answer.length) == (416, 0)
    assert header(answer, "content-range") == "bytes */10"


def test_no_range_of_an_empty_image_can_be_satisfied() -> None:
    assert get(size=0, range="bytes=0-").status == 416
    assert get(size=0, range="bytes=-5").status == 416
    assert get(size=0).status == 200


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,3-4",
        "bytes=15-,0-5",
        "lines=1-2",
        "bytes=5-2",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes 0-1",
        "0-1",
        "bytes=0x1-2",
        "bytes=１-２",
        "bytes=" + "9" * 5000,
        "",
    ],
)
def test_several_ranges_unknown_units_and_nonsense_are_answered_in_full(asked: str) -> None:
    assert (get(range=asked).status, get(range=asked).length) == (200, 10)


def test_head_knows_no_ranges() -> None:
    assert answer_image("HEAD", {"range": "bytes=0-1"}, image()).status == 200


@given(st.text(max_size=40), st.integers(0, 50))
def test_no_range_field_reaches_outside_of_the_image(text: str, size: int) -> None:
    for value in (text, f"bytes={text}"):
        answer = get(size=size, range=value)
        assert 0 <= answer.start <= answer.start + answer.length <= size


@given(st.integers(1, 60), st.integers(0, 70), st.integers(0, 70))
def test_a_range_selects_what_a_slice_selects(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    answer = get(size=size, range=f"bytes={first}-{last}")
    part = data[first : last + 1]
    if last < first:
        assert answer.status == 200
    elif part:
        assert (answer.status, data[answer.start : answer.start + answer.length]) == (206, part)
    else:
        assert answer.status == 416


@pytest.mark.parametrize(
    "validator", ['"e1"', '"old"', 'W/"e1"', format_http_date(SECOND * 10**9), "nonsense"]
)
def test_if_range_lets_the_range_of_the_current_tag_through_and_no_other(validator: str) -> None:
    expected = 206 if validator == '"e1"' else 200
    assert get(range="bytes=0-1", if_range=validator).status == expected


@pytest.mark.parametrize("tags", ['"e1"', 'W/"e1"', '"x", "e1"', "*", '"x",W/"e1" ,"y"'])
def test_a_current_copy_is_not_sent_again(tags: str) -> None:
    answer = get(if_none_match=tags)

    assert (answer.status, answer.length) == (304, 0)
    assert header(answer, "etag") == '"e1"'
    assert header(answer, "content-length") is None


@pytest.mark.parametrize("tags", ['"x"', "e1", '"e1', '"x", junk', ""])
def test_another_copy_is_replaced(tags: str) -> None:
    assert get(if_none_match=tags).status == 200


def test_if_modified_since_counts_whole_seconds_and_only_without_if_none_match() -> None:
    now, before = format_http_date(SECOND * 10**9), format_http_date((SECOND - 1) * 10**9)

    assert get(if_modified_since=now).status == 304
    assert get(if_modified_since=before).status == 200
    assert get(if_modified_since="yesterday").status == 200
    assert get(if_modified_since=now, if_none_match='"x"').status == 200


def test_a_304_wins_over_a_range() -> None:
    assert get(if_none_match='"e1"', range="bytes=99-").status == 304


@pytest.mark.parametrize("tags", ['"x"', 'W/"e1"', "x", '"x", "y"'])
def test_if_match_that_does_not_hold_is_refused(tags: str) -> None:
    with pytest.raises(PreconditionFailed):
        get(if_match=tags)


def test_if_unmodified_since_is_asked_only_without_if_match() -> None:
    before = format_http_date((SECOND - 1) * 10**9)

    with pytest.raises(PreconditionFailed):
        get(if_unmodified_since=before)
    assert get(if_unmodified_since=before, if_match='"e1"').status == 200
    assert get(if_match="*").status == 200


@pytest.mark.parametrize("tags", ['*, "x"', "**", "foo", '"x', ""])
def test_a_guard_that_cannot_be_read_refuses_the_change(tags: str) -> None:
    with pytest.raises(PreconditionFailed):
        write_condition({"if-none-match": tags})


def test_a_guard_is_read() -> None:
    condition = write_condition({"if-match": '"a", , W/"b"', "if-none-match": "*"})
    assert (condition.if_match, condition.if_none_match) == (frozenset(['"a"']), "*")


def test_a_redirect_is_never_kept_by_a_cache() -> None:
    answer = answer_redirect(RemoteImage("https://cdn.example/compute/a.png"))

    assert answer.status == 302
    assert header(answer, "location") == "https://cdn.example/compute/a.png"
    assert header(answer, "cache-control") == "private, no-store"


def test_repeated_fields_are_joined() -> None:
    fields = combined([(b"If-None-Match", b'"a"'), (b"if-none-match", b' "e1" ')])
    assert fields == {"if-none-match": '"a", "e1"'}
    assert answer_image("GET", fields, image()).status == 304


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"if-none-match": "*"}, "If-None-Match failed: an image already exists here"),
        ({"if-none-match": '"e1"'}, "If-None-Match failed: the image here has this ETag"),
        ({"if-match": "*"}, "If-Match failed: no image exists here"),
        ({"if-match": '"e2"'}, "If-Match failed: the image has changed, or does not exist"),
    ],
)
def test_a_refused_change_names_the_condition_that_failed(
    fields: dict[str, str], message: str
) -> None:
    condition = write_condition(fields)

    with pytest.raises(PreconditionFailed, match=f"^{message}$"), explain_failure(condition):
        condition.check(None if "no image" in message else '"e1"')
