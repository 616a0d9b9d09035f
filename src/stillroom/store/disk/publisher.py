"""Atomic and durable publication and deletion of image files; see docs/adr/0003."""

import contextlib
import errno
import fcntl
import os
import random
import time
from typing import Final

from stillroom.errors import BackendUnavailable, ImageNotFound, PathConflict, PreconditionFailed
from stillroom.paths import StorageKey
from stillroom.store.disk import image
from stillroom.store.disk.data_directory import DataDirectory, translate_os_errors
from stillroom.store.disk.folders import Folders
from stillroom.store.disk.openat2 import release
from stillroom.store.disk.staging import Staged
from stillroom.store.values import Condition

_PUBLISH_ATTEMPTS: Final = 16  # if the folder is removed before the file is linked
_PUBLISH_PAUSE_S: Final = 0.05  # maximum of a random pause before a retry, except the first one


class Publisher:
    """Publication and deletion of image files, with locks on their folders. All methods block."""

    def __init__(self, data_directory: DataDirectory) -> None:
        self._data_directory = data_directory
        self._folders = Folders(data_directory)

    def refuse_file_as_folder(self, key: StorageKey) -> None:
        """Raise `PathConflict` if a parent folder in the path is a file."""
        folder = key.text.rpartition("/")[0]
        try:
            release(self._data_directory.open_folder(folder))
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise _not_a_folder() from error

    def publish(self, key: StorageKey, staged: Staged, condition: Condition) -> None:
        """Give a complete temporary file its final name atomically, and flush the folder."""
        folder, _, name = key.text.rpartition("/")
        for attempt in range(_PUBLISH_ATTEMPTS):
            if attempt > 1:
                time.sleep(random.uniform(0, _PUBLISH_PAUSE_S))  # noqa: S311  (spreads, hides nothing)
            with contextlib.suppress(FileNotFoundError):  # the folder was removed in the meantime
                folder_fd = self._open_or_make(folder)
                try:
                    if self._publish_in(folder_fd, name, staged, condition):
                        return
                finally:
                    release(folder_fd)
        raise BackendUnavailable("the folder was removed repeatedly during the save: try again")

    def _publish_in(self, folder_fd: int, name: str, staged: Staged, condition: Condition) -> bool:
        """Publish a file as `name`. If `name` is an empty folder, remove that and return False.

        All processes lock the folder: most saves with a shared lock, but saves with If-Match and
        deletions with an exclusive lock, so that their check and change are atomic.
        """
        exclusive = condition.if_match is not None
        with translate_os_errors(FileNotFoundError, IsADirectoryError):
            fcntl.flock(folder_fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
            if condition.is_set:
                status = image.status_at(folder_fd, name)
                condition.check(None if status is None else image.etag_of(status))
            try:
                staged.link_or_replace(folder_fd, name, create_only=condition.create_only)
            except IsADirectoryError as error:
                if self._folders.remove_empty_tree(folder_fd, name):
                    return False
                raise PathConflict(
                    "this path is a folder that contains images: save the image under another path"
                ) from error
        self._unlock(folder_fd)
        self._data_directory.sync_folder(folder_fd)
        return True

    def _unlock(self, folder_fd: int) -> None:
        """Unlock a folder before its flush, so that other processes need not wait for the flush."""
        with contextlib.suppress(OSError):  # the change is made: ignore errors
            fcntl.flock(folder_fd, fcntl.LOCK_UN)

    def _open_or_make(self, folder: str) -> int:
        with translate_os_errors(FileNotFoundError):
            try:
                return self._folders.open_or_make(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                if error.errno == errno.ELOOP:
                    image.warn_of_link(folder)
                raise _not_a_folder() from error

    def delete(
        self,
        key: StorageKey,
        condition: Condition,
        save_id: str | None,
        place: StorageKey | None = None,
    ) -> None:
        """Delete an image or move it to `place`, if the conditions hold. Then flush the folders."""
        folder, _, name = key.text.rpartition("/")
        with contextlib.ExitStack() as opened:
            try:
                folder_fd = self._data_directory.open_folder(folder)
            except OSError as error:
                raise image.error_of_open(key, error) from error
            opened.callback(release, folder_fd)
            if place is not None:
                place_folder, _, place_name = place.text.rpartition("/")
                place_fd = self._open_or_make(place_folder)
                opened.callback(release, place_fd)
            with translate_os_errors():
                fcntl.flock(folder_fd, fcntl.LOCK_EX)
                status = image.status_at(folder_fd, name)
                if status is None:
                    raise ImageNotFound
                condition.check(image.etag_of(status))
                if save_id not in (None, image.save_id_of(status)):
                    raise PreconditionFailed
                try:
                    if place is None:
                        os.unlink(name, dir_fd=folder_fd)
                    else:
                        os.rename(name, place_name, src_dir_fd=folder_fd, dst_dir_fd=place_fd)
                except FileNotFoundError:  # a user has just deleted the file, without the lock
                    raise ImageNotFound from None
            self._unlock(folder_fd)
            if place is not None:
                self._data_directory.sync_folder(place_fd)
            self._data_directory.sync_folder(folder_fd)


def _not_a_folder() -> PathConflict:
    return PathConflict(
        "a folder in this path cannot be created, because an image has its name: save the image "
        "under another path"
    )
