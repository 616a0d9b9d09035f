"""Find folders whose contents have changed, without looking at a single image.

A folder's modification time is set by each save, replacement and deletion directly in it.
"""

import errno
import os
from collections.abc import Iterator
from typing import Final

from stillroom.storage.disk.data_directory import IMAGE_FOLDERS, DataDirectory

LINKS_OF_A_LEAF: Final = 2
"""Of a folder without folders in it, on filesystems that count them (stat(2), st_nlink)."""


def changed_folders(data_directory: DataDirectory, since_ns: int) -> Iterator[str | None]:
    """Walk all folders of images, in no particular order.

    Folders that hold images alone are not read, where the filesystem counts folders in them.

    Args:
        data_directory: Where the folders are.
        since_ns: Nanoseconds since the epoch.

    Yields:
        For each folder its key prefix if it has changed then or later, else None.

    Raises:
        OSError: the filesystem failed; folders that vanish meanwhile do not count.
    """
    waiting = [*IMAGE_FOLDERS]
    while waiting:
        path = waiting.pop()
        try:
            fd = data_directory.open_contained(
                data_directory.fd, path, os.O_RDONLY | os.O_DIRECTORY
            )
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES):
                continue
            raise
        try:
            status = os.fstat(fd)
            if status.st_nlink != LINKS_OF_A_LEAF:
                with os.scandir(fd) as entries:
                    waiting += [
                        f"{path}/{entry.name}"
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                    ]
        finally:
            os.close(fd)
        yield f"{path}/" if status.st_mtime_ns >= since_ns else None
