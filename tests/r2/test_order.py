"""Buckets that list in another order than S3's: said, and refused where pages need an order."""

import asyncio
import hashlib
import logging
from pathlib import Path

import pytest

from client.test_doctor import doctor
from contract.images import everything
from r2.conftest import Running
from services import stub_r2
from services.stub_r2 import StubR2
from stillroom.errors import ListingUnsupported
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery

KEYS = ("a-b", "a/b", "a/c", "a0", "b")
BY_TREE = ["compute/a/b", "compute/a/c", "compute/a-b", "compute/a0", "compute/b"]


def tree(key: str) -> list[str]:
    return key.split("/")


def no_order(key: str) -> str:
    return hashlib.md5(key.encode()).hexdigest()


@pytest.fixture
def filled(stub: StubR2) -> StubR2:
    for key in KEYS:
        stub.objects[f"compute/{key}"] = stub_r2.Stored(b"", {}, '"e"')
    return stub


async def all_pages(storage: ImageStorage, limit: int) -> list[str]:
    found: list[str] = []
    while True:
        after = found[-1] if found else ""
        page = await storage.list(ListQuery(everything(), after=after, limit=limit))
        found += page.entries
        if not page.more:
            return found


async def test_a_bucket_that_lists_folders_first_is_listed_so_and_that_is_said_once(
    storage: ImageStorage, filled: StubR2, caplog: pytest.LogCaptureFixture
) -> None:
    filled.order = tree

    assert await all_pages(storage, 10) == await all_pages(storage, 3) == BY_TREE

    told = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    assert told == [
        (
            "the bucket lists in the order of its folders: all of `a/` comes before `a-b` in a "
            "listing (docs/buckets.md)"
        )
    ]


async def test_nothing_is_said_of_byte_order(
    storage: ImageStorage, filled: StubR2, caplog: pytest.LogCaptureFixture
) -> None:
    assert await all_pages(storage, 2) == sorted(filled.objects)
    assert caplog.records == []


async def test_a_page_of_no_order_is_whole_or_refused(
    storage: ImageStorage, filled: StubR2
) -> None:
    filled.order = no_order

    assert sorted(await all_pages(storage, 10)) == sorted(filled.objects)
    with pytest.raises(ListingUnsupported, match="use a bucket that lists in byte order"):
        await all_pages(storage, 4)


async def test_an_inspection_of_such_a_bucket_ends_with_the_reason(filled: StubR2) -> None:
    filled.order, filled.most_on_a_page = no_order, 3
    inspection = open_inspection(filled.config)
    with pytest.raises(ListingUnsupported):
        _ = [entry async for entry in inspection.walk(everything(), "")]
    await inspection.close()


async def test_a_listing_that_cannot_go_on_is_501_and_a_sentence(
    running: Running, filled: StubR2
) -> None:
    filled.order = no_order
    async with running() as client:
        for path in ("images", "entries"):
            answer = await client.get(f"/api/v1/storage/{path}?limit=4")
            assert (answer.status_code, answer.json()["code"]) == (501, "listing_unsupported")
            assert "an unknown order" in answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("order", "said"),
    [
        (str, "ok    order"),
        (tree, "note  order       the bucket lists in the order of its folders\n"),
        (str.lower, "note  order       the bucket lists in an unknown order\n"),
    ],
)
async def test_the_doctor_says_in_which_order_a_bucket_lists(
    stub: StubR2, tmp_path: Path, order: type[str], said: str
) -> None:
    stub.order = order
    code, found = await asyncio.to_thread(
        doctor, tmp_path, **stub.variables, STILLROOM_JWT_SECRET="s" * 32
    )

    assert code == 0, found
    assert said in found
    assert stub.objects == {}
