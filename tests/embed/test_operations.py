"""The operations for the endpoints of an app itself, by the names of the SDK."""

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from in_process import PNG, client_of
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.embed import Stillroom
from stillroom.errors import ImageNotFound, InvalidPath, PreconditionFailed


@pytest.fixture(params=["disk", "bucket"])
def stillroom(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stillroom]:
    settings: dict[str, Any] = {"min_free_bytes": 0}
    if request.param == "disk":
        yield Stillroom(tmp_path, **settings)
        return
    seaweed: SeaweedFS = request.getfixturevalue("seaweed")
    settings |= {name.lower(): value for name, value in bucket_variables(seaweed).items()}
    yield Stillroom(tmp_path, **settings)
    seaweed.empty()


async def test_the_apps_own_endpoints_use_the_sdks_names(
    stillroom: Stillroom, tmp_path: Path
) -> None:
    app, large = FastAPI(), os.urandom(20 * 1024**2)
    seen: list[int] = []
    app.include_router(stillroom.router)
    async with client_of(app):
        images = stillroom.images
        saved = await images.save("a/b c.png", PNG)
        assert (saved.path, saved.size, saved.sha256) == (
            "a/b c.png",
            len(PNG),
            hashlib.sha256(PNG).hexdigest(),
        )
        await images.save("a/large", large, progress=lambda event: seen.append(event.done))
        assert seen[-1] == len(large)
        assert (await images.save_unless_same("a/b c.png", PNG)).skipped
        assert await images.read("a/large") == large
        with await images.open("a/b c.png") as file:
            assert file.read() == PNG
        await images.download("a/large", tmp_path / "large")
        assert (tmp_path / "large").read_bytes() == large
        assert await images.exists("a/large")
        assert not await images.exists("a/none")
        await images.copy("a/b c.png", "b")
        assert [path async for path in images.iter()] == ["a/b c.png", "a/large", "b"]
        assert "signature=" in await images.signed_url("b")
        assert "/archive?prefix=a/&expires=" in await images.signed_url(archive="a/")
        assert "/images/b?expires=" in str((await images.save("b", PNG, sign="1h")).signed_url)
        await images.delete("a/large")
        with pytest.raises(ImageNotFound, match="a/large: no such image"):
            await images.read("a/large")
        with pytest.raises(PreconditionFailed):
            await images.save("b", PNG, if_none_match="*")
        with pytest.raises(InvalidPath):
            await images.save("../b", PNG)


async def test_what_goes_wrong_on_the_callers_side_is_the_callers_own(
    stillroom: Stillroom,
) -> None:
    class Broken(io.BytesIO):
        def write(self, _: object) -> int:
            raise BrokenPipeError("the reader has gone")

    app = FastAPI()
    app.include_router(stillroom.router)
    async with client_of(app):
        await stillroom.images.save("a", PNG)
        with pytest.raises(BrokenPipeError):
            await stillroom.images.download("a", Broken())

        def refuse_progress(_: object) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await stillroom.images.save("b", PNG, progress=refuse_progress)
        assert not await stillroom.images.exists("b")
        with pytest.raises(InvalidPath, match="must begin with `compute/`"):
            await stillroom.media.ingest_from_storage_key("a")
