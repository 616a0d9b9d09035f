"""`make soak`: whether memory and descriptors of a busy server stay bounded.

Starts `stillroom serve` with two workers, fills the caches of what is read again, and then has
clients in a process of their own do what clients do, mixed: saves, reads, thumbnails, deletions,
searches, listings, metadata, ingests and archives. No client keeps more than a hundred images, so
that what grows is the server's. Prints for each process, in even steps, the memory that it alone
has, its descriptors and its threads, and in the end what was added for each operation of the last
third.
"""

import contextlib
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import click
from PIL.PngImagePlugin import PngInfo

from benchmarks.processes import tree
from benchmarks.servers import IMAGES, Server, image_bytes, index_images, stillroom
from pictures import picture

PAGE: Final = Path(__file__).parent / "EXPERIMENTS.md"
MARKED: Final = re.compile(r"(<!-- make soak -->\n).*?(<!-- end -->)", re.DOTALL)
LIBRARY: Final = "/api/v1/media-resources"
ARCHIVE: Final = "/api/v1/storage/archive"
WORKERS: Final = 2
CLIENTS: Final = 4
KEPT: Final = 100
"""Images of each client; beyond that one is deleted for each that is saved."""

SIZES: Final = (0, 0, 20_000, 200_000)
"""Bytes behind a picture of a kilobyte or two."""

KNOWN: Final = 34_000
"""Images that are read before all else: more than a worker remembers (32,768), and their bodies
are more than it keeps (64 MiB)."""

_KNOWN_BYTES: Final = 8_000
_BLOCK: Final = 1_000
"""Read over one connection; the next one may lead to the other worker."""

WORDS: Final = 5_000
"""Different words in prompts."""

_MIB: Final = 1024**2


class Sample(NamedTuple):
    """What the kernel knows of one process at one moment.

    Attributes:
        private: Bytes that no other process shares.
    """

    private: int
    descriptors: int
    threads: int


@dataclass
class Moment:
    """All processes of the server at one moment.

    Attributes:
        after_s: Seconds since the load began.
        operations: Done so far.
        processes: By role: the supervisor, each worker, all others together.
    """

    after_s: float
    operations: int
    processes: dict[str, Sample]

    def line(self) -> str:
        """A row of the table."""
        cells = (
            f"{one.private / _MIB:,.0f} MiB, {one.descriptors}, {one.threads}"
            for one in self.processes.values()
        )
        return f"| {self.after_s / 60:,.1f} | {self.operations:,} | {' | '.join(cells)} |"


