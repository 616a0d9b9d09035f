"""Processes that upload, complete or sweep, and that may be killed or have a later clock.

Each line of the input is an order in JSON (`Order`), and each line of the output is its result.
Each order is carried out in a child, so that the modules are imported only once. A killed child has
no result. It kills itself before or after a step that changes a disk, bucket or database.
"""

import asyncio
import dataclasses
import json
import logging
import os
import random
import sys
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

import killing
from patience import hurry
from services.process import LineProcess
from stillroom.app import create_app
from stillroom.features.database import migrations  # noqa: F401  (once, not by each child)
from stillroom.features.grants.service import Grants
from stillroom.features.library.rows.deletions import DeletionRows
from stillroom.settings import AllSettings
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.publisher import Publisher
from stillroom.store.s3.store import S3ObjectStore
from waiting import eventually

STEPS: Any = (
    (DataDirectory, ("link_staged", "sync", "sync_folder")),
    (Publisher, ("delete",)),
    (os, ("replace", "setxattr", "unlink", "utime")),
    (DeletionRows, ("mark_save",)),
    (S3ObjectStore, ("copy", "delete", "head", "peek")),
)
COMPLETE = "/api/v1/storage/upload-grants/complete"


@dataclasses.dataclass(frozen=True)
class Order:
    """Work of one process.

    Attributes:
        deed: `put`, `complete` or `sweep`.
        grant: The response to the request for a grant; empty for a sweep.
        content: Seed and size of the file to upload.
        kill_at: Number of the point at which the process kills itself; 0 for none.
        hours_later: Hours by which the clock of the process is ahead.
        hurries: True if the process waits only briefly for the bucket.
    """

    deed: str
    grant: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    content: tuple[str, int] = ("", 0)
    kill_at: int = 0
    hours_later: float = 0
    hurries: bool = False


@dataclasses.dataclass(frozen=True)
class Result:
    """Response of a process that was not killed. The status of a sweep is 200."""

    status: int
    answer: dict[str, Any]
    points: int


class Deeds:
    """A process that carries out orders, one after the other."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        command = (sys.executable, "-m", "crash.grant_deeds")
        self._process = LineProcess(*command, environment=environment)

    def carry_out(self, order: Order) -> Result | None:
        """Return the result, or None if the process was killed."""
        found = json.loads(self._process.ask(json.dumps(dataclasses.asdict(order))))
        return Result(**found) if found else None

    def close(self) -> None:
        self._process.close()


def content_of(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def request(order: Order) -> tuple[int, dict[str, Any]]:
    app, grant = create_app(AllSettings.read()), order.grant
    killing.begin(order.kill_at)  # not at the start of the process
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        if order.deed == "put":
            content = content_of(*order.content)
            answer = await client.put(grant["url"], content=content, headers=grant["headers"])
        else:
            answer = await client.post(COMPLETE, json={"grant": grant["grant"]})
    return answer.status_code, answer.json()


async def sweep(order: Order, patched: pytest.MonkeyPatch) -> None:
    """Run the background jobs until uploads have been swept once."""
    once, ended = Grants.sweep, []

    async def counted(self: Grants, stop: Any) -> None:
        await once(self, stop)
        ended.append(self)

    patched.setattr(Grants, "sweep", counted)
    patched.setenv("STILLROOM_SWEEP_INTERVAL_SECONDS", "0.05")
    app = create_app(AllSettings.read())
    killing.begin(order.kill_at)
    async with app.router.lifespan_context(app):
        await eventually(lambda: ended)


def work(line: str) -> str:
    order = Order(**json.loads(line))
    for owner, names in STEPS:
        for name in names:
            killing.around(owner, name)
    with pytest.MonkeyPatch.context() as patched:
        now, now_ns, seconds = time.time, time.time_ns, order.hours_later * 3600
        patched.setattr("time.time", lambda: now() + seconds)
        patched.setattr("time.time_ns", lambda: now_ns() + int(seconds * 1e9))
        if order.hurries:
            hurry(patched, deadline_s=1.5, timeout_s=0.4)
        if order.deed == "sweep":
            asyncio.run(sweep(order, patched))
            result = Result(200, {}, killing.passed)
        else:
            result = Result(*asyncio.run(request(order)), killing.passed)
    return json.dumps(dataclasses.asdict(result))


if __name__ == "__main__":
    logging.disable()  # of clocks that are set, and of failures that a test makes
    for line in sys.stdin:
        sys.stdout.write(f"{killing.in_child(work, line) or 'null'}\n")
        sys.stdout.flush()
