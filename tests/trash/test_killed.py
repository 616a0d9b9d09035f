"""SIGKILL at every step of a deletion, a restoration and an expiry.

Killed anywhere, an image is in its place, in the trash, or in both.
"""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from grants.conftest import token
from trash.conftest import IMAGES, PAIRS, PNG, RUNS, TRASH, Site
from trash.killer import Killer, killing

pytestmark = [
    pytest.mark.slow,
    pytest.mark.parametrize(
        "pair",
        [
            PAIRS[0],
            *(
                pytest.param(*pair.values, id=pair.id, marks=pytest.mark.whole)
                for pair in PAIRS[1:]
            ),
        ],
        indirect=True,
    ),
]


@pytest.fixture
def killer(variables: dict[str, str]) -> Iterator[Killer]:
    with killing(variables) as process:
        yield process


async def killed(killer: Killer, number: int, method: str, url: str) -> bool:
    headers = {"authorization": f"Bearer {token()}"}
    # In a thread, since a transaction of this process must not wait for the child.
    return await asyncio.to_thread(killer.killed, number, method, url, headers=headers)


async def ends_clean(site: Site) -> None:
    """After the last expiry, nothing is left of what was in the trash."""
    await site.expire()
    await site.end_leases()
    await site.sweep()
    assert (await site.items(), site.places()) == ([], [])
    assert await site.query("SELECT * FROM media_trash") == []
    assert await site.query("SELECT * FROM media_deletions WHERE reason = 'trash'") == []


async def test_a_deletion_killed_anywhere_can_be_repeated_and_undone(
    site: Site, killer: Killer
) -> None:
    for number in itertools.count(1):
        path = f"{number}.png"
        await site.save(path, expires_in="7d")
        if not await killed(killer, number, "DELETE", f"{IMAGES}/{path}"):
            break

        in_place, items = await site.read(path), await site.items(prefix=path)
        assert in_place == PNG or items, number
        again = await site.client.delete(f"{IMAGES}/{path}")
        assert again.status_code == (200 if in_place else 404), number
        first, *others = await site.items(prefix=path)
        assert (await site.restore(first["id"])).status_code == 200, number
        assert await site.read(path) == PNG
        for other in others:
            assert (await site.restore(other["id"])).status_code == 409
            assert (await site.client.delete(f"{TRASH}/{other['id']}")).status_code == 200
        assert site.places() == []
    assert killer.points == number - 1 > 6
    await ends_clean(site)


async def test_a_restoration_killed_anywhere_can_be_repeated(site: Site, killer: Killer) -> None:
    for number in itertools.count(1):
        path = f"{number}.png"
        await site.save(path)
        trash_id = await site.discard(path)
        if not await killed(killer, number, "POST", f"{TRASH}/{trash_id}/restore"):
            break

        in_place, items = await site.read(path), await site.items(prefix=path)
        assert in_place == PNG or items, number
        await site.end_leases()
        again = await site.restore(trash_id)
        assert again.status_code in ((200,) if items else (200, 404)), (number, again.text)
        assert await site.read(path) == PNG, number
        assert (await site.items(prefix=path), site.places()) == ([], [])
    assert killer.points == number - 1 > 8
    await ends_clean(site)


async def test_an_expiry_killed_anywhere_is_continued(site: Site, killer: Killer) -> None:
    for number in itertools.count(1):
        path = f"{number}.png"
        await site.save(path)
        await site.discard(path)
        await site.expire()
        if not await killed(killer, number, "SWEEP", ""):
            break

        await site.end_leases()
        await site.sweep()
        assert site.places() == []
        assert await site.items() == []
    assert killer.points == number - 1 > 4
    await ends_clean(site)


async def published(site: Site, folder: str) -> dict[str, Any]:
    for name in "ab":
        await site.save(f"{folder}/{name}.png", name.encode())
    answer = await site.client.post(f"{RUNS}/{folder}/publish")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def is_whole(site: Site, folder: str, manifest: dict[str, Any]) -> bool:
    images = [await site.read(f"{folder}/{name}.png") for name in "ab"]
    answer = await site.client.get(f"{RUNS}/{folder}")
    return answer.json() == manifest and images == [b"a", b"b"]


async def test_the_deletion_of_a_run_killed_anywhere_is_continued_and_can_be_undone(
    site: Site, killer: Killer
) -> None:
    for number in itertools.count(1):
        folder = f"runs/{number}"
        manifest = await published(site, folder)
        if not await killed(killer, number, "DELETE", f"{RUNS}/{folder}"):
            break

        await site.end_leases()
        await site.sweep()  # which continues a deletion that had begun
        items = await site.items(prefix=f"{folder}/")
        assert len(items) == (0 if await is_whole(site, folder, manifest) else 1), number
        if not items:
            continue
        assert await site.stored() == [path for path in await site.stored() if folder not in path]
        answer = await site.restore(items[0]["id"])
        assert answer.status_code == 200, (number, answer.text)
        assert await is_whole(site, folder, manifest), number
        assert site.places() == []
    assert number > 12  # not exact: the files of a run are moved at the same time
    await ends_clean(site)


async def test_the_restoration_of_a_run_killed_anywhere_can_be_repeated(
    site: Site, killer: Killer
) -> None:
    for number in itertools.count(1):
        folder = f"runs/{number}"
        manifest = await published(site, folder)
        trash_id = (await site.client.delete(f"{RUNS}/{folder}")).json()["trash_id"]
        if not await killed(killer, number, "POST", f"{TRASH}/{trash_id}/restore"):
            break

        await site.end_leases()
        items = await site.items(prefix=f"{folder}/")
        if items:
            answer = await site.restore(trash_id)
            assert answer.status_code == 200, (number, answer.text)
        assert await is_whole(site, folder, manifest), number
        assert (await site.items(prefix=f"{folder}/"), site.places()) == ([], [])
    assert number > 12  # not exact: the files of a run are moved at the same time
    await ends_clean(site)
