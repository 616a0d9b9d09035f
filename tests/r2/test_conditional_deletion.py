"""Deletions of one very save: on condition of its ETag where the bucket deletes so."""

import hashlib
import logging

import pytest
from aiohttp import web

from contract.images import PNG, key
from pictures import picture
from r2.conftest import Running
from r2.traps import pass_on
from services import stub_faults, stub_r2
from services.stub_r2 import Conditions, StubR2
from stillroom.assembly import opened_features
from stillroom.errors import BackendUnavailable, ImageNotFound, PreconditionFailed
from stillroom.features.library.feature import LibraryFeature
from stillroom.maintenance.inspection.bucket import R2Inspection
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.settings import AllSettings
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ANY, Condition

pytestmark = pytest.mark.clouds("amazon")

THEIRS = b"\x89PNG\r\n\x1a\nsaved by another process"
IMAGES = "/api/v1/storage/images"


async def replaced_first(stub: StubR2, request: web.Request) -> web.StreamResponse:
    """Another process saves right before this request is carried out."""
    etag = f'"{hashlib.md5(THEIRS).hexdigest()}"'
    stub.objects["compute/a.png"] = stub_r2.Stored(THEIRS, {}, etag)
    return await stub.carry_out(request)


async def removed_first(stub: StubR2, request: web.Request) -> web.StreamResponse:
    del stub.objects["compute/a.png"]
    return await stub.carry_out(request)


async def test_what_is_saved_between_look_and_deletion_stays(
    storage: ImageStorage, stub: StubR2
) -> None:
    saved = await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, replaced_first])

    with pytest.raises(PreconditionFailed):
        await storage.delete(key("a.png"), save_id=saved.save_id)

    assert stub.objects["compute/a.png"].body == THEIRS
    assert stub.requests[2].headers["if-match"] == saved.etag


@pytest.mark.clouds("r2")
@pytest.mark.parametrize(
    ("does", "said"),
    [
        (Conditions.IGNORED, "ignores If-Match of a DELETE"),
        (Conditions.REFUSED, "refuses If-Match of a DELETE (501)"),
    ],
)
async def test_a_bucket_without_conditional_deletion_takes_it_and_that_is_said_once(
    storage: ImageStorage,
    stub: StubR2,
    caplog: pytest.LogCaptureFixture,
    does: Conditions,
    said: str,
) -> None:
    stub.deletions = does
    for _ in range(2):
        saved = await storage.save(key("a.png"), BytesSource(PNG))
        stub.faults.extend([pass_on, replaced_first])
        await storage.delete(key("a.png"), save_id=saved.save_id)

    assert stub.objects == {}
    deletions = [request for request in stub.requests if request.method == "DELETE"]
    assert not [request for request in deletions if "if-match" in request.headers]
    told = [one.message for one in caplog.records if one.levelno == logging.WARNING]
    consequence = "a conditional deletion also deletes an image that is saved right after its check"
    assert told == [f"the bucket {said}: {consequence} (docs/buckets.md)"]


async def test_only_a_deletion_with_a_condition_asks_what_the_bucket_does(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    await storage.save(key("b.png"), BytesSource(PNG))

    await storage.delete(key("a.png"))
    assert (stub.probes, "if-match" in stub.requests[-1].headers) == ({}, False)
    for name in ("b.png", "b.png"):
        saved = await storage.save(key(name), BytesSource(PNG))
        await storage.delete(key(name), Condition(if_match=frozenset((saved.etag,))))

    assert stub.probes == {"PutObject": 1, "DeleteObject": 3}
    assert stub.objects == {}


async def test_a_condition_that_holds_of_the_next_save_too_deletes_that(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, replaced_first])

    await storage.delete(key("a.png"), Condition(if_match=ANY))

    assert stub.objects == {}
    assert stub.operations["DeleteObject"] == 2


async def test_what_another_process_deletes_in_between_is_not_found(
    storage: ImageStorage, stub: StubR2
) -> None:
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, removed_first])

    with pytest.raises(ImageNotFound):
        await storage.delete(key("a.png"), Condition(if_match=ANY))


async def test_a_deletion_whose_answer_was_lost_has_happened(
    storage: ImageStorage, stub: StubR2
) -> None:
    saved = await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, stub_faults.does_it_and_resets])

    await storage.delete(key("a.png"), Condition(if_match=frozenset((saved.etag,))))

    assert stub.objects == {}


async def test_after_a_lost_answer_another_save_makes_the_outcome_unknown(
    storage: ImageStorage, stub: StubR2
) -> None:
    saved = await storage.save(key("a.png"), BytesSource(PNG))
    stub.faults.extend([pass_on, stub_faults.does_it_and_resets, replaced_first])

    with pytest.raises(BackendUnavailable, match="the outcome is unknown"):
        await storage.delete(key("a.png"), Condition(if_match=frozenset((saved.etag,))))

    assert stub.objects["compute/a.png"].body == THEIRS


async def test_a_request_whose_condition_fails_in_between_is_412(
    running: Running, stub: StubR2
) -> None:
    async with running() as client:
        saved = (await client.post(f"{IMAGES}/a.png", files={"file": PNG})).json()
        stub.faults.extend([pass_on, replaced_first])
        answer = await client.delete(f"{IMAGES}/a.png", headers={"If-Match": saved["etag"]})

    assert answer.status_code == 412
    assert stub.objects["compute/a.png"].body == THEIRS


@pytest.mark.slow
async def test_the_sweeper_spares_what_is_saved_right_before_its_deletion(
    running: Running, stub: StubR2
) -> None:
    unswept = {"DELETION_GRACE_SECONDS": "0", "SWEEP_INTERVAL_SECONDS": "0"}
    async with running(**{f"STILLROOM_{name}": value for name, value in unswept.items()}) as client:
        await client.post(f"{IMAGES}/a.png", files={"file": picture()})
        ingest = {"storage_key": "compute/a.png"}
        answer = await client.post("/api/v1/media-resources/ingest", json=ingest)
        assert answer.status_code == 200, answer.text
        async with opened_features(AllSettings.read()) as store:
            library = store.need(LibraryFeature)
            stub.faults.extend([pass_on, pass_on, replaced_first])  # two looks, then the deletion
            swept = await library.sweeper.sweep()

    assert (swept.deleted, swept.kept) == (0, 1)
    assert stub.objects["compute/a.png"].body == THEIRS


async def test_a_damaged_image_that_is_replaced_meanwhile_is_not_put_aside(
    storage: ImageStorage, stub: StubR2
) -> None:
    saved = await storage.save(key("a.png"), BytesSource(PNG))
    inspection = open_inspection(stub.config)
    assert isinstance(inspection, R2Inspection)
    stub.faults.extend([pass_on, pass_on, pass_on, replaced_first])  # copied, noted, looked at

    place = await inspection.quarantine(saved, b"{}")
    await inspection.close()

    assert place is None
    assert stub.objects.keys() == {"compute/a.png"}
    assert stub.objects["compute/a.png"].body == THEIRS
