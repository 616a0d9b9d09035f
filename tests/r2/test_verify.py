"""`stillroom verify` on a bucket: a real one, a stub for its traps, and a bad line to both."""

import hashlib
import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web

from contract.images import PNG, RULES, Chunks, everything, key
from running import verify
from services import faulty_proxy, proxy_faults, stub_r2, stub_wire
from services.faulty_proxy import FaultyProxy
from services.s3 import Operator
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from services.stub_r2 import StubR2
from stillroom.errors import BackendUnavailable, ConfigurationError
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.maintenance.inspection.port import Inspection
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.maintenance.verify import FindingKind, Verification, VerificationProgress
from stillroom.store.choose import R2Config, open_storage
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource

MIB = 1024**2


async def verified(
    store: Inspection, *, quarantine: bool = False, after: str = "", prefix: str = ""
) -> VerificationProgress:
    progress = VerificationProgress(after=after)
    await Verification(
        store,
        [everything(prefix)],
        progress=progress,
        rate_limit=RateLimiter(None),
        quarantine=quarantine,
    ).run()
    return progress


def names(progress: VerificationProgress, kind: FindingKind) -> list[str]:
    return sorted(found.name for found in progress.findings if found.kind is kind)


def put_flipped(operator: Operator, name: str, body: bytes, at: int) -> bytes:
    """What a failing store would do: other bytes under the old metadata."""
    answer = operator.send("HEAD", f"/{BUCKET}/{name}")
    kept = {
        field: answer.headers[field]
        for field in ("content-type", "x-amz-meta-sha256", "x-amz-meta-save-id")
    }
    flipped = bytearray(body)
    flipped[at] ^= 1
    operator.put(name, bytes(flipped), headers=kept)
    return bytes(flipped)


# A real bucket --------------------------------------------------------------------------


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy.faulty_proxy(seaweed.endpoint_url) as running:
        yield running
    seaweed.empty()


@pytest.fixture
async def real(proxy: FaultyProxy) -> AsyncIterator[tuple[ImageStorage, Inspection]]:
    config = R2Config(proxy.endpoint_url, KEY_ID, SECRET, BUCKET)
    storage, store = open_storage(config, RULES), open_inspection(config)
    yield storage, store
    await store.close()
    await storage.close()


