"""Events and webhooks: their speed, their lag, and their cost.

    PYTHONPATH=tests .venv/bin/python -m benchmarks.events

The peers are the filer of SeaweedFS with its own webhooks, and plain FastAPI that sends a request
in a background task, as many apps do. They neither sign nor store webhooks. Each server runs on
core 0, the clients and the receiver on core 1. Images have 4 KB. Each ratio compares results of one
round.
"""

import asyncio
import base64
import contextlib
import http.client
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import click
import sqlalchemy as sa

from benchmarks import peers, servers
from benchmarks.event_tables import RATE, VARIANTS, Cost, Delivered, costs_table, peers_table
from benchmarks.load import pump
from benchmarks.measure import write_bodies
from benchmarks.processes import LOAD_CORE, cores, cpu_seconds
from benchmarks.pump import Order
from benchmarks.search import Rows
from benchmarks.servers import SAVED, Server
from benchmarks.sink import Sink, receiving
from services.postgres import postgresql
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.engine import migrating
from stillroom.features.events.database import record_events
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search.database import search_rows

SIZE: Final = 4096
_CLIENTS: Final = 8
_LAG_S: Final = 10.0
_FAST_S: Final = 3.0
_COST_S: Final = 1.5
_STALLED_S: Final = 60.0
"""Seconds without an arrival after which the remaining events count as lost."""

_STORM_S: Final = 10.0
_BATCH: Final = 500
_EVENTS: Final = 20_000
_PERCENT: Final = 100
_KIND: Final = {"Content-Type": "multipart/form-data; boundary=stillroom-benchmark"}

_TOML: Final = """[[endpoint]]
name = "benchmark"
url = "{url}"
secret_file = "benchmark.secret"
types = ["image.saved"]
"""


@contextlib.contextmanager
def with_webhook(folder: Path, sink: Sink | None, **variables: str) -> Iterator[Server]:
    """Run Stillroom with one endpoint, or without endpoints."""
    folder.mkdir(parents=True)
    file, secret = folder.with_suffix(".toml"), folder.with_name("benchmark.secret")
    if sink is not None:
        secret.touch(0o600)
        secret.write_text(f"whsec_{base64.b64encode(bytes(range(32))).decode()}")
        file.write_text(_TOML.format(url=sink.url))
        variables["STILLROOM_WEBHOOKS_FILE"] = str(file)
    with servers.stillroom(folder, variables=variables) as server:
        yield server


def save_as_fast_as_possible(server: Server, folder: str, work: Path, seconds: float) -> int:
    """Save new images over some connections. Return how many were acknowledged."""
    server.make_folder(folder)
    target = f"{server.prefix}{folder}/{{n}}.png"
    body = str(write_bodies(work / "bodies", SIZE)["form"])
    fields = {**server.fields, **_KIND}
    order = Order(server.port, "POST", target, fields, _CLIENTS, seconds, list(SAVED), body)
    seen = pump(order, cores(LOAD_CORE))
    if seen.failed:
        raise click.ClickException(f"{server.name}: {seen.failures}")
    return seen.answered


def wait_for(sink: Sink, folder: str, count: int) -> int:
    """Wait until the events of all saves have arrived. Return how many never did."""
    found, since = -1, time.monotonic()
    while time.monotonic() - since < _STALLED_S:
        arrived = len(sink.arrived_in(folder))
        if arrived >= count:
            return 0
        if arrived > found:
            found, since = arrived, time.monotonic()
        time.sleep(0.05)
    return count - found


def warm_up(server: Server, sink: Sink, folder: str) -> None:
    """Save an image and wait for its event: a first start creates the database meanwhile."""
    server.make_folder(folder)
    server.save(f"{folder}/0.png", servers.image_bytes(SIZE))
    if wait_for(sink, folder, 1):
        raise click.ClickException(f"{server.name} sends no webhooks")


