"""`make saturation`: where one process is full, for the arithmetic of benchmarks/EXPERIMENTS.md.

Each kind of work is done for some seconds, and what counts is the processor time that the server
used for each piece: that says what a core can do, also on a machine that does other work. Bucket
and database are those of tests/services.
"""

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import psycopg

from benchmarks import servers
from benchmarks.load import pump
from benchmarks.measure import write_bodies
from benchmarks.ports import free_ports
from benchmarks.processes import LOAD_CORE, cores, cpu_seconds
from benchmarks.pump import Order
from benchmarks.servers import IMAGES, Server
from services.postgres import PostgreSQL, postgresql
from services.proxies import nginx_cluster
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, seaweedfs

PAGE: Final = Path(__file__).parent / "EXPERIMENTS.md"
MARKED: Final = re.compile(r"(<!-- make saturation -->\n).*?(<!-- end -->)", re.DOTALL)
SIZE: Final = 100_000
SECONDS: Final = 3.0
CONNECTIONS: Final = 16
INGESTED: Final = 400
CLIENTS: Final = 8
INGEST: Final = "/api/v1/media-resources/ingest"
_STILLROOM: Final = str(Path(sys.executable).with_name("stillroom"))


@dataclass(frozen=True)
class Cost:
    """One kind of work.

    Attributes:
        rate: A second, as it was measured, whatever else the machine did; 0 if it was not.
        cpu_us: User and system time of the process, microseconds for each.
        database_us: The same of all processes of PostgreSQL.
        transactions: Of PostgreSQL, for each.
    """

    what: str
    rate: float
    cpu_us: float
    database_us: float = 0
    transactions: float = 0


@dataclass(frozen=True)
class Rows:
    """A PostgreSQL, and what it has done so far."""

    server: PostgreSQL
    url: str

    def used(self) -> tuple[float, int]:
        """Seconds of processor time, and transactions committed."""
        asked = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
        with psycopg.connect(self.url) as connection:
            found = connection.execute(asked).fetchone()
        process = self.server.process
        if found is None or process is None:
            raise click.ClickException("PostgreSQL is gone")
        return cpu_seconds(process.pid), int(found[0])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--save", is_flag=True, help="Replace the table in benchmarks/EXPERIMENTS.md.")
