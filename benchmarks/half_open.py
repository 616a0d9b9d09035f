"""How much 1,000 half-open connections slow down everybody else: `make bench-half-open`.

Starts `stillroom serve` as shipped, saves one image of 100 KB, and GETs it one after another on one
kept connection: alone, then while 1,000 other connections have sent half of a head and say nothing
more; several times in turn, so that what else the machine does hits both. Prints the times of both,
their ratio, and how the half-open connections ended.
"""

import contextlib
import math
import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import httpx

STILLROOM: Final = str(Path(sys.executable).parent / "stillroom")
IMAGE: Final = "/api/v1/storage/images/bench.bin"
IMAGE_BYTES: Final = 100_000
HALF_OPEN: Final = 1000
ROUNDS: Final = 5
GETS: Final = 400
"""In each round, alone and beside the others: through before those are closed, after 10 s."""

WARM_UP_GETS: Final = 200
READY_WITHIN_S: Final = 30.0
CLOSED_WITHIN_S: Final = 30.0


@dataclass(frozen=True)
class Times:
    """What GETs took, in seconds; percentiles by nearest rank."""

    p50: float
    p99: float

    @classmethod
    def of(cls, taken: list[float]) -> "Times":
        """Those of a list."""
        ranked = sorted(taken)
        return cls(*(ranked[math.ceil(len(ranked) * share) - 1] for share in (0.50, 0.99)))

    def __str__(self) -> str:
        return f"p50 {self.p50 * 1e3:6.2f} ms   p99 {self.p99 * 1e3:6.2f} ms"


@contextlib.contextmanager
def serving() -> Iterator[tuple[int, str, int]]:
    """A server as shipped, on a data directory of its own; its port, a token, its first process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="stillroom-half-open-") as folder:
        environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("STILLROOM")},
            "STILLROOM_DATA_DIR": folder,
            "STILLROOM_PORT": str(port),
        }
        process = subprocess.Popen([STILLROOM, "serve"], env=environment, stderr=subprocess.DEVNULL)
        try:
            give_up = time.monotonic() + READY_WITHIN_S
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > give_up:
                    raise SystemExit("the server does not start: stillroom serve says why")
                time.sleep(0.05)
            minted = subprocess.run(
                [STILLROOM, "token"], env=environment, check=True, capture_output=True, text=True
            )
            yield port, minted.stdout.strip(), process.pid
        finally:
            process.terminate()
            process.wait()


def _is_ready(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == httpx.codes.OK
    return False


def timed_gets(client: httpx.Client, count: int) -> list[float]:
    """How long each of so many GETs took, in seconds, from the call to the last byte."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        answer = client.get(IMAGE)
        taken.append(time.perf_counter() - began)
        if len(answer.content) != IMAGE_BYTES:
            raise SystemExit(f"a GET was answered {answer.status_code}")
    return taken


def half_open(port: int) -> list[socket.socket]:
    """Connections that have sent half of a head."""
    opened = []
    for _ in range(HALF_OPEN):
        connection = socket.create_connection(("127.0.0.1", port), timeout=CLOSED_WITHIN_S)
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ")
        opened.append(connection)
    return opened


def still_open(connections: list[socket.socket]) -> int:
    """How many of them have been told nothing yet."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(connections) - len(poll.poll(0))


def endings(connections: list[socket.socket]) -> Counter[str]:
    """How the server ended them: the status line of its answer, by its end of the connection."""
    found: Counter[str] = Counter()
    for connection in connections:
        answer = b""
        try:
            while piece := connection.recv(65_536):
                answer += piece
            line = answer.partition(b"\r\n")[0].decode("latin-1")
            found[f"{line or 'no answer'}, closed"] += 1
        except TimeoutError:
            found["never closed"] += 1
        except ConnectionResetError:
            found["reset"] += 1
        connection.close()
    return found


def main() -> None:
    """Measure and print."""
    with (
        serving() as (port, token, _),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        ) as client,
    ):
        client.post(IMAGE, files={"file": os.urandom(IMAGE_BYTES)}).raise_for_status()
        timed_gets(client, WARM_UP_GETS)
        alone: list[float] = []
        beside: list[float] = []
        left = HALF_OPEN
        ended: Counter[str] = Counter()
        lasted = 0.0
        for _ in range(ROUNDS):
            alone += timed_gets(client, GETS)
            began = time.monotonic()
            connections = half_open(port)
            beside += timed_gets(client, GETS)
            left = min(left, still_open(connections))
            ended += endings(connections)
            lasted = max(lasted, time.monotonic() - began)
    click.echo(report(Times.of(alone), Times.of(beside)))
    click.echo(f"still half open behind the last GET of a round: {left} of {HALF_OPEN} at least")
    for ending, count in ended.items():
        click.echo(f"{count} x {ending}")
    click.echo(f"all ended within {lasted:.1f} s of the first being opened")
    if left != HALF_OPEN:
        raise SystemExit("the GETs took too long to count: measure on a quieter machine")
    if ended.keys() != {"HTTP/1.1 408 Request Timeout, closed"}:
        raise SystemExit("not all of them were closed with a 408")


def report(alone: Times, beside: Times) -> str:
    """Three lines to read."""
    ratios = f"p50 {beside.p50 / alone.p50:6.2f}      p99 {beside.p99 / alone.p99:6.2f}"
    return (
        f"GET of {IMAGE_BYTES:,} bytes, {ROUNDS * GETS} times, one after another\n"
        f"  alone                       {alone}\n"
        f"  beside {HALF_OPEN} half-open ones   {beside}\n"
        f"  ratio                       {ratios}"
    )


if __name__ == "__main__":
    main()
