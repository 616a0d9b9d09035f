"""Shared by all tests."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from services.postgres import PostgreSQL, postgresql
from services.s3 import Operator
from services.seaweedfs import SeaweedFS, seaweedfs

# How long an example takes is the machine's matter, never a test's.
settings.register_profile("stillroom", deadline=None, print_blob=True)
settings.load_profile("stillroom")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        Operator(server.endpoint_url).make_bucket()
        yield server


@pytest.fixture(scope="session")
def operator(seaweed: SeaweedFS) -> Operator:
    return Operator(seaweed.endpoint_url)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgreSQL]:
    with postgresql() as server:
        yield server


@pytest.fixture
def database_url(postgres: PostgreSQL) -> Iterator[str]:
    """A new, empty database of the test's own."""
    url = postgres.make_database()
    yield url
    postgres.drop_database(url)
