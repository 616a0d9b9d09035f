"""Durable saves beside their floor: what a plain file needs without HTTP.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.floor

The floor is a loop of threads that do what a durable save must: a nameless file, write, SHA-256,
fsync, link, and fsync of the folder. Stillroom is measured with shared flushes (`auto`) and without
them (`off`), next to FastAPI that hashes and syncs. As root, the benchmark also uses slow disks,
whose flush takes 5 ms (`slow_disk.py`). Ratios are medians over rounds. The server runs on core 0,
the clients on core 1; the threads of the floor use both.
"""

import contextlib
import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from benchmarks import peers, servers
from benchmarks.cases import KIB, MIB
from benchmarks.load import pump
from benchmarks.measure import write_bodies
from benchmarks.processes import LOAD_CORE, cores, cpu_seconds
from benchmarks.pump import Order
from benchmarks.servers import SAVED, Server, image_bytes
from benchmarks.slow_disk import slow_disk

_KIND: Final = {"Content-Type": "multipart/form-data; boundary=stillroom-benchmark"}
_FLOORS: Final = (1, 8, 16)
_PERCENT: Final = 0.99


@dataclass(frozen=True)
class Case:
    """Size of the images, number of clients, and threads of the floor to compare with."""

    size: int
    clients: int
    threads: int


_QUICK_DISK: Final = [
    Case(4 * KIB, 8, 8), Case(100 * KIB, 8, 8), Case(MIB, 8, 8), Case(100 * KIB, 64, 8),
]  # fmt: skip
_SLOW_DISK: Final = [
    Case(100 * KIB, 64, 16), Case(4 * KIB, 64, 16), Case(100 * KIB, 8, 8), Case(100 * KIB, 1, 1),
]  # fmt: skip


@dataclass(frozen=True)
class Saves:
    """Saves per second, CPU seconds per save, and the 99th percentile of their time in ms."""

    rate: float
    cpu: float
    p99: float


def floor(folder: Path, size: int, threads: int, seconds: float) -> Saves:
    """Save plain files durably, in threads of this process."""
    folder.mkdir(parents=True)
    body = image_bytes(size)
    times: list[float] = []
    began, cpu = time.monotonic(), time.process_time()

    def save_files(first: int) -> None:
        with contextlib.closing(_Folder(folder)) as opened:
            number = first
            while time.monotonic() < began + seconds:
                start = time.monotonic()
                opened.save(f"{number}.png", body)
                times.append(time.monotonic() - start)
                number += threads

    workers = [threading.Thread(target=save_files, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.monotonic() - began
    return Saves(len(times) / took, (time.process_time() - cpu) / len(times), _p99_ms(times))


class _Folder:
    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)

    def save(self, name: str, body: bytes) -> None:
        file = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640, dir_fd=self._fd)
        try:
            os.write(file, body)
            hashlib.sha256(body).digest()
            os.fsync(file)
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=self._fd, follow_symlinks=True)
        finally:
            os.close(file)
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _p99_ms(times: list[float]) -> float:
    return 1000 * sorted(times)[int(len(times) * _PERCENT)]


def served(server: Server, case: Case, seconds: float, bodies: Path, folder: str) -> Saves:
    """Save images through a server."""
    server.make_folder(folder)
    body = str(write_bodies(bodies, case.size)["form"])
    target = f"{server.prefix}{folder}/{{n}}.png"
    fields = {**server.fields, **_KIND}
    order = Order(server.port, "POST", target, fields, case.clients, seconds, list(SAVED), body)
    before = sum(map(cpu_seconds, server.pids))
    seen = pump(order, cores(LOAD_CORE))
    if seen.failed:
        raise RuntimeError(f"{server.name}: {seen.failures}")
    used = sum(map(cpu_seconds, server.pids)) - before
    return Saves(seen.answered / seen.seconds, used / seen.answered, seen.p99_ms)


@contextlib.contextmanager
def _servers(root: Path) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        found = [
            stack.enter_context(
                servers.stillroom(
                    root / choice,
                    name=f"Stillroom, {choice}",
                    variables={"STILLROOM_GROUP_COMMIT": choice},
                )
            )
            for choice in ("auto", "off")
        ]
        found.append(stack.enter_context(peers.reference(root / "fastapi", variables=_SYNCS)))
        yield found


_SYNCS: Final = {"REFERENCE_DURABLE": "1"}


def measure(root: Path, bodies: Path, cases: list[Case], rounds: int, seconds: float) -> None:
    """Print a table of one disk."""
    click.echo("| save | server | saves/s | of the floor | CPU, floor's | p99 ms |")
    click.echo("|---|---|---:|---:|---:|---:|")
    with _servers(root) as running:
        for number, case in enumerate(cases):
            what = f"{case.size // KIB} KB, {case.clients} at once"
            floors = []
            seen: dict[str, list[Saves]] = {server.name: [] for server in running}
            for turn in range(rounds):
                place = root / "floor" / f"{number}-{turn}"
                floors.append(floor(place, case.size, case.threads, seconds))
                for server in running:
                    one = served(server, case, seconds, bodies, f"{number}-{turn}")
                    seen[server.name].append(one)
            name = f"floor, {case.threads} threads"
            click.echo(
                f"| {what} | {name} | {_of(floors, 'rate'):.0f} | | | {_of(floors, 'p99'):.0f} |"
            )
            for name, saves in seen.items():
                rate = statistics.median(
                    a.rate / b.rate for a, b in zip(saves, floors, strict=True)
                )
                cpu = statistics.median(b.cpu / a.cpu for a, b in zip(saves, floors, strict=True))
                click.echo(
                    f"| {what} | {name} | {_of(saves, 'rate'):.0f} | {rate:.2f} | {cpu:.2f} | "
                    f"{_of(saves, 'p99'):.0f} |"
                )


def _of(saves: list[Saves], name: str) -> float:
    return float(statistics.median(getattr(one, name) for one in saves))


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Length of each measurement.")
@click.option("--disk", type=click.Choice(["here", "ext4", "xfs"]), multiple=True)
def main(rounds: int, seconds: float, disk: tuple[str, ...]) -> None:
    """Print saves per second and CPU time per save, as multiples of the floor."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".floor-") as name:
        work = Path(name)
        bodies = work / "bodies"
        if not disk or "here" in disk:
            click.echo("## The disk of this folder\n")
            measure(work / "here", bodies, _QUICK_DISK, rounds, seconds)
        for kind in ("ext4", "xfs"):
            if disk and kind not in disk:
                continue
            if os.geteuid() != 0:
                click.echo(f"\nNo slow disk with {kind}: it needs root")
                continue
            with slow_disk(work / kind, kind) as root:
                click.echo(f"\n## {kind} on a disk whose flush takes 5 ms\n")
                measure(root, bodies, _SLOW_DISK, rounds, seconds)


if __name__ == "__main__":
    main()
