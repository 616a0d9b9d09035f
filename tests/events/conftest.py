"""Databases and stores whose changes become events, and a receiver of webhooks."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.images import RULES
from events.delivering import Deliveries
from events.feed import Feed
from events.receiving import Receiver, receiving
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.events.database import record_events
from stillroom.features.library.database import MediaDatabase
from stillroom.features.search.filling import IndexFilling
from stillroom.store.choose import DiskConfig, open_storage


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> RowsConfig:
    if request.param == "sqlite":
        return SqliteConfig(tmp_path / "rows" / "library.db", durable=False)
    return PostgresConfig(request.getfixturevalue("database_url"))


@pytest.fixture
async def database(config: RowsConfig) -> AsyncIterator[MediaDatabase]:
    database = MediaDatabase(config)
    database.on_connect.append(record_events)
    yield database
    await database.close()


@pytest.fixture
async def feed(database: MediaDatabase, tmp_path: Path) -> AsyncIterator[Feed]:
    """A store on a disk, whose index is filled in the background."""
    filling = IndexFilling(database)
    where = DiskConfig(tmp_path / "data", min_free_bytes=0)
    storage = open_storage(where, RULES, changes=filling)
    async with filling.running(storage, stop_within_s=5):
        yield Feed(storage, database, filling)
    await storage.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
async def deliveries(database: MediaDatabase, receiver: Receiver) -> Deliveries:
    return await Deliveries(database, receiver.endpoint()).open()
