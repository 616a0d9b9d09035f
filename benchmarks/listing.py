"""Pages of listings over HTTP, from folders of up to a million images.

The images are made on disk once and kept for later runs, as copied in by hand. Each cold figure is
the first page that a new process answers: its memory is empty, the kernel's is not.
"""

import contextlib
import os
import re
import shutil
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from benchmarks import peers, servers
from benchmarks.cases import KIB, MIB
from benchmarks.processes import LOAD_CORE, cores, forget_peak, peak_bytes
from benchmarks.progress import Progress
from benchmarks.servers import IMAGES, Server

Kind = Literal["flat", "nested"]

LIMIT: Final = 100
PER_FOLDER: Final = 100
"""Images of one generation, where each has a folder of its own."""

TARGETS: Final = {"flat": 0.6, "nested": 0.2}
"""Seconds for a cold page of a million: what reading all names of the folders takes by itself."""

WARM_TARGET_S: Final = 0.001
REFERENCE_UP_TO: Final = 100_000
"""The plain reference walks and sorts everything; 10 s at a million."""

_MIDDLE: Final = "80000000"
_WARM_PAGES: Final = 20
_SAVES: Final = 10
_ENOUGH_S: Final = 2
"""Whoever takes this long for its warm pages, or those after saves, is not asked again."""

_PAGE_S: Final = 2
_BLOCKS: Final = 20
_BLOCK: Final = 10


