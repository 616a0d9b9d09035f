"""SDK transport that calls the operations in this process, without a server."""

import dataclasses
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

import anyio
from fastapi import FastAPI
from starlette.types import Message, Scope

from stillroom.assembly import Parts
from stillroom.client import AsyncImageStore
from stillroom.client.async_retrying_sender import AsyncRetryingSender
from stillroom.client.async_sender import AsyncSender
from stillroom.client.async_sender_base import pieces, write_chunk
from stillroom.client.connection import Connection
from stillroom.client.exchange import Answer, Call, Failure, Form
from stillroom.client.retries import Retries
from stillroom.errors import StillroomError
from stillroom.router import trusted_router

if TYPE_CHECKING:
    from stillroom.client.sinks import Sink

_API: Final = "/api/v1"


class InProcessSender:
    """SDK transport that runs the operations in the caller's event loop."""

    def __init__(self, parts: Parts) -> None:
        self._application = FastAPI(openapi_url=None)
        self._application.include_router(trusted_router(parts), prefix=_API)
        # Thumbnails that the CDN creates are fetched from the CDN.
        self._elsewhere = AsyncSender(Connection(parts.store.api_url, None), None)

    async def send(self, call: Call) -> Answer | Failure:
        """Run an operation. Return a `Failure` if an image could not be read completely."""
        if call.elsewhere:
            return await self._elsewhere.send(call)
        exchange = _Exchange(call)
        try:
            await self._application(_scope(call), exchange.receive, exchange.send)
        except StillroomError as error:
            return Failure(error, sent=True, head=exchange.head)
        return exchange.answer()

    async def close(self) -> None:
        """Close the connections to the CDN."""
        await self._elsewhere.close()


class InProcessImageStore(AsyncImageStore):
    """`AsyncImageStore` that uses the storage of this process, with all permissions."""

    def __init__(self, parts: Parts) -> None:
        self._sender = AsyncRetryingSender(parts.store.api_url, Retries(), InProcessSender(parts))


class _Exchange:
    """One request and its response as ASGI messages (https://asgi.readthedocs.io)."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._body = pieces(call, call.body) if isinstance(call.body, Form) else None
        self._is_body_read = False
        self.head = Answer(0, {}, b"")
        self._content = bytearray()
        self._sink: Sink | None = None
        self._total: int | None = None
        self._fault: BaseException | None = None

    async def receive(self) -> Message:
        if self._body is not None:
            async for piece in self._body:
                if piece:
                    return {"type": "http.request", "body": piece, "more_body": True}
            self._body, self._is_body_read = None, True
            return {"type": "http.request", "body": b"", "more_body": False}
        if self._is_body_read:
            await anyio.sleep_forever()  # the caller waits for the response and never disconnects
        self._is_body_read = True
        body = self._call.body if isinstance(self._call.body, bytes) else b""
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        try:
            await self._process(message)
        except BaseException as error:
            self._fault = error  # operations ignore a client's ConnectionError
            raise

    async def _process(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = {
                name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]
            }
            self.head = Answer(message["status"], headers, b"")
            if self.head.status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT) and self._call.sink:
                self._sink = self._call.sink
                self._total = self._sink.begin(self.head.status, headers)
        elif self._sink is None:
            self._content += message.get("body", b"")
        elif message.get("body"):
            await write_chunk(self._call, self._sink, message["body"], self._total)

    def answer(self) -> Answer:
        if self._fault is not None:
            raise self._fault  # from the caller's file or `progress` callback
        return dataclasses.replace(self.head, body=bytes(self._content))


def _scope(call: Call) -> Scope:
    path, _, query = call.target.partition("?")
    body = call.body if isinstance(call.body, bytes) else b""
    fields = {"content-length": str(len(body)), **call.headers} if body else call.headers
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": _API + unquote(path),
        "raw_path": (_API + path).encode("ascii"),
        "root_path": "",
        "query_string": query.encode("ascii"),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in fields.items()],
        "client": None,
        "server": None,
        "state": {},
    }
