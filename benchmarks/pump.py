"""The load generator for what wrk cannot do: HEAD, uploads under ever new names, mixed loads.

wrk waits for the body that an answer to HEAD does not have, and its scripts copy every body. Here
one process holds some connections open, and sends the next request on each when its answer is in.
Requests under way at the end are waited for and counted, so that no server's work goes uncounted.

Run as a process of its own, pinned to its core: `python -m benchmarks.pump`, an `Order` as JSON on
standard input, a `Yield` as JSON on standard output.
"""

import dataclasses
import itertools
import json
import mmap
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_GIVE_UP_AFTER_S = 60
_CONTENT_LENGTH = b"content-length:"


@dataclass(frozen=True)
class Traffic:
    """Many images, tokens and user agents; each request draws one of each.

    Attributes:
        paths: A file with a path in each line, the most popular one first.
        heads: A file with the fields of a head in each line, tabs between them.
        exponent: Of Zipf's law, by which a path is drawn; 0 draws all alike, and with None each
            path has its turn.
        seed: With the same one, requests come in the same order.
    """

    paths: str
    heads: str
    exponent: float | None
    seed: int


@dataclass(frozen=True)
class Order:
    """What to send, and for how long.

    Attributes:
        target: Of each request; `{n}` becomes a number that no other request of this run has,
            `{path}` a path of the traffic.
        fields: Lines of the head, Content-Length excepted.
        body: A file that holds the body, or nothing.
        expected: The status that counts; every other one is a failure.
        share: Of all requests, where the others are of the order `beside`.
    """

    port: int
    method: str
    target: str
    fields: dict[str, str]
    connections: int
    seconds: float
    expected: list[int]
    body: str | None = None
    traffic: Traffic | None = None
    share: float = 1
    beside: Self | None = None

    @classmethod
    def of(cls, values: dict[str, object]) -> Self:
        """From what `dataclasses.asdict` made."""
        traffic, beside = values.pop("traffic"), values.pop("beside")
        return cls(
            **values,  # type: ignore[arg-type]  # as the fields are
            traffic=Traffic(**traffic) if isinstance(traffic, dict) else None,
            beside=cls.of(beside) if isinstance(beside, dict) else None,
        )


@dataclass(frozen=True)
class Yield:
    """What came of it: answers as expected, everything else, and the latter by what it was.

    Attributes:
        p50_ms, p99_ms: Of the order itself, without what was sent beside it.
    """

    answered: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    failures: dict[str, int]


