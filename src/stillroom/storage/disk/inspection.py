"""Inspection of the data directory: walk, open, quarantine, and find unexpected files."""

import asyncio
import concurrent.futures
import contextlib
import errno
import fcntl
import functools
import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from typing import Final, ParamSpec, TypeVar

from stillroom.errors import ConfigurationError
from stillroom.paths import (
    COMPUTE_PREFIX,
    MAX_KEY_BYTES,
    KeyPrefix,
    StorageKey,
    is_manifest,
    is_segment,
)
from stillroom.storage.disk.attributes import Attributes
from stillroom.storage.disk.data_directory import (
    IMAGE_FOLDERS,
    PRIVATE_FOLDER,
    DataDirectory,
    translated,
)
from stillroom.storage.disk.folder_cache import FolderCache
from stillroom.storage.disk.image import DiskImage, etag_at
from stillroom.storage.disk.listing import list_entries
from stillroom.storage.disk.storage import DiskImageStorage
from stillroom.storage.inspection import Inspected, UnexpectedFile
from stillroom.storage.values import ListQuery, SaveRules, StoredImage

_BATCH: Final = 1000
_KNOWN_NAMES: Final = (*IMAGE_FOLDERS, PRIVATE_FOLDER, "lost+found")
"""In the data directory; the last is of ext4, in the top folder of each filesystem."""

_STAGED_FOR_S: Final = 3600
"""A staging file has a name for milliseconds, or for the time of an upload (without O_TMPFILE)."""

P = ParamSpec("P")
T = TypeVar("T")


class DiskInspection:
    """An `Inspection` of a data directory; holds its lock shared, as a server does."""

    at_once = 2  # one is hashed while the other waits for the disk

    def __init__(self, data_directory: DataDirectory, known: Collection[str] = ()) -> None:
        """Inspect `data_directory`; `close` closes it.

        Args:
            data_directory: The folder of the store.
            known: Names of other files that belong there.
        """
        self.description = f"disk {data_directory.root.absolute()}"
        self._data_directory = data_directory
        self._known = frozenset((*_KNOWN_NAMES, *known))
        self._storage = DiskImageStorage(data_directory, SaveRules(max_bytes=0))
        self._pool = concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="inspect")

    async def walk(
        self, prefix: KeyPrefix, after: str
    ) -> AsyncIterator[StorageKey | UnexpectedFile]:
        """Walk images in one pass over the folders, and unexpected files in a second one."""
        query = ListQuery(prefix, after=after, limit=_BATCH, manifests=True)
        keys = list_entries(self._data_directory, query, FolderCache(0))
        while batch := await self._run(_take, keys):
            for key in batch:
                yield StorageKey(key)
        others = _unexpected_files(self._data_directory, self._known, prefix.text)
        while found := await self._run(_take, others):
            for unexpected in found:
                yield unexpected

    async def open(self, key: StorageKey) -> Inspected:
        """Open the file and drop it from the page cache, so that the disk itself is read."""
        opened = await self._storage.locate(key)
        os.posix_fadvise(opened.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        outdated = None
        if opened.image.sha256 is None:
            outdated = Attributes.outdated_sha256(opened.fd)
        return Inspected(_Uncached(opened), outdated)

    async def stat(self, key: StorageKey) -> StoredImage:
        """Open the image's file and return its facts."""
        return await self._storage.stat(key)

    async def adopt(self, inspected: Inspected, sha256: bytes) -> None:
        """Record the SHA-256 in the file's attribute; valid only while its mtime is unchanged."""
        if not self._data_directory.has_attributes:
            raise ConfigurationError(
                "hashes are kept in extended attributes, and this filesystem has none: "
                "set STILLROOM_DATA_DIR to a folder on ext4, XFS, btrfs or the like"
            )
        opened = inspected.opened
        assert isinstance(opened, _Uncached)  # noqa: S101  (`open` makes no others)
        with translated():
            image = opened.image
            Attributes(image.modified_ns, sha256, image.content_type).write(opened.fd)

    async def quarantine(self, image: StoredImage, facts: bytes) -> str | None:
        """Move an image into a folder of its own in `.stillroom/quarantine`, by one rename."""
        self._data_directory.refuse_writes_if_read_only()
        return await self._run(self._move, image, facts)

    def _move(self, image: StoredImage, facts: bytes) -> str | None:
        folder, _, name = image.key.text.rpartition("/")
        place = f"{PRIVATE_FOLDER}/quarantine/{image.save_id}-{secrets.token_hex(4)}"
        with translated(FileNotFoundError), contextlib.ExitStack() as opened:
            try:
                folder_fd = self._open_folder(folder, opened)
            except FileNotFoundError:
                return None
            fcntl.flock(folder_fd, fcntl.LOCK_EX)
            if etag_at(folder_fd, name) != image.etag:
                return None
            place_fd = self._make_folders(place, opened)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            facts_fd = os.open("facts.json", flags, 0o640, dir_fd=place_fd)
            opened.callback(os.close, facts_fd)
            os.write(facts_fd, facts)
            self._data_directory.sync(facts_fd)
            try:
                os.rename(name, "image", src_dir_fd=folder_fd, dst_dir_fd=place_fd)
            except FileNotFoundError:  # removed by hand since the look: that takes no lock
                os.unlink("facts.json", dir_fd=place_fd)
                return None
            self._data_directory.sync_folder(place_fd)
            self._data_directory.sync_folder(folder_fd)
        return place

    def _open_folder(self, path: str, opened: contextlib.ExitStack) -> int:
        fd = self._data_directory.open_contained(
            self._data_directory.fd, path, os.O_RDONLY | os.O_DIRECTORY
        )
        opened.callback(os.close, fd)
        return fd

    def _make_folders(self, path: str, opened: contextlib.ExitStack) -> int:
        made = ""
        parent_fd = self._data_directory.fd
        for name in path.split("/"):
            made = f"{made}/{name}" if made else name
            self._data_directory.make_folder_at(parent_fd, name)
            self._data_directory.sync_folder(parent_fd)
            parent_fd = self._open_folder(made, opened)
        return parent_fd

    async def check(self) -> None:
        """Health check: read the data directory."""
        with translated():
            _names_in(self._data_directory.fd)

    async def close(self) -> None:
        """Wait for running jobs, and close the data directory."""
        self._pool.shutdown()
        await self._storage.close()

    async def _run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, functools.partial(job, *args, **kwargs))


