"""Synchronous sender of requests, based on `httpx.Client`."""

import os
import threading
from collections.abc import Iterator

import httpx

from stillroom.client.connection import (
    LIMITS,
    Connection,
    failed,
    goes_to_sink,
    head_of,
    timeouts,
    total_of,
)
from stillroom.client.exchange import Answer, Call, Failure, Form
from stillroom.client.sinks import Sink


class Sender:
    """Synchronous sender with a thread-safe connection pool for one server.

    After a fork, each process has its own connections.
    """

    def __init__(self, connection: Connection, transport: httpx.BaseTransport | None) -> None:
        self._connection = connection
        self._transport = transport
        self._clients: dict[int, httpx.Client] = {}
        self._making = threading.Lock()

    def send(self, call: Call) -> Answer | Failure:
        """Send a request and return the response or the failure.

        Raises:
            ConfigurationError: The request is invalid, so a retry cannot help.
        """
        client, head = self._client(), None
        try:
            request = client.build_request(
                call.method,
                self._connection.url(call),
                headers=self._connection.fields(call),
                content=pieces(call, call.body) if isinstance(call.body, Form) else call.body,
                timeout=timeouts(call),
            )
            response = client.send(request, stream=True)
            head = head_of(response)
            try:
                if not goes_to_sink(call, response):
                    return Answer(head.status, head.headers, response.read())
                _receive(call, response)
            finally:
                response.close()
        except httpx.TransportError as error:
            return failed(error, head)
        return head

    def close(self) -> None:
        """Close all connections. The sender can still be used: it connects again."""
        while self._clients:
            _, client = self._clients.popitem()
            client.close()

    def _client(self) -> httpx.Client:
        """Return the httpx client of this process. Forked processes must not share connections."""
        with self._making:
            client = self._clients.get(os.getpid())
            if client is None:
                client = httpx.Client(limits=LIMITS, transport=self._transport)
                self._clients = {os.getpid(): client}
            return client


def pieces(call: Call, form: Form) -> Iterator[bytes]:
    """Yield the parts of a multipart body.

    Calls the progress callback after each chunk of the image.
    """
    yield form.head
    done = 0
    for chunk in form.upload.chunks():
        yield chunk
        done += len(chunk)
        if call.progress is not None:
            call.progress(done, form.upload.size)
    yield form.tail


def _receive(call: Call, response: httpx.Response) -> None:
    assert call.sink is not None  # noqa: S101  (see `goes_to_sink`)
    if response.status_code == 200:
        call.sink.restart()
    total = total_of(call, response)
    for chunk in response.iter_bytes():
        write_chunk(call, call.sink, chunk, total)


def write_chunk(call: Call, sink: Sink, chunk: bytes, total: int | None) -> None:
    """Write a chunk to the sink, then call the progress callback of the request."""
    sink.write(chunk)
    if call.progress is not None:
        call.progress(sink.written, total)
