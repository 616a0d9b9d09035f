"""The body of an upload, however it is cut."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillroom.speed.http11.body import RequestBody as Body


@given(st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=20), st.binary(max_size=9))
def test_a_body_comes_out_as_it_went_in_and_what_is_behind_it_comes_back(
    data: bytes, cuts: list[int], behind: bytes
) -> None:
    async def run() -> None:
        body = Body(len(data))
        stream, rest = data + behind, b""
        for cut in [*cuts, len(stream)]:
            if not body.is_complete:
                rest = body.feed(stream[:cut]) or b""
                stream = stream[cut:]
        received = b"".join([piece async for piece in body])
        assert received == data
        assert rest + stream == behind

    asyncio.run(run())


def test_nothing_is_asked_of_the_client_before_a_reader_waits() -> None:
    async def run() -> None:
        begun: list[bool] = []
        body = Body(2)
        body.on_first_read = lambda: begun.append(True)
        assert not begun
        waiting = asyncio.ensure_future(anext(body))
        await asyncio.sleep(0)  # one turn of the event loop
        assert begun == [True]
        assert body.is_awaited
        body.feed(b"x")
        assert await waiting == b"x"
        body.feed(b"y")
        assert await anext(body) == b"y"
        assert begun == [True], "the client is asked once"
        assert not body.is_awaited

    asyncio.run(run())


def test_an_aborted_body_is_a_connection_error_also_for_a_waiting_reader() -> None:
    async def run() -> None:
        body = Body(10)
        waiting = asyncio.ensure_future(anext(body))
        await asyncio.sleep(0)  # one turn of the event loop
        body.abort()
        with pytest.raises(ConnectionError):
            await waiting
        with pytest.raises(ConnectionError):
            await anext(body)

    asyncio.run(run())


def test_reading_stops_while_too_much_waits_and_goes_on_behind_it() -> None:
    async def run() -> None:
        set_to: list[bool] = []
        body = Body(10 * 1024**2)
        body.set_reading = set_to.append
        for _ in range(5):
            body.feed(bytes(100_000))
        assert set_to[-1:] == [False]
        for _ in range(5):
            await anext(body)
        assert set_to[-1:] == [True]

    asyncio.run(run())


def in_chunks(data: bytes, size: int) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def test_chunks_of_one_byte_become_few_pieces_and_others_have_turns_between_these() -> None:
    async def run() -> None:
        data, set_to = os.urandom(40_000), list[bool]()
        body = Body(None, max_overhead=1000)
        body.set_reading = set_to.append
        rest, decoded = body.feed(in_chunks(data, 1) + b"GET"), [body.received]
        assert set_to == [False]
        while rest is None:
            assert body.has_undecoded_chunks
            rest = body.feed(b"")
            decoded.append(body.received - sum(decoded))
        assert rest == b"GET"
        assert max(decoded) <= 256
        pieces = [piece async for piece in body]
        assert b"".join(pieces) == data
        assert len(pieces) <= 40_000 // 256 + 1

    asyncio.run(run())


def test_chunks_of_one_read_are_one_piece() -> None:
    async def run() -> None:
        body = Body(None, max_overhead=1000)
        assert body.feed(in_chunks(bytes(200_000), 4096)) == b""
        assert [len(piece) async for piece in body] == [200_000]

    asyncio.run(run())


def test_reading_goes_on_once_all_chunks_of_a_read_are_decoded() -> None:
    async def run() -> None:
        set_to: list[bool] = []
        body = Body(None, max_overhead=1000)
        body.set_reading = set_to.append
        body.feed(in_chunks(bytes(500), 1)[: 400 * 6])
        await anext(body)
        assert set_to == [False]
        body.feed(b"")
        assert not body.has_undecoded_chunks
        await anext(body)
        assert set_to == [False, True]

    asyncio.run(run())
