"""Conditions, deletions and copies, where R2 leaves a gap between a look and a change."""

import dataclasses
import hashlib

import pytest
from aiohttp import web

from contract.images import PNG, SVG, Chunks, key
from r2.traps import pass_on
from services import stub_faults, stub_r2
from services.stub_r2 import StubR2
from stillroom.errors import BackendUnavailable, ImageNotFound, PreconditionFailed
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ANY, Condition

pytestmark = pytest.mark.clouds

# Conditions that need a look first


async def test_an_image_replaced_after_the_look_is_looked_at_again(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(b"one", {}, '"one"')

    async def somebody_replaces_it(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"two", {}, '"two"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_replaces_it])

    await storage.save(key("a.png"), BytesSource(PNG), Condition(if_match=ANY))

    assert stub.objects["compute/a.png"].body == PNG
    assert stub.operations == {"HeadObject": 2, "PutObject": 2}


async def test_a_guarded_save_whose_image_was_replaced_after_the_look_is_refused(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.objects["compute/a.png"] = stub_r2.Stored(b"one", {}, '"one"')

    async def somebody_replaces_it(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"two", {}, '"two"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_replaces_it])

    with pytest.raises(PreconditionFailed):
        await storage.save(
            key("a.png"), BytesSource(PNG), Condition(if_match=frozenset(['"one"', '"other"']))
        )

    assert stub.objects["compute/a.png"].body == b"two"


async def test_a_condition_that_cannot_hold_is_refused_before_the_body_is_read(
    storage: ImageStorage,
) -> None:
    source = Chunks(PNG)

    with pytest.raises(PreconditionFailed):
        await storage.save(key("a.png"), source, Condition(if_match=frozenset(['"one"'])))

    assert source.asked == 0


# Deleting


@pytest.mark.parametrize(
    "fault",
    [stub_faults.resets_before_the_body, stub_faults.does_it_and_resets, stub_faults.answers(503)],
)
async def test_a_deletion_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, fault])

    await storage.delete(key("a.png"))

    assert stub.objects == {}
    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))


@pytest.mark.usefixtures("hurried")
async def test_a_deletion_with_an_unknown_outcome_is_no_success_and_nothing_is_assumed(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, *[stub_faults.does_it_and_hangs] * 50])

    with pytest.raises(BackendUnavailable, match="unknown"):
        await storage.delete(key("a.png"))

    stub.faults.clear()
    monkeypatch.undo()
    with pytest.raises(ImageNotFound):
        await storage.locate(key("a.png"))


async def test_a_deletion_of_one_very_save_is_not_sent_again_over_another_one(
    storage: ImageStorage, stub: StubR2
) -> None:
    async def saved_meanwhile(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = newer
        return await stub_faults.answers(503)(stub, request)

    saved = await storage.save(key("a.png"), BytesSource(PNG))
    newer = dataclasses.replace(stub.objects["compute/a.png"])
    stub.faults.extend([pass_on, saved_meanwhile])

    with pytest.raises(BackendUnavailable):
        await storage.delete(key("a.png"), save_id=saved.save_id)

    assert stub.objects["compute/a.png"] is newer


# Copying


async def test_a_copy_replaces_what_is_stored_with_it(storage: ImageStorage, stub: StubR2) -> None:
    await storage.save(key("a.svg"), BytesSource(SVG))
    stub.objects["compute/a.svg"].headers["cache-control"] = "of long ago"
    stub.operations.clear()

    copied = await storage.copy(key("a.svg"), key("b/é+ .svg"))

    assert stub.objects["compute/b/é+ .svg"].headers == {
        "content-type": "image/svg+xml",
        "content-disposition": "attachment",
        "cache-control": "public, max-age=300",
        "x-amz-meta-sha256": hashlib.sha256(SVG).hexdigest(),
        "x-amz-meta-save-id": copied.save_id,
    }
    assert stub.classes() == (1, 1)


@pytest.mark.parametrize(
    "fault",
    [
        stub_faults.answers(500, "InternalError"),
        stub_faults.error_in_a_200("InternalError"),
        stub_faults.does_it_and_resets,
    ],
)
async def test_a_copy_gets_through_trouble_that_passes(
    storage: ImageStorage, stub: StubR2, fault: stub_r2.Fault
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, fault])

    copied = await storage.copy(key("a.png"), key("b.png"))

    assert (await storage.stat(key("b.png"))).save_id == copied.save_id


async def test_a_copy_is_of_the_image_that_was_looked_at(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))

    async def somebody_replaces_it(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"two", {"content-type": "x/y"}, '"two"')
        return await stub.carry_out(request)

    stub.faults.extend([pass_on, somebody_replaces_it])

    copied = await storage.copy(key("a.png"), key("b.png"))

    assert (copied.size, copied.content_type, copied.sha256) == (3, "x/y", None)
    assert stub.objects["compute/b.png"].body == b"two"
