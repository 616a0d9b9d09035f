"""Pool of decoding processes. They are started on demand, reused, and replaced after a failure."""

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
from typing import Final

from stillroom.errors import BackendUnavailable, UnsupportedMedia
from stillroom.features.pictures import wire
from stillroom.features.pictures.derivation import Derivation

_WORKER: Final = "stillroom.features.pictures.worker"
_MAX_S: Final = 60.0  # timeout for decoding an image; the limit of processor time is lower
_WAIT_S: Final = 20.0  # timeout for a free process, after which the client should retry later
_IDLE_S: Final = 60.0  # seconds until an unused process is ended, because it uses 30 MiB of memory
_REAP_S: Final = 0.005  # seconds between checks whether a process has ended
# Number of checks before a process is killed, which does not end if a hostile image controls it.
_PATIENT_POLLS: Final = 200

_RECEIVED_BYTES: Final = 256 * 1024
_MAX_PICTURE_BYTES: Final = 64 * 1024**2  # four times 2048 x 2048 uncompressed pixels
# Signals that an image can cause in its decoding process. Operators and the kernel send others.
_KILLED_BY_THE_IMAGE: Final = frozenset(
    (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGXCPU)
)
_REFUSALS: Final = {
    wire.TOO_MANY_PIXELS: "the image has too many pixels to be decoded",
    wire.TOO_MANY_SCANS: "the image has too many scans to be decoded",
    wire.CUT_OFF: "the image is cut off: its file ends early",
}

_COLOR: Final = re.compile("#[0-9a-f]{6}")

# Prefixes of the environment variables that a process inherits. Others may be secret.
_PASSED_VARIABLES: Final = ("LANG", "LC_", "LD_LIBRARY_PATH", "PATH", "PYTHON")

_MALLOC: Final = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 1024**2),
}
"""Environment variables that make a process reuse memory for the next image.

Otherwise, decoding a WebP takes a third longer, because the kernel maps all pages again. See
https://man7.org/linux/man-pages/man3/mallopt.3.html."""

log = logging.getLogger("stillroom.derived")