@dataclass(frozen=True)
class Shape:
    """How many images, and whether in one folder or in one for each generation."""

    kind: Kind
    count: int

    @property
    def name(self) -> str:
        """For people."""
        exponent = len(str(self.count)) - 1
        return f"1e{exponent} {self.kind}"

    def images(self) -> Iterator[str]:
        """Their paths: equally distributed, in no order."""
        if self.kind == "flat":
            for number in range(self.count):
                yield f"flat/{_scattered(number)}-{number}.png"
        else:
            for number in range(self.count // PER_FOLDER):
                for image in range(PER_FOLDER):
                    yield f"generations/{_scattered(number)}/{image:03}.png"

    def pages(self) -> dict[str, str]:
        """The queries, by what they ask for."""
        folder = "flat/" if self.kind == "flat" else "generations/"
        return {
            "first page": f"prefix={folder}",
            "middle page": f"prefix={folder}&start_after={folder}{_MIDDLE}",
            "deep prefix": f"prefix={self._deep()}",
        }

    def saved(self, page: str, number: int) -> str:
        """The path of a save that touches a folder which this page has read.

        Nested, a save makes a generation, so it touches the folder of all generations; but for
        the deep prefix, where it is one more image in the generation that is listed.
        """
        if self.kind == "flat":
            return f"flat/{_MIDDLE}-saved-{number}.png"
        if page == "deep prefix":
            return f"{self._deep()}saved-{number}.png"
        return f"generations/{_MIDDLE}-saved-{number}/000.png"

    def _deep(self) -> str:
        if self.kind == "flat":
            return f"flat/{_scattered(self.count // 2)[:3]}"
        return f"generations/{_scattered(self.count // PER_FOLDER // 2)}/"


@dataclass(frozen=True)
class Listed:
    """One shape and page: seconds and MiB, medians over the rounds."""

    shape: Shape
    page: str
    server: str
    cold_s: float
    warm_s: float
    after_save_s: float | None
    growth_mb: float


@dataclass(frozen=True)
class SaveCost:
    """A save into a full folder against one into an empty one, medians over blocks."""

    shape: Shape
    empty_ms: float
    full_ms: float
    ratio: float


def _scattered(number: int) -> str:
    """Multiplicative hashing: Knuth, The Art of Computer Programming 3, 6.4."""
    return f"{number * 2_654_435_761 % 2**32:08x}"


def corpus(cache: Path, shape: Shape) -> Path:
    """The data directory with these images; made if it is not there."""
    folder = cache / f"{shape.kind}-{shape.count}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        made = set()
        for key in shape.images():
            parent = folder / "compute" / key.rpartition("/")[0]
            if parent not in made:
                parent.mkdir(parents=True)
                made.add(parent)
            os.close(os.open(folder / "compute" / key, os.O_WRONLY | os.O_CREAT, 0o644))
        (folder / "complete").touch()
    return folder


class _Client:
    """Requests over one connection, with next to no time of its own."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in server.fields.items())

    def send(
        self, method: str, target: str, body: bytes = b"", *, may: tuple[int, ...] = (200,)
    ) -> float:
        """Seconds until the whole answer is there."""
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{self._fields}"
        if body:
            head += "Content-Type: multipart/form-data; boundary=B\r\n"
            head += f"Content-Length: {len(body)}\r\n"
        begun = time.perf_counter()
        self._socket.sendall(f"{head}\r\n".encode() + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        head_, _, rest = answer.partition(b"\r\n\r\n")
        found = re.search(rb"content-length: (\d+)", head_, re.IGNORECASE)
        missing = (int(found[1]) if found else 0) - len(rest)
        while missing > 0:
            missing -= len(self._receive())
        taken = time.perf_counter() - begun
        if int(answer[9:12]) not in may:
            raise RuntimeError(f"{method} {target}: {answer[:200]!r}")
        return taken

    def _receive(self) -> bytes:
        piece = self._socket.recv(MIB)
        if not piece:
            raise ConnectionError("closed")
        return piece

    def close(self) -> None:
        self._socket.close()


def _form(size: int) -> bytes:
    head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    return head + os.urandom(size) + b"\r\n--B--\r\n"


def planned_s(counts: list[int], rounds: int) -> float:
    """What `measure` takes about, once the images are there."""
    return len(counts) * 2 * 3 * rounds * _PAGE_S


def measure(
    counts: list[int], rounds: int, work: Path, cache: Path, progress: Progress
) -> tuple[list[Listed], list[SaveCost]]:
    """All shapes and pages."""
    ours = cores(LOAD_CORE)
    before = os.sched_getaffinity(0)
    listed: list[Listed] = []
    costs = []
    kinds: tuple[Kind, ...] = ("flat", "nested")
    for shape in [Shape(kind, count) for count in counts for kind in kinds]:
        progress.advance(f"making {shape.count:,} images, unless an earlier run has")
        data = corpus(cache, shape)
        for _ in os.walk(data / "compute"):
            pass  # the kernel shall have the folders in memory for whoever comes first, too
        os.sched_setaffinity(0, ours)  # this process is the client
        try:
            for page, query in shape.pages().items():
                found = []
                for _ in range(rounds):
                    with servers.stillroom(data) as server:
                        found.append(_pages(server, shape, page, query, data / "compute"))
                    progress.advance(f"listing {shape.name}", _PAGE_S)
                listed.append(_median(found))
            if shape.count <= REFERENCE_UP_TO:
                with peers.reference(work / shape.name, images=data / "compute") as server:
                    page, query = next(iter(shape.pages().items()))
                    listed.append(
                        _pages(server, shape, page, query, data / "compute", saves=0, warm=3)
                    )
            if shape.kind == "flat" and shape.count == max(counts):
                with servers.stillroom(data) as server:
                    costs.append(_save_cost(server, shape, data / "compute"))
        finally:
            os.sched_setaffinity(0, before)
    return listed, costs


def _pages(
    server: Server,
    shape: Shape,
    page: str,
    query: str,
    images: Path,
    *,
    saves: int = _SAVES,
    warm: int = _WARM_PAGES,
) -> Listed:
    target = f"{IMAGES}?{query}&limit={LIMIT}"
    with contextlib.closing(_Client(server)) as client:
        client.send("GET", f"{IMAGES}?prefix=nothing-here/&limit=1")  # imports, routes, the token
        forget_peak(server.pid)
        memory = peak_bytes(server.pid)
        cold = client.send("GET", target)
        warm_s: list[float] = []
        while len(warm_s) < warm and sum(warm_s) < _ENOUGH_S:
            warm_s.append(client.send("GET", target))
        growth = (peak_bytes(server.pid) - memory) / MIB
        after: list[float] = []
        while len(after) < saves and sum(after) < _ENOUGH_S:
            saved = shape.saved(page, len(after))
            client.send("POST", f"{IMAGES}/{saved}", _form(4 * KIB))
            after.append(client.send("GET", target))
            (images / saved).unlink()
            if saved.endswith("/000.png"):
                (images / saved).parent.rmdir()
        return Listed(
            shape,
            page,
            server.name,
            cold,
            statistics.median(warm_s),
            statistics.median(after) if after else None,
            growth,
        )


def _median(found: list[Listed]) -> Listed:
    afters = [one.after_save_s for one in found if one.after_save_s is not None]
    return Listed(
        found[0].shape,
        found[0].page,
        found[0].server,
        statistics.median(one.cold_s for one in found),
        statistics.median(one.warm_s for one in found),
        statistics.median(afters) if afters else None,
        statistics.median(one.growth_mb for one in found),
    )


def _save_cost(server: Server, shape: Shape, images: Path) -> SaveCost:
    """Blocks of saves, in turn here and there, while the listing's memory is warm."""
    target = f"{IMAGES}?{shape.pages()['first page']}&limit={LIMIT}"
    body = _form(100 * KIB)
    taken: dict[str, list[float]] = {"flat": [], "empty": []}
    try:
        with contextlib.closing(_Client(server)) as client:
            for block in range(_BLOCKS):
                client.send("GET", target)
                for folder in ("flat", "empty") if block % 2 else ("empty", "flat"):
                    names = [f"{IMAGES}/{folder}/saved-{block}-{n}.png" for n in range(_BLOCK)]
                    seconds = [client.send("POST", name, body) for name in names]
                    taken[folder].append(statistics.median(seconds))
    finally:
        for image in (images / "flat").glob("saved-*.png"):
            image.unlink()
        shutil.rmtree(images / "empty", ignore_errors=True)
    ratios = [full / empty for full, empty in zip(taken["flat"], taken["empty"], strict=True)]
    return SaveCost(
        shape,
        statistics.median(taken["empty"]) * 1e3,
        statistics.median(taken["flat"]) * 1e3,
        statistics.median(ratios),
    )
