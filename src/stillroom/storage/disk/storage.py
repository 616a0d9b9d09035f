"""DiskImageStorage: images as plain files, saved so that a 200 survives a power cut."""

import asyncio
import contextlib
import errno
import fcntl
import functools
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, ParamSpec, TypeVar

from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    StorageFull,
)
from stillroom.paths import KeyPrefix, StorageKey
from stillroom.storage.disk.data_directory import DataDirectory, translated
from stillroom.storage.disk.empty_folders import remove_empty_folders
from stillroom.storage.disk.folder_cache import FolderCache
from stillroom.storage.disk.folders import Folders
from stillroom.storage.disk.image import (
    DiskImage,
    RecentFacts,
    describe,
    etag_at,
    etag_of,
    save_id_of,
    status_at,
    warn_of_link,
)
from stillroom.storage.disk.listing import list_page
from stillroom.storage.disk.openat2 import is_absent, open_by_kernel, release
from stillroom.storage.disk.staging import Batch, Staged
from stillroom.storage.disk.threads import DiskThreads
from stillroom.storage.sources import ImageSource, ImportedImage
from stillroom.storage.upload_checks import UploadChecks
from stillroom.storage.values import (
    UNCONDITIONAL,
    Condition,
    Entry,
    EntryPage,
    ListQuery,
    Page,
    SaveRules,
    StoredImage,
)

_BATCH_BYTES: Final = 1024**2
"""Written and hashed in one go off the loop; the most that one upload keeps in memory."""

_THREADS: Final = 16
"""Syncs under way at once. A disk takes 8 to 16 before they queue up in the device."""

_DESCRIBED_AT_ONCE: Final = 256
"""Files of a listing opened in one thread hop: some milliseconds, after which others get a turn,
and a client that is gone is noticed."""

LIST_CACHE_BYTES: Final = 64 * 1024**2
"""The names of one to three million images, by their length."""

_PUBLISH_ATTEMPTS: Final = 16
_PUBLISH_PAUSE_S: Final = 0.05
"""The folder may be removed between making it and linking into it, so try again: at
once, then after random pauses of up to this, so that those who race do not race in step."""

# A FIFO must not block the open, and a terminal must not become ours.
_READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("stillroom.disk")


