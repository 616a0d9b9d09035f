"""The SDK against a running server; every promise holds for both of its faces."""

import hashlib
import inspect
import io
import os
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np
import pytest
from PIL import Image

from running import Server
from stillroom import errors
from stillroom.client import (
    AsyncImageStore,
    Folder,
    ImageStore,
    Outcome,
    Progress,
    SavedImage,
    SomeFailed,
    Source,
    UnexpectedAnswer,
)

T = TypeVar("T")
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
ROOT = Path(__file__).parents[2]


async def listed(found: AsyncIterator[T]) -> list[T]:
    return [item async for item in found]


def test_both_faces_have_the_same_names_and_parameters() -> None:
    def signatures(kind: type) -> dict[str, Any]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {
            name: [
                (p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()
            ]
            for name, method in methods
            if not name.startswith("_")
        }

    assert signatures(ImageStore) == signatures(AsyncImageStore)
    assert len(signatures(ImageStore)) > 15


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


async def test_every_kind_of_source_is_saved_whole(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    data = os.urandom(700_000)  # more than one chunk
    file = tmp_path / "a.bin"
    file.write_bytes(data)
    behind = io.BytesIO(b"skipped" + data)
    behind.seek(7)
    reader, writer = os.pipe()

    def fill() -> None:
        with open(writer, "wb") as pipe:
            pipe.write(data)

    threading.Thread(target=fill).start()
    with file.open("rb") as opened, os.fdopen(reader, "rb") as pipe:
        sources: list[Source] = [
            data, bytearray(data), memoryview(data), file, opened, behind, pipe
        ]  # fmt: skip
        for number, source in enumerate(sources):
            path = f"{folder}/{number}.bin"
            await store.save(path, source)
            assert await store.read(path) == data, source


@pytest.mark.parametrize(
    ("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP"), ("", "PNG")]
)
async def test_an_image_or_array_is_encoded_as_its_name_says(
    store: AsyncImageStore, folder: str, suffix: str, kind: str
) -> None:
    picture = Image.new("RGB", (20, 10), (200, 30, 40))
    for name, source in (("pillow", picture), ("numpy", np.asarray(picture))):
        path = f"{folder}/{name}{suffix}"
        await store.save(path, source)
        with await store.open(path) as file, Image.open(file) as back:
            assert (back.format, back.size) == (kind, (20, 10))
            pixel = back.convert("RGB").getpixel((5, 5))
            assert isinstance(pixel, tuple)
            assert all(abs(a - b) < 6 for a, b in zip(pixel, (200, 30, 40), strict=True))


async def test_a_stream_that_was_not_rewound_is_refused_and_the_old_image_stays(
    store: AsyncImageStore, folder: str
) -> None:
    path = f"{folder}/a.png"
    stream = io.BytesIO()
    stream.write(PNG)
    await store.save(path, PNG)

    with pytest.raises(errors.EmptyFile, match=r"a\.png.*rewind the stream"):
        await store.save(path, stream)

    assert await store.read(path) == PNG


async def test_what_is_no_image_is_refused_before_anything_is_sent(
    store: AsyncImageStore, folder: str
) -> None:
    odd: Any
    for odd, expected in (
        (np.zeros((4, 4, 3)), errors.UnsupportedMedia),
        (np.zeros((4, 4, 7), np.uint8), errors.UnsupportedMedia),
        ("cat.png", TypeError),
        (io.StringIO("text"), TypeError),
        (7, TypeError),
    ):
        with pytest.raises(expected):
            await store.save(f"{folder}/a.png", odd)
    with pytest.raises(errors.UnsupportedMedia, match=r"image\.convert\('RGB'\)"):
        await store.save(f"{folder}/a.jpg", Image.new("RGBA", (1, 1)))
    with pytest.raises(errors.UnsupportedMedia):
        await store.save(f"{folder}/a.txt", Image.new("RGB", (1, 1)))
    for path in ("../a", "/a", "a//b", "a\n", ""):
        with pytest.raises(errors.InvalidPath):
            await store.save(path, PNG)
    assert await listed(store.iter(f"{folder}/")) == []


class Tensor:
    """Looks like one of torch's."""

    def __array__(self) -> Any:
        raise AssertionError


async def test_arguments_of_the_wrong_kind_are_refused_with_a_sentence(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    odd: Any = Tensor()
    with pytest.raises(TypeError, match=r"Tensor: .* save stillroom\.client\.from_float"):
        await store.save(f"{folder}/a.png", odd)
    odd = tmp_path / "a.png"
    for call in (store.save(odd, PNG), store.exists(odd), store.delete(odd)):
        with pytest.raises(TypeError, match=r"is a str such as 'cats/1.png', not a PosixPath"):
            await call
    odd = str(tmp_path / "a.png")
    for download in (
        store.download(f"{folder}/a.png", odd),
        store.download_unless_same(f"{folder}/a.png", odd),
    ):
        with pytest.raises(TypeError, match=r"pathlib\.Path, such as Path\('out\.png'\)"):
            await download


async def test_a_wrong_path_is_named_in_its_error(store: AsyncImageStore) -> None:
    with pytest.raises(errors.InvalidPath, match=r"'/abs\.png': "):
        await store.save("/abs.png", PNG)


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
        with pytest.raises(errors.Forbidden, match="confined"):
            await reader.read("elsewhere")


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


async def test_many_are_saved_skipped_and_deleted(store: AsyncImageStore, folder: str) -> None:
    images = {f"{folder}/{number}.png": PNG + bytes([number]) for number in range(150)}

    saved = await store.save_many(images)
    again = await store.save_many(
        ((path, data if path[-5] != "7" else b"new") for path, data in images.items()),
        skip_same=True,
    )

    assert [image.path for image in saved] == [image.path for image in again] == list(images)
    assert not any(image.skipped for image in saved)
    sent = {image.path for image in again if not image.skipped}
    assert sent == {path for path in images if path[-5] == "7"}
    assert again[0].etag == saved[0].etag
    assert again[0].url == saved[0].url, "there is no CDN here"
    assert await store.delete_many([*images, f"{folder}/none"]) == 150
    assert await listed(store.iter(folder)) == []


async def test_what_fails_among_many_leaves_the_others_alone(
    store: AsyncImageStore, folder: str, tmp_path: Path
) -> None:
    missing = tmp_path / "none.png"
    seen: list[Outcome[SavedImage]] = []
    images: dict[str, Source] = {
        f"{folder}/a": PNG,
        "../b": PNG,
        f"{folder}/c": missing,
        f"{folder}/d": PNG,
        f"{folder}/a/e": PNG,
    }
    with pytest.raises(SomeFailed, match=r"^3 of 5 failed; the first: ") as raised:
        await store.save_many(images, concurrency=1, each=seen.append)

    assert [type(outcome.error) for outcome in raised.value.outcomes] == [
        type(None),
        errors.InvalidPath,
        FileNotFoundError,
        type(None),
        errors.PathConflict,
    ]
    assert len(seen) == 5
    assert not raised.value.stopped
    with pytest.raises(SomeFailed, match="1 of 2 failed") as raised:
        await store.delete_many(["../x", f"{folder}/a"])
    assert [outcome.result for outcome in raised.value.outcomes] == [None, True]


async def test_many_stop_where_each_would_fail_alike(server: Server, folder: str) -> None:
    taken: list[str] = []

    def endless() -> Any:
        while True:
            taken.append(f"{folder}/{len(taken)}")
            yield taken[-1], PNG

    with ImageStore(server.url, "x.y.z") as store, pytest.raises(SomeFailed, match="not tried"):
        store.save_many(endless(), concurrency=4)
    assert len(taken) < 20
    async with AsyncImageStore(server.url, "x.y.z") as other:
        with pytest.raises(SomeFailed, match="the rest was not tried"):
            await other.save_many(endless(), concurrency=4)


def test_a_callers_mistake_among_many_is_raised_as_it_is(server: Server, folder: str) -> None:
    def broken() -> Any:
        yield f"{folder}/a", PNG
        raise LookupError

    with ImageStore(server.url, server.token()) as store:
        with pytest.raises(LookupError):
            store.save_many(broken())
        odd: Any = {f"{folder}/b": 7}
        with pytest.raises(TypeError):
            store.save_many(odd)


def test_another_server_is_told_from_ours() -> None:
    def foreign(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, text="<html>welcome")

    with ImageStore(transport=httpx.MockTransport(foreign)) as store:
        for attempt in (
            lambda: store.save("a", PNG),
            lambda: store.stat("a"),
            lambda: list(store.iter()),
            lambda: list(store.entries()),
        ):
            with pytest.raises(UnexpectedAnswer):
                attempt()


@pytest.mark.parametrize(
    ("url", "token"),
    [("ftp://a", None), ("nonsense", None), ("http://user:secret@a", None), ("http://a", "a\nb")],
)
def test_settings_that_cannot_work_are_named(url: str, token: str | None) -> None:
    with pytest.raises(errors.ConfigurationError) as raised:
        ImageStore(url, token).stat("a")
    assert "secret" not in str(raised.value)
    assert "a\nb" not in str(raised.value)


def test_the_environment_says_where_and_who(
    server: Server, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STILLROOM_URL", f"{server.url}/")
    monkeypatch.setenv("STILLROOM_TOKEN", server.token())
    with ImageStore() as store:
        store.save(f"{folder}/a", PNG)
        assert store.read(f"{folder}/a") == PNG


def test_a_forked_worker_has_connections_of_its_own(server: Server, folder: str) -> None:
    with ImageStore(server.url, server.token()) as store:
        store.save(f"{folder}/0", PNG)
        children = []
        for number in range(1, 5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    for turn in range(20):
                        store.save(f"{folder}/{number}-{turn}", PNG + bytes([number]))
                    status = 0
                finally:
                    os._exit(status)
            children.append(child)
        for turn in range(20):
            store.save(f"{folder}/0-{turn}", PNG)
        assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
        assert len(list(store.iter(folder))) == 101
