"""A real bucket at the end of a bad way: whatever breaks, and when, ends in time and in the truth.

Each way of saving, deleting, copying and looking is walked with every request of it failing once,
in every manner, and then with one of its requests failing for good. `STILLROOM_CRASH_ROUNDS` above
the 1 of `make test-all` repeats that, and adds rounds of random trouble.
"""

import asyncio
import contextlib
import hashlib
import os
import random
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from contract.suite import PNG, RULES, Chunks, everything, key
from running import IMAGES, running, wait_until_ready
from services import faulty_proxy as faults
from services.faulty_proxy import (
    CANNOT_BE_MENDED,
    FAULTS,
    NOT_DONE,
    Asked,
    Fault,
    FaultyProxy,
    faulty_proxy,
)
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.errors import BackendUnavailable, ImageNotFound, PreconditionFailed
from stillroom.storage.bucket.storage import BUFFERED_BYTES, R2ImageStorage
from stillroom.storage.choose import R2Config, open_storage
from stillroom.storage.port import ImageStorage
from stillroom.storage.s3.client import IN_FLIGHT
from stillroom.storage.sources import BytesSource
from stillroom.storage.values import ANY, Condition, ListQuery

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROUNDS = int(os.environ.get("STILLROOM_CRASH_ROUNDS", "1"))
MIB = 1024**2
OLD = PNG + b"old"
NEW = PNG + b"new"
LARGE = random.Random(1).randbytes(5 * MIB + 70_000)
"""Two parts, once these are cut at the 5 MiB that S3 demands."""

MAX_TELLING = (
    faults.resets_before_the_body,
    faults.does_it_and_resets,
    faults.is_silent,
    faults.breaks_off_its_body,
)
"""All that some walks meet in the short form; the long one has them all for everyone."""

AT_ONCE = 8
"""Walks at the same time; each has a folder of its own."""


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy(seaweed.endpoint_url) as running:
        yield running
    seaweed.empty()


@pytest.fixture
async def storage(
    proxy: FaultyProxy, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ImageStorage]:
    """Through the proxy, in parts of 5 MiB; nothing of it is left in the end."""
    monkeypatch.setattr("stillroom.storage.bucket.storage.PART_BYTES", 5 * MIB)
    storage = opened(proxy.endpoint_url)
    try:
        yield storage
        proxy.choose = lambda _asked: None
        await no_upload_is_left(operator)
    finally:
        await storage.close()
    await asyncio.to_thread(proxy.wait_until_idle)


def opened(endpoint_url: str, secret: str = SECRET) -> ImageStorage:
    return open_storage(R2Config(endpoint_url, KEY_ID, secret, BUCKET), RULES)


def hurry(monkeypatch: pytest.MonkeyPatch, deadline_s: float, timeout_s: float) -> None:
    """Nobody waits 20 s for what must fail."""
    for module in ("bucket.abandoned_uploads", "bucket.listing", "bucket.storage", "bucket.upload"):
        monkeypatch.setattr(f"stillroom.storage.{module}.DEADLINE_S", deadline_s)
    for module in ("client", "store"):
        monkeypatch.setattr(f"stillroom.storage.s3.{module}.DEADLINE_S", deadline_s)
    monkeypatch.setattr("stillroom.storage.s3.client._TIMEOUT_S", timeout_s)
    monkeypatch.setattr("stillroom.storage.s3.store._LIST_TIMEOUT_S", timeout_s)
    monkeypatch.setattr("stillroom.storage.bucket.abandoned_uploads._LONGEST_PAUSE_S", timeout_s)


async def no_upload_is_left(operator: Operator) -> None:
    async with asyncio.timeout(60):
        while await asyncio.to_thread(operator.uploads):  # noqa: ASYNC110  (the bucket tells nobody)
            await asyncio.sleep(0.1)  # until it holds; there is a deadline


# The ways through the storage -----------------------------------------------------------


@dataclass
class Walk:
    """One use of the storage in a folder of its own, and what must hold afterwards.

    Attributes:
        name: Of it, and the beginning of its folders' names.
        requests: S3's names for what it asks of the bucket, in order.
        act: Does it once; a second time after a first one that may have happened is fine.
        holds: Whether its outcome is there, asked without the proxy.
        prepared: Whether `a.png` is there at the beginning.
        thorough: Whether it meets every fault in the short form, too.
        again: What a second time may say.
    """

    name: str
    requests: tuple[str, ...]
    act: Callable[[ImageStorage, str], Awaitable[object]]
    holds: Callable[[Operator, str], bool]
    prepared: bool = True
    thorough: bool = False
    again: tuple[type[Exception], ...] = ()


