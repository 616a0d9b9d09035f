"""Many images in one call of the SDK: saved, skipped, deleted, and what of them fails."""

from pathlib import Path
from typing import Any

import pytest

from client.conftest import listed
from command_line import PNG
from running import Server
from stillroom import errors
from stillroom.client import (
    AsyncImageStore,
    ImageStore,
    Outcome,
    SavedImage,
    SomeFailed,
    Source,
)


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

    def many() -> Any:
        for number in range(100):
            taken.append(f"{folder}/{number}")
            yield taken[-1], PNG

    with ImageStore(server.url, "x.y.z") as store, pytest.raises(SomeFailed, match="not tried"):
        store.save_many(many(), concurrency=4)
    assert len(taken) < 20
    async with AsyncImageStore(server.url, "x.y.z") as other:
        with pytest.raises(SomeFailed, match="the rest was not tried"):
            await other.save_many(many(), concurrency=4)


@pytest.mark.parametrize("scope", ["storage:read", "storage:write"])
def test_many_stop_at_a_missing_scope_but_not_at_a_path_elsewhere(
    server: Server, folder: str, scope: str
) -> None:
    images = {f"{folder}/{number}": PNG for number in range(20)}
    store = ImageStore(server.url, server.token("--scope", scope))
    with store, pytest.raises(SomeFailed, match="0: the token lacks the scope") as raised:
        store.save_many(images, concurrency=1, skip_same=True)
    assert (len(raised.value.outcomes), raised.value.stopped) == (1, True)

    store = ImageStore(server.url, server.token("--prefix", f"{folder}/a"))
    with store, pytest.raises(SomeFailed, match="x: the token is limited to another") as raised:
        store.save_many({f"{folder}/x": PNG, f"{folder}/a/y": PNG}, skip_same=True)
    assert [outcome.error is None for outcome in raised.value.outcomes] == [False, True]


def test_a_batch_that_is_refused_is_an_outcome_of_each_image_in_it(
    server: Server, folder: str
) -> None:
    paths = [f"{folder}/{number}" for number in range(150)]
    reader = server.token("--scope", "storage:read")
    with ImageStore(server.url, reader) as store, pytest.raises(SomeFailed) as raised:
        store.delete_many(paths)
    assert [outcome.path for outcome in raised.value.outcomes] == paths
    assert {type(outcome.error) for outcome in raised.value.outcomes} == {errors.Forbidden}


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
