"""A `media/` that an empty mount hides while sources are due: the last good copy never goes.

As when a volume is mounted in the wrong order, or fails to mount at all and its folder is made.
"""

import contextlib
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from acceptance.library import LIBRARY
from crash.rounds import Round
from pictures import picture
from running import IMAGES, Server, running
from waiting import until

_LETTERS = "/api/v1/media-dead-letters"
_IMAGES = 8
_WHILE_SWEEPING_S = 0.3
"""The next sweep begins within 0.2 s, and takes a little."""


def hidden_mounts(folder: Path, count: int, *, seed: int) -> Iterator[Round]:
    chance = random.Random(seed)
    for number in range(count):
        here = folder / f"hidden-{seed}-{number}"
        here.mkdir()
        with running(here, sweep_interval_seconds="0.2") as server:
            yield _round(server, chance.choice((0, chance.uniform(0, _WHILE_SWEEPING_S))))
        shutil.rmtree(here)


def _round(server: Server, hidden_after_s: float) -> Round:
    violations: list[str] = []
    with server.client() as client:
        images = {f"{number}.png": picture(number) for number in range(_IMAGES)}
        ids = {path: _ingested(client, path, data) for path, data in images.items()}

        with contextlib.ExitStack() as hidden:
            if hidden_after_s:
                _make_due(server)
                time.sleep(hidden_after_s)  # the moment is the experiment
            hidden.enter_context(_hidden(server.data / "media"))
            _make_due(server)
            _wait_until_swept(server)
            for path, data in images.items():
                source = client.get(f"{IMAGES}/{path}")
                if not hidden_after_s and source.content != data:
                    violations.append(f"{path}: its last good copy was deleted")

        for path, data in images.items():
            if client.get(f"{LIBRARY}/{ids[path]}/file").content != data:
                violations.append(f"{path}: its resource has no bytes")
        for dead_letter in client.get(_LETTERS).json():
            client.post(f"{_LETTERS}/{dead_letter['id']}/retry").raise_for_status()
        _wait_until_swept(server)
        if left := client.get(IMAGES).json():
            violations.append(f"{len(left)} sources stay although their copies are back")
    return Round(_IMAGES, violations)


def _make_due(server: Server) -> None:
    with _rows(server) as rows:
        rows.execute("UPDATE media_deletions SET due_at = '2026-01-01 00:00:00.000000'")


def _wait_until_swept(server: Server) -> None:
    with _rows(server) as rows:
        until(lambda: rows.execute("SELECT count(*) FROM media_deletions").fetchone() == (0,))


@contextlib.contextmanager
def _rows(server: Server) -> Iterator[sqlite3.Connection]:
    file = server.data / ".stillroom/library.db"
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection, connection:
        yield connection


def _ingested(client: httpx.Client, path: str, data: bytes) -> str:
    client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()
    answer = client.post(f"{LIBRARY}/ingest", json={"storage_key": f"compute/{path}"})
    resource_id: str = answer.raise_for_status().json()["id"]
    return resource_id


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        # A sweep may be looking into it just now.
        subprocess.run(["umount", "--lazy", folder], check=True)