class _Source:
    """Requests of one kind, and how long their answers took, in seconds."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.body = _body(order)
        self.latencies: list[float] = []
        self._heads = _heads(order, len(self.body))

    def next(self) -> list[memoryview]:
        """Head and body of the next request."""
        head = memoryview(next(self._heads))
        return [head, self.body] if self.body else [head]


class _Connection:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.begun = 0.0
        self.to_send: list[memoryview] = []
        self.source: _Source
        self._received = b""

    def begin(self, source: _Source) -> None:
        """Start the next request."""
        self.source, self.to_send = source, source.next()
        self.begun = time.perf_counter()
        self.send()

    def send(self) -> None:
        """Send as much as the kernel takes."""
        try:
            sent = self.socket.sendmsg(self.to_send)
        except BlockingIOError:
            return
        while self.to_send and sent >= len(self.to_send[0]):
            sent -= len(self.to_send.pop(0))
        if self.to_send:
            self.to_send[0] = self.to_send[0][sent:]

    def receive(self) -> int | None:
        """The status, once the whole answer is there.

        Raises:
            ConnectionError: it was closed, or the answer is one that this client cannot frame.
        """
        piece = self.socket.recv(65_536)
        if not piece:
            raise ConnectionError("closed")
        self._received += piece
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        status = int(head[9:12])
        if self.source.order.method != "HEAD" and status != 204:  # noqa: PLR2004  (No Content)
            _, known, length = head.lower().partition(_CONTENT_LENGTH)
            if not known:
                raise ConnectionError("no Content-Length")
            if len(rest) < int(length.partition(b"\r\n")[0]):
                return None
        self._received = b""
        return status


class _Pump:
    """All connections of a run, and what has come of them."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._sources = [_Source(one) for one in (order, order.beside) if one]
        self._chance = random.Random(order.share)  # noqa: S311  (the same mix for each server)
        self._poll = select.epoll()
        self._connections: dict[int, _Connection] = {}
        self._end = 0.0
        self._failures: dict[str, int] = {}

    def run(self) -> Yield:
        begun = time.perf_counter()
        self._end = begun + self._order.seconds
        for _ in range(self._order.connections):
            self._connect()
        while self._connections and time.perf_counter() < self._end + _GIVE_UP_AFTER_S:
            for number, events in self._poll.poll(1):
                self._serve(self._connections[number], events)
        for _ in self._connections:
            self._fail("no answer")
        seconds = time.perf_counter() - begun
        latencies = sorted(self._sources[0].latencies)
        return Yield(
            answered=sum(len(source.latencies) for source in self._sources),
            failed=sum(self._failures.values()),
            seconds=seconds,
            p50_ms=_quantile(latencies, 0.5) * 1e3,
            p99_ms=_quantile(latencies, 0.99) * 1e3,
            failures=self._failures,
        )

    def _serve(self, connection: _Connection, events: int) -> None:
        try:
            if events & select.EPOLLOUT:
                connection.send()
                self._watch(connection)
            if not events & ~select.EPOLLOUT:
                return
            status = connection.receive()
        except OSError as error:
            self._fail(str(error))
            self._close(connection)
            if time.perf_counter() < self._end:
                self._connect()
            return
        if status is None:
            return
        now = time.perf_counter()
        if status in connection.source.order.expected:
            connection.source.latencies.append(now - connection.begun)
        else:
            self._fail(str(status))
        if now < self._end:
            self._start(connection)
        else:
            self._close(connection)

    def _connect(self) -> None:
        connection = _Connection(self._order.port)
        self._connections[connection.socket.fileno()] = connection
        self._poll.register(connection.socket.fileno(), select.EPOLLIN)
        self._start(connection)

    def _start(self, connection: _Connection) -> None:
        own, *others = self._sources
        is_own = not others or self._chance.random() < self._order.share
        connection.begin(own if is_own else others[0])
        if connection.to_send:
            self._watch(connection)

    def _watch(self, connection: _Connection) -> None:
        """Ask to be told when more can be sent, if there is more."""
        wanted = select.EPOLLIN | (select.EPOLLOUT if connection.to_send else 0)
        self._poll.modify(connection.socket.fileno(), wanted)

    def _close(self, connection: _Connection) -> None:
        del self._connections[connection.socket.fileno()]
        connection.socket.close()

    def _fail(self, reason: str) -> None:
        self._failures[reason] = self._failures.get(reason, 0) + 1


def run(order: Order) -> Yield:
    """Carry out an order."""
    return _Pump(order).run()


def _body(order: Order) -> memoryview:
    if order.body is None:
        return memoryview(b"")
    with Path(order.body).open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[int(len(ordered) * share)] if ordered else 0


def _heads(order: Order, length: int) -> Iterator[bytes]:
    fields = {"Host": f"127.0.0.1:{order.port}", **order.fields}
    if order.body is not None:
        fields["Content-Length"] = str(length)
    rest = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    if order.traffic:
        for path, head in drawn(order.traffic):
            target, lines = order.target.replace("{path}", path), head.replace("\t", "\r\n")
            yield f"{order.method} {target} HTTP/1.1\r\n{rest}{lines}\r\n\r\n".encode()
    before, mark, after = order.target.partition("{n}")
    if not mark:
        yield from itertools.repeat(f"{order.method} {before} HTTP/1.1\r\n{rest}\r\n".encode())
    for number in itertools.count():
        yield f"{order.method} {before}{number}{after} HTTP/1.1\r\n{rest}\r\n".encode()


def drawn(traffic: Traffic) -> Iterator[tuple[str, str]]:
    """A path and a line of `heads` for each request; `wrk_script.lua` does the same."""
    paths = Path(traffic.paths).read_text().splitlines()
    heads = Path(traffic.heads).read_text().splitlines()
    chance = random.Random(traffic.seed)  # noqa: S311  (the same order for each server)
    turns = itertools.cycle(paths)
    exponent = traffic.exponent
    weights = [(rank + 1) ** -(exponent or 0) for rank in range(len(paths))]
    bounds = list(itertools.accumulate(weights))
    while True:
        path = next(turns) if exponent is None else chance.choices(paths, cum_weights=bounds)[0]
        yield path, chance.choice(heads)


if __name__ == "__main__":
    json.dump(dataclasses.asdict(run(Order.of(json.load(sys.stdin)))), sys.stdout)
