"""The promises of saving, and of reading what was saved."""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import AsyncIterator

import pytest

from contract.images import (
    CREATE,
    PNG,
    SVG,
    UNUSUAL_NAMES,
    Chunks,
    document,
    entries,
    everything,
    key,
    manifest_key,
    read,
    save,
    source_of,
)
from stillroom.errors import (
    BackendUnavailable,
    DigestMismatch,
    EmptyFile,
    ImageNotFound,
    PreconditionFailed,
    TooLarge,
)
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ListQuery


class SavingContract:
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
        assert (found.size, found.content_type) == (len(PNG), "image/png")
        assert (found.etag, found.save_id) == (saved.etag, saved.save_id)
        assert found.sha256 == saved.sha256 == hashlib.sha256(PNG).digest()
        assert (found.etag[0], found.etag[-1]) == ('"', '"')

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
        source = Chunks(*[bytes(8 * 1024**2)] * 100)

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
        where = manifest_key("a")

        saved = await storage.save(where, document(b"{}" + bytes(size - 2)), CREATE)
        with pytest.raises(PreconditionFailed):
            await storage.save(where, document(b"[]"), CREATE)

        found = await storage.stat(where)
        assert (found.content_type, found.size) == ("application/json", size)
        assert found.save_id == saved.save_id

    async def test_a_document_has_bounds_of_its_own_and_one_that_breaks_off_is_not_there(
        self, storage: ImageStorage
    ) -> None:
        with pytest.raises(TooLarge):
            await storage.save(manifest_key("a"), document(bytes(100), max_bytes=99))
        with pytest.raises(ConnectionError):
            await storage.save(manifest_key("a"), document(b"{}", breaks=ConnectionError()))

        with pytest.raises(ImageNotFound):
            await storage.stat(manifest_key("a"))

    async def test_a_digest_that_matches_is_accepted(self, storage: ImageStorage) -> None:
        digest = hashlib.sha256(PNG).digest()

        saved = await storage.save(key("a.png"), Chunks(PNG, expected_sha256=digest))

        assert saved.sha256 == digest
