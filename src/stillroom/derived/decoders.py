"""The pool of decoding processes: a few, kept while there is work, replaced when they fail."""

import asyncio
import contextlib
import itertools
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import weakref
from typing import Final, Self

from stillroom.derived import wire
from stillroom.errors import BackendUnavailable, UnsupportedMedia
from stillroom.http.derivation import Derivation

_WORKER: Final = "stillroom.derived.worker"

_MAX_S: Final = 60.0
"""For one image, by the clock. The process itself bounds its processor time more tightly."""

_WAIT_S: Final = 20.0
"""For a process to be free. Longer, and the client has better asked again later."""

_IDLE_S: Final = 60.0
"""Then a process is ended: each takes 30 MiB."""

_REAP_S: Final = 0.005
_PATIENT_POLLS: Final = 200
"""A process that has closed its socket ends by itself; one that was taken over may not."""

_RECEIVED_BYTES: Final = 256 * 1024
_MAX_PICTURE_BYTES: Final = 64 * 1024**2
"""2048 x 2048 pixels take 16 MiB, and no encoder makes four times as much of them."""

_KILLED_BY_THE_IMAGE: Final = frozenset(
    (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGXCPU)
)
"""All other ends come from outside: an operator's signal, or the kernel without memory."""

_COLOR: Final = re.compile("#[0-9a-f]{6}")

_KEPT_VARIABLES: Final = ("LANG", "LC_", "LD_LIBRARY_PATH", "PATH", "PYTHON")
"""What these begin with. The rest is none of a decoder's business; it may be a secret."""

_MALLOC: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
}
"""Keep the memory of an image for the next one: else each page of it is new to the kernel, which
makes a WebP take a third longer. https://man7.org/linux/man-pages/man3/mallopt.3.html"""

log = logging.getLogger("stillroom.derived")


class Decoders:
    """Makes pictures, a bounded number at a time. No thread waits for a process."""

    def __init__(self, most: int, *, max_pixels: int) -> None:
        """Decode in at most `most` processes, images of at most `max_pixels`."""
        self._most = most
        self._turns = asyncio.Semaphore(most)
        self._max_pixels = max_pixels
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._retiring: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[None]] = set()

    @property
    def pids(self) -> list[int]:
        """Of the processes that there are."""
        return [decoder.process.pid for decoder in (*self._busy, *self._idle)]

    async def derive(self, file: int, wanted: Derivation) -> bytes:
        """The picture that is wanted of the image in an open file.

        Raises:
            UnsupportedMedia: it cannot be decoded, or not within the limits.
            BackendUnavailable: no process was free in time, or it ended for no fault of the image.
        """
        return await self._do(file, wire.Job.of(wanted))

    async def dominant_color(self, file: int) -> str | None:
        """The colour of most of what the image in an open file shows; None: it shows nothing.

        Raises:
            UnsupportedMedia, BackendUnavailable: as `derive`.
        """
        found = (await self._do(file, wire.Job.of_color())).decode("ascii", "replace")
        return found if _COLOR.fullmatch(found) else None  # an image may have taken it over

    async def _do(self, file: int, job: wire.Job) -> bytes:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._turns.acquire()
        except TimeoutError:
            raise BackendUnavailable("too many images wait to be decoded") from None
        try:
            return await self._derive(file, job)
        finally:
            self._turns.release()

    async def _derive(self, file: int, job: wire.Job) -> bytes:
        decoder = self._take()
        self._busy.add(decoder)
        try:
            async with asyncio.timeout(_MAX_S):
                kind, content = await decoder.ask(file, job)
        except TimeoutError:
            self._end(decoder)
            raise BackendUnavailable("the image was not decoded in time") from None
        except OSError as error:
            raise await self._explained(decoder, error) from error
        except BaseException:
            self._end(decoder)
            raise
        if kind == wire.BROKEN:
            self._end(decoder)
            log.error("images cannot be decoded: %s", content.decode("utf-8", "replace"))
            raise BackendUnavailable("images cannot be decoded here")
        self._busy.discard(decoder)
        self._idle.append(decoder)
        self._retire_later()
        if kind == wire.MADE:
            return content
        if kind == wire.TOO_MANY_PIXELS:
            raise UnsupportedMedia("the image has too many pixels to be decoded")
        if kind == wire.TOO_MANY_SCANS:
            raise UnsupportedMedia("the image has too many scans to be decoded")
        if kind == wire.CUT_OFF:
            raise UnsupportedMedia("the image is cut off: its file ends early", is_cut_off=True)
        raise UnsupportedMedia("the image cannot be decoded")

    def _take(self) -> "_Decoder":
        while self._idle:
            decoder = self._idle.pop()
            if decoder.process.poll() is None:
                return decoder
            decoder.channel.close()
        try:
            return _Decoder.started(self._max_pixels)
        except OSError as error:
            raise BackendUnavailable("no decoding process can be started") from error

    async def _explained(
        self, decoder: "_Decoder", error: OSError
    ) -> UnsupportedMedia | BackendUnavailable:
        """Whose fault it is that a process ended."""
        code = await self._ended(decoder)
        if code == wire.OUT_OF_MEMORY:
            return UnsupportedMedia("the image needs too much memory to be decoded")
        if -code in _KILLED_BY_THE_IMAGE:
            log.warning("security: an image ended its decoding process by signal %d", -code)
            return UnsupportedMedia("the image cannot be decoded")
        log.error("a decoding process ended with status %d (%s)", code, error)
        return BackendUnavailable("the decoding process ended")

    # Ending ------------------------------------------------------------------------------

    def _retire_later(self) -> None:
        if self._retiring is not None:
            self._retiring.cancel()
        self._retiring = asyncio.get_running_loop().call_later(_IDLE_S, self._retire)

    def _retire(self) -> None:
        idle, self._idle = self._idle, []
        for decoder in idle:
            self._end(decoder)

    def _end(self, decoder: "_Decoder") -> None:
        task = asyncio.get_running_loop().create_task(self._kill(decoder))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _kill(self, decoder: "_Decoder") -> None:
        decoder.process.kill()
        await self._ended(decoder)

    async def _ended(self, decoder: "_Decoder") -> int:
        """The status of a process that has ended, or is about to."""
        self._busy.discard(decoder)
        decoder.channel.close()
        polls = itertools.count()
        while (code := decoder.process.poll()) is None:
            if next(polls) == _PATIENT_POLLS:
                decoder.process.kill()
            await asyncio.sleep(_REAP_S)  # a process that ends wakes no event loop
        return code

    async def close(self) -> None:
        """End all processes; a caller that still waits for one gets the error that it ended."""
        if self._retiring is not None:
            self._retiring.cancel()
        for decoder in self._busy:
            decoder.process.kill()
        self._retire()
        while self._ending:
            await asyncio.gather(*self._ending)
        self._turns = asyncio.Semaphore(self._most)  # the next use may be in another event loop