class _Uncached:
    """An open image that is dropped from the page cache, which other images need."""

    def __init__(self, opened: DiskImage) -> None:
        self._opened = opened
        self.image = opened.image

    @property
    def fd(self) -> int:
        return self._opened.fd

    def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        return self._opened.chunks(start, length)

    def close(self) -> None:
        if self._opened.fd >= 0:
            os.posix_fadvise(self._opened.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._opened.close()


def _take(entries: Iterator[T]) -> list[T]:
    with translated():
        return list(itertools.islice(entries, _BATCH))


def _unexpected_files(
    data_directory: DataDirectory, known: Collection[str], prefix: str
) -> Iterator[UnexpectedFile]:
    """Find files that cannot be images, in the images' folders and beside them."""
    if prefix == COMPUTE_PREFIX:  # once, though there may be more prefixes
        for name in _names_in(data_directory.fd):
            if name not in known:
                yield UnexpectedFile(_shown(name), "no image can be here")
        yield from _left_in_staging(data_directory)
    yield from _unexpected_below(data_directory, f"{prefix.rpartition('/')[0]}/", prefix)


def _unexpected_below(
    data_directory: DataDirectory, path: str, prefix: str
) -> Iterator[UnexpectedFile]:
    try:
        fd = data_directory.open_contained(
            data_directory.fd, path.rstrip("/"), os.O_RDONLY | os.O_DIRECTORY
        )
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return  # it went away
        if error.errno == errno.ENAMETOOLONG:
            yield UnexpectedFile(_shown(path), "the path is too long for a key")
            return
        raise
    folders = []
    try:
        with os.scandir(fd) as entries:
            for entry in entries:
                key = path + entry.name
                if not key.startswith(prefix):
                    continue
                if reason := _no_image(entry, key):
                    yield UnexpectedFile(_shown(key), reason)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(f"{key}/")
    finally:
        os.close(fd)
    for folder in folders:
        yield from _unexpected_below(data_directory, folder, prefix)


def _no_image(entry: os.DirEntry[str], key: str) -> str | None:
    """Why an entry is neither an image nor a folder of them."""
    is_named = is_segment(entry.name) or (is_manifest(key) and entry.is_file(follow_symlinks=False))
    if not is_named:
        return "no path has such a name"
    if len(key.encode()) > MAX_KEY_BYTES:
        return "the path is too long for a key"
    if not entry.is_dir(follow_symlinks=False) and not entry.is_file(follow_symlinks=False):
        return "a link or a device"
    return None


def _left_in_staging(data_directory: DataDirectory) -> Iterator[UnexpectedFile]:
    """Find staging files that are left over: the process named in them has gone."""
    for name in _names_in(data_directory.staging_fd):
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(name, dir_fd=data_directory.staging_fd, follow_symlinks=False)
            age_s = time.time() - status.st_ctime
            if age_s > _STAGED_FOR_S and not _was_running(name.partition("-")[0], status):
                where = f"{PRIVATE_FOLDER}/staging/{name}"
                yield UnexpectedFile(
                    _shown(where),
                    "its writer is gone; the next start without other processes clears it",
                )


def _was_running(pid: str, status: os.stat_result) -> bool:
    """Whether the process with this pid is older than the file."""
    try:
        started = os.stat(f"/proc/{int(pid)}").st_ctime
    except (OSError, ValueError):
        return False
    return started <= status.st_ctime


def _names_in(folder_fd: int) -> list[str]:
    """What is in a folder, read by a descriptor of our own: one shares its position with all."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder_fd)
    try:
        return os.listdir(fd)
    finally:
        os.close(fd)


def _shown(name: str) -> str:
    """Escape a file name for terminals and documents; it may hold any bytes."""
    return name if name.isprintable() else ascii(name)[1:-1]
