"""An observer learns of each change on every backend, and of nothing that did not happen."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from contract.images import RULES, key
from stillroom.errors import DigestMismatch, PreconditionFailed
from stillroom.paths import StorageKey
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.causes import Cause
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.port import ImageStorage
from stillroom.store.sources import BytesSource
from stillroom.store.values import ANY, Condition, StoredImage

if TYPE_CHECKING:
    from services.seaweedfs import SeaweedFS

DATA = bytes(range(256)) * 5000  # several chunks of a disk


@dataclass
class Watcher:
    observer: "Observer"
    chunks: list[bytes] = field(default_factory=list)

    def passed(self, chunk: bytes) -> None:
        self.chunks.append(bytes(chunk))

    def saved(self, image: StoredImage) -> None:
        self.observer.seen.append(("saved", image.key.text, b"".join(self.chunks)))


@dataclass
class Observer:
    seen: list[object] = field(default_factory=list)

    def saving(self, _: StorageKey, __: Cause) -> Watcher:
        return Watcher(self)

    def copied(self, image: StoredImage, source: StoredImage, _: Cause) -> None:
        self.seen.append(("copied", image.key.text, source.key.text))

    def removed(self, key: StorageKey, _: int, __: Cause) -> None:
        self.seen.append(("removed", key.text))


@pytest.fixture
def observer() -> Observer:
    return Observer()


@pytest.fixture(params=["disk", "fast disk", "bucket"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, observer: Observer
) -> AsyncIterator[ImageStorage]:
    if request.param == "bucket":
        seaweed: SeaweedFS = request.getfixturevalue("seaweed")
        request.getfixturevalue("operator")  # it has the bucket made
        opened = open_storage(seaweed.config, RULES, changes=observer)
    else:
        disk = FastDiskStorage if request.param == "fast disk" else DiskImageStorage
        config = DiskConfig(tmp_path, min_free_bytes=0)
        opened = open_storage(config, RULES, changes=observer, disk=disk)
    yield opened
    await opened.close()
    if request.param == "bucket":
        seaweed.empty()


async def test_a_watcher_gets_all_bytes_and_then_the_image(
    storage: ImageStorage, observer: Observer
) -> None:
    await storage.save(key("a.png"), BytesSource(DATA))

    assert observer.seen == [("saved", "compute/a.png", DATA)]


async def test_copies_and_deletions_are_reported(storage: ImageStorage, observer: Observer) -> None:
    await storage.save(key("a.png"), BytesSource(b"a"))
    observer.seen.clear()

    await storage.copy(key("a.png"), key("b.png"))
    await storage.delete(key("a.png"))

    assert observer.seen == [
        ("copied", "compute/b.png", "compute/a.png"),
        ("removed", "compute/a.png"),
    ]


async def test_what_is_refused_is_not_reported(storage: ImageStorage, observer: Observer) -> None:
    await storage.save(key("a.png"), BytesSource(b"a"))
    observer.seen.clear()

    with pytest.raises(DigestMismatch):
        await storage.save(key("b.png"), BytesSource(b"b", expected_sha256=bytes(32)))
    with pytest.raises(PreconditionFailed):
        await storage.save(key("a.png"), BytesSource(b"b"), Condition(if_none_match=ANY))
    with pytest.raises(PreconditionFailed):
        await storage.delete(key("a.png"), Condition(if_match=frozenset(['"other"'])))

    assert observer.seen == []
