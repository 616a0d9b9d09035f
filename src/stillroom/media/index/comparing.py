"""Comparison of stored images with their rows in the search index. Rows that differ are updated."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.concurrently import for_each_concurrently
from stillroom.errors import ImageNotFound
from stillroom.media.database import MediaDatabase
from stillroom.media.index.filling import read_facts
from stillroom.media.index.values import Indexed, IndexedImage, Removed
from stillroom.paths import StorageKey
from stillroom.storage.port import ImageStorage
from stillroom.storage.values import ListQuery, StoredImage

SETTLED_NS: Final = 10 * 10**9
"""Minimum age in nanoseconds of an image to compare. `IndexFilling` may be writing newer images."""

_READ_AT_ONCE: Final = 8


@dataclass(slots=True)
class Healed:
    """Result of a scan that compares the storage with the search index.

    Attributes:
        images: Number of images compared.
        written: Number of rows written.
        removed: Number of rows deleted because their images no longer exist.
        is_whole: True if the scan reached the end. If False, the next scan resumes after `after`.
        after: Key after which to resume.
    """

    images: int = 0
    written: int = 0
    removed: int = 0
    is_whole: bool = False
    after: str = ""


class Comparing:
    """Comparison of one storage with its search index."""

    def __init__(self, storage: ImageStorage, database: MediaDatabase) -> None:
        """Compare `storage` with the index in `database`."""
        self._storage = storage
        self._database = database

    async def compare_page(
        self,
        query: ListQuery,
        healed: Healed,
        *,
        names_since_ns: int | None = None,
        anew: bool = False,
        saved_until_ns: int | None = None,
    ) -> tuple[bool, str | None]:
        """List a page of images, and compare it with the index.

        Return whether at least one image differed, and `after` for the next page. If
        `names_since_ns` is set, only names are listed. The metadata is then read only of images
        that are not in the index, or were modified since this time in nanoseconds. For the other
        arguments, see `compare`.
        """
        began_ns = time.time_ns()
        suspected: list[str] | None = None
        there: Mapping[str, StoredImage | None]
        if names_since_ns is None:
            entries = await self._storage.entries(query)
            there, next_after = {one.key.text: one for one in entries.images}, entries.next_after
        else:
            names = await self._storage.list(query)
            there, next_after = dict.fromkeys(names.entries), names.next_after
        rows = (await self._database.rows()).indexed
        known = await rows.between(query.after, next_after, query.prefix.text)
        if names_since_ns is not None:
            suspected = [
                key
                for key in there
                if key not in known or names.modified_ns.get(key, 0) >= names_since_ns
            ]
        found_some = await self.compare(
            there, known, began_ns, healed,
            suspected=suspected, anew=anew, saved_until_ns=saved_until_ns,
        )  # fmt: skip
        return found_some, next_after

    async def compare(
        self,
        there: Mapping[str, StoredImage | None],
        known: Mapping[str, Indexed],
        began_ns: int,
        healed: Healed,
        *,
        suspected: Collection[str] | None = None,
        anew: bool = False,
        saved_until_ns: int | None = None,
    ) -> bool:
        """Compare images with their rows, and update the rows that differ.

        Args:
            there: Listed images by key; None if the listing contained only the name.
            known: Rows by key, read after the listing.
            began_ns: Time at which the listing began, in nanoseconds.
            healed: Result of the scan, updated by this call.
            suspected: Keys of images that may differ; None to compare the listed metadata.
            anew: True to read every image again, even if its row is up to date.
            saved_until_ns: Start time of this process; set only for the comparison after a start.
                Recently saved images are then compared too, because the process that saved them may
                have crashed. Rows that other processes write during the comparison are kept.

        Returns:
            True if at least one image differed from its row.
        """
        images: Sequence[StoredImage] = [one for one in there.values() if one is not None]
        if not anew:
            if suspected is None:
                suspected = [one.key.text for one in images if not _is_known(one, known)]
            # Read after the rows, so that no image is older than its row.
            images, _ = await self._looked_at(suspected)
            images = [one for one in images if not _is_known(one, known)]
        settled_ns = began_ns - SETTLED_NS if saved_until_ns is None else saved_until_ns
        changed = [one for one in images if anew or one.modified_ns < settled_ns]
        # A row may be newer than the listing.
        _, gone = await self._looked_at(known.keys() - there.keys())
        healed.images += len(there)
        healed.removed += len(gone)
        removed = [Removed(key, began_ns) for key in gone]
        healed.written += await self._write(
            changed, removed, None if saved_until_ns is None else known
        )
        return bool(changed or gone)

    async def _looked_at(
        self, keys: Collection[str]
    ) -> tuple[Sequence[StoredImage], Sequence[StorageKey]]:
        """Read the metadata of the images with these keys.

        Return it, and the keys without an image.
        """
        images: list[StoredImage] = []
        gone: list[StorageKey] = []

        async def look(text: str) -> None:
            key = StorageKey(text)
            try:
                images.append(await self._storage.stat(key))
            except ImageNotFound:
                gone.append(key)

        await for_each_concurrently(look, sorted(keys), limit=_READ_AT_ONCE)
        return images, gone

    async def _write(
        self,
        images: Sequence[StoredImage],
        removed: Sequence[Removed],
        compared_with: Mapping[str, Indexed] | None,
    ) -> int:
        if not images and not removed:
            return 0
        indexed: list[IndexedImage] = []

        async def read(image: StoredImage) -> None:
            indexed.append(await read_facts(self._storage, image))

        await for_each_concurrently(read, images, limit=_READ_AT_ONCE)
        rows = (await self._database.rows()).search
        return await rows.write(indexed, removed, certain=True, compared_with=compared_with)


def _is_known(image: StoredImage, known: Mapping[str, Indexed]) -> bool:
    return image.key.text in known and known[image.key.text].is_of(image)
