"""A head and a slice of a file on their way to a socket, the file copied by the kernel alone."""

import asyncio
import contextlib
import mmap
import os
import socket
from typing import Final, Protocol

from stillroom.server.fast_path.answer_cache import SharedFile

_WINDOW_BYTES: Final = 1024**2
_ONE_BYTE: Final = [bytearray(1)]
_WINDOWS_IN_A_TURN: Final = 4
"""Then others have a turn of the event loop, however fast this client takes its bytes."""


class Told(Protocol):
    """Hears once how a sending ended."""

    def __call__(self, *, all_sent: bool) -> None:
        """Whether all was sent; else the connection or the file failed."""
        ...


class FileSending:
    """Sends until all is sent, or the connection or the file fails. Tells once how it ended.

    Attributes:
        left: Bytes that the kernel has not taken yet.
    """

    def __init__(  # noqa: PLR0917  (the one caller passes what it has under these names)
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        head: bytes,
        image: SharedFile,
        start: int,
        length: int,
    ) -> None:
        self.left = len(head) + length
        self._loop = loop
        self._socket = connection
        self._head = head
        self._image = image
        self._at = start
        self._own: socket.socket | None = None
        self._in_thread = False
        self._ended = False
        self._tell: Told | None = None

    def at_once(self) -> bool:
        """Send what can be sent without waiting.

        Returns:
            Whether that was everything; else go on with `rest`.

        Raises:
            OSError: the connection or the file failed.
        """
        try:
            for _ in range(_WINDOWS_IN_A_TURN):
                if not self.left or not (self._image.is_cached or self._is_cached()):
                    break
                self._step()
        except BlockingIOError:
            return False
        if self.left:
            return False
        self._image.is_cached = True
        self._end()
        return True

    def rest(self, tell: Told) -> None:
        """Go on as the client takes it; `tell` hears whether all was sent."""
        self._tell = tell
        # The loop refuses to watch its transport's own descriptor, and a thread that sends
        # must not find that number reused for another file.
        self._own = self._socket = self._socket.dup()
        self._loop.add_writer(self._own, self._pump)

    def cancel(self) -> None:
        """Send no more, and call nothing back."""
        self._tell = None
        self._end()

    def _pump(self) -> None:
        try:
            for _ in range(_WINDOWS_IN_A_TURN):
                if not self.left:
                    break
                if not self._is_cached():
                    self._pump_in_thread()
                    return
                self._step()
        except BlockingIOError:
            return
        except OSError:
            self._end(all_sent=False)
            return
        if not self.left:
            self._end()

    def _pump_in_thread(self) -> None:
        """One step in a thread, where waiting for the disk blocks no other connection."""
        assert self._own is not None  # noqa: S101  (`rest` made it)
        self._loop.remove_writer(self._own)
        self._in_thread = True
        step = self._loop.run_in_executor(None, self._step)
        step.add_done_callback(self._pumped_in_thread)

    def _pumped_in_thread(self, step: asyncio.Future[None]) -> None:
        self._in_thread = False
        error = step.exception()
        if self._ended:
            self._close()
        elif error is not None and not isinstance(error, BlockingIOError):
            self._end(all_sent=False)
        else:
            assert self._own is not None  # noqa: S101  (`rest` made it)
            self._loop.add_writer(self._own, self._pump)

    def _is_cached(self) -> bool:
        """Whether the next window's ends are in memory, and so very likely what is between."""
        window = min(self.left - len(self._head), _WINDOW_BYTES)
        file = self._image.fileno()
        try:
            os.preadv(file, _ONE_BYTE, self._at, os.RWF_NOWAIT)
            os.preadv(file, _ONE_BYTE, self._at + window - 1, os.RWF_NOWAIT)
        except OSError:
            return False
        return True

    def _step(self) -> None:
        if self._head:
            # Joined with what follows, unless that begins in the middle of a page: then the
            # kernel takes twice as long (35 µs for 100 KB, against 20 in a packet of its own).
            flags = 0 if self._at % mmap.PAGESIZE else socket.MSG_MORE
            sent = self._socket.send(self._head, flags)
            self._head = self._head[sent:]
            self.left -= sent
            if self._head:
                return
        window = min(self.left, _WINDOW_BYTES)
        sent = os.sendfile(self._socket.fileno(), self._image.fileno(), self._at, window)
        if sent == 0:
            raise OSError("the file became shorter while it was sent")
        self._at += sent
        self.left -= sent

    def _end(self, *, all_sent: bool = True) -> None:
        if self._ended:
            return
        self._ended = True
        if not self._in_thread:
            self._close()
        if self._tell is not None:
            self._tell(all_sent=all_sent)

    def _close(self) -> None:
        self._image.close()
        if self._own is not None:
            with contextlib.suppress(ValueError):
                self._loop.remove_writer(self._own)
            self._own.close()
