"""A real bucket at the end of a bad way: whatever breaks, and when, ends in time and in the truth.

Each way of saving, deleting, copying and looking is walked with every request of it failing once,
in every manner, and then with one of its requests failing for good. `CRASH_ROUNDS` above
the 1 of `make test-all` repeats that, and adds rounds of random trouble.
"""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from crash.bucket_walks import (
    AT_ONCE,
    MIB,
    ROUNDS,
    WALKS,
    Trouble,
    Walk,
    faults_of,
    no_upload_is_left,
    opened,
    prepare,
    save_large,
    succeeds_again,
)
from patience import hurry
from services.faulty_proxy import Exchange, Fault, FaultyProxy
from services.proxy_faults import CANNOT_BE_MENDED, FAULTS, NOT_DONE
from services.s3 import Operator
from services.seaweedfs import BUCKET
from stillroom.errors import BackendUnavailable
from stillroom.store.bucket.storage import R2ImageStorage
from stillroom.store.port import ImageStorage

pytestmark = [pytest.mark.slow]


@pytest.fixture
async def storage(
    proxy: FaultyProxy, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ImageStorage]:
    """Through the proxy, in parts of 5 MiB; nothing of it is left in the end."""
    monkeypatch.setattr("stillroom.store.bucket.storage.PART_BYTES", 5 * MIB)
    storage = opened(proxy.endpoint_url)
    try:
        yield storage
        proxy.choose = lambda _asked: None
        await no_upload_is_left(operator)
    finally:
        await storage.close()
    await asyncio.to_thread(proxy.wait_until_idle)


