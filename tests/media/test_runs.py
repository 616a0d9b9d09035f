"""Runs are published whole, once, and found again, on the pairs of `conftest.py`."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest

from contract.images import PNG, document, key, manifest_key, read_key, save
from stillroom.errors import BackendUnavailable, ImageNotFound, RunConflict, RunNotFound, TooLarge
from stillroom.features.database.config import RowsConfig
from stillroom.features.library.database import MediaDatabase
from stillroom.features.runs import manifest, service
from stillroom.features.runs.listing import RunListing
from stillroom.features.runs.service import Runs
from stillroom.paths import ImagePath, ImagePrefix, StorageKey
from stillroom.store.port import ImageStorage
from stillroom.store.values import EntryPage, ListQuery, Page, StoredImage

RUN = ImagePath.parse("runs/7")


async def published(runs: Runs, folder: ImagePath = RUN, expected: int | None = None) -> Any:
    """The manifest, as its reader parses it."""
    opened = await runs.publish(folder, expected)
    try:
        data = b"".join([chunk async for chunk in opened.chunks(0, opened.image.size)])
    finally:
        opened.close()
    return json.loads(data)


async def filled(storage: ImageStorage, folder: str = "runs/7", count: int = 4) -> list[str]:
    paths = [f"{folder}/{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        await save(storage, path, PNG + bytes([number]))
    return paths


async def found(storage: ImageStorage, prefix: str = "", after: str = "") -> list[tuple[str, str]]:
    listing = RunListing(storage).runs(ImagePrefix.parse(prefix), after)
    return [(run.folder, run.state) async for run in listing]


@pytest.fixture
async def runs(storage: ImageStorage, config: RowsConfig) -> AsyncIterator[Runs]:
    database = MediaDatabase(config)
    yield Runs(storage, database)
    await database.close()


# Publishing


async def test_a_manifest_has_what_is_known_of_every_image(
    storage: ImageStorage, runs: Runs
) -> None:
    paths = await filled(storage)
    await save(storage, "runs/7/deeper/é \"'.png", PNG)
    await save(storage, "runs/70/other.png", PNG)

    said = await published(runs, expected=5)

    assert (said["version"], said["folder"], said["count"]) == (1, "runs/7", 5)
    assert said["state"] == "published"
    images = {image["path"]: image for image in said["images"]}
    assert images.keys() == {*paths, "runs/7/deeper/é \"'.png"}
    for path, image in images.items():
        facts = await storage.stat(key(path))
        assert facts.sha256 is not None
        assert image == {
            "path": path,
            "size": facts.size,
            "content_type": "image/png",
            "sha256": facts.sha256.hex(),
            "etag": facts.etag,
        }
    stored = await storage.stat(manifest_key("runs/7"))
    assert stored.content_type == "application/json"
    assert json.loads(await read_key(storage, manifest_key("runs/7"))) == said


@pytest.mark.parametrize("expected", [0, 3, 5])
async def test_a_run_with_another_number_of_images_is_not_published(
    storage: ImageStorage, runs: Runs, expected: int
) -> None:
    await filled(storage)

    with pytest.raises(RunConflict, match="has 4 images") as refused:
        await runs.publish(RUN, expected)

    assert refused.value.count == 4
    assert not await runs.is_published(RUN)


async def test_a_folder_without_images_is_published_only_if_none_are_expected(runs: Runs) -> None:
    with pytest.raises(RunNotFound):
        await runs.publish(RUN, None)
    with pytest.raises(RunConflict, match="has 0 images"):
        await runs.publish(RUN, 1)

    assert (await published(runs, expected=0))["images"] == []


async def test_the_same_set_published_again_is_the_same_manifest(
    storage: ImageStorage, runs: Runs
) -> None:
    paths = await filled(storage)
    first = await published(runs)
    before = await storage.stat(manifest_key("runs/7"))
    await save(storage, paths[0], PNG + bytes([0]))  # another save of the same bytes

    assert await published(runs, expected=4) == first
    assert await storage.stat(manifest_key("runs/7")) == before


@pytest.mark.parametrize("change", ["added", "removed", "replaced"])
async def test_another_set_is_not_published_a_second_time(
    storage: ImageStorage, runs: Runs, change: str
) -> None:
    paths = await filled(storage)
    first = await published(runs)
    if change == "added":
        await save(storage, "runs/7/more.png")
    elif change == "removed":
        await storage.delete(key(paths[0]))
    else:
        await save(storage, paths[0], b"other bytes")

    differ = r"^the images in the folder \(\d\) differ from those of the published run \(4\): save"
    with pytest.raises(RunConflict, match=differ):
        await runs.publish(RUN, None)

    assert json.loads(await read_key(storage, manifest_key("runs/7"))) == first


async def test_of_many_that_publish_at_once_one_writes_the_manifest(
    storage: ImageStorage, runs: Runs
) -> None:
    await filled(storage)

    said = await asyncio.gather(*(published(runs) for _ in range(6)))

    assert [one["published_at"] for one in said] == [said[0]["published_at"]] * 6


async def test_no_run_is_in_another_one(storage: ImageStorage, runs: Runs) -> None:
    await filled(storage)
    await filled(storage, "runs/7/inner")
    await published(runs, ImagePath.parse("runs/7/inner"))

    with pytest.raises(RunConflict, match="published run 'runs/7/inner'"):
        await runs.publish(RUN, None)
    await storage.delete(manifest_key("runs/7/inner"))
    await published(runs)
    for inner in ("runs/7/inner", "runs/7/deep/er"):
        with pytest.raises(RunConflict, match="in the run 'runs/7'"):
            await runs.publish(ImagePath.parse(inner), 0)


INNER = ImagePath.parse("runs/7/deep/inner")
NESTED = [RUN, INNER]


class PublishedTogether:
    """A storage in which something happens before or after the next manifest is written."""

    def __init__(self, storage: ImageStorage) -> None:
        self.storage = storage
        self.before: Callable[[], Awaitable[object]] | None = None
        self.after: Callable[[], Awaitable[object]] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.storage, name)

    async def save(self, where: StorageKey, *given: Any) -> StoredImage:
        before, self.before = self.before, None
        if before is not None:
            await before()
        saved = await self.storage.save(where, *given)
        if self.after is not None:
            await self.after()
        return saved


@pytest.fixture
def together(storage: ImageStorage, runs: Runs) -> PublishedTogether:
    runs._storage = meddled = cast("Any", PublishedTogether(storage))
    return cast("PublishedTogether", meddled)


@pytest.mark.pairs
async def test_a_run_and_one_inside_that_are_written_at_the_same_moment_are_not_both_published(
    storage: ImageStorage, runs: Runs, together: PublishedTogether
) -> None:
    await filled(storage, INNER.text)
    together.after = asyncio.Barrier(2).wait

    said = await asyncio.gather(
        *(published(runs, folder) for folder in NESTED), return_exceptions=True
    )

    are_published = [await runs.is_published(folder) for folder in NESTED]
    assert sum(are_published) <= 1, "perhaps both have seen each other"
    for is_published, one in zip(are_published, said, strict=True):
        assert isinstance(one, dict if is_published else RunConflict), one


@pytest.mark.pairs
@pytest.mark.parametrize("first", NESTED, ids=["the outer one", "the inner one"])
async def test_of_a_run_and_one_inside_the_one_that_is_written_first_stays(
    storage: ImageStorage, runs: Runs, together: PublishedTogether, first: ImagePath
) -> None:
    await filled(storage, INNER.text)
    together.before = lambda: published(runs, first)  # all of it, before the other is written
    (second,) = {*NESTED} - {first}

    with pytest.raises(RunConflict, match=r"is in the run|contains the published run"):
        await runs.publish(second, 4)

    assert await runs.is_published(first)
    assert not await runs.is_published(second)


async def test_one_that_finds_its_own_run_written_does_not_rely_on_it_if_another_is_around(
    storage: ImageStorage, runs: Runs, together: PublishedTogether
) -> None:
    """The process that has written it is about to see the other one, too, and to remove it."""
    await filled(storage, INNER.text)

    await published(runs, INNER)
    written = await read_key(storage, manifest_key(INNER.text))
    await storage.delete(manifest_key(INNER.text))

    async def both_are_written() -> None:
        for folder in NESTED:
            await storage.save(manifest_key(folder.text), document(written))

    together.before = both_are_written
    with pytest.raises(RunConflict, match="is in the run"):
        await runs.publish(INNER, 4)


async def test_a_run_whose_place_cannot_be_looked_at_is_not_left_published(
    storage: ImageStorage, runs: Runs, together: PublishedTogether, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(storage)

    async def fail(_: ListQuery) -> Page:
        raise BackendUnavailable("the bucket is away")

    async def goes_away() -> None:
        monkeypatch.setattr(storage, "list", fail)

    together.after = goes_away
    with pytest.raises(BackendUnavailable):
        await runs.publish(RUN, 4)
    monkeypatch.undo()
    together.after = None

    assert not await runs.is_published(RUN)
    assert (await published(runs))["count"] == 4


async def test_a_run_that_changes_while_it_is_published_stays_open(
    storage: ImageStorage, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = await filled(storage)
    entries = storage.entries

    async def late(query: ListQuery) -> EntryPage:
        await storage.delete(key(paths.pop()))
        return await entries(query)

    monkeypatch.setattr(storage, "entries", late)
    with pytest.raises(RunConflict, match="changed while it was published"):
        await runs.publish(RUN, 4)

    assert not await runs.is_published(RUN)


async def test_pages_follow_each_other_and_each_image_is_in_the_manifest_once(
    storage: ImageStorage, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PAGE", 3)
    monkeypatch.setattr(service, "_NAMES", 2)
    paths = await filled(storage, count=10)

    said = await published(runs, expected=10)

    assert sorted(image["path"] for image in said["images"]) == paths
    assert await published(runs, expected=10) == said


async def test_a_run_with_too_many_images_for_a_manifest_is_refused(
    storage: ImageStorage, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_BYTES", 4096 + 500)
    await filled(storage)

    with pytest.raises(TooLarge, match="publish it as several runs"):
        await runs.publish(RUN, None)

    assert not await runs.is_published(RUN)


async def test_an_image_whose_hash_is_not_known_is_read(
    storage: ImageStorage, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(storage, count=1)
    entries = storage.entries

    async def without_hash(query: ListQuery) -> EntryPage:
        page = await entries(query)
        assert all(isinstance(entry, StoredImage) for entry in page.entries)
        bare = [unhashed(entry) for entry in page.entries if isinstance(entry, StoredImage)]
        return EntryPage(bare, page.next_after)

    monkeypatch.setattr(storage, "entries", without_hash)
    said = await published(runs)

    assert said["images"][0]["sha256"] == hashlib.sha256(PNG + b"\0").hexdigest()


def unhashed(image: StoredImage) -> StoredImage:
    return StoredImage(
        image.key, image.size, image.etag, image.modified_ns, image.content_type, None,
        image.save_id,
    )  # fmt: skip


@pytest.mark.parametrize(
    "data",
    [b"{}", b"not even JSON", b'{"folder":"a","images":[\n[]\n]}\n', b"\n" * 10, b"[" * 100_000],
)
async def test_what_is_no_manifest_is_said_to_be_none(
    storage: ImageStorage, runs: Runs, data: bytes
) -> None:
    await filled(storage)
    await storage.save(manifest_key("runs/7"), document(data))

    with pytest.raises(RunConflict, match="cannot be read"):
        await runs.publish(RUN, None)
    (run,) = [run async for run in RunListing(storage).runs(ImagePrefix(""), "")]
    assert (run.state, run.count) == ("published", None)


# Listing


@pytest.fixture
async def several(storage: ImageStorage, runs: Runs) -> list[tuple[str, str]]:
    for folder in ("a", "a/in", "b/1", "b/2", "b/2/parts", "b-c", "c/d/e/f"):
        await save(storage, f"{folder}/x.png")
    await save(storage, "top.png")
    for folder in ("b/1", "b/2", "c/d/e/f"):
        await published(runs, ImagePath.parse(folder))
    return [
        ("a", "open"),
        ("a/in", "open"),
        ("b-c", "open"),
        ("b/1", "published"),
        ("b/2", "published"),
        ("c/d/e/f", "published"),
    ]


async def test_every_run_is_found_and_what_is_in_a_published_one_is_none(
    storage: ImageStorage, several: list[tuple[str, str]]
) -> None:
    assert sorted(await found(storage)) == sorted(several)


@pytest.mark.parametrize("prefix", ["b", "b/", "b/2", "b/2/", "a/", "c/d", "c/d/e/f/", "none"])
async def test_a_prefix_is_compared_with_the_folder_and_its_slash(
    storage: ImageStorage, several: list[tuple[str, str]], prefix: str
) -> None:
    expected = [run for run in several if f"{run[0]}/".startswith(prefix)]

    assert sorted(await found(storage, prefix)) == sorted(expected)


@pytest.mark.parametrize("prefix", ["", "b/", "b/2/", "a/", "c"])
async def test_a_listing_goes_on_behind_each_run(
    storage: ImageStorage, several: list[tuple[str, str]], prefix: str
) -> None:
    whole = await found(storage, prefix)
    assert 1 <= len(whole) <= len(several)

    for at, (folder, _) in enumerate(whole):
        assert await found(storage, prefix, folder) == whole[at + 1 :]


async def test_an_open_run_is_told_from_a_folder_of_folders(storage: ImageStorage) -> None:
    for number in range(3):
        await save(storage, f"many/{number}/x.png")
    await save(storage, "many/z.png")

    assert await found(storage) == [
        ("many", "open"), ("many/0", "open"), ("many/1", "open"), ("many/2", "open"),
    ]  # fmt: skip


async def test_folders_may_be_as_deep_as_paths_go(storage: ImageStorage) -> None:
    deep = "/".join(["d"] * 400)
    await save(storage, f"{deep}/x.png")

    assert await found(storage) == [(deep, "open")]
    assert await found(storage, after="/".join(["d"] * 200)) == [(deep, "open")]
    assert await found(storage, after=deep) == []


async def test_a_published_run_without_images_is_still_one(
    storage: ImageStorage, runs: Runs
) -> None:
    (path,) = await filled(storage, count=1)
    await published(runs)
    await storage.delete(key(path))

    assert await found(storage) == [("runs/7", "published")]
    with pytest.raises(ImageNotFound):
        await storage.stat(key(path))
