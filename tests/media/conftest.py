"""The storages and the databases that the library is tested on.

What an image storage promises is held to by `contract/suite.py`, so here two pairs are enough for
most tests, and both storages and both databases are in them. Tests of what goes on between the two
(races, both streams of a scan) are marked `pairs` and run on the other two pairs as well, in
`make test-whole`.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from contract.images import RULES
from media.library import Library
from media.moving import WAYS, Move, Place, moves, of_disk
from pictures import picture
from services.postgres import PostgreSQL
from services.s3 import Operator
from services.seaweedfs import SeaweedFS
from stillroom.features.database.config import PostgresConfig, RowsConfig, SqliteConfig
from stillroom.features.database.migrations import migrate
from stillroom.features.database.tables import metadata
from stillroom.features.library.resource import MediaResource
from stillroom.store.choose import DiskConfig, R2Config, open_storage
from stillroom.store.port import ImageStorage

DIAGONAL: Final = (("disk", "sqlite"), ("bucket", "postgresql"))
OTHERS: Final = (("disk", "postgresql"), ("bucket", "sqlite"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pair" not in metafunc.fixturenames:
        return
    pairs = [
        pytest.param(DIAGONAL[0], id="-".join(DIAGONAL[0])),
        pytest.param(DIAGONAL[1], id="-".join(DIAGONAL[1]), marks=pytest.mark.slow),
    ]
    if metafunc.definition.get_closest_marker("pairs") is not None:
        marks = [pytest.mark.slow, pytest.mark.whole]
        pairs += [pytest.param(pair, id="-".join(pair), marks=marks) for pair in OTHERS]
    metafunc.parametrize("pair", pairs)


@pytest.fixture
def storage(request: pytest.FixtureRequest, pair: tuple[str, str]) -> ImageStorage:
    found: ImageStorage = request.getfixturevalue(pair[0])
    return found


@pytest.fixture
def config(request: pytest.FixtureRequest, pair: tuple[str, str]) -> RowsConfig:
    found: RowsConfig = request.getfixturevalue(pair[1])
    return found


@pytest.fixture
async def library(storage: ImageStorage, config: RowsConfig) -> AsyncIterator[Library]:
    library = Library(storage, config)
    await library.database.rows()
    yield library
    library.meddled.leave_alone()
    await library.check()
    await library.database.close()


@pytest.fixture
async def resource(library: Library) -> MediaResource:
    await library.save("a.png", picture())
    return await library.ingest("a.png")


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[ImageStorage]:
    storage = open_storage(DiskConfig(tmp_path / "data", min_free_bytes=0), RULES)
    yield storage
    await storage.close()


@pytest.fixture
async def bucket(seaweed: SeaweedFS, operator: Operator) -> AsyncIterator[ImageStorage]:
    storage = open_storage(seaweed.config, RULES)
    yield storage
    await storage.close()
    assert operator.uploads() == []
    seaweed.empty()


@pytest.fixture(params=WAYS[:2])
async def move(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Move]:
    configs: list[Place] = []
    for number, words in enumerate(request.param.split(" to ")):
        folder = tmp_path / f"{number}"
        storage: DiskConfig | R2Config = of_disk(folder)
        rows: RowsConfig = SqliteConfig(folder / ".stillroom/library.db", durable=False)
        if "bucket" in words:
            seaweed: SeaweedFS = request.getfixturevalue("seaweed")
            storage = seaweed.config
            rows = PostgresConfig(request.getfixturevalue("database_url"))
        configs.append((storage, rows))
    async for opened in moves(configs):
        yield opened
    if "bucket" in request.param:
        request.getfixturevalue("seaweed").empty()


# Tables are made once, by the migrations: `test_database.py` holds to what these promise.


@pytest.fixture(scope="session")
def empty_tables(tmp_path_factory: pytest.TempPathFactory) -> SqliteConfig:
    config = SqliteConfig(tmp_path_factory.mktemp("tables") / "library.db")
    migrate(config)
    return config


@pytest.fixture
def sqlite(tmp_path: Path, empty_tables: SqliteConfig) -> SqliteConfig:
    config = SqliteConfig(tmp_path / "rows" / "library.db")
    config.file.parent.mkdir()
    shutil.copy(empty_tables.file, config.file)
    return config


@pytest.fixture(scope="session")
def unused_tables() -> list[PostgresConfig]:
    """Databases with empty tables that no test uses just now."""
    return []


@pytest.fixture
def postgresql(
    postgres: PostgreSQL, unused_tables: list[PostgresConfig]
) -> Iterator[PostgresConfig]:
    if unused_tables:
        config = unused_tables.pop()
    else:
        config = PostgresConfig(postgres.make_database())
        migrate(config)
    yield config
    postgres.empty_tables(config.url, (table.name for table in reversed(metadata.sorted_tables)))
    unused_tables.append(config)
