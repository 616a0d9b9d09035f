"""What is measured without load: the start, one huge upload, and the signing of a URL."""

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import peers, servers
from benchmarks.cases import MIB
from benchmarks.load import pump
from benchmarks.measure import write_bodies
from benchmarks.processes import LOAD_CORE, cores, cpu_seconds, forget_peak, peak_bytes
from benchmarks.pump import Order
from benchmarks.servers import SAVED, Server
from stillroom.store.s3.signing import Signer

_CALLS = 5000


@dataclass(frozen=True)
class Single:
    """One figure, with its target if it has one: it must stay below."""

    name: str
    server: str
    value: float
    unit: str
    target: float | None = None
    note: str = ""


def huge_uploads(size: int, work: Path) -> Iterator[Single]:
    """Growth of the peak of memory while one image of `size` bytes is saved.

    Each server is a fresh one: whoever has grown before has less to grow.
    """
    yield from _alone(peers.nginx(work / "nginx", nopush=False), size, work)
    yield from _alone(servers.stillroom(work / "stillroom"), size, work)
    yield from _alone(peers.copyparty(work / "copyparty"), size, work)
    with peers.seaweedfs(work / "seaweedfs") as seaweed:
        yield _huge_upload(seaweed.filer, size, work)
    yield from _alone(peers.reference(work / "reference"), size, work)


def _alone(starting: AbstractContextManager[Server], size: int, work: Path) -> Iterator[Single]:
    with starting as server:
        yield _huge_upload(server, size, work)


def _settled_memory(pid: int) -> int:
    """Bytes that a server takes when it has loaded what it loads behind its start."""
    memory = -1
    while True:
        forget_peak(pid)
        if peak_bytes(pid) == memory:
            return memory
        memory = peak_bytes(pid)
        time.sleep(1)


def _huge_upload(server: Server, size: int, work: Path) -> Single:
    bodies = write_bodies(work / "bodies", size)
    server.make_folder("huge")
    server.save("huge/small.png", bytes(MIB))  # what is loaded at the first upload does not count
    fields = dict(server.fields)
    if server.upload == "form":
        fields["Content-Type"] = "multipart/form-data; boundary=stillroom-benchmark"
    order = Order(
        server.port,
        "POST" if server.upload == "form" else "PUT",
        f"{server.prefix}huge/big.png",
        fields,
        1,
        0,
        list(SAVED),
        str(bodies[server.upload]),
    )
    memory, used = _settled_memory(server.pid), cpu_seconds(server.pid)
    seen = pump(order, cores(LOAD_CORE))
    if seen.failed:
        raise RuntimeError(f"{server.name} did not save {size} bytes: {seen.failures}")
    growth = (peak_bytes(server.pid) - memory) / MIB
    used = cpu_seconds(server.pid) - used
    server.clear("huge")
    return Single(
        f"upload of {size // MIB} MiB: growth of peak memory",
        server.name,
        growth,
        "MiB",
        8 if server.name == "Stillroom" else None,
        f"{size / MIB / seen.seconds:.0f} MiB/s, {used:.2f} s of CPU",
    )


def start(work: Path, times: int) -> Single:
    """From the start of the process to the first 200 of `/readyz`."""
    taken = []
    for _ in range(times):
        with servers.stillroom(work / "start") as server:
            taken.append(server.ready_after_s)
    return Single(
        "start until ready", "Stillroom", statistics.median(taken), "s", 1, f"median of {times}"
    )


def signing(times: int) -> Single:
    """One presigned URL, at a new time and for a new key each; the median of some runs."""
    signer = Signer("account.r2.cloudflarestorage.com", peers.KEY_ID, peers.KEY)
    taken = []
    for _ in range(times):
        paths = [f"/images/compute/{os.urandom(8).hex()}/{n}.png" for n in range(_CALLS)]
        begun = time.perf_counter()
        for path in paths:
            signer.presign(path, valid_for_s=300, now=datetime.now(UTC))
        taken.append((time.perf_counter() - begun) / _CALLS * 1e6)
    return Single(
        "302 with a presigned URL: signing", "Stillroom", statistics.median(taken), "µs", 10
    )
