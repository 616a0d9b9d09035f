"""Pinned names: hard links by which a proxy on the same machine opens one save of an image.

A path says which image is meant now; what another program opens by it a moment later may be
another save. A link to the file that is open here stays that file whatever becomes of the path.

DATA_DIR/.stillroom/sendfile/<period>-<random>/<save id>

Each process links into a folder of its own, a new one in each period, and removes every folder,
its own and those of processes that crashed, one period after its period has ended. So nothing
has to be remembered of who opens what, and a deleted image is gone from the disk after two
periods at most. See docs/adr/0027-bytes-from-nginx.md.
"""

import asyncio
import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Callable
from typing import Final

from stillroom.storage.disk.data_directory import SENDFILE_FOLDER, DataDirectory, link_file
from stillroom.storage.disk.image import DiskImage
from stillroom.storage.disk.threads import DiskThreads

PERIOD_S: Final = 60
"""A name is good for this long at least; a proxy opens it within milliseconds."""

_MAX_NAMES: Final = 65_536
"""In each period and process; further images are sent without the proxy's help."""


class PinnedNames:
    """The links of one process; `known` and `name` are for the event loop."""

    def __init__(
        self,
        data_directory: DataDirectory,
        threads: DiskThreads,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is made before the first name is asked for."""
        self._data_directory = data_directory
        self._threads = threads
        self._now = now
        self._period = -1
        self._folder = ""
        self._names: set[str] = set()
        self._removals: list[asyncio.TimerHandle] = []

    def known(self, save_id: str) -> str | None:
        """The name that a save has already, for as long as no new period has begun."""
        is_known = save_id in self._names and self._period == self._current()
        return f"{self._folder}/{save_id}" if is_known else None

    async def name(self, image: DiskImage) -> str | None:
        """The name of this very save, below `sendfile/`.

        Returns:
            None where it cannot have one: it was deleted meanwhile, or the disk is full.
        """
        save_id = image.image.save_id
        known = self.known(save_id)
        if known is not None:
            return known
        if self._period != self._current():
            self._begin()
        if len(self._names) >= _MAX_NAMES:
            return None
        folder = self._folder
        try:
            await self._threads.run(lambda: self._link(image.fd, folder, save_id))
        except OSError:
            return None
        if folder == self._folder:
            self._names.add(save_id)
        return f"{folder}/{save_id}"

    def _begin(self) -> None:
        """A new folder, that cannot be guessed, and an end for it when the next one has ended."""
        self._period = self._current()
        self._folder = f"{self._period}-{secrets.token_hex(8)}"
        self._names.clear()
        loop = asyncio.get_running_loop()
        self._removals = [one for one in self._removals if one.when() > loop.time()]
        self._removals.append(loop.call_later(2 * PERIOD_S + 1, self._start_removal))

    def _link(self, fd: int, folder: str, save_id: str) -> None:
        try:
            self._link_in(fd, folder, save_id)
        except FileNotFoundError:  # the folder, or else the image
            for name in (SENDFILE_FOLDER, f"{SENDFILE_FOLDER}/{folder}"):
                self._data_directory.make_folder_at(self._data_directory.fd, name)
            self._link_in(fd, folder, save_id)

    def _link_in(self, fd: int, folder: str, save_id: str) -> None:
        with contextlib.suppress(FileExistsError):  # another request made it
            link_file(fd, f"{SENDFILE_FOLDER}/{folder}/{save_id}", self._data_directory.fd)

    def _start_removal(self) -> None:
        if not self._threads.is_closed:
            self._threads.start(self.remove_ended)

    def remove_ended(self) -> None:
        """Remove the folders of all processes that ended a period ago; blocks."""
        now = self._current()
        for folder in self._folders():
            period = folder.partition("-")[0]
            if not period.isdigit() or not now - 1 <= int(period) <= now:
                self._remove(folder)

    def close(self) -> None:
        """Remove what is there: a proxy that comes too late asks this server's successor."""
        for removal in self._removals:
            removal.cancel()
        if self._folder:
            self._remove(self._folder)

    def _current(self) -> int:
        return int(self._now() // PERIOD_S)

    def _folders(self) -> list[str]:
        folder_fd = self._data_directory.fd
        try:
            fd = os.open(SENDFILE_FOLDER, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder_fd)
        except FileNotFoundError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _remove(self, folder: str) -> None:
        path = f"{SENDFILE_FOLDER}/{folder}"
        shutil.rmtree(path, ignore_errors=True, dir_fd=self._data_directory.fd)
