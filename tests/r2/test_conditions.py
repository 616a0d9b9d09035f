"""Buckets that cannot hold to conditions: found out before anything is stored, and never weaker."""

import asyncio
import logging
from pathlib import Path

import pytest

from client.test_doctor import doctor
from contract.images import PNG, Chunks, key
from r2.conftest import Running
from r2.traps import CREATE, MIB
from services import stub_faults, stub_r2
from services.stub_r2 import Conditions, StubR2
from stillroom.errors import BackendUnavailable, ConditionUnsupported, PreconditionFailed
from stillroom.store.address import BucketAddress
from stillroom.store.bucket.abandoned_uploads import AbandonedUploads
from stillroom.store.bucket.conditions import Conditions as Tried
from stillroom.store.objectstore import Guard
from stillroom.store.port import ImageStorage
from stillroom.store.s3.client import BucketClient
from stillroom.store.s3.signing import Signer
from stillroom.store.s3.store import S3ObjectStore
from stillroom.store.sources import BytesSource
from stillroom.store.values import Condition

pytestmark = pytest.mark.clouds

IMAGES = "/api/v1/storage/images"


@pytest.mark.parametrize(
    ("does", "clause"),
    [
        (Conditions.IGNORED, "ignores If-Match"),
        (Conditions.REFUSED, "refuses If-Match (501)"),
        (Conditions.UNQUOTED, "refuses If-Match although the condition is met (412)"),
    ],
)
async def test_a_guarded_replacement_is_refused_where_the_bucket_cannot_hold_to_it(
    storage: ImageStorage,
    stub: StubR2,
    caplog: pytest.LogCaptureFixture,
    does: Conditions,
    clause: str,
) -> None:
    stub.conditions = does
    saved = await storage.save(key("a.png"), BytesSource(PNG))
    for _ in range(2):
        source = Chunks(b"another")
        with pytest.raises(ConditionUnsupported) as caught:
            await storage.save(key("a.png"), source, Condition(if_match=frozenset((saved.etag,))))
        assert f"the bucket {clause}, so" in str(caught.value)
        assert source.asked == 0

    assert stub.objects["compute/a.png"].body == PNG
    assert stub.objects.keys() == {"compute/a.png"}, "what was tried is removed again"
    told = [record.message for record in caplog.records if record.levelno == logging.ERROR]
    assert len([line for line in told if clause in line]) == 1


async def test_a_bucket_that_ignores_conditions_creates_nothing_that_must_be_new(
    storage: ImageStorage, stub: StubR2
) -> None:
    stub.conditions = Conditions.IGNORED

    with pytest.raises(ConditionUnsupported, match="ignores If-None-Match"):
        await storage.save(key("a.png"), BytesSource(PNG), CREATE)

    assert stub.objects == {}
    await storage.save(key("a.png"), BytesSource(PNG))


async def test_what_the_bucket_can_do_is_done(storage: ImageStorage, stub: StubR2) -> None:
    stub.conditions = Conditions.UNQUOTED

    await storage.save(key("a.png"), BytesSource(PNG), CREATE)

    with pytest.raises(PreconditionFailed):
        await storage.save(key("a.png"), BytesSource(b"other"), CREATE)


@pytest.mark.parametrize("announces", [True, False])
async def test_an_upload_in_parts_has_conditions_of_its_own(
    storage: ImageStorage, stub: StubR2, *, announces: bool
) -> None:
    stub.conditions = Conditions.IGNORED_IN_PARTS
    await storage.save(key("small.png"), BytesSource(PNG), CREATE)

    source = Chunks(*[bytes(MIB)] * 20, max_bytes=20 * MIB if announces else None)
    with pytest.raises(ConditionUnsupported, match="ignores If-None-Match for images over 16 MiB"):
        await storage.save(key("large.bin"), source, CREATE)

    assert (source.asked == 0) is announces
    await storage.close()
    assert list(stub.objects) == ["compute/small.png"]
    assert stub.uploads == {}


async def test_a_bucket_is_tried_once(storage: ImageStorage, stub: StubR2) -> None:
    saves = [storage.save(key(f"{number}.png"), BytesSource(PNG), CREATE) for number in range(5)]
    await asyncio.gather(*saves)

    assert stub.probes == {"PutObject": 4, "DeleteObject": 1}
    assert stub.operations == {"PutObject": 5}
    assert all(name.startswith("compute/") for name in stub.objects)


async def test_trouble_while_a_bucket_is_tried_is_no_verdict(
    storage: ImageStorage, stub: StubR2, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as probed:
        probed.setattr(stub_r2, "PROBES", "no probe is called so")
        stub.faults.append(stub_faults.does_it_but_says_500)
        with pytest.raises(BackendUnavailable, match="its requests fail"):
            await storage.save(key("a.png"), BytesSource(PNG), CREATE)

    await storage.save(key("a.png"), BytesSource(PNG), CREATE)


async def test_r2_itself_is_not_asked() -> None:
    store = S3ObjectStore(client_at("https://x.r2.cloudflarestorage.com"))
    await Tried(store, AbandonedUploads(store)).require(Guard('"e"'))
    assert not S3ObjectStore(client_at("https://r2.example.com")).keeps_guards


def client_at(endpoint_url: str) -> BucketClient:
    address = BucketAddress.of(endpoint_url, "b")
    return BucketClient(address, Signer(address.host, "k", "s"))


async def test_a_request_with_such_a_condition_is_501_and_a_sentence(
    running: Running, stub: StubR2
) -> None:
    stub.conditions = Conditions.UNQUOTED
    async with running() as client:
        saved = await client.post(f"{IMAGES}/a.png", files={"file": PNG})
        answer = await client.post(
            f"{IMAGES}/a.png", files={"file": b"x"}, headers={"If-Match": saved.json()["etag"]}
        )

    assert (answer.status_code, answer.json()["code"]) == (501, "condition_unsupported")
    assert (
        "save without a condition, or use a bucket with conditional writes"
        in answer.json()["detail"]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("does", "clauses"),
    [
        (Conditions.HONOURED, []),
        (Conditions.IGNORED_IN_PARTS, ["ignores If-Match for images over 16 MiB"]),
        (Conditions.UNQUOTED, ["refuses If-Match although the condition is met (412)"]),
    ],
)
async def test_the_doctor_says_what_a_bucket_does_with_conditions(
    stub: StubR2, tmp_path: Path, does: Conditions, clauses: list[str]
) -> None:
    stub.conditions = does
    code, said = await asyncio.to_thread(
        doctor,
        tmp_path,
        **stub.variables,
        STILLROOM_JWT_SECRET="s" * 32,
    )

    assert code == 0, said
    holds = not clauses and stub.deletions is Conditions.HONOURED
    assert ("ok    conditions" in said) is holds
    for clause in clauses:
        assert f"note  conditions  the bucket {clause}\n" in said
    deletions = "note  conditions  the bucket ignores If-Match of a DELETE\n"
    assert (deletions in said) is (stub.deletions is Conditions.IGNORED)
    assert stub.objects == {}
