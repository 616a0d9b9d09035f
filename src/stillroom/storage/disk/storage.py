"""DiskImageStorage: images as plain files, saved so that a 200 survives a power cut."""

import asyncio
import concurrent.futures
import contextlib
import errno
import fcntl
import functools
import logging
import os
import random
import stat
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final, ParamSpec, Protocol, TypeVar

from stillroom.errors import (
    BackendUnavailable,
    ImageNotFound,
    PathConflict,
    PreconditionFailed,
    StorageFull,
)
from stillroom.paths import StorageKey
from stillroom.storage import content_type
from stillroom.storage.disk.attributes import Attributes
from stillroom.storage.disk.folders import Folders
from stillroom.storage.disk.home import DataDirectory, link_file, translated
from stillroom.storage.disk.listing import list_page
from stillroom.storage.intake import Intake
from stillroom.storage.interface import (
    UNCONDITIONAL,
    Condition,
    ImageSource,
    ListQuery,
    Page,
    SaveRules,
    StoredImage,
)

_BATCH_BYTES: Final = 1024**2
"""Written and hashed in one go off the loop; the most that one upload keeps in memory."""

_THREADS: Final = 16
"""Syncs under way at once. A disk takes 8 to 16 before they queue up in the device."""

_PUBLISH_ATTEMPTS: Final = 16
_PUBLISH_PAUSE_S: Final = 0.05
"""Somebody may remove the folder between making it and linking into it, so try again: at
once, then after random pauses of up to this, so that those who race do not race in step."""

# A FIFO must not block the open, and a terminal must not become ours.
_READ_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY

_READ_BYTES: Final = 256 * 1024
"""Read in one go; larger reads only make the process larger."""

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("stillroom.disk")