class DiskImageStorage:
    """Keeps the promises of `ImageStorage` on a local filesystem.

    Look-ups run on the event loop: they cost a few microseconds, a thread hop
    costs fifty. Whatever writes, syncs, waits for a lock or reads folders runs in
    a pool of its own. See docs/adr/0002-one-colour-at-the-port.md.
    """

    def __init__(
        self,
        data_directory: DataDirectory,
        rules: SaveRules,
        *,
        min_free_bytes: int = 0,
        list_cache_bytes: int = LIST_CACHE_BYTES,
    ) -> None:
        """Serve images from `data_directory`.

        Args:
            data_directory: The data directory; `close` closes it.
            rules: What every save must keep to.
            min_free_bytes: Saves that would leave less are refused.
            list_cache_bytes: Most memory for the names in large folders; 0 remembers none.
        """
        self.description = f"DiskImageStorage at {data_directory.description}"
        self._data_directory = data_directory
        self._rules = rules
        self._min_free_bytes = min_free_bytes
        self._folders = Folders(data_directory)
        self._facts = RecentFacts(data_directory.fd)
        self._folder_cache = FolderCache(list_cache_bytes)
        self._threads = DiskThreads(_THREADS)
        self._closing = threading.Event()  # a walk through all folders looks at it

    # Saving ------------------------------------------------------------------------------

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Nameless file, sync, link, sync: see docs/adr/0003."""
        self._admit(key, source.max_bytes, condition)
        arrival = source if isinstance(source, ImportedImage) else None
        checks = UploadChecks(self._rules, arrival.content_type if arrival else None)
        modified_ns = arrival.image.modified_ns if arrival else None
        upload = _Upload(key, source, condition, checks, modified_ns)
        staged: Staged | None = None
        batch = Batch()
        try:
            async for chunk in source:
                upload.checks.count(chunk)
                batch.add(chunk)
                if batch.size >= _BATCH_BYTES:
                    if staged is None:
                        staged = self._stage()
                    full, batch = batch, Batch()
                    await self._run(self._write, upload, staged, full)
            if staged is None:
                return await self._run(self._save_small, upload, batch)
            return await self._run(self._finish, upload, staged, batch)
        finally:
            if staged is not None:
                staged.close()

    def _admit(self, key: StorageKey, max_bytes: int | None, condition: Condition) -> None:
        """Refuse what can be known to fail before the first byte is read."""
        self._data_directory.refuse_writes_if_read_only()
        self._refuse_if_full(max_bytes or 0)
        try:
            current: StoredImage | None = self._open(key).take_facts()
        except ImageNotFound:
            current = None
        condition.check(current.etag if current else None)
        if current is None:
            self._refuse_file_as_folder(key)

    def _refuse_if_full(self, more_bytes: int) -> None:
        with translated():
            free_space = os.fstatvfs(self._data_directory.fd)
        if free_space.f_bavail * free_space.f_frsize - more_bytes < self._min_free_bytes:
            raise StorageFull(
                "the disk has less free room than STILLROOM_MIN_FREE_BYTES demands: make room"
            )

    def _refuse_file_as_folder(self, key: StorageKey) -> None:
        folder = key.text.rpartition("/")[0]
        try:
            release(self._folders.open(folder))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _not_a_folder() from error

    def _save_small(self, upload: "_Upload", batch: Batch) -> StoredImage:
        """All the disk work of an image that came in one batch, in one thread hop."""
        with contextlib.closing(self._stage()) as staged:
            return self._finish(upload, staged, batch)

    def _stage(self) -> Staged:
        with translated():
            return Staged(self._data_directory)

    def _write(self, upload: "_Upload", staged: Staged, batch: Batch) -> None:
        """Write a batch, in room that is free beyond what must stay free."""
        lacking = staged.lacking(batch.size, upload.source.max_bytes)
        if lacking:
            self._refuse_if_full(lacking)
            if upload.source.max_bytes is not None:
                staged.reserve(lacking)
        staged.write(batch, upload.checks)

    def _finish(self, upload: "_Upload", staged: Staged, batch: Batch) -> StoredImage:
        """The last bytes, the facts, and the two syncs around publishing."""
        staged.write(batch, upload.checks)
        received = upload.checks.finish(upload.source.expected_sha256)
        with translated():
            staged.trim(received.size)
            status = staged.stamp(
                received.content_type, received.sha256, modified_ns=upload.modified_ns
            )
        self._data_directory.sync(staged.fd)
        self._publish(upload.key, staged, upload.condition)
        return describe(upload.key, status, received.content_type, received.sha256)

    def _publish(self, key: StorageKey, staged: Staged, condition: Condition) -> None:
        """Give the file its name, atomically, and return when that name is on the disk."""
        folder, _, name = key.text.rpartition("/")
        for attempt in range(_PUBLISH_ATTEMPTS):
            if attempt > 1:
                time.sleep(random.uniform(0, _PUBLISH_PAUSE_S))  # noqa: S311  (spreads, hides nothing)
            with contextlib.suppress(FileNotFoundError):  # the folder was removed meanwhile
                folder_fd = self._open_or_make(folder)
                try:
                    if self._publish_in(folder_fd, name, staged, condition):
                        return
                finally:
                    release(folder_fd)
        raise BackendUnavailable("the folder is removed again and again while the image is saved")

    def _publish_in(self, folder_fd: int, name: str, staged: Staged, condition: Condition) -> bool:
        """Publish in an open folder; False if an empty folder had to go out of the way first.

        The folder's lock is honoured by all processes. Unconditional saves share it; a
        compare-and-replace or a delete excludes them, so that comparing and changing
        are one step.
        """
        exclusive = condition.if_match is not None
        with translated(FileNotFoundError, IsADirectoryError):
            fcntl.flock(folder_fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            if condition.is_set:
                condition.check(etag_at(folder_fd, name))
            try:
                staged.link_or_replace(folder_fd, name, create_only=condition.create_only)
            except IsADirectoryError as error:
                if self._folders.remove_empty_tree(folder_fd, name):
                    return False
                raise PathConflict(
                    "a folder with images in it has this name: save under another one"
                ) from error
        self._data_directory.sync_folder(folder_fd)
        return True

    def _open_or_make(self, folder: str) -> int:
        with translated(FileNotFoundError):
            try:
                return self._folders.open_or_make(folder)
            except NotADirectoryError as error:
                raise _not_a_folder() from error
            except OSError as error:
                if error.errno != errno.ELOOP:
                    raise
                warn_of_link(folder)
                raise _not_a_folder() from error

    # Reading -----------------------------------------------------------------------------

    async def locate(self, key: StorageKey) -> DiskImage:
        """The image's open file: what is read from it belongs together, whatever is saved next."""
        return self._open(key)

    def locate_now(self, key: StorageKey) -> DiskImage:
        """The same: opening a file waits for nothing."""
        return self._open(key)

    def is_current(self, image: StoredImage) -> bool:
        """A look at the file that its path leads to."""
        return self._facts.hold(image)

    def is_missing(self, key: StorageKey) -> bool:
        """A look-up that tells it without raising, which would cost as much again."""
        return self._data_directory.open_contained is open_by_kernel and is_absent(
            self._data_directory.fd, key.text
        )

    async def open(self, key: StorageKey) -> DiskImage:
        """The same."""
        return self._open(key)

    async def stat(self, key: StorageKey) -> StoredImage:
        """The facts of one opened file."""
        return self._open(key).take_facts()

    def _open(self, key: StorageKey) -> DiskImage:
        try:
            fd = self._data_directory.open_contained(self._data_directory.fd, key.text, _READ_FLAGS)
        except OSError as error:
            raise _cannot_open(key, error) from error
        try:
            return DiskImage(fd, self._facts.describe_file(key, fd), self._run)
        except OSError as error:
            release(fd)
            raise _cannot_open(key, error) from error

    async def list(self, query: ListQuery) -> Page:
        """A page picked from the folders that it shows: see docs/adr/0010."""
        page = await self._run(self._list, query)
        if not self._folder_cache.is_sorted and not self._threads.is_closed:
            self._threads.start(self._folder_cache.sort)
        return page

    def _list(self, query: ListQuery) -> Page:
        with translated():
            return list_page(self._data_directory, query, self._folder_cache)

    async def entries(self, query: ListQuery) -> EntryPage:
        """The files of a page, opened one after the other."""
        page = await self.list(query)
        entries: list[Entry] = []
        for start in range(0, len(page.entries), _DESCRIBED_AT_ONCE):
            texts = page.entries[start : start + _DESCRIBED_AT_ONCE]
            entries += await self._run(self._describe, texts)
        return EntryPage(entries, page.entries[-1] if page.more else None)

    def _describe(self, texts: Sequence[str]) -> Sequence[Entry]:
        entries: list[Entry] = []
        for text in texts:
            if text.endswith("/"):
                entries.append(KeyPrefix(text))
                continue
            with contextlib.suppress(ImageNotFound):  # it went away since it was listed
                entries.append(self._open(StorageKey(text)).take_facts())
        return entries

    # Removing ----------------------------------------------------------------------------

    async def delete(
        self,
        key: StorageKey,
        condition: Condition = UNCONDITIONAL,
        *,
        save_id: str | None = None,
    ) -> None:
        """Unlink and sync. The folder stays: removing it here would trip racing saves."""
        self._data_directory.refuse_writes_if_read_only()
        await self._run(self._delete, key, condition, save_id)

    def _delete(self, key: StorageKey, condition: Condition, save_id: str | None) -> None:
        folder, _, name = key.text.rpartition("/")
        try:
            folder_fd = self._folders.open(folder)
        except OSError as error:
            raise _cannot_open(key, error) from error
        try:
            with translated():
                fcntl.flock(folder_fd, fcntl.LOCK_EX)
                status = status_at(folder_fd, name)
                if status is None:
                    raise ImageNotFound
                condition.check(etag_of(status))
                if save_id not in (None, save_id_of(status)):
                    raise PreconditionFailed
                try:
                    os.unlink(name, dir_fd=folder_fd)
                except FileNotFoundError:  # removed by hand since the look: that takes no lock
                    raise ImageNotFound from None
            with contextlib.suppress(OSError):  # the image is gone, and only the sync may object
                fcntl.flock(folder_fd, fcntl.LOCK_UN)  # others need not wait for it
            self._data_directory.sync_folder(folder_fd)
        finally:
            release(folder_fd)

    async def remove_empty_folders(self, empty_for: timedelta) -> int:
        """A walk through all folders: see `empty_folders.py`."""
        self._data_directory.refuse_writes_if_read_only()
        return await self._run(self._remove_empty_folders, empty_for)

    def _remove_empty_folders(self, empty_for: timedelta) -> int:
        with translated():
            return remove_empty_folders(self._data_directory, empty_for, self._closing.is_set)

    # Copying -----------------------------------------------------------------------------

    async def copy(
        self, source: StorageKey, target: StorageKey, *, save_id: str | None = None
    ) -> StoredImage:
        """By the kernel, which shares the blocks where the filesystem can; never a hard link."""
        self._data_directory.refuse_writes_if_read_only()
        opened = self._open(source)
        try:
            self._refuse_if_full(opened.image.size)
            return await self._run(self._copy, opened, target, save_id)
        finally:
            opened.close()

    def _copy(self, opened: DiskImage, target: StorageKey, save_id: str | None) -> StoredImage:
        image = opened.image
        with contextlib.closing(self._stage()) as staged:
            with translated():
                staged.copy_from(opened.fd, image.size)
                # Asked after the copy: a file can also be written into by hand.
                if save_id not in (None, save_id_of(os.fstat(opened.fd))):
                    raise PreconditionFailed
                status = staged.stamp(image.content_type, image.sha256)
            self._data_directory.sync(staged.fd)
            self._publish(target, staged, UNCONDITIONAL)
        return describe(target, status, image.content_type, image.sha256)

    # Running -----------------------------------------------------------------------------

    @property
    def is_read_only(self) -> bool:
        """Whether a sync has failed, in any process."""
        return self._data_directory.is_read_only

    async def check(self) -> None:
        """A look at the read-only flag, the free room and the staging folder."""
        self._data_directory.refuse_writes_if_read_only()
        self._refuse_if_full(0)
        await self._run(self._try_staging)

    def _try_staging(self) -> None:
        self._stage().close()

    async def close(self) -> None:
        """Wait for what runs, then give the lock back."""
        self._closing.set()
        await asyncio.get_running_loop().run_in_executor(None, self._threads.close)
        self._folder_cache.close()
        self._data_directory.close()

    async def _run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking job in a thread, to its end even if the caller is cancelled."""
        return await self._threads.run(functools.partial(job, *args, **kwargs))


@dataclass(frozen=True, slots=True)
class _Upload:
    """What belongs together while one image comes in."""

    key: StorageKey
    source: ImageSource
    condition: Condition
    checks: UploadChecks
    modified_ns: int | None


def _cannot_open(key: StorageKey, error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
        return ImageNotFound()
    if error.errno in (errno.ELOOP, errno.EXDEV):
        warn_of_link(key.text)
        return ImageNotFound()
    return BackendUnavailable(f"the disk refused: {os.strerror(error.errno or 0)}")


def _not_a_folder() -> PathConflict:
    return PathConflict("a part of the path is an image already, so it cannot be a folder")
