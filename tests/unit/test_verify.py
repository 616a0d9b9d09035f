"""What a verification makes of what a store gives it."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from contract.images import everything, key
from stillroom.errors import BackendUnavailable, ImageNotFound
from stillroom.maintenance.inspection import disk as disk_inspection
from stillroom.maintenance.inspection.choose import open_inspection
from stillroom.maintenance.inspection.port import Inspected, Inspection, UnexpectedFile
from stillroom.maintenance.rate_limiter import RateLimiter
from stillroom.maintenance.verify import (
    FindingKind,
    Verification,
    VerificationFinding,
    VerificationProgress,
)
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store.choose import DiskConfig, open_storage
from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.sources import BytesSource
from stillroom.store.values import SaveRules, StoredImage

RULES = SaveRules(max_bytes=1024**2)


class Broken:
    """A medium that fails for some images, or for all."""

    description = "broken"
    at_once = 3
    trash_prefix = "trash/"

    def __init__(self, store: Inspection, bad: frozenset[str], *, gone: bool = False) -> None:
        self._store = store
        self._bad = bad
        self._gone = gone

    def walk(self, prefix: KeyPrefix, after: str) -> AsyncIterator[StorageKey | UnexpectedFile]:
        return self._store.walk(prefix, after)

    async def open(self, key: StorageKey) -> Inspected:
        if key.text in self._bad:
            raise BackendUnavailable("cannot open the image on the disk: Input/output error")
        return await self._store.open(key)

    async def stat(self, key: StorageKey) -> StoredImage:
        return await self._store.stat(key)

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        return await self._store.quarantine(image, facts)

    async def check(self) -> None:
        if self._gone:
            raise BackendUnavailable("the disk is gone")

    async def close(self) -> None:
        await self._store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Inspection]:
    config = DiskConfig(tmp_path, min_free_bytes=0, durable=False)
    storage = open_storage(config, RULES)
    for name in ("a-b.png", "a/b.png", "b.png", "c.png"):
        await storage.save(key(name), BytesSource(name.encode()))
    await storage.close()
    inspection = open_inspection(config)
    yield inspection
    await inspection.close()


async def found_in(store: Inspection) -> list[VerificationFinding]:
    progress = VerificationProgress()
    await Verification(store, [everything()], progress=progress, rate_limit=RateLimiter(None)).run()
    return progress.findings


async def test_what_was_found_before_it_was_stopped_is_not_found_twice(
    store: Inspection, tmp_path: Path
) -> None:
    (tmp_path / "compute/link.png").symlink_to("/etc/passwd")
    known = VerificationFinding(FindingKind.STRAY, "compute/link.png", "a link or a device")
    progress = VerificationProgress(
        "compute/b.png", counts={FindingKind.STRAY: 1}, findings=[known]
    )
    told: list[VerificationFinding] = []

    await Verification(
        store,
        [everything()],
        progress=progress,
        rate_limit=RateLimiter(None),
        on_finding=told.append,
    ).run()

    assert (progress.images, progress.counts, told) == (1, {FindingKind.STRAY: 1}, [])


async def test_an_image_without_a_hash_is_unknown(store: Inspection, tmp_path: Path) -> None:
    (tmp_path / "compute/d.png").write_bytes(b"other")

    assert [one.kind for one in await found_in(store)] == [FindingKind.UNKNOWN]


async def test_one_image_that_cannot_be_read_is_told_and_the_others_are_read(
    store: Inspection,
) -> None:
    broken = Broken(store, frozenset(("compute/b.png",)))

    (finding,) = await found_in(broken)

    assert (finding.kind, finding.name) == (FindingKind.UNREADABLE, "compute/b.png")
    assert finding.detail == "cannot open the image on the disk: Input/output error"


async def test_a_medium_that_is_gone_ends_it_at_the_first_image_that_is_not_done(
    store: Inspection,
) -> None:
    progress = VerificationProgress()
    broken = Broken(store, frozenset(("compute/b.png",)), gone=True)

    with pytest.raises(BackendUnavailable, match="gone"):
        await Verification(
            broken, [everything()], progress=progress, rate_limit=RateLimiter(None)
        ).run()

    assert (progress.after, progress.findings) == ("compute/a/b.png", [])


async def test_an_image_that_was_replaced_or_deleted_is_not_quarantined(
    store: Inspection, tmp_path: Path
) -> None:
    image = await store.stat(key("b.png"))
    (tmp_path / "compute/b.png").write_bytes(b"written in place")
    assert await store.quarantine(image, b"{}") is None
    (tmp_path / "compute/b.png").unlink()
    assert await store.quarantine(image, b"{}") is None

    assert not any((tmp_path / ".stillroom/quarantine").iterdir())
    with pytest.raises(ImageNotFound):
        await store.stat(key("b.png"))


@contextlib.contextmanager
def lock_held(data: Path) -> Iterator[None]:
    """So that nobody who opens the directory is alone, and clears staging."""
    data_directory = DataDirectory(data)
    try:
        yield
    finally:
        data_directory.close()


async def test_what_a_dead_process_left_in_staging_is_astray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lock_held(tmp_path):
        staging = tmp_path / ".stillroom/staging"
        (staging / "4194999-dead").touch()
        (staging / f"{os.getpid()}-alive").touch()
        store = open_inspection(DiskConfig(tmp_path))

        assert await found_in(store) == [], "young: it may be somebody's in another container"
        monkeypatch.setattr(disk_inspection, "_STAGED_FOR_S", -1)
        assert [one.name for one in await found_in(store)] == [".stillroom/staging/4194999-dead"]
        await store.close()


def test_findings_beyond_ten_thousand_are_counted_and_unknown_hashes_hide_none() -> None:
    progress = VerificationProgress()
    for number in range(10_500):
        progress.note(VerificationFinding(FindingKind.UNKNOWN, str(number), ""))
    assert (progress.problems, len(progress.findings)) == (0, 1000)

    for number in range(10_500):
        progress.note(VerificationFinding(FindingKind.STRAY, str(number), ""))
    assert (progress.problems, len(progress.findings)) == (10_500, 11_000)
