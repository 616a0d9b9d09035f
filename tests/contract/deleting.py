"""The promises of deleting."""

import pytest

from contract.images import entries, everything, key, only_if, read, save
from stillroom.errors import ImageNotFound, PreconditionFailed
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ListQuery


class DeletingContract:
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
            await storage.delete(key("a.png"), only_if('"other"'))
        await storage.delete(key("a.png"), only_if(etag))

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
