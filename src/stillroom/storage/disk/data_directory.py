"""The data directory: its layout, its locks, and what its filesystem can do.

DATA_DIR/compute/            the images, at their own paths
DATA_DIR/media/              the media library's, by id
DATA_DIR/.stillroom/         ours; no image path can name it
    lock                     held shared by every running process
    staging/                 files on their way in, nameless where possible
    sendfile/                further names of images that a proxy sends, for minutes
    tidied                   as old as the last search for empty folders
    state                    a few bytes that all processes map and share
    secret                   the token secret (auth.secret makes it)
    library.db               the media library's rows, unless they are in PostgreSQL
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
    """The opened data directory; each process opens it once.

    Attributes:
        fd: The directory itself. Keys are relative to it.
        open_contained: Opens a key without leaving the directory or following a link.
        durable: Whether syncs are made at all (`STILLROOM_DURABILITY`).
        has_nameless_files: O_TMPFILE and linking work; else staging files have names.
        has_attributes: Extended attributes work; else hashes are not remembered.
    """

    def __init__(
        self,
        root: Path,
        *,
        durable: bool = True,
        opener: Opener | None = None,
        observer: CallObserver = unobserved,
    ) -> None:
        """Open, and make where it is missing, the directory at `root`.

        Args:
            root: Where it is.
            durable: Make syncs at all.
            opener: How files are opened; what works best without it.
            observer: Hears of each sync: `fsync_file` and `fsync_folder`, `ok` or `error`.

        Raises:
            ConfigurationError: it cannot be made or used; the message says why.
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
        self.fd = self._keep(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY))
        for name in (PRIVATE_FOLDER, *IMAGE_FOLDERS):
            self._make_folder(name)
        self._make_folder(f"{PRIVATE_FOLDER}/staging")
        private = self._keep(os.open(f"{self.root}/{PRIVATE_FOLDER}", os.O_RDONLY | os.O_DIRECTORY))
        self.staging_fd = self._keep(
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
        """What this filesystem can do, in one line for the log."""
        how = [
            "openat2" if self.open_contained is open_by_kernel else "no openat2 (walks instead)",
            "O_TMPFILE" if self.has_nameless_files else "no O_TMPFILE (named staging files)",
            "attributes" if self.has_attributes else "no attributes (hashes are not kept)",
            "durable" if self.durable else "NOT durable (STILLROOM_DURABILITY=none)",
        ]
        return f"{self.root.absolute()} ({', '.join(how)})"

    # What all processes share ------------------------------------------------------------

    @property
    def is_read_only(self) -> bool:
        """Whether a sync has failed, in any process, since all of them were started."""
        return self._state[_READ_ONLY_AT] != 0

    def refuse_writes_if_read_only(self) -> None:
        """Raise if nothing may be promised any more.

        Raises:
            ReadOnly: a sync failed; only a restart, with a look at the disk, helps.
        """
        if self.is_read_only:
            raise ReadOnly(
                "the store is read-only since a sync to the disk failed: "
                "check the disk (dmesg, smartctl), then restart the server"
            )

    @property
    def folder_epoch(self) -> bytes:
        """Changes whenever any process removes a folder."""
        return self._state[_EPOCH]

    def note_removed_folder(self) -> None:
        """Make every process forget which folders it knows to be on the disk."""
        self._state[_EPOCH] = secrets.token_bytes(8)

    def sync(self, fd: int, call: str = "fsync_file") -> None:
        """fsync, and turn the store read-only in every process if that fails.

        After a failed fsync the kernel drops the unwritten pages and reports
        success the next time, so the file is never synced again
        (https://wiki.postgresql.org/wiki/Fsync_Errors).

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

    def begin_writing(self, fd: int, start: int, length: int) -> None:
        """Have the disk begin with these bytes, so that a sync later waits for less.

        Promises nothing: what goes wrong here, the sync reports.
        Source: https://man7.org/linux/man-pages/man2/sync_file_range.2.html
        """
        if self.durable:
            _libc.sync_file_range(
                fd, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE
            )

    def sync_folder(self, fd: int) -> None:
        """Sync a folder's entries; the same rules as `sync`.

        The stat is for XFS, whose directory fsync answers 0 while the filesystem
        is shutting down; the stat tells.
        """
        self.sync(fd, "fsync_folder")
        if self.durable:
            try:
                os.stat(".", dir_fd=fd)
            except OSError as error:
                self._turn_read_only(error)

    # Files on their way in ---------------------------------------------------------------

    def open_staged(self) -> tuple[int, str | None]:
        """A new empty file for writing, and its name in staging if it needs one."""
        if self.has_nameless_files:
            flags = os.O_TMPFILE | os.O_RDWR
            return os.open(".", flags, _FILE_MODE, dir_fd=self.staging_fd), None
        name = self.staging_name()
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
        return os.open(name, flags, _FILE_MODE, dir_fd=self.staging_fd), name

    def staging_name(self) -> str:
        """A unique name in staging."""
        return f"{os.getpid()}-{secrets.token_hex(8)}"

    def make_folder_at(self, parent_fd: int, name: str) -> None:
        """Make one folder; fine if it exists."""
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _FOLDER_MODE, dir_fd=parent_fd)

    def close(self) -> None:
        """Give the lock and all descriptors back; nothing may be asked of it afterwards."""
        self.fd = self.staging_fd = -1  # a number that the next open may reuse is a trap
        self._closing.close()

    # Opening -----------------------------------------------------------------------------

    def _keep(self, fd: int) -> int:
        self._closing.callback(os.close, fd)
        return fd

    def _make_folder(self, name: str) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _FOLDER_MODE, dir_fd=self.fd)
        mode = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)

    def _refuse_other_filesystems(self) -> None:
        """An image is published by link(2), which leads from no filesystem to another.

        Where the numbers are equal, a bind mount is still another mount. Renaming tells, of what
        does not exist: the kernel compares the mounts before it looks for the names
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
        """Allocate the mapped file: writing into a hole of a full disk would be SIGBUS."""
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
        """Hold the lock shared; a process that is alone first clears what a crash has left."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        fd = self._keep(os.open("lock", flags, 0o600, dir_fd=private_fd))
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
        """Publishing without overwriting is a link(2), whether or not the file has a name."""
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
    """Give a nameless open file its name; EEXIST if the name is taken.

    Without a `dir_fd` CPython calls plain link(2), which does not follow
    /proc/self/fd and fails with EXDEV.
    """
    os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=folder_fd, follow_symlinks=True)


@contextlib.contextmanager
def translated(*known: type[OSError]) -> Iterator[None]:
    """Turn what the system says into what the port promises.

    Args:
        known: Errors that mean something to the caller; they pass.

    Raises:
        StorageFull: no space, or no quota, left.
        BackendUnavailable: any other trouble of the medium.
    """
    try:
        yield
    except known:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull("the disk has no space for this image") from error
        raise BackendUnavailable(f"the disk refused: {os.strerror(error.errno or 0)}") from error
