"""The promises of listing."""

import asyncio
import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from typing import ClassVar

import pytest

from contract.images import (
    PNG,
    SVG,
    UNUSUAL_NAMES,
    document,
    entries,
    everything,
    key,
    manifest_key,
    save,
)
from stillroom.paths import KeyPrefix, image_entry
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import Entry, EntryPage, ListQuery, Page, StoredImage


def entry_text(entry: Entry) -> str:
    return entry.text if isinstance(entry, KeyPrefix) else entry.key.text


def shown(entry: Entry) -> str:
    return image_entry(entry_text(entry))


class ListingContract:
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

        query = ListQuery(everything(), limit=limit, delimited=True)
        page = await storage.list(query)
        seen = entries(page)
        while page.more:
            page = await storage.list(dataclasses.replace(query, after=page.entries[-1]))
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
                else:
                    await storage.delete(key(path))
                expected ^= {path}

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
        asking = dataclasses.replace(query, reserved=True)

        assert entries(await storage.list(query)) == ["a/-b.png", "a/c.png"]
        page = await storage.list(asking)
        found = await storage.entries(asking)

        assert entries(page) == type(self).order(["a/-b.png", "a/.run.json", "a/c.png"])
        assert await storage.stat(manifest.key) in found.entries
        assert len((await storage.entries(query)).entries) == 2
        for after in ("a/-b.png", "a/.run.json"):
            rest = dataclasses.replace(query, after=f"compute/{after}")
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
