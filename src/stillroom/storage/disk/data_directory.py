"""The data directory: layout, locks, and capabilities of its filesystem.

DATA_DIR/compute/            images at their paths
DATA_DIR/media/              images of the media library, by id
DATA_DIR/.stillroom/         private files; no image path can name them
    lock                     held shared by every running process
    staging/                 incoming files, nameless where possible
    sendfile/                additional names of images for a proxy, for minutes
    tidied                   its time is that of the last search for empty folders
    state                    a few bytes that all processes map and share
    secret                   the token secret (auth.secret makes it)
    library.db               rows of the media library, unless they are in PostgreSQL
"""

import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

from stillroom.errors import BackendUnavailable, ConfigurationError, ReadOnly, StorageFull
from stillroom.storage.capabilities import CallObserver, unobserved
from stillroom.storage.disk.openat2 import Opener, choose_opener, open_by_kernel

PRIVATE_FOLDER: Final = ".stillroom"
SENDFILE_FOLDER: Final = f"{PRIVATE_FOLDER}/sendfile"
IMAGE_FOLDERS: Final = ("compute", "media")

_FILE_MODE: Final = 0o640
_FOLDER_MODE: Final = 0o750
_ATTRIBUTE_PROBE: Final = "user.stillroom.probe"
_STATE_BYTES: Final = 16
_READ_ONLY_AT: Final = 0
_EPOCH: Final = slice(8, 16)

_SYNC_FILE_RANGE_WRITE: Final = 2

_libc = ctypes.CDLL(None)

log = logging.getLogger("stillroom.disk")