@dataclass
class Client:
    """One connection with a folder of its own, which does one thing after the other.

    Attributes:
        images: Paths of those that it has in the store.
        unexpected: What failed, and how often.
        deeds: What it does, with weights.
    """

    number: int
    port: int
    fields: dict[str, str]
    seed: int
    images: list[str] = field(default_factory=list)
    unexpected: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._chance = random.Random(f"{self.seed}-{self.number}")  # noqa: S311  (repeatable load)
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        self._saved = 0
        self.deeds: dict[Callable[[], None], float] = {
            self.save: 30, self.read: 40, self.look: 10, self.thumbnail: 8, self.metadata: 3,
            self.search: 8, self.list: 4, self.ingest: 4, self.archive: 1, self.delete: 2,
            self.missing: 3,
        }  # fmt: skip

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def fill(self) -> None:
        """Read all known images twice, in blocks over connections of their own."""
        for first in range(0, KNOWN, _BLOCK):
            for _ in range(2):
                self._connection.close()
                for number in range(first, first + _BLOCK):
                    self._ask("GET", f"{IMAGES}/known/{number}.png")

    def act(self) -> None:
        """Do one thing."""
        if not self.images:
            self.save()
            return
        (deed,) = self._chance.choices(list(self.deeds), list(self.deeds.values()))
        deed()

    def save(self) -> None:
        """Save an image that no other is like; delete one if there are enough."""
        self._saved += 1
        chance = self._chance
        prompt = " ".join(f"word{chance.randrange(WORDS)}" for _ in range(12))
        text = f"{prompt}\nSteps: 20, Sampler: Euler, Seed: {self._saved}, Size: 24x16"
        content = picture(chance.getrandbits(32), pnginfo=_info(text))
        content += chance.randbytes(chance.choice(SIZES))
        # A folder takes a hundred, so that folders come and go as well.
        path = f"soak/{self.number}/{self._saved // 100}/{self._saved}.png"
        form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        answer = self._ask("POST", f"{IMAGES}/{path}", form + content + b"\r\n--b--\r\n", kind)
        if (
            answer is not None
            and json.loads(answer)["sha256"] != hashlib.sha256(content).hexdigest()
        ):
            self.unexpected["save: another hash"] += 1
        self.images.append(path)
        if len(self.images) > KEPT:
            self.delete()

    def delete(self) -> None:
        """Delete one of the images."""
        path = self.images.pop(self._chance.randrange(len(self.images)))
        self._ask("DELETE", f"{IMAGES}/{path}")

    def read(self) -> None:
        """Read an image."""
        self._ask("GET", f"{IMAGES}/{self._any()}")

    def look(self) -> None:
        """HEAD of an image."""
        self._ask("HEAD", f"{IMAGES}/{self._any()}")

    def missing(self) -> None:
        """Ask for what is not there, under a name that is used once."""
        self._ask("GET", f"{IMAGES}/soak/none/{self._chance.getrandbits(64)}.png", also=404)

    def thumbnail(self) -> None:
        """A thumbnail."""
        width = self._chance.choice((8, 12, 16))
        self._ask("GET", f"{IMAGES}/{self._any()}?width={width}")

    def metadata(self) -> None:
        """How an image was made."""
        self._ask("GET", f"/api/v1/storage/metadata/{self._any()}")

    def search(self) -> None:
        """Words of prompts, in a folder or everywhere."""
        words = " ".join(f"word{self._chance.randrange(WORDS)}" for _ in range(2))
        prefix = self._chance.choice(("", f"soak/{self.number}/"))
        self._ask("GET", f"/api/v1/storage/search?q={quote(words)}&prefix={quote(prefix)}")

    def list(self) -> None:
        """A page of names, of entries or of the library."""
        prefix = f"prefix=soak/{self.number}/&limit=50"
        targets = (f"{IMAGES}?{prefix}", f"/api/v1/storage/entries?{prefix}")
        self._ask("GET", self._chance.choice((*targets, f"{LIBRARY}?limit=20")))

    def ingest(self) -> None:
        """Take an image into the library, and out of it again."""
        path = self.images.pop(self._chance.randrange(len(self.images)))
        body = json.dumps({"storage_key": f"compute/{path}"}).encode()
        answer = self._ask("POST", f"{LIBRARY}/ingest", body, {"Content-Type": "application/json"})
        if answer is not None:
            self._ask("DELETE", f"{LIBRARY}/{json.loads(answer)['id']}")

    def archive(self) -> None:
        """A ZIP of a few images, with captions."""
        paths = self._chance.sample(self.images, min(5, len(self.images)))
        body = json.dumps({"paths": paths, "sidecars": "captions"}).encode()
        self._ask("POST", ARCHIVE, body, {"Content-Type": "application/json"})

    def _any(self) -> str:
        return self._chance.choice(self.images)

    def _ask(
        self,
        method: str,
        target: str,
        body: bytes | None = None,
        more: dict[str, str] | None = None,
        also: int = 200,
    ) -> bytes | None:
        what = f"{method} {target.partition('?')[0].partition('/soak/')[0]}"
        try:
            self._connection.request(method, target, body, {**self.fields, **(more or {})})
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.unexpected[f"{what}: {type(error).__name__}"] += 1
            self._connection.close()
            return None
        if answer.status not in (200, also):
            self.unexpected[f"{what}: {answer.status}"] += 1
            return None
        return content


def _info(text: str) -> PngInfo:
    info = PngInfo()
    info.add_text("parameters", text)
    return info


