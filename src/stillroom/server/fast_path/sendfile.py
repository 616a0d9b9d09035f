"""sendfile: a head and a slice of a file, to fast and slow clients, without blocking others."""

import asyncio
import contextlib
import logging
import mmap
import os
import socket
from typing import TYPE_CHECKING, Final, NamedTuple

from stillroom.server.http11.exchange import ClientConnection
from stillroom.storage.values import LocalImage
from stillroom.telemetry import metrics
from stillroom.telemetry.logging import access_log

if TYPE_CHECKING:
    from stillroom.server.fast_path.answers import AnswerRecord

_WINDOW_BYTES: Final = 1024**2
"""Sent in one call, before other connections have their turn, however fast this client reads.
nginx: `sendfile_max_chunk`, 2 MiB."""

_WITHOUT_DESCRIPTOR_S: Final = 0.1
"""A client is looked at so often while no descriptor is left to wait for it."""

_ONE_BYTE: Final = [bytearray(1)]

log = logging.getLogger("stillroom.server")


class FileSlice(NamedTuple):
    """A part of an open image."""

    image: LocalImage
    start: int
    length: int


class FileExchange:
    """An answer whose body is sent from a file; an `Exchange`."""

    has_begun = True

    def __init__(
        self,
        connection: ClientConnection,
        head: bytes,
        file: FileSlice,
        record: "AnswerRecord",
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
        # The loop refuses to watch its transport's own descriptor, and a thread that sends
        # must not find that number reused for another file.
        self._socket: socket.socket | None = None
        self._is_in_thread = False
        self._is_polling = False  # no descriptor was left
        self._has_ended = False

    @classmethod
    def start(
        cls, connection: ClientConnection, head: bytes, file: FileSlice, record: "AnswerRecord"
    ) -> None:
        """Send what can be sent without waiting, and go on as the client takes it."""
        exchange = cls(connection, head, file, record)
        metrics.begin()
        connection.answer_with(exchange)
        exchange._send(connection.socket)

    @property
    def unsent_bytes(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return len(self._head) + self._left

    def disconnect(self) -> None:
        """Send no more."""
        self._end()

    def _send(self, to: socket.socket) -> None:
        """Send a window, if that takes no waiting for the disk."""
        if self._has_ended:
            return
        takes_more = False
        try:
            if self._is_in_page_cache():
                takes_more = self._send_window(to)
            elif self._socket is not None:
                self._send_in_thread(self._socket)
                return
        except BlockingIOError:
            pass
        except OSError as error:
            self._cut_off(error)
            return
        if not self._left:
            self._end()
            self._connection.finish(self)
        elif takes_more and self._socket is None:
            self._loop.call_soon(self._send, to)  # others first; a writer costs twelve system calls
        elif self._socket is None:
            self._wait_for(to)

    def _wait_for(self, to: socket.socket) -> None:
        """Go on once the client takes more; without a descriptor, now and then."""
        try:
            self._socket = to.dup()
        except OSError as error:
            if not self._is_polling:
                self._is_polling = True
                log.warning("a slow download goes on without a descriptor: %s", error.strerror)
            self._loop.call_later(_WITHOUT_DESCRIPTOR_S, self._send, to)
        else:
            self._loop.add_writer(self._socket, self._send, self._socket)

    def _cut_off(self, error: BaseException) -> None:
        """End an answer in the middle; a client that has gone is no error."""
        if not isinstance(error, ConnectionError | TimeoutError):
            log.error("a download was cut off: %r", error)
        self._end()
        self._connection.abort()

    def _send_in_thread(self, to: socket.socket) -> None:
        """Send a window in a thread, where waiting for the disk blocks no other connection."""
        self._loop.remove_writer(to)
        self._is_in_thread = True
        step = self._loop.run_in_executor(None, self._send_window, to)
        step.add_done_callback(self._sent_in_thread)

    def _sent_in_thread(self, step: asyncio.Future[bool]) -> None:
        self._is_in_thread = False
        error = step.exception()
        if self._has_ended:
            self._close()
        elif error is not None and not isinstance(error, BlockingIOError):
            self._cut_off(error)
        elif not self._left:
            self._end()
            self._connection.finish(self)
        elif self._socket is not None:
            self._loop.add_writer(self._socket, self._send, self._socket)

    def _is_in_page_cache(self) -> bool:
        """Whether the next window's ends are in memory, and so very likely what is between."""
        window = min(self._left, _WINDOW_BYTES)
        file = self._image.fileno()
        try:
            os.preadv(file, _ONE_BYTE, self._offset, os.RWF_NOWAIT)
            os.preadv(file, _ONE_BYTE, self._offset + window - 1, os.RWF_NOWAIT)
        except OSError:
            return False
        return True

    def _send_window(self, to: socket.socket) -> bool:
        """Send the head and the next bytes; False: the client takes no more for now."""
        if self._head:
            # Joined with what follows, unless that begins in the middle of a page: then the
            # kernel takes twice as long (35 µs for 100 KB, against 20 in a packet of its own).
            flags = 0 if self._offset % mmap.PAGESIZE else socket.MSG_MORE
            sent = to.send(self._head, flags)
            self._head = self._head[sent:]
            if self._head:
                return False
        window = min(self._left, _WINDOW_BYTES)
        sent = os.sendfile(to.fileno(), self._image.fileno(), self._offset, window)
        if sent == 0:
            raise OSError("the file became shorter while it was sent")
        self._offset += sent
        self._left -= sent
        return sent == window

    def _end(self) -> None:
        if self._has_ended:
            return
        self._has_ended = True
        if not self._is_in_thread:
            self._close()
        metrics.end()
        sent = self._length - self._left
        metrics.count_sent(self._record.answer.operation, sent)
        if access_log.isEnabledFor(logging.INFO):
            self._record.log(sent)

    def _close(self) -> None:
        self._image.close()
        if self._socket is not None:
            with contextlib.suppress(ValueError):
                self._loop.remove_writer(self._socket)
            self._socket.close()