class _Decoder:
    """One process, and our end of its socket."""

    def __init__(self, process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
        self.process = process
        self.channel = channel
        # An app that embeds the router closes nothing: then it ends with the process that used it.
        weakref.finalize(self, _end_now, process, channel)

    @classmethod
    def started(cls, max_pixels: int) -> Self:
        """A new process, which reads its first job when it has loaded what it needs.

        Raises:
            OSError: there can be none.
        """
        ours, theirs = socket.socketpair()
        with contextlib.closing(theirs):
            try:
                process = subprocess.Popen(  # noqa: S603  (this interpreter, and a number of ours)
                    [sys.executable or "python3", "-P", "-m", _WORKER, str(max_pixels)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libraries print what files say
                    env=_environment(),
                    start_new_session=True,  # Ctrl-C is the server's to hear
                )
            except BaseException:
                ours.close()
                raise
        ours.setblocking(False)
        return cls(process, ours)

    async def ask(self, file: int, job: wire.Job) -> tuple[bytes, bytes]:
        """Have a job done.

        Raises:
            OSError: the process ended instead.
        """
        socket.send_fds(self.channel, [job.pack()], [file])  # the socket is empty: it takes this
        head = await self._receive(wire.ANSWER.size)
        kind, length = wire.ANSWER.unpack(head)
        if length > _MAX_PICTURE_BYTES:
            raise ConnectionError("an answer of impossible length")
        return kind, await self._receive(length)

    async def _receive(self, length: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while len(received) < length:
            size = min(length - len(received), _RECEIVED_BYTES)
            piece = await loop.sock_recv(self.channel, size)
            if not piece:
                raise ConnectionError("the socket was closed")
            received += piece
        return bytes(received)


def _end_now(process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
    channel.close()
    if process.poll() is None:
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if name.startswith(_KEPT_VARIABLES)}
    return kept | _MALLOC
