"""The bytes of ZIP files, and what becomes of one whose images cannot be read."""

import io
import re
import tracemalloc
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from generation import carriers
from stillroom.errors import BackendUnavailable
from stillroom.features.archive import zip_format
from stillroom.features.archive.operation import Archives
from stillroom.features.archive.selection import ArchiveSelection
from stillroom.features.archive.zip_format import ZipWriter, safe_name
from stillroom.paths import ImagePath, StorageKey
from stillroom.store.api.routes import operation_router
from stillroom.store.auth.grants import Grant
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.sources import BytesSource
from stillroom.store.values import Page, SaveRules, StoredImage

MODIFIED_NS = 1_764_115_200_000_000_000
"""2025-11-26T00:00:00Z."""

TOLD = carriers.png({"parameters": "a red fox\nSteps: 20, Sampler: Euler, Seed: 7, Size: 64x64"})
"""An image with a prompt."""


def zipped(images: Iterable[tuple[str, bytes]]) -> bytes:
    writer, found, directory = ZipWriter(), bytearray(), bytearray()
    for name, data in images:
        found += writer.begin(name, len(data), MODIFIED_NS)
        found += writer.data(data[:2]) + writer.data(data[2:])
        tail, record = writer.end_entry()
        found += tail
        directory += record
    return bytes(found + directory + writer.end(len(directory)))


def test_names_times_and_bytes_come_back() -> None:
    given = {"a.png": b"one", "d/é\u200d 🦊.png": b"two", "empty": b""}

    with zipfile.ZipFile(io.BytesIO(zipped(given.items()))) as found:
        assert found.testzip() is None
        assert {one.filename: found.read(one) for one in found.infolist()} == given
        assert {one.date_time for one in found.infolist()} == {(2025, 11, 26, 0, 0, 0)}


def test_more_entries_than_16_bits_can_count() -> None:
    data = zipped((f"{number}", b"x") for number in range(65_537))

    with zipfile.ZipFile(io.BytesIO(data)) as found:
        assert len(found.infolist()) == 65_537
        assert found.read("65536") == b"x"


@pytest.mark.parametrize("limit", [8, 60, 200])
def test_sizes_and_places_beyond_32_bits(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small(int):
        """Compares as if 32 bits ended at `limit`; is written as they are."""

        def __le__(self, other: int) -> bool:
            return limit <= other

    monkeypatch.setattr(zip_format, "LIMIT_32", Small(0xFFFFFFFF))
    given = {f"{number}.png": bytes([number]) * 10 * number for number in range(5)}

    with zipfile.ZipFile(io.BytesIO(zipped(given.items()))) as found:
        assert found.testzip() is None
        assert {one.filename: found.read(one) for one in found.infolist()} == given
    assert b"PK\x06\x06" in zipped(given.items())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("C:/x.png", "C%3A/x.png"),
        ("C%3A/x.png", "C%253A/x.png"),
        ("a.png:b", "a.png%3Ab"),
        ('<">|?*', "%3C%22%3E%7C%3F%2A"),
        ("a./b /c..", "a%2E/b%20/c.%2E"),
        ("NUL", "%4EUL"),
        ("a/con.txt/Lpt1 .png", "a/%63on.txt/%4Cpt1 .png"),
        ("COM\u00b9", "%43OM\u00b9"),
        ("100%.png", "100%.png"),
        ("cons/nul2/console.png/a b.c", "cons/nul2/console.png/a b.c"),
    ],
)
def test_a_name_is_written_so_that_windows_can_write_it(path: str, name: str) -> None:
    assert safe_name(path) == name


@given(
    st.lists(
        st.sampled_from([*"%:.?/ aA2", "%3A", "%25", "nul", "COM1", "CONIN$", "\u00e9"]), max_size=8
    ).map("".join)
)
def test_no_two_paths_have_one_name_and_none_is_reserved(path: str) -> None:
    name = safe_name(path)

    assert unquote(name) == path
    for segment in name.split("/"):
        assert segment.partition(".")[0].rstrip(" ").upper() not in ("NUL", "COM1", "CONIN$")
        assert not re.search(r'[<>:"|?*]|[. ]$', segment)


class Storage:
    """A disk of which some images cannot be read to the end."""

    def __init__(self, disk: Any, broken: str = "", short: str = "") -> None:
        self._disk, self._broken, self._short = disk, broken, short

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    async def open(self, key: StorageKey) -> Any:
        opened = await self._disk.open(key)
        if key.text.endswith((self._broken or "-", self._short or "-")):
            return _Cut(opened, fails=key.text.endswith(self._broken or "-"))
        return opened


class _Cut:
    def __init__(self, opened: Any, *, fails: bool) -> None:
        self._opened, self._fails = opened, fails
        self.image: StoredImage = opened.image

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        async for chunk in self._opened.chunks(start, length - 1):
            yield chunk
        if self._fails:
            raise BackendUnavailable("the disk cannot read it")

    def close(self) -> None:
        self._opened.close()


