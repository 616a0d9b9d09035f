"""Removal of folders that have been empty for a while, since they slow down listings.

100,000 empty folders add 0.9 s to the first page. Requests never remove folders, since that would
disturb concurrent saves. After a folder was empty for an hour, no save needs it any more.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from stillroom.store.disk.changed_folders import LINKS_OF_A_LEAF
from stillroom.store.disk.data_directory import (
    IMAGE_FOLDERS,
    PRIVATE_FOLDER,
    DataDirectory,
    translate_os_errors,
)
from stillroom.store.disk.openat2 import closing

_FILE: Final = f"{PRIVATE_FOLDER}/tidied"  # lock, modified at the time of the last search


@translate_os_errors()
def remove_empty_folders(
    data_directory: DataDirectory, empty_for: timedelta, is_stopped: Callable[[], bool]
) -> int:
    """Remove empty folders that have not changed for `empty_for`, and return their number.

    A parent folder that becomes empty is removed, too, except the top folders. Only one process
    searches at a time, and there is at most one search per `empty_for`.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with closing(os.open(_FILE, flags, 0o600, dir_fd=data_directory.fd)) as fd:
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


class _Walk:
    def __init__(
        self, data_directory: DataDirectory, before: float, is_stopped: Callable[[], bool]
    ) -> None:
        self._data_directory = data_directory
        self._before = before
        self._is_stopped = is_stopped
        self.removed = 0

    def visit(self, path: str) -> bool:
        """Remove empty folders below a folder. Return whether this folder can be removed, too."""
        try:
            fd = self._data_directory.open_folder(path)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.EIO):
                raise
            return False  # the folder was deleted meanwhile, or is not readable
        with closing(fd):
            status = os.fstat(fd)  # read before removing subfolders changes the time
            entries = os.scandir(fd)  # has its own descriptor
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
            open_folder = self._data_directory.open_folder
            with contextlib.suppress(FileNotFoundError), closing(open_folder(path)) as parent:
                os.rmdir(name, dir_fd=parent)
        except OSError:
            return False  # an image has just been saved in the folder
        finally:
            self._data_directory.note_removed_folder()
        self.removed += 1
        return True
