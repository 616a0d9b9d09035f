"""The runs of a storage, found folder by folder: those with a manifest, and those with images."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
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
_LOOKS_AT_ONCE: Final = 32
"""Folders whose manifests are looked for at the same time."""

State = Literal["published", "open"]


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes:
        folder: Where its images are.
        published_at: UTC; None: it is open.
        count: How many images its manifest has; None: it is open, or its manifest cannot be read.
    """

    folder: str
    published_at: datetime | None = None
    count: int | None = None

    @property
    def state(self) -> State:
        """Whether it is published."""
        return "open" if self.published_at is None else "published"


@dataclass(slots=True)
class _Level:
    """A folder on the way, or the prefix that was asked for.

    Attributes:
        prefix: What begins the names of the folders in it.
        after: The last entry of its last page.
        page: Its next page, if it is known already.
        folders: Those in it that are still to be looked at.
        found: Those that were, with the published runs in them.
        is_over: Whether its last page was read.
    """

    prefix: str
    after: str = ""
    page: Page | None = None
    folders: deque[str] = field(default_factory=deque)
    found: deque[tuple[str, Run | None]] = field(default_factory=deque)
    is_over: bool = False


class RunListing:
    """Looks for runs. What lies in a published run, or in an image's folder, is not one more.

    A folder is an open run if an image is directly in it, and no folder that the listing has
    passed is a published one.
    """

    def __init__(self, storage: ImageStorage) -> None:
        """Look in `storage`."""
        self._storage = storage

    async def runs(self, prefix: ImagePrefix, after: str) -> AsyncIterator[Run]:
        """All runs whose folder, with a slash behind it, begins with a prefix; in listing order.

        Args:
            prefix: Literal text.
            after: The folder of a run, behind which to go on; empty: from the start.

        Raises:
            ListingUnsupported, BackendUnavailable: as their names say.
        """
        text = prefix.text
        behind = f"{after}/" if after else ""
        if text.endswith("/"):
            found = await self.look(text)
            if found is not None:
                if not behind:
                    yield found
                return
            first = await self._page(text, "")
            if not behind and await self._has_image(text, first):
                yield Run(text[:-1])
        async for run in self._below(text, behind):
            yield run

    async def _below(self, prefix: str, behind: str) -> AsyncIterator[Run]:
        """The runs in the folders that begin with `prefix`."""
        levels = await self._way_to(prefix, behind)
        while levels:
            level = levels[-1]
            if level.found:
                folder, run = level.found.popleft()
                if run is not None:
                    yield run
                    continue
                page = await self._page(folder, "")
                if await self._has_image(folder, page):
                    yield Run(folder[:-1])
                levels.append(_Level(folder, page=page))
            elif not await self._fill(level):
                levels.pop()

    async def _way_to(self, prefix: str, behind: str) -> list["_Level"]:
        """The level of `prefix`, and those below it that lead to `behind`, where to go on."""
        levels = [_Level(prefix, behind)]
        while behind.startswith(prefix) and len(behind) > len(prefix):
            prefix += behind[len(prefix) :].partition("/")[0] + "/"
            levels[-1].after = prefix
            if await self.look(prefix) is not None:
                break
            levels.append(_Level(prefix))
        return levels

    async def _fill(self, level: "_Level") -> bool:
        """Look at the next folders of a level; False if there are no more."""
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
        some = [level.folders.popleft() for _ in range(min(_LOOKS_AT_ONCE, len(level.folders)))]
        found = await asyncio.gather(*map(self.look, some))
        level.found.extend(zip(some, found, strict=True))
        return True

    async def _page(self, prefix: str, after: str) -> Page:
        where = KeyPrefix(image_key_bound(prefix))
        query = ListQuery(where, image_key_bound(after), _PAGE, delimited=True)
        return await self._storage.list(query)

    async def _has_image(self, folder: str, page: Page) -> bool:
        """Whether an image is directly in a folder, whose first page is known."""
        while True:
            if _has_image(page.entries):
                return True
            if not page.more:
                return False
            page = await self._page(folder, image_entry(page.entries[-1]))

    async def look(self, folder: str) -> Run | None:
        """The published run in a folder, whose name ends in a slash here; None: there is none."""
        try:
            path = ImagePath.parse(folder[:-1])
            opened = await open_manifest(self._storage, path)
        except InvalidPath:  # no manifest can have so long a name
            return None
        if opened is None:
            return None
        try:
            head = await manifest.read_head(opened)
        finally:
            opened.close()
        if head is None:
            saved_s = opened.image.modified_ns / 1e9
            return Run(path.text, datetime.fromtimestamp(saved_s, UTC))
        return Run(path.text, head.published_at, head.count)


def _has_image(entries: Sequence[str]) -> bool:
    return not all(entry.endswith("/") for entry in entries)
