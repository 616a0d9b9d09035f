"""The SDK against a running server; every promise holds for both of its faces."""

import hashlib
import inspect
import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from client.conftest import listed
from command_line import PNG
from running import Server
from stillroom import errors
from stillroom.client import AsyncImageStore, AsyncRun, Folder, ImageStore, Progress, Run
from stillroom.client.async_library import AsyncMediaLibrary
from stillroom.client.library import MediaLibrary


@pytest.mark.parametrize(
    ("waiting", "asynchronous", "names"),
    [
        (ImageStore, AsyncImageStore, {"save", "read", "list", "search", "save_many", "run"}),
        (MediaLibrary, AsyncMediaLibrary, {"list", "ingest", "get", "update", "tags", "heal"}),
        (Run, AsyncRun, {"path", "save", "publish", "read", "delete"}),
    ],
)
def test_both_faces_have_the_same_names_and_parameters(
    waiting: type, asynchronous: type, names: set[str]
) -> None:
    def signatures(kind: type) -> dict[str, Any]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: [
                (p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()
            ]
            for name, method in methods
            if not name.startswith("_")
        }

    assert signatures(waiting) == signatures(asynchronous)
    assert names <= signatures(waiting).keys()


async def test_what_is_saved_comes_back_with_its_facts(
    store: AsyncImageStore, server: Server, folder: str
) -> None:
    path = f"{folder}/tom & jérôme +%.png"
    digest = hashlib.sha256(PNG).hexdigest()

    saved = await store.save(path, PNG)
    found = await store.stat(path)

    assert (saved.path, saved.size, saved.content_type) == (path, len(PNG), "image/png")
    assert saved.url.startswith(f"{server.images}/{folder}/tom%20%26%20j%C3%A9r")
    assert (saved.sha256, found.sha256, saved.etag) == (digest, digest, found.etag)
    assert (found.size, found.content_type) == (len(PNG), "image/png")
    assert abs(datetime.now(UTC) - found.modified) < timedelta(minutes=1)
    assert await store.read(path) == PNG
    assert await store.exists(path)
    await store.delete(path)
    assert not await store.exists(path)


async def test_errors_are_the_servers_own(
    store: AsyncImageStore, server: Server, folder: str
) -> None:
    path = f"{folder}/a.png"
    saved = await store.save(path, PNG)
    cases: list[tuple[type[errors.StillroomError], Any]] = [
        (errors.ImageNotFound, store.stat(f"{folder}/none")),
        (errors.ImageNotFound, store.read(f"{folder}/none")),
        (errors.ImageNotFound, store.delete(f"{folder}/none")),
        (errors.ImageNotFound, store.copy(f"{folder}/none", f"{folder}/b")),
        (errors.PathConflict, store.save(f"{path}/below", PNG)),
        (errors.PreconditionFailed, store.save(path, b"other", if_none_match="*")),
        (errors.PreconditionFailed, store.save(path, b"other", if_match='"old"')),
        (errors.PreconditionFailed, store.delete(path, if_match='"old"')),
        (errors.TooLarge, store.save(path, bytes(65 * 1024**2))),
        (errors.InvalidParameter, store.signed_url(path, expires_in=timedelta(days=8))),
        (errors.InvalidParameter, store.copy(path, path)),
        (errors.InvalidParameter, store.move(path, path)),
    ]
    for expected, waiting in cases:
        with pytest.raises(expected, match=folder) as raised:
            await waiting
        assert type(raised.value) is expected

    assert (await store.stat(path)).etag == saved.etag
    await store.delete(f"{folder}/none", missing_ok=True)
    await store.save(path, b"other", if_match=saved.etag)
    async with AsyncImageStore(server.url, "x.y.z") as stranger:
        with pytest.raises(errors.Unauthenticated):
            await stranger.stat(path)
        with pytest.raises(errors.Unauthenticated):
            await stranger.save(path, bytes(30 * 1024**2))
    reading = server.token("--scope", "storage:read", "--prefix", folder)
    async with AsyncImageStore(server.url, lambda: reading) as reader:
        assert await reader.read(path) == b"other"
        with pytest.raises(errors.Forbidden, match="storage:write"):
            await reader.save(path, PNG)
        with pytest.raises(errors.Forbidden, match="is limited to"):
            await reader.read("elsewhere")


async def test_invalid_input_is_reported_with_the_name_of_the_parameter(
    store: AsyncImageStore, folder: str
) -> None:
    path = f"{folder}/a.webp"
    await store.save(path, PNG)
    odd: Any = {"wide": 64}
    for waiting, said in (
        (store.signed_url(path, expires_in=timedelta(days=30)), "expires_in: must be 604800"),
        (store.save(path, PNG, expires_in=timedelta(days=40_000)), "expires-in: must be a dur"),
        (store.read(path, width=-1), "width: must be"),
        (store.signed_url(path, **odd), "wide: unknown field"),
        (store.copy(path, path), "target: source and target"),
    ):
        with pytest.raises(errors.InvalidParameter, match=f"^{path}: {said}"):
            await waiting


