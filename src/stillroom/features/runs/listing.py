"""Listing of published and open runs: a depth-first walk through a storage's folders."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from stillroom.errors import InvalidPath
from stillroom.features.runs import manifest
from stillroom.features.runs.service import open_manifest
from stillroom.paths import ImagePath, ImagePrefix, KeyPrefix, image_entry, image_key_bound
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery, Page

_PAGE: Final = 1000
_MANIFESTS_AT_ONCE: Final = 32  # manifests that are opened concurrently
State = Literal["published", "open"]
_Folders = AsyncIterator[tuple[str, "Run | None"]]


@dataclass(frozen=True, slots=True)
class Run:
    """Open (unpublished) or published run.

    Attributes:
        published_at: None if the run is open.
        count: Number of images, or None if the run has no valid manifest.
    """

    folder: str
    published_at: datetime | None = None
    count: int | None = None

    @property
    def state(self) -> State:
        """State of the run: open or published."""
        return "open" if self.published_at is None else "published"


class RunListing:
    """Listing of the runs in one storage.

    A folder with a manifest is a published run, and its subfolders are not listed. A folder that
    directly contains an image is an open run.
    """

    def __init__(self, storage: ImageStorage) -> None:
        self._storage = storage

    async def runs(self, prefix: ImagePrefix, after: str) -> AsyncIterator[Run]:
        """Yield the runs whose folder, with a trailing slash, begins with `prefix`, in key order.

        The listing continues after the folder `after`, or starts at the beginning if `after` is
        empty. Raises `ListingUnsupported` if the storage cannot list.
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
        levels = await self._levels_to(text, start)
        while levels:
            following = await anext(levels[-1], None)
            if following is None:
                levels.pop()
                continue
            folder, run = following
            if run is not None:
                yield run
                continue
            page = await self._page(folder, "")
            if await self._has_image(folder, page):
                yield Run(folder[:-1])
            levels.append(self._folders(folder, page=page))

    async def _levels_to(self, prefix: str, start: str) -> list[_Folders]:
        """Return one iterator per folder level down to `start`, for the folders still to list."""
        levels, after = list[_Folders](), start
        while start.startswith(prefix) and len(start) > len(prefix):
            inner = prefix + start[len(prefix) :].partition("/")[0] + "/"
            levels.append(self._folders(prefix, inner))
            if await self.find_published(inner) is not None:
                return levels
            prefix, after = inner, ""
        return [*levels, self._folders(prefix, after)]

    async def _folders(self, prefix: str, after: str = "", page: Page | None = None) -> _Folders:
        """Yield the folders in `prefix` that follow `after`, each with its published run or None.

        `page` is the first page of the listing of `prefix`, or None if it was not read yet.
        """
        while True:
            page = page or await self._page(prefix, after)
            entries = [image_entry(entry) for entry in page.entries]
            folders = [entry for entry in entries if entry.endswith("/")]
            for at in range(0, len(folders), _MANIFESTS_AT_ONCE):
                batch = folders[at : at + _MANIFESTS_AT_ONCE]
                runs = await asyncio.gather(*map(self.find_published, batch))
                for pair in zip(batch, runs, strict=True):
                    yield pair
            if not page.more:
                return
            page, after = None, entries[-1]

    async def _page(self, prefix: str, after: str) -> Page:
        key_prefix = KeyPrefix(image_key_bound(prefix))
        query = ListQuery(key_prefix, image_key_bound(after), _PAGE, delimited=True)
        return await self._storage.list(query)

    async def _has_image(self, folder: str, page: Page) -> bool:
        while all(entry.endswith("/") for entry in page.entries):
            if page.next_after is None:
                return False
            page = await self._page(folder, image_entry(page.next_after))
        return True

    async def find_published(self, folder: str) -> Run | None:
        """Return the published run in a folder (with a trailing slash), or None."""
        opened = None
        with contextlib.suppress(InvalidPath):  # the name is too long for a manifest
            path = ImagePath.parse(folder[:-1])
            opened = await open_manifest(self._storage, path)
        if opened is None:
            return None
        with contextlib.closing(opened):
            head = await manifest.read_head(opened)
        if head is None:
            saved_s = opened.image.modified_ns / 1e9
            return Run(path.text, datetime.fromtimestamp(saved_s, UTC))
        return Run(path.text, head.published_at, head.count)
