"""SIGKILL at every step of an upload and a completion: another process continues.

Killed anywhere, an upload is there as a whole or not at all, and so is the image.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from crash.grant_deeds import Deeds, Order, content_of
from grants.conftest import IMAGES, Site, settings_of
from services.seaweedfs import SeaweedFS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(
        "kind", ["disk", pytest.param("bucket", marks=pytest.mark.whole)], indirect=True
    ),
]

TESTS = Path(__file__).parents[1]
CONTENT = ("a", 2056)
DATA = content_of(*CONTENT)


@pytest.fixture
def deeds(bucket: SeaweedFS | None, tmp_path: Path) -> Iterator[Deeds]:
    python_path = f"{TESTS}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    environment = {**os.environ, **settings_of(bucket, tmp_path), "PYTHONPATH": python_path}
    with contextlib.closing(Deeds(environment)) as running:
        yield running


@pytest.mark.parametrize("if_none_match", [None, pytest.param("*", marks=pytest.mark.whole)])
async def test_a_completion_killed_anywhere_is_continued_by_another_process(
    site: Site, deeds: Deeds, if_none_match: str | None
) -> None:
    for number in itertools.count(1):
        path = f"{number}.png"
        if if_none_match is None:
            await site.save(path, b"old")
        grant = await site.upload(path, DATA, expires_after="7d", if_none_match=if_none_match)
        # In a thread, since a transaction of this process must not wait for the child.
        order = Order("complete", grant, kill_at=number)
        if (found := await asyncio.to_thread(deeds.carry_out, order)) is not None:
            break

        if await site.exists(path):
            assert await site.read(path) in (b"old", DATA)
        first = await site.complete(grant)
        assert first.status_code == 200, (number, first.text)
        assert first.json()["expires_at"] is not None
        assert await site.read(path) == DATA
        assert (await site.complete(grant)).content == first.content
        assert site.uploads() == []
    assert found is not None
    assert (found.status, found.points) == (200, number - 1)
    assert number > 7


async def test_an_upload_killed_anywhere_is_there_as_a_whole_or_can_be_sent_again(
    site: Site, deeds: Deeds
) -> None:
    if site.kind == "bucket":
        return  # the client's upload does not pass through our process
    for number in itertools.count(1):
        grant = await site.grant(f"{number}.png", DATA)
        order = Order("put", grant, CONTENT, kill_at=number)
        if (found := await asyncio.to_thread(deeds.carry_out, order)) is not None:
            break

        files = [site.data / ".stillroom" / "uploads" / name for name in site.uploads()]
        assert [file.read_bytes() for file in files] in ([], [DATA])
        assert (await site.put(grant, DATA)).status_code == (412 if files else 200)
        assert (await site.complete(grant)).status_code == 200
        assert await site.read(f"{number}.png") == DATA
    assert found is not None
    assert (found.status, found.points) == (200, number - 1)
    assert number > 5


async def test_another_process_completes_what_a_client_left_an_hour_ago(site: Site) -> None:
    grant = await site.upload("a.png", expires_in=7200)
    if site.kind == "disk":
        (upload,) = (site.data / ".stillroom" / "uploads").iterdir()
        hour_ago = upload.stat().st_mtime - 3600
        os.utime(upload, (hour_ago, hour_ago))

    assert (await site.complete(grant["grant"])).status_code == 200

    assert (await site.client.head(f"{IMAGES}/a.png")).status_code == 200
