"""Responses that send an image file with sendfile(2), without blocking other connections."""

import asyncio
import contextlib
import logging
import mmap
import os
import socket
from typing import Final, NamedTuple

from stillroom.speed.http11.connection import Connection
from stillroom.store.telemetry import metrics, request_id
from stillroom.store.telemetry.logging import log_access
from stillroom.store.values import LocalImage

_WINDOW_BYTES: Final = 1024**2  # sent before others are served (nginx: `sendfile_max_chunk`)
_POLL_INTERVAL_S: Final = 0.1  # between attempts, if no file descriptor is left for waiting
_ONE_BYTE: Final = [bytearray(1)]

log = logging.getLogger("stillroom.server")


class FileSlice(NamedTuple):
    """Byte range of an open image file."""

    image: LocalImage
    start: int
    length: int


class AnswerRecord(NamedTuple):
    """Properties of one response, for its line in the access log."""

    client: tuple[str, int] | None
    request: bytes
    operation: str
    status: int
    request_id: bytes
    started: float

    def log(self, sent: int) -> None:
        """Write the line of the access log. `sent` is the number of sent body bytes."""
        # If the client sent no id, a success has one only in the log.
        id_ = self.request_id.decode("ascii") or request_id.generate()
        method, target, _ = self.request.decode("latin-1").split(" ", 2)
        log_access(
            self.client, method, target, self.status,
            operation=self.operation, request_id=id_,
            began=self.started, sent=sent,
        )  # fmt: skip


class FileExchange:
    """`Exchange` whose response body is a range of a file."""

    has_begun = True

    def __init__(
        self, connection: Connection, head: bytes, file: FileSlice, record: AnswerRecord
    ) -> None:
        self.keep_alive = True
        self._connection = connection
        self._head = head
        self._image = file.image
        self._offset = file.start
        self._length = file.length
        self._left = file.length
        self._record = record
        self._loop = asyncio.get_running_loop()
        # A duplicate, because the loop refuses to watch the descriptor of its transport, and
        # because a thread must not send to a descriptor number that has been reused.
        self._socket: socket.socket | None = None
        self._is_in_thread = False
        self._is_polling = False
        self._has_ended = False

    def start(self) -> None:
        """Send as much of the file as possible immediately, and the rest later."""
        metrics.begin()
        self._connection.continue_with(self)
        self._send(self._connection.socket)

    @property
    def unsent_bytes(self) -> int:
        """Number of bytes of the response that have not been passed to the kernel."""
        return len(self._head) + self._left

    def disconnect(self) -> None:
        """Stop sending, because the client has disconnected."""
        self._end()

    def _send(self, to: socket.socket) -> None:
        if self._has_ended:
            return
        is_writable = False
        try:
            # Without a duplicate, no thread can send: read from the disk here, as the last resort.
            if self._is_in_page_cache() or (self._is_polling and self._socket is None):
                is_writable = self._send_window(to)
            elif self._socket is not None:
                self._send_in_thread(self._socket)
                return
        except BlockingIOError:
            pass
        except OSError as error:
            self._cut_off(error)
            return
        if not self._left:
            self._finish()
        elif is_writable and self._socket is None:
            # Serve other connections first. Adding a writer would take twelve system calls.
            self._loop.call_soon(self._send, to)
        elif self._socket is None:
            self._wait_for(to)

    def _wait_for(self, to: socket.socket) -> None:
        try:
            self._socket = to.dup()
        except OSError as error:
            if not self._is_polling:
                self._is_polling = True
                log.warning(
                    "cannot open a file descriptor to wait for a slow client (%s): its download "
                    "continues, but uses more CPU time",
                    error.strerror,
                )
            self._loop.call_later(_POLL_INTERVAL_S, self._send, to)
        else:
            self._loop.add_writer(self._socket, self._send, self._socket)

    def _cut_off(self, error: BaseException) -> None:
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("a download failed, so the client received an incomplete image: %r", error)
        self._end()
        self._connection.abort()

    def _send_in_thread(self, to: socket.socket) -> None:
        self._loop.remove_writer(to)
        self._is_in_thread = True
        step = self._loop.run_in_executor(None, self._send_window, to)
        step.add_done_callback(self._continue_after_thread)

    def _continue_after_thread(self, step: asyncio.Future[bool]) -> None:
        self._is_in_thread = False
        error = step.exception()
        if self._has_ended:
            self._close()
        elif error is not None and not isinstance(error, BlockingIOError):
            self._cut_off(error)
        elif not self._left:
            self._finish()
        elif self._socket is not None:
            self._loop.add_writer(self._socket, self._send, self._socket)

    def _is_in_page_cache(self) -> bool:
        window = min(self._left, _WINDOW_BYTES)
        file = self._image.fileno()
        try:  # both ends of the next window
            os.preadv(file, _ONE_BYTE, self._offset, os.RWF_NOWAIT)
            os.preadv(file, _ONE_BYTE, self._offset + window - 1, os.RWF_NOWAIT)
        except OSError:
            return False
        return True

    def _send_window(self, to: socket.socket) -> bool:
        """Send the head and the next part of the file. Return False if the socket is full."""
        if self._head:
            # MSG_MORE combines the head with the body. If the range starts within a page, this
            # takes the kernel twice as long (35 µs for 100 KB) as a packet of its own (20 µs).
            flags = 0 if self._offset % mmap.PAGESIZE else socket.MSG_MORE
            sent = to.send(self._head, flags)
            self._head = self._head[sent:]
            if self._head:
                return False
        window = min(self._left, _WINDOW_BYTES)
        sent = os.sendfile(to.fileno(), self._image.fileno(), self._offset, window)
        if sent == 0:
            raise OSError("the image file became shorter while it was sent")
        self._offset += sent
        self._left -= sent
        return sent == window

    def _finish(self) -> None:
        self._end()
        self._connection.finish(self)

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if not self._is_in_thread:
            self._close()
        metrics.end()
        sent = self._length - self._left
        metrics.count_sent(self._record.operation, sent)
        self._record.log(sent)

    def _close(self) -> None:
        self._image.close()
        if self._socket is not None:
            with contextlib.suppress(ValueError):
                self._loop.remove_writer(self._socket)
            self._socket.close()