Send = Callable[[Any], Awaitable[None]]


async def answered(storage: Any, send: Send, query: bytes = b"") -> None:
    """Have an application answer with an archive of all that a storage has."""
    app = FastAPI()
    archives = Archives(storage, lambda _: Grant.everything(), ArchiveSelection(storage, 10))
    app.include_router(operation_router("/storage/archive", archives, tag="Storage"))
    path = "/storage/archive"
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
        "query_string": query, "root_path": "", "headers": [], "scheme": "http",
        "http_version": "1.1", "server": None, "client": None,
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    await app(scope, receive, send)


async def archive_of(storage: Any, query: bytes) -> bytes:
    """The archive of all that a storage has."""
    received = bytearray()

    async def send(message: Any) -> None:
        received.extend(message.get("body", b""))

    await answered(storage, send, query)
    return bytes(received)


def names_in(archive: bytes) -> list[str]:
    with zipfile.ZipFile(io.BytesIO(archive)) as found:
        return found.namelist()


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["broken", "short"])
async def test_an_image_that_cannot_be_read_breaks_the_archive_off(
    tmp_path: Path, fault: str
) -> None:
    disk = open_storage(DiskConfig(tmp_path, min_free_bytes=0, durable=False), SaveRules(1024))
    for name in ("a", "b", "c"):
        await disk.save(StorageKey.of_image(ImagePath.parse(name)), BytesSource(b"bytes"))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    with pytest.raises(BackendUnavailable, match=r"cannot read it|returned 4 bytes of b"):
        await answered(Storage(disk, **{fault: "/b"}), send)

    received = b"".join(message.get("body", b"") for message in sent)
    assert b"bytes" in received
    assert all(message.get("more_body", True) for message in sent)
    assert not zipfile.is_zipfile(io.BytesIO(received))
    await disk.close()


class Endless:
    """A store of so many images, each of which is the same."""

    def __init__(self, count: int) -> None:
        self._count = count

    async def list(self, query: Any) -> Page:
        first = int(query.after[-8:] or 0) + 1 if query.after else 0
        last = min(first + query.limit, self._count)
        return Page([f"compute/{n:08}" for n in range(first, last)], more=last < self._count)

    async def open(self, key: StorageKey) -> Any:
        return _Same(key)


class _Same:
    def __init__(self, key: StorageKey) -> None:
        self.image = StoredImage(key, 5, '"e"', MODIFIED_NS, "image/png", None, "s")

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        yield b"bytes"[start : start + length]

    def close(self) -> None:
        pass


@pytest.mark.anyio
async def test_memory_does_not_grow_with_the_number_of_images() -> None:
    peaks = []
    for count in (6_000, 18_000):
        received = 0

        async def send(message: Any) -> None:
            nonlocal received
            received += len(message.get("body", b""))

        tracemalloc.start()
        await answered(Endless(count), send)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert received > count * 100

    assert peaks[1] < peaks[0] + 200_000, peaks


@pytest.mark.anyio
@pytest.mark.parametrize(
    "paths",
    [
        ["cat", "cat-1.png", "cat.png"],
        ["cat.png", "cat.webp", "cat.webp.png"],
        ["cat.png", "cat.png.png", "cat.png.txt.png"],
    ],
)
async def test_no_two_captions_have_one_name(tmp_path: Path, paths: list[str]) -> None:
    disk = open_storage(DiskConfig(tmp_path, min_free_bytes=0, durable=False), SaveRules(10_000))
    for path in paths:
        await disk.save(StorageKey.of_image(ImagePath.parse(path)), BytesSource(TOLD))

    names = names_in(await archive_of(disk, b"sidecars=captions"))

    assert len(names) == len(set(names)) == 2 * len(paths)
    await disk.close()


class Growing:
    """A store in which an image is saved while the archive is sent."""

    def __init__(self, disk: Any, path: str) -> None:
        self._disk = disk
        self._late = StorageKey.of_image(ImagePath.parse(path))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._disk, name)

    async def list(self, query: Any) -> Page:
        page: Page = await self._disk.list(query)
        if query.after:
            await self._disk.save(self._late, BytesSource(TOLD))
            return Page([self._late.text], more=False)
        return Page(page.entries, more=True)


@pytest.mark.anyio
async def test_an_image_saved_under_the_name_of_a_caption_meanwhile_is_left_out(
    tmp_path: Path,
) -> None:
    disk = open_storage(DiskConfig(tmp_path, min_free_bytes=0, durable=False), SaveRules(10_000))
    await disk.save(StorageKey.of_image(ImagePath.parse("cat.png")), BytesSource(TOLD))

    names = names_in(await archive_of(Growing(disk, "cat.txt"), b"sidecars=captions"))

    assert names == ["cat.png", "cat.txt"]
    await disk.close()
