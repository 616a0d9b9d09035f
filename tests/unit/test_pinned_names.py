"""Names by which a proxy opens one save: good for a minute at least, and gone soon after."""

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from contract.images import RULES
from stillroom.paths import ImagePath, StorageKey
from stillroom.speed.capabilities import PinsNames
from stillroom.speed.disk.pinned_names import PERIOD_S, PinnedNames
from stillroom.speed.disk.storage import FastDiskStorage
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.threads import DiskThreads
from stillroom.store.sources import BytesSource

KEY = StorageKey.of_image(ImagePath.parse("a.png"))
FOLDER = ".stillroom/sendfile"


class Clock:
    """Seconds since the epoch, as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0 * PERIOD_S

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[FastDiskStorage]:
    opened = FastDiskStorage(DataDirectory(tmp_path), RULES)
    await opened.save(KEY, BytesSource(b"first"))
    yield opened
    await opened.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def names(tmp_path: Path, clock: Clock) -> AsyncIterator[PinnedNames]:
    data_directory, threads = DataDirectory(tmp_path), DiskThreads(2)
    made = PinnedNames(data_directory, threads, now=clock)
    yield made
    threads.close()
    made.close()
    data_directory.close()


async def named(storage: FastDiskStorage, names: PinnedNames) -> str | None:
    image = await storage.locate(KEY)
    try:
        return await names.name(image)
    finally:
        image.close()


async def test_a_storage_on_a_disk_pins_names(storage: FastDiskStorage, tmp_path: Path) -> None:
    assert isinstance(storage, PinsNames)
    image = await storage.open(KEY)
    name = await storage.pinned_name(image)
    image.close()

    assert name is not None
    assert re.fullmatch(r"[0-9]+-[0-9a-f]{16}/[0-9a-f]+-[0-9a-f]+", name)
    assert storage.known_name(image.image) == name
    assert (tmp_path / FOLDER / name).read_bytes() == b"first"


async def test_another_save_has_another_name_and_the_first_keeps_its_bytes(
    storage: FastDiskStorage, names: PinnedNames, tmp_path: Path
) -> None:
    first = await named(storage, names)
    await storage.save(KEY, BytesSource(b"other"))
    other = await named(storage, names)
    await storage.delete(KEY)

    assert first is not None
    assert other is not None
    assert first != other
    assert (tmp_path / FOLDER / first).read_bytes() == b"first"
    assert (tmp_path / FOLDER / other).read_bytes() == b"other"


async def test_what_was_deleted_while_it_was_open_gets_no_name(
    storage: FastDiskStorage, names: PinnedNames
) -> None:
    image = await storage.locate(KEY)
    await storage.delete(KEY)

    assert await names.name(image) is None
    image.close()


async def test_a_name_is_good_in_its_period_and_the_next_and_then_gone(
    storage: FastDiskStorage, names: PinnedNames, tmp_path: Path, clock: Clock
) -> None:
    first = await named(storage, names)
    assert first is not None
    assert await named(storage, names) == first

    clock.now += PERIOD_S
    second = await named(storage, names)
    names.remove_ended()
    assert second is not None
    assert second != first
    assert (tmp_path / FOLDER / first).exists()

    clock.now += PERIOD_S
    names.remove_ended()
    assert not (tmp_path / FOLDER / first).exists()
    assert (tmp_path / FOLDER / second).exists()


async def test_what_another_process_has_left_goes_too(
    storage: FastDiskStorage, names: PinnedNames, tmp_path: Path
) -> None:
    name = await named(storage, names)
    for left in ("1-crashed", "99999999999-of-another-clock", "odd"):
        (tmp_path / FOLDER / left).mkdir()
        os.link(tmp_path / KEY.text, tmp_path / FOLDER / left / "a")

    names.remove_ended()

    assert name is not None
    assert os.listdir(tmp_path / FOLDER) == [name.partition("/")[0]]
    assert (tmp_path / KEY.text).read_bytes() == b"first"