def body_of(operator: Operator, name: str) -> bytes | None:
    answer = operator.send("GET", f"/{BUCKET}/compute/{name}")
    assert answer.status_code in (200, 404), answer.text
    if answer.status_code == 404:
        return None
    if sha256 := answer.headers.get("x-amz-meta-sha256"):
        assert sha256 == hashlib.sha256(answer.content).hexdigest()
    return answer.content


async def save_small(storage: ImageStorage, folder: str) -> None:
    saved = await storage.save(key(f"{folder}/a.png"), BytesSource(NEW))
    assert saved.sha256 == hashlib.sha256(NEW).digest()


async def create_small(storage: ImageStorage, folder: str) -> None:
    create = Condition(if_none_match=ANY)
    await storage.save(key(f"{folder}/a.png"), BytesSource(NEW), create)


async def replace_small(storage: ImageStorage, folder: str) -> None:
    etag = f'"{hashlib.md5(OLD).hexdigest()}"'
    known = Condition(if_match=frozenset((etag,)))
    await storage.save(key(f"{folder}/a.png"), BytesSource(NEW), known)


async def save_large(storage: ImageStorage, folder: str) -> None:
    saved = await storage.save(key(f"{folder}/a.png"), Chunks(LARGE[:MIB], LARGE[MIB:]))
    assert saved.sha256 == hashlib.sha256(LARGE).digest()


async def create_large(storage: ImageStorage, folder: str) -> None:
    create = Condition(if_none_match=ANY)
    await storage.save(key(f"{folder}/a.png"), Chunks(LARGE[:MIB], LARGE[MIB:]), create)


async def break_off_large(storage: ImageStorage, folder: str) -> None:
    with contextlib.suppress(ConnectionError):
        await storage.save(key(f"{folder}/a.png"), Chunks(LARGE, breaks=ConnectionError()))


async def delete(storage: ImageStorage, folder: str) -> None:
    await storage.delete(key(f"{folder}/a.png"))


async def copy(storage: ImageStorage, folder: str) -> None:
    await storage.copy(key(f"{folder}/a.png"), key(f"{folder}/b.png"))


async def look(storage: ImageStorage, folder: str) -> None:
    assert (await storage.stat(key(f"{folder}/a.png"))).size == len(OLD)


async def locate(storage: ImageStorage, folder: str) -> None:
    await storage.locate(key(f"{folder}/a.png"))


async def list_folder(storage: ImageStorage, folder: str) -> None:
    page = await storage.list(ListQuery(everything(f"{folder}/")))
    assert page.entries == [f"compute/{folder}/a.png"]


def holds(name: str, content: bytes | None) -> Callable[[Operator, str], bool]:
    return lambda operator, folder: body_of(operator, f"{folder}/{name}") == content


HEAD, PUT, DELETE = "HeadObject", "PutObject", "DeleteObject"
PARTS = ("CreateMultipartUpload", "UploadPart", "UploadPart", "CompleteMultipartUpload")

WALKS = (
    Walk("save-small", (PUT,), save_small, holds("a.png", NEW), thorough=True),
    Walk(
        "create-small", (PUT,), create_small, holds("a.png", NEW),
        prepared=False, again=(PreconditionFailed,),
    ),
    Walk(
        "replace-small", (HEAD, PUT), replace_small, holds("a.png", NEW),
        again=(PreconditionFailed,), thorough=True,
    ),
    Walk("save-large", PARTS, save_large, holds("a.png", LARGE)),
    Walk(
        "create-large", (HEAD, *PARTS), create_large, holds("a.png", LARGE),
        prepared=False, again=(PreconditionFailed,),
    ),
    Walk(
        "break-off-large", (*PARTS[:2], "AbortMultipartUpload"), break_off_large,
        holds("a.png", OLD),
    ),
    Walk(
        "delete", (HEAD, DELETE), delete, holds("a.png", None),
        again=(ImageNotFound,), thorough=True,
    ),
    Walk("copy", (HEAD, "CopyObject"), copy, holds("b.png", OLD), thorough=True),
    Walk("look", (HEAD,), look, holds("a.png", OLD)),
    Walk("locate", (HEAD,), locate, holds("a.png", OLD)),
    Walk("list", ("ListObjectsV2",), list_folder, holds("a.png", OLD)),
)  # fmt: skip


