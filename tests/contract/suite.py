"""The promises of `ImageStorage`, one test each, in a class for each capability.

Every backend subclasses `StorageContract`, which is all of them. A backend that works in another
way in some surroundings subclasses, once more for each of these, what is done in another way.

A subclass provides the `storage` fixture and never overrides a test. Where a real
service differs in a way that is documented and pinned, it says so in an attribute.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable
from typing import ClassVar

import httpx
import pytest

from stillroom.errors import (
    BackendUnavailable,
    DigestMismatch,
    EmptyFile,
    ImageNotFound,
    PreconditionFailed,
    TooLarge,
)
from stillroom.paths import ImagePath, ImagePrefix, KeyPrefix, StorageKey, image_entry
from stillroom.storage.port import ImageStorage
from stillroom.storage.sources import BytesSource, Document, ImageSource, ImportedImage
from stillroom.storage.values import (
    ANY,
    Condition,
    Entry,
    EntryPage,
    ListQuery,
    Page,
    RemoteImage,
    SaveRules,
    StoredImage,
)

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'

RULES = SaveRules(max_bytes=64 * 1024**2)
"""What the storages under test are opened with."""

UNUSUAL_NAMES = (
    "with space.png",
    "plus+and+more.png",
    "hash#tag?query=1&x=2.png",
    "100%.png",
    "percent%41.png",
    "~tilde'quote\"double.png",
    "semi;colon,comma=.png",
    ".hidden/..two-dots-first.png",
    "ends-with-dot./x.",
    "кошка/猫/قطة.png",
    "family-👩\u200d👩\u200d👧.png",
    "a" * 255,
    "/".join(["deep"] * 100),
)


def key(path: str) -> StorageKey:
    return StorageKey.of_image(ImagePath.parse(path))


def key_text(path: str) -> str:
    return f"compute/{path}"


def manifest_key(folder: str) -> StorageKey:
    return StorageKey.of_manifest(ImagePath.parse(folder))


def document(
    data: bytes, *, max_bytes: int = 64 * 1024**2, breaks: BaseException | None = None
) -> Document:
    """What is no upload, and no image."""
    chunks = aiter(Chunks(data, breaks=breaks))
    return Document("application/json", chunks, max_bytes=None, rules=SaveRules(max_bytes))


def everything(prefix: str = "") -> KeyPrefix:
    return KeyPrefix.of_images(ImagePrefix.parse(prefix))


class Chunks:
    """An upload in pieces, which may break off."""

    def __init__(
        self,
        *chunks: bytes,
        breaks: BaseException | None = None,
        max_bytes: int | None = None,
        expected_sha256: bytes | None = None,
    ) -> None:
        self.chunks = chunks
        self.breaks = breaks
        self.max_bytes = max_bytes
        self.expected_sha256 = expected_sha256
        self.asked = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.asked += 1
            await asyncio.sleep(0)  # one turn of the event loop
            yield chunk
        if self.breaks is not None:
            raise self.breaks


async def read(storage: ImageStorage, path: str) -> bytes:
    return await read_key(storage, key(path))


async def read_key(storage: ImageStorage, where: StorageKey) -> bytes:
    location = await storage.locate(where)
    if isinstance(location, RemoteImage):
        async with httpx.AsyncClient() as client:
            answer = await client.get(location.url)
        assert answer.status_code == 200, answer.text
        return answer.content
    try:
        size = location.image.size
        return b"".join([chunk async for chunk in location.chunks(0, size)])
    finally:
        location.close()


async def save(storage: ImageStorage, path: str, data: bytes = PNG) -> str:
    return (await storage.save(key(path), BytesSource(data))).etag


def source_of(data: bytes) -> ImageSource:
    """An upload; where that would be empty, an image that another store has had for long."""
    if data:
        return BytesSource(data)
    there = StoredImage(key("a"), 0, '"1"', 1, "application/octet-stream", None, "1")
    return ImportedImage(there, hashlib.sha256(b"").digest(), aiter(Chunks()))


def entries(page: Page) -> list[str]:
    return [image_entry(entry) for entry in page.entries]


def entry_text(entry: Entry) -> str:
    return entry.text if isinstance(entry, KeyPrefix) else entry.key.text


def shown(entry: Entry) -> str:
    return image_entry(entry_text(entry))


class SavingContract:
    """Saving, with conditions and without; reading it back; copying."""

    # Saving and reading

    @pytest.mark.parametrize("size", [0, 1, 65_537, 9 * 1024**2 + 1])
    async def test_an_opened_image_is_read_in_parts(self, storage: ImageStorage, size: int) -> None:
        data = random.Random(size).randbytes(size)
        saved = await storage.save(key("a.bin"), source_of(data))

        opened = await storage.open(key("a.bin"))

        assert (opened.image.size, opened.image.save_id) == (size, saved.save_id)
        for start, length in ((0, size), (0, min(size, 100)), (size // 2, size // 3)):
            part = b"".join([chunk async for chunk in opened.chunks(start, length)])
            assert part == data[start : start + length]
        opened.close()

    async def test_an_opened_image_is_one_save_from_end_to_end(self, storage: ImageStorage) -> None:
        await save(storage, "a.bin", bytes(9 * 1024**2))
        opened = await storage.open(key("a.bin"))

        await save(storage, "a.bin", b"x" * 9 * 1024**2)

        with contextlib.closing(opened), contextlib.suppress(BackendUnavailable):
            parts = [chunk async for chunk in opened.chunks(0, opened.image.size)]
            assert b"".join(parts) == bytes(9 * 1024**2)

    async def test_what_is_missing_is_not_opened(self, storage: ImageStorage) -> None:
        with pytest.raises(ImageNotFound):
            await storage.open(key("a.bin"))

    @pytest.mark.parametrize("size", [1, 65_537, 1024**2, 3 * 1024**2 + 1])
    async def test_what_was_saved_is_read_back_byte_for_byte(
        self, storage: ImageStorage, size: int
    ) -> None:
        data = random.Random(size).randbytes(size)

        await storage.save(key("a/b.bin"), Chunks(data[: size // 3], data[size // 3 :]))

        assert await read(storage, "a/b.bin") == data

    async def test_a_save_answers_the_facts_that_stat_answers_later(
        self, storage: ImageStorage
    ) -> None:
        saved = await storage.save(key("cat.png"), BytesSource(PNG))

        found = await storage.stat(key("cat.png"))
        assert (found.size, found.etag, found.content_type, found.save_id) == (
            len(PNG),
            saved.etag,
            "image/png",
            saved.save_id,
        )
        assert found.sha256 == saved.sha256 == hashlib.sha256(PNG).digest()
        assert found.etag.startswith('"')
        assert found.etag.endswith('"')

    @pytest.mark.parametrize(
        ("path", "data", "content_type"),
        [
            ("wrong-suffix.txt", PNG, "image/png"),
            ("drawing.png", SVG, "image/svg+xml"),
            ("page.png", b"<!DOCTYPE html><script>1</script>", "text/html"),
            ("readme.webp", b"# README", "application/octet-stream"),
            ("film.mp4", b"no film", "application/octet-stream"),
            ("film.png", b"\x00\x00\x00\x20ftypisom", "video/mp4"),
            ("no-suffix", b"text", "application/octet-stream"),
        ],
    )
    async def test_the_content_alone_decides_the_type(
        self, storage: ImageStorage, path: str, data: bytes, content_type: str
    ) -> None:
        await save(storage, path, data)

        assert (await storage.stat(key(path))).content_type == content_type

    @pytest.mark.parametrize("chunks", [(), (b"",)], ids=["no chunk", "an empty one"])
    async def test_an_empty_file_is_refused_and_the_old_image_stays(
        self, storage: ImageStorage, chunks: tuple[bytes, ...]
    ) -> None:
        await save(storage, "a.png", b"old")

        with pytest.raises(EmptyFile):
            await storage.save(key("a.png"), Chunks(*chunks))

        assert await read(storage, "a.png") == b"old"

    @pytest.mark.parametrize("name", UNUSUAL_NAMES)
    async def test_an_unusual_name_is_kept_exactly(self, storage: ImageStorage, name: str) -> None:
        await save(storage, name, name.encode())

        assert await read(storage, name) == name.encode()
        assert entries(await storage.list(ListQuery(everything()))) == [name]
        await storage.delete(key(name))
        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_a_save_replaces_the_image_and_changes_its_etag(
        self, storage: ImageStorage
    ) -> None:
        first = await save(storage, "a.png", b"old")

        second = await save(storage, "a.png", b"new")

        assert first != second
        assert await read(storage, "a.png") == b"new"

    async def test_what_was_replaced_or_deleted_is_not_current(self, storage: ImageStorage) -> None:
        path = key("a.png")
        seen: list[StoredImage] = []
        into = memoryview(bytearray(3))
        for data in (b"old", b"new", b"new"):
            await storage.save(path, BytesSource(data))
            assert not any(storage.is_current(image) for image in seen)
            assert not any(storage.read_now(image, 0, into) for image in seen)
            assert not storage.is_missing(path)
            seen.append(await storage.stat(path))

        await storage.delete(path)
        assert not any(storage.is_current(image) for image in seen)
        assert not any(storage.read_now(image, 0, into) for image in seen)

    async def test_the_same_bytes_saved_again_are_another_save(self, storage: ImageStorage) -> None:
        first = await storage.save(key("a.png"), BytesSource(PNG))
        second = await storage.save(key("a.png"), BytesSource(PNG))

        assert first.save_id != second.save_id

    async def test_an_interrupted_save_leaves_the_old_image(self, storage: ImageStorage) -> None:
        await save(storage, "a.png", b"old")

        with pytest.raises(ConnectionError):
            await storage.save(key("a.png"), Chunks(b"ne", breaks=ConnectionError()))

        assert await read(storage, "a.png") == b"old"

    @pytest.mark.parametrize("size", [10, 20 * 1024**2])
    async def test_an_interrupted_first_save_leaves_nothing(
        self, storage: ImageStorage, size: int
    ) -> None:
        source = Chunks(*[bytes(1024**2)] * (size // 1024**2), b"x", breaks=ConnectionError())
        with pytest.raises(ConnectionError):
            await storage.save(key("a/b.png"), source)

        with pytest.raises(ImageNotFound):
            await storage.stat(key("a/b.png"))
        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_a_cancelled_save_leaves_nothing(self, storage: ImageStorage) -> None:
        waiting = asyncio.Event()

        class Stalls(Chunks):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                yield bytes(2 * 1024**2)
                waiting.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(storage.save(key("a.png"), Stalls()))
        await waiting.wait()
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_more_than_allowed_is_refused_and_leaves_nothing(
        self, storage: ImageStorage
    ) -> None:
        piece = bytes(8 * 1024**2)
        source = Chunks(*[piece] * 100)

        with pytest.raises(TooLarge):
            await storage.save(key("big.bin"), source)

        assert source.asked == 9, "refused with the first chunk over 64 MiB, not at the end"
        assert entries(await storage.list(ListQuery(everything()))) == []

    @pytest.mark.parametrize("size", [100, 20 * 1024**2])
    async def test_a_digest_that_does_not_match_is_refused_and_leaves_nothing(
        self, storage: ImageStorage, size: int
    ) -> None:
        with pytest.raises(DigestMismatch):
            await storage.save(key("a.png"), Chunks(bytes(size), expected_sha256=bytes(32)))

        assert entries(await storage.list(ListQuery(everything()))) == []

    @pytest.mark.parametrize("size", [2, 20 * 1024**2])
    async def test_a_document_of_our_own_has_its_type_and_is_made_once(
        self, storage: ImageStorage, size: int
    ) -> None:
        where, create = manifest_key("a"), Condition(if_none_match=ANY)

        saved = await storage.save(where, document(b"{}" + bytes(size - 2)), create)
        with pytest.raises(PreconditionFailed):
            await storage.save(where, document(b"[]"), create)

        found = await storage.stat(where)
        assert (found.content_type, found.size) == ("application/json", size)
        assert found.save_id == saved.save_id

    async def test_a_document_has_bounds_of_its_own_and_one_that_breaks_off_is_not_there(
        self, storage: ImageStorage
    ) -> None:
        with pytest.raises(TooLarge):
            await storage.save(manifest_key("a"), document(bytes(100), max_bytes=99))
        with pytest.raises(ConnectionError):
            await storage.save(
                manifest_key("a"), document(b"{}", breaks=ConnectionError("the source ends"))
            )

        with pytest.raises(ImageNotFound):
            await storage.stat(manifest_key("a"))

    async def test_a_digest_that_matches_is_accepted(self, storage: ImageStorage) -> None:
        digest = hashlib.sha256(PNG).digest()

        saved = await storage.save(key("a.png"), Chunks(PNG, expected_sha256=digest))

        assert saved.sha256 == digest

    # Conditions

    async def test_a_create_only_save_makes_an_image_once(self, storage: ImageStorage) -> None:
        create = Condition(if_none_match=ANY)
        await storage.save(key("a.png"), BytesSource(b"first"), create)
        source = Chunks(b"second")

        with pytest.raises(PreconditionFailed):
            await storage.save(key("a.png"), source, create)

        assert await read(storage, "a.png") == b"first"

    async def test_of_many_create_only_saves_one_wins(self, storage: ImageStorage) -> None:
        async def attempt(number: int) -> int | None:
            try:
                await storage.save(
                    key("race.png"), BytesSource(b"%d" % number), Condition(if_none_match=ANY)
                )
            except PreconditionFailed:
                return None
            return number

        outcomes = await asyncio.gather(*(attempt(number) for number in range(8)))

        (winner,) = [outcome for outcome in outcomes if outcome is not None]
        assert await read(storage, "race.png") == b"%d" % winner

    async def test_a_guarded_replacement_needs_the_etag_that_is_there(
        self, storage: ImageStorage
    ) -> None:
        etag = await save(storage, "a.png", b"one")

        saved = await storage.save(
            key("a.png"), BytesSource(b"two"), Condition(if_match=frozenset([etag]))
        )

        with pytest.raises(PreconditionFailed):
            await storage.save(
                key("a.png"), BytesSource(b"three"), Condition(if_match=frozenset([etag]))
            )
        assert (await storage.stat(key("a.png"))).etag == saved.etag
        assert await read(storage, "a.png") == b"two"

    async def test_of_many_guarded_replacements_one_wins(self, storage: ImageStorage) -> None:
        etag = await save(storage, "race.png", b"start")

        async def attempt(number: int) -> bool:
            try:
                await storage.save(
                    key("race.png"),
                    BytesSource(b"%d" % number),
                    Condition(if_match=frozenset([etag])),
                )
            except PreconditionFailed:
                return False
            return True

        assert sum(await asyncio.gather(*(attempt(number) for number in range(8)))) == 1

    async def test_a_guarded_replacement_of_nothing_is_refused(self, storage: ImageStorage) -> None:
        for if_match in (ANY, frozenset(['"some"'])):
            with pytest.raises(PreconditionFailed):
                await storage.save(key("a.png"), BytesSource(PNG), Condition(if_match=if_match))

        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_if_none_match_with_tags_refuses_only_those(self, storage: ImageStorage) -> None:
        etag = await save(storage, "a.png", b"one")

        with pytest.raises(PreconditionFailed):
            await storage.save(
                key("a.png"), BytesSource(b"two"), Condition(if_none_match=frozenset([etag]))
            )
        await storage.save(
            key("a.png"), BytesSource(b"three"), Condition(if_none_match=frozenset(['"other"']))
        )

        assert await read(storage, "a.png") == b"three"

    # Copying

    @pytest.mark.parametrize("size", [0, 1, 3 * 1024**2 + 1])
    async def test_a_copy_is_the_same_image_and_another_save(
        self, storage: ImageStorage, size: int
    ) -> None:
        data = PNG[:size] + random.Random(size).randbytes(max(0, size - len(PNG)))
        original = await storage.save(key("a/b c.png"), source_of(data))

        copied = await storage.copy(key("a/b c.png"), key("d/é+f.png"))

        found = await storage.stat(key("d/é+f.png"))
        assert await read(storage, "d/é+f.png") == await read(storage, "a/b c.png") == data
        assert copied.key == key("d/é+f.png")
        assert (copied.size, copied.sha256) == (original.size, original.sha256)
        assert copied.content_type == original.content_type
        assert (found.etag, found.save_id) == (copied.etag, copied.save_id)
        assert (found.sha256, found.content_type) == (copied.sha256, copied.content_type)
        assert copied.save_id != original.save_id

    async def test_a_copy_and_its_original_go_their_own_ways(self, storage: ImageStorage) -> None:
        await save(storage, "a.png", b"old")
        await storage.copy(key("a.png"), key("b.png"))

        await save(storage, "a.png", b"new")
        assert await read(storage, "b.png") == b"old"
        await storage.delete(key("a.png"))
        assert await read(storage, "b.png") == b"old"

    async def test_a_copy_replaces_what_is_there(self, storage: ImageStorage) -> None:
        await save(storage, "a.png", b"one")
        await save(storage, "b.png", b"two")

        await storage.copy(key("a.png"), key("b.png"))

        assert await read(storage, "b.png") == b"one"

    async def test_a_copy_of_another_save_is_refused_and_changes_nothing(
        self, storage: ImageStorage
    ) -> None:
        first = await storage.save(key("a.png"), BytesSource(b"one"))
        await save(storage, "b.png", b"two")
        copied = await storage.copy(key("a.png"), key("c.png"), save_id=first.save_id)
        assert copied.sha256 == first.sha256
        await save(storage, "a.png", b"one")

        with pytest.raises(PreconditionFailed):
            await storage.copy(key("a.png"), key("b.png"), save_id=first.save_id)

        assert await read(storage, "b.png") == b"two"

    async def test_a_copy_of_nothing_is_refused_and_changes_nothing(
        self, storage: ImageStorage
    ) -> None:
        await save(storage, "b.png", b"two")

        with pytest.raises(ImageNotFound):
            await storage.copy(key("missing.png"), key("b.png"))

        assert await read(storage, "b.png") == b"two"


class DeletingContract:
    """Deleting, and what is not there."""

    async def test_a_deleted_image_is_gone(self, storage: ImageStorage) -> None:
        await save(storage, "a/b.png")

        await storage.delete(key("a/b.png"))

        with pytest.raises(ImageNotFound):
            await storage.stat(key("a/b.png"))
        with pytest.raises(ImageNotFound):
            await storage.locate(key("a/b.png"))

    async def test_deleting_what_is_not_there_says_so(self, storage: ImageStorage) -> None:
        await save(storage, "folder/b.png")

        for path in ("missing.png", "folder", "folder/b.png/below", "no/such/folder.png"):
            with pytest.raises(ImageNotFound):
                await storage.delete(key(path))

        assert entries(await storage.list(ListQuery(everything()))) == ["folder/b.png"]

    async def test_a_guarded_deletion_needs_the_etag_that_is_there(
        self, storage: ImageStorage
    ) -> None:
        etag = await save(storage, "a.png", b"one")

        with pytest.raises(PreconditionFailed):
            await storage.delete(key("a.png"), Condition(if_match=frozenset(['"other"'])))
        await storage.delete(key("a.png"), Condition(if_match=frozenset([etag])))

        assert entries(await storage.list(ListQuery(everything()))) == []

    async def test_a_deletion_of_one_very_save_spares_every_other(
        self, storage: ImageStorage
    ) -> None:
        first = await storage.save(key("a.png"), BytesSource(b"one"))
        second = await storage.save(key("a.png"), BytesSource(b"one"))

        with pytest.raises(PreconditionFailed):
            await storage.delete(key("a.png"), save_id=first.save_id)
        assert await read(storage, "a.png") == b"one"
        await storage.delete(key("a.png"), save_id=second.save_id)

        for save_id in (first.save_id, second.save_id):
            with pytest.raises(ImageNotFound):
                await storage.delete(key("a.png"), save_id=save_id)

    async def test_what_is_not_there_is_not_found(self, storage: ImageStorage) -> None:
        await save(storage, "folder/b.png")

        for path in ("missing.png", "folder", "folder/b.png/below", "no/such/folder.png"):
            with pytest.raises(ImageNotFound):
                await storage.locate(key(path))
            with pytest.raises(ImageNotFound):
                await storage.stat(key(path))


class ListingContract:
    """Listing, names alone and with facts."""

    order: ClassVar[Callable[[Iterable[str]], list[str]]] = sorted
    """How the service orders whole keys. The contract is byte order; see a subclass for why not."""

    KEYS = ("a!", "a-b", "a.txt", "a/b", "a/c/d", "a0", "ab", "z/1", "z/2", "é/x", "\uffee", "😀/y")

    async def _fill(self, storage: ImageStorage, paths: Iterable[str] = KEYS) -> list[str]:
        for path in paths:
            await save(storage, path, b"x")
        return type(self).order(paths)

    async def test_a_listing_is_in_the_order_of_whole_keys(self, storage: ImageStorage) -> None:
        expected = await self._fill(storage)

        page = await storage.list(ListQuery(everything(), limit=100))

        assert entries(page) == expected
        assert not page.more

    @pytest.mark.parametrize("limit", [1, 2, 5, 11, 12, 13])
    async def test_pages_show_every_image_once(self, storage: ImageStorage, limit: int) -> None:
        expected = await self._fill(storage)

        seen: list[str] = []
        more = True
        after = ""
        while more:
            page = await storage.list(ListQuery(everything(), after=after, limit=limit))
            seen += entries(page)
            more, after = page.more, page.entries[-1] if page.entries else ""
            assert len(page.entries) == limit or not more

        assert seen == expected

    @pytest.mark.parametrize("prefix", ["a", "a/", "a/c", "z/1", "é", "nothing", "a/b/c", "\uffee"])
    async def test_a_prefix_is_literal_text(self, storage: ImageStorage, prefix: str) -> None:
        expected = await self._fill(storage)

        page = await storage.list(ListQuery(everything(prefix)))

        assert entries(page) == [path for path in expected if path.startswith(prefix)]

    async def test_a_folded_listing_shows_one_level(self, storage: ImageStorage) -> None:
        await self._fill(storage)

        top = await storage.list(ListQuery(everything(), delimited=True))
        below = await storage.list(ListQuery(everything("a/"), delimited=True))

        expected = ["a!", "a-b", "a.txt", "a/", "a0", "ab", "z/", "é/", "\uffee", "😀/"]
        assert sorted(entries(top)) == sorted(expected)
        assert entries(below) == ["a/b", "a/c/"]

    @pytest.mark.parametrize("limit", [1, 3])
    async def test_a_folded_listing_pages_past_its_folders(
        self, storage: ImageStorage, limit: int
    ) -> None:
        await self._fill(storage)
        whole = entries(await storage.list(ListQuery(everything(), delimited=True)))

        seen: list[str] = []
        page = await storage.list(ListQuery(everything(), limit=limit, delimited=True))
        seen += entries(page)
        while page.more:
            after = page.entries[-1]
            page = await storage.list(
                ListQuery(everything(), after=after, limit=limit, delimited=True)
            )
            seen += entries(page)

        assert seen == whole

    async def test_a_page_shows_what_was_saved_and_deleted_before_it_was_asked_for(
        self, storage: ImageStorage
    ) -> None:
        expected = set(await self._fill(storage))
        for path in ("a0.png", "new/b.png", "new/c.png", "a.png"):
            for change in ("save", "delete", "save"):
                if change == "save":
                    await save(storage, path)
                    expected.add(path)
                else:
                    await storage.delete(key(path))
                    expected.discard(path)

                page = await storage.list(ListQuery(everything()))

                assert entries(page) == type(self).order(expected)

    async def test_an_empty_store_lists_nothing(self, storage: ImageStorage) -> None:
        assert await storage.list(ListQuery(everything())) == Page([])

    # Manifests of runs

    @pytest.mark.parametrize("delimited", [False, True])
    async def test_a_manifest_is_listed_only_if_it_is_asked_for(
        self, storage: ImageStorage, *, delimited: bool
    ) -> None:
        await self._fill(storage, ["a/-b.png", "a/c.png"])
        manifest = await storage.save(manifest_key("a"), document(b"{}"))
        query = ListQuery(everything("a/"), delimited=delimited)
        asking = dataclasses.replace(query, manifests=True)

        assert entries(await storage.list(query)) == ["a/-b.png", "a/c.png"]
        page = await storage.list(asking)
        found = await storage.entries(asking)

        assert entries(page) == type(self).order(["a/-b.png", "a/.run.json", "a/c.png"])
        assert await storage.stat(manifest.key) in found.entries
        assert len((await storage.entries(query)).entries) == 2
        for after in ("a/-b.png", "a/.run.json"):
            rest = dataclasses.replace(query, after=key_text(after))
            assert entries(await storage.list(rest)) == ["a/c.png"]

    async def test_a_folder_with_nothing_but_a_manifest_is_a_folder(
        self, storage: ImageStorage
    ) -> None:
        await storage.save(manifest_key("a/b"), document(b"{}"))

        assert entries(await storage.list(ListQuery(everything()))) == []
        for prefix, folder in (("", "a/"), ("a/", "a/b/")):
            folded = await storage.list(ListQuery(everything(prefix), delimited=True))
            assert entries(folded) == [folder]
        below = await storage.list(ListQuery(everything("a/b/"), delimited=True))
        assert entries(below) == []

    # Listing with facts

    async def test_entries_are_the_listing_with_the_facts_of_stat(
        self, storage: ImageStorage
    ) -> None:
        expected = await self._fill(storage)
        await save(storage, "a-b", PNG)
        await save(storage, "ab", SVG)

        page = await storage.entries(ListQuery(everything(), limit=100))

        assert [shown(entry) for entry in page.entries] == expected
        assert list(page.entries) == [await storage.stat(key(path)) for path in expected]
        facts = {shown(entry): entry for entry in page.entries if isinstance(entry, StoredImage)}
        assert (facts["a-b"].size, facts["a-b"].content_type) == (len(PNG), "image/png")
        assert facts["a-b"].sha256 == hashlib.sha256(PNG).digest()
        assert facts["ab"].content_type == "image/svg+xml"
        assert page.next_after is None

    @pytest.mark.parametrize(("prefix", "delimited"), [("", False), ("", True), ("a/", True)])
    @pytest.mark.parametrize("limit", [1, 2, 5, 100])
    async def test_pages_of_entries_are_the_pages_of_the_listing(
        self, storage: ImageStorage, prefix: str, limit: int, *, delimited: bool
    ) -> None:
        await self._fill(storage)
        after: str | None = ""
        while after is not None:
            query = ListQuery(everything(prefix), after=after, limit=limit, delimited=delimited)
            names = await storage.list(query)

            page = await storage.entries(query)

            assert [entry_text(entry) for entry in page.entries] == names.entries
            for entry in page.entries:
                assert isinstance(entry, KeyPrefix) == entry_text(entry).endswith("/")
            after = page.next_after
            assert after == (names.entries[-1] if names.more else None)

    @pytest.mark.parametrize("name", UNUSUAL_NAMES)
    async def test_an_entry_of_an_unusual_name_has_its_facts(
        self, storage: ImageStorage, name: str
    ) -> None:
        saved = await storage.save(key(name), BytesSource(name.encode()))

        (entry,) = (await storage.entries(ListQuery(everything()))).entries

        assert isinstance(entry, StoredImage)
        assert (entry.key, entry.size, entry.etag) == (key(name), len(name.encode()), saved.etag)

    async def test_images_deleted_or_replaced_meanwhile_spoil_no_page(
        self, storage: ImageStorage
    ) -> None:
        paths = await self._fill(storage, [f"{number:02}.png" for number in range(40)])

        async def change(number: int, path: str) -> None:
            if number % 2:
                await storage.delete(key(path))
            else:
                await save(storage, path, b"replaced")

        changes = asyncio.gather(*(change(number, path) for number, path in enumerate(paths)))
        found = await asyncio.gather(*(storage.entries(ListQuery(everything())) for _ in range(4)))
        await changes

        for page in found:
            seen = [entry for entry in page.entries if isinstance(entry, StoredImage)]
            assert {shown(entry) for entry in seen} >= set(paths[::2])
            for entry in seen:
                data = b"x" if entry.size == 1 else b"replaced"
                assert (entry.size, entry.sha256) == (len(data), hashlib.sha256(data).digest())
        last = await storage.entries(ListQuery(everything()))
        assert [shown(entry) for entry in last.entries] == paths[::2]

    async def test_an_empty_store_has_no_entries(self, storage: ImageStorage) -> None:
        assert await storage.entries(ListQuery(everything())) == EntryPage([])


class StorageContract(SavingContract, DeletingContract, ListingContract):
    """Subclass this and provide a `storage` fixture, opened with `RULES`."""

    async def test_a_sound_store_passes_its_check(self, storage: ImageStorage) -> None:
        await storage.check()
