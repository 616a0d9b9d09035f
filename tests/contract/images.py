"""Images and documents that tests save, and how a storage of any backend is asked for them."""

import asyncio
import hashlib
from collections.abc import AsyncIterator

import httpx

from services.trust import TRUST
from stillroom.paths import ImagePath, ImagePrefix, KeyPrefix, StorageKey, image_entry
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource, DescribedSource, ImageSource
from stillroom.store.values import ANY, Condition, Page, RemoteImage, SaveRules, StoredImage

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>'

RULES = SaveRules(max_bytes=64 * 1024**2)
"""What the storages under test are opened with."""

ALWAYS = Condition()
CREATE = Condition(if_none_match=ANY)

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


def manifest_key(folder: str) -> StorageKey:
    return StorageKey.of_reserved(ImagePath.parse(folder), ".run.json")


def document(
    data: bytes, *, max_bytes: int = 64 * 1024**2, breaks: BaseException | None = None
) -> DescribedSource:
    """What is no upload, and no image."""
    chunks = aiter(Chunks(data, breaks=breaks))
    rules = SaveRules(max_bytes)
    return DescribedSource(chunks, None, content_type="application/json", rules=rules)


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
        async with httpx.AsyncClient(verify=TRUST) as client:
            answer = await client.get(location.url)
        assert answer.status_code == 200, answer.text
        return answer.content
    try:
        size = location.image.size
        return b"".join([chunk async for chunk in location.chunks(0, size)])
    finally:
        location.close()


async def save(
    storage: ImageStorage, path: str, data: bytes = PNG, condition: Condition = ALWAYS
) -> str:
    return (await storage.save(key(path), BytesSource(data), condition)).etag


def only_if(*etags: str) -> Condition:
    return Condition(if_match=frozenset(etags))


def source_of(data: bytes) -> ImageSource:
    """An upload; where that would be empty, an image that another store has had for long."""
    if data:
        return BytesSource(data)
    there = StoredImage(key("a"), 0, '"1"', 1, "application/octet-stream", None, "1")
    return DescribedSource.of_image(there, hashlib.sha256(b"").digest(), aiter(Chunks()))


def entries(page: Page) -> list[str]:
    return [image_entry(entry) for entry in page.entries]
