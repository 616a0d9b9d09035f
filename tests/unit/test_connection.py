"""Connections without an application behind them."""

import asyncio
import logging
from typing import Any

import pytest

from stillroom.speed.http11.connection import Connection
from stillroom.speed.http11.service import Service
from stillroom.speed.settings import SpeedSettings


def fail(*_: object) -> Any:
    """Begins no answer."""
    raise RuntimeError("at /a?sig=secret")


def test_an_error_while_a_request_is_read_is_one_response_and_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> bytes:
        loop = asyncio.get_running_loop()
        service = Service(loop, SpeedSettings.of_values(), set(), set(), begin=fail)
        server = await loop.create_server(lambda: Connection(service), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
        return answer

    with caplog.at_level(logging.ERROR):
        answer = asyncio.run(run())

    assert answer.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    (record,) = caplog.records
    assert "RuntimeError" in record.getMessage()
    assert "test_connection.py" in record.getMessage()
    assert "secret" not in record.getMessage()
    assert record.exc_info is None


def test_of_what_many_connections_have_to_do_one_piece_runs_in_a_turn() -> None:
    async def run() -> None:
        loop = asyncio.get_running_loop()
        service = Service(loop, SpeedSettings.of_values(), set(), set(), begin=fail)
        ran: list[str] = []

        def again() -> None:
            ran.append("a")
            if ran.count("a") == 1:
                service.run_in_turn(again)

        for work in (again, lambda: ran.append("b"), lambda: ran.append("c")):
            service.run_in_turn(work)
        seen = []
        for _ in range(5):
            await asyncio.sleep(0)  # one turn of the event loop
            seen.append("".join(ran))
        assert seen == ["a", "ab", "abc", "abca", "abca"]

    asyncio.run(run())
