"""The trash is emptied when its time is over, or when the disk has too little space."""

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from stillroom.errors import BackendUnavailable, StorageFull
from stillroom.features.database.config import PostgresConfig
from stillroom.features.trash.rows import TrashRows
from stillroom.features.trash.service import Trash
from stillroom.store.background import Stopping
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.s3.store import S3ObjectStore
from trash.conftest import IMAGES, PNG, TRASH, Opens, Site

if TYPE_CHECKING:
    from services.postgres import PostgreSQL


async def test_an_expired_image_is_deleted_by_the_sweeper(site: Site) -> None:
    await site.save("a.png")
    await site.save("b.png")
    old = await site.discard("a.png")
    await site.expire()
    new = await site.discard("b.png")

    await site.sweep()

    assert [item["id"] for item in await site.items()] == [new]
    assert len(site.places()) == 1
    assert (await site.restore(old)).status_code == 404
    assert (await site.restore(new)).status_code == 200
    assert await site.query("SELECT * FROM media_trash") == []
    assert await site.query("SELECT * FROM media_deletions") == []
    assert await site.query("SELECT * FROM media_failures") == []


async def test_a_restoration_and_the_expiry_at_the_same_moment_lose_no_restored_image(
    site: Site,
) -> None:
    for number in range(12):
        path = f"{number}.png"
        await site.save(path)
        trash_id = await site.discard(path)
        await site.expire()

        restored, _ = await asyncio.gather(site.restore(trash_id), site.sweep())

        assert restored.status_code in (200, 404, 503), restored.text
        await site.sweep()
        there = await site.read(path)
        assert there == (PNG if restored.status_code == 200 else None), number
        assert site.places() == []


async def test_a_sweeper_leaves_what_is_being_restored(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.save("a.png")
    trash_id = await site.discard("a.png")
    await site.expire()
    claim = TrashRows.claim

    async def claim_and_sweep(*args: Any) -> None:
        await claim(*args)
        await site.sweep()
        assert len(site.places()) == 1
        again = await site.restore(trash_id)  # by another request
        assert again.status_code == 503, again.text

    async def claim_once(*args: Any) -> None:
        monkeypatch.setattr(TrashRows, "claim", claim)
        await claim_and_sweep(*args)

    monkeypatch.setattr(TrashRows, "claim", claim_once)

    assert (await site.restore(trash_id)).status_code == 200
    assert await site.read("a.png") == PNG


async def test_a_restoration_whose_lease_ended_loses_to_the_sweeper_or_succeeds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.save("a.png")
    trash_id = await site.discard("a.png")
    await site.expire()
    restore = Trash._restore

    async def restore_late(*args: Any) -> Any:
        await site.end_leases()
        await site.sweep()
        return await restore(*args)

    monkeypatch.setattr(Trash, "_restore", restore_late)

    assert (await site.restore(trash_id)).status_code == 404
    assert (await site.read("a.png"), site.places()) == (None, [])


async def test_an_image_that_is_replaced_during_its_deletion_is_deleted_in_its_new_version(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.save("a.png", b"old")
    add = TrashRows.add

    async def add_late(*args: Any) -> Any:
        monkeypatch.setattr(TrashRows, "add", add)
        await site.save("a.png", b"new")
        return await add(*args)

    monkeypatch.setattr(TrashRows, "add", add_late)

    trash_id = await site.discard("a.png")

    assert await site.read("a.png") is None
    assert [item["id"] for item in await site.items()] == [trash_id]
    assert (await site.restore(trash_id)).status_code == 200
    assert await site.read("a.png") == b"new"


async def test_without_the_database_nothing_is_deleted(
    site: Site, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    await site.save("a.png")
    with contextlib.ExitStack() as stack:
        if isinstance(site.rows, PostgresConfig):
            postgres: PostgreSQL = request.getfixturevalue("postgres")
            stack.enter_context(postgres.away())
        else:

            async def fail(*_: object) -> None:
                raise BackendUnavailable("the database is away")

            patched = stack.enter_context(monkeypatch.context())
            patched.setattr(TrashRows, "add", fail)

        answer = await site.client.delete(f"{IMAGES}/a.png")
        many = await site.client.post("/api/v1/storage/delete", json={"paths": ["a.png"]})

        assert (answer.status_code, answer.json()["code"]) == (503, "backend_unavailable")
        assert many.json()["results"][0]["code"] == "backend_unavailable"
        assert (await site.read("a.png"), site.places()) == (PNG, [])
        purged = await site.client.delete(f"{IMAGES}/a.png?purge=true")
        assert purged.status_code == 200
    assert await site.stored() == []


@pytest.mark.parametrize("pair", [("disk", "sqlite")], indirect=True)
async def test_on_a_full_disk_the_oldest_trash_is_deleted_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = []
    for number in range(4):
        await site.save(f"{number}.png")
        ids.append(await site.discard(f"{number}.png"))
    trash: Trash = site.app.state.operations.hooks.trash.__self__

    def refuse(*_: object) -> None:
        if len(site.places()) > 2:
            raise StorageFull("the disk has less free space than required")

    monkeypatch.setattr(DiskImageStorage, "_refuse_if_full", refuse)

    await trash.free_space(Stopping())

    assert [item["id"] for item in await site.items()] == ids[:1:-1]
    assert (await site.client.delete(f"{TRASH}/{ids[3]}")).status_code == 200
    assert len(site.places()) == 1


def failing_once(call: str, at: int, *, is_done: bool) -> Any:
    """Return a method of the bucket that fails at one call, before or after it was carried out."""
    method, calls = getattr(S3ObjectStore, call), 0

    async def fail_once(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls != at:
            return await method(*args, **kwargs)
        if is_done:
            await method(*args, **kwargs)
        raise BackendUnavailable("the bucket failed")

    return fail_once


@pytest.mark.parametrize("pair", [("bucket", "sqlite")], indirect=True)
@pytest.mark.slow
@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("call", ["head", "copy", "delete"])
async def test_a_bucket_that_fails_at_any_request_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, call: str, *, is_done: bool
) -> None:
    for at in range(1, 4):
        path = f"{at}.png"
        await site.save(path)
        with monkeypatch.context() as patched:
            patched.setattr(S3ObjectStore, call, failing_once(call, at, is_done=is_done))
            answer = await site.client.delete(f"{IMAGES}/{path}")
        assert answer.status_code in (200, 503), answer.text
        assert await site.read(path) == PNG or await site.items(prefix=path), at

        await site.client.delete(f"{IMAGES}/{path}")  # what failed before
        first, *_ = await site.items(prefix=path)
        with monkeypatch.context() as patched:
            patched.setattr(S3ObjectStore, call, failing_once(call, at, is_done=is_done))
            answer = await site.restore(first["id"])
        assert answer.status_code in (200, 503), answer.text
        if answer.status_code == 503:
            answer = await site.restore(first["id"])
        assert answer.status_code == 200, answer.text
        assert await site.read(path) == PNG


async def test_what_was_switched_off_expires(opens: Opens, site: Site) -> None:
    await site.save("a.png")
    await site.discard("a.png")
    await site.expire()
    async with opens(STILLROOM_TRASH="off") as plain:
        await plain.sweep()
    assert site.places() == []
