"""The promises of copying."""

import random

import pytest

from contract.images import PNG, key, read, save, source_of
from stillroom.errors import ImageNotFound, PreconditionFailed
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource


class CopyingContract:
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