class _Runner(Protocol):
    """Runs a blocking job where it does not block the event loop."""

    async def __call__(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...


class DiskImageStorage:
    """Keeps the promises of `ImageStorage` on a local filesystem.

    Look-ups run on the event loop: they cost a few microseconds, a thread hop
    costs fifty. Whatever writes, syncs, waits for a lock or reads folders runs in
    a pool of its own. See docs/adr/0002-one-colour-at-the-port.md.
    """

    def __init__(self, home: DataDirectory, rules: SaveRules, *, min_free_bytes: int = 0) -> None:
        """Serve images from `home`, refusing saves that leave less than `min_free_bytes`."""
        self.description = f"DiskImageStorage at {home.description}"
        self._home = home
        self._rules = rules
        self._min_free_bytes = min_free_bytes
        self._folders = Folders(home)
        self._pool = concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")

    # Saving ------------------------------------------------------------------------------

    async def save(
        self, key: StorageKey, source: ImageSource, condition: Condition = UNCONDITIONAL
    ) -> StoredImage:
        """Nameless file, sync, link, sync: see docs/adr/0003."""
        self._admit(key, source.most_bytes, condition)
        upload = _Upload(key, source, condition, Intake(key.text, self._rules))
        staged: _Staged | None = None
        batch = _Batch()
        try:
            async for chunk in source:
                upload.intake.count(chunk)
                batch.add(chunk)
                if batch.size >= _BATCH_BYTES:
                    if staged is None:
                        staged = self._stage()
                        await self._run(_reserve, staged, source.most_bytes)
                    full, batch = batch, _Batch()
                    await self._run(_write, staged, full, upload.intake)
            if staged is None:
                return await self._run(self._save_small, upload, batch)
            return await self._run(self._finish, upload, staged, batch)
        finally:
            if staged is not None:
                staged.close()

    def _admit(self, key: StorageKey, most_bytes: int | None, condition: Condition) -> None:
        """Refuse what can be known to fail before the first byte is read."""
        self._home.refuse_writes_if_read_only()
        self._refuse_if_full(most_bytes or 0)
        try:
            current: StoredImage | None = self._open(key).take_facts()
        except ImageNotFound:
            current = None
        condition.check(current.etag if current else None)
        if current is None:
            self._refuse_file_as_folder(key)

    def _refuse_if_full(self, more_bytes: int) -> None:
        with translated():
            room = os.fstatvfs(self._home.fd)
        if room.f_bavail * room.f_frsize - more_bytes < self._min_free_bytes:
            raise StorageFull(
                "the disk has less free room than STILLROOM_MIN_FREE_BYTES demands: make room"
            )

    def _refuse_file_as_folder(self, key: StorageKey) -> None:
        folder = key.text.rpartition("/")[0]
        try:
            os.close(self._folders.open(folder))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _not_a_folder() from error

    def _save_small(self, upload: "_Upload", batch: "_Batch") -> StoredImage:
        """All the disk work of an image that came in one batch, in one thread hop."""
        with contextlib.closing(self._stage()) as staged:
            return self._finish(upload, staged, batch)

    def _stage(self) -> "_Staged":
        with translated():
            return _Staged(self._home)

    def _finish(self, upload: "_Upload", staged: "_Staged", batch: "_Batch") -> StoredImage:
        """The last bytes, the facts, and the two syncs around publishing."""
        _write(staged, batch, upload.intake)
        received = upload.intake.finish(upload.source.expected_sha256)
        with translated():
            os.ftruncate(staged.fd, received.size)
            status = self._stamp(staged, received.content_type, received.sha256)
        self._home.sync(staged.fd)
        self._publish(upload.key, staged, upload.condition)
        return _describe(upload.key, status, received.content_type, received.sha256)

    def _stamp(self, staged: "_Staged", kind: str, sha256: bytes | None) -> os.stat_result:
        """Give a whole file its time, and the facts that belong to that time."""
        now_ns = time.time_ns()
        os.utime(staged.fd, ns=(now_ns, now_ns))
        status = os.fstat(staged.fd)  # what the filesystem made of that time
        if self._home.has_attributes and sha256 is not None:
            Attributes(status.st_mtime_ns, sha256, kind).write(staged.fd)
        return status

    def _publish(self, key: StorageKey, staged: "_Staged", condition: Condition) -> None:
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
                    os.close(folder_fd)
        raise BackendUnavailable("the folder is removed again and again while the image is saved")

    def _publish_in(
        self, folder_fd: int, name: str, staged: "_Staged", condition: Condition
    ) -> bool:
        """Publish in an open folder; False if an empty folder had to go out of the way first.

        The folder's lock is honoured by all processes. Unconditional saves share it; a
        compare-and-replace or a delete excludes them, so that comparing and changing
        are one step.
        """
        exclusive = condition.if_match is not None
        with translated(FileNotFoundError, IsADirectoryError):
            fcntl.flock(folder_fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            if condition.is_set:
                condition.check(_etag_at(folder_fd, name))
            try:
                staged.link_or_replace(folder_fd, name, create_only=condition.create_only)
            except IsADirectoryError as error:
                if self._folders.remove_empty_tree(folder_fd, name):
                    return False
                raise PathConflict(
                    "a folder with images in it has this name: save under another one"
                ) from error
        self._home.sync_folder(folder_fd)
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
                _warn_of_link(folder)
                raise _not_a_folder() from error

    # Reading -----------------------------------------------------------------------------

    async def locate(self, key: StorageKey) -> "DiskImage":
        """The image's open file: what is read from it belongs together, whatever is saved next."""
        return self._open(key)

    async def stat(self, key: StorageKey) -> StoredImage:
        """The facts of one opened file."""
        return self._open(key).take_facts()

    def _open(self, key: StorageKey) -> "DiskImage":
        try:
            fd = self._home.open_beneath(self._home.fd, key.text, _READ_FLAGS)
        except OSError as error:
            raise _cannot_open(key, error) from error
        try:
            return DiskImage(fd, _describe_file(key, fd), self._run)
        except OSError as error:
            os.close(fd)
            raise _cannot_open(key, error) from error

    async def list(self, query: ListQuery) -> Page:
        """A page picked from the folders that it shows."""
        return await self._run(self._list, query)

    def _list(self, query: ListQuery) -> Page:
        with translated():
            return list_page(self._home, query)

    # Removing ----------------------------------------------------------------------------

    async def delete(self, key: StorageKey, condition: Condition = UNCONDITIONAL) -> None:
        """Unlink and sync. The folder stays: removing it here would trip racing saves."""
        self._home.refuse_writes_if_read_only()
        await self._run(self._delete, key, condition)

    def _delete(self, key: StorageKey, condition: Condition) -> None:
        folder, _, name = key.text.rpartition("/")
        try:
            folder_fd = self._folders.open(folder)
        except OSError as error:
            raise _cannot_open(key, error) from error
        try:
            with translated():
                fcntl.flock(folder_fd, fcntl.LOCK_EX)
                etag = _etag_at(folder_fd, name)
                if etag is None:
                    raise ImageNotFound
                condition.check(etag)
                os.unlink(name, dir_fd=folder_fd)
                fcntl.flock(folder_fd, fcntl.LOCK_UN)  # others need not wait for our sync
            self._home.sync_folder(folder_fd)
        finally:
            os.close(folder_fd)

    # Copying -----------------------------------------------------------------------------

    async def copy(self, source: StorageKey, target: StorageKey) -> StoredImage:
        """By the kernel, which shares the blocks where the filesystem can; never a hard link."""
        self._home.refuse_writes_if_read_only()
        opened = self._open(source)
        try:
            self._refuse_if_full(opened.image.size)
            return await self._run(self._copy, opened, target)
        finally:
            opened.close()

    def _copy(self, opened: "DiskImage", target: StorageKey) -> StoredImage:
        image = opened.image
        with contextlib.closing(self._stage()) as staged:
            with translated():
                _copy_bytes(opened.fd, staged.fd, image.size)
                status = self._stamp(staged, image.content_type, image.sha256)
            self._home.sync(staged.fd)
            self._publish(target, staged, UNCONDITIONAL)
        return _describe(target, status, image.content_type, image.sha256)

    # Running -----------------------------------------------------------------------------

    async def check(self) -> None:
        """A look at the read-only flag, the free room and the staging folder."""
        self._home.refuse_writes_if_read_only()
        self._refuse_if_full(0)
        await self._run(self._try_staging)

    def _try_staging(self) -> None:
        self._stage().close()

    async def close(self) -> None:
        """Wait for what runs, then give the lock back."""
        await asyncio.get_running_loop().run_in_executor(None, self._pool.shutdown)
        self._home.close()

    async def _run(self, job: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking job in the pool, to its end even if the caller is cancelled.

        A job may hold descriptors that the caller closes next, and once an image is
        published it must also be synced.
        """
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, functools.partial(job, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):  # cancel scopes cancel again
                    await asyncio.wait([future])
            raise


class DiskImage:
    """An open image file; a `LocalImage`. `fd` is there for roads that send without copying."""

    __slots__ = ("_run", "fd", "image")

    def __init__(self, fd: int, image: StoredImage, run: "_Runner") -> None:
        self.fd = fd
        self.image = image
        self._run = run

    async def chunks(self, start: int, length: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on, in pieces; see `LocalImage.chunks`."""
        end = start + length
        while start < end:
            size = min(end - start, _READ_BYTES)
            chunk = self._read_cached(start, size)
            if chunk is None:
                chunk = await self._run(self._read, start, size)
            if not chunk:
                raise BackendUnavailable("the file became shorter while it was read")
            start += len(chunk)
            yield chunk

    def _read_cached(self, start: int, size: int) -> bytes | None:
        """What the page cache holds, without waiting for the disk; None if that is nothing."""
        buffer = bytearray(size)
        try:
            count = os.preadv(self.fd, [buffer], start, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: this filesystem cannot tell
            return None
        return bytes(memoryview(buffer)[:count]) if count else None

    def _read(self, start: int, size: int) -> bytes:
        with translated():
            return os.pread(self.fd, size, start)

    def take_facts(self) -> StoredImage:
        """Close the file and keep what is known of it."""
        self.close()
        return self.image

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True, slots=True)
class _Upload:
    """What belongs together while one image comes in."""

    key: StorageKey
    source: ImageSource
    condition: Condition
    intake: Intake


@dataclass(slots=True)
class _Batch:
    """Chunks that wait to be written together."""

    chunks: list[bytes]
    size: int

    def __init__(self) -> None:
        self.chunks = []
        self.size = 0

    def add(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        self.size += len(chunk)


class _Staged:
    """A file that no path names yet. Closing it is all that an abort takes."""

    def __init__(self, home: DataDirectory) -> None:
        self._home = home
        self.fd, self._name = home.open_staged()

    def link_or_replace(self, folder_fd: int, name: str, *, create_only: bool) -> None:
        """Put the file under `name`, at once and whole.

        Raises:
            PreconditionFailed: `create_only`, and something is there.
            IsADirectoryError: a folder is there.
            PathConflict: something that is no image is there, such as a planted link.
            FileNotFoundError: the folder has no place any more.
        """
        try:
            self._link(name, folder_fd)
        except FileExistsError:
            mode = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                _warn_of_link(name)
                raise PathConflict("something that is not an image has this name") from None
            if create_only:
                # Never a rename: what is a folder now may be somebody's new image by then.
                if stat.S_ISREG(mode):
                    raise PreconditionFailed from None
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name) from None
            self._replace(name, folder_fd)

    def _link(self, name: str, folder_fd: int) -> None:
        if self._name is None:
            link_file(self.fd, name, folder_fd)
        else:
            os.link(
                self._name, name, src_dir_fd=self._home.staging_fd, dst_dir_fd=folder_fd,
                follow_symlinks=False,
            )  # fmt: skip

    def _replace(self, name: str, folder_fd: int) -> None:
        if self._name is None:
            self._name = self._home.staging_name()
            link_file(self.fd, self._name, self._home.staging_fd)
        os.replace(self._name, name, src_dir_fd=self._home.staging_fd, dst_dir_fd=folder_fd)
        self._name = None

    def close(self) -> None:
        """Forget the file, unless it was published; a second call does nothing."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._name, dir_fd=self._home.staging_fd)


def _reserve(staged: _Staged, most_bytes: int | None) -> None:
    """Take the room for an upload of known length now, so that it cannot run out of it later."""
    if most_bytes is None:
        return
    with translated():
        try:
            os.posix_fallocate(staged.fd, 0, most_bytes)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def _write(staged: _Staged, batch: _Batch, intake: Intake) -> None:
    """Write and hash a batch in full; short writes do happen when a disk fills up."""
    with translated():
        for chunk in batch.chunks:
            intake.digest(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(staged.fd, rest) :]


def _copy_bytes(source_fd: int, target_fd: int, size: int) -> None:
    """Copy a whole file; the bytes stay in the kernel, or on the disk where blocks can be shared.

    Raises:
        OSError: also where the source has become shorter than `size`.
    """
    start = 0
    while start < size:
        count = os.copy_file_range(source_fd, target_fd, size - start, start, start)
        if count == 0:
            raise OSError(errno.EIO, "the file became shorter while it was copied")
        start += count


def _describe_file(key: StorageKey, fd: int) -> StoredImage:
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
    known = Attributes.read(fd, status.st_mtime_ns)
    if known is not None:
        return _describe(key, status, known.content_type, known.sha256)
    start = os.pread(fd, content_type.SNIFFED_BYTES, 0)
    return _describe(key, status, content_type.of(start, key.text), None)


def _describe(
    key: StorageKey, status: os.stat_result, kind: str, sha256: bytes | None
) -> StoredImage:
    return StoredImage(
        key=key,
        size=status.st_size,
        etag=_etag(status),
        modified_ns=status.st_mtime_ns,
        content_type=kind,
        sha256=sha256,
        save_id=f"{status.st_ino:x}-{status.st_mtime_ns:x}",
    )


def _etag_at(folder_fd: int, name: str) -> str | None:
    try:
        status = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(status.st_mode):
        return _etag(status)
    if not stat.S_ISDIR(status.st_mode):
        _warn_of_link(name)
    return None


def _etag(status: os.stat_result) -> str:
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'


def _cannot_open(key: StorageKey, error: OSError) -> Exception:
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO):
        return ImageNotFound()
    if error.errno in (errno.ELOOP, errno.EXDEV):
        _warn_of_link(key.text)
        return ImageNotFound()
    return BackendUnavailable(f"the disk refused: {os.strerror(error.errno or 0)}")


def _not_a_folder() -> PathConflict:
    return PathConflict("a part of the path is an image already, so it cannot be a folder")


def _warn_of_link(where: str) -> None:
    log.warning("security: a link or device stands in the data directory at %r", where)
