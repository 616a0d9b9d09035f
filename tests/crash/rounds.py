"""A store goes down at a random moment, comes back, and is asked for all that it promised.

The tests run a few rounds of each, `make crash` many.
"""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from crash.loopback import loop_disk
from crash.traffic import Traffic
from running import Server, running
from waiting import until

_CUTS_OF_ONE_DISK = 25
"""Then a fresh one: a store of many rounds takes longer to look through than to break."""

_KILLS_OF_ONE_STORE = 50
_KILLS_OF_ONE_SERVER = 10
"""The last of them takes all its processes at once."""

WORKERS = ("--workers", "2")

ALONE, SHARED = ("off", 4), ("on", 16)
"""Group commit, and the number of clients: so many that flushes are shared."""


@dataclass
class Round:
    acknowledged: int
    violations: list[str]


def power_cuts(
    folder: Path,
    kind: str,
    count: int,
    *,
    seed: int,
    flushes: tuple[tuple[str, int], ...] = (ALONE, SHARED),
) -> Iterator[Round]:
    """Cut the power `count` times. The disks take turns with `flushes`."""
    for first in range(0, count, _CUTS_OF_ONE_DISK):
        here = folder / f"{kind}-{seed}-{first}"
        here.mkdir()
        cuts = min(_CUTS_OF_ONE_DISK, count - first)
        turn = flushes[(seed + first) % len(flushes)]
        yield from _cuts_of_one_disk(here, kind, cuts, seed + first, turn)


def _cuts_of_one_disk(
    folder: Path, kind: str, count: int, seed: int, flushes: tuple[str, int]
) -> Iterator[Round]:
    chance = random.Random(seed)
    traffic: Traffic | None = None
    minted: dict[tuple[str, ...], str] = {}
    group_commit, clients = flushes
    with loop_disk(folder, kind=kind, mib=512) as disk:
        for past in range(count + 1):
            with running(
                folder, *WORKERS, data=disk.mount / "data", group_commit=group_commit, trash="7d",
                deletion_grace_seconds="86400",  # copies of sources in the library stay as well
            ) as server:  # fmt: skip
                # The secret must survive as well: tokens of the first start stay good.
                server.minted = minted
                if traffic is None:
                    traffic = Traffic(server, seed, clients, has_library=True)
                else:
                    yield checked(server, traffic)
                if past == count:
                    break
                traffic.server = server
                traffic.start()
                traffic.wait_until_some_is_promised()
                time.sleep(chance.uniform(0, 0.8))  # the moment is the experiment
                traffic.has_power = False
                disk.cut_power()
                traffic.join()
                server.kill()
            disk.remount()
    disk.image.unlink()


def two_workers(folder: Path) -> AbstractContextManager[Server]:
    return running(folder, *WORKERS, trash="7d")


def kills(
    folder: Path,
    count: int,
    *,
    seed: int,
    start: Callable[[Path], AbstractContextManager[Server]] = two_workers,
) -> Iterator[Round]:
    for first in range(0, count, _KILLS_OF_ONE_STORE):
        here = folder / f"kill-{seed}-{first}"
        here.mkdir()
        most = min(_KILLS_OF_ONE_STORE, count - first)
        yield from _kills_of_one_store(here, most, seed + first, start)
        shutil.rmtree(here)


def _kills_of_one_store(
    folder: Path, count: int, seed: int, start: Callable[[Path], AbstractContextManager[Server]]
) -> Iterator[Round]:
    chance = random.Random(seed)
    traffic: Traffic | None = None
    minted: dict[tuple[str, ...], str] = {}
    while True:
        with start(folder) as server:
            server.minted = minted
            if traffic is None:
                traffic = Traffic(server, seed)
            else:
                yield checked(server, traffic)
            if count == 0:
                return
            traffic.server = server
            for number in range(min(count, _KILLS_OF_ONE_SERVER), 0, -1):
                count -= 1
                traffic.start()
                traffic.wait_until_some_is_promised(5)
                time.sleep(chance.uniform(0, 0.2))  # the moment is the experiment
                if number == 1:
                    server.kill()
                    traffic.join()
                    break
                kill_a_worker(server, chance)
                traffic.join()
                with server.client() as client:
                    yield Round(*after(traffic, traffic.unsettled(client)))


def kill_a_worker(server: Server, chance: random.Random) -> None:
    workers = until(server.children)  # the supervisor starts one again
    os.kill(chance.choice(workers), signal.SIGKILL)


def checked(server: Server, traffic: Traffic) -> Round:
    """What a store that has just started again still knows, and what a start must clear."""
    found = [f"left in staging: {name}" for name in os.listdir(server.data / ".stillroom/staging")]
    with server.client() as client:
        found += traffic.violations(client)
    return Round(*after(traffic, found))


def after(traffic: Traffic, violations: list[str]) -> tuple[int, list[str]]:
    acknowledged, traffic.acknowledged = traffic.acknowledged, 0
    return acknowledged, violations
