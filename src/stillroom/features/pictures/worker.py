"""Program of a decoding process. Its argument is the maximum number of pixels, its stdin a socket.

Untrusted files are decoded only here, by libraries written in C. The process is therefore confined:
its environment contains no secrets, it receives one open original at a time, and its memory,
processor time and priority are limited. If the kernel supports Landlock, it cannot open other
files. If the kernel supports seccomp, it can use only the system calls that decoding needs. If it
hangs or crashes, the server responds to one request with 415 or 503 and starts another process.
The reasons are in docs/adr/0017.
"""

import contextlib
import functools
import math
import os
import resource
import socket
import sys
from collections.abc import Callable
from typing import BinaryIO, Final

from stillroom.features.pictures import wire
from stillroom.features.pictures.confinement import deny_files, deny_system_calls, limit

_MEMORY_BYTES: Final = 512 * 1024**2
# Address space per pixel of the largest image, in addition to that of the libraries. An RGB image
# needs 4 bytes, one with transparency 8, and a WebP (which is decoded as an animation) 16.
_MEMORY_BYTES_A_PIXEL: Final = 18
_CPU_S: Final = 20  # seconds per image; a PNG of 100 megapixels takes half a second
_OOM_SCORE: Final = "1000"  # if memory runs out, the kernel kills this process, and not the server
_NICE: Final = 10  # a tenth of the processor time while the server is busy


def main() -> None:
    """Run jobs for the server until it closes the socket."""
    max_pixels = int(sys.argv[1])
    channel = socket.socket(fileno=0)
    try:
        from stillroom.features.pictures import decoding
    except ImportError as error:
        reason = f"{error}: install Stillroom with its server, `[server]`"
        _respond(channel, wire.BROKEN, reason.encode())
        return
    decoding.prepare(max_pixels)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(_OOM_SCORE)
    with contextlib.suppress(OSError):  # a systemd filter may reject this
        os.nice(_NICE)
    limit(memory_bytes=_MEMORY_BYTES + _MEMORY_BYTES_A_PIXEL * max_pixels)
    deny_files()
    deny_system_calls()
    while _serve(channel, functools.partial(decoding.derive, max_pixels=max_pixels)):
        pass


def _serve(channel: socket.socket, derive: Callable[[BinaryIO, wire.Job], bytes]) -> bool:
    data, files, _, _ = socket.recv_fds(channel, wire.JOB.size, 1)
    if len(data) != wire.JOB.size or len(files) != 1:
        return False
    _allow_more_cpu()
    try:
        with open(files[0], "rb") as original:
            original.seek(0)  # the server shares the file position, and may have written the file
            picture = derive(original, wire.Job.unpack(data))
    except MemoryError:
        sys.exit(wire.OUT_OF_MEMORY)  # the libraries' state may be inconsistent
    except wire.Refused as refused:
        _respond(channel, refused.args[0])
    except Exception:  # noqa: BLE001  (decoders raise various errors for invalid files)
        _respond(channel, wire.UNDECODABLE)
    else:
        _respond(channel, wire.MADE, picture)
    return True


def _respond(channel: socket.socket, kind: bytes, content: bytes = b"") -> None:
    with contextlib.suppress(ConnectionError):  # the server has ended; the next read detects it
        channel.sendall(wire.RESPONSE.pack(kind, len(content)) + content)


def _allow_more_cpu() -> None:
    """Renew the limit of processor time. If one image exceeds it, SIGXCPU ends this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime) + _CPU_S
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