def save_at_a_rate(server: Server, folder: str, work: Path) -> dict[str, float]:
    """Save `RATE` images a second. Return the time of each request by path."""
    server.make_folder(folder)
    body = write_bodies(work / "bodies", SIZE)["form"].read_bytes()
    began, saved = time.monotonic() + 0.1, dict[str, float]()

    def save(client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        for number in range(client, int(_LAG_S * RATE), _CLIENTS):
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
            name = f"{folder}/{number}.png"
            moment = time.monotonic()
            connection.request("POST", server.prefix + name, body, {**server.fields, **_KIND})
            answer = connection.getresponse()
            answer.read()
            if answer.status not in SAVED:
                raise click.ClickException(f"{server.name}: {answer.status}")
            saved[name] = moment
        connection.close()

    with ThreadPoolExecutor(_CLIENTS) as clients:
        list(clients.map(save, range(_CLIENTS)))
    return saved


def delivered(server: Server, sink: Sink, number: int, work: Path) -> Delivered:
    """Measure one server in one round."""
    fast, paced = f"fast-{number}", f"paced-{number}"
    warm_up(server, sink, f"warm-{number}")
    began = time.monotonic()
    count = save_as_fast_as_possible(server, fast, work, _FAST_S)
    saves_s = time.monotonic() - began
    lost = wait_for(sink, fast, count)
    took_s = max(sink.arrived_in(fast), default=began) - began
    saved = save_at_a_rate(server, paced, work)
    paced_lost = wait_for(sink, paced, len(saved))
    lags = sorted(
        max(0.0, sink.arrived[name] - moment) * 1000
        for name, moment in saved.items()
        if name in sink.arrived
    )
    rate = (count - lost) / took_s if took_s else 0.0
    return Delivered(server.name, rate, count / saves_s, lost, lags or [0.0], paced_lost)


def beside_peers(rounds: int, work: Path) -> Iterator[list[Delivered]]:
    """Yield what each server has delivered, round by round."""
    with contextlib.ExitStack() as stack:
        sinks = [stack.enter_context(receiving(Sink())) for _ in range(3)]
        ours = stack.enter_context(with_webhook(work / "ours", sinks[0]))
        seaweed = stack.enter_context(peers.seaweedfs(work / "weed", webhook=sinks[1].url))
        plain = stack.enter_context(
            peers.reference(work / "plain", variables={"REFERENCE_WEBHOOK": sinks[2].url})
        )
        all_of_them = [*zip((ours, seaweed.filer, plain), sinks, strict=True)]
        for number in range(rounds):
            shift = number % len(all_of_them)
            in_turn = all_of_them[shift:] + all_of_them[:shift]
            yield [delivered(server, sink, number, work) for server, sink in in_turn]


def costs(rounds: int, work: Path) -> Iterator[list[Cost]]:
    """Yield what a save costs with each variant of events, round by round."""
    with contextlib.ExitStack() as stack:
        sink, hanging = (
            stack.enter_context(receiving(Sink(hangs=hangs))) for hangs in (False, True)
        )
        off = {"STILLROOM_EVENTS_RETENTION": "0"}
        started = [
            stack.enter_context(with_webhook(work / "off", None, **off)),
            stack.enter_context(with_webhook(work / "on", None)),
            stack.enter_context(with_webhook(work / "webhook", sink)),
            stack.enter_context(with_webhook(work / "hanging", hanging)),
        ]
        named = [*zip(VARIANTS, started, (None, None, sink, None), strict=True)]
        for number in range(-1, rounds):  # round -1 warms up
            shift = number % len(named)
            found = [_cost(*each, number, work) for each in named[shift:] + named[:shift]]
            if number >= 0:
                yield found


def _cost(variant: str, server: Server, sink: Sink | None, number: int, work: Path) -> Cost:
    folder = f"cost-{number}"
    before, began = cpu_seconds(server.pid), time.monotonic()
    count = save_as_fast_as_possible(server, folder, work, _COST_S)
    seconds, used = time.monotonic() - began, cpu_seconds(server.pid) - before
    if sink is not None:  # the deliveries that follow must not disturb the next server
        wait_for(sink, folder, count)
    return Cost(variant, used / count * 1e6, count / seconds)


async def bytes_of_an_event(made: Callable[[], RowsConfig]) -> float:
    """Return by how many bytes an event of a saved image enlarges a database."""
    sizes = []
    for has_events in (False, True):
        config, rows = made(), Rows(3)
        database = MediaDatabase(config)
        if has_events:
            database.on_connect.append(record_events)
        index = await search_rows(database)
        for start in range(0, _EVENTS, _BATCH):
            await index.write([rows.image(number) for number in range(start, start + _BATCH)])
        await database.close()
        sizes.append(_size_of(config))
    return (sizes[1] - sizes[0]) / _EVENTS


def _size_of(config: RowsConfig) -> int:
    with migrating(config) as connection:
        if isinstance(config, PostgresConfig):
            asked = "SELECT pg_database_size(current_database())"
        else:
            asked = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        return int(connection.execute(sa.text(asked)).scalar_one())


def storm(count: int, work: Path) -> str:
    """Save as fast as possible, until there are so many images. Return a sentence."""
    with receiving(Sink()) as sink, with_webhook(work / "storm", sink) as server:
        warm_up(server, sink, "warm")
        sink.requests = 0
        began, saves, number, lost = time.monotonic(), 0, 0, 0
        counts: dict[str, int] = {}
        while saves < count:
            folder = f"storm-{number}"
            counts[folder] = save_as_fast_as_possible(server, folder, work, _STORM_S)
            saves, number = saves + counts[folder], number + 1
        saved_s = time.monotonic() - began
        for folder, expected in counts.items():
            lost += wait_for(sink, folder, expected)
        took_s = max(sink.arrived.values()) - began
    rate, arrived = saves / saved_s, saves - lost
    return (
        f"A storm of {saves:,} saves ({rate:,.0f} a second): {arrived / took_s:,.0f} events a "
        f"second, the last one {took_s - saved_s:.1f} s after the last save, {lost} lost, "
        f"{sink.requests - arrived} sent again."
    )


def sizes(work: Path) -> str:
    """Return a sentence with the bytes of an event in both databases."""
    numbers = iter(range(_PERCENT))
    sqlite = asyncio.run(bytes_of_an_event(lambda: SqliteConfig(work / f"{next(numbers)}.db")))
    with postgresql() as server:
        postgres = asyncio.run(bytes_of_an_event(lambda: PostgresConfig(server.make_database())))
    return (
        f"An event of a saved image has {sqlite:.0f} bytes in SQLite, {postgres:.0f} in PostgreSQL."
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=5, show_default=True, help="Turns of each server.")
@click.option("--storm", "saves", default=100_000, show_default=True, help="Saves of the storm.")
def main(*, rounds: int, saves: int) -> None:
    """Measure events and webhooks beside peers, and print tables for benchmarks/EXPERIMENTS.md."""
    click.echo(f"Load average before: {os.getloadavg()[0]:.1f}.\n")
    with tempfile.TemporaryDirectory(prefix="stillroom-events-") as folder:
        work = Path(folder)
        os.sched_setaffinity(0, cores(LOAD_CORE))
        click.echo("\n".join(peers_table(list(beside_peers(rounds, work)))) + "\n")
        click.echo("\n".join(costs_table(list(costs(rounds, work)))) + "\n")
        click.echo(sizes(work) + "\n")
        if saves:
            click.echo(storm(saves, work))


if __name__ == "__main__":
    main()
