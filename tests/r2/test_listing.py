"""Listings of a bucket: order, folding, pages, and the looks that facts take."""

import asyncio

import pytest
from aiohttp import web

from contract.images import PNG, everything, key
from r2.traps import pass_on
from services import stub_faults, stub_r2, stub_wire
from services.stub_r2 import Fault, StubR2
from stillroom.errors import BackendUnavailable
from stillroom.paths import KeyPrefix
from stillroom.store.bucket.storage import MAX_CONCURRENT_HEADS
from stillroom.store.port import ImageStorage
from stillroom.store.s3 import client as client_module
from stillroom.store.sources import BytesSource
from stillroom.store.values import EntryPage, ListQuery

pytestmark = pytest.mark.clouds

# Listing


async def test_short_pages_are_joined(storage: ImageStorage, stub: StubR2) -> None:
    stub.most_on_a_page = 3
    paths = sorted(f"{number}.png" for number in range(20))
    for path in paths:
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything(), limit=10))

    assert page.entries == [f"compute/{path}" for path in paths[:10]]
    assert page.more


@pytest.mark.parametrize("limit", [1, 10])
async def test_keys_that_are_left_out_cost_no_request_each(
    storage: ImageStorage, stub: StubR2, limit: int
) -> None:
    for number in range(300):
        stub.objects[f"compute/a//{number}"] = stub_r2.Stored(b"", {}, '"e"')
    stub.objects["compute/z.png"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything(), limit=limit))

    assert page.entries == ["compute/z.png"]
    assert stub.operations["ListObjectsV2"] == 2


