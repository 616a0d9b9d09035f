"""Pinned names: hard links with which a proxy on the same machine opens images (docs/adr/0027).

The path of a link is DATA_DIR/.stillroom/sendfile/<period>-<random>/<save id>. In each period of
60 s, each process creates a new folder for its links. After one more period, the folder is removed.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable
from typing import Final

from stillroom.store.disk.data_directory import SENDFILE_FOLDER, DataDirectory, link_file
from stillroom.store.disk.image import DiskImage
from stillroom.store.disk.threads import DiskThreads

PERIOD_S: Final = 60  # minimum lifetime of a name; a proxy opens the file within milliseconds
_MAX_NAMES: Final = 65_536  # per period and process; then the server itself sends images


class PinnedNames:
    """Hard links (pinned names) of one process. Call `find` and `name` on the event loop only."""

    def __init__(
        self,
        data_directory: DataDirectory,
        threads: DiskThreads,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._data_directory = data_directory
        self._threads = threads
        self._now = now
        self._period = -1
        self._folder = ""
        self._names: set[str] = set()
        self._removals: list[asyncio.TimerHandle] = []

    def find(self, save_id: str) -> str | None:
        """Return the hard link to an image version, or None if this period has none."""
        is_known = save_id in self._names and self._period == self._current()
        return f"{self._folder}/{save_id}" if is_known else None

    async def name(self, image: DiskImage) -> str | None:
        """Return the hard link to an open image, creating it if necessary. None if that fails."""
        save_id = image.image.save_id
        name = self.find(save_id)
        if name is not None:
            return name
        if self._period != self._current():
            self._start_period()
        if len(self._names) >= _MAX_NAMES:
            return None
        folder = self._folder
        try:
            await self._threads.run(self._link, image.fd, folder, save_id)
        except OSError:
            return None
        if folder == self._folder:
            self._names.add(save_id)
        return f"{folder}/{save_id}"

    def _start_period(self) -> None:
        self._period = self._current()
        self._folder = f"{self._period}-{secrets.token_hex(8)}"
        self._names.clear()
        loop = asyncio.get_running_loop()
        self._removals = [timer for timer in self._removals if timer.when() > loop.time()]
        self._removals.append(loop.call_later(2 * PERIOD_S + 1, self._start_removal))

    def _link(self, fd: int, folder: str, save_id: str) -> None:
        folder_fd, path = self._data_directory.fd, f"{SENDFILE_FOLDER}/{folder}/{save_id}"
        with contextlib.suppress(FileExistsError):  # another request created it
            try:
                link_file(fd, path, folder_fd)
            except FileNotFoundError:  # the folder or the image does not exist
                for name in (SENDFILE_FOLDER, f"{SENDFILE_FOLDER}/{folder}"):
                    self._data_directory.make_folder_at(folder_fd, name)
                link_file(fd, path, folder_fd)

    def _start_removal(self) -> None:
        if not self._threads.is_closed:
            self._threads.start(self.remove_ended)

    def remove_ended(self) -> None:
        """Remove the expired folders of all processes. Blocks."""
        now = self._current()
        try:
            folders = os.listdir(f"/proc/self/fd/{self._data_directory.fd}/{SENDFILE_FOLDER}")
        except FileNotFoundError:
            return
        for folder in folders:
            period = folder.partition("-")[0]
            if not period.isdigit() or not now - 1 <= int(period) <= now:
                self._remove(folder)

    def close(self) -> None:
        """Remove the folder of the current period."""
        for removal in self._removals:
            removal.cancel()
        if self._folder:
            self._remove(self._folder)

    def _current(self) -> int:
        return int(self._now() // PERIOD_S)

    def _remove(self, folder: str) -> None:
        path = f"{SENDFILE_FOLDER}/{folder}"
        shutil.rmtree(path, ignore_errors=True, dir_fd=self._data_directory.fd)
