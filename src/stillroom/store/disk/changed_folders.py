"""Search for changed folders by their modification time, without reading any image.

Each save or deletion of an image updates the modification time of its folder.
"""

import errno
import os
from collections.abc import Iterator
from typing import Final

from stillroom.store.disk.data_directory import IMAGE_FOLDERS, DataDirectory
from stillroom.store.disk.openat2 import closing

LINKS_OF_A_LEAF: Final = 2
"""Link count of a folder without subfolders, if the filesystem counts them (stat(2), st_nlink)."""


def changed_folders(data_directory: DataDirectory, since_ns: int) -> Iterator[str | None]:
    """Walk all image folders in arbitrary order, and find those that have changed.

    For each folder, yields the key prefix if the folder has changed since `since_ns` (Unix time),
    otherwise None. A folder is not read if its link count shows that it has no subfolders.
    """
    waiting = [*IMAGE_FOLDERS]
    while waiting:
        path = waiting.pop()
        try:
            fd = data_directory.open_folder(path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                continue
            raise
        with closing(fd):
            status = os.fstat(fd)
            if status.st_nlink != LINKS_OF_A_LEAF:
                with os.scandir(fd) as entries:
                    folders = [entry for entry in entries if entry.is_dir(follow_symlinks=False)]
                waiting += [f"{path}/{folder.name}" for folder in folders]
        yield f"{path}/" if status.st_mtime_ns >= since_ns else None