class Decoders:
    """Pool of up to `most` decoding processes. Waiting for a process needs no thread."""

    def __init__(self, most: int, *, max_pixels: int) -> None:
        self._most = most
        self._slots = asyncio.Semaphore(most)
        self._max_pixels = max_pixels
        self._idle: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._retiring: asyncio.TimerHandle | None = None
        self._ending: set[asyncio.Task[int]] = set()

    async def derive(self, file: int, derivation: Derivation) -> bytes:
        """Return an encoded thumbnail of the image in the open file with the descriptor `file`.

        Raises:
            UnsupportedMedia: the image cannot be decoded, or exceeds the limits.
            BackendUnavailable: all processes were busy too long, or a process failed.
        """
        return await self._run(file, wire.Job.of(derivation))

    async def dominant_color(self, file: int) -> str | None:
        """Return `#rrggbb`, or None if the image is transparent. Raises the errors of `derive`."""
        color = (await self._run(file, wire.COLOR_JOB)).decode("ascii", "replace")
        return color if _COLOR.fullmatch(color) else None  # the process may be compromised

    async def _run(self, file: int, job: wire.Job) -> bytes:
        try:
            async with asyncio.timeout(_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            message = "too many images are waiting to be decoded: try again later"
            raise BackendUnavailable(message) from None
        try:
            return await self._derive(file, job)
        finally:
            self._slots.release()

    async def _derive(self, file: int, job: wire.Job) -> bytes:
        decoder = self._take_decoder()
        self._busy.add(decoder)
        try:
            async with asyncio.timeout(_MAX_S):
                kind, content = await decoder.run(file, job)
        except TimeoutError:
            self._end(decoder)
            raise BackendUnavailable("decoding the image took too long: try again later") from None
        except OSError as error:
            raise await self._explain_end(decoder, error) from error
        except BaseException:
            self._end(decoder)
            raise
        if kind == wire.BROKEN:
            self._end(decoder)
            reason = content.decode("utf-8", "replace")
            log.error("cannot decode images, so requests for thumbnails fail: %s", reason)
            raise BackendUnavailable("the server cannot decode images: its log says why")
        self._busy.discard(decoder)
        self._idle.append(decoder)
        if self._retiring is not None:
            self._retiring.cancel()
        self._retiring = asyncio.get_running_loop().call_later(_IDLE_S, self._retire)
        if kind == wire.MADE:
            return content
        message = _REFUSALS.get(kind, "the image cannot be decoded")
        raise UnsupportedMedia(message, is_cut_off=kind == wire.CUT_OFF)

    def _take_decoder(self) -> "_Decoder":
        while self._idle:
            decoder = self._idle.pop()
            if decoder.process.poll() is None:
                return decoder
            decoder.channel.close()
        try:
            return _Decoder(self._max_pixels)
        except OSError as error:
            message = "cannot start a process to decode the image: try again later"
            raise BackendUnavailable(message) from error

    async def _explain_end(
        self, decoder: "_Decoder", error: OSError
    ) -> UnsupportedMedia | BackendUnavailable:
        code = await self._wait_for_end(decoder)
        if code == wire.OUT_OF_MEMORY:
            return UnsupportedMedia("the image needs too much memory to be decoded")
        if -code in _KILLED_BY_THE_IMAGE:
            log.warning(
                "security: an image crashed the process that decoded it (signal %d): it was "
                "refused, and the next image gets a new process",
                -code,
            )
            return UnsupportedMedia("the image cannot be decoded")
        log.error(
            "a process that decodes images ended with status %d (%s): its image was not decoded, "
            "and the next image gets a new process", code, error,
        )  # fmt: skip
        return BackendUnavailable("decoding the image was interrupted: try again")

    def _retire(self) -> None:
        while self._idle:
            self._end(self._idle.pop())

    def _end(self, decoder: "_Decoder") -> None:
        decoder.process.kill()
        task = asyncio.get_running_loop().create_task(self._wait_for_end(decoder))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _wait_for_end(self, decoder: "_Decoder") -> int:
        self._busy.discard(decoder)
        decoder.channel.close()
        polls = itertools.count()
        while (code := decoder.process.poll()) is None:
            if next(polls) == _PATIENT_POLLS:
                decoder.process.kill()
            await asyncio.sleep(_REAP_S)  # the event loop is not notified when a process ends
        return code

    async def close(self) -> None:
        """End all processes. Calls that wait for a process raise an error."""
        if self._retiring is not None:
            self._retiring.cancel()
        for decoder in self._busy:
            decoder.process.kill()
        self._retire()
        while self._ending:
            await asyncio.gather(*self._ending)
        self._slots = asyncio.Semaphore(self._most)  # the next use may be in another event loop


class _Decoder:
    def __init__(self, max_pixels: int) -> None:
        """Start a process. Raises OSError if that fails, but does not wait until it is ready."""
        variables = {
            name: value for name, value in os.environ.items() if name.startswith(_PASSED_VARIABLES)
        }
        self.channel, theirs = socket.socketpair()
        self.channel.setblocking(False)
        with contextlib.ExitStack() as closing:
            closing.callback(self.channel.close)
            with contextlib.closing(theirs):
                self.process = subprocess.Popen(  # noqa: S603  (our own interpreter and arguments)
                    [sys.executable or "python3", "-P", "-m", _WORKER, str(max_pixels)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,  # libraries print text from untrusted files
                    env=variables | _MALLOC,
                    start_new_session=True,  # Ctrl-C must reach only the server
                )
            closing.pop_all()
        # An app that embeds the router never closes the pool, so the process ends with the app.
        weakref.finalize(self, _end_now, self.process, self.channel)

    async def run(self, file: int, job: wire.Job) -> tuple[bytes, bytes]:
        """Send a job. Return the kind and content of the response. Raises OSError if that fails."""
        socket.send_fds(self.channel, [job.pack()], [file])  # does not block: the socket is empty
        kind, length = wire.RESPONSE.unpack(await self._receive(wire.RESPONSE.size))
        if length > _MAX_PICTURE_BYTES:
            raise ConnectionError("the response has an invalid length")
        return kind, await self._receive(length)

    async def _receive(self, length: int) -> bytes:
        loop = asyncio.get_running_loop()
        received = bytearray()
        while missing := length - len(received):
            piece = await loop.sock_recv(self.channel, min(missing, _RECEIVED_BYTES))
            if not piece:
                raise ConnectionError("the socket was closed")
            received += piece
        return bytes(received)


def _end_now(process: "subprocess.Popen[bytes]", channel: socket.socket) -> None:
    channel.close()
    if process.poll() is None:
        process.kill()
        process.wait()
