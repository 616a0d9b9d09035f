"""Send the SDK's requests from an event loop, with httpx's AsyncClient."""

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
"""An image that is larger may be refused before all of it was sent. An asyncio transport that is
busy sending never shows that answer (httpx then times out), a plain socket does; so such an
image is sent in a thread. The server takes up to 1 MiB after a refusal."""


class AsyncSender:
    """Pooled connections to one server, for one event loop, and for each process its own."""

    def __init__(self, connection: Connection, transport: httpx.AsyncBaseTransport | None) -> None:
        self._connection = connection
        self._transport = transport
        self._clients: dict[int, httpx.AsyncClient] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threaded = Sender(connection, None)

    async def _send_in_thread(self, call: Call) -> Answer | Failure:
        """Send a large image by the sync sender; ends with the next piece if it is cancelled."""
        stop = threading.Event()

        def told(done: int, total: int | None) -> None:
            if stop.is_set():
                raise ConnectionAbortedError
            if call.progress is not None:
                anyio.from_thread.run_sync(call.progress, done, total)

        try:
            return await anyio.to_thread.run_sync(
                self._threaded.send, replace(call, progress=told), abandon_on_cancel=True
            )
        finally:
            stop.set()

    async def send(self, call: Call) -> Answer | Failure:
        """Send a request, and return its answer or why there is none.

        Raises:
            ConfigurationError: it can never be sent.
            RuntimeError: its connections are of another event loop.
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
                content=_sent(call),
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
        """Close all connections; it may be used again, in another event loop, too."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.aclose()
        self._loop = None
        self._threaded.close()

    def _check_loop(self) -> None:
        if self._transport is not None:
            return  # its connections are its own business
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # trio's, which says so itself
            return
        if self._loop is None or os.getpid() not in self._clients:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "this AsyncImageStore is used in a second event loop, and its connections are of "
                "the first: make one in each (asyncio.run makes a new loop), or close it before"
            )

    def _client(self) -> httpx.AsyncClient:
        client = self._clients.get(os.getpid())
        if client is None:
            client = httpx.AsyncClient(limits=new_limits(), transport=self._transport)
            self._clients = {os.getpid(): client}
        return client


def _sent(call: Call) -> bytes | AsyncIterator[bytes] | None:
    return pieces(call, call.body) if isinstance(call.body, Form) else call.body


async def pieces(call: Call, form: Form) -> AsyncIterator[bytes]:
    """The body of a call, read in a thread."""
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
    """A piece of an image into the file that it goes to, in a thread."""
    await anyio.to_thread.run_sync(sink.write, chunk)
    if call.progress is not None:
        call.progress(sink.written, total)
