"""Synchronous sender of requests, based on `httpx.Client`."""

import os
import threading
from collections.abc import Iterator
from dataclasses import replace

import httpx

from stillroom.client.connection import LIMITS, Connection, failed
from stillroom.client.exchange import Answer, Call, Failure, Form
from stillroom.client.sinks import Sink


class Sender:
    """Thread-safe connection pool for one server. Each process has its own connections."""

    def __init__(self, connection: Connection, transport: httpx.BaseTransport | None) -> None:
        self._connection = connection
        self._transport = transport
        self._clients: dict[int, httpx.Client] = {}
        self._making = threading.Lock()

    def send(self, call: Call) -> Answer | Failure:
        """See `Sends.send`."""
        client, head = self._client(), None
        try:
            request = client.build_request(
                call.method,
                self._connection.url(call),
                headers=self._connection.fields(call),
                content=pieces(call, call.body) if isinstance(call.body, Form) else call.body,
                timeout=httpx.Timeout(call.timeout_s, connect=min(call.timeout_s, 10)),
            )
            response = client.send(request, stream=True)
            head = Answer(response.status_code, dict(response.headers), b"")
            try:
                if call.sink is None or head.status not in (200, 206):
                    return replace(head, body=response.read())
                total = call.sink.begin(head.status, head.headers)
                for chunk in response.iter_bytes():
                    write_chunk(call, call.sink, chunk, total)
            finally:
                response.close()
        except httpx.TransportError as error:
            return failed(error, head)
        return head

    def close(self) -> None:
        """See `Sends.close`."""
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
    """Yield the parts of a multipart body, and report the progress."""
    yield form.head
    done = 0
    for chunk in form.upload.chunks():
        yield chunk
        done += len(chunk)
        call.report(done, form.upload.size)
    yield form.tail


def write_chunk(call: Call, sink: Sink, chunk: bytes, total: int | None) -> None:
    """Write a chunk to the sink, then call the progress callback of the request."""
    sink.write(chunk)
    call.report(sink.written, total)