def main(*, save: bool) -> None:
    """Measure what each kind of work costs a process: benchmarks/EXPERIMENTS.md."""
    began, load = time.monotonic(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="stillroom-saturation-") as name:
        work = Path(name)
        found = []
        for cost in itertools.chain(_on_a_disk(work), _before_a_bucket(work)):
            click.echo(f"{cost.what}: {cost.cpu_us:,.0f} µs", err=True)
            found.append(cost)
    took, today = time.monotonic() - began, time.strftime("%-d %B %Y", time.gmtime())
    lines = [
        f"Made by `make saturation` on {today} in {took:.0f} s (load average before: {load:.0f}).",
        "",
        "| work | measured a second | CPU µs each | a core can do | PostgreSQL: CPU µs | commits |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for each in found:
        core = f"{each.cpu_us:,.0f} | {1e6 / each.cpu_us:,.0f}"
        rate = f"{each.rate:,.0f}" if each.rate else ""
        rows = f"{each.database_us:,.0f} | {each.transactions:.1f}" if each.transactions else " | "
        lines.append(f"| {each.what} | {rate} | {core} | {rows} |")
    table = "\n".join(lines) + "\n"
    click.echo(table)
    if save:
        text = PAGE.read_text()
        PAGE.write_text(MARKED.sub(lambda part: f"{part[1]}{table}{part[2]}", text))


def _on_a_disk(work: Path) -> Iterator[Cost]:
    with servers.stillroom(work / "disk", variables=_unswept()) as server:
        server.save("known.png", _picture(0))
        yield _asked("`GET` of 100 KB from the disk", server, "GET", f"{IMAGES}/known.png")
        yield _saved("`POST` of 100 KB to the disk", server, work)
        yield _ingested("ingest, disk and SQLite", server, None)
        yield _swept("deletion by the sweeper, disk and SQLite", server, {}, None)


def _before_a_bucket(work: Path) -> Iterator[Cost]:
    (work / "seaweedfs").mkdir()
    with seaweedfs(work / "seaweedfs") as bucket, postgresql() as postgres:
        Operator(bucket.endpoint_url).make_bucket()
        rows = Rows(postgres, postgres.make_database())
        variables = {
            **_unswept(),
            "R2_ENDPOINT_URL": bucket.endpoint_url,
            "R2_ACCESS_KEY_ID": KEY_ID,
            "R2_SECRET_ACCESS_KEY": SECRET,
            "R2_BUCKET_NAME": BUCKET,
            "R2_PUBLIC_URL": servers.CDN,
            "STILLROOM_DATABASE_URL": rows.url,
        }
        with servers.stillroom(work / "bucket", variables=variables) as server:
            server.save("known.png", _picture(0))
            known = f"{IMAGES}/known.png"
            yield _asked("`GET`, known in the bucket: 302", server, "GET", known, status=302)
            yield _asked("`HEAD`: one look into the bucket", server, "HEAD", known)
            yield _saved("`POST` of 100 KB to the bucket", server, work)
            yield _saved("`POST` of 1 MB to the bucket", server, work, size=10 * SIZE)
            yield _asked("listing of 100 in the bucket", server, "GET", f"{IMAGES}?limit=100")
            yield _ingested("ingest, bucket and PostgreSQL", server, rows)
            yield _swept("deletion by the sweeper, bucket and PostgreSQL", server, variables, rows)
            yield from _through_nginx(server, work)


def _through_nginx(server: Server, work: Path) -> Iterator[Cost]:
    """What nginx uses for it, beside the server: `deploy/cluster/nginx.conf`, without TLS."""
    (port,) = free_ports(1)
    folder = work / "nginx"
    folder.mkdir()
    with nginx_cluster(folder, port, server.port, max_upload_bytes=2 * 1024**3):
        pid = int((folder / "nginx.pid").read_text())
        front = dataclasses.replace(server, port=port, pid=pid)
        known = f"{IMAGES}/known.png"
        yield _asked("nginx in front of a 302", front, "GET", known, status=302)
        yield _saved("nginx in front of a `POST` of 100 KB", front, work)


def _unswept() -> dict[str, str]:
    return {"STILLROOM_DELETION_GRACE_SECONDS": "0", "STILLROOM_SWEEP_INTERVAL_SECONDS": "0"}


def _asked(what: str, server: Server, method: str, target: str, *, status: int = 200) -> Cost:
    return _pumped(
        what,
        server,
        Order(server.port, method, target, server.fields, CONNECTIONS, SECONDS, [status]),
    )


def _saved(what: str, server: Server, work: Path, *, size: int = SIZE) -> Cost:
    kind = {"Content-Type": "multipart/form-data; boundary=stillroom-benchmark"}
    target = f"{IMAGES}/saved-{time.monotonic_ns()}/{{n}}.png"
    body = str(write_bodies(work / "bodies", size)["form"])
    fields = {**server.fields, **kind}
    return _pumped(
        what, server, Order(server.port, "POST", target, fields, CONNECTIONS, SECONDS, [200], body)
    )


def _pumped(what: str, server: Server, order: Order) -> Cost:
    began = cpu_seconds(server.pid)
    seen = pump(order, cores(LOAD_CORE))
    used = cpu_seconds(server.pid) - began
    if seen.failed > seen.answered / 500:  # nginx ends a connection after a thousand requests
        raise click.ClickException(f"{what}: {seen.failures}")
    return Cost(what, seen.answered / seen.seconds, used / seen.answered * 1e6)


def _ingested(what: str, server: Server, rows: Rows | None) -> Cost:
    """Of different images, one a request, over some connections."""
    for number in range(INGESTED):
        server.save(f"ingested/{number}.png", _picture(number))

    def ingest(numbers: range) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        fields = {**server.fields, "Content-Type": "application/json"}
        for number in numbers:
            body = json.dumps({"storage_key": f"compute/ingested/{number}.png"})
            connection.request("POST", INGEST, body, fields)
            answer = connection.getresponse()
            if answer.status != 200:  # noqa: PLR2004  (OK)
                raise click.ClickException(f"{what}: {answer.status} {answer.read()!r}")
            answer.read()
        connection.close()

    with _measured(what, rows, INGESTED) as costs:
        began = cpu_seconds(server.pid)
        with ThreadPoolExecutor(CLIENTS) as clients:
            list(clients.map(ingest, [range(n, INGESTED, CLIENTS) for n in range(CLIENTS)]))
        costs.cpu_s = cpu_seconds(server.pid) - began
    return costs.cost()


def _swept(what: str, server: Server, variables: dict[str, str], rows: Rows | None) -> Cost:
    """By the command, whose start is not counted: it is taken off by a second run, of nothing."""
    environment = {**os.environ, **variables, **_unswept()}
    environment["STILLROOM_DATA_DIR"] = str(Path(server.folder).parent)

    def sweep() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [_STILLROOM, "media", "sweep"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    with _measured(what, rows, INGESTED) as costs:
        used = sweep()
    costs.cpu_s = used - sweep()
    return dataclasses.replace(costs.cost(), rate=0)


@dataclass
class _Measured:
    what: str
    count: int
    cpu_s: float = 0
    seconds: float = 0
    database_s: float = 0
    commits: int = 0

    def cost(self) -> Cost:
        """For each of them."""
        each = 1e6 / self.count
        return Cost(
            self.what,
            self.count / self.seconds,
            self.cpu_s * each,
            self.database_s * each,
            self.commits / self.count,
        )


@contextlib.contextmanager
def _measured(what: str, rows: Rows | None, count: int) -> Iterator[_Measured]:
    costs = _Measured(what, count)
    before = rows.used() if rows else (0.0, 0)
    began = time.monotonic()
    yield costs
    costs.seconds = time.monotonic() - began
    if rows:
        time.sleep(1.5)  # sessions hand their counts on once a second
        after = rows.used()
        costs.database_s, costs.commits = after[0] - before[0], after[1] - before[1]


def _picture(number: int) -> bytes:
    """A PNG of `SIZE` bytes that no other number has."""
    picture = (Path(__file__).parents[1] / "docs" / "sample.png").read_bytes()
    return picture + number.to_bytes(8, "big") + os.urandom(max(0, SIZE - len(picture) - 8))


if __name__ == "__main__":
    main()
