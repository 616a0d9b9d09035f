"""Asynchronous sender of requests, based on `httpx.AsyncClient`."""

import asyncio
import os
import threading
from dataclasses import replace
from typing import Final

import anyio.from_thread
import anyio.to_thread
import httpx

from stillroom.client import async_sender_base
from stillroom.client.connection import Connection
from stillroom.client.exchange import Answer, Call, Failure, Form
from stillroom.client.sender import Sender
from stillroom.client.values import Progress

LARGE_BYTES: Final = 512 * 1024
"""Minimum size in bytes of images that a thread sends with a blocking socket.

The server may reject a request before it has received all bytes. With asyncio, httpx does not read
the response while it is sending, and times out. Smaller images are safe, because the server reads
up to 1 MiB after it has rejected a request."""


class AsyncSender(async_sender_base.AsyncSender):
    """Asynchronous sender with a connection pool for one server, process and event loop."""

    def __init__(self, connection: Connection, transport: httpx.AsyncBaseTransport | None) -> None:
        super().__init__(connection, transport)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._threaded = Sender(connection, None)

    async def send(self, call: Call) -> Answer | Failure:
        """See `Sends.send`. Raise `RuntimeError` if the connections are in another event loop."""
        self._check_loop()
        large = isinstance(call.body, Form) and call.body.upload.size > LARGE_BYTES
        if large and self._transport is None:
            return await self._send_in_thread(call)
        return await super().send(call)

    async def _send_in_thread(self, call: Call) -> Answer | Failure:
        stop = threading.Event()

        def report(event: Progress) -> None:
            if stop.is_set():
                raise ConnectionAbortedError
            if call.progress is not None:
                anyio.from_thread.run_sync(call.progress, event)

        try:
            return await anyio.to_thread.run_sync(
                self._threaded.send, replace(call, progress=report), abandon_on_cancel=True
            )
        finally:
            stop.set()

    async def close(self) -> None:
        """Close all connections. The sender can still be used, also in another event loop."""
        await super().close()
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
                "this AsyncImageStore has connections in another event loop: create one store for "
                "each loop (asyncio.run creates a new loop), or close the store before you use it "
                "in the next loop"
            )