@pytest.mark.slow
async def test_a_hundred_flipped_bytes_are_a_hundred_findings(
    real: tuple[ImageStorage, Inspection],
    operator: Operator,
    proxy: FaultyProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, store = real
    dice = random.Random(1)
    bodies = {f"{n % 3}/{n:03}.bin": dice.randbytes(dice.randint(1, 9000)) for n in range(120)}
    bodies["large.bin"] = dice.randbytes(2 * MIB)
    for name, body in bodies.items():
        await storage.save(key(name), BytesSource(body))
    flipped = [*dice.sample(sorted(bodies)[:-1], 99), "large.bin"]
    for name in flipped:
        put_flipped(operator, f"compute/{name}", bodies[name], dice.randrange(len(bodies[name])))

    found = await verified(store)

    assert names(found, FindingKind.DAMAGED) == sorted(f"compute/{name}" for name in flipped)
    assert (found.images, found.counts) == (121, {FindingKind.DAMAGED: 100})

    for variable, value in {
        "R2_ENDPOINT_URL": proxy.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
    }.items():
        monkeypatch.setenv(variable, value)
    command = verify(tmp_path)
    assert (command.status, command.report["counts"]) == (1, {"damaged": 100})
    refused = verify(tmp_path, "--adopt")
    assert refused.status == 2
    assert "hashes cannot be added to stored objects" in refused.log


@pytest.mark.slow
async def test_a_bad_image_is_copied_aside_with_what_is_known_and_deleted(
    real: tuple[ImageStorage, Inspection], operator: Operator
) -> None:
    storage, store = real
    await storage.save(key("good.png"), BytesSource(PNG))
    saved = await storage.save(key("a b/кошка.png"), BytesSource(PNG))
    bad = put_flipped(operator, "compute/a b/кошка.png", PNG, 7)

    found = await verified(store, quarantine=True)

    (finding,) = found.findings
    assert finding.quarantined is not None
    kept = operator.send("GET", f"/{BUCKET}/{finding.quarantined}/image")
    facts = operator.send("GET", f"/{BUCKET}/{finding.quarantined}/facts.json").json()
    assert kept.content == bad
    assert kept.headers["x-amz-meta-save-id"] == saved.save_id
    assert facts["key"] == "compute/a b/кошка.png"
    assert facts["sha256"] == hashlib.sha256(bad).hexdigest()
    assert facts["sha256_when_saved"] == hashlib.sha256(PNG).hexdigest()
    assert operator.keys("compute/") == ["compute/good.png"]
    assert (await verified(store)).counts == {}
    for name in ("image", "facts.json"):
        operator.delete(f"{finding.quarantined}/{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        proxy_faults.breaks_off_its_body,
        proxy_faults.does_it_and_resets,
        proxy_faults.announces_too_little,
        proxy_faults.answers(503, "ServiceUnavailable"),
    ],
)
async def test_a_bad_line_is_not_taken_for_a_bad_image(
    real: tuple[ImageStorage, Inspection], proxy: FaultyProxy, fault: faulty_proxy.Fault
) -> None:
    storage, store = real
    await storage.save(key("a.bin"), BytesSource(bytes(range(256)) * 4096))
    met = iter([fault])
    proxy.choose = lambda asked: next(met, None) if asked.about == "compute/a.bin" else None

    found = await verified(store)

    assert next(met, None) is None
    assert (found.images, found.counts) == (1, {})


