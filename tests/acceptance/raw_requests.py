"""Requests as bytes, and the whole answers to them."""

import contextlib
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from running import Server, parsed

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(250))
LARGE = os.urandom(3 * 1024**2)


@contextlib.contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, io.BufferedReader]]:
    """A connection, and what comes on it as a file; both are closed."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as connection,
        connection.makefile("rb") as stream,
    ):
        yield connection, stream


def ask(server: Server, request: bytes, *, times: int = 1) -> list[bytes]:
    answers = []
    with connected(server.port) as (connection, stream):
        for _ in range(times):
            connection.sendall(request)
            answers.append(one_answer(stream, has_body=not request.startswith(b"HEAD")))
    return answers


def one_answer(stream: "socket.SocketIO | object", *, has_body: bool) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()  # type: ignore[union-attr]  # makefile's type is not public
        assert line, head
        head += line
    found = parsed(head)
    length = 0 if not has_body or found.status == 304 else int(found.headers["content-length"])
    return head + bytes(stream.read(length))  # type: ignore[union-attr]  # as above


def open_descriptors(server: Server) -> int:
    """Of connections and images; those of the library come when its rows are first needed."""
    found = 0
    for descriptor in Path(f"/proc/{server.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += "/library.db" not in os.readlink(descriptor)
    return found
