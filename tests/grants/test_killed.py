"""SIGKILL at every step of an upload and a completion: another process continues.

Killed anywhere, an upload is there as a whole or not at all, and so is the image.
"""

import asyncio
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from grants.conftest import IMAGES, PNG, Grant, Site, settings_of
from services.seaweedfs import SeaweedFS

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]


class Killer:
    """A process whose children kill themselves at the n-th point."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.points = 0

    def killed(self, number: int, deed: str, grant: Grant) -> bool:
        """Let a child do it. False: it was done before it came to that point."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{number} {deed}\n{json.dumps(grant)}\n")
        self._process.stdin.flush()
        self.points = int(self._process.stdout.readline())
        return self.points < 0


@pytest.fixture
def killer(bucket: SeaweedFS | None, tmp_path: Path) -> Iterator[Killer]:
    environment = {
        **os.environ,
        **settings_of(bucket, tmp_path),
        "PYTHONPATH": f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    command = [sys.executable, "-m", "grants.killed_at"]
    pipe = subprocess.PIPE
    # `with` closes its input and waits for its end.
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        yield Killer(process)


@pytest.mark.parametrize("if_none_match", [None, "*"])
async def test_a_completion_killed_anywhere_is_continued_by_another_process(
    site: Site, killer: Killer, if_none_match: str | None
) -> None:
    for number in itertools.count(1):
        path = f"{number}.png"
        if if_none_match is None:
            await site.save(path, b"old")
        grant = await site.upload(path, expires_after="7d", if_none_match=if_none_match)
        # In a thread, since a transaction of this process must not wait for the child.
        if not await asyncio.to_thread(killer.killed, number, "complete", grant):
            break

        if await site.exists(path):
            assert await site.read(path) in (b"old", PNG)
        first = await site.complete(grant)
        assert first.status_code == 200, (number, first.text)
        assert first.json()["expires_at"] is not None
        assert await site.read(path) == PNG
        assert (await site.complete(grant)).content == first.content
        assert site.uploads() == []
    assert killer.points == number - 1 > 6


async def test_an_upload_killed_anywhere_is_there_as_a_whole_or_can_be_sent_again(
    site: Site, killer: Killer
) -> None:
    if site.kind == "bucket":
        return  # the client's upload does not pass through our process
    for number in itertools.count(1):
        grant = await site.grant(f"{number}.png")
        if not await asyncio.to_thread(killer.killed, number, "put", grant):
            break

        files = [site.data / ".stillroom" / "uploads" / name for name in site.uploads()]
        assert [file.read_bytes() for file in files] in ([], [PNG])
        assert (await site.put(grant)).status_code == (412 if files else 200)
        assert (await site.complete(grant)).status_code == 200
        assert await site.read(f"{number}.png") == PNG
    assert killer.points == number - 1 > 4


async def test_another_process_completes_what_a_client_left_an_hour_ago(site: Site) -> None:
    grant = await site.upload("a.png", expires_in=7200)
    if site.kind == "disk":
        (upload,) = (site.data / ".stillroom" / "uploads").iterdir()
        hour_ago = upload.stat().st_mtime - 3600
        os.utime(upload, (hour_ago, hour_ago))

    assert (await site.complete(grant["grant"])).status_code == 200

    assert (await site.client.head(f"{IMAGES}/a.png")).status_code == 200
