"""What a start says of a library whose bytes are not in the bucket."""

import asyncio
from pathlib import Path

import pytest

from pictures import picture
from r2.conftest import Running
from services.stub_r2 import StubR2
from stillroom.features.database.config import SqliteConfig
from stillroom.features.library import missing_bytes
from stillroom.features.library.database import MediaDatabase
from stillroom.features.library.missing_bytes import warn_about_missing_bytes
from stillroom.local import open_store
from stillroom.store.port import ImageStorage
from waiting import eventually

SAID = "have no bytes in this bucket"


def ingest_on_a_disk(folder: Path) -> None:
    with open_store(folder) as store:
        for number in range(5):
            store.save(f"{number}.png", picture(number))
            store.media.ingest(f"{number}.png")


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at two resources first, and at four in all."""
    monkeypatch.setattr(missing_bytes, "_PAGE", 2)
    monkeypatch.setattr(missing_bytes, "_MOST", 4)


async def test_a_start_on_a_bucket_counts_resources_without_bytes_within_bounds(
    running: Running, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await asyncio.to_thread(ingest_on_a_disk, tmp_path)

    async with running(STILLROOM_SWEEP_INTERVAL_SECONDS="600"):
        await eventually(lambda: SAID in caplog.text)

    assert f"at least 4 of 4 resources of the media library {SAID}" in caplog.text
    assert "copy them with `stillroom migrate`" in caplog.text


async def test_a_library_that_has_its_bytes_costs_a_look_at_the_first_ones_alone(
    running: Running,
    stub: StubR2,
    storage: ImageStorage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as client:
        for number in range(5):
            image = {"file": picture(number)}
            await client.post(f"/api/v1/storage/images/{number}.png", files=image)
            key = {"storage_key": f"compute/{number}.png"}
            await client.post("/api/v1/media-resources/ingest", json=key)
    stub.requests.clear()
    database = MediaDatabase(SqliteConfig(tmp_path / ".stillroom/library.db", durable=False))

    await warn_about_missing_bytes(storage, database, lambda: False)

    await database.close()
    assert [request.method for request in stub.requests] == ["HEAD", "HEAD"]
    assert SAID not in caplog.text