async def test_a_listing_that_does_not_move_on_is_given_up(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def stands_still(_: StubR2, __: web.Request) -> web.StreamResponse:
        return stub_wire.xml(
            "<ListBucketResult><IsTruncated>true</IsTruncated>"
            "<NextContinuationToken>t</NextContinuationToken></ListBucketResult>"
        )

    stub.faults.extend([stands_still] * 5)

    with pytest.raises(BackendUnavailable, match="sent the same page twice"):
        await storage.list(ListQuery(everything()))


@pytest.mark.usefixtures("hurried")
async def test_no_signature_is_kept_in_an_error(storage: ImageStorage, stub: StubR2) -> None:
    async def says_too_much(_: StubR2, __: web.Request) -> web.StreamResponse:
        return web.Response(headers={"x-long": "y" * 20_000})

    stub.faults.extend([says_too_much] * 50)

    with pytest.raises(BackendUnavailable) as found:
        await storage.stat(key("a.png"))

    cause = found.value.__cause__
    assert "HeadObject" in repr(cause)
    assert "authorization" not in repr(cause).lower()
    assert "Signature" not in repr(cause)
    assert cause is not None
    assert cause.__traceback__ is None, "it would hold the request and its body"


async def test_a_page_in_an_unknown_encoding_is_trouble_like_any_other(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def answers_elsewhere(_: StubR2, __: web.Request) -> web.StreamResponse:
        page = b'<?xml version="1.0" encoding="Shift_JIS"?><html/>'
        return web.Response(status=502, body=page)

    stub.faults.append(answers_elsewhere)

    saved = await storage.save(key("a.png"), BytesSource(PNG))

    assert stub.objects["compute/a.png"].body == PNG
    assert saved.size == len(PNG)


async def test_keys_that_no_image_can_have_are_left_out_and_counted(
    storage: ImageStorage, stub: StubR2, caplog: pytest.LogCaptureFixture
) -> None:
    strange = ("a//b", "/x", "..", "a/../b", "tab\there", "back\\slash", "e\u0301", "folder/")
    for path in (*strange, "good.png"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything()))

    assert page.entries == ["compute/good.png"]
    assert f"{len(strange)} keys" in caplog.text


async def test_a_listing_is_in_byte_order_as_on_the_disk(
    storage: ImageStorage, stub: StubR2
) -> None:
    paths = ["a!", "a-b", "a.txt", "a/b", "a/c/d", "a0", "ab", "z/1", "é/x", "\uffee", "😀/y"]
    for path in reversed(paths):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    whole = await storage.list(ListQuery(everything()))
    folded = await storage.list(ListQuery(everything(), delimited=True))

    assert whole.entries == [f"compute/{path}" for path in paths]
    top = ["a!", "a-b", "a.txt", "a/", "a0", "ab", "z/", "é/", "\uffee", "😀/"]
    assert folded.entries == [f"compute/{entry}" for entry in top]


@pytest.mark.parametrize("limit", [1, 2, 3])
@pytest.mark.parametrize("most_on_a_page", [1, 1000])
async def test_folded_pages_pass_their_folders(
    storage: ImageStorage, stub: StubR2, limit: int, most_on_a_page: int
) -> None:
    stub.most_on_a_page = most_on_a_page
    for path in ("a-b", "a/b", "a/c/d", "a0", "b/1", "b/2", "c"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    seen: list[str] = []
    more, after = True, ""
    while more:
        page = await storage.list(
            ListQuery(everything(), after=f"compute/{after}", limit=limit, delimited=True)
        )
        seen += page.entries
        more, after = page.more, page.entries[-1].removeprefix("compute/")

    assert seen == [f"compute/{entry}" for entry in ("a-b", "a/", "a0", "b/", "c")]


async def test_a_folded_page_behind_a_folder_is_one_request(
    storage: ImageStorage, stub: StubR2
) -> None:
    for path in ("a/b", "a/c", "b", "c", "d"):
        stub.objects[f"compute/{path}"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.list(ListQuery(everything(), after="compute/a/", limit=2, delimited=True))

    assert (page.entries, page.more) == (["compute/b", "compute/c"], True)
    assert stub.operations == {"ListObjectsV2": 1}


# Listing with facts


def fill(stub: StubR2, count: int) -> None:
    for number in range(count):
        stub.objects[f"compute/{number:02}"] = stub_r2.Stored(b"xyz", {}, '"e"')


def of_looks(fault: Fault) -> Fault:
    """Met by looks alone, in whichever order the requests of several pages come in."""

    async def met(stub: StubR2, request: web.Request) -> web.StreamResponse:
        if request.method == "HEAD":
            return await fault(stub, request)
        stub.faults.appendleft(met)
        return await stub.carry_out(request)

    return met


async def test_entries_are_one_listing_and_one_look_an_image(
    storage: ImageStorage, stub: StubR2
) -> None:
    fill(stub, 5)
    stub.objects["compute/folder/a"] = stub_r2.Stored(b"", {}, '"e"')

    page = await storage.entries(ListQuery(everything(), delimited=True))

    assert page.entries[5:] == [KeyPrefix("compute/folder/")]
    assert page.entries[:5] == [await storage.stat(key(f"{number:02}")) for number in range(5)]
    assert stub.operations == {"ListObjectsV2": 1, "HeadObject": 5 + 5}


@pytest.mark.parametrize("limit", [2, 4])
async def test_an_image_that_went_away_after_it_was_listed_is_no_entry(
    storage: ImageStorage, stub: StubR2, limit: int
) -> None:
    fill(stub, 3)

    async def lists_and_loses(stub: StubR2, request: web.Request) -> web.StreamResponse:
        page = await stub.carry_out(request)
        del stub.objects["compute/00"], stub.objects["compute/01"]
        return page

    stub.faults.append(lists_and_loses)

    page = await storage.entries(ListQuery(everything(), limit=limit))

    if limit == 2:  # nothing is left of it, and the way on is known all the same
        assert page == EntryPage([], next_after="compute/01")
    else:
        assert page == EntryPage([await storage.stat(key("02"))])


async def test_all_pages_together_have_so_many_looks_under_way_and_others_get_through(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 60.0)  # no look is tried again meanwhile
    fill(stub, 50)
    all_wait, going_on = asyncio.Barrier(MAX_CONCURRENT_HEADS + 1), asyncio.Event()

    async def waits(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await all_wait.wait()
        await going_on.wait()
        return await stub.carry_out(request)

    stub.faults.extend([of_looks(waits)] * MAX_CONCURRENT_HEADS)
    query = ListQuery(everything())
    pages = [asyncio.ensure_future(storage.entries(query)) for _ in range(3)]
    await all_wait.wait()

    assert (await storage.stat(key("00"))).size == 3
    assert stub.operations["HeadObject"] == MAX_CONCURRENT_HEADS + 1
    going_on.set()
    found = await asyncio.gather(*pages)

    assert [len(page.entries) for page in found] == [50] * 3
    assert stub.operations["HeadObject"] == 3 * 50 + 1


async def test_a_look_for_an_entry_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2
) -> None:
    fill(stub, 3)
    stub.faults.extend([pass_on, stub_faults.answers(503), stub_faults.resets_after_the_body])

    page = await storage.entries(ListQuery(everything()))

    assert len(page.entries) == 3


@pytest.mark.usefixtures("hurried")
async def test_a_page_whose_looks_fail_is_no_shorter_page_and_ends_them_all(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.store.bucket.storage.DEADLINE_S", 0.8)
    fill(stub, 50)
    stub.faults.extend([of_looks(stub_faults.hangs)] * 1000)

    pages = [storage.entries(ListQuery(everything())) for _ in range(3)]
    found = await asyncio.gather(*pages, return_exceptions=True)

    assert {type(failure) for failure in found} == {BackendUnavailable}
    coroutines = [repr(task.get_coro()) for task in asyncio.all_tasks()]
    assert not [name for name in coroutines if "Describer" in name], "nobody goes on looking"
    stub.faults.clear()
    monkeypatch.undo()
    assert len((await storage.entries(ListQuery(everything()))).entries) == 50


async def test_a_page_that_nobody_waits_for_any_more_is_not_read_to_its_end(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_TIMEOUT_S", 60.0)  # no look is tried again meanwhile
    fill(stub, 50)
    all_wait = asyncio.Barrier(MAX_CONCURRENT_HEADS + 1)

    async def waits(stub: StubR2, request: web.Request) -> web.StreamResponse:
        await all_wait.wait()
        return await stub_faults.hangs(stub, request)

    stub.faults.extend([of_looks(waits)] * MAX_CONCURRENT_HEADS)
    task = asyncio.ensure_future(storage.entries(ListQuery(everything())))
    await all_wait.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len((await storage.entries(ListQuery(everything()))).entries) == 50
    assert stub.operations["HeadObject"] == MAX_CONCURRENT_HEADS + 50
