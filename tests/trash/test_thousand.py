"""A thousand images are deleted and restored, and each byte is still there."""

import asyncio

import pytest

from stillroom.assembly import opened_inspection
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.maintenance.verify import Verification, VerificationProgress
from stillroom.paths import COMPUTE_PREFIX, MEDIA_PREFIX, KeyPrefix
from stillroom.settings import AllSettings
from trash.conftest import TRASH, Site, sha256_of

pytestmark = [pytest.mark.slow, pytest.mark.whole]

COUNT = 1000


async def verified(site: Site) -> VerificationProgress:
    progress = VerificationProgress()
    prefixes = [KeyPrefix(COMPUTE_PREFIX), KeyPrefix(MEDIA_PREFIX)]
    async with opened_inspection(AllSettings.of_values(**site.variables)) as store:
        limit = RateLimiter(None)
        await Verification(store, prefixes, progress=progress, rate_limit=limit).run()
    return progress


async def test_a_thousand_deletions_and_restorations_leave_all_hashes(site: Site) -> None:
    contents = {f"{number % 10}/{number}.bin": f"{number}".encode() for number in range(COUNT)}
    slots = asyncio.Semaphore(8)

    async def save(path: str) -> None:
        async with slots:
            await site.save(path, contents[path])

    await asyncio.gather(*map(save, contents))

    answer = await site.client.post("/api/v1/storage/delete", json={"paths": [*contents]})
    ids = [result["trash_id"] for result in answer.json()["results"]]
    assert (len(set(ids)), len(site.places()), await site.stored()) == (COUNT, COUNT, [])
    assert (await verified(site)).problems == 0
    assert len(await site.items(limit=COUNT)) == COUNT

    answer = await site.client.post(f"{TRASH}/restore", json={"ids": ids})

    assert [result.get("code") for result in answer.json()["results"]] == [None] * COUNT
    assert (await site.items(), site.places()) == ([], [])
    entries = (await site.client.get("/api/v1/storage/entries?limit=1000")).json()
    hashes = {entry["path"]: entry["sha256"] for entry in entries}
    assert hashes == {path: sha256_of(data) for path, data in contents.items()}
    progress = await verified(site)
    assert (progress.images, progress.problems, progress.counts) == (COUNT, 0, {})
