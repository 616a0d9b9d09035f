"""How long the deletion of a run of 100,000 images takes, and who waits for it meanwhile.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.deletion

Small images lie on a disk as the server saves them, with their facts. One request deletes their
run, by SQLite and by PostgreSQL, while another connection reads one image after another.
"""

import contextlib
import hashlib
import http.client
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from benchmarks import servers
from benchmarks.processes import LOAD_CORE, cores, cpu_seconds, peak_bytes
from benchmarks.servers import IMAGES, Server
from services.postgres import postgresql
from stillroom.store.disk.image import Attributes

_RUN: Final = "/api/v1/storage/runs/many"
_DATA: Final = servers.image_bytes(1000)
_PAUSE_S: Final = 0.002


def fill(folder: Path, count: int) -> None:
    """A run of so many images."""
    folder.mkdir(parents=True)
    sha256 = hashlib.sha256(_DATA).digest()
    for number in range(count):
        with (folder / f"{number:06}.png").open("wb") as file:
            file.write(_DATA)
            file.flush()
            modified_ns = os.fstat(file.fileno()).st_mtime_ns
            Attributes(modified_ns, sha256, "image/png").write(file.fileno())
    os.sync()


@contextlib.contextmanager
def reading(server: Server) -> Iterator[list[float]]:
    """Read one image after another meanwhile; yields how long each took, in seconds."""
    waits, is_over = list[float](), threading.Event()

    def read() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        while not is_over.wait(_PAUSE_S):
            began = time.perf_counter()
            connection.request("GET", f"{IMAGES}/other/000000.png", headers=server.fields)
            connection.getresponse().read()
            waits.append(time.perf_counter() - began)
        connection.close()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield waits
    finally:
        is_over.set()
        reader.join()


def said(waits: list[float]) -> str:
    """The waits in milliseconds."""
    p99 = statistics.quantiles(waits, n=100)[98]
    return (
        f"a GET {statistics.median(waits) * 1e3:.1f} ms at p50, {p99 * 1e3:.1f} at p99,"
        f" {max(waits) * 1e3:.0f} at most"
    )


def delete(data: Path, count: int, variables: dict[str, str]) -> str:
    """Delete the run in a new server; a line of what that took."""
    fill(data / "compute" / "many", count)
    fill(data / "compute" / "other", 1)
    variables = {"STILLROOM_SWEEP_INTERVAL_SECONDS": "0", **variables}
    with servers.stillroom(data, variables=variables) as server:
        with reading(server) as alone:
            time.sleep(2)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
        used, peak = cpu_seconds(server.pid), peak_bytes(server.pid)
        with reading(server) as beside:
            began = time.perf_counter()
            connection.request("DELETE", _RUN, headers=server.fields)
            answer = connection.getresponse()
            found = answer.read().decode()
            took = time.perf_counter() - began
        if answer.status != http.client.OK:
            raise click.ClickException(found)
        used, peak = cpu_seconds(server.pid) - used, peak_bytes(server.pid) - peak
        return (
            f"{took:.1f} s ({took / count * 1e6:.0f} µs an image, processor {used:.1f} s,"
            f" {peak / 1024**2:.0f} MiB more)\n  beside it {said(beside)}; alone {said(alone)}"
        )


@click.command()
@click.option("--images", default=100_000, show_default=True)
def main(images: int) -> None:
    """Delete a run by SQLite, and another one by PostgreSQL."""
    os.sched_setaffinity(0, cores(LOAD_CORE))
    with tempfile.TemporaryDirectory(prefix="stillroom-deletion-") as name, postgresql() as other:
        databases = {"SQLite": {}, "PostgreSQL": {"STILLROOM_DATABASE_URL": other.make_database()}}
        for database, variables in databases.items():
            found = delete(Path(name) / database, images, variables)
            click.echo(f"{images:,} images, {database}: {found}")
        click.echo(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
