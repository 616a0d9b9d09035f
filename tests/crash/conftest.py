"""A library that processes are killed at: on two pairs of a storage and a database, as in `media`.

What a storage or a database does when a process dies is each one's own; together they keep order.
A bucket alone is asked through a proxy that fails.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.images import RULES
from crash.scene import Scene
from media.library import Library
from services.faulty_proxy import FaultyProxy, faulty_proxy
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.features.database.settings import DatabaseSettings
from stillroom.settings import AllSettings
from stillroom.store.choose import open_storage


@pytest.fixture
def variables(
    request: pytest.FixtureRequest, pair: tuple[str, str], tmp_path: Path
) -> Iterator[dict[str, str]]:
    storage, database = pair
    found = {
        "STILLROOM_DATA_DIR": str(tmp_path / "data"),
        "STILLROOM_MIN_FREE_BYTES": "0",
        "STILLROOM_JWT_SECRET": "a secret of 32 bytes for tests only",
    }
    if database == "postgresql":
        found["STILLROOM_DATABASE_URL"] = request.getfixturevalue("database_url")
    if storage == "disk":
        yield found
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    yield found | bucket_variables(seaweed)
    seaweed.empty()


@pytest.fixture(params=[("disk", "sqlite"), ("bucket", "postgresql")], ids="-".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    found: tuple[str, str] = request.param
    return found


@pytest.fixture
async def scene(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = AllSettings.read()
    storage = open_storage(settings.storage, RULES)
    library = Library(storage, settings.section(DatabaseSettings).rows)
    yield Scene({**os.environ, **variables}, library)
    await library.database.close()
    await storage.close()


@pytest.fixture
def proxy(seaweed: SeaweedFS) -> Iterator[FaultyProxy]:
    with faulty_proxy(seaweed.endpoint_url) as running:
        yield running
    seaweed.empty()
