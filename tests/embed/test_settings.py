"""Variables and arguments of a store in an app, and what is said of them."""

import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from in_process import PNG, client_of
from services.seaweedfs import SeaweedFS, bucket_variables
from stillroom.embed import Stillroom, create_router
from stillroom.errors import ConfigurationError
from stillroom.store.auth.grants import Grant


@pytest.mark.parametrize("argument", [{}, {"storage": "disk"}])
async def test_the_variables_select_the_backend_unless_the_disk_is_meant(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    seaweed: SeaweedFS,
    argument: dict[str, Any],
) -> None:
    for name, value in bucket_variables(seaweed).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path))
    caplog.set_level(logging.INFO)
    app = FastAPI()
    app.include_router(create_router(authorize=lambda _: Grant.everything(), **argument))

    chosen = "Disk" if argument else "R2"
    assert [line for line in caplog.messages if line.startswith(f"storage: {chosen}ImageStorage")]
    for _ in range(2):  # as an app is started again in each of its tests
        async with client_of(app) as client:
            url = "/storage/images/a"
            assert (await client.post(url, files={"file": PNG})).status_code == 200
            assert (await client.get("/storage/images")).json() == ["a"]
            assert (await client.get(url)).status_code == (200 if argument else 302)
    assert (tmp_path / "compute/a").exists() == bool(argument)
    seaweed.empty()


async def test_half_a_bucket_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2_ENDPOINT_URL", "https://account.r2.cloudflarestorage.com")

    with pytest.raises(ConfigurationError, match="R2_BUCKET_NAME must be set too"):
        create_router(tmp_path / "new")
    assert not (tmp_path / "new/compute").exists()


def test_variables_are_read_and_arguments_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_DATA_DIR", str(tmp_path / "of-variable"))
    create_router(min_free_bytes=0)
    create_router(str(tmp_path / "of-argument"))
    assert (tmp_path / "of-variable/compute").is_dir()
    assert (tmp_path / "of-argument/compute").is_dir()

    with pytest.raises(ConfigurationError, match="no such setting: max_upload"):
        create_router(tmp_path, max_upload=1)
    with pytest.raises(ConfigurationError, match="MAX_UPLOAD_BYTES"):
        create_router(tmp_path, max_upload_bytes=0)
    tape: Any = {"storage": "tape"}
    with pytest.raises(ConfigurationError, match="storage is 'tape': pass 'disk', or omit it"):
        create_router(tmp_path, **tape)
    monkeypatch.delenv("STILLROOM_DATA_DIR")
    monkeypatch.setenv("STILLROOM_DATADIR", str(tmp_path))
    with pytest.raises(ConfigurationError, match="did you mean STILLROOM_DATA_DIR"):
        create_router(max_upload_bytes=1)


MISPLACED = "public URLs begin with http://127.0.0.1:8000/api/v1/storage/images"


@pytest.mark.parametrize(
    ("base", "prefix", "settings", "warned"),
    [
        ("http://127.0.0.1:8000", "/api/v1", {}, False),
        ("http://127.0.0.1:8000", "/v1", {}, True),
        ("http://127.0.0.1:9000", "/api/v1", {}, True),
        ("http://compute:8000", "/api/v1", {}, True),
        ("http://compute", "/api/v1", {"public_base_url": "https://img.example"}, False),
        ("http://compute", "", {"public_url": "https://img.example/storage/images"}, False),
    ],
)
async def test_the_first_save_warns_of_public_urls_that_lead_elsewhere(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    base: str,
    prefix: str,
    settings: dict[str, Any],
    warned: bool,
) -> None:
    app = FastAPI()
    router = create_router(tmp_path, authorize=lambda _: Grant.everything(), **settings)
    app.include_router(router, prefix=prefix)
    async with client_of(app) as client:
        for name in ("a", "b"):
            url = f"{base}{prefix}/storage/images/{name}"
            assert (await client.post(url, files={"file": PNG})).status_code == 200

    warnings = [line for line in caplog.messages if line.startswith(MISPLACED)]
    assert len(warnings) == warned


@pytest.mark.parametrize("mount", ["", "/compute"])
@pytest.mark.parametrize(
    ("prefix", "settings", "warned"),
    [
        ("/img", {"public_base_url": "https://x.example"}, True),
        ("", {"public_base_url": "https://x.example"}, True),
        ("/api/v1", {"public_base_url": "https://x.example"}, False),
        ("/img", {"public_url": "https://x.example/img/storage/images"}, False),
    ],
)
async def test_the_start_warns_of_a_prefix_that_public_urls_lack(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mount: str,
    prefix: str,
    settings: dict[str, Any],
    warned: bool,
) -> None:
    stillroom = Stillroom(tmp_path, authorize=lambda _: Grant.everything(), **settings)
    app = FastAPI(lifespan=stillroom.lifespan)
    app.include_router(stillroom.router, prefix=prefix)
    if mount:
        inner, app = app, FastAPI(lifespan=stillroom.lifespan)
        app.mount(mount, inner)
    async with client_of(app) as client:
        (warning,) = [line for line in caplog.messages if "public URLs begin" in line] or [""]
        url = f"{mount}{prefix}/storage/images/a"
        saved = (await client.post(url, files={"file": PNG})).json()["url"]
    assert len([line for line in caplog.messages if "public URLs begin" in line]) == warned
    if warned:
        assert f"has its images at {mount}{prefix}/storage/images: include" in warning
        assert f'or pass public_url="https://…{mount}{prefix}/storage/images"' in warning
    elif not mount:
        assert saved == f"https://x.example{url}"


@pytest.mark.parametrize(("prefixes", "warned"), [(("/img", "/api/v1"), 1), (("/api/v1", "/b"), 0)])
async def test_the_start_does_not_mix_up_the_public_urls_of_two_stores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, prefixes: tuple[str, str], warned: int
) -> None:
    app = FastAPI()
    for name, prefix in zip(("first", "second"), prefixes, strict=True):
        router = create_router(
            tmp_path / name,
            authorize=lambda _: Grant.everything(),
            public_base_url=f"https://{name}.example",
        )
        app.include_router(router, prefix=prefix)
    async with client_of(app):
        warnings = [line for line in caplog.messages if "public URLs begin" in line]
    assert len(warnings) == warned
    for warning in warnings:
        assert warning.startswith("public URLs begin with https://first.example/")
        assert "has its images at /img/storage/images: include" in warning