def faults_of(walk: Walk) -> tuple[Fault, ...]:
    return FAULTS if walk.thorough or ROUNDS > 1 else MAX_TELLING


@dataclass
class Trouble:
    """Which request in which folder meets which fault; the proxy asks it."""

    planned: dict[str, Callable[[int, str], Fault | None]] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, asked: Asked) -> Fault | None:
        folder = asked.about.split("/")[1]
        with self.lock:
            self.counted[folder] += 1
            number = self.counted[folder]
        plan = self.planned.get(folder)
        return plan(number, asked.operation) if plan else None

    async def wait_for(self, requests: int, folder: str) -> None:
        """Nobody waits for an abort, so it may still be on its way."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                while self.counted[folder] < requests:  # noqa: ASYNC110  (the proxy has no loop)
                    await asyncio.sleep(0.02)  # until it holds; there is a deadline


async def prepare(operator: Operator, walk: Walk, folder: str) -> None:
    if walk.prepared:
        await asyncio.to_thread(operator.put, f"compute/{folder}/a.png", OLD)


async def succeeds_again(
    storage: ImageStorage, operator: Operator, walk: Walk, folder: str
) -> None:
    """The retry works: it does what is to be done, or finds it done."""
    with contextlib.suppress(*walk.again):
        await walk.act(storage, folder)
    assert await asyncio.to_thread(walk.holds, operator, folder), folder


# Once -----------------------------------------------------------------------------------


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


# For good --------------------------------------------------------------------------------


async def test_a_request_that_fails_for_good_ends_in_time_and_the_retry_works(
    storage: ImageStorage,
    proxy: FaultyProxy,
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hurry(monkeypatch, deadline_s=1.5, timeout_s=0.4)
    trouble = Trouble()
    proxy.choose = trouble.choose
    turns = asyncio.Semaphore(2 * AT_ONCE)

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


@pytest.mark.parametrize("trouble", ["refused", "black hole", "not taken"])
async def test_a_bucket_that_cannot_be_reached_is_said_to_be_so_and_comes_back(
    proxy: FaultyProxy, operator: Operator, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    """Nobody listens; whoever listens says nothing; or the connection itself never comes about."""
    hurry(monkeypatch, deadline_s=1.5, timeout_s=0.4)
    monkeypatch.setattr("stillroom.storage.bucket.storage._CHECK_S", 1.0)
    monkeypatch.setattr("stillroom.storage.bucket.storage._CHECK_HOLDS_S", 0.0)
    operator.put("compute/way/a.png", OLD)
    storage = opened(proxy.endpoint_url)
    uses = (
        storage.check, lambda: save_small(storage, "new"), lambda: save_large(storage, "new"),
        lambda: look(storage, "way"), lambda: locate(storage, "way"),
        lambda: list_folder(storage, "way"), lambda: delete(storage, "way"),
        lambda: copy(storage, "way"),
    )  # fmt: skip
    await storage.check()
    with contextlib.ExitStack() as until_mended:
        if trouble == "black hole":
            proxy.black_hole.set()
            until_mended.callback(proxy.black_hole.clear)
        else:
            proxy.refuse()
            until_mended.callback(proxy.accept)
        if trouble == "not taken":
            until_mended.enter_context(proxy.full_queue())
        async with asyncio.timeout(30):
            outcomes = await asyncio.gather(*(use() for use in uses), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [BackendUnavailable] * len(uses)

    hurry(monkeypatch, deadline_s=15, timeout_s=5)
    await storage.check()
    await save_small(storage, "new")
    assert body_of(operator, "new/a.png") == NEW
    assert body_of(operator, "way/a.png") == OLD
    await storage.close()


async def test_wrong_credentials_are_a_refusal_that_says_what_to_mend(
    proxy: FaultyProxy, operator: Operator
) -> None:
    operator.put("compute/way/a.png", OLD)
    storage = opened(proxy.endpoint_url, secret="another one")

    for use in (save_small, save_large, look, list_folder, delete, copy):
        with pytest.raises(BackendUnavailable, match="R2_SECRET_ACCESS_KEY"):
            await use(storage, "way")

    assert body_of(operator, "way/a.png") == OLD
    await storage.close()


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
    lost = iter([faults.does_it_and_resets])
    proxy.choose = lambda asked: (
        next(lost, None) if asked.operation == "CreateMultipartUpload" else None
    )

    with contextlib.suppress(BackendUnavailable):  # the parts may take longer than that second
        await save_large(storage, "way")

    assert len(operator.uploads()) >= 2
    assert isinstance(storage, R2ImageStorage)
    async with asyncio.timeout(60):
        await asyncio.gather(*storage._abandoned._tasks)
    assert len(operator.uploads()) == 1
    assert operator.send("GET", target, query={"uploadId": theirs}).status_code == 200
    assert operator.send("DELETE", target, query={"uploadId": theirs}).status_code == 204


# Over HTTP ------------------------------------------------------------------------------


def test_over_http_trouble_is_503_in_bounded_memory_and_passes(
    proxy: FaultyProxy,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Everything at once, since a deadline is 20 s: each fault has a folder of its own."""
    set_r2(monkeypatch, proxy.endpoint_url)
    storm = [fault for fault in FAULTS if fault in NOT_DONE]
    folders = {f"http-{fault.__name__}": fault for fault in storm}
    for folder in folders:
        operator.put(f"compute/{folder}/a.png", OLD)
    big = random.Random(2).randbytes(12 * MIB)

    def trouble(asked: Asked) -> Fault | None:
        if asked.about == ".stillroom/check":
            return faults.answers(503, "ServiceUnavailable")
        return folders.get(asked.about.split("/")[1])

    uses: dict[str, Callable[[httpx.Client, str], httpx.Response]] = {
        "save": lambda client, folder: client.post(f"{IMAGES}/{folder}/new.png", files=form(NEW)),
        "save 12 MiB": lambda client, folder: client.post(
            f"{IMAGES}/{folder}/big.bin", files=form(big)
        ),
        "save 17 MiB": lambda client, folder: client.post(
            f"{IMAGES}/{folder}/parts.bin", files=form(big + big[: 5 * MIB])
        ),
        "get": lambda client, folder: client.get(f"{IMAGES}/{folder}/a.png"),
        "head": lambda client, folder: client.head(f"{IMAGES}/{folder}/a.png"),
        "list": lambda client, folder: client.get(IMAGES, params={"prefix": f"{folder}/"}),
        "delete": lambda client, folder: client.delete(f"{IMAGES}/{folder}/a.png"),
    }
    with running(tmp_path) as server, server.client() as client:
        assert uses["save 17 MiB"](client, "warm").status_code == 200
        before = reset_peak(server.process.pid)
        proxy.choose = trouble

        def use(case: tuple[str, str]) -> httpx.Response:
            name, folder = case
            with server.client() as client:
                return uses[name](client, folder)

        # Seven parts are all that the budget holds: more large ones wait for those before them.
        large_ones = list(folders)[: 3 if ROUNDS == 1 else None]
        cases = [
            (name, folder)
            for folder in folders
            for name in uses
            if folder in large_ones or "MiB" not in name
        ]
        with ThreadPoolExecutor(len(cases)) as pool:
            answers = list(pool.map(use, cases))
            ready = client.get("/readyz")
        growth = peak_bytes(server.process.pid) - before

        assert {answer.status_code for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"5"}
        assert (ready.status_code, ready.json()["detail"]) == (
            503,
            "the bucket is out of reach: it answers 503 ServiceUnavailable",
        )
        # The budget is for bodies; so many connections have some room of their own besides.
        assert growth < BUFFERED_BYTES + 32 * MIB, f"grew by {growth / MIB:.1f} MiB"
        assert proxy.connections <= IN_FLIGHT

        proxy.choose = lambda _asked: None
        wait_until_ready(server)
        for folder in folders:
            for name in ("save", "get", "head", "list", "delete"):
                assert uses[name](client, folder).status_code in (200, 302), (folder, name)
            assert operator.keys(f"compute/{folder}/") == [f"compute/{folder}/new.png"]
        asyncio.run(no_upload_is_left(operator))


def form(data: bytes) -> dict[str, bytes]:
    return {"file": data}


def set_r2(environment: pytest.MonkeyPatch, endpoint_url: str) -> None:
    environment.setenv("R2_ENDPOINT_URL", endpoint_url)
    environment.setenv("R2_ACCESS_KEY_ID", KEY_ID)
    environment.setenv("R2_SECRET_ACCESS_KEY", SECRET)
    environment.setenv("R2_BUCKET_NAME", BUCKET)
    environment.setenv("R2_PUBLIC_URL", "https://cdn.example.com")


def reset_peak(pid: int) -> int:
    """Forget the highest use of memory so far; gives what is used now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak_bytes(pid)


def peak_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")