@pytest.mark.slow
async def test_a_bucket_that_goes_away_ends_it_and_blames_no_image(
    real: tuple[ImageStorage, Inspection], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, store = real
    for number in range(30):
        await storage.save(key(f"{number:02}.png"), BytesSource(PNG))
    read = iter(range(10))
    proxy.choose = lambda asked: (
        proxy_faults.resets_before_the_body
        if asked.operation == "GetObject" and next(read, None) is None
        else None
    )

    progress = VerificationProgress()
    verification = Verification(
        store, [everything()], progress=progress, rate_limit=RateLimiter(None)
    )
    with monkeypatch.context() as hurried:
        hurried.setattr("stillroom.store.s3.client.DEADLINE_S", 1.0)
        hurried.setattr("stillroom.store.s3.client._LEAST_S", 0.1)
        with pytest.raises(BackendUnavailable):
            await verification.run()

    assert progress.counts == {}
    assert progress.images < 30
    proxy.choose = lambda _asked: None
    await verification.run()
    assert progress.after == "compute/29.png"
    assert 30 <= progress.images < 40, "a few that were under way twice"


# What a stub shows ----------------------------------------------------------------------


@pytest.fixture
async def stubbed(stub: StubR2) -> AsyncIterator[tuple[ImageStorage, Inspection]]:
    config = R2Config(stub.endpoint_url, stub_wire.KEY_ID, stub_wire.SECRET, stub_wire.BUCKET)
    storage, store = open_storage(config, RULES), open_inspection(config)
    yield storage, store
    await store.close()
    await storage.close()


async def test_each_image_is_one_request_and_large_ones_without_a_hash_are_unknown(
    stub: StubR2, stubbed: tuple[ImageStorage, Inspection]
) -> None:
    storage, store = stubbed
    digest = hashlib.sha256(bytes(17 * MIB)).digest()
    await storage.save(key("announced.bin"), Chunks(bytes(17 * MIB), expected_sha256=digest))
    await storage.save(key("large.bin"), Chunks(bytes(17 * MIB)))
    await storage.save(key("small.png"), BytesSource(PNG))
    stub.operations.clear()

    found = await verified(store)

    assert found.counts == {FindingKind.UNKNOWN: 1}
    assert names(found, FindingKind.UNKNOWN) == ["compute/large.bin"]
    assert found.problems == 0
    assert found.size == 17 * MIB + len(PNG)
    assert stub.operations == {"ListObjectsV2": 1, "GetObject": 3, "ListMultipartUploads": 1}


async def test_keys_of_no_image_and_old_unfinished_uploads_are_astray(
    stub: StubR2, stubbed: tuple[ImageStorage, Inspection]
) -> None:
    _, store = stubbed
    for name in ("compute/a//b.png", "compute/../x", "compute/folder/", "compute/a\x07.png"):
        stub.objects[name] = stub_r2.Stored(b"x", {}, '"e"')
    stub.objects["elsewhere/a.png"] = stub_r2.Stored(b"x", {}, '"e"')
    old = datetime.now(UTC) - timedelta(days=2)
    stub.uploads["1"] = stub_r2.Upload("compute/new.bin", {})
    for number in (2, 3):
        stub.uploads[f"{number}"] = stub_r2.Upload(f"compute/old-{number}.bin", {}, begun=old)
    stub.uploads["4"] = stub_r2.Upload("elsewhere/old.bin", {}, begun=old)

    found = await verified(store)

    assert names(found, FindingKind.STRAY) == [
        "compute/../x",
        "compute/a//b.png",
        "compute/a\\x07.png",
        "compute/old-2.bin",
        "compute/old-3.bin",
        "compute/…",
    ]
    assert found.problems == 6


async def test_an_image_replaced_while_it_is_read_is_no_finding_and_is_not_moved(
    stub: StubR2, stubbed: tuple[ImageStorage, Inspection]
) -> None:
    storage, store = stubbed
    await storage.save(key("a.png"), BytesSource(PNG))
    stub.objects["compute/a.png"].body = PNG + b"damaged"

    class Replacing(RateLimiter):
        reads = 0

        async def spend(self, size: int) -> None:
            await super().spend(size)
            self.reads += 1
            if self.reads == 2:  # what looks bad is read twice
                await storage.save(key("a.png"), BytesSource(b"new"))

    progress = VerificationProgress()
    rate_limit = Replacing(None)
    await Verification(
        store, [everything()], progress=progress, rate_limit=rate_limit, quarantine=True
    ).run()

    assert rate_limit.reads == 2
    assert (progress.images, progress.counts) == (1, {})
    assert stub.objects["compute/a.png"].body == b"new"
    assert list(stub.objects) == ["compute/a.png"]


async def test_an_image_replaced_while_it_is_quarantined_stays(
    stub: StubR2, stubbed: tuple[ImageStorage, Inspection]
) -> None:
    storage, store = stubbed
    await storage.save(key("a.png"), BytesSource(PNG))
    bad = await store.stat(key("a.png"))

    async def replaces_first(stub: StubR2, request: web.Request) -> web.StreamResponse:
        stub.objects["compute/a.png"] = stub_r2.Stored(b"new", {}, '"new"')
        return await stub.carry_out(request)

    async def passes(stub: StubR2, request: web.Request) -> web.StreamResponse:
        return await stub.carry_out(request)

    stub.faults.extend([passes, replaces_first])
    assert await store.quarantine(bad, json.dumps({}).encode()) is None

    assert stub.objects["compute/a.png"].body == b"new"
    assert list(stub.objects) == ["compute/a.png"]


async def test_hashes_are_not_adopted_in_a_bucket(
    stubbed: tuple[ImageStorage, Inspection],
) -> None:
    _, store = stubbed
    with pytest.raises(ConfigurationError, match="Repr-Digest"):
        Verification(
            store,
            [everything()],
            progress=VerificationProgress(),
            rate_limit=RateLimiter(None),
            adopt=True,
        )
