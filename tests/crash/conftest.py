"""The storages and the databases of a library that processes are killed at."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.suite import RULES
from crash.scene import Scene
from media.suite import Library
from services.seaweedfs import BUCKET, KEY_ID, SECRET, SeaweedFS
from stillroom.settings import Settings
from stillroom.storage.choose import open_storage


@pytest.fixture(params=["disk", "bucket"])
def storage_variables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    variables = {
        "STILLROOM_DATA_DIR": str(tmp_path / "data"),
        "STILLROOM_MIN_FREE_BYTES": "0",
        "STILLROOM_JWT_SECRET": "a secret of 32 bytes for tests only",
    }
    if request.param == "disk":
        yield variables
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    yield variables | {
        "R2_ENDPOINT_URL": seaweed.endpoint_url,
        "R2_ACCESS_KEY_ID": KEY_ID,
        "R2_SECRET_ACCESS_KEY": SECRET,
        "R2_BUCKET_NAME": BUCKET,
    }
    seaweed.empty()


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(
    request: pytest.FixtureRequest,
    storage_variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Scene]:
    variables = dict(storage_variables)
    if request.param == "postgresql":
        variables["STILLROOM_DATABASE_URL"] = request.getfixturevalue("database_url")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = Settings.read()
    storage = open_storage(settings.storage, RULES)
    library = Library(storage, settings.rows)
    yield Scene({**os.environ, **variables}, library)
    await library.database.close()
    await storage.close()