async def test_every_request_may_fail_once_in_every_way(  # noqa: C901  (one loop in another)
    storage: ImageStorage,
    proxy: FaultyProxy,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fail the Nth request, for every N, until a walk meets no fault any more."""
    hurry(monkeypatch, deadline_s=12, timeout_s=1)
    trouble = Trouble()
    proxy.choose = trouble.choose
    turns = asyncio.Semaphore(AT_ONCE)
    walked: Counter[str] = Counter()

    async def walk_on(walk: Walk, fault: Fault) -> None:
        for failing in range(1, 20):
            folder = f"{walk.name}-{fault.__name__}-{failing}"
            met = False

            def plan(number: int, _: str, failing: int = failing) -> Fault | None:
                nonlocal met
                met |= number == failing
                return fault if number == failing else None

            trouble.planned[folder] = plan
            async with turns:
                await prepare(operator, walk, folder)
                await fails_at_most_honestly(walk, fault, folder)
            if not met:
                return
            walked[walk.name] += 1
        raise AssertionError(f"{walk.name} never ends")

    async def fails_at_most_honestly(walk: Walk, fault: Fault, folder: str) -> None:
        try:
            async with asyncio.timeout(60):
                await walk.act(storage, folder)
        except BackendUnavailable:
            # Silence uses up the time of a completion or a copy, which may take all there is.
            assert fault in CANNOT_BE_MENDED or "silent" in fault.__name__, folder
        else:
            assert await asyncio.to_thread(walk.holds, operator, folder), folder
            await trouble.wait_for(len(walk.requests), folder)
        del trouble.planned[folder]
        await succeeds_again(storage, operator, walk, folder)

    async with asyncio.TaskGroup() as group:
        for walk in WALKS:
            for fault in faults_of(walk):
                group.create_task(walk_on(walk, fault))

    for walk in WALKS:
        assert walked[walk.name] >= len(walk.requests) * len(faults_of(walk))


async def test_a_request_that_fails_for_good_ends_in_time_and_the_retry_works(
    storage: ImageStorage,
    proxy: FaultyProxy,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch, deadline_s=1.5, timeout_s=0.4)
    trouble = Trouble()
    proxy.choose = trouble.choose
    turns = asyncio.Semaphore(AT_ONCE)

    async def walk_into(walk: Walk, failing: str, fault: Fault) -> None:
        folder = f"{walk.name}-{failing}-{fault.__name__}"
        trouble.planned[folder] = lambda _, operation: fault if operation == failing else None
        async with turns:
            await prepare(operator, walk, folder)
            try:
                async with asyncio.timeout(2 * len(walk.requests) + 20):
                    await walk.act(storage, folder)
            except BackendUnavailable:
                pass
            else:
                # It may have been carried out, and found out to be; or nobody waited for it.
                assert fault not in NOT_DONE or failing == "AbortMultipartUpload", folder
                assert await asyncio.to_thread(walk.holds, operator, folder), folder

    async def walk_again(walk: Walk, failing: str, fault: Fault) -> None:
        async with turns:
            await succeeds_again(storage, operator, walk, f"{walk.name}-{failing}-{fault.__name__}")

    walks = [
        (walk, failing, fault)
        for walk in WALKS
        for failing in dict.fromkeys(walk.requests)
        for fault in faults_of(walk)
    ]
    async with asyncio.TaskGroup() as group:
        for walk in walks:
            group.create_task(walk_into(*walk))
    trouble.planned.clear()
    hurry(monkeypatch, deadline_s=15, timeout_s=5)
    async with asyncio.TaskGroup() as group:
        for walk in walks:
            group.create_task(walk_again(*walk))


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_random_trouble_costs_no_acknowledged_image(
    storage: ImageStorage,
    proxy: FaultyProxy,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    """Every third request fails, each in its own way: what was acknowledged holds all the same."""
    hurry(monkeypatch, deadline_s=6, timeout_s=1)
    dice = random.Random(seed)
    proxy.choose = lambda _: dice.choice(FAULTS) if dice.random() < 1 / 3 else None
    turns = asyncio.Semaphore(AT_ONCE)
    acknowledged: Counter[bool] = Counter()

    async def walk_through(walk: Walk, number: int) -> None:
        folder = f"{walk.name}-{seed}-{number}"
        async with turns:
            await prepare(operator, walk, folder)
            try:
                await walk.act(storage, folder)
            except BackendUnavailable:
                acknowledged[False] += 1
            else:
                acknowledged[True] += 1
                assert await asyncio.to_thread(walk.holds, operator, folder), folder

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            for walk in WALKS:
                if number == 0 or not walk.name.endswith("large"):
                    group.create_task(walk_through(walk, number))

    assert acknowledged[True] > acknowledged[False], "most of it passes, or this shows little"


async def test_an_upload_whose_beginning_was_not_answered_goes_and_that_of_another_stays(
    storage: ImageStorage,
    proxy: FaultyProxy,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody knows the id of the first; the second has a part, so somebody is at it."""
    hurry(monkeypatch, deadline_s=1, timeout_s=1)
    target = f"/{BUCKET}/compute/way/a.png"
    begun = operator.send("POST", target, query={"uploads": ""}).text
    theirs = begun.partition("<UploadId>")[2].partition("<")[0]
    part = {"uploadId": theirs, "partNumber": "1"}
    assert operator.send("PUT", target, query=part, body=b"x").status_code == 200
    begun_by_then: list[int] = []

    def does_it_and_resets(exchange: Exchange) -> None:
        exchange.carry_out()
        begun_by_then.append(len(operator.uploads()))
        exchange.reset()

    lost = iter([does_it_and_resets])
    proxy.choose = lambda asked: (
        next(lost, None) if asked.operation == "CreateMultipartUpload" else None
    )

    with contextlib.suppress(BackendUnavailable):  # the parts may take longer than that second
        await save_large(storage, "way")

    assert begun_by_then == [2]
    assert isinstance(storage, R2ImageStorage)
    async with asyncio.timeout(60):
        await asyncio.gather(*storage._context.abandoned._tasks)
    assert len(operator.uploads()) == 1
    assert operator.send("GET", target, query={"uploadId": theirs}).status_code == 200
    assert operator.send("DELETE", target, query={"uploadId": theirs}).status_code == 204
