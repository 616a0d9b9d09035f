"""A migration over a bad line, to a real bucket and back."""

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp import web

from contract.images import RULES, everything, key, source_of
from r2.traps import opened
from services import faulty_proxy, stub_wire
from services.faulty_proxy import FaultyProxy
from services.proxy_faults import CANNOT_BE_MENDED, FAULTS
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from services.stub_r2 import StubR2
from stillroom.errors import BackendUnavailable
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.maintenance.migration import Migration, Target
from stillroom.maintenance.migration_report import MigrationOutcome, MigrationStats
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.store.choose import DiskConfig, R2Config, open_storage
from stillroom.store.sources import BytesSource

pytestmark = pytest.mark.slow

IMAGES = {
    f"{number:03}.bin": random.Random(number).randbytes(number * 90) for number in range(1, 121)
}


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy.faulty_proxy(seaweed.endpoint_url) as running:
        yield running
    seaweed.empty()


@pytest.fixture
async def stores(
    proxy: FaultyProxy, tmp_path: Path
) -> AsyncIterator[tuple[Target, Target, Target]]:
    """Two disks, and a bucket at the end of a bad line."""
    configs: list[DiskConfig | R2Config] = [
        DiskConfig(tmp_path / "source", min_free_bytes=0, durable=False),
        R2Config(proxy.endpoint_url, KEY_ID, SECRET, BUCKET),
        DiskConfig(tmp_path / "back", min_free_bytes=0, durable=False),
    ]
    opened = []
    for config in configs:
        storage = open_storage(config, RULES)
        opened.append(Target(storage, open_inspection(config)))
    yield opened[0], opened[1], opened[2]
    for one in opened:
        await one.inspection.close()
        await one.storage.close()


async def brought(source: Target, target: Target) -> int:
    """Run it until it is content, as an operator would; how often that was."""
    for number in range(1, 17):
        stats = MigrationStats()
        migration = Migration(
            source.inspection, target, [everything()], rate_limit=RateLimiter(None), stats=stats
        )
        try:
            await migration.run()
        except BackendUnavailable:
            continue
        assert MigrationOutcome.DIFFERS not in stats.counts
        if not stats.wrong and stats.images == len(IMAGES):
            return number
    raise AssertionError("it is never content")


async def test_a_bad_line_costs_no_image_and_damages_none(
    stores: tuple[Target, Target, Target], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.store.s3.client.DEADLINE_S", 6.0)
    monkeypatch.setattr("stillroom.store.s3.client._TIMEOUT_S", 1.0)
    source, bucket, back = stores
    for name, image in IMAGES.items():
        await source.storage.save(key(name), source_of(image))
    dice = random.Random(4)
    faults = [fault for fault in FAULTS if fault not in CANNOT_BE_MENDED]
    proxy.choose = lambda _: dice.choice(faults) if dice.random() < 1 / 8 else None

    runs = await brought(source, bucket), await brought(bucket, back)

    proxy.choose = lambda _: None
    for store in (bucket, back):
        for name, image in IMAGES.items():
            opened = (await store.inspection.open(key(name))).opened
            assert opened.image.sha256 == hashlib.sha256(image).digest()
            found = b"".join([chunk async for chunk in opened.chunks(0, opened.image.size)])
            opened.close()
            assert found == image, (name, runs)


@pytest.mark.parametrize("size", [100, 20 * 1024**2])
async def test_a_target_that_takes_nothing_ends_it_and_its_last_answer_is_said(
    stub: StubR2, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def refuse(*_: object) -> web.Response:
        answer = stub_wire.error(500, "InternalError")
        answer.headers["retry-after"] = "60"  # so that it is not asked again until it is too late
        return answer

    monkeypatch.setattr(StubR2, "_PutObject", refuse)
    monkeypatch.setattr(StubR2, "_UploadPart", refuse)
    disk = DiskConfig(tmp_path, min_free_bytes=0, durable=False)
    source, bucket = open_storage(disk, RULES), opened(stub)
    target = R2Config(stub.endpoint_url, stub_wire.KEY_ID, stub_wire.SECRET, stub_wire.BUCKET)
    inspections = [open_inspection(disk), open_inspection(target)]
    many = 60 if size == 100 else 10
    for number in range(many):
        await source.save(key(f"{number}.bin"), BytesSource(bytes(size)))
    stats = MigrationStats()
    migration = Migration(
        inspections[0],
        Target(bucket, inspections[1]),
        [everything()],
        rate_limit=RateLimiter(None),
        stats=stats,
    )

    with pytest.raises(
        BackendUnavailable, match=r"refuses every image: .*\(it responds 500 InternalError\)"
    ):
        await migration.run()

    assert stats.counts.keys() <= {MigrationOutcome.FAILED}
    assert stats.images < many
    assert all("500 InternalError" in event.detail for event in stats.problems)
    for storage in (source, bucket):
        await storage.close()
    for inspection in inspections:
        await inspection.close()
