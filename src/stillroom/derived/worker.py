"""A decoding process: `python -m stillroom.derived.worker MOST_PIXELS`, its socket as its stdin.

A stranger's file is decoded here, by libraries written in C, and nowhere else. So this process
is given little: no secret in its environment, one original at a time as an open descriptor, no
other file where the kernel has Landlock, no call but what decoding takes where it has seccomp, so
much memory and processor time, and that after all others. It may hang, crash or be killed: the
server answers one request with 415 or 503, and starts another.
docs/adr/0017 says why it is made so.
"""

import contextlib
import math
import os
import resource
import socket
import sys
from collections.abc import Callable, Mapping
from typing import Final

from stillroom.derived.confinement import give_up_calls, give_up_files, limit
from stillroom.derived.wire import (
    ANSWER,
    BROKEN,
    CUT_OFF,
    JOB,
    MADE,
    OUT_OF_MEMORY,
    TOO_MANY_PIXELS,
    TOO_MANY_SCANS,
    UNDECODABLE,
    Job,
)

_MEMORY_BYTES: Final = 512 * 1024**2
_MEMORY_BYTES_A_PIXEL: Final = 18
"""Of address space, beside what the libraries take of it: an RGB image needs 4, one with alpha
8 (its colours are multiplied with it), and a WebP, which is decoded as an animation, 16."""

_CPU_S: Final = 20
"""For one image. A hundred megapixels of a smooth PNG take half a second here; forty times that
is an attack."""

_FIRST_TO_GO: Final = "1000"
"""When memory runs out the kernel takes this process, and not the server."""

_NICE: Final = 10
"""A tenth of the processor that the server gets where both want it."""

Derive = Callable[[int, Job], bytes]
Refusals = Mapping[type[Exception], bytes]


def main() -> None:
    """Take jobs until the server closes the socket."""
    max_pixels = int(sys.argv[1])
    channel = socket.socket(fileno=0)
    try:
        from stillroom.derived import decoding
    except ImportError as error:
        _answer(channel, BROKEN, f"{error}: install Stillroom with its server, `[server]`".encode())
        return
    decoding.prepare(max_pixels)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(_FIRST_TO_GO)
    with contextlib.suppress(OSError):  # systemd's filter may refuse it
        os.nice(_NICE)
    limit(memory_bytes=_MEMORY_BYTES + _MEMORY_BYTES_A_PIXEL * max_pixels)
    give_up_files()
    give_up_calls()

    def derive(file: int, job: Job) -> bytes:
        with open(file, "rb") as original:
            original.seek(0)  # the server shares the position, and may have just written the file
            return decoding.derive(original, job, max_pixels=max_pixels)

    refusals = {
        decoding.CutOffError: CUT_OFF,
        decoding.TooManyPixelsError: TOO_MANY_PIXELS,
        decoding.TooManyScansError: TOO_MANY_SCANS,
    }
    while _serve(channel, derive, refusals):
        pass


def _serve(channel: socket.socket, derive: Derive, refusals: Refusals) -> bool:
    """Do one job; False: there will be no other."""
    data, files, _, _ = socket.recv_fds(channel, JOB.size, 1)
    if len(data) != JOB.size or len(files) != 1:
        return False
    _allow_more_cpu()
    try:
        picture = derive(files[0], Job.unpack(data))
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)  # what is left of it may be in pieces
    except Exception as error:  # noqa: BLE001  (decoders raise all sorts about a bad file)
        _answer(channel, refusals.get(type(error), UNDECODABLE))
    else:
        _answer(channel, MADE, picture)
    return True


def _answer(channel: socket.socket, kind: bytes, content: bytes = b"") -> None:
    with contextlib.suppress(ConnectionError):  # the server has gone; so shall we
        channel.sendall(ANSWER.pack(kind, len(content)) + content)


def _allow_more_cpu() -> None:
    """SIGXCPU ends this process when one image takes more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime) + _CPU_S
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
