"""Remove folders that have been empty for a while, because listings visit them all.

100,000 empty folders add 0.9 s to the first page. Requests never remove folders, since concurrent
saves would have to start again; after an hour, no save is about to use an empty folder.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from stillroom.storage.disk.changed_folders import LINKS_OF_A_LEAF
from stillroom.storage.disk.data_directory import IMAGE_FOLDERS, PRIVATE_FOLDER, DataDirectory

_FILE: Final = f"{PRIVATE_FOLDER}/tidied"
"""Locked by the process that walks; its modification time is that of the last walk."""


def remove_empty_folders(
    data_directory: DataDirectory, empty_for: timedelta, is_stopped: Callable[[], bool]
) -> int:
    """Remove empty folders that have not changed for `empty_for`, except the top folders.

    A parent folder that becomes empty is removed too. Only one process walks at a time, and not
    again before `empty_for` has passed. Folders without subfolders are not read completely.

    Returns:
        Number of folders removed; 0 if no walk was due.

    Raises:
        OSError: the filesystem failed.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_FILE, flags, 0o600, dir_fd=data_directory.fd)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        before = time.time() - empty_for.total_seconds()
        if os.fstat(fd).st_mtime > before:
            return 0
        walk = _Walk(data_directory, before, is_stopped)
        for folder in IMAGE_FOLDERS:
            walk.visit(folder)
        if not is_stopped():
            os.utime(fd)
        return walk.removed
    finally:
        os.close(fd)


class _Walk:
    def __init__(
        self, data_directory: DataDirectory, before: float, is_stopped: Callable[[], bool]
    ) -> None:
        self._data_directory = data_directory
        self._before = before
        self._is_stopped = is_stopped
        self.removed = 0

    def visit(self, path: str) -> bool:
        """Remove empty folders below a folder. Return whether it can be removed itself."""
        try:
            fd = self._data_directory.open_contained(
                self._data_directory.fd, path, os.O_RDONLY | os.O_DIRECTORY
            )
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO):
                raise
            return False  # deleted meanwhile, or not readable
        try:
            status = os.fstat(fd)  # before the removal of subfolders changes it
            entries = os.scandir(fd)
        finally:
            os.close(fd)  # `entries` has its own, so each level needs only one descriptor
        is_empty = True
        with entries:
            for entry in entries:
                if self._is_stopped():
                    return False
                if not entry.is_dir(follow_symlinks=False):
                    is_empty = False
                    if status.st_nlink == LINKS_OF_A_LEAF:
                        break
                elif not (self.visit(f"{path}/{entry.name}") and self._remove(path, entry.name)):
                    is_empty = False
        return is_empty and status.st_mtime < self._before

    def _remove(self, path: str, name: str) -> bool:
        self._data_directory.note_removed_folder()
        try:
            with contextlib.suppress(FileNotFoundError):
                parent = self._data_directory.open_contained(
                    self._data_directory.fd, path, os.O_RDONLY | os.O_DIRECTORY
                )
                try:
                    os.rmdir(name, dir_fd=parent)
                finally:
                    os.close(parent)
        except OSError:
            return False  # an image has just been saved into it
        finally:
            self._data_directory.note_removed_folder()
        self.removed += 1
        return True