def load(port: int, fields: dict[str, str], seed: int, rate: float, counts: Any) -> None:  # noqa: ANN401  (shared)
    """All clients, for ever.

    Args:
        port: Of the server.
        fields: With the token.
        seed: Of what they do.
        rate: Operations a second, of all of them.
        counts: Operations done, those with an unexpected end, and clients that have filled caches.
    """

    def run(client: Client) -> None:
        client.fill()
        with counts.get_lock():
            counts[2] += 1
        due = time.monotonic()
        while True:
            client.act()
            with counts.get_lock():
                counts[0] += 1
                counts[1] += sum(client.unexpected.values())
            for what in client.unexpected:
                click.echo(f"unexpected: {what}", err=True)
            client.unexpected.clear()
            due = max(due + CLIENTS / rate, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))

    clients = [Client(number, port, fields, seed) for number in range(CLIENTS)]
    threads = [threading.Thread(target=run, args=(one,), daemon=True) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def loading(server: Server, seed: int, rate: float) -> Iterator[Any]:
    """The load in a process of its own; gives its counts."""
    spawn = multiprocessing.get_context("spawn")
    counts = spawn.Array("q", 3)
    process = spawn.Process(
        target=load, args=(server.port, server.fields, seed, rate, counts), daemon=True
    )
    process.start()
    try:
        while counts[2] < CLIENTS and process.is_alive():
            time.sleep(1)
        yield counts
        if not process.is_alive():
            raise click.ClickException("the load ended by itself")
    finally:
        process.kill()
        process.join()


def _make_known(server: Server) -> None:
    """All the known images: one that is saved, and further names of its file."""
    server.save("known/0.png", image_bytes(_KNOWN_BYTES))
    file = Path(server.folder) / "known/0.png"
    for number in range(1, KNOWN):
        file.with_name(f"{number}.png").hardlink_to(file)
    index_images(server)


def sampled(pid: int) -> Sample:
    """What the kernel knows of a process now.

    Raises:
        OSError: it has ended.
    """
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private = sum(int(kib) for kib in re.findall(r"^Private_\w+: +(\d+) kB", text, re.MULTILINE))
    threads = len(os.listdir(f"/proc/{pid}/task"))
    return Sample(private * 1024, len(os.listdir(f"/proc/{pid}/fd")), threads)


def _moment(server: Server, began: float, operations: int) -> Moment:
    supervisor, *others = tree(server.pid)
    found = {"supervisor": sampled(supervisor)}
    rest = Sample(0, 0, 0)
    for pid in others:
        with contextlib.suppress(OSError):  # a decoder has ended
            one = sampled(pid)
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found[f"worker {len(found)}"] = one
            else:
                rest = Sample(*map(sum, zip(rest, one, strict=True)))
    return Moment(time.monotonic() - began, operations, {**found, "others": rest})


def _added(moments: list[Moment]) -> str:
    """What the last third of the time added to each process."""
    since, until = moments[-1 - len(moments) // 3], moments[-1]
    operations = max(1, until.operations - since.operations)
    grown = {
        role: (one.private - since.processes[role].private) / operations
        for role, one in until.processes.items()
        if role in since.processes
    }
    each = ", ".join(f"{role} {size:,.0f}" for role, size in grown.items())
    return f"Bytes added for each of the last {operations:,} operations: {each}."


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--minutes", type=click.FloatRange(min=0.1), default=60.0, show_default=True)
@click.option("--rate", type=float, default=400.0, show_default=True, help="Operations a second.")
@click.option("--steps", type=click.IntRange(3), default=12, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--save", is_flag=True, help="Replace the table in benchmarks/EXPERIMENTS.md.")
def main(*, minutes: float, rate: float, steps: int, seed: int, save: bool) -> None:
    """Load a server for an hour, and print memory and descriptors of each process."""
    with tempfile.TemporaryDirectory(prefix="stillroom-soak-") as name:
        variables = {"STILLROOM_DELETION_GRACE_SECONDS": "60", "STILLROOM_MIN_FREE_BYTES": "0"}
        with stillroom(Path(name) / "data", workers=WORKERS, variables=variables) as server:
            _make_known(server)
            with loading(server, seed, rate) as counts:
                began, moments = time.monotonic(), []
                for step in range(steps + 1):
                    time.sleep(max(0, began + minutes * 60 * step / steps - time.monotonic()))
                    moments.append(_moment(server, began, counts[0]))
                    click.echo(moments[-1].line(), err=True)
                unexpected = counts[1]
    roles = list(moments[-1].processes)
    today = time.strftime("%-d %B %Y", time.gmtime())
    made = f"Made by `make soak MINUTES={minutes:g}` on {today}"
    load_average = f"load average in the end: {os.getloadavg()[0]:.0f}"
    lines = [
        f"{made} ({load_average}).",
        "Each cell: private memory, descriptors, threads.",
        "",
        f"| minutes | operations | {' | '.join(roles)} |",
        f"|---:|---:|{'---:|' * len(roles)}",
        *(moment.line() for moment in moments),
        "",
        f"{_added(moments)} Failures: {unexpected}.",
    ]
    table = "\n".join(lines) + "\n"
    click.echo(table)
    if save:
        text = PAGE.read_text()
        PAGE.write_text(MARKED.sub(lambda part: f"{part[1]}{table}{part[2]}", text))


if __name__ == "__main__":
    main()
