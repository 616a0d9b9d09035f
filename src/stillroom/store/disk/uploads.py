"""Uploads on a disk: files in `.stillroom/uploads`, which become images by a hard link.

Unlike staging files, these files survive a restart. A file gets its name only when it is complete
and synced, and is never written again. An attribute of the image has the id of the upload grant.

Files of deleted images, in `.stillroom/trash`, become images again in the same way, with a new
modification time: a restored image is a new version for the index and for pending deletions.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

from stillroom.errors import ImageNotFound
from stillroom.paths import StorageKey
from stillroom.store import causes
from stillroom.store.capabilities import ChangeObserver
from stillroom.store.disk.data_directory import PRIVATE_FOLDER, DataDirectory, translate_os_errors
from stillroom.store.disk.image import DiskImage, describe
from stillroom.store.disk.openat2 import closing
from stillroom.store.disk.publisher import Publisher
from stillroom.store.disk.staging import Staged
from stillroom.store.disk.threads import DiskThreads
from stillroom.store.values import ANY, UNCONDITIONAL, Condition, OpenedImage, StoredImage

_ATTRIBUTE: Final = "user.stillroom.grant"
_NO_ATTRIBUTES: Final = (
    "the filesystem of the data directory has no extended attributes: set STILLROOM_DATA_DIR to a "
    "folder on ext4, XFS, btrfs or the like"
)


@dataclass(frozen=True, slots=True)
class DiskUploads:
    """`Uploads` in a data directory."""

    data_directory: DataDirectory
    publisher: Publisher
    threads: DiskThreads
    changes: ChangeObserver
    open_file: Callable[[StorageKey], DiskImage]

    prefix: ClassVar[str] = f"{PRIVATE_FOLDER}/uploads/"
    trash_prefix: ClassVar[str] = f"{PRIVATE_FOLDER}/trash/"
    store: ClassVar[None] = None

    @property
    def unsupported(self) -> str | None:
        """Reason why uploads cannot be saved here: the filesystem has no extended attributes."""
        return None if self.data_directory.has_attributes else _NO_ATTRIBUTES

    async def open(self, key: StorageKey) -> DiskImage:
        """Open the file. Its bytes cannot change."""
        return self.open_file(key)

    async def find_saved(self, key: StorageKey, grant_id: str) -> StoredImage | None:
        """Return the image if its extended attribute contains the id of the grant."""
        return await self.threads.run(self._find, key, grant_id)

    def _find(self, key: StorageKey, grant_id: str) -> StoredImage | None:
        # FileNotFoundError: the folder was removed after the image was opened.
        gone = (ImageNotFound, FileNotFoundError)
        with contextlib.suppress(*gone), contextlib.closing(self.open_file(key)) as opened:
            if _read_note(opened.fd) == _note(grant_id, opened.image.modified_ns):
                # The process that linked the file may have been killed before the flush. After a
                # failed flush, another one would succeed without effect.
                self.data_directory.refuse_writes_if_read_only()
                folder = key.text.rpartition("/")[0]
                with closing(self.data_directory.open_folder(folder)) as folder_fd:
                    self.data_directory.sync_folder(folder_fd)
                return opened.image
        return None

    async def save(
        self, opened: OpenedImage, target: StoredImage, condition: Condition
    ) -> StoredImage:
        """Link the file to the image's path, and flush the folder."""
        assert isinstance(opened, DiskImage)  # noqa: S101  (`open` returns no others)
        self.data_directory.refuse_writes_if_read_only()
        image = await self.threads.run(self._link, opened, target, condition)
        self.changes.copied(image, opened.image, causes.current.get())
        return image

    def _link(self, opened: DiskImage, target: StoredImage, condition: Condition) -> StoredImage:
        with contextlib.closing(Staged(self.data_directory, os.dup(opened.fd))) as staged:
            with translate_os_errors():
                fcntl.flock(staged.fd, fcntl.LOCK_EX)
            if (image := self._find(target.key, target.save_id)) is not None:
                return image  # another process has just saved it
            with translate_os_errors():
                if not os.fstat(staged.fd).st_nlink:  # a sweeper has deleted the file
                    raise ImageNotFound
                status = staged.stamp(target.content_type, target.sha256)
                if self.data_directory.has_attributes:
                    note = _note(target.save_id, status.st_mtime_ns)
                    os.setxattr(staged.fd, _ATTRIBUTE, note)
            self.data_directory.sync(staged.fd)
            self.publisher.publish(target.key, staged, condition)
        return describe(target.key, status, target.content_type, target.sha256)

    async def discard(self, image: StoredImage, place: StorageKey) -> None:
        """Rename the file, and flush both folders."""
        self.data_directory.refuse_writes_if_read_only()
        began_ns = time.time_ns()
        await self.threads.run(
            self.publisher.delete, image.key, UNCONDITIONAL, image.save_id, place
        )
        self.changes.removed(image.key, began_ns, causes.current.get())

    async def restore(self, opened: OpenedImage, target: StoredImage) -> StoredImage:
        """Link the file to the image's path. Without extended attributes, a repeated call fails."""
        return await self.save(opened, target, Condition(if_none_match=ANY))

    async def delete(self, key: StorageKey) -> None:
        """Delete the file and flush its folder."""
        self.data_directory.refuse_writes_if_read_only()
        with contextlib.suppress(ImageNotFound):
            await self.threads.run(self.publisher.delete, key, UNCONDITIONAL, None)


def _read_note(fd: int) -> bytes | None:
    with contextlib.suppress(OSError):
        return os.getxattr(fd, _ATTRIBUTE)
    return None


def _note(grant_id: str, modified_ns: int) -> bytes:
    # With the time, so that a file that was edited by hand is another image.
    return f"{grant_id} {modified_ns:x}".encode("ascii")
