"""The `file` part, however the network cuts the body."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.errors import DigestMismatch, InvalidUpload, MalformedBody, UnsupportedMedia
from stillroom.store.http.fields import as_repr_digest
from stillroom.store.http.multipart import (
    MAX_PARTS,
    MAX_SKIPPED_BYTES,
    PARSED_AT_ONCE_BYTES,
    FilePart,
    boundary_of,
)

BOUNDARY = b"----b0undary"


def part(name: str, data: bytes, *fields: str) -> bytes:
    head = [f'Content-Disposition: form-data; name="{name}"; filename="x.png"', *fields]
    return b"--" + BOUNDARY + b"\r\n" + "\r\n".join(head).encode() + b"\r\n\r\n" + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def received(pieces: Iterable[bytes], **options: bytes) -> bytes:
    async def body() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    async def run() -> bytes:
        upload = FilePart(body(), BOUNDARY, expected_sha256=options.get("expected_sha256"))
        return b"".join([chunk async for chunk in upload])

    return anyio.run(run)


TRICKY = b"\r\n--" + BOUNDARY[:-1] + b"\r\n\r\n--\r\n" + b"\r" * 40 + b"--" + BOUNDARY + b"\n"


def test_a_body_may_be_cut_at_every_byte() -> None:
    body = form(part("note", b"hi"), part("file", TRICKY), part("after", b"there"))

    for cut in range(len(body) + 1):
        assert received([body[:cut], body[cut:]]) == TRICKY
    assert received(body[at : at + 1] for at in range(len(body))) == TRICKY


@given(st.lists(st.sampled_from([b"\r", b"\n", b"--", BOUNDARY, b"x", b"\r\n--"])), st.data())
def test_a_body_may_be_cut_anywhere_whatever_is_in_it(
    elements: list[bytes], data: st.DataObject
) -> None:
    image = b"".join(elements)
    if b"\r\n--" + BOUNDARY in b"\r\n" + image + b"\r\n":
        return  # no client may choose such a boundary
    body = form(part("file", image))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    edges = [0, *cuts, len(body)]

    assert received(body[a:b] for a, b in itertools.pairwise(edges)) == image


def test_every_truncated_body_is_refused() -> None:
    body = form(part("file", b"image"))
    for length in range(len(body) - len(b"\r\n")):
        with pytest.raises(MalformedBody):
            received([body[:length]])


def test_a_preamble_and_an_epilogue_are_ignored() -> None:
    assert received([b"preamble\r\n" + form(part("file", b"x")) + b"epilogue", b"more"]) == b"x"


_HEAD = b'--%s\r\nContent-Disposition: form-data; name="file"%s\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    "name",
    [
        b'; filename=""',
        b'; filename="\xe9.png"',
        b"; filename=../../etc/passwd",
        b"; filename*=UTF-8''caf%C3%A9.png",
    ],
)
def test_any_file_name_in_any_encoding_will_do(name: bytes) -> None:
    assert received([_HEAD % (BOUNDARY, name), form()]) == b"x"


def test_a_part_without_a_file_name_is_text_and_no_file() -> None:
    with pytest.raises(InvalidUpload, match=r"file=@cat\.png"):
        received([_HEAD % (BOUNDARY, b"")])  # known before its end


def test_a_form_without_a_file_is_an_invalid_upload() -> None:
    with pytest.raises(InvalidUpload):
        received([form(part("other", b"x"))])


def test_two_files_are_an_invalid_upload() -> None:
    with pytest.raises(InvalidUpload):
        received([form(part("file", b"x"), part("file", b"y"))])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x89PNG",
        b"--" + BOUNDARY + b"\r\n\r\nno disposition\r\n--" + BOUNDARY + b"--",
        b"--" + BOUNDARY + b"\nContent-Disposition: form-data; name=file\n\nx",
        form(part("file", b"x", "Content-Length: 5")),
        form(part("file", b"x", "X: " + "y" * 9000)),
        form(part("file", b"x", *[f"X{n}: y" for n in range(20)])),
    ],
)
def test_a_broken_body_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        received([body])


def test_other_parts_are_skipped_up_to_a_limit() -> None:
    file = part("file", b"x")
    other = part("other", b"y" * (MAX_SKIPPED_BYTES // 16))

    assert received([form(*[other] * (MAX_PARTS - 1), file)]) == b"x"
    with pytest.raises(MalformedBody):
        received([form(*[part("other", b"y")] * MAX_PARTS, file)])
    with pytest.raises(MalformedBody):
        received([form(part("other", b"y" * (MAX_SKIPPED_BYTES + 1)), file)])


def test_an_endless_preamble_or_epilogue_is_cut_off() -> None:
    def endless() -> Iterable[bytes]:
        while True:
            yield b"z" * 65_536

    with pytest.raises(MalformedBody):
        received(endless())

    def epilogue() -> Iterable[bytes]:
        yield form(part("file", b"x"))
        yield from endless()

    with pytest.raises(MalformedBody):
        received(epilogue())


def test_the_part_announces_its_digest() -> None:
    async def run() -> bytes | None:
        async def body() -> AsyncIterator[bytes]:
            yield form(part("file", b"x", f"Repr-Digest: {as_repr_digest(bytes(32))}"))

        upload = FilePart(body(), BOUNDARY)
        assert [chunk async for chunk in upload] == [b"x"]
        return upload.expected_sha256

    assert anyio.run(run) == bytes(32)


def test_a_part_may_not_contradict_the_request() -> None:
    body = form(part("file", b"x", f"Repr-Digest: {as_repr_digest(bytes(32))}"))
    with pytest.raises(DigestMismatch):
        received([body], expected_sha256=b"\1" * 32)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data; charset=utf-8; BOUNDARY="a b"', b"a b"),
        ("multipart/form-data;boundary=x", b"x"),
    ],
)
def test_the_boundary_is_read(content_type: str, boundary: bytes) -> None:
    assert boundary_of({"content-type": content_type}) == boundary


@pytest.mark.parametrize(
    "content_type", ["", "image/png", "multipart/mixed; boundary=x", "multipart/"]
)
def test_anything_but_a_form_is_unsupported(content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        boundary_of({"content-type": content_type})


@pytest.mark.parametrize("rest", ["", "; boundary=", "; boundary=" + "x" * 71, '; boundary="é"'])
def test_a_form_without_a_usable_boundary_is_malformed(rest: str) -> None:
    with pytest.raises(MalformedBody):
        boundary_of({"content-type": "multipart/form-data" + rest})


def test_others_have_turns_while_many_folded_lines_are_parsed() -> None:
    folded = "X-Note: a" + "\r\n a" * 2000
    body = form(*(part("note", b"x", folded) for _ in range(10)), part("file", b"x"))
    turns = 0

    async def whole() -> AsyncIterator[bytes]:
        yield body

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def run() -> bytes:
        others = asyncio.ensure_future(count_turns())
        chunks = [chunk async for chunk in FilePart(whole(), BOUNDARY)]
        others.cancel()
        return b"".join(chunks)

    assert asyncio.run(run()) == b"x"
    assert turns >= len(body) // PARSED_AT_ONCE_BYTES
