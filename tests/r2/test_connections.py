"""What comes back on a connection to a bucket, byte by byte, also what no bucket should send."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from listening import certificate_file
from stillroom.store.connections import BrokenAnswerError, Connections, NotConnectedError

pytestmark = pytest.mark.anyio

HEAD = b"PUT /b/a HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
FINE = b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 2\r\n\r\nok'

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(*answers: bytes) -> Answering:
    """A server that answers the requests of each connection with these bytes, in turn."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for text in answers:
            await reader.readuntil(b"\r\n\r\nbody")
            writer.write(text)
            await writer.drain()
        await reader.read()

    return answer


@contextlib.asynccontextmanager
async def bucket(
    answering: Answering, *, certificate: Path | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Connections, list[asyncio.StreamWriter]]]:
    """A server for as many connections as are made, and a list of them."""
    made: list[asyncio.StreamWriter] = []
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer)
        serving.append(cast("asyncio.Task[None]", asyncio.current_task()))
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await answering(reader, writer)
        finally:
            writer.close()

    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    connections = Connections(host, port, tls=tls is not None, stalled_s=20)
    try:
        yield connections, made
    finally:
        await connections.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        server.close()
        await server.wait_closed()


async def ask(connections: Connections, body: bytes = b"body") -> tuple[int, bytes]:
    response = await connections.send(HEAD, body, has_response_body=True)
    return response.status, b"".join([piece async for piece in response.pieces()])


async def test_a_connection_is_used_again() -> None:
    async with bucket(saying(FINE, FINE, FINE)) as (connections, made):
        assert [await ask(connections) for _ in range(3)] == [(200, b"ok")] * 3

        assert len(made) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n" + FINE,
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 9\r\n\r\n" + FINE,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Behind: 1\r\n\r\n",
    ],
)
async def test_every_way_to_frame_an_answer_is_understood(answer: bytes) -> None:
    async with bucket(saying(answer, FINE)) as (connections, made):
        assert [await ask(connections), await ask(connections)] == [(200, b"ok")] * 2

        assert len(made) == 1


@pytest.mark.parametrize(
    "answer",
    [
        FINE + FINE,
        FINE + b"\0",
        FINE.replace(b"ETag", b"Connection: close\r\nETag"),
        FINE.replace(b"1.1", b"1.0"),
    ],
)
async def test_nothing_that_is_left_over_answers_the_next_request(answer: bytes) -> None:
    async with bucket(saying(answer, b"never sent")) as (connections, made):
        for _ in range(2):
            with contextlib.suppress(BrokenAnswerError):  # it may be seen at once or later
                assert await ask(connections) == (200, b"ok")

        assert len(made) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nhow long?",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"y" * 20_000,
        FINE.replace(b"ETag", b"X-Long: " + b"y" * 20_000 + b"\r\nETag"),
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"",
    ],
)
async def test_what_is_no_answer_breaks_the_connection_off(answer: bytes) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nbody")
        writer.write(answer)
        await writer.drain()

    async with bucket(hang_up) as (connections, _):
        with pytest.raises(BrokenAnswerError):
            await asyncio.wait_for(ask(connections), 60)


async def test_a_body_that_is_cut_off_is_no_shorter_body() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nbody")
        writer.write(FINE[:-1])
        await writer.drain()

    async with bucket(hang_up) as (connections, _):
        with pytest.raises(BrokenAnswerError):
            await ask(connections)


async def test_a_refusal_before_the_end_of_a_body_is_heard() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await asyncio.Event().wait()  # takes nothing more

    async with bucket(refuse) as (connections, _):
        body = bytes(32 * 1024**2)

        assert await asyncio.wait_for(ask(connections, body), 60) == (403, b"no")


async def test_a_request_that_is_given_up_leaves_no_connection_to_the_next() -> None:
    begun = asyncio.Event()

    async def hesitate(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\nbod")
        begun.set()
        await reader.read()

    async with bucket(hesitate) as (connections, made):
        for _ in range(2):
            begun.clear()
            request = connections.send(HEAD, b"bod", has_response_body=True)
            asking = asyncio.create_task(request)
            await begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking

        assert len(made) == 2


async def test_nobody_there_is_told_from_a_connection_that_breaks() -> None:
    async with bucket(saying(FINE)) as (connections, _):
        pass

    with pytest.raises(NotConnectedError):
        await ask(connections)


async def test_tls_takes_only_a_certificate_that_the_system_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = certificate_file(tmp_path)
    async with bucket(saying(FINE, FINE), certificate=certificate) as (connections, _):
        with pytest.raises(NotConnectedError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(connections)

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with bucket(saying(FINE, FINE), certificate=certificate) as (connections, _):
        assert [await ask(connections), await ask(connections)] == [(200, b"ok")] * 2


@pytest.mark.parametrize("host", ["images.s3.localhost", "others.s3.localhost"])
async def test_the_certificate_of_a_virtual_host_is_for_the_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    certificate = certificate_file(tmp_path, "images.s3.localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with bucket(saying(FINE), certificate=certificate, host=host) as (connections, _):
        if host == "images.s3.localhost":
            assert await ask(connections) == (200, b"ok")
        else:
            with pytest.raises(NotConnectedError, match="Hostname mismatch"):
                await ask(connections)