async def test_listings_are_paged_lazily(
    store: AsyncImageStore, server: Server, folder: str
) -> None:
    home = server.data / "compute" / folder
    (home / "deep").mkdir(parents=True)
    for number in range(2100):
        (home / f"{number:05}.png").write_bytes(PNG)
    (home / "deep" / "a.png").write_bytes(PNG)
    names = [f"{folder}/{number:05}.png" for number in range(2100)]

    found = await listed(store.iter(f"{folder}/"))
    entries = await listed(store.entries(f"{folder}/", start_after=names[99]))
    level = await listed(store.level(f"{folder}/"))

    assert found == [*names, f"{folder}/deep/a.png"]
    assert await listed(store.list(f"{folder}/", start_after=names[99])) == found[100:]
    assert [entry.path for entry in entries] == found[100:]
    assert {entry.size for entry in entries} == {len(PNG)}
    assert level[-1] == Folder(f"{folder}/deep/")
    assert [entry.path for entry in level[:-1]] == names
    assert [name async for name in store.iter(f"{folder}/", fold=True)][-1] == f"{folder}/deep/"
    with pytest.raises(errors.InvalidPath):
        await listed(store.iter("../"))


async def test_a_download_is_there_whole_or_not_at_all(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    path = f"{folder}/a.png"
    await store.save(path, PNG)
    seen: list[Progress] = []

    await store.download(path, tmp_path / "new/b.png", progress=seen.append)
    await store.download(path, tmp_path / "new")
    buffer = io.BytesIO()
    await store.download(path, buffer)
    with pytest.raises(errors.ImageNotFound):
        await store.download(f"{folder}/none", tmp_path / "new/b.png")

    assert buffer.getvalue() == PNG
    assert {file.name: file.read_bytes() for file in (tmp_path / "new").iterdir()} == {
        "a.png": PNG,
        "b.png": PNG,
    }
    assert seen[-1] == Progress(path, len(PNG), len(PNG))


async def test_progress_ends_at_the_size(store: AsyncImageStore, folder: str) -> None:
    seen: list[Progress] = []
    await store.save(f"{folder}/a", bytes(1_000_000), progress=seen.append)

    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert len(seen) > 2
    assert seen[-1] == Progress(f"{folder}/a", 1_000_000, 1_000_000)


async def test_copy_and_move_keep_the_bytes(store: AsyncImageStore, folder: str) -> None:
    await store.save(f"{folder}/a.png", PNG)

    copied = await store.copy(f"{folder}/a.png", f"{folder}/b/ü.png")
    moved = await store.move(f"{folder}/a.png", f"{folder}/c.png")

    digest = hashlib.sha256(PNG).hexdigest()
    assert (copied.path, copied.sha256, copied.size) == (f"{folder}/b/ü.png", digest, len(PNG))
    assert (moved.path, moved.sha256) == (f"{folder}/c.png", digest)
    assert await listed(store.iter(folder)) == [f"{folder}/b/ü.png", f"{folder}/c.png"]
    assert await store.read(f"{folder}/c.png") == PNG


async def test_a_signed_url_needs_no_token(store: AsyncImageStore, folder: str) -> None:
    await store.save(f"{folder}/a b.png", PNG)
    url = await store.signed_url(f"{folder}/a b.png", expires_in=timedelta(minutes=1))
    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(url)).content == PNG


@pytest.mark.parametrize("life", [timedelta(hours=1), "1h", 3600])
async def test_a_save_returns_a_signed_url(
    store: AsyncImageStore, folder: str, life: timedelta | str | int
) -> None:
    saved = await store.save(f"{folder}/a b.png", PNG, sign=life)

    async with httpx.AsyncClient() as stranger:
        assert (await stranger.get(str(saved.signed_url))).content == PNG
    assert saved.signed_url_expires_at is not None
    lasts = saved.signed_url_expires_at - datetime.now(UTC)
    assert timedelta(minutes=58) < lasts <= timedelta(hours=1, seconds=1)
    plain = await store.save(f"{folder}/a b.png", PNG)
    assert (plain.signed_url, plain.signed_url_expires_at) == (None, None)
    unique = await store.save(f"{folder}/a b.png", PNG, unique=True, sign=life)
    assert "a%20b-1.png" in str(unique.signed_url)
    for error, options in (
        (errors.InvalidParameter, {"sign": "soon"}),
        (errors.InvalidParameter, {"sign": "8d"}),
        (TypeError, {"sign": life, "direct": True}),
    ):
        with pytest.raises(error):
            await store.save(f"{folder}/a b.png", PNG, **options)


async def test_an_image_is_taken_into_the_library_once(store: AsyncImageStore, folder: str) -> None:
    picture = Image.new("RGB", (20, 10), tuple(os.urandom(3)))
    saved = await store.save(f"{folder}/a b.png", picture)
    await store.copy(f"{folder}/a b.png", f"{folder}/again.png")

    found = await store.ingest(f"{folder}/a b.png")
    again = await store.ingest(f"{folder}/again.png", relocate=False)

    assert (found.content_hash, found.width, found.height) == (saved.sha256, 20, 10)
    assert found.storage_key == f"media/{found.id}/file.png"
    assert again.id == found.id
    assert found.source_key == again.source_key == f"compute/{folder}/a b.png"
    with pytest.raises(errors.ImageNotFound):
        await store.ingest(f"{folder}/none.png")
