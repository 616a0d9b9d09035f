"""Listing of published and open runs: a depth-first walk through a storage's folders."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Literal

from stillroom.errors import InvalidPath
from stillroom.media.runs import manifest
from stillroom.media.runs.service import open_manifest
from stillroom.paths import ImagePath, ImagePrefix, KeyPrefix, image_entry, image_key_bound
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, Page

_PAGE: Final = 1000
_MANIFESTS_AT_ONCE: Final = 32
"""Number of manifests that are opened concurrently."""

State = Literal["published", "open"]


@dataclass(frozen=True, slots=True)
class Run:
    """Open (unpublished) or published run.

    Attributes:
        folder: Folder that contains the run's images.
        published_at: Time of the publication (UTC); None if the run is open.
        count: Number of images in the manifest; None if there is no valid manifest.
    """

    folder: str
    published_at: datetime | None = None
    count: int | None = None

    @property
    def state(self) -> State:
        """State of the run: open or published."""
        return "open" if self.published_at is None else "published"


@dataclass(slots=True)
class _Level:
    """Position on one folder level during the depth-first walk.

    Attributes:
        prefix: Common prefix of the folders on this level.
        after: Last entry on the page that was read last.
        page: Next page if it was already read, else None.
        folders: Folders that are still to be checked for a manifest.
        checked: Folders that were checked, each with its published run or None.
        is_over: True if the last page was read.
    """

    prefix: str
    after: str = ""
    page: Page | None = None
    folders: deque[str] = field(default_factory=deque)
    checked: deque[tuple[str, Run | None]] = field(default_factory=deque)
    is_over: bool = False


class RunListing:
    """Listing of the runs in one storage.

    A folder with a manifest is a published run, and its subfolders are not listed. A folder that
    directly contains an image is an open run.
    """

    def __init__(self, storage: ImageStorage) -> None:
        self._storage = storage

    async def runs(self, prefix: ImagePrefix, after: str) -> AsyncIterator[Run]:
        """Yield the runs whose folder, with a trailing slash, begins with `prefix`, in key order.

        The listing continues after the folder `after`, or starts at the beginning if it is empty.

        Raises:
            ListingUnsupported: the storage cannot list.
        """
        text = prefix.text
        start = f"{after}/" if after else ""
        if text.endswith("/"):
            published = await self.find_published(text)
            if published is not None:
                if not start:
                    yield published
                return
            first = await self._page(text, "")
            if not start and await self._has_image(text, first):
                yield Run(text[:-1])
        async for run in self._walk(text, start):
            yield run

    async def _walk(self, prefix: str, start: str) -> AsyncIterator[Run]:
        levels = await self._levels_to(prefix, start)
        while levels:
            level = levels[-1]
            if level.checked:
                folder, run = level.checked.popleft()
                if run is not None:
                    yield run
                    continue
                page = await self._page(folder, "")
                if await self._has_image(folder, page):
                    yield Run(folder[:-1])
                levels.append(_Level(folder, page=page))
            elif not await self._fill(level):
                levels.pop()

    async def _levels_to(self, prefix: str, start: str) -> list["_Level"]:
        """Return the levels from `prefix` down to `start`, the folder after which to continue."""
        levels = [_Level(prefix, start)]
        while start.startswith(prefix) and len(start) > len(prefix):
            prefix += start[len(prefix) :].partition("/")[0] + "/"
            levels[-1].after = prefix
            if await self.find_published(prefix) is not None:
                break
            levels.append(_Level(prefix))
        return levels

    async def _fill(self, level: "_Level") -> bool:
        """Check a level's next folders for manifests. Return False if there are no more folders."""
        if not level.folders:
            page, level.page = level.page, None
            if page is None and not level.is_over:
                page = await self._page(level.prefix, level.after)
            if page is None:
                return False
            entries = [image_entry(entry) for entry in page.entries]
            level.folders.extend(entry for entry in entries if entry.endswith("/"))
            level.is_over = not page.more
            level.after = entries[-1] if entries else ""
        count = min(_MANIFESTS_AT_ONCE, len(level.folders))
        folders = [level.folders.popleft() for _ in range(count)]
        runs = await asyncio.gather(*map(self.find_published, folders))
        level.checked.extend(zip(folders, runs, strict=True))
        return True

    async def _page(self, prefix: str, after: str) -> Page:
        key_prefix = KeyPrefix(image_key_bound(prefix))
        query = ListQuery(key_prefix, image_key_bound(after), _PAGE, delimited=True)
        return await self._storage.list(query)

    async def _has_image(self, folder: str, page: Page) -> bool:
        """Return whether a folder directly contains an image. `page` is its first listing page."""
        while all(entry.endswith("/") for entry in page.entries):
            if page.next_after is None:
                return False
            page = await self._page(folder, image_entry(page.next_after))
        return True

    async def find_published(self, folder: str) -> Run | None:
        """Return the published run in a folder (with a trailing slash), or None."""
        try:
            path = ImagePath.parse(folder[:-1])
            opened = await open_manifest(self._storage, path)
        except InvalidPath:  # the name is too long for a manifest
            return None
        if opened is None:
            return None
        with contextlib.closing(opened):
            head = await manifest.read_head(opened)
        if head is None:
            saved_s = opened.image.modified_ns / 1e9
            return Run(path.text, datetime.fromtimestamp(saved_s, UTC))
        return Run(path.text, head.published_at, head.count)
