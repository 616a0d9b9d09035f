"""A `media/` that an empty mount hides while sources are due: the last good copy never goes.

As when a volume is mounted in the wrong order, or fails to mount at all and its folder is made.
"""

import contextlib
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from crash.rounds import Round
from pictures import picture
from running import IMAGES, STILLROOM, Server, running

_LIBRARY = f"{IMAGES.removesuffix('storage/images')}media-resources"
_IMAGES = 8
_WHILE_SWEEPING_S = 0.8
"""A sweep takes about so long, most of it the start of its process."""


def hidden_mounts(folder: Path, count: int, *, seed: int) -> Iterator[Round]:
    """Hide `media/` before a sweep or in the middle of one, `count` times."""
    chance = random.Random(seed)
    for number in range(count):
        here = folder / f"hidden-{seed}-{number}"
        here.mkdir()
        with running(here, deletion_grace_seconds="0", sweep_interval_seconds="0") as server:
            yield _round(server, chance.choice((0, chance.uniform(0, _WHILE_SWEEPING_S))))
        shutil.rmtree(here)


def _round(server: Server, hidden_after_s: float) -> Round:
    violations: list[str] = []
    with server.client() as client:
        images = {f"{number}.png": picture(number) for number in range(_IMAGES)}
        ids = {path: _ingested(client, path, data) for path, data in images.items()}

        with contextlib.ExitStack() as hidden:
            if not hidden_after_s:
                hidden.enter_context(_hidden(server.data / "media"))
            with _media(server, "sweep") as sweeping:
                if hidden_after_s:
                    time.sleep(hidden_after_s)  # the moment is the experiment
                    hidden.enter_context(_hidden(server.data / "media"))
            if sweeping.returncode not in (0, 1):
                violations.append(f"the sweep ended with {sweeping.returncode}")
            for path, data in images.items():
                source = client.get(f"{IMAGES}/{path}")
                if not hidden_after_s and source.content != data:
                    violations.append(f"{path}: its last good copy was deleted")

        for path, data in images.items():
            if client.get(f"{_LIBRARY}/{ids[path]}/file").content != data:
                violations.append(f"{path}: its resource has no bytes")
        for command in (("dead-letters", "retry", "--all"), ("sweep",)):
            with _media(server, *command):
                pass
        left = client.get(IMAGES).json()
        if left:
            violations.append(f"{len(left)} sources stay although their copies are back")
    return Round(_IMAGES, violations)


def _ingested(client: httpx.Client, path: str, data: bytes) -> str:
    client.post(f"{IMAGES}/{path}", files={"file": data}).raise_for_status()
    answer = client.post(f"{_LIBRARY}/ingest", json={"storage_key": f"compute/{path}"})
    resource_id: str = answer.raise_for_status().json()["id"]
    return resource_id


def _media(server: Server, *arguments: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [STILLROOM, "media", *arguments],
        env=server.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextlib.contextmanager
def _hidden(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
