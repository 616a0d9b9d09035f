"""Heads and bodies of HTTP/1.1, however they are cut."""

import contextlib

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.speed.http11.body import ChunkedDecoder
from stillroom.speed.http11.head import BadRequest, HeadParser, Request
from stillroom.speed.settings import SpeedSettings

HEAD = b"POST /a?b=c HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-Of-Ours:  two words \r\n\r\n"
CUTS = st.lists(st.integers(1, 40), max_size=20)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    pieces = []
    for size in [*cuts, len(data)]:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in pieces if piece]


def parse(pieces: list[bytes]) -> tuple[Request, bytes]:
    parser = HeadParser(SpeedSettings.of_values())
    for number, piece in enumerate(pieces):
        rest = parser.feed(piece)
        if rest is not None:
            return parser.request(), rest + b"".join(pieces[number + 1 :])
    raise AssertionError("the head is not complete")


@given(CUTS, st.binary(max_size=50))
def test_a_head_is_the_same_however_it_is_cut(cuts: list[int], behind: bytes) -> None:
    request, rest = parse(cut(HEAD + behind, cuts))
    assert rest == behind
    assert (request.method, request.target, request.version) == ("POST", b"/a?b=c", "1.1")
    assert request.length == 5
    assert request.keep_alive
    assert request.headers[2] == (b"x-of-ours", b"two words ")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", b"/", b""),
        (b"//a?b?c", b"//a", b"b?c"),
        (b"/?", b"/", b""),
        (b"http://a/x?y", b"/x", b"y"),
        (b"HTTP://a.example:8000/", b"/", b""),
        (b"http://a:/x", b"/x", b""),
        (b"http://[::1]:80/x", b"/x", b""),
        (b"http://a_b%20~/x", b"/x", b""),
    ],
)
def test_a_target_is_a_path_and_a_query(target: bytes, path: bytes, query: bytes) -> None:
    request, _ = parse([b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n"])
    assert (request.target, request.path, request.query) == (target, path, query)


@given(
    st.text(alphabet=st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20),
    st.sampled_from(["", "/", "http://", "http:///", "http://a", "http://[::1"]),
)
def test_whatever_the_target_the_head_is_parsed_or_refused(text: str, scheme: str) -> None:
    head = f"GET {scheme}{text}/x HTTP/1.1\r\nHost: a\r\n\r\n"
    with contextlib.suppress(BadRequest):
        assert parse([head.encode()])[0].path.startswith(b"/")


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r\n\r\n", b"\r\n \r\n\r\n"])
def test_a_head_that_ends_otherwise_is_malformed_and_hides_nothing(end: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a" + end + b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n"
    parser = HeadParser(SpeedSettings.of_values())
    with pytest.raises(BadRequest) as refused:
        parser.feed(head)
    assert refused.value.status == 400


class Whole:
    """What httptools makes of a chunked body."""

    def __init__(self) -> None:
        self.body = b""
        self.is_complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.is_complete = True


def by_httptools(data: bytes) -> tuple[bytes, bool] | None:
    """Body, and whether it is complete; None: malformed."""
    whole = Whole()
    parser = httptools.HttpRequestParser(whole)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        return None
    return whole.body, whole.is_complete


def by_us(pieces: list[bytes]) -> tuple[bytes, bytes | None] | None:
    """Body, and what is behind it if it is complete; None: malformed."""
    decoder, body = ChunkedDecoder(1000), b""
    for number, piece in enumerate(pieces):
        try:
            data, rest = decoder.feed(piece)
        except BadRequest:
            return None
        body += data
        if rest is not None:
            return body, rest + b"".join(pieces[number + 1 :])
    return body, None


CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


@given(CHUNKS, st.sampled_from([b"", b";a=b", b" ; a", b';a="b"']), CUTS, st.binary(max_size=9))
def test_chunks_are_decoded_as_httptools_does(
    chunks: list[bytes], extension: bytes, cuts: list[int], behind: bytes
) -> None:
    coded = b"".join(b"%X%s\r\n%s\r\n" % (len(data), extension, data) for data in chunks)
    coded += b"0\r\nTrailer: x\r\n\r\n"
    if extension != b" ; a":  # httptools takes no blank there; RFC 9112 has one to be dropped
        assert by_httptools(coded) == (b"".join(chunks), True)
    assert by_us(cut(coded + behind, cuts)) == (b"".join(chunks), behind)


BROKEN = st.sampled_from(
    [
        b"5",
        b"\r\n",
        b"\n",
        b"\r",
        b"0\r\n\r\n",
        b"hello",
        b";",
        b"-1",
        b"0x5",
        b"+5",
        b" ",
        b"a",
        b"\0",
    ]
)


@given(st.lists(BROKEN, min_size=1, max_size=8), CUTS)
def test_what_httptools_refuses_in_chunks_is_never_taken_for_a_whole_body(
    parts: list[bytes], cuts: list[int]
) -> None:
    coded = b"".join(parts)
    ours, theirs = by_us(cut(coded, cuts)), by_httptools(coded)
    if ours is not None and ours[1] is not None:
        taken = coded[: len(coded) - len(ours[1])]
        theirs = by_httptools(taken)
        assert theirs == (ours[0], True)


@pytest.mark.parametrize("flood", [b"1;" + b"x" * 2000, b"0\r\n" + b"a: b\r\n" * 400, b"0" * 2000])
def test_more_than_a_bound_beside_the_data_is_refused(flood: bytes) -> None:
    decoder = ChunkedDecoder(1000)

    def feed() -> None:
        for at in range(0, len(flood), 7):
            decoder.feed(flood[at : at + 7])

    with pytest.raises(BadRequest) as refused:
        feed()
    assert refused.value.status == 431
