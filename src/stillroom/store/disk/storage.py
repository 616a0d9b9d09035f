"""`DiskImageStorage`: the storage port implemented with files on a local disk."""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from stillroom.errors import ImageNotFound, PreconditionFailed, StorageFull
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.store import causes
from stillroom.store.capabilities import UNWATCHED, ChangeObserver
from stillroom.store.disk.data_directory import DataDirectory, take, translate_os_errors
from stillroom.store.disk.folder_walks import changed_folders, remove_empty_folders
from stillroom.store.disk.image import DiskImage, describe, describe_file, error_of_open, save_id_of
from stillroom.store.disk.listing import NO_CACHE, list_page
from stillroom.store.disk.openat2 import release
from stillroom.store.disk.publisher import Publisher
from stillroom.store.disk.staging import Batch, Staged
from stillroom.store.disk.threads import DiskThreads
from stillroom.store.disk.uploads import DiskUploads
from stillroom.store.sources import ImageSource
from stillroom.store.upload_checks import UploadChecks
from stillroom.store.values import (
    UNCONDITIONAL,
    Condition,
    Entry,
    EntryPage,
    ListQuery,
    Page,
    SaveRules,
    StoredImage,
)

_THREADS: Final = 16  # enough where a flush is fast; more would only compete for the processor
_SLOW_DISK_THREADS: Final = 64  # most of them wait for a flush that the kernel makes for all
_DESCRIBED_AT_ONCE: Final = 256  # files that one job of a listing opens, in a few milliseconds
_WALKED_AT_ONCE: Final = 1000  # folders that one job visits, in about ten milliseconds

# Opening a FIFO must not block; a terminal must not become the controlling terminal.
READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY


class DiskImageStorage:
    """`ImageStorage` on a local filesystem.

    Images are opened on the event loop, in a few microseconds; a thread switch takes fifty. Threads
    write, flush, wait for locks and read folders (docs/adr/0002).
    """

    def __init__(
        self,
        data_directory: DataDirectory,
        rules: SaveRules,
        *,
        min_free_bytes: int = 0,
        changes: ChangeObserver = UNWATCHED,
    ) -> None:
        """Refuse saves that violate `rules`, or that leave less than `min_free_bytes` free."""
        self.description = f"DiskImageStorage at {data_directory.description}"
        self._data_directory = data_directory
        self._rules = rules
        self._min_free_bytes = min_free_bytes
        self._changes = changes
        self._publisher = Publisher(data_directory)
        self._folder_names = NO_CACHE  # a subclass may cache what is read from folders and files
        self._describe_file = describe_file
        slow = data_directory.has_slow_flushes
        self._threads = DiskThreads(_SLOW_DISK_THREADS if slow else _THREADS)
        self.uploads = DiskUploads(
            data_directory, self._publisher, self._threads, changes, self.locate_now
        )
        self._closing = threading.Event()  # stops the removal of empty folders

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Write a temporary file, flush it, link it to its path and flush the folder (ADR 0003)."""
        self._admit(key, source.max_bytes, condition)
        checks = UploadChecks(self._rules, source)
        pending = _PendingSave(key, source, condition, checks)
        staged: Staged | None = None
        batch = Batch()
        watcher = self._changes.saving(key, causes.current.get())
        try:
            async for chunk in source:
                checks.count(chunk)
                if watcher is not None:
                    watcher.passed(chunk)
                batch.add(chunk)
                if batch.is_full:
                    if staged is None:
                        staged = self._stage()
                    full, batch = batch, Batch()
                    await self._threads.run(self._write, pending, staged, full)
            if staged is None:
                image = await self._threads.run(self._save_small, pending, batch)
            else:
                image = await self._threads.run(self._finish, pending, staged, batch)
        finally:
            if staged is not None:
                staged.close()
        if watcher is not None:
            watcher.saved(image)
        return image

    def _admit(self, key: StorageKey, max_bytes: int | None, condition: Condition) -> None:
        self._data_directory.refuse_writes_if_read_only()
        self._refuse_if_full(max_bytes or 0)
        try:
            condition.check(self.locate_now(key).take_facts().etag)
        except ImageNotFound:
            condition.check(None)
            self._publisher.refuse_file_as_folder(key)

    def _refuse_if_full(self, more_bytes: int) -> None:
        with translate_os_errors():
            free_space = os.fstatvfs(self._data_directory.fd)
        if free_space.f_bavail * free_space.f_frsize - more_bytes < self._min_free_bytes:
            raise StorageFull(
                "the disk has less free space than STILLROOM_MIN_FREE_BYTES requires: delete files"
            )

    def _save_small(self, pending: "_PendingSave", batch: Batch) -> StoredImage:
        with contextlib.closing(self._stage()) as staged:
            return self._finish(pending, staged, batch)

    def _stage(self) -> Staged:
        with translate_os_errors():
            return Staged(self._data_directory)

    def _write(self, pending: "_PendingSave", staged: Staged, batch: Batch) -> None:
        """Write a batch. Raises `StorageFull` if less than `min_free_bytes` would remain free."""
        more_bytes = staged.bytes_to_reserve(batch.size, pending.source.max_bytes)
        if more_bytes:
            self._refuse_if_full(more_bytes)
            if pending.source.max_bytes is not None:
                staged.reserve(more_bytes)
        staged.write(batch, pending.checks)

    def _finish(self, pending: "_PendingSave", staged: Staged, batch: Batch) -> StoredImage:
        staged.write(batch, pending.checks)
        received = pending.checks.finish(pending.source.expected_sha256)
        with translate_os_errors():
            staged.trim(received.size)
            status = staged.stamp(
                received.content_type, received.sha256, modified_ns=pending.checks.modified_ns
            )
        self._data_directory.sync(staged.fd)
        self._publisher.publish(pending.key, staged, pending.condition)
        return describe(pending.key, status, received.content_type, received.sha256)

    async def locate(self, key: StorageKey) -> DiskImage:
        """Open the image's file. The opened file does not change if the image is replaced."""
        return self.locate_now(key)

    open = locate

    def locate_now(self, key: StorageKey, known: StoredImage | None = None) -> DiskImage:
        """Open the image's file without waiting. A cache may reuse older metadata (`known`)."""
        try:
            fd = self._data_directory.open_contained(self._data_directory.fd, key.text, READ_FLAGS)
        except OSError as error:
            raise error_of_open(key, error) from error
        try:
            return DiskImage(fd, self._describe_file(key, fd, known), self._threads.run)
        except OSError as error:
            release(fd)
            raise error_of_open(key, error) from error

    async def stat(self, key: StorageKey) -> StoredImage:
        """Open the image's file and return its metadata."""
        return self.locate_now(key).take_facts()

    async def list(self, query: ListQuery) -> Page:
        """List a page of keys in byte order; see docs/adr/0010."""
        return await self._threads.run(list_page, self._data_directory, query, self._folder_names)

    async def changed_folders(self, since_ns: int) -> AsyncIterator[Sequence[KeyPrefix]]:
        """Find changed folders in batches; see `folder_walks.py`."""
        walk = changed_folders(self._data_directory, since_ns)
        while batch := await self._threads.run(take, walk, _WALKED_AT_ONCE):
            yield [KeyPrefix(path) for path in batch if path is not None]

    async def entries(self, query: ListQuery) -> EntryPage:
        """List a page of images with their metadata. This opens each file."""
        page = await self.list(query)
        entries: list[Entry] = []
        for start in range(0, len(page.entries), _DESCRIBED_AT_ONCE):
            texts = page.entries[start : start + _DESCRIBED_AT_ONCE]
            entries += await self._threads.run(self._describe, texts)
        return EntryPage(entries, page.next_after)

    def _describe(self, texts: Sequence[str]) -> Sequence[Entry]:
        entries: list[Entry] = []
        for text in texts:
            if text.endswith("/"):
                entries.append(KeyPrefix(text))
                continue
            with contextlib.suppress(ImageNotFound):  # deleted after it was listed
                entries.append(self.locate_now(StorageKey(text)).take_facts())
        return entries

    async def delete(
        self, key: StorageKey, condition: Condition = UNCONDITIONAL, *, save_id: str | None = None
    ) -> None:
        """Delete the file and flush its folder. Empty folders are kept for concurrent saves."""
        self._data_directory.refuse_writes_if_read_only()
        began_ns = time.time_ns()
        await self._threads.run(self._publisher.delete, key, condition, save_id)
        self._changes.removed(key, began_ns, causes.current.get())

    async def remove_empty_folders(self, empty_for: timedelta) -> int:
        """Remove folders that have been empty for a while; see `folder_walks.py`."""
        self._data_directory.refuse_writes_if_read_only()
        return await self._threads.run(
            remove_empty_folders, self._data_directory, empty_for, self._closing.is_set
        )

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """Copy the file in the kernel. The copy may share blocks, but it is not a hard link."""
        self._data_directory.refuse_writes_if_read_only()
        opened = self.locate_now(source)
        try:
            self._refuse_if_full(opened.image.size)
            image = await self._threads.run(self._copy, opened, target, save_id)
        finally:
            opened.close()
        self._changes.copied(image, opened.image, causes.current.get())
        return image

    def _copy(self, opened: DiskImage, target: StorageKey, save_id: str | None) -> StoredImage:
        image = opened.image
        with contextlib.closing(self._stage()) as staged:
            with translate_os_errors():
                staged.copy_from(opened.fd, image.size)
                # Checked after the copy, since users can also edit files directly.
                if save_id not in (None, save_id_of(os.fstat(opened.fd))):
                    raise PreconditionFailed
                status = staged.stamp(image.content_type, image.sha256)
            self._data_directory.sync(staged.fd)
            self._publisher.publish(target, staged, UNCONDITIONAL)
        return describe(target, status, image.content_type, image.sha256)

    @property
    def is_read_only(self) -> bool:
        """True if the store is read-only because an fsync failed in any process."""
        return self._data_directory.is_read_only

    async def check(self) -> None:
        """Check that the store is writable and that there is enough free space."""
        self._data_directory.refuse_writes_if_read_only()
        self._refuse_if_full(0)
        await self._threads.run(lambda: self._stage().close())

    async def close(self) -> None:
        """Wait for running jobs, then release the lock."""
        self._closing.set()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.close)
        self._release()

    def _release(self) -> None:
        self._data_directory.close()


@dataclass(frozen=True, slots=True)
class _PendingSave:
    key: StorageKey
    source: ImageSource
    condition: Condition
    checks: UploadChecks
