"""Parent folders of images: creating, opening and removing them, and flushing them to disk.

A file survives a power cut only if the directory entries of all its parent folders were flushed.
Each process remembers for which folders this was done, so that saves need fewer calls of fsync.
"""

import errno
import os
from typing import Final

from stillroom.store.disk.data_directory import DataDirectory
from stillroom.store.disk.openat2 import closing, release

_REMEMBERED: Final = 65_536  # folders; about 10 MiB
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Folders:
    """Folders in a data directory. Thread-safe."""

    def __init__(self, data_directory: DataDirectory) -> None:
        self._data_directory = data_directory
        self._durable: dict[str, tuple[int, bytes]] = {}  # inode, and the epoch before the sync

    def open_or_make(self, folder: str) -> int:
        """Open or create a folder. It and its parent folders survive a power cut.

        Raises `OSError` for a file (ENOTDIR) or a link (ELOOP) in the path, or a removed folder.
        """
        epoch = self._data_directory.folder_epoch
        try:
            fd = self._data_directory.open_folder(folder)
        except FileNotFoundError:
            return self._make_chain(folder, epoch)
        try:
            is_durable = self._durable.get(folder) == (os.fstat(fd).st_ino, epoch)
        except OSError:
            release(fd)
            raise
        # Another process may have removed a folder in the meantime.
        if is_durable and self._data_directory.folder_epoch == epoch:
            return fd
        release(fd)
        return self._make_chain(folder, epoch)

    def _make_chain(self, folder: str, epoch: bytes) -> int:
        path = ""
        parent_fd = os.dup(self._data_directory.fd)
        try:
            for name in folder.split("/"):
                path = f"{path}/{name}" if path else name
                self._data_directory.make_folder_at(parent_fd, name)
                self._data_directory.sync_folder(parent_fd)
                fd = self._data_directory.open_folder(path)
                release(parent_fd)
                parent_fd = fd
            inode = os.fstat(parent_fd).st_ino
        except BaseException:
            release(parent_fd)
            raise
        if len(self._durable) >= _REMEMBERED:
            self._durable.clear()
        self._durable[folder] = (inode, epoch)
        return parent_fd

    def remove_empty_tree(self, parent_fd: int, name: str) -> bool:
        """Remove a folder and its subfolders. Return False if any of them contains a file."""
        if not _contains_only_folders(parent_fd, name):
            return False
        self._data_directory.note_removed_folder()
        try:
            _remove_folders(parent_fd, name)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise
            return False  # an image was saved in it at the same time
        finally:
            self._data_directory.note_removed_folder()
        return True


def _contains_only_folders(parent_fd: int, name: str) -> bool:
    with closing(os.open(name, _FOLDER_FLAGS, dir_fd=parent_fd)) as fd, os.scandir(fd) as entries:
        return all(
            entry.is_dir(follow_symlinks=False) and _contains_only_folders(fd, entry.name)
            for entry in entries
        )


def _remove_folders(parent_fd: int, name: str) -> None:
    with closing(os.open(name, _FOLDER_FLAGS, dir_fd=parent_fd)) as fd:
        for subfolder in os.listdir(fd):
            _remove_folders(fd, subfolder)
    os.rmdir(name, dir_fd=parent_fd)
