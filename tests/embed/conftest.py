"""The variables of a store, on both backends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.seaweedfs import SeaweedFS, bucket_variables


@pytest.fixture(params=["disk", "bucket"])
def variables(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    found = {"STILLROOM_DATA_DIR": str(tmp_path / "data"), "STILLROOM_MIN_FREE_BYTES": "0"}
    seaweed: SeaweedFS | None = None
    if request.param == "bucket":
        seaweed = request.getfixturevalue("seaweed")
        seaweed.empty()  # of folders, too, whose images others have deleted
        found |= bucket_variables(seaweed)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    yield found
    if seaweed is not None:
        seaweed.empty()
