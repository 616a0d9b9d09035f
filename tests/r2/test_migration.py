"""A migration over a bad line, to a real bucket and back."""

import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.suite import RULES, everything, key
from services import faulty_proxy
from services.faulty_proxy import CANNOT_BE_MENDED, FAULTS, FaultyProxy
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.errors import BackendUnavailable
from stillroom.storage.choose import DiskConfig, R2Config, open_inspection, open_storage
from stillroom.storage.interface import BytesSource
from stillroom.storage.migration import Migration, Outcome, Tally, Target
from stillroom.storage.verify import Pace

pytestmark = pytest.mark.slow

IMAGES = {f"{number:03}.bin": random.Random(number).randbytes(number * 90) for number in range(120)}


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
    for number in range(1, 9):
        tally = Tally()
        migration = Migration(source.inspection, target, everything(), pace=Pace(None), tally=tally)
        try:
            await migration.run()
        except BackendUnavailable:
            continue
        assert Outcome.DIFFERS not in tally.counts
        if not tally.wrong and tally.images == len(IMAGES):
            return number
    raise AssertionError("it is never content")


async def test_a_bad_line_costs_no_image_and_damages_none(
    stores: tuple[Target, Target, Target], proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stillroom.storage.r2.client.DEADLINE_S", 3.0)
    monkeypatch.setattr("stillroom.storage.r2.client._PATIENCE_S", 0.5)
    source, bucket, back = stores
    for name, image in IMAGES.items():
        await source.storage.save(key(name), BytesSource(image))
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
