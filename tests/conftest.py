"""Shared by all tests."""

import pytest
from hypothesis import settings

# How long an example takes is the machine's matter, never a test's.
settings.register_profile("stillroom", deadline=None, print_blob=True)
settings.load_profile("stillroom")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}
