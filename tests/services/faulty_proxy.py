"""A way to the bucket that fails on demand: a proxy that knows where requests and answers end.

It hands every request on as it came, byte for byte, over a connection of its own, so signatures
hold (the Host field is the client's, which names the proxy). What goes wrong, and when, is a
function of the request: see `proxy_faults.py`.
"""

import contextlib
import http.client
import re
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final
from urllib.parse import parse_qs, unquote, urlsplit

from services.ports import free_ports
from services.stub_wire import operation
from waiting import until

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
"""SO_LINGER, on, no time: close sends RST. https://man7.org/linux/man-pages/man7/socket.7.html"""


@dataclass(frozen=True)
class Asked:
    """A request as a fault is chosen for it; it is about a key, or the prefix of a listing."""

    operation: str
    about: str


@dataclass
class Answered:
    """What the bucket answered; a fault may change it on its way."""

    head: bytes
    body: bytes

    def with_length(self, length: int) -> "Answered":
        head = re.sub(rb"(?i)\r\ncontent-length: *\d+", b"", self.head)
        announced = b"\r\nContent-Length: %d\r\n" % length
        return Answered(head.replace(b"\r\n", announced, 1), self.body)


class Exchange:
    def __init__(
        self, proxy: "FaultyProxy", client: socket.socket, received: BinaryIO, head: bytes
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._received = received
        self._head = head
        self._body: bytes | None = None
        self.keeps_open = True
        request_line, *lines = head.decode("latin-1").split("\r\n")
        self.method, target, _ = request_line.split(" ")
        parts = urlsplit(target)
        self.query = parse_qs(parts.query, keep_blank_values=True)
        self.key = unquote(parts.path).partition("/")[2].partition("/")[2]
        pairs = (line.partition(":")[::2] for line in lines if line)
        self.headers = {name.lower(): value.strip() for name, value in pairs}

    @property
    def operation(self) -> str:
        return operation(self.method, self.key, self.query, self.headers)

    @property
    def about(self) -> str:
        return self.key or self.query.get("prefix", [""])[0]

    def receive(self) -> bytes:
        if self._body is None:
            size = int(self.headers.get("content-length", "0"))
            self._body = self._received.read(size)
            if len(self._body) < size:
                raise ConnectionResetError("the client broke off")
        return self._body

    def carry_out(self) -> Answered:
        body = self.receive()
        with socket.create_connection(self._proxy.bucket, timeout=60) as bucket:
            bucket.sendall(self._head + b"\r\n\r\n" + body)
            answer = http.client.HTTPResponse(bucket, method=self.method)
            answer.begin()
            content = answer.read()
        has_length = answer.getheader("content-length") is not None
        fields = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "connection")
        ]
        if not has_length and self.method != "HEAD" and answer.status != 204:
            fields.append(("Content-Length", str(len(content))))
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in fields]
        return Answered("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n", content)

    def send(self, data: bytes) -> None:
        self._client.sendall(data)

    def reset(self) -> None:
        """Break the connection off as a dying machine does."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.keeps_open = False

    def close(self) -> None:
        self.keeps_open = False

    def be_silent(self) -> None:
        self.keeps_open = False
        while not self._proxy.stopped.is_set():
            readable, _, _ = select.select([self._client], [], [], 0.05)
            if readable and not self._client.recv(65_536):
                return


Fault = Callable[[Exchange], None]
Choice = Callable[[Asked], Fault | None]


class FaultyProxy:
    """A running proxy, each connection in a thread of its own.

    Attributes:
        choose: Which fault a request meets, if any. May be replaced at any time.
        black_hole: While set, connections are taken, and nothing is ever answered.
    """

    def __init__(self, bucket_url: str) -> None:
        parts = urlsplit(bucket_url)
        self.bucket = (parts.hostname or "", parts.port or 80)
        self.choose: Choice = lambda _asked: None
        self.operations: Counter[str] = Counter()
        self.black_hole = threading.Event()
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener: socket.socket | None = None
        (self._port,) = free_ports(1)
        self.endpoint_url = f"http://127.0.0.1:{self._port}"

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._open)

    def accept(self) -> None:
        listener = socket.create_server(("127.0.0.1", self._port), backlog=256)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Take no connections from now on, and reset those that are open."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept(2)
            self._listener.close()
            self._listener = None
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                    connection.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def full_queue(self) -> Iterator[None]:
        """Listen, and take no connection: those that come wait for a handshake that never ends.

        To be used while none are accepted.
        """
        with (
            socket.create_server(("127.0.0.1", self._port), backlog=0),
            contextlib.ExitStack() as all_,
        ):
            for _ in range(4):  # a queue of none holds one or two
                filler = all_.enter_context(socket.socket())
                filler.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    filler.connect(("127.0.0.1", self._port))
            yield

    def wait_until_idle(self) -> None:
        until(lambda: not self.connections, said=lambda: self.connections)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._exchanges(connection)
        finally:
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def _exchanges(self, connection: socket.socket) -> None:
        if self.black_hole.is_set():
            while self.black_hole.is_set() and not self.stopped.wait(0.02):
                pass
            return
        received = connection.makefile("rb")
        with contextlib.closing(received):
            while head := _read_head(received):
                exchange = Exchange(self, connection, received, head)
                if self.black_hole.is_set():
                    exchange.be_silent()
                    return
                fault = self.choose(self._note(exchange))
                (fault or pass_on)(exchange)
                if not exchange.keeps_open:
                    return

    def _note(self, exchange: Exchange) -> Asked:
        with self._lock:
            self.operations[exchange.operation] += 1
        return Asked(exchange.operation, exchange.about)


@contextlib.contextmanager
def faulty_proxy(bucket_url: str) -> Iterator[FaultyProxy]:
    proxy = FaultyProxy(bucket_url)
    proxy.accept()
    try:
        yield proxy
    finally:
        proxy.stopped.set()
        proxy.refuse()
        proxy.wait_until_idle()


def _read_head(received: BinaryIO) -> bytes:
    """A head without its empty line; empty at the end of the connection."""
    head = b""
    while line := received.readline():
        if line == b"\r\n":
            return head.removesuffix(line)
        head += line
    return b""


def pass_on(exchange: Exchange) -> None:
    answer = exchange.carry_out()
    exchange.send(answer.head + answer.body)
