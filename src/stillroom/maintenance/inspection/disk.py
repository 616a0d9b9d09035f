"""Inspection of the data directory: walk, open and quarantine images, find unexpected files."""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import AsyncIterator, Collection, Iterator
from typing import Final

from stillroom import paths
from stillroom.errors import ConfigurationError, ImageNotFound, PreconditionFailed
from stillroom.maintenance.inspection.port import Inspected, UnexpectedFile
from stillroom.store.disk.data_directory import (
    IMAGE_FOLDERS,
    PRIVATE_FOLDER,
    DataDirectory,
    take,
    translate_os_errors,
)
from stillroom.store.disk.folders import Folders
from stillroom.store.disk.image import Attributes, DiskImage
from stillroom.store.disk.listing import NO_CACHE, list_entries
from stillroom.store.disk.openat2 import closing
from stillroom.store.disk.publisher import Publisher
from stillroom.store.disk.storage import DiskImageStorage
from stillroom.store.disk.threads import DiskThreads
from stillroom.store.disk.uploads import DiskUploads
from stillroom.store.values import Condition, ListQuery, SaveRules, StoredImage

_BATCH: Final = 1000
_STAGED_FOR_S: Final = 3600  # age of reported staging files; uploads need them for less time


class DiskInspection:
    """`Inspection` of a data directory. It acquires the shared lock, as a server does."""

    at_once = 2  # one image is hashed while the next is read
    trash_prefix = DiskUploads.trash_prefix

    def __init__(self, data_directory: DataDirectory, known: Collection[str] = ()) -> None:
        self.description = f"disk {data_directory.root.absolute()}"
        self._data_directory = data_directory
        self._known = {*IMAGE_FOLDERS, PRIVATE_FOLDER, "lost+found", *known}  # `lost+found`: ext4
        self._storage = DiskImageStorage(data_directory, SaveRules(max_bytes=0))
        self._threads = DiskThreads(16)  # a migration reads 32 images at once

    async def walk(
        self, prefix: paths.KeyPrefix, after: str
    ) -> AsyncIterator[paths.StorageKey | UnexpectedFile]:
        """Yield the keys of all images, then all unexpected files."""
        query = ListQuery(prefix, after=after, limit=_BATCH, reserved=True)
        keys = list_entries(self._data_directory, query, NO_CACHE)
        while batch := await self._threads.run(take, keys, _BATCH):
            for key in batch:
                yield paths.StorageKey(key)
        others = _find_unexpected_files(self._data_directory, self._known, prefix.text)
        while files := await self._threads.run(take, others, _BATCH):
            for unexpected in files:
                yield unexpected

    async def open(self, key: paths.StorageKey) -> Inspected:
        """Open a file and drop its cached pages, so that it is read from the disk."""
        opened = await self._storage.locate(key)
        os.posix_fadvise(opened.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        outdated = Attributes.outdated_sha256(opened.fd) if opened.image.sha256 is None else None
        return Inspected(_Uncached(opened.fd, opened.image, self._threads.run), outdated)

    async def stat(self, key: paths.StorageKey) -> StoredImage:
        """Return the metadata of a file."""
        return await self._storage.stat(key)

    async def adopt(self, inspected: Inspected, sha256: bytes) -> None:
        """Record the SHA-256 of an opened file in an extended attribute of the file."""
        if not self._data_directory.has_attributes:
            raise ConfigurationError(
                "hashes are kept in extended attributes, and this filesystem has none: "
                "set STILLROOM_DATA_DIR to a folder on ext4, XFS, btrfs or the like"
            )
        opened = inspected.opened
        assert isinstance(opened, _Uncached)  # noqa: S101  (`open` returns no others)
        with translate_os_errors():
            image = opened.image
            Attributes(image.modified_ns, sha256, image.content_type).write(opened.fd)

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Move the file to a new folder in `.stillroom/quarantine`."""
        self._data_directory.refuse_writes_if_read_only()
        return await self._threads.run(self._move, image, facts)

    def _move(self, image: StoredImage, facts: bytes) -> str | None:
        place = f"{PRIVATE_FOLDER}/quarantine/{image.save_id}-{secrets.token_hex(4)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        folders = Folders(self._data_directory)
        with translate_os_errors(), closing(folders.open_or_make(place)) as place_fd:
            with closing(os.open("facts.json", flags, 0o640, dir_fd=place_fd)) as facts_fd:
                os.write(facts_fd, facts)
                self._data_directory.sync(facts_fd)
            current = Condition(if_match=frozenset((image.etag,)))
            target = paths.StorageKey(f"{place}/image")
            try:
                Publisher(self._data_directory).delete(image.key, current, None, target)
            except (ImageNotFound, PreconditionFailed):  # replaced or deleted meanwhile
                os.unlink("facts.json", dir_fd=place_fd)
                os.rmdir(f"{self._data_directory.root}/{place}")
                return None
        return place

    async def check(self) -> None:
        """Check that the data directory can be read."""
        with translate_os_errors():
            _names_in(self._data_directory.fd)

    async def close(self) -> None:
        """Wait for running jobs, then close the data directory."""
        self._threads.close()
        await self._storage.close()


class _Uncached(DiskImage):
    """Image that is open for reading. `close` also drops its file from the page cache."""

    __slots__ = ()

    def close(self) -> None:
        if self.fd >= 0:
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        super().close()


def _find_unexpected_files(
    data_directory: DataDirectory, known: Collection[str], prefix: str
) -> Iterator[UnexpectedFile]:
    if prefix == paths.COMPUTE_PREFIX:  # report the data directory itself only once
        for name in _names_in(data_directory.fd):
            if name not in known:
                yield UnexpectedFile(_escape(name), "images cannot be stored here")
        yield from _find_stale_staging_files(data_directory)
    yield from _find_unexpected_below(data_directory, f"{prefix.rpartition('/')[0]}/", prefix)


def _find_unexpected_below(
    data_directory: DataDirectory, path: str, prefix: str
) -> Iterator[UnexpectedFile]:
    try:
        fd = data_directory.open_folder(path.rstrip("/"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return  # the folder was deleted meanwhile
        if error.errno == errno.ENAMETOOLONG:
            yield UnexpectedFile(_escape(path), "the path is too long for a key")
            return
        raise
    folders = []
    with closing(fd), os.scandir(fd) as entries:
        for entry in entries:
            key = path + entry.name
            if not key.startswith(prefix):
                continue
            if reason := _explain_unexpected(entry, key):
                yield UnexpectedFile(_escape(key), reason)
            elif entry.is_dir(follow_symlinks=False):
                folders.append(f"{key}/")
    for folder in folders:
        yield from _find_unexpected_below(data_directory, folder, prefix)


def _explain_unexpected(entry: os.DirEntry[str], key: str) -> str | None:
    """Return why a directory entry is unexpected, or None if it is an image or a folder."""
    is_named = paths.is_segment(entry.name) or (
        paths.is_reserved(key) and entry.is_file(follow_symlinks=False)
    )
    if not is_named:
        return "not a valid path"
    if len(key.encode()) > paths.MAX_KEY_BYTES:
        return "the path is too long for a key"
    if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        return "a link or a device"
    return None


def _find_stale_staging_files(data_directory: DataDirectory) -> Iterator[UnexpectedFile]:
    """Find staging files of ended processes. Their names begin with the process ids."""
    for name in _names_in(data_directory.staging_fd):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=data_directory.staging_fd, follow_symlinks=False)
            age_s = time.time() - status.st_ctime
            if age_s > _STAGED_FOR_S and not _was_running(name.partition("-")[0], status):
                reason = "a remainder of a killed process; a restart of all servers removes it"
                yield UnexpectedFile(_escape(f"{PRIVATE_FOLDER}/staging/{name}"), reason)


def _was_running(pid: str, status: os.stat_result) -> bool:
    try:
        started = os.stat(f"/proc/{int(pid)}").st_ctime
    except (OSError, ValueError):
        return False
    return started <= status.st_ctime


def _names_in(folder_fd: int) -> list[str]:
    with closing(os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder_fd)) as fd:
        return os.listdir(fd)


def _escape(name: str) -> str:
    return name if name.isprintable() else ascii(name)[1:-1]
