"""Asynchronous sender, based on `httpx.AsyncClient`."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import anyio.from_thread
import anyio.to_thread
import httpx

from stillroom.client.connection import (
    Connection,
    failed,
    goes_to_sink,
    head_of,
    new_limits,
    timeouts,
    total_of,
)
from stillroom.client.exchange import Answer, Call, Failure, Form
from stillroom.client.sender import Sender
from stillroom.client.sinks import Sink

LARGE_BYTES: Final = 512 * 1024
"""Images larger than this are sent by a thread with a plain socket. The server may reject them
before it has received all bytes. With asyncio, httpx does not read the response while it is sending
and times out. Smaller images are safe: the server reads up to 1 MiB after it has rejected one."""


class AsyncSender:
    """Connection pool for one server and one event loop. Each process has its own pool."""

    def __init__(self, connection: Connection, transport: httpx.AsyncBaseTransport | None) -> None:
        self._connection = connection
        self._transport = transport
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threaded = Sender(connection, None)

    async def _send_in_thread(self, call: Call) -> Answer | Failure:
        """Send a large image with the sync sender. Cancellation takes effect at the next chunk."""
        stop = threading.Event()

        def report(done: int, total: int | None) -> None:
            if stop.is_set():
                raise ConnectionAbortedError
            if call.progress is not None:
                anyio.from_thread.run_sync(call.progress, done, total)

        try:
            return await anyio.to_thread.run_sync(
                self._threaded.send, replace(call, progress=report), abandon_on_cancel=True
            )
        finally:
            stop.set()

    async def send(self, call: Call) -> Answer | Failure:
        """Send a request and return the response or the failure.

        Raises:
            ConfigurationError: The request is invalid, so a retry cannot help.
            RuntimeError: The connections belong to another event loop.
        """
        self._check_loop()
        large = isinstance(call.body, Form) and call.body.upload.size > LARGE_BYTES
        if large and self._transport is None:
            return await self._send_in_thread(call)
        client, head = self._client(), None
        try:
            request = client.build_request(
                call.method,
                self._connection.url(call),
                headers=self._connection.fields(call),
                content=_body(call),
                timeout=timeouts(call),
            )
            response = await client.send(request, stream=True)
            head = head_of(response)
            try:
                if not goes_to_sink(call, response):
                    return Answer(head.status, head.headers, await response.aread())
                await _receive(call, response)
            finally:
                await response.aclose()
        except httpx.TransportError as error:
            return failed(error, head)
        return head

    async def close(self) -> None:
        """Close all connections. The sender may be used again, also in another event loop."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.aclose()
        self._loop = None
        self._threaded.close()

    def _check_loop(self) -> None:
        if self._transport is not None:
            return  # a custom transport manages its connections itself
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio detects the misuse itself
            return
        if self._loop is None or os.getpid() not in self._clients:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "this AsyncImageStore was used in another event loop, which has its "
                "connections: create one in each loop (asyncio.run creates a new loop), or "
                "close it before"
            )

    def _client(self) -> httpx.AsyncClient:
        client = self._clients.get(os.getpid())
        if client is None:
            client = httpx.AsyncClient(limits=new_limits(), transport=self._transport)
            self._clients = {os.getpid(): client}
        return client


def _body(call: Call) -> bytes | AsyncIterator[bytes] | None:
    return pieces(call, call.body) if isinstance(call.body, Form) else call.body


async def pieces(call: Call, form: Form) -> AsyncIterator[bytes]:
    """Yield the body of a multipart request; the file is read in a thread."""
    yield form.head
    done = 0
    chunks = form.upload.chunks()
    while chunk := await anyio.to_thread.run_sync(next, chunks, None):
        yield chunk
        done += len(chunk)
        if call.progress is not None:
            call.progress(done, form.upload.size)
    yield form.tail


async def _receive(call: Call, response: httpx.Response) -> None:
    assert call.sink is not None  # noqa: S101  (see `goes_to_sink`)
    if response.status_code == 200:
        call.sink.restart()
    total = total_of(call, response)
    async for chunk in response.aiter_bytes():
        await write_chunk(call, call.sink, chunk, total)


async def write_chunk(call: Call, sink: Sink, chunk: bytes, total: int | None) -> None:
    """Write a chunk to the sink in a thread, then call the progress callback."""
    await anyio.to_thread.run_sync(sink.write, chunk)
    if call.progress is not None:
        call.progress(sink.written, total)
