"""Features that an app chooses, and what the others mean for the same data."""

import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from in_process import PNG, client_of
from media.retaining import DAY
from stillroom.embed import Stillroom, create_router
from stillroom.errors import ConfigurationError
from stillroom.features.database import clock
from stillroom.features.database.clock import now
from stillroom.features.library.feature import LibraryFeature
from stillroom.features.library.sweeper import Swept
from stillroom.features.retention.expiry import never_stops
from stillroom.features.retention.feature import RetentionFeature
from stillroom.features.runs.database import run_rows
from stillroom.store.auth.grants import Grant


def test_one_warning_names_the_features_that_are_off_and_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("PIL", "aiosqlite"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed

    create_router(tmp_path, min_free_bytes=0)

    (line,) = [line for line in caplog.messages if "is off" in line]
    assert "the feature 'pictures' is off" in line
    assert "the feature 'database' is off: aiosqlite is not installed: install" in line
    assert "the feature 'retention' is off: it needs 'library', which is off" in line


def test_nothing_is_said_of_features_that_were_not_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    create_router(tmp_path, features=[], min_free_bytes=0)
    assert "is off" not in caplog.text


def test_a_chosen_feature_that_cannot_be_opened_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiosqlite", None)
    with pytest.raises(ConfigurationError, match=r"'database' is off: aiosqlite is not installed"):
        create_router(tmp_path / "new", features=["search"])
    assert not (tmp_path / "new").exists()


def test_a_gallery_needs_its_feature(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"gallery=True needs the feature 'gallery'"):
        create_router(tmp_path, gallery=True, features=["pictures"], min_free_bytes=0)

    stillroom = Stillroom(tmp_path, gallery=True, features=["gallery"], min_free_bytes=0)
    assert "#sign-in=" in stillroom.sign_in_link("http://127.0.0.1:8000/gallery/")


def app_with(folder: Path, features: list[str] | None) -> FastAPI:
    app = FastAPI()
    everything = create_router(
        folder, authorize=lambda _: Grant.everything(), features=features, min_free_bytes=0
    )
    app.include_router(everything)
    return app


def headers_of_saves(app: FastAPI) -> set[str]:
    save = app.openapi()["paths"]["/storage/images/{path}"]["post"]
    return {one["name"] for one in save["parameters"] if one["in"] == "header"}


def test_the_document_has_no_header_of_a_feature_that_is_off(tmp_path: Path) -> None:
    assert headers_of_saves(app_with(tmp_path, None)) >= {"Expires-In", "Repr-Digest"}
    without = app_with(tmp_path, ["runs"])
    assert headers_of_saves(without) == headers_of_saves(app_with(tmp_path, None)) - {"Expires-In"}
    assert "/storage/runs" in without.openapi()["paths"]
    assert "/storage/archive" not in without.openapi()["paths"]


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "GET"])
async def test_every_method_of_a_feature_that_is_off_gets_501(tmp_path: Path, method: str) -> None:
    async with client_of(app_with(tmp_path, [])) as client:
        for path in ("/storage/archive", "/media-resources/1/tags"):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (501, "feature_off"), path
        assert (await client.options("/storage/images")).status_code == 405


class Beside:
    """A process with all features, and one that has no retention and no runs, on one disk."""

    def __init__(self, folder: Path) -> None:
        settings: dict[str, Any] = {
            "min_free_bytes": 0,
            "deletion_grace_seconds": 0,
            "sweep_interval_seconds": 0,
        }
        self.full = Stillroom(folder, compute_ttl="7d", **settings)
        self.subset = Stillroom(folder, features=["library"], compute_ttl="7d", **settings)

    async def swept_by_subset(self) -> Swept:
        return await self.subset._parts.store.need(LibraryFeature).sweeper.sweep()

    async def swept_by_full(self) -> Swept:
        return await self.full._parts.store.need(LibraryFeature).sweeper.sweep()

    async def mark_expired(self) -> int:
        expiry = self.full._parts.store.need(RetentionFeature).expiry
        assert expiry is not None
        return await expiry.mark_expired(never_stops)


def move_clock(patch: pytest.MonkeyPatch, moved: timedelta) -> None:
    seconds = moved.total_seconds()
    patch.setattr(clock, "CLOCK", clock.Clock(wall=lambda: time.time() + seconds))


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Beside:
    monkeypatch.setattr(clock, "CLOCK", clock.Clock())
    return Beside(tmp_path)


async def test_a_process_without_retention_leaves_what_the_rules_ordered_to_one_that_has_it(
    beside: Beside, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with beside.full.lifespan(), beside.subset.lifespan():
        await beside.full.images.save("old.png", PNG)
        await beside.full.images.save("lasting.png", PNG, expires_in=timedelta(hours=1))
        move_clock(monkeypatch, 8 * DAY)
        assert await beside.mark_expired() == 1
        move_clock(monkeypatch, 9 * DAY)

        swept = [await beside.swept_by_subset(), await beside.swept_by_subset()]

        assert swept == [Swept(deleted=1), Swept()]
        assert [path async for path in beside.full.images.iter()] == ["old.png"]
        assert await beside.swept_by_full() == Swept(deleted=1)
        assert [path async for path in beside.full.images.iter()] == []


async def test_a_process_without_runs_leaves_their_deletion_to_one_that_has_them(
    beside: Beside,
) -> None:
    async with beside.full.lifespan(), beside.subset.lifespan():
        await beside.full.images.save("run/1.png", PNG)
        database = beside.full._parts.store.need(LibraryFeature).database
        rows, claim = await run_rows(database), uuid.uuid4()
        await rows.begin("compute/run/", claim, saved_until=now(), lease=timedelta(minutes=1))
        await rows.release(claim)  # as if its process had ended before it marked an image

        assert await beside.swept_by_subset() == Swept()

        assert [deletion.folder for deletion in await rows.under_way()] == ["compute/run/"]
        assert await beside.swept_by_full() == Swept()
        assert await rows.under_way() == []