class DataDirectory:
    """The opened data directory. Each process opens it once.

    Attributes:
        fd: Descriptor of the directory itself. Keys are relative to it.
        open_contained: Opens a key without leaving the directory or following a link.
        durable: Whether to sync at all (`STILLROOM_DURABILITY`).
        has_nameless_files: O_TMPFILE and linking work; otherwise staging files have names.
        has_attributes: Extended attributes work; otherwise hashes are not stored.
    """

    def __init__(
        self,
        root: Path,
        *,
        durable: bool = True,
        opener: Opener | None = None,
        observer: CallObserver = unobserved,
    ) -> None:
        """Open the directory at `root`, creating it if it is missing.

        Args:
            root: Path of the directory.
            durable: Whether to sync.
            opener: Function that opens files; by default the best one that works.
            observer: Observer of syncs: `fsync_file` and `fsync_folder`, `ok` or `error`.

        Raises:
            ConfigurationError: it cannot be created or used; the message says why.
        """
        if sys.getfilesystemencoding() != "utf-8":
            raise ConfigurationError(
                f"file names are {sys.getfilesystemencoding()} here, and images need UTF-8: "
                "set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
            )
        self.root = root
        self.durable = durable
        self._observe = observer
        self._closing = contextlib.ExitStack()
        try:
            self._open(opener)
        except ConfigurationError:
            self._closing.close()
            raise
        except OSError as error:
            self._closing.close()
            raise ConfigurationError(
                f"the data directory {str(root)!r} cannot be used ({error}): "
                "set STILLROOM_DATA_DIR to a folder that this user may write to"
            ) from error

    def _open(self, opener: Opener | None) -> None:
        self.root.mkdir(parents=True, exist_ok=True, mode=_FOLDER_MODE)
        self.fd = self._close_later(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY))
        for name in (PRIVATE_FOLDER, *IMAGE_FOLDERS):
            self._make_folder(name)
        self._make_folder(f"{PRIVATE_FOLDER}/staging")
        private = self._close_later(
            os.open(f"{self.root}/{PRIVATE_FOLDER}", os.O_RDONLY | os.O_DIRECTORY)
        )
        self.staging_fd = self._close_later(
            os.open("staging", os.O_RDONLY | os.O_DIRECTORY, dir_fd=private)
        )
        self._refuse_other_filesystems()
        self._state = self._map_state(private)
        self._take_lock(private)
        self.open_contained = opener or choose_opener(self.fd)
        self.has_nameless_files = self._probe_nameless_files()
        self._probe_hard_links()
        self.has_attributes = self._probe_attributes()
        if self.durable:
            for fd in (private, self.fd):
                os.fsync(fd)
            self._sync_folder_above()

    @property
    def description(self) -> str:
        """Path and capabilities of the filesystem, in one line for the log."""
        capabilities = [
            "openat2" if self.open_contained is open_by_kernel else "no openat2 (walks instead)",
            "O_TMPFILE" if self.has_nameless_files else "no O_TMPFILE (named staging files)",
            "attributes" if self.has_attributes else "no attributes (hashes are not kept)",
            "durable" if self.durable else "NOT durable (STILLROOM_DURABILITY=none)",
        ]
        return f"{self.root.absolute()} ({', '.join(capabilities)})"

    # State shared by all processes -------------------------------------------------------

    @property
    def is_read_only(self) -> bool:
        """Return whether a sync has failed in any of the processes running now."""
        return self._state[_READ_ONLY_AT] != 0

    def refuse_writes_if_read_only(self) -> None:
        """Raise if nothing may be written any more.

        Raises:
            ReadOnly: a sync failed; the disk must be checked and all processes restarted.
        """
        if self.is_read_only:
            raise ReadOnly(
                "the store is read-only since a sync to the disk failed: "
                "check the disk (dmesg, smartctl), then restart the server"
            )

    @property
    def folder_epoch(self) -> bytes:
        """Random bytes that change whenever any process removes a folder."""
        return self._state[_EPOCH]

    def note_removed_folder(self) -> None:
        """Invalidate, in every process, the cache of folders known to be durable."""
        self._state[_EPOCH] = secrets.token_bytes(8)

    def sync(self, fd: int, call: str = "fsync_file") -> None:
        """Call fsync; if it fails, make the store read-only in every process.

        After a failed fsync the kernel drops the unwritten pages and reports success the next
        time, so the file is never synced again (https://wiki.postgresql.org/wiki/Fsync_Errors).

        Raises:
            ReadOnly: the sync failed; the outcome of the save is unknown.
        """
        if not self.durable:
            return
        began = time.perf_counter()
        try:
            os.fsync(fd)
        except OSError as error:
            self._observe(call, "error", time.perf_counter() - began)
            self._turn_read_only(error)
        self._observe(call, "ok", time.perf_counter() - began)

    def _turn_read_only(self, error: OSError) -> NoReturn:
        self._state[_READ_ONLY_AT] = 1
        log.critical("a sync failed, the store is read-only from here on: %s", error)
        raise ReadOnly("the disk failed while the image was written") from error

    def start_writeback(self, fd: int, start: int, length: int) -> None:
        """Let the disk start writing these bytes, so that a later sync takes less time.

        Errors are ignored, since the sync reports them.
        Source: https://man7.org/linux/man-pages/man2/sync_file_range.2.html
        """
        if self.durable:
            _libc.sync_file_range(
                fd, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE
            )

    def sync_folder(self, fd: int) -> None:
        """Sync a folder's entries, like `sync`.

        XFS returns 0 from the fsync of a directory while the filesystem is shutting down; only the
        stat fails then.
        """
        self.sync(fd, "fsync_folder")
        if self.durable:
            try:
                os.stat(".", dir_fd=fd)
            except OSError as error:
                self._turn_read_only(error)

    # Staging files -----------------------------------------------------------------------

    def open_staged(self) -> tuple[int, str | None]:
        """Create an empty file for writing. Return it, and its name if it needs one."""
        if self.has_nameless_files:
            flags = os.O_TMPFILE | os.O_RDWR
            return os.open(".", flags, _FILE_MODE, dir_fd=self.staging_fd), None
        name = self.staging_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
        return os.open(name, flags, _FILE_MODE, dir_fd=self.staging_fd), name

    def staging_name(self) -> str:
        """Return a unique name for a staging file."""
        return f"{os.getpid()}-{secrets.token_hex(8)}"

    def make_folder_at(self, parent_fd: int, name: str) -> None:
        """Create one folder unless it exists."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _FOLDER_MODE, dir_fd=parent_fd)

    def close(self) -> None:
        """Release the lock and close all descriptors; the object must not be used afterwards."""
        self.fd = self.staging_fd = -1  # the numbers may be reused by the next open
        self._closing.close()

    # Opening -----------------------------------------------------------------------------

    def _close_later(self, fd: int) -> int:
        self._closing.callback(os.close, fd)
        return fd

    def _make_folder(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _FOLDER_MODE, dir_fd=self.fd)
        mode = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)

    def _refuse_other_filesystems(self) -> None:
        """Raise unless staging and image folders are on one mount, as link(2) requires.

        Device numbers do not tell bind mounts apart. Renaming a missing file does: the kernel
        compares the mounts before it looks up the names
        (https://man7.org/linux/man-pages/man2/rename.2.html, EXDEV).
        """
        device = os.fstat(self.staging_fd).st_dev
        for name in IMAGE_FOLDERS:
            folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self.fd)
            missing = self.staging_name()
            try:
                is_other = os.fstat(folder).st_dev != device
                os.rename(missing, missing, src_dir_fd=self.staging_fd, dst_dir_fd=folder)
            except OSError as error:
                is_other |= error.errno == errno.EXDEV
            finally:
                os.close(folder)
            if is_other:
                raise ConfigurationError(
                    f"{name}/ and {PRIVATE_FOLDER}/ in {str(self.root)!r} are on different mounts, "
                    "and no image could be saved: mount one filesystem at the data directory itself"
                )

    def _map_state(self, private_fd: int) -> mmap.mmap:
        fd = os.open("state", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=private_fd)
        try:
            os.ftruncate(fd, _STATE_BYTES)
            self._fill_hole(fd)
            state = mmap.mmap(fd, _STATE_BYTES)
        finally:
            os.close(fd)
        self._closing.callback(state.close)
        return state

    def _fill_hole(self, fd: int) -> None:
        """Allocate the mapped file: writing into a hole raises SIGBUS if the disk is full."""
        try:
            os.posix_fallocate(fd, 0, _STATE_BYTES)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise ConfigurationError(
                f"the disk has no space for the {_STATE_BYTES} bytes of "
                f"{str(self.root / PRIVATE_FOLDER / 'state')!r}: delete something, then start again"
            ) from error

    def _take_lock(self, private_fd: int) -> None:
        """Take the shared lock. If no other process runs, first remove leftovers of a crash."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        fd = self._close_later(os.open("lock", flags, 0o600, dir_fd=private_fd))
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pass
        else:
            for name in os.listdir(self.staging_fd):
                os.unlink(name, dir_fd=self.staging_fd)
            shutil.rmtree(SENDFILE_FOLDER, ignore_errors=True, dir_fd=self.fd)
            self._state[:] = bytes(_STATE_BYTES)
        fcntl.flock(fd, fcntl.LOCK_SH)

    def _probe_nameless_files(self) -> bool:
        name = self.staging_name()
        try:
            fd = os.open(".", os.O_TMPFILE | os.O_RDWR, _FILE_MODE, dir_fd=self.staging_fd)
        except OSError:
            return False
        try:
            link_file(fd, name, self.staging_fd)
            os.unlink(name, dir_fd=self.staging_fd)
        except OSError:
            return False
        finally:
            os.close(fd)
        return True

    def _probe_hard_links(self) -> None:
        """Check link(2), which publishes an image without overwriting another one."""
        fd, name = self.open_staged()
        linked = self.staging_name()
        try:
            if name is None:
                link_file(fd, linked, self.staging_fd)
            else:
                staging = self.staging_fd
                os.link(name, linked, src_dir_fd=staging, dst_dir_fd=staging)
                os.unlink(name, dir_fd=staging)
            os.unlink(linked, dir_fd=self.staging_fd)
        except OSError as error:
            raise ConfigurationError(
                f"the filesystem of {str(self.root)!r} has no hard links ({error.strerror}): "
                "set STILLROOM_DATA_DIR to a folder on ext4, XFS, btrfs or the like"
            ) from error
        finally:
            os.close(fd)

    def _probe_attributes(self) -> bool:
        fd, name = self.open_staged()
        try:
            os.setxattr(fd, _ATTRIBUTE_PROBE, b"1")
        except OSError:
            return False
        finally:
            os.close(fd)
            if name is not None:
                os.unlink(name, dir_fd=self.staging_fd)
        return True

    def _sync_folder_above(self) -> None:
        fd = os.open(self.root.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def link_file(fd: int, name: str, folder_fd: int) -> None:
    """Link a nameless open file to a name; EEXIST if the name is in use.

    Without a `dir_fd`, CPython calls plain link(2), which does not follow /proc/self/fd and fails
    with EXDEV.
    """
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder_fd, follow_symlinks=True)


@contextlib.contextmanager
def translate_os_errors(*passed: type[OSError]) -> Iterator[None]:
    """Translate errors of the operating system into those of the port.

    Args:
        passed: Errors that the caller handles itself.

    Raises:
        StorageFull: no space or quota is left.
        BackendUnavailable: any other error of the disk.
    """
    try:
        yield
    except passed:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk has no space for this image") from error
        raise BackendUnavailable(f"the disk refused: {os.strerror(error.errno or 0)}") from error
