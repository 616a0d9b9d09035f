"""Comparison of stored images with the search index. Index rows that differ are updated."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Final

from stillroom.concurrently import for_each_concurrently, map_concurrently
from stillroom.errors import ImageNotFound
from stillroom.features.database.database import Database
from stillroom.features.search.database import comparison_rows, search_rows
from stillroom.features.search.filling import read_facts
from stillroom.features.search.values import BEHIND_ALL, Indexed, Removed
from stillroom.paths import StorageKey
from stillroom.store.causes import EXTERNAL
from stillroom.store.port import ImageStorage
from stillroom.store.values import ListQuery, StoredImage

SETTLED_NS: Final = 10 * 10**9  # `IndexFilling` may still be writing newer images
_READ_AT_ONCE: Final = 8


@dataclass(slots=True)
class Healed:
    """Result of a scan that compares the storage with the search index.

    At the end of the scan, `is_whole` is True. Otherwise, the next scan resumes after `after`.
    """

    images: int = 0
    written: int = 0
    removed: int = 0
    is_whole: bool = False
    after: str = ""


@dataclass(eq=False)
class Comparing:
    """Comparison of a storage with its search index.

    Attributes:
        names_since_ns: If it is set (nanoseconds), only the names of images are listed. Properties
            such as the ETag are read only for images that are missing from the index or were
            modified after this time. By default, the properties of all images are compared.
        anew: True to parse every file again.
        saved_until_ns: Start time of the server (nanoseconds), in a comparison after its start.
            Recently saved images are then compared, too, because the process that saved them may
            have crashed.
        healed: Result so far.
    """

    storage: ImageStorage
    database: Database
    _: KW_ONLY
    names_since_ns: int | None = None
    anew: bool = False
    saved_until_ns: int | None = None
    healed: Healed = field(default_factory=Healed)

    async def compare_page(self, query: ListQuery) -> tuple[bool, str | None]:
        """Compare a page of images. Return whether any differed, and the next page's `after`."""
        began_ns, rows = time.time_ns(), await comparison_rows(self.database)
        start, end = max(query.after, query.prefix.text), query.prefix.text + BEHIND_ALL
        if self.names_since_ns is None:
            page = await self.storage.entries(query)
            there, after = {image.key.text: image for image in page.images}, page.next_after
            known = await rows.in_ranges((start, after or end))
            return await self.compare(there, known, began_ns), after
        names = await self.storage.list(query)
        known = await rows.in_ranges((start, names.next_after or end))
        suspected = [
            key
            for key in names.entries
            if key not in known or names.modified_ns.get(key, 0) >= self.names_since_ns
        ]
        listed = dict.fromkeys(names.entries)
        return await self.compare(listed, known, began_ns, suspected=suspected), names.next_after

    async def compare(
        self,
        there: Mapping[str, StoredImage | None],
        known: Mapping[str, Indexed],
        began_ns: int,
        *,
        suspected: Collection[str] | None = None,
    ) -> bool:
        """Compare images with their rows, and update rows that differ. Return whether any differed.

        Args:
            there: Listed images by key, or None for each image whose name alone was listed.
            known: Rows by key, read after the listing.
            began_ns: Time at which the listing began, in nanoseconds.
            suspected: Keys of images that may differ; None to find them in the listing.
        """
        listed = [image for image in there.values() if image is not None]
        if suspected is None:
            suspected = {image.key.text for image in listed if not _is_known(image, known)}
            if self.anew:
                suspected &= known.keys()
        # Read after the rows, so that no image is older than its row.
        images, _ = await self._look_at(suspected)
        if self.anew:
            images = [*images, *(image for image in listed if image.key.text not in suspected)]
        else:
            images = [image for image in images if not _is_known(image, known)]
        settled_ns = self.saved_until_ns or began_ns - SETTLED_NS
        changed = [image for image in images if self.anew or image.modified_ns < settled_ns]
        # A row may be newer than the listing.
        _, gone = await self._look_at(known.keys() - there.keys())
        self.healed.images += len(there)
        self.healed.removed += len(gone)
        if not changed and not gone:
            return False
        read = partial(read_facts, self.storage)
        indexed = await map_concurrently(read, changed, limit=_READ_AT_ONCE)
        self.healed.written += await (await search_rows(self.database)).write(
            indexed,
            [Removed(key, began_ns, EXTERNAL) for key in gone],
            certain=True,
            compared_with=known,
        )
        return True

    async def _look_at(
        self, keys: Collection[str]
    ) -> tuple[Sequence[StoredImage], Sequence[StorageKey]]:
        images: list[StoredImage] = []
        gone: list[StorageKey] = []

        async def look(text: str) -> None:
            key = StorageKey(text)
            try:
                images.append(await self.storage.stat(key))
            except ImageNotFound:
                gone.append(key)

        await for_each_concurrently(look, sorted(keys), limit=_READ_AT_ONCE)
        return images, gone


def _is_known(image: StoredImage, known: Mapping[str, Indexed]) -> bool:
    return image.key.text in known and known[image.key.text].is_of(image)
